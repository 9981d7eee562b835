//! Makers in a limited child: what to make, its base when that is missing, what came of it.
//!
//! The child is this program's own `make`, with limits and a time bound: it reads whatever the host
//! has and unpacks what strangers have packed. Invariants: it ends with whoever waits for it, with all
//! that it started; only a file of its own directory is taken. Knows no HTTP.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use piston_client::api::{InstallReply, InstallState};
use piston_client::ids::{Language, PackageRef};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::data::Staging;
use super::error::PackagesError;
use super::extending::Extension;
use super::files::AtPath as _;
use super::make::{Base, DEBIAN_BASE, Folder, FromOci, FromPistonV2, Layering};
use super::resolve::ResolveError;
use super::{Lease, Packages};

/// What is kept of what the child says.
const MAX_WORDS: u64 = 64 * 1024;
/// How this program ends where a full disk keeps it from its work.
pub const NO_SPACE: u8 = 3;
/// The environment variable that names an index of Python libraries.
pub const INDEX_VARIABLE: &str = "PIP_INDEX_URL";
/// The environment variable that holds a registry's password.
pub const REGISTRY_PASSWORD_VARIABLE: &str = "PISTON_REGISTRY_PASSWORD";
/// The environment variable that names a package of the released Piston, or an index of them.
pub const PISTON_V2_VARIABLE: &str = "PISTON_V2_SOURCE";
/// The base of packages whose maker was told none.
pub const DEFAULT_BASE: &str = "debian-base";
/// The one that names a registry of JavaScript libraries.
pub const REGISTRY_VARIABLE: &str = "npm_config_registry";
/// How the child begins a line about what it left out.
const NOTE: &str = "note: ";
/// The files that a recipe may consist of.
pub const RECIPE_FILES: [&str; 3] = ["recipe.toml", "run", "compile"];

/// What to make a package from.
#[derive(Debug, Clone)]
pub enum Making {
    /// What the host has.
    Host {
        /// The language.
        name: Language,
        /// The program to start from.
        program: Option<String>,
    },
    /// Debian's packages.
    Debian {
        /// A language with a recipe of ours, or names of packages.
        packages: Vec<String>,
        /// What to call it.
        name: Option<Language>,
        /// Argv that runs a program, as words.
        run: Option<String>,
    },
    /// A recipe.
    Recipe {
        /// Its files by name, of [`RECIPE_FILES`].
        files: BTreeMap<String, String>,
        /// Where credentials are for the registry of its image: a file of `docker login`.
        auth_file: Option<PathBuf>,
    },
    /// An image of a registry, or of this machine.
    Oci(Box<FromOci>),
    /// A package of the released Piston.
    PistonV2(FromPistonV2),
    /// Libraries on top of an installed package.
    Extension(Extension),
}

/// A package file in a directory of its own.
#[derive(Debug)]
pub struct MadeFile {
    /// The file.
    pub file: PathBuf,
    /// What was made with it and it stands on, lowest first.
    below: Vec<PathBuf>,
    /// What was left out, a sentence each.
    pub notes: Vec<String>,
    staging: Arc<Staging>,
}

impl Making {
    /// What others of its kind depend on.
    fn base(&self) -> Self {
        let base: Result<Language, _> = DEBIAN_BASE.parse();
        match (self, base) {
            (Self::Host { .. }, Ok(name)) => Self::Host {
                name,
                program: None,
            },
            _ => Self::Debian {
                packages: vec![DEBIAN_BASE.to_owned()],
                name: None,
                run: None,
            },
        }
    }

    fn is_base(&self) -> bool {
        match self {
            Self::Host { name, .. } => name.as_str() == DEBIAN_BASE,
            Self::Debian { packages, .. } => packages == &[DEBIAN_BASE],
            Self::Recipe { .. } | Self::Oci(_) | Self::PistonV2(_) | Self::Extension(_) => false,
        }
    }

    /// Whether what is missing when it is installed can be its base.
    fn has_base(&self) -> bool {
        match self {
            Self::Extension(_) | Self::Oci(_) => false,
            Self::PistonV2(what) => what.base.as_str() == DEFAULT_BASE,
            _ => !self.is_base(),
        }
    }

