//! An image that was found: its configuration and its layers, each checked before it is used.
//!
//! The way: what a source begins with (an index, a manifest, the list of a Docker archive) -> the
//! manifest for this machine -> its configuration. Invariants: every part has the length and the sha256
//! that the part naming it says; a layer is handed out as bytes of a file that were checked.

use std::path::{Path, PathBuf};

use piston_client::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::archive::{Archive, Section};
use super::manifest::{
    self, Config, Descriptor, Document, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Platform,
};
use super::reference::{ImageSource, Reference};
use super::registry::Registry;
use super::{FromOci, OciError};
use crate::packages::files::AtPath as _;
use crate::packages::make::tar_reader::{MAX_FILE_BYTES, TarError};
use crate::packages::make::work::Work;

/// Indexes that lead to one another.
const MOST_NESTED: usize = 4;
/// Most bytes of all layers, packed.
const MAX_LAYERS_BYTES: u64 = 16 << 30;

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    /// What it is called in messages.
    pub(super) shown: String,
    /// Of its manifest; of its configuration where there is none.
    pub(super) digest: Digest,
    pub(super) config: Config,
    /// Lowest first, as many as the configuration has.
    pub(super) layers: Vec<Layer>,
    /// What it is called by those who made it, and their tag.
    pub(super) name: Option<String>,
    pub(super) tag: Option<String>,
    store: Store,
}

/// A layer, before anything of it is read.
#[derive(Debug, Clone)]
pub(super) enum Layer {
    Blob(Descriptor),
    /// A member of a Docker archive.
    Member(String),
}

/// Where parts come from.
#[derive(Debug)]
enum Store {
    Folder(PathBuf),
    Archive(Archive),
    Registry(Box<Registry>),
}

/// A kind of parts: registries have a place for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Manifest,
    Blob,
}

/// What an image is found by.
struct Search<'a> {
    shown: String,
    /// Which of several is meant.
    wanted: Option<String>,
    here: &'a Platform,
}

impl Image {
    /// Finds an image and reads all that describes it.
    pub(super) fn find(what: &FromOci, work: &Work) -> Result<Self, OciError> {
        let here = Platform::here();
        let mut search = Search {
            shown: what.shown.clone().unwrap_or_else(|| what.image.to_string()),
            wanted: None,
            here: &here,
        };
        match &what.image {
            ImageSource::Path(path) => {
                let (path, wanted) = named(path);
                search.wanted = wanted;
                let called = what.shown.as_deref().map_or(path.as_path(), Path::new);
                let stem = called.file_stem().map(|stem| stem.to_string_lossy());
                let stem = stem.map(|stem| stem.trim_end_matches(".tar").to_owned());
                let mut image = search.in_path(&path, work)?;
                image.name = image.name.or(stem);
                Ok(image)
            }
            ImageSource::Registry(reference) => {
                let mut registry = Registry::new(what, reference, &work.downloads)?;
                let top = registry.manifest(&reference.manifest())?;
                let digest = sha256(&top);
                if reference.digest().is_some_and(|wanted| *wanted != digest) {
                    let reason = format!("what the registry sent is sha256:{digest}");
                    return Err(OciError::image(reference, reason));
                }
                let store = Store::Registry(Box::new(registry));
                let mut image = search.in_document(store, &top)?;
                image.name = Some(reference.short_name().to_owned());
                image.tag = reference.tag().map(ToOwned::to_owned);
                Ok(image)
            }
        }
    }

    /// Begins to fetch the layers from this one on, where they have to be; they are taken in that order.
    pub(super) fn pull_from(&mut self, first: usize) {
        if let Store::Registry(registry) = &mut self.store {
            let layers = self.layers.iter().skip(first);
            let blobs = layers.map_while(|layer| match layer {
                // What is too long is refused when it is its turn.
                Layer::Blob(blob) if blob.size <= MAX_FILE_BYTES => Some(blob.clone()),
                _ => None,
            });
            registry.pull(blobs.collect());
        }
    }

