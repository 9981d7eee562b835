//! The files of a view, read without a mount: for who looks into a package rather than runs it.
//!
//! Layers are merged by the rules of what is mounted (`view.rs`), whiteouts included. Symlinks are
//! followed inside of the tree only, and not for ever. Keeps nothing: each read inflates the blocks
//! of its file, and who asks bounds its length.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::image::ImageError;
use crate::layer::{Contents, Listing as _, Placed};
use crate::node::Kind;
use crate::view::{self, Child, DirIndex, LayerNode, PlacedListing, View};

/// Symlinks that are followed on one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// The merged files of layers.
#[derive(Debug)]
pub struct ViewTree {
    view: View<Contents>,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeEntry<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Whether anybody may execute it.
        executable: bool,
    },
    /// A symlink, and where it leads.
    Symlink(&'a str),
}

/// Why layers make no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A layer's place is malformed.
    #[error("a layer can't sit at {0:?}: not an absolute path without `.`, `..` and empty names")]
    Place(String),
    /// The tables count in 32 bits.
    #[error("the merged tree has more than 4 billion entries")]
    TooLarge,
}

impl ViewTree {
    /// Merges layers, given lowest first.
    pub fn merge(layers: &[Placed]) -> Result<Self, TreeError> {
        let placed = layers.iter().map(|placed| {
            let at = placed.names();
            Ok(PlacedListing {
                listing: Arc::new(Contents::load(&placed.layer)),
                at: at.ok_or_else(|| TreeError::Place(placed.at.clone()))?,
            })
        });
        let placed = placed.collect::<Result<Vec<_>, _>>()?;
        let merged = view::merge(&placed).map_err(|_| TreeError::TooLarge)?;
        Ok(Self { view: merged.view })
    }

