//! The package that is extended: its metadata, how it starts, and the images of its view.
//!
//! The daemon writes it down for the child that makes the extension; without a daemon it is read
//! from package files, whose images are checked first. What is in the images others look at.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use piston_fs::image::{Image, ImageError, verify};
use piston_fs::layer::{Layer, Placed};
use piston_fs::tree::ViewTree;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::super::archive;
use super::super::super::files::{self, AtPath as _};
use super::super::super::info::PackageInfo;
use super::super::super::installed::Entry;
use super::ExtendError;

/// Longest target that is read.
const MAX_TARGET_BYTES: u64 = 64 << 20;

/// A package that is to be extended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// Its `pkg-info.json`.
    pub info: Map<String, Value>,
    /// Argv by which its `run` is started, with placeholders; none when it runs nothing.
    pub run: Option<Vec<String>>,
    /// The same for `compile`.
    pub compile: Option<Vec<String>>,
    /// The images of its view, lowest first, its own last.
    pub layers: Vec<TargetLayer>,
}

/// An image of a view.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetLayer {
    /// The image.
    pub image: PathBuf,
    /// Its index.
    pub index: PathBuf,
    /// Where it sits in the view.
    pub mount: String,
}

impl TargetLayer {
    /// The image, opened, where it sits.
    pub(in super::super) fn placed(&self) -> Result<Placed, ImageError> {
        let image = Image::open(&self.image, &self.index)?;
        Ok(Placed {
            layer: Layer::Image(Arc::new(image)),
            at: self.mount.clone(),
        })
    }
}

impl Target {
    /// Reads what the daemon wrote down.
    pub fn read(path: &Path) -> Result<Self, ExtendError> {
        let bytes = files::read_bounded(path, MAX_TARGET_BYTES)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ExtendError::file(&path.display().to_string(), error.to_string()))
    }

    /// Reads package files: the one that is extended, and those that it depends on, lowest first.
    /// Their images are unpacked into `work`, and checked.
    pub fn of_files(package: &Path, below: &[PathBuf], work: &Path) -> Result<Self, ExtendError> {
        let mut layers = Vec::new();
        let mut target = None;
        for (number, file) in below
            .iter()
            .map(PathBuf::as_path)
            .chain([package])
            .enumerate()
        {
            let folder = work.join(format!("layer-{number}"));
            fs::create_dir_all(&folder).at("create", &folder)?;
            let contents = archive::read(file, &folder)?;
            let index = folder.join("index");
            let bounds = verify::Bounds::default();
            verify::verify(&contents.image, &index, &bounds).map_err(|error| {
                ExtendError::file(&file.display().to_string(), crate::error::chain(&error))
            })?;
            layers.push(TargetLayer {
                image: contents.image.clone(),
                index,
                mount: contents.info.mount.clone(),
            });
            target = Some(contents);
        }
        let Some(contents) = target else {
            return Err(ExtendError::file("the package", "it names no file"));
        };
        let (package, info, scripts) = (&contents.info.package, &contents.info, &contents.scripts);
        let run = Entry::of(package, "run", info.run.as_ref(), scripts.run.as_ref());
        let compile = Entry::of(
            package,
            "compile",
            info.compile.as_ref(),
            scripts.compile.as_ref(),
        );
        Self::new(&contents.info_json, run.as_ref(), compile.as_ref(), layers)
    }

    /// A package by its metadata, what starts it, and the layers of its view, its own last.
    pub fn new(
        info: &[u8],
        run: Option<&Entry>,
        compile: Option<&Entry>,
        layers: Vec<TargetLayer>,
    ) -> Result<Self, ExtendError> {
        let info = serde_json::from_slice(info)
            .map_err(|error| ExtendError::file("pkg-info.json", error.to_string()))?;
        Ok(Self {
            info,
            run: run.map(|entry| template(entry, &["{main}", "{args}"])),
            compile: compile.map(|entry| template(entry, &["{files}"])),
            layers,
        })
    }

    /// The files of its view.
    pub(super) fn tree(&self) -> Result<ViewTree, ExtendError> {
        let placed = self.layers.iter().map(TargetLayer::placed);
        let placed = placed.collect::<Result<Vec<_>, _>>()?;
        ViewTree::merge(&placed).map_err(|error| ExtendError::file("the view", error.to_string()))
    }

    /// Its metadata, checked.
    pub(super) fn package_info(&self) -> Result<PackageInfo, ExtendError> {
        let refused =
            |reason: String| ExtendError::file("the metadata of the package to extend", reason);
        let bytes = serde_json::to_vec(&self.info).map_err(|error| refused(error.to_string()))?;
        PackageInfo::parse(&bytes).map_err(|error| refused(error.to_string()))
    }
}

/// Argv that starts an entry from another package's view, which shows it at the same place.
fn template(entry: &Entry, rest: &[&str]) -> Vec<String> {
    let script = |start: &[&str]| {
        [start, rest]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    match entry {
        Entry::Command(argv) => argv.clone(),
        Entry::Script(path) => script(&[path]),
        Entry::BashScript(path) => script(&["/bin/bash", path]),
    }
}