    /// The bytes of a layer, of those that were begun the next.
    pub(super) fn layer(&mut self, number: usize) -> Result<Section, OciError> {
        match &self.layers[number] {
            Layer::Blob(descriptor) => {
                let descriptor = descriptor.clone();
                let label = self.label(number);
                self.store.blob(&self.shown, &label, &descriptor)
            }
            Layer::Member(name) => match &self.store {
                Store::Archive(archive) => archive.section(name).ok_or_else(|| OciError::Layer {
                    image: self.shown.clone(),
                    layer: self.label(number),
                    reason: "is not in it".to_owned(),
                }),
                _ => Err(OciError::image(&self.shown, "its layers have no place")),
            },
        }
    }

    /// Gives back the space of a layer that was downloaded and is not needed any more.
    pub(super) fn done(&self, section: &Section) -> Result<(), OciError> {
        if matches!(self.store, Store::Registry(_)) {
            std::fs::remove_file(&section.file).at("remove", &section.file)?;
        }
        Ok(())
    }

    /// What to tell of where it is from.
    pub(super) fn made_of(&self) -> String {
        format!("made of {}, sha256:{}", self.shown, self.digest)
    }

    /// What a layer is called in messages.
    pub(super) fn label(&self, number: usize) -> String {
        let place = number + 1;
        match self.layers.get(number) {
            Some(Layer::Blob(descriptor)) => {
                format!("layer {place} (sha256:{})", descriptor.digest)
            }
            Some(Layer::Member(name)) => {
                let name: String = name.chars().take(80).collect();
                format!("layer {place} ({name})")
            }
            None => format!("layer {place}"),
        }
    }
}

/// A path, and which of its images is meant, where something follows a colon that is not of the path.
fn named(path: &Path) -> (PathBuf, Option<String>) {
    let text = path.to_string_lossy();
    match text.rsplit_once(':') {
        Some((before, name)) if !path.exists() && Path::new(before).exists() => {
            (PathBuf::from(before), Some(name.to_owned()))
        }
        // `PATH:NAME:TAG`.
        Some((before, tag)) if !path.exists() => match before.rsplit_once(':') {
            Some((path, name)) if Path::new(path).exists() => {
                (PathBuf::from(path), Some(format!("{name}:{tag}")))
            }
            _ => (path.to_owned(), None),
        },
        _ => (path.to_owned(), None),
    }
}

