//! `pkg-info.json`: the metadata of a package, parsed into checked form.
//!
//! Invariant: a [`PackageInfo`] satisfies the grammar of packages.md; nothing that holds one
//! checks it again. Unknown keys are tolerated: a package of a newer Piston, or of another
//! packager, stays usable. Does not look at the image or at what is installed.

use std::collections::BTreeMap;

use piston_client::api::CacheLevel;
use piston_client::ids::{Language, PackageRef, Version};
use serde::{Deserialize, Serialize};

use super::version::VersionRange;

/// Longest `pkg-info.json` that is read.
pub const MAX_INFO_BYTES: u64 = 1 << 20;

/// Limits that a package or the operator may set for a language, by the released Piston's names.
pub const LIMIT_NAMES: [&str; 10] = [
    "compile_timeout",
    "run_timeout",
    "compile_cpu_time",
    "run_cpu_time",
    "compile_memory_limit",
    "run_memory_limit",
    "max_process_count",
    "max_open_files",
    "max_file_size",
    "output_max_size",
];

/// The metadata of a package, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageInfo {
    /// Name and version.
    pub package: PackageRef,
    /// `Full Name <email>` of who made it.
    pub author: Option<String>,
    /// What it was built for.
    pub platform: Option<Platform>,
    /// What else its view needs.
    pub dependencies: BTreeMap<Language, VersionRange>,
    /// Other names of the language.
    pub aliases: Vec<String>,
    /// Languages that it provides; empty: its own name, if it can run.
    pub provides: Vec<Provides>,
    /// Limits of this runtime.
    pub limits: BTreeMap<String, i64>,
    /// Where the image sits in the view, normalised.
    pub mount: String,
    /// Default cache level, when it is given.
    pub cache: Option<CacheLevel>,
    /// Globs of what a compile leaves for run; empty: everything.
    pub artifacts: Vec<String>,
    /// Argv that runs a program, instead of a script.
    pub run: Option<Vec<String>>,
    /// Argv that compiles, instead of a script.
    pub compile: Option<Vec<String>>,
    /// Packages of a distribution that it was made of.
    pub built_from: Option<BuiltFrom>,
    /// Packages of its own version that it depends on and takes the place of.
    pub extends: Vec<Language>,
    /// Libraries that it adds to what it depends on: `name==version`.
    pub libraries: Vec<String>,
    /// Things that were ignored, e.g. a limit of an unknown name.
    pub notes: Vec<String>,
}

/// Packages of a distribution that a package was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltFrom {
    /// The distribution, e.g. `debian`.
    pub distribution: String,
    /// Its version, e.g. `12.11`; empty for one that rolls.
    #[serde(default)]
    pub release: String,
    /// Its packages with their versions.
    pub packages: BTreeMap<String, String>,
}

/// One language of several that a package provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provides {
    /// The language.
    pub language: Language,
    /// Other names of it.
    pub aliases: Vec<String>,
    /// Limits of it, over those of the package.
    pub limits: BTreeMap<String, i64>,
}

/// What a package was built for: `debian-x86_64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// As given.
    pub text: String,
    /// The distribution, when one is named.
    pub distribution: Option<String>,
    /// The architecture as Rust names it; none for one that runs anywhere.
    pub architecture: Option<String>,
}

