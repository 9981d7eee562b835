//! Installed packages, runtimes, making packages.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{Digest, Language, PackageRef, Version};
use crate::units::{Bytes, Millis};

use super::{CacheLevel, StageLimits};

/// One entry of `GET /packages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstalledPackage {
    /// Its name.
    pub language: Language,
    /// Its version.
    pub version: Version,
    /// `Full Name <email>` of who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Platform it was built for, e.g. `debian-x86_64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_platform: Option<String>,
    /// Digest of the image.
    pub image: Digest,
    /// Length of the image file.
    pub image_bytes: Bytes,
    /// Repository it came from; absent for uploads and packages made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Fingerprint of the key that signed it, where its repository's packages have to be signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Whether it was asked for by name rather than as a dependency.
    pub requested: bool,
    /// Where the view shows its image.
    pub mount: String,
    /// Path of its view in the filesystem.
    pub view: String,
    /// Packages of its view, lowest first, itself last.
    pub layers: Vec<PackageRef>,
    /// Installed packages that depend on it directly.
    pub dependents: Vec<PackageRef>,
    /// Languages that it runs.
    pub runtimes: Vec<Language>,
    /// Cache level of its jobs that say none.
    pub cache: CacheLevel,
    /// How long entries of its jobs last, where that was set for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_ttl_ms: Option<Millis>,
    /// Unix time of the installation, in seconds.
    pub installed_at: u64,
    /// Libraries that it adds to the package that it extends, e.g. `numpy==2.1.0`, `lodash@4.17.21`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<String>,
    /// Things worth knowing, e.g. files of unrelated dependencies that overlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Body of `PATCH /packages/{package}/{version}`: what the operator sets for a package. It wins over
/// the configuration and over what the package says, and goes with the package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PackagePatch {
    /// Cache level of jobs that say none.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub cache: Change<CacheLevel>,
    /// How long entries of its jobs last.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub cache_ttl_ms: Change<Millis>,
}

/// What becomes of a setting: absent, `null` or a value in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is taken back.
    Reset,
    /// It becomes this.
    Set(T),
}

impl<T> Change<T> {
    /// Whether nothing changes.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

/// A value, or null.
#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Change<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Change_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        <Option<T>>::json_schema(generator)
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Reset => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Option::<T>::deserialize(deserializer)?;
        Ok(given.map_or(Self::Reset, Self::Set))
    }
}

/// One entry of `GET /runtimes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Runtime {
    /// The language.
    pub language: Language,
    /// The version of the package that provides it.
    pub version: Version,
    /// Other names of the language.
    pub aliases: Vec<String>,
    /// The package that provides it.
    pub package: Language,
    /// Whether there is a compile stage.
    pub compiled: bool,
    /// The limits of its jobs, which a request may lower.
    #[serde(default)]
    pub limits: StageLimits,
}

/// Whether an installation did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InstallState {
    /// It is new (201).
    Installed,
    /// It was there already (200).
    AlreadyInstalled,
}

/// Reply of an installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InstallReply {
    /// The package that was asked for.
    pub package: PackageRef,
    /// Whether it is new.
    pub state: InstallState,
    /// What else was installed for it.
    pub dependencies: Vec<PackageRef>,
}

/// Reply of `DELETE /packages/{package}/{version}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UninstallReply {
    /// What was removed, dependents first.
    pub removed: Vec<PackageRef>,
}