impl Search<'_> {
    fn wrong(&self, reason: impl Into<String>) -> OciError {
        OciError::image(&self.shown, reason)
    }

    fn in_path(self, path: &Path, work: &Work) -> Result<Image, OciError> {
        const NEITHER: &str =
            "it is neither an image layout (index.json, blobs/) nor an archive of `docker save`";
        if path.is_dir() {
            let store = Store::Folder(path.to_owned());
            let index = Section::of_file(&path.join("index.json"));
            let index = index.ok_or_else(|| self.wrong(NEITHER))?;
            let index = self.small(&index, MAX_MANIFEST_BYTES)?;
            return self.in_document(store, &index);
        }
        let opened = Archive::open(path, &work.downloads.join("archive.tar"));
        let archive = opened.map_err(|error| match error {
            // Only the system's own words: those of the reader repeat what is in the file, which may
            // be any file of this machine.
            TarError::Damaged(error) => self.wrong(match error.raw_os_error() {
                Some(_) => format!("{NEITHER}: {error}"),
                None => NEITHER.to_owned(),
            }),
            TarError::Entry { entry, reason } => {
                self.wrong(format!("its member `{entry}` {reason}"))
            }
            TarError::Path(error) => error.into(),
        })?;
        if let Some(index) = archive.section("index.json") {
            let index = self.small(&index, MAX_MANIFEST_BYTES)?;
            return self.in_document(Store::Archive(archive), &index);
        }
        let list = archive.section("manifest.json");
        let list = list.ok_or_else(|| self.wrong(NEITHER))?;
        let list = self.small(&list, MAX_MANIFEST_BYTES)?;
        self.in_list(archive, &list)
    }

    /// From an index or a manifest to an image.
    fn in_document(mut self, mut store: Store, top: &[u8]) -> Result<Image, OciError> {
        let mut document = Document::parse(top).map_err(|reason| self.wrong(reason))?;
        let mut digest = sha256(top);
        let mut names = Vec::new();
        for _ in 0..=MOST_NESTED {
            match document {
                Document::Manifest { config, layers } => {
                    return self.in_manifest(store, (digest, &config, layers), &names);
                }
                Document::Index(list) => {
                    let wanted = self.wanted.take();
                    let chosen = manifest::choose(&list, wanted.as_deref(), self.here);
                    let chosen = chosen.map_err(|reason| self.wrong(reason))?;
                    let bytes =
                        store.small(&self.shown, Part::Manifest, chosen, MAX_MANIFEST_BYTES)?;
                    document = Document::parse(&bytes).map_err(|reason| self.wrong(reason))?;
                    digest = chosen.digest;
                    names.extend(chosen.names().iter().cloned());
                }
            }
        }
        Err(self.wrong("its indexes lead to indexes, over and over"))
    }

    fn in_manifest(
        self,
        mut store: Store,
        (digest, config, layers): (Digest, &Descriptor, Vec<Descriptor>),
        names: &[String],
    ) -> Result<Image, OciError> {
        let total = layers
            .iter()
            .try_fold(0_u64, |sum, one| sum.checked_add(one.size));
        if total.is_none_or(|total| total > MAX_LAYERS_BYTES) {
            return Err(self.wrong("its layers are over 16 GiB together"));
        }
        let bytes = store.small(&self.shown, Part::Blob, config, MAX_CONFIG_BYTES)?;
        let layers = layers.into_iter().map(Layer::Blob).collect();
        let (name, tag) = names
            .first()
            .map_or((None, None), |name| name_and_tag(name));
        self.described(store, &bytes, (digest, layers), (name, tag))
    }

    /// From the list of a Docker archive to an image.
    fn in_list(mut self, archive: Archive, list: &[u8]) -> Result<Image, OciError> {
        let list = manifest::saved(list).map_err(|reason| self.wrong(reason))?;
        let wanted = self.wanted.take();
        let saved = manifest::choose_saved(&list, wanted.as_deref());
        let saved = saved.map_err(|reason| self.wrong(reason))?;
        let config = archive.section(&saved.config);
        let config = config.ok_or_else(|| self.wrong("its configuration is not in it"))?;
        let bytes = self.small(&config, MAX_CONFIG_BYTES)?;
        let digest = sha256(&bytes);
        // The file is called as it has to hash.
        let named = saved.config.rsplit('/').next().unwrap_or_default();
        let named: Option<Digest> = named.trim_end_matches(".json").parse().ok();
        if named.is_some_and(|named| named != digest) {
            return Err(self.wrong(format!(
                "its configuration is not what its name says: sha256:{digest}"
            )));
        }
        let tag = saved.tags.iter().flatten().next();
        let names = tag.map_or((None, None), |tag| name_and_tag(tag));
        let layers = saved.layers.iter().cloned().map(Layer::Member).collect();
        self.described(Store::Archive(archive), &bytes, (digest, layers), names)
    }

    /// Reads the configuration, which has to be of this machine and of as many layers.
    fn described(
        self,
        store: Store,
        config: &[u8],
        (digest, layers): (Digest, Vec<Layer>),
        (name, tag): (Option<String>, Option<String>),
    ) -> Result<Image, OciError> {
        let config = Config::parse(config).map_err(|reason| self.wrong(reason))?;
        if !self.here.runs(&config.platform) {
            let (of, here) = (&config.platform, self.here);
            return Err(self.wrong(format!("it is for {of}; this machine is {here}")));
        }
        if layers.is_empty() {
            return Err(self.wrong("it has no layers"));
        }
        if config.layers.len() != layers.len() {
            let (has, says) = (layers.len(), config.layers.len());
            return Err(self.wrong(format!(
                "it has {has} layers, its configuration names {says}"
            )));
        }
        Ok(Image {
            shown: self.shown,
            digest,
            config,
            layers,
            name,
            tag,
            store,
        })
    }

    fn small(&self, section: &Section, limit: u64) -> Result<Vec<u8>, OciError> {
        if section.length > limit {
            let text = format!("a part that describes it is over {limit} bytes long");
            return Err(self.wrong(text));
        }
        Ok(section.read()?)
    }
}

