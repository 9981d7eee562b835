//! JavaScript libraries from a registry: resolved, downloaded, checked and laid out by us.
//!
//! The way: `name` (what is asked for) -> `packument` (what the registry has) -> `folders` (which
//! version in which folder) -> `tarball` (checked, unpacked). They are put in `/node_modules`, where
//! programs of every directory find them. Scripts that libraries want to run when they are
//! installed are not run; a note names who has one.

mod folders;
mod name;
mod packument;
mod tarball;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use piston_client::ids::Version;
use piston_fs::tree::ViewTree;
use serde_json::Value;

use self::folders::{Fits, Placed, Registry};
use self::name::{Name, Wanted};
use self::packument::{FORMS, Machine, Packument};
use self::tarball::Layout;
use super::super::super::fetch::{FetchError, Location};
use super::super::super::info;
use super::super::plan::Plan;
use super::super::work::{Spool, Work};
use super::download::Downloads;
use super::{Added, Below, ExtendError};

/// The registry that is asked when nobody names another.
pub const DEFAULT_REGISTRY: &str = "https://registry.npmjs.org";
/// Where libraries are put.
const TOP: &str = "/node_modules";
/// Where Node is looked for.
const NODE: [&str; 2] = ["/usr/bin/node", "/usr/local/bin/node"];
/// What packages are called whose version is Node's.
const NODE_PACKAGES: [&str; 4] = ["javascript", "node", "nodejs", "js"];
/// Longest `package.json` that is read.
const MAX_PACKAGE_BYTES: u64 = 4 << 20;

/// The libraries that are asked for, as parts of a package's name.
pub(super) fn names(wanted: &[String]) -> Result<Vec<String>, ExtendError> {
    let wanted = parsed(wanted)?;
    Ok(wanted.iter().map(|one| one.name.plain()).collect())
}

fn parsed(wanted: &[String]) -> Result<Vec<Wanted>, ExtendError> {
    wanted.iter().map(|text| Wanted::parse(text)).collect()
}

/// Plans libraries and what they need, from the registry at `registry`.
pub(super) fn add(
    wanted: &[String],
    registry: &str,
    below: &Below<'_>,
    plan: &mut Plan,
    work: &Work,
) -> Result<Added, ExtendError> {
    let machine = machine(below)?;
    let downloads = Downloads::new(&work.folder("npm-downloads")?)?;
    let mut shelf = Shelf::new(registry, machine, downloads)?;
    let folders = folders::place(parsed(wanted)?, &installed(below.tree)?, &mut shelf)?;
    let mut layout = Layout::new(plan, Spool::new(work.folder("npm")?));
    let mut libraries = BTreeSet::new();
    let mut told = Told::default();
    for (place, placed) in folders.placed.iter().filter(|(_, placed)| placed.is_new) {
        let path: Vec<&str> = place.iter().map(Name::as_str).collect();
        let to = format!("{TOP}/{}", path.join("/node_modules/"));
        let file = shelf.file(placed)?;
        layout.unpack(&file.path, &file.name, &to)?;
        let library = format!("{}@{}", placed.real, placed.version);
        if file.has_script {
            told.scripts.insert(library.clone());
        }
        if file.is_for_another_node {
            told.other_node.insert(library.clone());
        }
        libraries.insert(library);
    }
    let mut notes = folders.notes;
    notes.extend(told.notes(shelf.machine.node.as_ref()));
    Ok(Added {
        libraries: libraries.into_iter().collect(),
        notes,
    })
}

/// Libraries that people should know something of.
#[derive(Default)]
struct Told {
    scripts: BTreeSet<String>,
    other_node: BTreeSet<String>,
}

impl Told {
    fn notes(self, node: Option<&Version>) -> Vec<String> {
        let joined = |libraries: BTreeSet<String>| Vec::from_iter(libraries).join(", ");
        let mut notes = Vec::new();
        if !self.scripts.is_empty() {
            notes.push(format!(
                "scripts that run at installation were not run, what they would make is missing: {}",
                joined(self.scripts)
            ));
        }
        if let Some(node) = node.filter(|_| !self.other_node.is_empty()) {
            let libraries = joined(self.other_node);
            notes.push(format!("made for another Node than {node}: {libraries}"));
        }
        notes
    }
}

/// What the libraries will run on.
fn machine(below: &Below<'_>) -> Result<Machine, ExtendError> {
    let Below { info, run, tree } = below;
    let program = run.and_then(|argv| argv.first()).map(String::as_str);
    let own = format!("{}/bin/node", info::directory(&info.package));
    let named = |path: &&str| matches!(path.rsplit('/').next(), Some("node" | "nodejs"));
    let places = [program.filter(named), Some(&own)].into_iter().flatten();
    if !places.chain(NODE).any(|path| tree.has_file(path)) {
        return Err(ExtendError::Target {
            package: info.package.to_string(),
            reason: format!("there is no Node in it ({})", NODE.join(", ")),
        });
    }
    let language = info.package.language.as_str();
    let is_node = |name: &str| NODE_PACKAGES.contains(&name);
    let is_node = is_node(language) || info.extends.iter().any(|name| is_node(name.as_str()));
    let musl = format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH);
    Ok(Machine {
        cpu: match std::env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            other => other,
        },
        libc: if tree.has_file(&musl) {
            "musl"
        } else {
            "glibc"
        },
        node: is_node.then(|| info.package.version.clone()),
    })
}

