//! An installed image: its validated index in memory and its data file.
//!
//! Owns reading. Invariant: everything reachable through an [`Image`] was checked by
//! [`verify`], so node numbers, offsets and lengths are in range; a data block is still checked
//! when it is read, because the file may be damaged later. Does not parse squashfs metadata.
//!
//! Reading order: [`verify`] walks an untrusted image once and writes its `index`; [`Image`] loads
//! that index and answers from it; `blocks` inflates what [`Image::read_block`] reads. [`pack`]
//! writes images. `format` holds what verifying and writing share of squashfs.

mod blocks;
mod bytes;
mod format;
mod index;
pub(crate) mod order;
pub mod pack;
pub mod verify;

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use self::blocks::Decoder;
use self::format::NONE;
use self::index::{Fragment, Node, NodeXattrs, RegularFile, Tables, Tag};
use crate::node::{Attr, Kind};
use crate::num::{to_u32, to_usize};

/// Every how many data blocks the start of one is kept, so that none has to be summed up from
/// the first block of its file.
const ANCHOR_EVERY: usize = 64;

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
///
/// A stretch is all that a file has in one block: it starts at a multiple of the block size in
/// the file, and is as long as a block unless the file ends in it.
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
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The index is damaged, of another version or of another image.
    #[error("index {path} is not usable: {reason}")]
    Index {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A data block is damaged.
    #[error("block at byte {start} of {path} is damaged: {reason}")]
    Block {
        /// Which image.
        path: PathBuf,
        /// Where the block starts.
        start: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// An image with its index loaded. Cheap to share behind an `Arc`, safe to read from any thread.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    tables: Tables,
    /// For every [`ANCHOR_EVERY`]th block of the table of blocks, where it starts in the image.
    anchors: Vec<u64>,
    /// See [`order`]; made when somebody first reads on from one file to the next.
    order: OnceLock<Box<[u32]>>,
    hot_list: Option<PathBuf>,
}

impl Image {
    /// Opens an image with the index that [`verify::verify`] wrote for it.
    pub fn open(image: &Path, index: &Path) -> Result<Self, ImageError> {
        let unusable = |reason| ImageError::Index {
            path: index.to_owned(),
            reason,
        };
        let tables = index::load(index).map_err(|error| match error {
            index::LoadError::Io(source) => io_error(index, source),
            index::LoadError::Unusable(reason) => unusable(reason),
        })?;
        let file = File::open(image).map_err(|source| io_error(image, source))?;
        let length = file
            .metadata()
            .map_err(|source| io_error(image, source))?
            .len();
        if length != tables.facts.image_bytes {
            return Err(unusable(format!(
                "it is of an image of {} bytes, but {} has {length}",
                tables.facts.image_bytes,
                image.display()
            )));
        }
        Ok(Self {
            path: image.to_owned(),
            file,
            anchors: anchors(&tables),
            tables,
            order: OnceLock::new(),
            hot_list: None,
        })
    }

    /// The image file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same image, with a file where a mount keeps which blocks are read first, to have them
    /// ready at the next start.
    #[must_use]
    pub fn with_hot_list(self, file: PathBuf) -> Self {
        Self {
            hot_list: Some(file),
            ..self
        }
    }

    /// The file that was given to [`Image::with_hot_list`].
    pub fn hot_list(&self) -> Option<&Path> {
        self.hot_list.as_deref()
    }

    /// sha256 of the image file, as recorded when it was verified.
    pub fn digest(&self) -> [u8; 32] {
        self.tables.facts.digest
    }

    /// Name of its compressor as `mksquashfs -comp` has it; `none` where there is none.
    pub fn compressor(&self) -> &'static str {
        self.tables.facts.codec.name()
    }

    /// Bytes of a full data block.
    pub fn block_size(&self) -> u32 {
        self.tables.facts.block_size
    }

    /// Number of nodes; node ids are below it.
    pub fn node_count(&self) -> u32 {
        // Every node is in an entry, and entries number them with 32 bits.
        to_u32(self.tables.nodes.len()).unwrap_or(u32::MAX)
    }

    /// Sum of the file lengths in bytes.
    pub fn content_bytes(&self) -> u64 {
        self.tables.facts.content_bytes
    }

    /// Attributes of a node.
    ///
    /// # Panics
    /// When the node is not one of this image.
    pub fn attr(&self, node: ImageNode) -> Attr {
        let record = self
            .node(node)
            .expect("Invariant: nodes stay with their image");
        let owner = |position: u16| self.tables.owners[usize::from(position)];
        let (size, content) = self.lengths(record);
        let attributes = self.xattr_set(node).map_or(0, |set| u64::from(set.size));
        Attr {
            kind: self.kind_of(record),
            mode: record.permissions(),
            uid: owner(record.user),
            gid: owner(record.group),
            mtime: record.mtime,
            nlink: record.nlink,
            size,
            // As the kernel's squashfs counts them.
            blocks: content.div_ceil(512) + attributes.div_ceil(512),
        }
    }

    /// Entries of a directory, sorted by name bytes; empty for anything else.
    pub fn entries(&self, dir: ImageNode) -> impl Iterator<Item = (&[u8], ImageNode)> {
        self.payload(dir, Tag::Directory)
            .and_then(|position| self.tables.directories.get(position))
            .and_then(|directory| self.tables.entries_of(*directory))
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| {
                let name = self.tables.text(entry.name())?;
                Some((name, ImageNode(entry.node)))
            })
    }

    /// Positions of a directory's entries in the table of all; none for anything else.
    pub(crate) fn entry_range(&self, dir: ImageNode) -> Range<u32> {
        self.payload(dir, Tag::Directory)
            .and_then(|position| self.tables.directories.get(position))
            .map_or(0..0, |directory| {
                directory.first..directory.first + directory.count
            })
    }

    /// The entry at a position of the table of all.
    pub(crate) fn entry(&self, position: u32) -> (&[u8], ImageNode) {
        let entry = self.tables.entries[to_usize(position)];
        let name = self.tables.text(entry.name()).unwrap_or_default();
        (name, ImageNode(entry.node))
    }

    /// How many directories come before a directory, breadth first; none for anything else.
    pub(crate) fn directory(&self, node: ImageNode) -> Option<u32> {
        let record = self.node(node)?;
        (record.tag() == Some(Tag::Directory)).then_some(record.payload)
    }

    /// Kind of a node.
    ///
    /// # Panics
    /// When the node is not one of this image.
    pub(crate) fn kind(&self, node: ImageNode) -> Kind {
        let record = self.node(node);
        self.kind_of(record.expect("Invariant: nodes stay with their image"))
    }

    /// Target of a symlink; empty for anything else.
    pub fn symlink(&self, node: ImageNode) -> &[u8] {
        self.payload(node, Tag::Symlink)
            .and_then(|position| self.tables.symlinks.get(position))
            .and_then(|target| self.tables.text(*target))
            .unwrap_or_default()
    }

    /// Extended attributes of a node: full name (`user.x`) and value.
    pub fn xattrs(&self, node: ImageNode) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.xattr_set(node)
            .and_then(|set| index::slice(&self.tables.xattrs, set.first, set.count))
            .unwrap_or_default()
            .iter()
            .filter_map(|xattr| {
                let name = self.tables.text(xattr.name())?;
                Some((name, self.tables.text(xattr.value()?)?))
            })
    }

    /// Where byte `offset` of a regular file lies; none at or past its end.
    ///
    /// The answer is the whole stretch that the byte is in: it starts at the greatest multiple of
    /// the block size that is not above `offset`.
    pub fn extent(&self, node: ImageNode, offset: u64) -> Option<Extent> {
        let file = self.regular_file(node)?;
        if offset >= file.size {
            return None;
        }
        let block_size = u64::from(self.block_size());
        let number = offset / block_size;
        let left = file.size - number * block_size;
        let len = u32::try_from(left.min(block_size)).ok()?;
        if file.fragment != NONE && left < block_size {
            return self.tail(file, len);
        }
        let position = to_usize(file.first_block).checked_add(usize::try_from(number).ok()?)?;
        let (stored, compressed) = format::data_word(*self.tables.blocks.get(position)?)?;
        Some(Extent {
            block: BlockRef {
                start: self.block_start(file, position)?,
                stored,
                compressed,
                length: len,
            },
            skip: 0,
            len,
            fragment: false,
        })
    }

    /// Reads and inflates one block: afterwards `out` holds exactly `block.length` bytes.
    pub fn read_block(&self, block: &BlockRef, out: &mut Vec<u8>) -> Result<(), ImageError> {
        let damaged = |reason| ImageError::Block {
            path: self.path.clone(),
            start: block.start,
            reason,
        };
        if block.length > self.block_size() || block.stored > self.block_size() {
            return Err(damaged("it is larger than a block".to_owned()));
        }
        let length = to_usize(block.length);
        let got = if block.stored == 0 {
            out.clear();
            out.resize(length, 0);
            length
        } else if block.compressed {
            self.inflate(block, out)?.map_err(damaged)?
        } else {
            self.read_stored(block, out)?
        };
        // Files may use less than a fragment holds; of any other block they use all.
        if got < length || (got > length && !self.is_fragment(block)) {
            return Err(damaged(format!("it holds {got} bytes, not {length}")));
        }
        out.truncate(length);
        Ok(())
    }

    fn node(&self, node: ImageNode) -> Option<&Node> {
        self.tables.nodes.get(to_usize(node.0))
    }

    /// Where the rest of a node is, if it is of that kind.
    fn payload(&self, node: ImageNode, tag: Tag) -> Option<usize> {
        let record = self.node(node).filter(|record| record.tag() == Some(tag))?;
        Some(to_usize(record.payload))
    }

    fn regular_file(&self, node: ImageNode) -> Option<&RegularFile> {
        self.tables.files.get(self.payload(node, Tag::File)?)
    }

    fn kind_of(&self, node: &Node) -> Kind {
        let tag = node.tag().expect("Invariant: kinds are checked at load");
        let rdev = node.payload;
        match tag {
            Tag::Directory => Kind::Directory,
            Tag::File => Kind::File {
                size: self.tables.files[to_usize(node.payload)].size,
            },
            Tag::Symlink => Kind::Symlink,
            Tag::BlockDevice => Kind::BlockDevice { rdev },
            Tag::CharDevice => Kind::CharDevice { rdev },
            Tag::Fifo => Kind::Fifo,
            Tag::Socket => Kind::Socket,
        }
    }

    fn xattr_set(&self, node: ImageNode) -> Option<&NodeXattrs> {
        let sets = &self.tables.xattr_nodes;
        let position = sets.binary_search_by_key(&node.0, |set| set.node).ok()?;
        sets.get(position)
    }

    /// What `stat` tells as length, and how much of it is not in holes (of a file; else 0).
    fn lengths(&self, node: &Node) -> (u64, u64) {
        let position = to_usize(node.payload);
        match node.tag().expect("Invariant: kinds are checked at load") {
            Tag::Directory => (u64::from(self.tables.directories[position].size), 0),
            Tag::Symlink => (u64::from(self.tables.symlinks[position].length), 0),
            Tag::File => {
                let size = self.tables.files[position].size;
                let holes = self.holes(node.payload);
                (size, size.saturating_sub(holes))
            }
            Tag::BlockDevice | Tag::CharDevice | Tag::Fifo | Tag::Socket => (0, 0),
        }
    }

    /// Bytes of a file that are in holes.
    fn holes(&self, file: u32) -> u64 {
        let sparse = &self.tables.sparse;
        let found = sparse.binary_search_by_key(&file, |sparse| sparse.file);
        found.map_or(0, |position| sparse[position].bytes)
    }

    /// The stretch of a file that lies in a fragment.
    fn tail(&self, file: &RegularFile, len: u32) -> Option<Extent> {
        let fragment: &Fragment = self.tables.fragments.get(to_usize(file.fragment))?;
        let (stored, compressed) = format::data_word(fragment.word)?;
        Some(Extent {
            block: BlockRef {
                start: fragment.start,
                stored,
                compressed,
                length: fragment.length,
            },
            skip: file.skip,
            len,
            fragment: true,
        })
    }

    /// Where the block at `position` of the table of blocks, one of `file`, starts.
    fn block_start(&self, file: &RegularFile, position: usize) -> Option<u64> {
        let first = to_usize(file.first_block);
        let anchored = position / ANCHOR_EVERY * ANCHOR_EVERY;
        let (from, start) = if anchored > first {
            (anchored, *self.anchors.get(position / ANCHOR_EVERY)?)
        } else {
            (first, file.start)
        };
        let between = self.tables.blocks.get(from..position)?;
        Some(start + between.iter().map(|word| stored_bytes(*word)).sum::<u64>())
    }

    /// Whether a fragment starts where the block does.
    fn is_fragment(&self, block: &BlockRef) -> bool {
        self.tables
            .fragments
            .binary_search_by_key(&block.start, |fragment| fragment.start)
            .is_ok()
    }

    /// Inflates a block; the answer is how many bytes it holds, or what is wrong with it.
    fn inflate(
        &self,
        block: &BlockRef,
        out: &mut Vec<u8>,
    ) -> Result<Result<usize, String>, ImageError> {
        out.resize(to_usize(self.block_size()), 0);
        let codec = self.tables.facts.codec;
        let place = (block.start, to_usize(block.stored));
        Decoder::with(|decoder| decoder.read_inflated(&self.file, place, codec, out))
            .map_err(|source| io_error(&self.path, source))
    }

    /// All bytes of a regular file, in memory; none for anything else. Who asks looks at its length
    /// first.
    pub fn read(&self, node: ImageNode) -> Result<Vec<u8>, ImageError> {
        let (mut bytes, mut block) = (Vec::new(), Vec::new());
        let mut offset = 0;
        while let Some(extent) = self.extent(node, offset) {
            self.read_block(&extent.block, &mut block)?;
            let start = to_usize(extent.skip);
            let piece = block.get(start..start.saturating_add(to_usize(extent.len)));
            let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
                return Err(ImageError::Block {
                    path: self.path.clone(),
                    start: extent.block.start,
                    reason: "it does not hold what its file needs".to_owned(),
                });
            };
            bytes.extend_from_slice(piece);
            offset += u64::from(extent.len);
        }
        Ok(bytes)
    }

    /// Reads a block that is stored as it is.
    fn read_stored(&self, block: &BlockRef, out: &mut Vec<u8>) -> Result<usize, ImageError> {
        use std::os::unix::fs::FileExt as _;

        out.resize(to_usize(block.stored), 0);
        self.file
            .read_exact_at(out, block.start)
            .map_err(|source| io_error(&self.path, source))?;
        Ok(out.len())
    }
}

fn io_error(path: &Path, source: std::io::Error) -> ImageError {
    ImageError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Bytes that a block takes in the image.
fn stored_bytes(word: u32) -> u64 {
    format::data_word(word).map_or(0, |(stored, _)| u64::from(stored))
}

/// Where every [`ANCHOR_EVERY`]th block starts.
fn anchors(tables: &Tables) -> Vec<u64> {
    let mut anchors = vec![0; tables.blocks.len().div_ceil(ANCHOR_EVERY)];
    for file in &tables.files {
        let in_fragment = file.fragment != NONE;
        let count = format::block_count(file.size, tables.facts.block_size, in_fragment);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut start = file.start;
        let words = index::slice(&tables.blocks, file.first_block, count).unwrap_or_default();
        for (position, word) in (to_usize(file.first_block)..).zip(words) {
            if position.is_multiple_of(ANCHOR_EVERY) {
                anchors[position / ANCHOR_EVERY] = start;
            }
            start += stored_bytes(*word);
        }
    }
    anchors
}