/// Why `pkg-info.json` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// Not JSON, or a key of the wrong type.
    #[error("pkg-info.json can't be read: {reason}")]
    Json {
        /// What is wrong, and where.
        reason: String,
    },
    /// A key holds something that is not acceptable.
    #[error("pkg-info.json: `{key}` {reason}")]
    Key {
        /// Which key.
        key: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Raw {
    language: String,
    version: String,
    author: Option<String>,
    dependencies: Option<BTreeMap<String, String>>,
    build_platform: Option<String>,
    aliases: Option<Vec<String>>,
    provides: Option<Vec<RawProvides>>,
    limit_overrides: Option<BTreeMap<String, serde_json::Value>>,
    mount: Option<String>,
    cache: Option<CacheLevel>,
    artifacts: Option<Vec<String>>,
    run: Option<RawCommand>,
    compile: Option<RawCommand>,
    built_from: Option<serde_json::Value>,
    extends: Option<Vec<String>>,
    libraries: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawProvides {
    language: String,
    aliases: Option<Vec<String>>,
    limit_overrides: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RawCommand {
    command: Vec<String>,
}

impl PackageInfo {
    /// Parses and checks the bytes of `pkg-info.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, InfoError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| InfoError::Json {
            reason: error.to_string(),
        })?;
        let language: Language = parsed("language", &raw.language)?;
        let version: Version = parsed("version", &raw.version)?;
        let package = PackageRef::new(language, version);
        let mut notes = Vec::new();
        let provides = raw.provides.unwrap_or_default();
        bounded("provides", provides.len(), 64)?;
        Ok(Self {
            author: raw.author.map(|author| author.chars().take(256).collect()),
            platform: raw.build_platform.as_deref().and_then(Platform::parse),
            dependencies: dependencies(raw.dependencies.unwrap_or_default(), &package)?,
            aliases: aliases("aliases", raw.aliases)?,
            provides: provides
                .into_iter()
                .map(|provides| provides.check(&mut notes))
                .collect::<Result<_, _>>()?,
            limits: limits(raw.limit_overrides, &mut notes)?,
            mount: match raw.mount {
                Some(mount) => checked_mount(&mount)?,
                None => directory(&package),
            },
            cache: raw.cache,
            artifacts: globs(raw.artifacts.unwrap_or_default())?,
            run: raw.run.map(|run| run.check("run.command")).transpose()?,
            compile: raw
                .compile
                .map(|compile| compile.check("compile.command"))
                .transpose()?,
            // For people, and for makers that build on it: nothing is refused for it.
            built_from: raw
                .built_from
                .and_then(|built_from| serde_json::from_value(built_from).ok()),
            extends: extends(&raw.extends.unwrap_or_default())?,
            libraries: raw.libraries.map(libraries).unwrap_or_default(),
            notes,
            package,
        })
    }
}

fn extends(raw: &[String]) -> Result<Vec<Language>, InfoError> {
    bounded("extends", raw.len(), 64)?;
    raw.iter().map(|name| parsed("extends", name)).collect()
}

/// For people: nothing is refused for it.
fn libraries(listed: serde_json::Value) -> Vec<String> {
    let listed: Vec<String> = serde_json::from_value(listed).unwrap_or_default();
    let short = listed.into_iter().filter(|library| library.len() <= 256);
    short.take(1000).collect()
}

/// The directory of a package in its view, where its scripts stand whatever its `mount` is.
pub fn directory(package: &PackageRef) -> String {
    format!("/piston/packages/{}/{}", package.language, package.version)
}

impl RawProvides {
    fn check(self, notes: &mut Vec<String>) -> Result<Provides, InfoError> {
        Ok(Provides {
            language: parsed("provides.language", &self.language)?,
            aliases: aliases("provides.aliases", self.aliases)?,
            limits: limits(self.limit_overrides, notes)?,
        })
    }
}

impl RawCommand {
    fn check(self, key: &str) -> Result<Vec<String>, InfoError> {
        bounded(key, self.command.len(), 256)?;
        let Some(program) = self.command.first() else {
            return Err(refused(key, "is empty; its first word is the program"));
        };
        if !program.starts_with('/') {
            return Err(refused(
                key,
                format!("starts with `{program}`; the program is an absolute path in the view"),
            ));
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return Err(refused(key, "holds a NUL character"));
        }
        Ok(self.command)
    }
}

impl Platform {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let (distribution, architecture) = match text.rsplit_once('-') {
            Some((distribution, architecture)) => (Some(distribution.to_owned()), architecture),
            None => (None, text),
        };
        let architecture = match architecture {
            "any" | "all" | "noarch" => None,
            "amd64" | "x64" => Some("x86_64".to_owned()),
            "arm64" => Some("aarch64".to_owned()),
            other => Some(other.to_owned()),
        };
        Some(Self {
            text: text.to_owned(),
            distribution,
            architecture,
        })
    }
}

