//! A package on its way to a file: its metadata as `pkg-info.json`, its scripts, its image.
//!
//! Invariant: the same draft gives the same bytes; a package file appears under its name only
//! when it is whole, and what was begun is removed when something fails.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use piston_client::ids::{Language, PackageRef, Version};
use piston_fs::image::pack::Compressor;
use serde_json::{Map, Value, json};

use super::super::archive;
use super::super::info::{BuiltFrom, PackageInfo};
use super::Made;
use super::error::MakeError;
use super::host::{Host, base};
use super::plan::Plan;

/// Who made packages of the host.
const AUTHOR: &str = "Piston <piston@localhost>";
/// A Python package takes one second at level 9 on two processors; level 19 takes more than ten
/// times as long for images that are 8 percent shorter.
const COMPRESSOR: Compressor = Compressor::Zstd(9);
/// By convention of reproducible builds: the time to give everything, in seconds.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// The metadata and the scripts of a package; what is empty is left out of the file.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// Name and version.
    pub(super) package: PackageRef,
    /// What its binaries run on.
    pub(super) platform: String,
    /// Exact versions of what its view needs.
    pub(super) dependencies: BTreeMap<String, Version>,
    /// What else it needs, by ranges of versions.
    pub(super) ranges: BTreeMap<String, String>,
    /// Other names of the language.
    pub(super) aliases: Vec<String>,
    /// Languages and their aliases, when there are several.
    pub(super) provides: Vec<(String, Vec<String>)>,
    /// What compilation leaves for the run.
    pub(super) artifacts: Vec<String>,
    /// Limits that its jobs need other than the general ones, by the names of package files.
    pub(super) limits: BTreeMap<String, i64>,
    /// Runs a program.
    pub(super) run: Option<Step>,
    /// Compiles one.
    pub(super) compile: Option<Step>,
    /// `export NAME=value` lines.
    pub(super) environment: String,
    /// Packages of a distribution that it was made of.
    pub(super) built_from: Option<BuiltFrom>,
    /// Libraries that it adds to the package that it depends on: `name==version`.
    pub(super) libraries: Vec<String>,
    /// Keys of `pkg-info.json` that it has from there, unless it says them itself.
    pub(super) inherited: Map<String, Value>,
}

/// How a stage is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// By this argv.
    Command(Vec<String>),
    /// By a script of the package.
    Script(String),
}

/// Strings of a table of constants.
pub(super) fn owned<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// Everything about a package before it is written.
#[derive(Debug)]
pub(super) struct Draft {
    /// Metadata and scripts.
    pub(super) description: Description,
    /// What the image holds.
    pub(super) plan: Plan,
    /// What was left out, and why.
    pub(super) notes: Vec<String>,
}

/// The directory of a package's own in its view.
pub(super) fn home(name: &str, version: &Version) -> String {
    format!("/piston/packages/{name}/{version}")
}

/// The line of an `environment` that sets a variable; none where no shell could on one line.
pub(super) fn export(name: &str, value: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = |c: char| fits(c) && !c.is_ascii_digit();
    let is_name = name.starts_with(starts) && name.chars().all(fits);
    if !is_name || value.contains(['\n', '\r', '\0']) {
        return None;
    }
    let quoted = value.replace('\'', r"'\''");
    Some(format!("export {name}='{quoted}'\n"))
}

impl Description {
    /// A package of this host that depends on nothing.
    pub(super) fn new(name: &'static str, version: Version, host: &Host) -> Self {
        let name: Language = name.parse().expect("makers have valid names");
        Self {
            platform: host.platform(),
            ..Self::of(PackageRef::new(name, version))
        }
    }

    /// A package of no platform in particular that has nothing but its name.
    pub(super) fn of(package: PackageRef) -> Self {
        Self {
            package,
            platform: String::new(),
            dependencies: BTreeMap::new(),
            ranges: BTreeMap::new(),
            aliases: Vec::new(),
            provides: Vec::new(),
            artifacts: Vec::new(),
            limits: BTreeMap::new(),
            run: None,
            compile: None,
            environment: String::new(),
            built_from: None,
            libraries: Vec::new(),
            inherited: Map::new(),
        }
    }

    /// A package of this host on top of its base package.
    pub(super) fn on_base(
        name: &'static str,
        version: Version,
        host: &Host,
    ) -> Result<Self, MakeError> {
        let dependencies = BTreeMap::from([(base::NAME.to_owned(), host.base_version()?)]);
        Ok(Self {
            dependencies,
            ..Self::new(name, version, host)
        })
    }

    /// Its `pkg-info.json`.
    fn to_json(&self) -> Value {
        let mut info = self.inherited.clone();
        let mut set = |key: &str, value: Value| drop(info.insert(key.to_owned(), value));
        set("language", json!(self.package.language));
        set("version", json!(self.package.version));
        set("author", json!(AUTHOR));
        if !self.platform.is_empty() {
            set("build_platform", json!(self.platform));
        }
        set("mount", json!("/"));
        let exact = self.dependencies.iter();
        let exact = exact.map(|(name, version)| (name.clone(), version.to_string()));
        let needs: BTreeMap<String, String> = exact.chain(self.ranges.clone()).collect();
        set("dependencies", json!(needs));
        if !self.aliases.is_empty() {
            set("aliases", json!(self.aliases));
        }
        if !self.provides.is_empty() {
            let one = |(language, aliases)| json!({ "language": language, "aliases": aliases });
            set(
                "provides",
                self.provides.iter().map(|(l, a)| one((l, a))).collect(),
            );
        }
        if !self.artifacts.is_empty() {
            set("artifacts", json!(self.artifacts));
        }
        if !self.limits.is_empty() {
            set("limit_overrides", json!(self.limits));
        }
        if !self.libraries.is_empty() {
            set("libraries", json!(self.libraries));
        }
        for (key, step) in [("run", &self.run), ("compile", &self.compile)] {
            if let Some(Step::Command(argv)) = step {
                set(key, json!({ "command": argv }));
            }
        }
        if let Some(built_from) = &self.built_from {
            set("built_from", json!(built_from));
        }
        Value::Object(info)
    }
}