    /// The bytes of a regular file, when there is one that is not longer than `limit`.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(Child::Leaf(leaf)) = self.resolve(path) else {
            return Ok(None);
        };
        let contents = self.view.layer(leaf.layer);
        match contents.kind(leaf.node) {
            Kind::File { size } if size <= limit => contents.read(leaf.node).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether there is a regular file.
    pub fn has_file(&self, path: &str) -> bool {
        match self.resolve(path) {
            Some(Child::Leaf(leaf)) => {
                let kind = self.view.layer(leaf.layer).kind(leaf.node);
                matches!(kind, Kind::File { .. })
            }
            _ => false,
        }
    }

    /// Whether there is a directory.
    pub fn has_directory(&self, path: &str) -> bool {
        matches!(self.resolve(path), Some(Child::Directory(_)))
    }

    /// Where an entry of this path lies, or would: symlinks on the way to it are followed, and what
    /// is not there yet stays as it is written. None when something on the way is no directory.
    pub fn place(&self, path: &str) -> Option<String> {
        let mut left: VecDeque<&[u8]> = names(path.as_bytes()).collect();
        let mut links = 0;
        let mut way: Vec<&[u8]> = Vec::new();
        // None where nothing is any more.
        let mut at = Some(DirIndex::ROOT);
        while let Some(name) = left.pop_front() {
            if name == b".." {
                way.pop();
                at = Some(at.map(|at| self.view.parent(at))?);
                continue;
            }
            let child = at.and_then(|at| self.view.find(at, name));
            match child {
                Some(Child::Leaf(leaf)) if !left.is_empty() => {
                    let target = self.target(leaf)?;
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        way.clear();
                        at = Some(DirIndex::ROOT);
                    }
                    push_front(&mut left, target);
                    continue;
                }
                Some(Child::Directory(dir)) => at = Some(dir),
                Some(Child::Leaf(_)) | None => at = None,
            }
            way.push(name);
        }
        let names = way.into_iter().map(|name| std::str::from_utf8(name).ok());
        let names: Option<Vec<&str>> = names.collect();
        names.map(|names| format!("/{}", names.join("/")))
    }

    /// Names in a directory; none when it is no directory. Those that are no text are left out.
    pub fn list(&self, path: &str) -> BTreeSet<String> {
        let Some(Child::Directory(dir)) = self.resolve(path) else {
            return BTreeSet::new();
        };
        let names = self.view.list(dir, 0);
        let names = names.filter_map(|(name, _)| std::str::from_utf8(name).ok());
        names.map(ToOwned::to_owned).collect()
    }

    /// Tells of every entry, by its path, a directory before what is in it. What is neither directory
    /// nor file nor symlink is left out, and so are names and targets that are no text.
    pub fn each(&self, take: &mut dyn FnMut(&str, TreeEntry<'_>)) {
        let mut pending = vec![(String::new(), DirIndex::ROOT)];
        while let Some((above, dir)) = pending.pop() {
            for (name, child) in self.view.list(dir, 0) {
                let Ok(name) = std::str::from_utf8(name) else {
                    continue;
                };
                let path = format!("{above}/{name}");
                match child {
                    Child::Directory(dir) => {
                        take(&path, TreeEntry::Directory);
                        pending.push((path, dir));
                    }
                    Child::Leaf(leaf) => {
                        if let Some(entry) = self.entry(leaf) {
                            take(&path, entry);
                        }
                    }
                }
            }
        }
    }

    fn entry(&self, leaf: LayerNode) -> Option<TreeEntry<'_>> {
        let contents = self.view.layer(leaf.layer);
        let attr = contents.attr(leaf.node);
        match attr.kind {
            Kind::File { .. } => Some(TreeEntry::File {
                executable: attr.mode & 0o111 != 0,
            }),
            Kind::Symlink => {
                let target = std::str::from_utf8(contents.symlink(leaf.node));
                target.ok().map(TreeEntry::Symlink)
            }
            _ => None,
        }
    }

    /// What a path leads to, symlinks followed.
    fn resolve(&self, path: &str) -> Option<Child> {
        let mut left: VecDeque<&[u8]> = names(path.as_bytes()).collect();
        let mut at = DirIndex::ROOT;
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == b".." {
                at = self.view.parent(at);
                continue;
            }
            let leaf = match self.view.find(at, name)? {
                Child::Directory(dir) => {
                    at = dir;
                    continue;
                }
                Child::Leaf(leaf) => leaf,
            };
            let Some(target) = self.target(leaf) else {
                return left.is_empty().then_some(Child::Leaf(leaf));
            };
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            if target.starts_with(b"/") {
                at = DirIndex::ROOT;
            }
            push_front(&mut left, target);
        }
        Some(Child::Directory(at))
    }

    /// What a symlink leads to; none when it is none.
    fn target(&self, leaf: LayerNode) -> Option<&[u8]> {
        let contents = self.view.layer(leaf.layer);
        (contents.kind(leaf.node) == Kind::Symlink).then(|| contents.symlink(leaf.node))
    }
}

/// Puts the names of a path before others.
fn push_front<'a>(left: &mut VecDeque<&'a [u8]>, path: &'a [u8]) {
    let names: Vec<&[u8]> = names(path).collect();
    for name in names.into_iter().rev() {
        left.push_front(name);
    }
}