fn refused(key: &str, reason: impl Into<String>) -> InfoError {
    InfoError::Key {
        key: key.to_owned(),
        reason: reason.into(),
    }
}

fn bounded(key: &str, count: usize, limit: usize) -> Result<(), InfoError> {
    if count > limit {
        let reason = format!("has {count} entries, {limit} are the most");
        return Err(refused(key, reason));
    }
    Ok(())
}

fn parsed<T: std::str::FromStr>(key: &str, word: &str) -> Result<T, InfoError>
where
    T::Err: std::fmt::Display,
{
    word.parse()
        .map_err(|error: T::Err| refused(key, format!("is refused: {error}")))
}

fn dependencies(
    raw: BTreeMap<String, String>,
    package: &PackageRef,
) -> Result<BTreeMap<Language, VersionRange>, InfoError> {
    bounded("dependencies", raw.len(), 256)?;
    let mut checked = BTreeMap::new();
    for (name, range) in raw {
        let name: Language = parsed("dependencies", &name)?;
        if name == package.language {
            return Err(refused("dependencies", "names the package itself"));
        }
        checked.insert(name, parsed("dependencies", &range)?);
    }
    Ok(checked)
}

fn aliases(key: &str, raw: Option<Vec<String>>) -> Result<Vec<String>, InfoError> {
    let aliases = raw.unwrap_or_default();
    bounded(key, aliases.len(), 64)?;
    for alias in &aliases {
        let plain = |c: char| c.is_ascii_graphic() && !"/\\\"'`".contains(c);
        if !(1..=64).contains(&alias.len()) || !alias.chars().all(plain) {
            let reason = "holds a name that is not 1 to 64 plain characters without spaces";
            return Err(refused(key, reason));
        }
    }
    Ok(aliases)
}