    /// What it is called in a message.
    fn subject(&self) -> String {
        match self {
            Self::Host { name, .. } => name.to_string(),
            Self::Debian { packages, .. } => packages.first().cloned().unwrap_or_default(),
            Self::Recipe { .. } => "the recipe".to_owned(),
            Self::Oci(what) => match &what.shown {
                Some(shown) => shown.clone(),
                None => what.image.to_string(),
            },
            Self::PistonV2(what) => match (&what.wanted, &what.shown) {
                (Some((language, _)), _) => language.to_string(),
                (None, Some(shown)) => shown.clone(),
                (None, None) => what.source.clone(),
            },
            Self::Extension(what) => what.extends.clone(),
        }
    }

    /// The child's arguments: which maker, and what for. Writes the files that it will read.
    fn arguments(&self, staging: &Path) -> Result<(&'static str, Vec<OsString>), PackagesError> {
        let mut rest: Vec<OsString> = Vec::new();
        match self {
            Self::Host { name, program } => {
                if let Some(program) = program {
                    rest.extend(["--program".into(), program.into()]);
                }
                rest.extend(["--".into(), name.as_str().into()]);
                Ok(("host", rest))
            }
            Self::Debian {
                packages,
                name,
                run,
            } => {
                if let Some(name) = name {
                    rest.extend(["--name".into(), name.as_str().into()]);
                }
                if let Some(run) = run {
                    rest.extend(["--run".into(), run.into()]);
                }
                rest.push("--".into());
                rest.extend(packages.iter().map(OsString::from));
                Ok(("debian", rest))
            }
            Self::Recipe { files, auth_file } => {
                let folder = staging.join("recipe");
                std::fs::create_dir(&folder).at("create", &folder)?;
                for name in RECIPE_FILES {
                    if let Some(text) = files.get(name) {
                        let file = folder.join(name);
                        std::fs::write(&file, text).at("write", &file)?;
                    }
                }
                if let Some(file) = auth_file {
                    rest.extend(["--auth-file".into(), file.into()]);
                }
                rest.extend(["--".into(), folder.into()]);
                Ok(("recipe", rest))
            }
            Self::Oci(what) => Ok(("oci", oci_arguments(what))),
            Self::PistonV2(what) => {
                rest.extend(["--base".into(), what.base.as_str().into()]);
                if let Some((language, range)) = &what.wanted {
                    rest.extend(["--name".into(), language.as_str().into()]);
                    rest.push(format!("--range={range}").into());
                }
                rest.extend(shown(what.shown.as_deref()));
                Ok(("piston-v2", rest))
            }
            Self::Extension(what) => {
                if let Some(name) = &what.name {
                    rest.extend(["--name".into(), name.as_str().into()]);
                }
                let library = |library| OsString::from(format!("--npm={library}"));
                rest.extend(what.npm.iter().map(library));
                let library = |library| OsString::from(format!("--pip={library}"));
                rest.extend(what.pip.iter().map(library));
                if let Some(Folder { archive, at }) = &what.files {
                    rest.extend(["--files".into(), archive.into()]);
                    rest.extend(at.iter().map(|at| OsString::from(format!("--at={at}"))));
                }
                Ok(("extend", rest))
            }
        }
    }

    /// What the child is told by its environment: an address may have a password in it, and
    /// everybody on the host sees arguments.
    fn variables(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Extension(what) => [
                (INDEX_VARIABLE, what.index.as_deref()),
                (REGISTRY_VARIABLE, what.registry.as_deref()),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
            Self::Oci(what) => {
                let credentials = what.credentials.iter();
                credentials
                    .map(|one| (REGISTRY_PASSWORD_VARIABLE, one.password.as_str()))
                    .collect()
            }
            Self::PistonV2(what) => vec![(PISTON_V2_VARIABLE, what.source.as_str())],
            Self::Host { .. } | Self::Debian { .. } | Self::Recipe { .. } => Vec::new(),
        }
    }
}

