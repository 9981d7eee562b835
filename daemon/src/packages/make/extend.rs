//! Packages that add libraries or files to another one, which they depend on.
//!
//! The way: `target` (the package that is extended, as the daemon has it or as files; the merged files
//! of its view, read without mounting) -> `python` (where its interpreter looks) -> `pip` (libraries of
//! an index), `npm` (of a registry) or `files` (somebody's own) -> a draft: the libraries, and the metadata
//! of the extended package under a name of its own. It runs what the other one runs, the same way.
//! Needs no root and no tool, and runs nothing of a library.

mod download;
mod entry;
mod error;
mod files;
mod missing;
mod npm;
mod pip;
mod python;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use piston_client::ids::{Language, PackageRef};
use piston_fs::tree::ViewTree;
use serde_json::{Map, Value, json};

pub use self::error::ExtendError;
pub use self::files::Folder;
pub use self::npm::DEFAULT_REGISTRY;
pub use self::pip::DEFAULT_INDEX;
use self::python::Python;
pub use self::target::{Target, TargetLayer};
use super::super::info::PackageInfo;
use super::Made;
use super::debian::bytecode_of;
use super::error::MakeError;
use super::package::{Description, Draft, home};
use super::plan::Plan;
use super::work::Work;

/// What the extension has as the extended package has it.
const INHERITED: [&str; 4] = ["artifacts", "limit_overrides", "cache", "build_platform"];
/// Libraries that a name is put together of.
const NAMED_LIBRARIES: usize = 3;
/// What an extension by files is called after.
const FILES: &str = "files";
/// Longest name of a package.
const MAX_NAME: usize = 64;

/// What to add to which package.
#[derive(Debug, Clone)]
pub struct Extend {
    /// The package.
    pub target: TargetFrom,
    /// What to call the extension, and the language that it runs; else it is called after what is
    /// added, and runs the languages of the extended package.
    pub name: Option<Language>,
    /// Python libraries, as requirements: `numpy`, `numpy>=2`.
    pub pip: Vec<String>,
    /// The index that they come from, e.g. [`DEFAULT_INDEX`].
    pub index: String,
    /// JavaScript libraries: `lodash`, `lodash@4`.
    pub npm: Vec<String>,
    /// The registry that they come from, e.g. [`DEFAULT_REGISTRY`].
    pub registry: String,
    /// Files, and where they go.
    pub files: Option<Folder>,
}

/// The package that is extended, as those who add to it look at it.
struct Below<'a> {
    /// Its metadata.
    info: &'a PackageInfo,
    /// Argv by which a program is run.
    run: Option<&'a [String]>,
    /// The files of its view.
    tree: &'a ViewTree,
}

/// What was added.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// Each library with its version, as its own tools write it.
    pub(super) libraries: Vec<String>,
    /// What is worth telling.
    pub(super) notes: Vec<String>,
}

impl Added {
    fn take(&mut self, more: Self) {
        self.libraries.extend(more.libraries);
        self.notes.extend(more.notes);
    }
}

/// Where the extended package is described.
#[derive(Debug, Clone)]
pub enum TargetFrom {
    /// In a file that the daemon wrote.
    Written(PathBuf),
    /// In its package file and those of what it depends on, lowest first.
    Files {
        /// Its package file.
        package: PathBuf,
        /// Those of its dependencies.
        below: Vec<PathBuf>,
    },
}

/// Makes the extension into the directory `out`.
pub(super) fn make(what: &Extend, out: &Path) -> Result<Made, MakeError> {
    let work = Work::new(out).map_err(ExtendError::from)?;
    let target = match &what.target {
        TargetFrom::Written(path) => Target::read(path)?,
        TargetFrom::Files { package, below } => Target::of_files(package, below, &work.spool)?,
    };
    draft(what, &target, &work)?.write(out)
}

