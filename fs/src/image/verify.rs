//! The one walk over untrusted image bytes: checks everything, writes the index.
//!
//! The way of an image: `superblock` (where the tables are) -> `metadata` (inflates a table, every
//! byte charged to a budget first) -> `inodes` (the inode table, front to back) -> `tree` (the
//! directories, breadth first, without recursion) -> `index` (checked once more, written).
//!
//! Invariants: memory is bounded by [`Bounds`] and not by what the image claims; nothing is read
//! outside the file; the order of work is linear in the bytes of metadata. Data blocks are not
//! inflated here: [`super::Image::read_block`] checks each when it is read. More is demanded than
//! the kernel does where every known writer complies: the inode table holds inodes and nothing
//! else, as many as the superblock says, their numbers are unique; no two directories share a
//! listing; names are sorted. Those are what keeps the walk linear, and each has a reason of its own
//! when it is refused.

mod error;
mod inodes;
mod listing;
mod metadata;
mod superblock;
mod tree;
mod xattrs;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::index::{self, Facts};
use crate::num::{to_u32, to_u64};
pub use error::VerifyError;
use metadata::Source;
use superblock::Layout;

/// Bounds of the walk.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Nodes at most; as many directory entries.
    pub nodes: u32,
    /// Depth of directories at most.
    pub depth: u32,
    /// Metadata bytes (inflated) at most.
    pub metadata_bytes: u64,
}

impl Default for Bounds {
    /// Enough for a package of over half a million files, in less than 256 MiB of memory.
    fn default() -> Self {
        Self {
            nodes: 1 << 20,
            depth: 512,
            metadata_bytes: 64 << 20,
        }
    }
}

/// What the walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// sha256 of the image file.
    pub digest: [u8; 32],
    /// Nodes in it.
    pub nodes: u32,
    /// Sum of file lengths in bytes.
    pub content_bytes: u64,
}

/// Walks `image` once and writes its index to `index` (created, must not exist).
///
/// Meant to run in a disposable child process with limits; the daemon never calls it in its own.
pub fn verify(image: &Path, index: &Path, bounds: &Bounds) -> Result<Verified, VerifyError> {
    let io_error = |source| VerifyError::io(image, source);
    let file = File::open(image).map_err(io_error)?;
    let (digest, image_bytes) = hash(&file).map_err(io_error)?;
    let mut source = Source::new(&file, image, image_bytes, bounds.metadata_bytes);

    let layout = Layout::read(&mut source, bounds)?;
    let found = inodes::read(&mut source, &layout)?;
    let facts = Facts {
        digest,
        image_bytes,
        content_bytes: 0,
        block_size: layout.block_size,
        codec: layout.codec,
    };
    let tables = tree::walk(&mut source, &layout, found, facts, bounds)?;
    tables
        .check()
        .map_err(|reason| VerifyError::damaged("tree", 0, reason))?;

    index::write(index, &tables).map_err(|source| VerifyError::io(index, source))?;
    Ok(Verified {
        digest,
        nodes: to_u32(tables.nodes.len()).unwrap_or(u32::MAX),
        content_bytes: tables.facts.content_bytes,
    })
}

/// sha256 and length of a file.
fn hash(mut file: &File) -> std::io::Result<([u8; 32], u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finalize().into(), length)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += to_u64(count);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
