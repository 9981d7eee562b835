//! What a registry says of a package: its versions, and what each needs.
//!
//! Reads the short form that installers ask for as well as the whole one. A version that is not
//! understood is left out: registries keep what was published when nobody checked. Pure.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use piston_client::ids::{Digest, Version};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::super::super::index::Checksum;
use super::super::super::super::version::VersionRange;
use super::super::ExtendError;
use super::name::{Versions, Wanted};

/// Which forms are asked for, the short one first.
pub(super) const FORMS: &str =
    "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8";
/// What `os` and `libc` say of this.
const OS: &str = "linux";

/// A package, by its metadata.
#[derive(Debug)]
pub(super) struct Packument {
    tags: BTreeMap<String, String>,
    versions: BTreeMap<Version, Published>,
}

/// One version of it.
#[derive(Debug, Clone)]
pub(super) struct Published {
    /// What it needs.
    pub(super) needs: Vec<Need>,
    /// Where it is.
    pub(super) tarball: String,
    /// What it has to be; none when the registry only has a sha1 of it, or nothing at all.
    pub(super) checksum: Option<Checksum>,
    /// Whether it wants to run something when it is installed.
    pub(super) has_script: bool,
    /// Whether it is for this kind of machine.
    pub(super) fits: bool,
    node: Option<VersionRange>,
    deprecated: bool,
}

/// Something that a version needs.
#[derive(Debug, Clone)]
pub(super) struct Need {
    /// What; an error when it is not understood, which matters when it is taken.
    pub(super) what: Result<Wanted, String>,
    /// How much.
    pub(super) kind: Kind,
}

/// How much something is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It does not work without.
    Needed,
    /// It works without, and is better with it.
    Optional,
    /// The one who uses it has to have it.
    Peer,
}

/// The machine that it will run on.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// As JavaScript calls it: `x64`.
    pub(super) cpu: &'static str,
    /// `glibc` or `musl`.
    pub(super) libc: &'static str,
    /// The version of Node, where it is known.
    pub(super) node: Option<Version>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "dist-tags", default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    versions: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawDist {
    tarball: String,
    integrity: Option<String>,
}

impl Packument {
    /// Reads it; `from` is where it came from.
    pub(super) fn parse(text: &str, from: &str, machine: &Machine) -> Result<Self, ExtendError> {
        let raw: Raw = serde_json::from_str(text)
            .map_err(|error| ExtendError::file(from, format!("it is no package: {error}")))?;
        let versions = raw.versions.iter().filter_map(|(version, value)| {
            Some((version.parse().ok()?, published(value, machine)?))
        });
        Ok(Self {
            versions: versions.collect(),
            tags: raw.tags,
        })
    }

    /// The version to take, as npm takes it: what a tag says, else `latest` where that will do, else
    /// the newest, rather of those that are for this Node and not deprecated. An error in words when
    /// there is none.
    pub(super) fn choose(&self, wanted: &Versions, machine: &Machine) -> Result<Version, String> {
        if self.versions.is_empty() {
            return Err("the registry has no version of it that could be taken".to_owned());
        }
        let range = match wanted {
            Versions::Range(range) => range,
            Versions::Tag(tag) => {
                let tagged = self.tagged(tag);
                return tagged.ok_or_else(|| format!("the registry has no tag `{tag}` of it"));
            }
        };
        let rank = |published: &Published| {
            let (runs, lives) = (published.is_for(machine), !published.deprecated);
            (runs && lives, runs, lives)
        };
        let latest = self
            .tagged("latest")
            .filter(|latest| wanted.is_any() || range.matches(latest));
        if let Some(latest) = &latest
            && rank(&self.versions[latest]).0
        {
            return Ok(latest.clone());
        }
        let fitting = self.versions.iter().filter(|(v, _)| range.matches(v));
        let best = fitting.max_by_key(|(version, published)| (rank(published), *version));
        // Where all are pre-releases, which no range has, `latest` is one of them.
        let best = best.map(|(version, _)| version.clone()).or(latest);
        best.ok_or_else(|| {
            let newest = self.versions.keys().rev().take(5);
            let newest: Vec<String> = newest.map(ToString::to_string).collect();
            let newest = newest.join(", ");
            format!("no version of it will do; the newest are {newest}")
        })
    }