fn draft(what: &Extend, target: &Target, work: &Work) -> Result<Draft, MakeError> {
    let info = target.package_info()?;
    let asked = [pip::names(&what.pip)?, npm::names(&what.npm)?].concat();
    let files = what.files.iter().map(|_| FILES.to_owned());
    let parts: Vec<String> = asked.iter().cloned().chain(files).collect();
    let package = PackageRef::new(
        named(&info, what.name.as_ref(), &parts)?,
        info.package.version.clone(),
    );
    let home = home(package.language.as_str(), &package.version);
    let tree = target.tree()?;
    let below = Below {
        info: &info,
        run: target.run.as_deref(),
        tree: &tree,
    };
    let mut plan = Plan::default();
    let Added {
        libraries,
        mut notes,
    } = add(what, &below, &home, &mut plan, work)?;
    if libraries.is_empty() && !asked.is_empty() {
        return Err(MakeError::Extend(ExtendError::Target {
            package: info.package.to_string(),
            reason: format!("it has {} already", asked.join(", ")),
        }));
    }
    if !libraries.is_empty() {
        notes.insert(0, format!("added {}", libraries.join(", ")));
    }
    notes.extend(missing::notes(&plan, &tree));
    plan.directory(&home);
    let mut description = Description::of(package);
    description.inherited = inherited(target, &info, what.name.as_ref(), &description.package)?;
    description.dependencies =
        BTreeMap::from([(info.package.language.to_string(), info.package.version)]);
    description.libraries = libraries;
    Ok(Draft {
        description,
        plan,
        notes,
    })
}

/// Plans all that is added; `home` is the extension's own directory.
fn add(
    what: &Extend,
    below: &Below<'_>,
    home: &str,
    plan: &mut Plan,
    work: &Work,
) -> Result<Added, MakeError> {
    let mut all = Added::default();
    if !what.pip.is_empty() {
        let python = Python::find(below)?;
        all.take(pip::add(&what.pip, &what.index, &python, plan, work)?);
        bytecode_of(&python.minor.to_string(), plan, &mut all.notes)?;
    }
    if !what.npm.is_empty() {
        all.take(npm::add(&what.npm, &what.registry, below, plan, work)?);
    }
    if let Some(folder) = &what.files {
        all.take(files::add(folder, home, below.tree, plan, work)?);
    }
    Ok(all)
}

/// The name of the extension: as asked for, else the extended package's and those of the libraries.
fn named(
    info: &PackageInfo,
    name: Option<&Language>,
    asked: &[String],
) -> Result<Language, ExtendError> {
    if let Some(name) = name {
        if *name == info.package.language {
            return Err(ExtendError::Target {
                package: info.package.to_string(),
                reason: "the extension needs another name than it".to_owned(),
            });
        }
        return Ok(name.clone());
    }
    let mut parts = vec![info.package.language.to_string()];
    parts.extend(asked.iter().take(NAMED_LIBRARIES).cloned());
    if asked.len() > NAMED_LIBRARIES {
        parts.push(format!("and-{}-more", asked.len() - NAMED_LIBRARIES));
    }
    let name: String = parts.join("-").chars().take(MAX_NAME).collect();
    let odd =
        |_| ExtendError::requirement(&name, "it is no name of a package; give it another one");
    name.parse().map_err(odd)
}

/// The metadata that the extension shares with the extended package.
fn inherited(
    target: &Target,
    info: &PackageInfo,
    name: Option<&Language>,
    package: &PackageRef,
) -> Result<Map<String, Value>, ExtendError> {
    let mut shared: Map<String, Value> = Map::new();
    for key in INHERITED {
        if let Some(value) = target.info.get(key) {
            shared.insert(key.to_owned(), value.clone());
        }
    }
    for (key, argv) in [("run", &target.run), ("compile", &target.compile)] {
        if let Some(argv) = argv {
            shared.insert(key.to_owned(), json!({ "command": argv }));
        }
    }
    let own = &info.package.language;
    let provided = target
        .info
        .get("provides")
        .and_then(Value::as_array)
        .cloned();
    let mut provides = provided
        .filter(|list| !list.is_empty())
        .unwrap_or_else(|| vec![json!({ "language": own, "aliases": info.aliases })]);
    // Names of extensions stand for them, and for no language that they share.
    let extensions = info.extends.iter().chain([own]).skip(1);
    let extensions: Vec<&str> = extensions.map(Language::as_str).collect();
    provides.retain(|one| {
        let language = one.get("language").and_then(Value::as_str);
        language.is_none_or(|language| !extensions.contains(&language))
    });
    if let Some(name) = name {
        // It runs the language of its name, which is what a package without `provides` does.
        if provides.len() > 1 {
            return Err(ExtendError::Target {
                package: info.package.to_string(),
                reason: format!(
                    "it runs several languages, which `{name}` can't stand for; leave the name away"
                ),
            });
        }
        return Ok(shared);
    }
    if provides.len() == 1 {
        provides.push(json!({ "language": package.language }));
    }
    shared.insert("provides".to_owned(), Value::Array(provides));
    let extends = [info.extends.clone(), vec![own.clone()]].concat();
    shared.insert("extends".to_owned(), json!(extends));
    Ok(shared)
}
