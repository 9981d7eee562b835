//! A small tree in memory: directories, files and symlinks that no image brings.

use std::collections::BTreeMap;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory with its entries by name.
    Directory(BTreeMap<Vec<u8>, Entry>),
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryTree {
    /// Entries of the root by name.
    pub root: BTreeMap<Vec<u8>, Entry>,
}

impl MemoryTree {
    /// Adds a directory with its parents; what is there already is kept.
    pub fn directory(&mut self, _path: &str) {
        unimplemented!()
    }

    /// Adds a file with its parents, in place of what is there.
    pub fn file(&mut self, _path: &str, _mode: u16, _bytes: Vec<u8>) {
        unimplemented!()
    }
}