impl Draft {
    /// Writes the package file into the directory `out`.
    pub(super) fn write(self, out: &Path) -> Result<Made, MakeError> {
        let package = self.description.package.clone();
        let file = out.join(format!("{package}.pkg.tar.gz"));
        let image = Temporary(out.join(format!(".{package}.{}.squashfs", std::process::id())));
        let time = image_time(&self.plan);
        let tree = self.plan.into_tree(time)?;
        let writing = |source| MakeError::Write {
            path: image.0.clone(),
            source,
        };
        fs::create_dir_all(out).map_err(writing)?;
        let image_file = BufWriter::new(File::create(&image.0).map_err(writing)?);
        tree.write(image_file, COMPRESSOR)?;
        let json = serde_json::to_vec_pretty(&self.description.to_json());
        let json = json.map_err(|error| writing(error.into()))?;
        // What an installation would refuse is better told here.
        PackageInfo::parse(&json)?;
        let Description {
            run,
            compile,
            environment,
            ..
        } = &self.description;
        let mut scripts: Vec<(&str, u32, &[u8])> = Vec::new();
        for (name, step) in [(archive::RUN, run), (archive::COMPILE, compile)] {
            if let Some(Step::Script(text)) = step {
                scripts.push((name, 0o755, text.as_bytes()));
            }
        }
        if !environment.is_empty() {
            scripts.push((archive::ENVIRONMENT, 0o644, environment.as_bytes()));
        }
        archive::write(&file, &json, &image.0, &scripts)?;
        Ok(Made {
            package,
            file,
            below: Vec::new(),
            notes: self.notes,
        })
    }
}

/// The time of everything in the image: the one that the environment fixes, else that of the
/// newest file that is packed.
pub(super) fn image_time(plan: &Plan) -> u32 {
    time_of(plan, std::env::var(EPOCH_VARIABLE).ok().as_deref())
}

fn time_of(plan: &Plan, fixed: Option<&str>) -> u32 {
    let fixed = fixed.and_then(|text| text.trim().parse().ok());
    fixed.unwrap_or(plan.newest())
}

/// A file that is gone when this is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may not have been created; nothing can be done about any other failure here.
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        let version = "3.11.2".parse().expect("a version");
        let host = Host::read();
        Description {
            aliases: vec!["py".to_owned()],
            provides: vec![
                ("c".to_owned(), owned(["gcc"])),
                ("c++".to_owned(), owned(["cpp", "g++"])),
            ],
            artifacts: owned(["a.out"]),
            limits: BTreeMap::from([("run_timeout".to_owned(), 5000)]),
            run: Some(Step::Command(owned(["/usr/bin/python3", "{main}"]))),
            built_from: Some(BuiltFrom {
                distribution: "debian".to_owned(),
                release: "12.11".to_owned(),
                packages: BTreeMap::from([("libc6".to_owned(), "2.36-9".to_owned())]),
            }),
            ..Description::on_base("python", version, &host).expect("a host with a version")
        }
    }

    #[test]
    fn the_metadata_is_read_back_as_it_was_meant() {
        let description = description();
        let json = serde_json::to_vec(&description.to_json()).expect("JSON");
        let info = PackageInfo::parse(&json).expect("valid metadata");
        assert_eq!(info.package, description.package);
        assert_eq!(info.mount, "/");
        assert_eq!(info.run.map(Step::Command), description.run);
        assert_eq!(info.limits, description.limits);
        assert_eq!(info.built_from, description.built_from);
        assert_eq!(info.aliases, ["py"]);
        assert_eq!(info.artifacts, ["a.out"]);
        let provided: Vec<_> = info
            .provides
            .iter()
            .map(|p| (p.language.as_str(), p.aliases.len()))
            .collect();
        assert_eq!(provided, [("c", 1), ("c++", 2)]);
        let base = info
            .dependencies
            .get(&"base".parse().expect("a name"))
            .expect("on base");
        assert!(base.matches(&Host::read().base_version().expect("a version")));
        assert!(
            !base.matches(&"99.0.0".parse().expect("a version")),
            "exactly this host's"
        );
        assert!(info.platform.is_some_and(
            |platform| platform.architecture.as_deref() == Some(std::env::consts::ARCH)
        ));
        assert!(info.notes.is_empty(), "{:?}", info.notes);
    }

    #[test]
    fn a_base_package_says_nothing_that_it_has_not() {
        let version = "12.0.0".parse().expect("a version");
        let json = Description::new("base", version, &Host::read()).to_json();
        for key in [
            "run",
            "compile",
            "aliases",
            "provides",
            "artifacts",
            "limit_overrides",
            "built_from",
        ] {
            assert!(json.get(key).is_none(), "{key}");
        }
        assert_eq!(json["author"], AUTHOR);
    }

    #[test]
    fn everything_has_the_fixed_time_or_that_of_the_newest_file() {
        let mut plan = Plan::default();
        plan.host_file("/file", PathBuf::new(), false, 77);
        let check = |fixed, expected| assert_eq!(time_of(&plan, fixed), expected, "{fixed:?}");
        check(None, 77);
        check(Some("5"), 5);
        check(Some("4294967295"), u32::MAX);
        for odd in ["", "-1", "4294967296", "now"] {
            check(Some(odd), 77);
        }
    }
}
