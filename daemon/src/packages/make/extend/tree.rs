//! The merged tree of a package's images, read without mounting anything.
//!
//! Invariants: an upper layer's file hides a lower one's, directories merge; symlinks are followed
//! inside of the tree only, and not for ever; what is read into memory is bounded. Knows nothing of
//! packages.
//!
//! What this does not do: whiteouts, which no maker writes; a file that one hides is seen here.

use std::collections::{BTreeSet, VecDeque};

use piston_fs::image::{Image, ImageError, ImageNode};
use piston_fs::node::Kind;

use super::target::TargetLayer;

/// Symlinks that are followed on one path, as in the kernel.
const MAX_LINKS: usize = 40;
/// The root of each image.
const ROOT: ImageNode = ImageNode(0);

/// The images of a view.
#[derive(Debug)]
pub(super) struct Tree {
    /// Highest first, each with the names that lead to where it sits.
    layers: Vec<(Image, Vec<String>)>,
}

/// What is at a path.
enum Found {
    Directory,
    File(usize, ImageNode),
    Symlink(String),
    Other,
}

impl Tree {
    /// Opens images, given lowest first.
    pub(super) fn open(layers: &[TargetLayer]) -> Result<Self, ImageError> {
        let open = |layer: &TargetLayer| {
            let image = Image::open(&layer.image, &layer.index)?;
            Ok((image, names(&layer.mount)))
        };
        let layers: Result<Vec<_>, ImageError> = layers.iter().rev().map(open).collect();
        Ok(Self { layers: layers? })
    }

    /// The bytes of a regular file, when there is one that is not longer than `limit`.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some((_, Found::File(layer, node))) = self.resolve(path) else {
            return Ok(None);
        };
        let image = &self.layers[layer].0;
        if image.attr(node).size > limit {
            return Ok(None);
        }
        let (mut bytes, mut block) = (Vec::new(), Vec::new());
        let mut offset = 0;
        while let Some(extent) = image.extent(node, offset) {
            image.read_block(&extent.block, &mut block)?;
            let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
            let (skip, len) = (place(extent.skip), place(extent.len));
            let stretch = block.get(skip..skip.saturating_add(len));
            bytes.extend_from_slice(stretch.unwrap_or_default());
            offset += u64::from(extent.len);
        }
        Ok(Some(bytes))
    }

    /// Whether there is a regular file.
    pub(super) fn has_file(&self, path: &str) -> bool {
        matches!(self.resolve(path), Some((_, Found::File(..))))
    }

    /// Names in a directory, sorted; none when it is no directory. Those that are no text are left
    /// out.
    pub(super) fn list(&self, path: &str) -> BTreeSet<String> {
        let Some((at, Found::Directory)) = self.resolve(path) else {
            return BTreeSet::new();
        };
        let mut found = BTreeSet::new();
        for (image, mount) in &self.layers {
            let below = mount.strip_prefix(at.as_slice()).and_then(<[_]>::first);
            if let Some(next) = below {
                found.insert(next.clone());
                continue;
            }
            let Some(inside) = at.strip_prefix(mount.as_slice()) else {
                continue;
            };
            match walk(image, inside) {
                Some(node) if image.attr(node).kind == Kind::Directory => {
                    let names = image.entries(node).map(|(name, _)| name);
                    let names = names.filter_map(|name| std::str::from_utf8(name).ok());
                    found.extend(names.map(ToOwned::to_owned));
                }
                Some(_) => break,
                None => {}
            }
        }
        found
    }

    /// Where a path leads and what is there.
    fn resolve(&self, path: &str) -> Option<(Vec<String>, Found)> {
        let mut left: VecDeque<String> = names(path).into();
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        let mut found = Found::Directory;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                at.pop();
                found = Found::Directory;
                continue;
            }
            at.push(name);
            found = self.exact(&at)?;
            if let Found::Symlink(target) = &found {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                at.pop();
                if target.starts_with('/') {
                    at.clear();
                }
                for name in names(target).into_iter().rev() {
                    left.push_front(name);
                }
                found = Found::Directory;
            }
        }
        Some((at, found))
    }

    /// What is at a path whose parents are no symlinks.
    fn exact(&self, path: &[String]) -> Option<Found> {
        for (number, (image, mount)) in self.layers.iter().enumerate() {
            if mount.len() > path.len() && mount.starts_with(path) {
                return Some(Found::Directory);
            }
            let inside = path.strip_prefix(mount.as_slice());
            let Some(node) = inside.and_then(|inside| walk(image, inside)) else {
                continue;
            };
            return Some(match image.attr(node).kind {
                Kind::Directory => Found::Directory,
                Kind::File { .. } => Found::File(number, node),
                Kind::Symlink => {
                    Found::Symlink(String::from_utf8_lossy(image.symlink(node)).into_owned())
                }
                _ => Found::Other,
            });
        }
        None
    }
}

/// Follows names from the root of an image; symlinks lead nowhere.
fn walk(image: &Image, names: &[String]) -> Option<ImageNode> {
    let mut node = ROOT;
    for name in names {
        node = image
            .entries(node)
            .find(|(entry, _)| *entry == name.as_bytes())?
            .1;
    }
    Some(node)
}

/// The names in a path.
fn names(path: &str) -> Vec<String> {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.map(ToOwned::to_owned).collect()
}
