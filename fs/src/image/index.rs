//! The compact index of a verified image: its file format, writing and loading.
//!
//! An index holds everything about an image but its files' bytes, in flat tables that are loaded
//! into memory as they are: 18 bytes a node, 10 bytes and the name for each directory entry, 28
//! bytes a regular file, 12 bytes a directory, 4 bytes a data block.
//!
//! # Format (version 2)
//!
//! All numbers are little-endian, nothing is aligned, nothing follows the last table.
//!
//! | at  | bytes | what |
//! |-----|-------|------|
//! | 0   | 8     | `PSTNIDX` and a zero byte |
//! | 8   | 4     | version, 2 |
//! | 12  | 4     | CRC-32 of everything from byte 16 to the end |
//! | 16  | 32    | sha256 of the image |
//! | 48  | 8     | length of the image file |
//! | 56  | 8     | sum of the lengths of its files |
//! | 64  | 4     | block size |
//! | 68  | 2     | codec: 0 stored, 1 gzip, 3 lzo, 4 xz, 5 lz4, 6 zstd |
//! | 70  | 2     | number of tables, 12 |
//! | 72  | 192   | for each table: its offset and its length in bytes, 8 + 8 |
//! | 264 |       | the tables, one after the other, in the order of [`Tables`]' fields |
//!
//! # Invariants, checked when an index is loaded as when it is written
//!
//! - Node 0 is a directory. A directory other than it is in exactly one directory, and its number
//!   is above that directory's, so the directories are a tree. All other nodes are in at least one.
//! - The table of directories is in the order of a walk breadth first, entries by name bytes, and so
//!   are the directories among the nodes. Views rely on it (`view.rs`).
//! - The entries of a directory stand together, strictly ascending by the bytes of their names,
//!   which are legal file names.
//! - Every number that points into another table, or into the image file, is in range.
//!
//! The checksum is against damage, not against an attacker: an index lies where only its owner
//! writes. Loading still never panics on one, whatever its bytes.

mod check;
mod file;
pub(super) mod record;

use super::format::Codec;
use crate::num::to_usize;
pub(crate) use check::block_end;
pub(crate) use file::{LoadError, load, write};
pub(crate) use record::{
    Directory, Entry, Fragment, Node, NodeXattrs, RegularFile, Span, Sparse, Tag, Xattr,
};

/// All tables of an index, and the facts of its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tables {
    /// About the image as a whole.
    pub(crate) facts: Facts,
    /// The nodes; a node's number is its position.
    pub(crate) nodes: Vec<Node>,
    /// User and group numbers that nodes point to.
    pub(crate) owners: Vec<u32>,
    /// What directories have.
    pub(crate) directories: Vec<Directory>,
    /// Directory entries.
    pub(crate) entries: Vec<Entry>,
    /// What regular files have.
    pub(crate) files: Vec<RegularFile>,
    /// Which regular files have holes, ascending by file.
    pub(crate) sparse: Vec<Sparse>,
    /// Words of the files' blocks, as squashfs packs them.
    pub(crate) blocks: Vec<u32>,
    /// The fragments that files have their tails in, ascending by start.
    pub(crate) fragments: Vec<Fragment>,
    /// Where the symlinks' targets are in `text`.
    pub(crate) symlinks: Vec<Span>,
    /// Which nodes have extended attributes, ascending by node.
    pub(crate) xattr_nodes: Vec<NodeXattrs>,
    /// Where names and values of extended attributes are in `text`.
    pub(crate) xattrs: Vec<Xattr>,
    /// Names, targets and attributes, one after the other.
    pub(crate) text: Vec<u8>,
}

/// What an index says of its image as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// sha256 of the image.
    pub(crate) digest: [u8; 32],
    /// Length of the image file.
    pub(crate) image_bytes: u64,
    /// Sum of the lengths of its files.
    pub(crate) content_bytes: u64,
    /// Bytes of a full data block.
    pub(crate) block_size: u32,
    /// How blocks are compressed.
    pub(crate) codec: Codec,
}

impl Tables {
    /// Empty tables.
    pub(crate) fn new(facts: Facts) -> Self {
        Self {
            facts,
            nodes: Vec::new(),
            owners: Vec::new(),
            directories: Vec::new(),
            entries: Vec::new(),
            files: Vec::new(),
            sparse: Vec::new(),
            blocks: Vec::new(),
            fragments: Vec::new(),
            symlinks: Vec::new(),
            xattr_nodes: Vec::new(),
            xattrs: Vec::new(),
            text: Vec::new(),
        }
    }

    /// Bytes of memory that the tables take.
    pub(crate) fn bytes(&self) -> usize {
        fn of<T>(table: &Vec<T>) -> usize {
            table.capacity() * size_of::<T>()
        }
        of(&self.nodes)
            + of(&self.owners)
            + of(&self.directories)
            + of(&self.entries)
            + of(&self.files)
            + of(&self.blocks)
            + of(&self.fragments)
            + of(&self.symlinks)
            + of(&self.xattr_nodes)
            + of(&self.xattrs)
            + of(&self.text)
    }

    /// The bytes of a span of `text`.
    pub(crate) fn text(&self, span: Span) -> Option<&[u8]> {
        slice(&self.text, span.start, span.length)
    }

    /// The entries of a directory.
    pub(crate) fn entries_of(&self, directory: Directory) -> Option<&[Entry]> {
        slice(&self.entries, directory.first, directory.count)
    }
}

/// `count` elements from `first` on.
pub(crate) fn slice<T>(table: &[T], first: u32, count: u32) -> Option<&[T]> {
    let first = to_usize(first);
    table.get(first..first.checked_add(to_usize(count))?)
}