/// Body of `POST /make`: make a package, of a kind that says which of the fields it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MakeRequest {
    /// What to make it from.
    pub from: MakeKind,
    /// [`MakeKind::Host`]: the language, e.g. `python`, `bash`, `gcc`, `base`.
    /// [`MakeKind::Debian`]: what to call the package, instead of what the first of `packages` is called.
    /// [`MakeKind::Extend`]: what to call the package and the language that it runs, instead of after
    /// what is added, running the languages of the package that is extended.
    /// [`MakeKind::Oci`]: what to call the package, instead of what the image is called.
    /// [`MakeKind::PistonV2`]: which package of the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Language>,
    /// [`MakeKind::Host`]: program to start from instead of the one on the daemon's `PATH`, e.g.
    /// `/usr/bin/python3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// [`MakeKind::Debian`]: a language that the daemon has a recipe for, or names of Debian
    /// packages, or `base`, which all of them depend on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// [`MakeKind::Debian`], [`MakeKind::Oci`]: how the package runs a program, e.g. `/usr/bin/lua5.4
    /// {main} {args}`. Of an image a program may stand without its path; without `run` its own command
    /// is given the program's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// [`MakeKind::Recipe`]: the recipe's files by name: `recipe.toml`, and the scripts `run` and
    /// `compile` where it has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// [`MakeKind::Extend`]: the language or package that is extended, which is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// [`MakeKind::Extend`]: its version or a range of them; the newest when there is none.
    /// [`MakeKind::Oci`]: the version of the package, instead of what the image says.
    /// [`MakeKind::PistonV2`]: which of its versions in the index, or a range; the newest when there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// [`MakeKind::Extend`]: Python libraries as requirements, e.g. `numpy` or `pandas>=2,<3`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pip: Vec<String>,
    /// [`MakeKind::Extend`]: URL of the Python index that they come from, instead of the configured
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// [`MakeKind::Oci`]: the image: its name at a registry (`python:3.12`, `ghcr.io/owner/name`,
    /// `localhost:5000/name@sha256:...`), or the absolute path of an image layout or of an archive
    /// (`docker save`) on the daemon's machine, followed by `:NAME` where that holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// [`MakeKind::Oci`]: how the package compiles, e.g. `gcc {files}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<String>,
    /// [`MakeKind::Oci`]: other names of the language.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// [`MakeKind::Oci`]: make a package of each layer, on which the image's own stands, so that images
    /// with the same layers below share those. They can be installed only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layers: bool,
    /// [`MakeKind::Oci`]: user of the registry, instead of those in the daemon's file of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// [`MakeKind::Oci`]: that user's password, or a token in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// [`MakeKind::PistonV2`]: a `pkg.tar.gz` by its absolute path on the daemon's machine, or the path or
    /// URL of an index of such files (`language,version,checksum,url`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// [`MakeKind::PistonV2`]: the package that stands for the system that its scripts expect; `debian-base`
    /// when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Language>,
    /// [`MakeKind::Extend`]: JavaScript libraries, e.g. `lodash` or `@types/node@^18`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub npm: Vec<String>,
    /// [`MakeKind::Extend`]: URL of the registry that they come from, instead of the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Install what was made (the default), or reply with the package file itself
    /// (`application/gzip`), without what it depends on.
    #[serde(default = "yes")]
    pub install: bool,
}

impl MakeRequest {
    /// Makes and installs `name` from what the daemon's host has.
    pub fn host(name: Language) -> Self {
        Self {
            name: Some(name),
            ..Self::of(MakeKind::Host)
        }
    }

    /// Makes and installs a package of Debian's packages, or a language that there is a recipe for.
    pub fn debian(packages: Vec<String>) -> Self {
        Self {
            packages,
            ..Self::of(MakeKind::Debian)
        }
    }

    /// Makes and installs what a recipe describes, given its files by name.
    pub fn recipe(files: BTreeMap<String, String>) -> Self {
        Self {
            files,
            ..Self::of(MakeKind::Recipe)
        }
    }

    /// Makes and installs a package that adds libraries to the newest installed one of a language;
    /// which ones is to be filled in.
    pub fn extend(extends: String) -> Self {
        Self {
            extends: Some(extends),
            ..Self::of(MakeKind::Extend)
        }
    }

    /// Makes and installs a package of an image.
    pub fn oci(image: String) -> Self {
        Self {
            image: Some(image),
            ..Self::of(MakeKind::Oci)
        }
    }

    /// Converts and installs a package of the released Piston.
    pub fn piston_v2(source: String) -> Self {
        Self {
            source: Some(source),
            ..Self::of(MakeKind::PistonV2)
        }
    }

    /// Of a kind, with nothing else said.
    pub fn of(from: MakeKind) -> Self {
        Self {
            from,
            name: None,
            program: None,
            packages: Vec::new(),
            run: None,
            files: BTreeMap::new(),
            extends: None,
            version: None,
            pip: Vec::new(),
            index: None,
            image: None,
            compile: None,
            aliases: Vec::new(),
            layers: false,
            username: None,
            password: None,
            source: None,
            base: None,
            npm: Vec::new(),
            registry: None,
            install: true,
        }
    }
}

fn yes() -> bool {
    true
}

/// A source that packages are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum MakeKind {
    /// The interpreters and libraries of the daemon's host.
    Host,
    /// Debian's packages, from the sources that the daemon's host has.
    Debian,
    /// Debian's packages, or an image, as a recipe says.
    Recipe,
    /// An installed package, to which libraries are added.
    Extend,
    /// An image as container engines run them.
    Oci,
    /// A package of the released Piston.
    #[serde(rename = "piston_v2")]
    PistonV2,
}

impl MakeKind {
    /// As requests have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Debian => "debian",
            Self::Recipe => "recipe",
            Self::Extend => "extend",
            Self::Oci => "oci",
            Self::PistonV2 => "piston_v2",
        }
    }
}

/// Reply of `POST /make`, which installs what it made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MakeReply {
    /// The package that was asked for.
    pub package: PackageRef,
    /// Every package that was made and installed for it, dependencies first, itself last.
    pub installed: Vec<PackageRef>,
    /// What is worth knowing of it: what was left out and why, what was added; a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Reply of `POST /packages/{package}/{version}/verify`: whether what is on the disk is what was
/// installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerifyReply {
    /// Which package.
    pub package: PackageRef,
    /// Digest that its image has to have.
    pub image: Digest,
    /// Length of the image file, as installed.
    pub image_bytes: Bytes,
    /// What is wrong, a sentence each; none when all is well.
    pub problems: Vec<String>,
    /// What was wrong and is mended, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
