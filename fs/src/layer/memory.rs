//! A small tree in memory: directories, files and symlinks that no image brings.
//!
//! Owns building it. It is described here and numbered in `flat.rs`, when it is published.

use std::collections::BTreeMap;

/// Entries of a directory by name.
pub type Entries = BTreeMap<Vec<u8>, Entry>;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory with its entries by name.
    Directory(Entries),
    /// A file with its permission bits and bytes.
    File {
        /// Permission bits.
        mode: u16,
        /// Contents.
        bytes: Vec<u8>,
    },
    /// A symlink with its target.
    Symlink(Vec<u8>),
}

/// A tree whose directories are 0755 and whose owner is root.
///
/// ```
/// use piston_fs::layer::memory::{Entry, MemoryTree};
/// let mut tree = MemoryTree::default();
/// tree.directory("/proc");
/// tree.file("/piston/run", 0o755, b"#!/bin/sh\n".to_vec());
/// assert!(matches!(tree.root[b"piston".as_slice()], Entry::Directory(_)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryTree {
    /// Entries of the root by name.
    pub root: Entries,
}

impl MemoryTree {
    /// Adds a directory with its parents; what is there already is kept.
    pub fn directory(&mut self, path: &str) {
        if let Some((parent, name)) = self.parent(path) {
            parent
                .entry(name)
                .or_insert_with(|| Entry::Directory(BTreeMap::new()));
        }
    }

    /// Adds a file with its parents, in place of what is there.
    pub fn file(&mut self, path: &str, mode: u16, bytes: Vec<u8>) {
        if let Some((parent, name)) = self.parent(path) {
            parent.insert(name, Entry::File { mode, bytes });
        }
    }

    /// Adds a symlink with its parents, in place of what is there.
    pub fn symlink(&mut self, path: &str, target: &str) {
        if let Some((parent, name)) = self.parent(path) {
            parent.insert(name, Entry::Symlink(target.into()));
        }
    }

    /// The entries that the last component of `path` belongs in, and that component; parents that
    /// are missing or no directories become directories. None for the root itself.
    fn parent(&mut self, path: &str) -> Option<(&mut Entries, Vec<u8>)> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        let last = names.next_back()?;
        let mut at = &mut self.root;
        for name in names {
            let entry = at
                .entry(name.into())
                .and_modify(|entry| {
                    if !matches!(entry, Entry::Directory(_)) {
                        *entry = Entry::Directory(BTreeMap::new());
                    }
                })
                .or_insert_with(|| Entry::Directory(BTreeMap::new()));
            let Entry::Directory(entries) = entry else {
                return None;
            };
            at = entries;
        }
        Some((at, last.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_makes_parents_and_keeps_what_is_there() {
        let mut tree = MemoryTree::default();
        tree.file("/a/b/c", 0o644, b"1".to_vec());
        tree.directory("a/b");
        tree.symlink("/a/l", "b");
        let Entry::Directory(a) = &tree.root[b"a".as_slice()] else {
            panic!("a is no directory");
        };
        assert_eq!(a[b"l".as_slice()], Entry::Symlink(b"b".to_vec()));
        let Entry::Directory(b) = &a[b"b".as_slice()] else {
            panic!("b is no directory");
        };
        assert_eq!(b.len(), 1);
    }

    #[test]
    fn the_root_is_there_without_being_added() {
        let mut tree = MemoryTree::default();
        tree.directory("/");
        assert_eq!(tree, MemoryTree::default());
    }
}
