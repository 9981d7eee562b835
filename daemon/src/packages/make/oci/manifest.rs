//! Manifests, indexes and configurations of images, as the OCI and Docker write them.
//!
//! Invariants: a digest is a sha256, a length a number of bytes; a document that is both an index and
//! a manifest is refused, because readers would differ in what it is; a manifest lists layers of root
//! filesystems and nothing else. Reads bytes that somebody else has checked.

use std::collections::BTreeMap;

use piston_client::ids::Digest;
use serde::Deserialize;

/// Longest manifest or index; registries refuse longer ones as well.
pub(super) const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Longest configuration.
pub(super) const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// Most layers; docker stops at 127.
const MOST_LAYERS: usize = 512;
/// Most entries of an index.
const MOST_MANIFESTS: usize = 1000;
/// What manifests may be; sent to registries.
pub(super) const KINDS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Kinds of configurations that images of root filesystems have.
const CONFIGS: [&str; 3] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    "",
];
/// How images are called in an index.
const NAMES: [&str; 2] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
];

/// A part of an image: what it is, and what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) kind: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    platform: Option<Platform>,
    names: Vec<String>,
}

/// What an image runs on, in Go's words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    variant: String,
}

/// A document that describes images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    /// Several, mostly the same for several platforms.
    Index(Vec<Descriptor>),
    /// One.
    Manifest {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

/// What of an image's configuration is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) platform: Platform,
    pub(super) env: Vec<String>,
    pub(super) entrypoint: Vec<String>,
    pub(super) cmd: Vec<String>,
    pub(super) working_directory: String,
    pub(super) labels: BTreeMap<String, String>,
    /// What each layer has to be, unpacked.
    pub(super) layers: Vec<Digest>,
}

/// An image of a Docker archive, by names of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Saved {
    #[serde(rename = "Config")]
    pub(super) config: String,
    #[serde(rename = "RepoTags", default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    pub(super) layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u64,
    manifests: Option<Vec<RawDescriptor>>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(flatten)]
    platform: Platform,
    config: Option<RawRun>,
    rootfs: RawRoot,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawRoot {
    diff_ids: Vec<String>,
}

/// A sha256 as images have it.
pub(super) fn digest(text: &str) -> Result<Digest, String> {
    let hex = text.strip_prefix("sha256:");
    let digest = hex.and_then(|hex| hex.parse().ok());
    let shown: String = text.chars().take(80).collect();
    digest.ok_or_else(|| format!("`{shown}` is no sha256 digest, the only kind that is taken"))
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, String> {
    // The texts of serde may repeat what is in the file, which may be any file of this machine.
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            format!("{what} lacks something, or has it as what it is not")
        }
        _ => format!("{what} is no JSON"),
    })
}

impl Descriptor {
    /// How it is called in its index.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor, String> {
        let annotations = self.annotations.unwrap_or_default();
        let names = NAMES.iter().filter_map(|name| annotations.get(*name));
        Ok(Descriptor {
            kind: self.media_type,
            digest: digest(&self.digest)?,
            size: self.size,
            platform: self.platform,
            names: names.cloned().collect(),
        })
    }
}

impl Document {
    /// Reads an index or a manifest.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: RawDocument = json(bytes, "its manifest")?;
        if raw.schema_version != 2 {
            return Err(format!(
                "its manifest is of version {}, which nobody has written for years; 2 is understood",
                raw.schema_version
            ));
        }
        let descriptors = |raw: Vec<RawDescriptor>| -> Result<Vec<Descriptor>, String> {
            raw.into_iter().map(RawDescriptor::check).collect()
        };
        match (raw.manifests, raw.config, raw.layers) {
            (Some(list), None, None) if list.len() <= MOST_MANIFESTS => {
                Ok(Self::Index(descriptors(list)?))
            }
            (Some(_), None, None) => Err("its index lists over 1000 manifests".to_owned()),
            (None, Some(config), Some(layers)) => {
                let (config, layers) = (config.check()?, descriptors(layers)?);
                is_of_root_filesystem(&config, &layers)?;
                Ok(Self::Manifest { config, layers })
            }
            (Some(_), ..) => Err("its manifest is an index as well".to_owned()),
            _ => Err("its manifest lists neither layers nor manifests".to_owned()),
        }
    }
}

