//! Writes images: a tree described in memory, file contents from host files or bytes.

use std::io::{Seek, Write};
use std::path::PathBuf;

/// Mode, owner and time of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Unix time in seconds.
    pub mtime: u32,
}

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file of the host, read when the image is written.
    Path(PathBuf),
    /// Bytes in memory.
    Bytes(Vec<u8>),
}

/// Compressor of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressor {
    /// zstd at a level 1 to 22.
    Zstd(i32),
    /// zlib, level 1 to 9.
    Gzip(u32),
}

/// Why an image can't be written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A path is not absolute, holds `..`, or clashes with an entry that is there.
    #[error("cannot add {path}: {reason}")]
    Path {
        /// Which path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A host file can't be read or the image can't be written.
    #[error("cannot pack {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A tree to be written; parents are made as needed (0755, root). Entries are kept sorted, so
/// the same tree gives the same bytes.
#[derive(Debug, Default)]
pub struct Tree {}

impl Tree {
    /// An empty tree: a root directory of mode 0755.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or re-describes a directory.
    pub fn directory(&mut self, _path: &str, _meta: Meta) -> Result<(), PackError> {
        unimplemented!()
    }

    /// Adds a regular file; an entry of that path must not exist.
    pub fn file(&mut self, _path: &str, _meta: Meta, _source: Source) -> Result<(), PackError> {
        unimplemented!()
    }

    /// Adds a symlink; an entry of that path must not exist.
    pub fn symlink(&mut self, _path: &str, _meta: Meta, _target: &str) -> Result<(), PackError> {
        unimplemented!()
    }

    /// Whether there is an entry of that path.
    pub fn contains(&self, _path: &str) -> bool {
        unimplemented!()
    }

    /// Writes the image; returns its length in bytes.
    pub fn write<W: Write + Seek>(self, _out: W, _with: Compressor) -> Result<u64, PackError> {
        unimplemented!()
    }
}