    fn tagged(&self, tag: &str) -> Option<Version> {
        let version = self.tags.get(tag)?.parse().ok()?;
        self.versions.contains_key(&version).then_some(version)
    }

    /// A version.
    pub(super) fn version(&self, version: &Version) -> Option<&Published> {
        self.versions.get(version)
    }
}

impl Published {
    /// Whether it is for this Node, as far as both say which.
    pub(super) fn is_for(&self, machine: &Machine) -> bool {
        match (&machine.node, &self.node) {
            (Some(node), Some(range)) => range.matches(node),
            _ => true,
        }
    }
}

fn published(value: &Value, machine: &Machine) -> Option<Published> {
    let dist: RawDist = serde_json::from_value(value.get("dist")?.clone()).ok()?;
    let scripts = value.get("scripts").and_then(Value::as_object);
    let runs = |name: &str| scripts.is_some_and(|scripts| scripts.contains_key(name));
    let node = value.get("engines").and_then(|engines| engines.get("node"));
    let listed = |key: &str, own: &str| allows(value.get(key), own);
    Some(Published {
        needs: needs(value),
        tarball: dist.tarball,
        checksum: dist.integrity.as_deref().and_then(strongest),
        has_script: value.get("hasInstallScript").and_then(Value::as_bool) == Some(true)
            || ["preinstall", "install", "postinstall"]
                .into_iter()
                .any(runs),
        fits: listed("os", OS) && listed("cpu", machine.cpu) && listed("libc", machine.libc),
        node: node
            .and_then(Value::as_str)
            .and_then(|range| range.parse().ok()),
        deprecated: value
            .get("deprecated")
            .is_some_and(|d| !matches!(d, Value::Bool(false))),
    })
}

/// What a version needs. What is in its own archive, and what is optional as well, counts once.
fn needs(value: &Value) -> Vec<Need> {
    let table = |key: &str| value.get(key).and_then(Value::as_object);
    let bundled = ["bundleDependencies", "bundledDependencies"].map(|key| value.get(key));
    let all = bundled.contains(&Some(&Value::Bool(true)));
    let bundled = bundled.into_iter().flatten().filter_map(Value::as_array);
    let bundled: BTreeSet<&str> = bundled.flatten().filter_map(Value::as_str).collect();
    let is_bundled = |name: &str, kind| kind != Kind::Peer && (all || bundled.contains(name));
    let may_lack = |name: &str| {
        let meta = table("peerDependenciesMeta").and_then(|meta| meta.get(name));
        meta.and_then(|meta| meta.get("optional")?.as_bool()) == Some(true)
    };
    let mut found: BTreeMap<&str, Need> = BTreeMap::new();
    for (key, kind) in [
        ("optionalDependencies", Kind::Optional),
        ("dependencies", Kind::Needed),
        ("peerDependencies", Kind::Peer),
    ] {
        for (name, versions) in table(key).into_iter().flatten() {
            let skipped = is_bundled(name, kind) || (kind == Kind::Peer && may_lack(name));
            if !skipped && !found.contains_key(name.as_str()) {
                let versions = versions.as_str().unwrap_or_default();
                let what = Wanted::of(name, versions).map_err(|error| error.to_string());
                found.insert(name, Need { what, kind });
            }
        }
    }
    found.into_values().collect()
}

/// Whether a list of names, of which those with `!` are excluded, has this one.
fn allows(list: Option<&Value>, own: &str) -> bool {
    let names: Vec<&str> = match list {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one],
        _ => return true,
    };
    let excluded = names.iter().any(|name| name.strip_prefix('!') == Some(own));
    let mut positive = names
        .iter()
        .filter(|name| !name.starts_with('!'))
        .peekable();
    !excluded
        && (positive.peek().is_none()
            || positive.any(|name| matches!(*name, "any") || *name == own))
}