/// The names in a path.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let names = path.split(|byte| *byte == b'/');
    names.filter(|name| !matches!(*name, b"" | b"."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::memory::MemoryTree;

    fn placed(at: &str, fill: impl FnOnce(&mut MemoryTree)) -> Placed {
        let mut tree = MemoryTree::default();
        fill(&mut tree);
        Placed {
            layer: Layer::Memory(Arc::new(tree)),
            at: at.to_owned(),
        }
    }

    fn sample() -> ViewTree {
        let lower = placed("/", |tree| {
            tree.file("/usr/lib/a", 0o644, b"lower".to_vec());
            tree.file("/usr/lib/gone", 0o644, b"gone".to_vec());
            tree.symlink("/lib", "usr/lib");
            tree.symlink("/circle", "circle");
            tree.symlink("/usr/up", "../../../lib/./a");
            tree.symlink("/usr/absolute", "/lib");
            tree.symlink("/usr/lost", "/nowhere");
        });
        let upper = placed("/usr", |tree| {
            tree.file("/lib/a", 0o644, b"upper".to_vec());
            tree.file("/lib/.wh.gone", 0o644, Vec::new());
            tree.file("/lib/b", 0o644, b"b".to_vec());
        });
        ViewTree::merge(&[lower, upper]).unwrap()
    }

    #[test]
    fn files_are_found_as_a_job_would_find_them() {
        let tree = sample();
        for path in [
            "/usr/lib/a",
            "/lib/a",
            "usr//lib/./a",
            "/usr/up",
            "/usr/absolute/a",
        ] {
            assert_eq!(tree.read(path, 5).unwrap().unwrap(), b"upper", "{path}");
            assert!(tree.has_file(path));
        }
        for path in [
            "/",
            "/lib",
            "/circle",
            "/usr/lost",
            "/usr/lib/a/x",
            "/x",
            "",
        ] {
            assert!(!tree.has_file(path), "{path}");
            assert_eq!(tree.read(path, 5).unwrap(), None, "{path}");
        }
        assert_eq!(
            tree.read("/lib/a", 4).unwrap(),
            None,
            "longer than asked for"
        );
    }

    #[test]
    fn what_a_whiteout_hides_is_not_there() {
        let tree = sample();
        assert!(!tree.has_file("/lib/gone"));
        assert_eq!(Vec::from_iter(tree.list("/usr/absolute")), ["a", "b"]);
        assert!(tree.list("/lib/a").is_empty() && tree.list("/nothing").is_empty());
    }

    #[test]
    fn every_entry_is_told_of_once_with_what_it_is() {
        let tree = sample();
        let mut told = BTreeSet::new();
        tree.each(&mut |path, entry| assert!(told.insert(format!("{path} {entry:?}"))));
        let expected = [
            "/circle Symlink(\"circle\")",
            "/lib Symlink(\"usr/lib\")",
            "/usr Directory",
            "/usr/absolute Symlink(\"/lib\")",
            "/usr/lib Directory",
            "/usr/lib/a File { executable: false }",
            "/usr/lib/b File { executable: false }",
            "/usr/lost Symlink(\"/nowhere\")",
            "/usr/up Symlink(\"../../../lib/./a\")",
        ];
        assert_eq!(Vec::from_iter(told), expected);
    }

    #[test]
    fn the_place_of_an_entry_is_where_it_would_really_lie() {
        let tree = sample();
        for (path, expected) in [
            ("/", Some("/")),
            ("/lib/new", Some("/usr/lib/new")),
            ("/lib/new/deep/er", Some("/usr/lib/new/deep/er")),
            ("/lib/a", Some("/usr/lib/a")),
            // The entry itself is not followed.
            ("/lib", Some("/lib")),
            ("/opt//x/./y", Some("/opt/x/y")),
            ("/usr/absolute/../x", Some("/usr/x")),
            ("/usr/lost/x", Some("/nowhere/x")),
            ("/lib/a/x", None),
            ("/usr/up/x", None),
            ("/circle/x", None),
            ("/new/../x", None),
        ] {
            assert_eq!(tree.place(path).as_deref(), expected, "{path}");
        }
        assert!(tree.has_directory("/lib") && !tree.has_directory("/lib/a"));
    }

    #[test]
    fn a_layer_that_sits_nowhere_is_refused() {
        for at in ["", "usr", "/usr/", "/../x", "//"] {
            let error = ViewTree::merge(&[placed(at, |_| ())]).unwrap_err();
            assert_eq!(error, TreeError::Place(at.to_owned()));
        }
    }
}
