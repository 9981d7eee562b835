//! An installed image: its validated index in memory and its data file.
//!
//! Owns reading. Invariant: everything reachable through an [`Image`] was checked by
//! [`verify`], so node numbers, offsets and lengths are in range; a data block is still checked
//! when it is read, because the file may be damaged later. Does not parse squashfs metadata.

pub mod pack;
pub mod verify;

use std::path::Path;

use crate::node::Attr;

/// A node of one image: 0 is the root, dense up to [`Image::node_count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageNode(pub u32);

/// One data block (or fragment) of the image file, as the server caches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Where it starts in the image file.
    pub start: u64,
    /// Bytes it takes there; 0 is a hole.
    pub stored: u32,
    /// Whether it is stored compressed.
    pub compressed: bool,
    /// Bytes it holds, at most the block size.
    pub length: u32,
}

/// Where a stretch of a file's bytes lies: `len` bytes from `skip` of `block`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The block that holds it.
    pub block: BlockRef,
    /// First byte within the block (not 0 for a tail in a shared fragment).
    pub skip: u32,
    /// Bytes of the file in this block.
    pub len: u32,
    /// Whether the block is a fragment that other files share.
    pub fragment: bool,
}

/// Why an image can't be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file can't be read.
    #[error("cannot read {path}")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The index is damaged, of another version or of another image.
    #[error("index {path} is not usable: {reason}")]
    Index {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A data block is damaged.
    #[error("block at byte {start} of {path} is damaged: {reason}")]
    Block {
        /// Which image.
        path: std::path::PathBuf,
        /// Where the block starts.
        start: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// An image with its index loaded. Cheap to share behind an `Arc`, safe to read from any thread.
#[derive(Debug)]
pub struct Image {}

impl Image {
    /// Opens an image with the index that [`verify::verify`] wrote for it.
    pub fn open(_image: &Path, _index: &Path) -> Result<Self, ImageError> {
        unimplemented!()
    }

    /// sha256 of the image file, as recorded when it was verified.
    pub fn digest(&self) -> [u8; 32] {
        unimplemented!()
    }

    /// Bytes of a full data block.
    pub fn block_size(&self) -> u32 {
        unimplemented!()
    }

    /// Number of nodes; node ids are below it.
    pub fn node_count(&self) -> u32 {
        unimplemented!()
    }

    /// Sum of the file lengths in bytes.
    pub fn content_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Attributes of a node.
    pub fn attr(&self, _node: ImageNode) -> Attr {
        unimplemented!()
    }

    /// Entries of a directory, sorted by name bytes; empty for anything else.
    pub fn entries(&self, _dir: ImageNode) -> impl Iterator<Item = (&[u8], ImageNode)> {
        std::iter::empty()
    }

    /// Target of a symlink; empty for anything else.
    pub fn symlink(&self, _node: ImageNode) -> &[u8] {
        unimplemented!()
    }

    /// Extended attributes of a node: full name (`user.x`) and value.
    pub fn xattrs(&self, _node: ImageNode) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }

    /// Where byte `offset` of a regular file lies; none at or past its end.
    pub fn extent(&self, _node: ImageNode, _offset: u64) -> Option<Extent> {
        unimplemented!()
    }

    /// Reads and inflates one block: afterwards `out` holds exactly `block.length` bytes.
    pub fn read_block(&self, _block: &BlockRef, _out: &mut Vec<u8>) -> Result<(), ImageError> {
        unimplemented!()
    }
}