/// The strongest among the checksums of a file, where it is one that can't be forged.
fn strongest(integrity: &str) -> Option<Checksum> {
    let decoded = |kind: &str| {
        let found = integrity
            .split_whitespace()
            .find_map(|one| one.strip_prefix(kind))?;
        let text = found.split('?').next().unwrap_or(found);
        STANDARD.decode(text).ok()
    };
    if let Some(bytes) = decoded("sha512-") {
        let bytes = <[u8; 64]>::try_from(bytes).ok()?;
        return Some(Checksum::Sha512(Box::new(bytes)));
    }
    let bytes = <[u8; 32]>::try_from(decoded("sha256-")?).ok()?;
    Some(Checksum::Sha256(Digest::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn machine() -> Machine {
        Machine {
            cpu: "x64",
            libc: "glibc",
            node: Some("18.20.4".parse().expect("a version")),
        }
    }

    fn version(rest: Value) -> Value {
        let mut version = json!({"dist": {"tarball": "a.tgz",
            "integrity": format!("sha1-xx sha512-{}", STANDARD.encode([7; 64]))}});
        if let (Value::Object(version), Value::Object(rest)) = (&mut version, rest) {
            version.extend(rest);
        }
        version
    }

    fn packument(tags: &Value, versions: impl Into<Value>) -> Packument {
        let versions: Value = versions.into();
        let text = json!({"dist-tags": tags, "versions": versions}).to_string();
        Packument::parse(&text, "here", &machine()).expect("a package")
    }

    #[test]
    fn the_version_is_the_latest_where_it_will_do_else_the_newest() {
        let read = packument(
            &json!({"latest": "2.1.0", "next": "4.0.0-rc.1"}),
            json!({
                "1.0.0": version(json!({})),
                "1.9.0": version(json!({"deprecated": "broken"})),
                "2.1.0": version(json!({})),
                "3.0.0": version(json!({})),
                "3.1.0": version(json!({"engines": {"node": ">=20"}})),
                "4.0.0-rc.1": version(json!({})),
                "odd": version(json!({})),
            }),
        );
        let choose = |wanted: &str| {
            let wanted = Wanted::parse(&format!("a@{wanted}")).expect(wanted);
            read.choose(&wanted.versions, &machine())
        };
        for (wanted, expected) in [
            ("", "2.1.0"),
            ("*", "2.1.0"),
            ("latest", "2.1.0"),
            ("next", "4.0.0-rc.1"),
            ("^1", "1.0.0"),
            ("1.9.0", "1.9.0"),
            (">=2.2", "3.0.0"),
            // As npm: what is for another Node is taken when nothing else will do, and told about.
            ("3.1.0", "3.1.0"),
        ] {
            let chosen = choose(wanted).expect(wanted);
            assert_eq!(chosen.to_string(), expected, "{wanted}");
        }
        for (wanted, reason) in [
            ("^9", "newest are 4.0.0-rc.1, 3.1.0"),
            ("moon", "no tag `moon`"),
        ] {
            let error = choose(wanted).expect_err(wanted);
            assert!(error.contains(reason), "{error}");
        }
        let newest = &read.versions[&"3.1.0".parse().expect("a version")];
        assert!(!newest.is_for(&machine()));
    }

    #[test]
    fn a_package_of_nothing_but_pre_releases_has_a_latest_version() {
        let read = packument(
            &json!({"latest": "1.0.0-rc.2"}),
            json!({"1.0.0-rc.1": version(json!({})), "1.0.0-rc.2": version(json!({}))}),
        );
        let any = Wanted::parse("a").expect("a name").versions;
        let chosen = read.choose(&any, &machine()).expect("a version");
        assert_eq!(chosen.to_string(), "1.0.0-rc.2");
    }

    #[test]
    fn what_a_version_needs_is_read_with_how_much() {
        let read = packument(
            &json!({}),
            json!({"1.0.0": version(json!({
                "dependencies": {"a": "^1", "b": "2", "inside": "1", "bad": "git+ssh://x"},
                "optionalDependencies": {"b": "2"},
                "peerDependencies": {"c": "*", "d": "*"},
                "peerDependenciesMeta": {"d": {"optional": true}},
                "bundleDependencies": ["inside"],
                "hasInstallScript": true,
            }))}),
        );
        let published = read
            .version(&"1.0.0".parse().expect("a version"))
            .expect("there");
        let shown = |need: &Need| {
            let what = need.what.as_ref().map_or_else(Clone::clone, Wanted::shown);
            (what, need.kind)
        };
        let needs: Vec<_> = published.needs.iter().map(shown).collect();
        assert_eq!(needs[0], ("a@^1".to_owned(), Kind::Needed));
        assert_eq!(needs[1], ("b@2".to_owned(), Kind::Optional));
        assert!(needs[2].0.contains("names a place"), "{needs:?}");
        assert_eq!(needs[3], ("c@*".to_owned(), Kind::Peer));
        assert_eq!(needs.len(), 4);
        assert!(published.has_script && published.checksum.is_some());
    }

    #[test]
    fn a_version_says_which_machines_it_is_for() {
        for (rest, fits) in [
            (json!({}), true),
            (
                json!({"os": ["linux"], "cpu": ["x64"], "libc": ["glibc"]}),
                true,
            ),
            (json!({"os": ["darwin"]}), false),
            (json!({"os": ["!win32"]}), true),
            (json!({"os": ["!linux"]}), false),
            (json!({"cpu": "arm64"}), false),
            (json!({"libc": ["musl"]}), false),
        ] {
            let read = published(&version(rest.clone()), &machine()).expect("a version");
            assert_eq!(read.fits, fits, "{rest}");
        }
    }

    #[test]
    fn what_is_bundled_is_not_looked_for() {
        for (bundled, expected) in [(json!(true), 1), (json!(["a", "b"]), 2), (json!(false), 4)] {
            let read = packument(
                &json!({}),
                json!({"1.0.0": version(json!({
                    "dependencies": {"a": "1", "b": "1", "c": "1"},
                    "peerDependencies": {"d": "1"},
                    "bundleDependencies": bundled,
                }))}),
            );
            let needs = &read.versions[&"1.0.0".parse().expect("a version")].needs;
            assert_eq!(needs.len(), expected, "{needs:?}");
        }
    }

    #[test]
    fn only_a_strong_checksum_counts() {
        for text in [
            "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
            "sha512-AAAA",
            "sha512-",
            "",
        ] {
            assert!(strongest(text).is_none(), "{text}");
        }
        let (long, short) = (STANDARD.encode([1; 64]), STANDARD.encode([2; 32]));
        let both = strongest(&format!("sha256-{short} sha512-{long}?x=y"));
        assert!(matches!(both, Some(Checksum::Sha512(bytes)) if *bytes == [1; 64]));
        let one = strongest(&format!("sha1-xx sha256-{short}"));
        assert!(matches!(one, Some(Checksum::Sha256(_))));
    }

    #[test]
    fn what_is_no_package_of_a_registry_is_refused_and_odd_versions_are_passed_by() {
        for text in [
            "",
            "null",
            "<html>",
            r#"{"versions": 3}"#,
            &"[".repeat(10_000),
        ] {
            let error = Packument::parse(text, "here", &machine()).expect_err("no package");
            assert!(error.to_string().contains("here"), "{error}");
        }
        let read = packument(
            &json!({"latest": "../1"}),
            json!({
                "1.0.0": version(json!({"dependencies": ["a"], "engines": "x", "scripts": 1,
                    "os": {"a": 1}, "peerDependenciesMeta": [], "bundleDependencies": {}})),
                "2.0.0": {"dist": 1},
                "3.0.0": {"dist": {"tarball": ["a"]}},
                "4.0.0": null,
            }),
        );
        let versions: Vec<String> = read.versions.keys().map(ToString::to_string).collect();
        assert_eq!(versions, ["1.0.0"]);
    }

    proptest! {
        #[test]
        fn no_metadata_panics(text in r#"[{}\[\]":,a-z@0-9./*^ -]{0,300}"#) {
            drop(Packument::parse(&text, "here", &machine()));
            let text = format!(r#"{{"versions": {{"1.0.0": {text}}}}}"#);
            drop(Packument::parse(&text, "here", &machine()));
        }
    }
}