/// What the package has at the top already.
fn installed(tree: &ViewTree) -> Result<BTreeMap<Name, Version>, ExtendError> {
    let mut names = Vec::new();
    for name in tree.list(TOP) {
        if name.starts_with('@') {
            let scoped = tree.list(&format!("{TOP}/{name}"));
            names.extend(scoped.into_iter().map(|inside| format!("{name}/{inside}")));
        } else {
            names.push(name);
        }
    }
    let mut found = BTreeMap::new();
    for name in names {
        let path = format!("{TOP}/{name}/package.json");
        let text = tree.read(&path, MAX_PACKAGE_BYTES)?.unwrap_or_default();
        let json: Option<Value> = serde_json::from_slice(&text).ok();
        let version = json.and_then(|json| json.get("version")?.as_str()?.parse().ok());
        if let (Ok(name), Some(version)) = (Name::new(&name), version) {
            found.insert(name, version);
        }
    }
    Ok(found)
}

/// A registry, and what was got from it.
struct Shelf {
    registry: Location,
    shown: String,
    machine: Machine,
    downloads: Downloads,
    packuments: BTreeMap<Name, (Packument, Location)>,
    tarballs: BTreeMap<(Name, Version), PathBuf>,
}

impl Shelf {
    fn new(registry: &str, machine: Machine, downloads: Downloads) -> Result<Self, ExtendError> {
        Ok(Self {
            registry: Location::of_folder(registry).map_err(FetchError::from)?,
            shown: Location::without_password(registry),
            machine,
            downloads,
            packuments: BTreeMap::new(),
            tarballs: BTreeMap::new(),
        })
    }

    fn packument(&mut self, name: &Name) -> Result<&(Packument, Location), ExtendError> {
        if !self.packuments.contains_key(name) {
            let path = match self.registry {
                Location::Web(_) => format!("./{}", name.in_url()),
                Location::File(_) => format!("./{name}/index.json"),
            };
            let at = self.registry.join(&path).map_err(FetchError::from)?;
            let Some((text, at)) = self.downloads.page(&at, FORMS)? else {
                return Err(ExtendError::Unknown {
                    index: self.shown.clone(),
                    project: name.to_string(),
                    by: String::new(),
                });
            };
            let packument = Packument::parse(&text, &at.to_string(), &self.machine)?;
            self.packuments.insert(name.clone(), (packument, at));
        }
        Ok(&self.packuments[name])
    }

    /// The file of a package, downloaded.
    fn file(&mut self, package: &Placed) -> Result<PackageFile, ExtendError> {
        let Placed { real, version, .. } = package;
        let machine = self.machine.clone();
        let (packument, at) = self.packument(real)?;
        let gone = || ExtendError::Clash(format!("{real} {version} is not in the registry"));
        let published = packument.version(version).ok_or_else(gone)?;
        let name = format!("{real}-{version}.tgz");
        let Some(checksum) = published.checksum.clone() else {
            let reason = "the registry has no sha512 of it; a sha1 can be forged";
            return Err(ExtendError::file(&name, reason));
        };
        let from = at.join(&published.tarball).map_err(FetchError::from)?;
        let (has_script, fits) = (published.has_script, published.is_for(&machine));
        let key = (real.clone(), version.clone());
        if !self.tarballs.contains_key(&key) {
            let path = self.downloads.file(&from, &checksum)?;
            self.tarballs.insert(key.clone(), path);
        }
        Ok(PackageFile {
            path: self.tarballs[&key].clone(),
            name,
            has_script,
            is_for_another_node: !fits,
        })
    }
}

/// The file of a package.
struct PackageFile {
    path: PathBuf,
    /// What messages call it.
    name: String,
    /// Whether it wants to run something when it is installed.
    has_script: bool,
    is_for_another_node: bool,
}

impl Registry for Shelf {
    fn choose(&mut self, wanted: &Wanted) -> Result<Version, ExtendError> {
        let machine = self.machine.clone();
        let (packument, _) = self.packument(&wanted.real)?;
        let chosen = packument.choose(&wanted.versions, &machine);
        chosen.map_err(ExtendError::Clash)
    }

    fn needs(&mut self, real: &Name, version: &Version) -> Result<Fits, ExtendError> {
        let (packument, _) = self.packument(real)?;
        Ok(match packument.version(version) {
            Some(published) if published.fits => Fits::Yes(published.needs.clone()),
            _ => Fits::No,
        })
    }
}