/// Everything about an image but the password.
fn oci_arguments(what: &FromOci) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |flag: &str, value: &str| all.push(format!("{flag}={value}").into());
    if let Some(name) = &what.name {
        add("--name", name.as_str());
    }
    if let Some(version) = &what.version {
        add("--version", &version.to_string());
    }
    for (flag, argv) in [("--run", &what.run), ("--compile", &what.compile)] {
        if let Some(argv) = argv {
            add(flag, &argv.join(" "));
        }
    }
    for alias in &what.aliases {
        add("--alias", alias);
    }
    if let Some(credentials) = &what.credentials {
        add("--username", &credentials.user);
    }
    if what.layering == Layering::Each {
        all.push("--layers".into());
    }
    all.extend(shown(what.shown.as_deref()));
    if let Some(file) = &what.auth_file {
        all.extend(["--auth-file".into(), file.into()]);
    }
    all.extend(["--".into(), what.image.to_string().into()]);
    all
}

/// What the child calls a file that was sent.
fn shown(name: Option<&str>) -> Option<OsString> {
    name.map(|name| format!("--shown={name}").into())
}

impl Packages {
    /// Makes a package file; it is removed when it is dropped.
    pub async fn make(&self, what: &Making, time: Duration) -> Result<MadeFile, PackagesError> {
        self.make_on(what, self.installed_base().as_deref(), time)
            .await
    }

    /// The same on a base package, by its metadata.
    pub(super) async fn make_on(
        &self,
        what: &Making,
        base: Option<&str>,
        time: Duration,
    ) -> Result<MadeFile, PackagesError> {
        let staging = Arc::new(self.staging()?);
        let (maker, rest) = what.arguments(&staging.path)?;
        let mut arguments: Vec<OsString> = ["make", maker, "--limited", "--output"]
            .map(OsString::from)
            .to_vec();
        arguments.push(staging.path.clone().into());
        let below = self.below(what, base)?;
        if let Some(Below {
            flag, name, json, ..
        }) = &below
        {
            let file = staging.path.join(name);
            std::fs::write(&file, json).at("write", &file)?;
            arguments.extend([(*flag).into(), file.into()]);
        }
        arguments.extend(rest);
        let (out, err) = Child::run(&what.subject(), &arguments, &what.variables(), time).await?;
        drop(below);
        let mut below: Vec<PathBuf> = out.lines().map(PathBuf::from).collect();
        // The child said where; nothing outside its directory is taken, whatever it says.
        let is_ours = |file: &PathBuf| file.parent() == Some(&*staging.path);
        let Some(file) = below
            .pop()
            .filter(|file| below.iter().chain([file]).all(is_ours))
        else {
            let text = format!("the maker said `{}`", out.trim());
            return Err(PackagesError::Internal(text));
        };
        let notes = err.lines().filter_map(|line| line.strip_prefix(NOTE));
        Ok(MadeFile {
            file,
            below,
            notes: notes.map(ToOwned::to_owned).collect(),
            staging,
        })
    }

    /// What the package will stand on, where the child has to know it.
    fn below(&self, what: &Making, base: Option<&str>) -> Result<Option<Below>, PackagesError> {
        let written = |json: serde_json::Result<String>| {
            json.map_err(|error| PackagesError::Internal(error.to_string()))
        };
        let (flag, name, json, leases) = match what {
            Making::Extension(extension) => {
                let (lease, target) = self.target(extension)?;
                let json = written(serde_json::to_string(&target))?;
                ("--target", "target.json", json, vec![lease])
            }
            Making::Oci(image) if image.layering == Layering::Each => {
                let (leases, layers) = self.layers();
                let json = written(serde_json::to_string(&layers))?;
                ("--installed", "layers.json", json, leases)
            }
            Making::Host { .. } | Making::Oci(_) | Making::PistonV2(_) => return Ok(None),
            what if what.is_base() => return Ok(None),
            _ => match base {
                Some(base) => ("--base", "base.json", base.to_owned(), Vec::new()),
                None => return Ok(None),
            },
        };
        Ok(Some(Below {
            flag,
            name,
            json,
            _leases: leases,
        }))
    }