impl Store {
    /// A small part, checked.
    fn small(
        &mut self,
        image: &str,
        part: Part,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, OciError> {
        let what = match part {
            Part::Manifest => "manifest",
            Part::Blob => "configuration",
        };
        let wrong = |reason: String| OciError::image(&image, format!("its {what} {reason}"));
        let Descriptor { digest, size, .. } = descriptor;
        if *size > limit {
            return Err(wrong(format!("is {size} bytes long, {limit} are the most")));
        }
        let bytes = if let Self::Registry(registry) = self {
            registry.small(part, descriptor)?
        } else {
            let section = self.section(digest);
            let section = section.ok_or_else(|| wrong(format!("sha256:{digest} is not there")))?;
            if section.length != *size {
                let length = section.length;
                return Err(wrong(format!("has {length} bytes, {size} are said")));
            }
            section.read()?
        };
        let (got, length) = (
            sha256(&bytes),
            u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        );
        if got != *digest || length != *size {
            return Err(wrong(format!(
                "is sha256:{got}, it should be sha256:{digest}"
            )));
        }
        Ok(bytes)
    }

    /// A layer, checked.
    fn blob(
        &mut self,
        image: &str,
        label: &str,
        descriptor: &Descriptor,
    ) -> Result<Section, OciError> {
        let wrong = |reason: String| OciError::Layer {
            image: image.to_owned(),
            layer: label.to_owned(),
            reason,
        };
        let Descriptor { digest, size, .. } = descriptor;
        let (section, got) = match self {
            _ if *size > MAX_FILE_BYTES => return Err(wrong("is over 8 GiB long".to_owned())),
            Self::Registry(registry) => {
                let file = registry.next_blob()?;
                let section = Section::of_file(&file);
                // It was hashed while it came.
                (section, Some(*digest))
            }
            _ => (self.section(digest), None),
        };
        let section = section.ok_or_else(|| wrong("is not there".to_owned()))?;
        if section.length != *size {
            let length = section.length;
            return Err(wrong(format!("has {length} bytes, {size} are said")));
        }
        let got = got.map_or_else(|| section.digest(), Ok)?;
        if got != *digest {
            return Err(wrong(format!("is sha256:{got}")));
        }
        Ok(section)
    }

    /// Where a blob lies on this machine.
    fn section(&self, digest: &Digest) -> Option<Section> {
        let name = format!("blobs/sha256/{digest}");
        match self {
            Self::Folder(folder) => Section::of_file(&folder.join(name)),
            Self::Archive(archive) => archive.section(&name),
            Self::Registry(_) => None,
        }
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// What `python:3.12`, or `3.12` alone, says of an image.
fn name_and_tag(text: &str) -> (Option<String>, Option<String>) {
    if !text.contains([':', '/']) {
        return (None, Some(text.to_owned()));
    }
    let reference: Option<Reference> = text.parse().ok();
    reference.map_or((None, None), |reference| {
        let name = reference.short_name().to_owned();
        (Some(name), reference.tag().map(ToOwned::to_owned))
    })
}

#[cfg(test)]
impl Image {
    /// An image of nothing, for what looks at its configuration only.
    pub(super) fn empty() -> Self {
        Self {
            shown: "/image".to_owned(),
            digest: sha256(b""),
            config: Config {
                platform: Platform::here(),
                env: Vec::new(),
                entrypoint: Vec::new(),
                cmd: Vec::new(),
                working_directory: String::new(),
                labels: std::collections::BTreeMap::new(),
                layers: Vec::new(),
            },
            layers: Vec::new(),
            name: None,
            tag: None,
            store: Store::Folder(PathBuf::new()),
        }
    }
}