fn limits(
    raw: Option<BTreeMap<String, serde_json::Value>>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<String, i64>, InfoError> {
    let raw = raw.unwrap_or_default();
    bounded("limit_overrides", raw.len(), 256)?;
    let mut checked = BTreeMap::new();
    for (name, value) in raw {
        if !LIMIT_NAMES.contains(&name.as_str()) {
            let name: String = name.chars().take(64).collect();
            notes.push(format!("limit override `{name}` is unknown and ignored"));
            continue;
        }
        let number = value.as_i64().filter(|number| *number >= -1);
        let number = number.ok_or_else(|| {
            let reason = format!("has {value} for `{name}`; a whole number from -1 is meant");
            refused("limit_overrides", reason)
        })?;
        checked.insert(name, number);
    }
    Ok(checked)
}

/// An absolute path without `.`, `..`, empty components, and outside what the sandbox mounts.
fn checked_mount(mount: &str) -> Result<String, InfoError> {
    let invalid = |reason: &str| Err(refused("mount", reason));
    if !mount.starts_with('/') || mount.len() > 255 || mount.contains('\0') {
        return invalid("must be an absolute path of at most 255 bytes");
    }
    if mount.chars().all(|c| c == '/') {
        return Ok("/".to_owned());
    }
    let trimmed = mount.trim_end_matches('/');
    let components: Vec<&str> = trimmed[1..].split('/').collect();
    if components.iter().any(|c| matches!(*c, "" | "." | "..")) {
        return invalid("must not hold `.`, `..` or empty components");
    }
    let reserved: [&[&str]; 4] = [&["proc"], &["dev"], &["tmp"], &["piston", "job"]];
    if reserved.iter().any(|prefix| components.starts_with(prefix)) {
        return invalid("must not be in /proc, /dev, /tmp or /piston/job, which jobs mount over");
    }
    Ok(trimmed.to_owned())
}

fn globs(raw: Vec<String>) -> Result<Vec<String>, InfoError> {
    bounded("artifacts", raw.len(), 64)?;
    for glob in &raw {
        if glob.len() > 256 {
            return Err(refused("artifacts", "holds a pattern of over 256 bytes"));
        }
        globset::Glob::new(glob)
            .map_err(|error| refused("artifacts", format!("is refused: {error}")))?;
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str) -> Result<PackageInfo, InfoError> {
        PackageInfo::parse(json.as_bytes())
    }

    #[test]
    fn a_minimal_package_gets_the_defaults() {
        let info = parse(r#"{"language":"python","version":"3.11.2"}"#).unwrap();
        assert_eq!(info.package.to_string(), "python-3.11.2");
        assert_eq!(info.mount, "/piston/packages/python/3.11.2");
        assert_eq!(info.cache, None);
        assert!(info.dependencies.is_empty() && info.artifacts.is_empty());
    }

    #[test]
    fn every_key_is_read() {
        let info = parse(
            r#"{"language":"gcc","version":"12.2.0","author":"A B <a@b>",
                "dependencies":{"base":"12.x"},"build_platform":"debian-amd64",
                "aliases":["cc"],"provides":[{"language":"c++","aliases":["cpp"],
                "limit_overrides":{"run_timeout":5000}}],
                "limit_overrides":{"max_process_count":128,"odd":1},"mount":"/","cache":"output",
                "artifacts":["a.out"],"run":{"command":["/bin/sh","{main}"]},
                "compile":{"command":["/usr/bin/gcc","{files}"]},"unknown":[1,2]}"#,
        )
        .unwrap();
        assert_eq!(info.platform.unwrap().architecture.unwrap(), "x86_64");
        assert_eq!(info.provides[0].language.as_str(), "c++");
        assert_eq!(info.provides[0].limits["run_timeout"], 5000);
        assert_eq!(info.limits["max_process_count"], 128);
        assert_eq!(info.notes.len(), 1, "the unknown limit: {:?}", info.notes);
        assert_eq!(info.cache, Some(CacheLevel::Output));
        assert_eq!(info.run.unwrap()[1], "{main}");
        assert_eq!(info.mount, "/");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        for (extra, key) in [
            (r#""mount":"usr""#, "mount"),
            (r#""mount":"/usr/../etc""#, "mount"),
            (r#""mount":"/a//b""#, "mount"),
            (r#""mount":"/proc/x""#, "mount"),
            (r#""mount":"/piston/job""#, "mount"),
            (r#""dependencies":{"base":"latest"}"#, "dependencies"),
            (r#""dependencies":{"Base":"*"}"#, "dependencies"),
            (r#""dependencies":{"python":"*"}"#, "dependencies"),
            (r#""aliases":["a b"]"#, "aliases"),
            (r#""aliases":["a/b"]"#, "aliases"),
            (
                r#""limit_overrides":{"run_timeout":1.5}"#,
                "limit_overrides",
            ),
            (r#""limit_overrides":{"run_timeout":-2}"#, "limit_overrides"),
            (r#""artifacts":["[a"]"#, "artifacts"),
            (r#""run":{"command":[]}"#, "run.command"),
            (r#""run":{"command":["python3"]}"#, "run.command"),
        ] {
            let json = format!(r#"{{"language":"python","version":"3.11.2",{extra}}}"#);
            match parse(&json).unwrap_err() {
                InfoError::Key { key: got, .. } => assert_eq!(got, key, "{extra}"),
                other @ InfoError::Json { .. } => panic!("{extra}: {other}"),
            }
        }
    }

    #[test]
    fn names_and_versions_follow_the_grammar() {
        for (language, version) in [("Python", "3.11.2"), ("../x", "1.0.0"), ("python", "3.11")] {
            let json = format!(r#"{{"language":"{language}","version":"{version}"}}"#);
            assert!(parse(&json).is_err(), "{json}");
        }
    }

    #[test]
    fn mounts_are_normalised() {
        for (given, expected) in [("/", "/"), ("//", "/"), ("/opt/x/", "/opt/x"), ("/a", "/a")] {
            assert_eq!(checked_mount(given).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            drop(PackageInfo::parse(&bytes));
        }
    }
}