    /// Installs what was made, with its base when that is not there; the answer is what was
    /// installed, dependencies first.
    pub async fn install_made(
        &self,
        made: MadeFile,
        what: &Making,
        time: Duration,
    ) -> Result<Vec<InstallReply>, PackagesError> {
        let mut installed = Vec::new();
        for file in &made.below {
            installed.extend(self.install_layer(file).await?);
        }
        // The same file under a second name: installing takes the first one away.
        let again = made.staging.path.join("again");
        std::fs::hard_link(&made.file, &again).at("link", &again)?;
        match self.install_file(made.file.clone(), true).await {
            Err(PackagesError::Resolve(reason))
                if matches!(*reason, ResolveError::Missing { .. }) && what.has_base() =>
            {
                let base = self.make(&what.base(), time).await?;
                installed.push(self.install_file(base.file.clone(), false).await?);
                installed.push(self.install_file(again, true).await?);
            }
            done => installed.push(done?),
        }
        Ok(installed)
    }

    /// Installs a package that is called after what is in it; none when it is there.
    async fn install_layer(&self, file: &Path) -> Result<Option<InstallReply>, PackagesError> {
        match self.install_file(file.to_owned(), false).await {
            Ok(reply) if reply.state == InstallState::AlreadyInstalled => Ok(None),
            // The same files, written by another version of this program.
            Err(PackagesError::Conflict { .. }) => Ok(None),
            done => done.map(Some),
        }
    }

    /// The metadata of the newest base package made of a distribution's packages.
    fn installed_base(&self) -> Option<String> {
        let slots = self.state.registry.all();
        let bases = slots.iter().filter(|slot| {
            slot.installed.run.is_none()
                && Base::of(&slot.info).is_some()
                && slot.record.package.language.as_str().ends_with("-base")
        });
        let key = |package: &PackageRef| package.version.clone();
        let newest = bases.max_by_key(|slot| key(&slot.record.package))?;
        Some(newest.record.info.clone())
    }
}

/// The index of what the recipes would give today.
pub(super) async fn offer(time: Duration) -> Result<String, PackagesError> {
    let arguments = ["make", "offer", "--limited"].map(OsString::from);
    let (out, _) = Child::run("the index of what can be made", &arguments, &[], time).await?;
    Ok(out)
}

/// What a package will stand on: told to the child in a file, and kept while it works.
struct Below {
    flag: &'static str,
    name: &'static str,
    json: String,
    _leases: Vec<Lease>,
}

/// The child's process group, killed on drop with all that it started.
struct Child(Option<Pid>);

impl Child {
    /// Runs it to its end; what it printed to its two outputs.
    async fn run(
        subject: &str,
        arguments: &[OsString],
        variables: &[(&str, &str)],
        time: Duration,
    ) -> Result<(String, String), PackagesError> {
        let internal = |error: std::io::Error| PackagesError::Internal(error.to_string());
        let mut command = Command::new("/proc/self/exe");
        command
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(internal)?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let _group = Self(id.map(Pid::from_raw));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let all = async { tokio::join!(words(out), words(err), child.wait()) };
        let Ok((out, err, status)) = tokio::time::timeout(time, all).await else {
            let text = format!("making {subject} took longer than {} s", time.as_secs());
            return Err(PackagesError::CannotMake(text));
        };
        let status = status.map_err(internal)?;
        if status.success() {
            return Ok((out, err));
        }
        let reason = err.trim().trim_start_matches("error: ");
        if status.code() == Some(i32::from(NO_SPACE)) {
            return Err(PackagesError::NoSpaceToMake(reason.to_owned()));
        }
        Err(PackagesError::CannotMake(match reason {
            "" => format!("the maker of {subject} died without a word"),
            reason => reason.to_owned(),
        }))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Mostly it is gone already.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The first words of a stream; the rest is read and forgotten, so that nobody blocks on it.
async fn words(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read before an error is worth as much.
        drop((&mut stream).take(MAX_WORDS).read_to_end(&mut bytes).await);
        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