/// Whether a manifest is of what programs can run in: others list charts, modules, signatures.
fn is_of_root_filesystem(config: &Descriptor, layers: &[Descriptor]) -> Result<(), String> {
    if !CONFIGS.contains(&config.kind.as_str()) {
        return Err(format!(
            "it is no image of a system but of `{}`",
            short(&config.kind)
        ));
    }
    if layers.len() > MOST_LAYERS {
        return Err(format!(
            "it has {} layers, {MOST_LAYERS} are the most",
            layers.len()
        ));
    }
    for layer in layers {
        let kind = &layer.kind;
        let base = kind.split('+').next().unwrap_or_default();
        let packed = kind.split_once('+').map_or("", |(_, packed)| packed);
        let ending = base.rsplit('.').next();
        let is_tar = base.is_empty() || ending == Some("tar") || base.ends_with(".tar.gzip");
        if !is_tar || !matches!(packed, "" | "gzip" | "zstd") {
            return Err(format!(
                "its layer sha256:{} is of the kind `{}`",
                layer.digest,
                short(kind)
            ));
        }
        if kind.contains("foreign") || kind.contains("nondistributable") {
            return Err(format!(
                "its layer sha256:{} is not to be had from here",
                layer.digest
            ));
        }
    }
    Ok(())
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

impl Platform {
    /// This machine's.
    pub(super) fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: std::env::consts::OS.to_owned(),
            variant: String::new(),
        }
    }

    /// Whether programs of the other one run here.
    pub(super) fn runs(&self, other: &Self) -> bool {
        self.architecture == other.architecture && self.os == other.os
    }

    /// The lower, the more machines of the architecture run it.
    fn rank(&self) -> usize {
        let common = ["", "v1", "v8", "v2", "v7", "v3"];
        let place = common.iter().position(|variant| *variant == self.variant);
        place.unwrap_or(common.len())
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", short(&self.os), short(&self.architecture))
    }
}

/// The entry of an index that is meant: the one of that name where one is given, for this machine.
pub(super) fn choose<'a>(
    list: &'a [Descriptor],
    name: Option<&str>,
    here: &Platform,
) -> Result<&'a Descriptor, String> {
    let is_named = |one: &&Descriptor| {
        let ends = |full: &String| {
            let rest = name.and_then(|name| full.strip_suffix(name));
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with([':', '/']))
        };
        name.is_none() || one.names.iter().any(ends)
    };
    let named: Vec<&Descriptor> = list.iter().filter(is_named).collect();
    if named.is_empty() {
        return Err(match name {
            Some(_) => format!("no image of it has that name; it has {}", names(list)),
            None => "its index is empty".to_owned(),
        });
    }
    let fits = |one: &&&Descriptor| one.platform.as_ref().is_some_and(|p| here.runs(p));
    let mut fitting: Vec<&Descriptor> = named.iter().filter(fits).copied().collect();
    if fitting.is_empty() {
        fitting = named
            .iter()
            .filter(|one| one.platform.is_none())
            .copied()
            .collect();
    }
    let rank = |one: &&Descriptor| one.platform.as_ref().map_or(0, Platform::rank);
    let Some(first) = fitting.iter().min_by_key(|one| rank(one)) else {
        let platforms = named.iter().filter_map(|one| one.platform.as_ref());
        let platforms: Vec<String> = platforms.map(ToString::to_string).collect();
        return Err(format!(
            "it is for {}; this machine is {here}",
            platforms.join(", ")
        ));
    };
    let other = |one: &&Descriptor| one.digest != first.digest && one.names != first.names;
    if name.is_none() && fitting.iter().any(other) {
        return Err(format!("it holds several images: {}", names(list)));
    }
    Ok(first)
}

fn names(list: &[Descriptor]) -> String {
    let names = list.iter().flat_map(|one| &one.names).take(20);
    let names: Vec<String> = names.map(|name| format!("`{}`", short(name))).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl Config {
    /// Reads a configuration.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: RawConfig = json(bytes, "its configuration")?;
        let run = raw.config.unwrap_or_default();
        if raw.rootfs.diff_ids.len() > MOST_LAYERS {
            return Err(format!("its configuration lists over {MOST_LAYERS} layers"));
        }
        let layers = raw.rootfs.diff_ids.iter().map(|text| digest(text));
        Ok(Self {
            platform: raw.platform,
            env: run.env.unwrap_or_default(),
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            working_directory: run.working_dir.unwrap_or_default(),
            labels: run.labels.unwrap_or_default(),
            layers: layers.collect::<Result<_, _>>()?,
        })
    }
}

/// Reads the list of images of a Docker archive.
pub(super) fn saved(bytes: &[u8]) -> Result<Vec<Saved>, String> {
    let list: Vec<Saved> = json(bytes, "its manifest.json")?;
    if list.iter().any(|image| image.layers.len() > MOST_LAYERS) {
        return Err(format!("it has over {MOST_LAYERS} layers"));
    }
    Ok(list)
}

/// The image of a Docker archive that is meant.
pub(super) fn choose_saved<'a>(list: &'a [Saved], name: Option<&str>) -> Result<&'a Saved, String> {
    let is_named = |image: &&Saved| {
        name.is_none_or(|name| {
            tags(image).any(|tag| tag == name || tag.rsplit([':', '/']).next() == Some(name))
        })
    };
    let all = || {
        let all: Vec<String> = list.iter().flat_map(tags).take(20).map(short).collect();
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        }
    };
    let mut fitting = list.iter().filter(is_named);
    match (fitting.next(), fitting.next()) {
        (Some(image), None) => Ok(image),
        (Some(_), Some(_)) => Err(format!("it holds several images: {}", all())),
        (None, _) => Err(format!("no image of it has that name; it has {}", all())),
    }
}

fn tags(image: &Saved) -> impl Iterator<Item = &str> {
    image.tags.iter().flatten().map(String::as_str)
}

#[cfg(test)]
mod tests;
