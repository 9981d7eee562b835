//! Views: which layers a package's merged root directory is made of, and publishing them.
//!
//! From the bottom: names that a sandbox may mount files on where no image has them; the images of the dependency closure in topological order, the package's own
//! on top, the scripts of each, and last the frame: the directories that a sandbox mounts over.
//! The frame is on top so that no image can put a symlink in their place. Invariant: equal images
//! and scripts are shared by all views, so that a file has one node. Knows nothing of jobs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use piston_client::ids::{Digest, PackageRef};
use piston_fs::image::{Image, ImageError};
use piston_fs::layer::memory::MemoryTree;
use piston_fs::layer::{Layer, Placed};
use piston_fs::mount::{MountError, Server};

use super::info::{self, PackageInfo};
use crate::store::records::PackageRecord;

/// Directories that a sandbox mounts over.
const FRAME: [&str; 4] = ["/proc", "/dev", "/tmp", "/piston/job"];

/// A file that a sandbox may mount the host's on; empty, and any image's own wins.
const PLACE_OF_FILE: &str = "/etc/resolv.conf";

/// Where views and packages are shown. The mounted server, or a recorder in tests.
pub(crate) trait Publish: Send + Sync + std::fmt::Debug {
    /// As [`Server::publish`].
    fn publish(&self, path: &str, layers: &[Placed]) -> Result<Vec<String>, MountError>;
    /// As [`Server::unpublish`].
    fn unpublish(&self, path: &str) -> Result<(), MountError>;
}

impl Publish for Server {
    fn publish(&self, path: &str, layers: &[Placed]) -> Result<Vec<String>, MountError> {
        Self::publish(self, path, layers)
    }

    fn unpublish(&self, path: &str) -> Result<(), MountError> {
        Self::unpublish(self, path)
    }
}

/// One package of a view, with what it contributes.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Its image.
    pub(crate) image: Arc<Image>,
    /// Where the image sits.
    pub(crate) mount: String,
    /// Its scripts.
    pub(crate) scripts: Option<Arc<MemoryTree>>,
}

/// Open images and synthetic trees, shared by all views.
#[derive(Debug)]
pub(crate) struct Layers {
    frame: Arc<MemoryTree>,
    places: Arc<MemoryTree>,
    images: Mutex<HashMap<Digest, Weak<Image>>>,
    scripts: Mutex<HashMap<PackageRef, Weak<MemoryTree>>>,
}

impl Layers {
    /// None open yet.
    pub(crate) fn new() -> Self {
        let mut frame = MemoryTree::default();
        for directory in FRAME {
            frame.directory(directory);
        }
        let mut places = MemoryTree::default();
        places.file(PLACE_OF_FILE, 0o644, Vec::new());
        Self {
            frame: Arc::new(frame),
            places: Arc::new(places),
            images: Mutex::default(),
            scripts: Mutex::default(),
        }
    }

    /// What a package contributes; its image is opened when no view has it open. The files are the
    /// image, its index and its hot list.
    pub(crate) fn part(
        &self,
        record: &PackageRecord,
        info: &PackageInfo,
        files: &[PathBuf; 3],
    ) -> Result<Part, ImageError> {
        Ok(Part {
            image: self.image(&record.image, files)?,
            mount: info.mount.clone(),
            scripts: self.scripts(record),
        })
    }

    /// An installed image.
    fn image(&self, digest: &Digest, files: &[PathBuf; 3]) -> Result<Arc<Image>, ImageError> {
        let [image, index, hot_list] = files;
        let shared = |images: &HashMap<Digest, Weak<Image>>| images.get(digest)?.upgrade();
        let lock = || self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = shared(&lock()) {
            return Ok(open);
        }
        // Opened without the lock: packages are opened in parallel at the start.
        let opened = Image::open(image, index)?.with_hot_list(hot_list.clone());
        let opened = Arc::new(opened);
        let mut images = lock();
        if let Some(open) = shared(&images) {
            return Ok(open);
        }
        images.retain(|_, image| image.strong_count() > 0);
        images.insert(*digest, Arc::downgrade(&opened));
        Ok(opened)
    }

    fn scripts(&self, record: &PackageRecord) -> Option<Arc<MemoryTree>> {
        let scripts = [("run", &record.run), ("compile", &record.compile)];
        if scripts.iter().all(|(_, bytes)| bytes.is_none()) {
            return None;
        }
        let mut shared = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = shared.get(&record.package).and_then(Weak::upgrade) {
            return Some(tree);
        }
        let mut tree = MemoryTree::default();
        let directory = info::directory(&record.package);
        for (name, bytes) in scripts {
            if let Some(bytes) = bytes {
                tree.file(&format!("{directory}/{name}"), 0o755, bytes.clone());
            }
        }
        let tree = Arc::new(tree);
        shared.retain(|_, tree| tree.strong_count() > 0);
        shared.insert(record.package.clone(), Arc::downgrade(&tree));
        Some(tree)
    }

    /// The layers of a view, lowest first; `parts` in topological order, the package itself last.
    pub(crate) fn view(&self, parts: &[Part]) -> Vec<Placed> {
        let images = parts.iter().map(|part| Placed {
            layer: Layer::Image(Arc::clone(&part.image)),
            at: part.mount.clone(),
        });
        let memory = |tree: &Arc<MemoryTree>| Placed {
            layer: Layer::Memory(Arc::clone(tree)),
            at: "/".to_owned(),
        };
        let scripts = parts.iter().filter_map(|part| part.scripts.as_ref());
        std::iter::once(memory(&self.places))
            .chain(images)
            .chain(scripts.map(memory))
            .chain(std::iter::once(memory(&self.frame)))
            .collect()
    }

    /// The one layer of a package's own tree.
    pub(crate) fn alone(part: &Part) -> Vec<Placed> {
        vec![Placed {
            layer: Layer::Image(Arc::clone(&part.image)),
            at: "/".to_owned(),
        }]
    }
}

/// Where a package's view is shown.
pub(crate) fn view_path(package: &PackageRef) -> String {
    format!("views/{}/{}", package.language, package.version)
}

/// Where a package's image alone is shown.
pub(crate) fn package_path(package: &PackageRef) -> String {
    format!("packages/{}/{}", package.language, package.version)
}
