//! Reading file contents: which blocks, through the cache or past it.
//!
//! A request that takes all that a file has in a block goes past the cache, into a buffer of the
//! calling thread: the kernel keeps what it asked for. Anything else goes through it: the rest of
//! the block, or the other files of a fragment, will be asked for next.

use std::ops::{Deref, Range};
use std::sync::Arc;

use super::state::Source;
use crate::cache::{Block, BlockCache, BlockKey};
use crate::error::FsError;
use crate::image::{Extent, Image, ImageNode};
use crate::layer::{Contents, Listing as _};
use crate::node::Kind;
use crate::num::{to_u64, to_usize};
use crate::stats::Counters;

/// Buffers of one thread, reused from request to request.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The answer, when it is not a part of one cached block.
    answer: Vec<u8>,
    /// A block that is a part of the answer.
    block: Vec<u8>,
}

/// Bytes of a file.
#[derive(Debug)]
pub(crate) enum Bytes<'a> {
    /// In the thread's buffer.
    Here(&'a [u8]),
    /// A part of a cached block.
    Cached(Block, Range<usize>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Cached(block, range) => &block[range.clone()],
        }
    }
}

/// What a read needs of the filesystem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) cache: &'a BlockCache<FsError>,
    pub(super) counters: &'a Counters,
}

/// Some bytes of a file that lie in one block.
#[derive(Debug, Clone)]
struct Piece {
    extent: Extent,
    /// Where in the block.
    range: Range<usize>,
}

impl Piece {
    /// Whether it is all that the block holds, and the block is this file's alone.
    fn is_whole_block(&self) -> bool {
        !self.extent.fragment && self.range == (0..to_usize(self.extent.block.length))
    }

    fn is_hole(&self) -> bool {
        self.extent.block.stored == 0
    }
}

impl Reader<'_> {
    /// Reads `len` bytes from `offset`, fewer at the end of the file.
    pub(super) fn read<'a>(
        self,
        source: &Source,
        node: ImageNode,
        (offset, len): (u64, u32),
        scratch: &'a mut Scratch,
    ) -> Result<Bytes<'a>, FsError> {
        let Kind::File { size } = source.contents.attr(node).kind else {
            return Err(FsError::WrongKind);
        };
        let end = offset.saturating_add(u64::from(len)).min(size);
        if offset >= end {
            return Ok(Bytes::Here(&[]));
        }
        match &source.contents {
            Contents::Memory(tree, _) => {
                let bytes = tree.bytes(node).get(range(offset, end)).unwrap_or(&[]);
                scratch.answer.clear();
                scratch.answer.extend_from_slice(bytes);
                Ok(Bytes::Here(&scratch.answer))
            }
            Contents::Image(image) => {
                let file = ImageFile {
                    reader: self,
                    image,
                    key: source.first.0,
                    node,
                };
                file.read(offset, end, scratch)
            }
        }
    }
}

/// A file of an image, being read.
struct ImageFile<'a> {
    reader: Reader<'a>,
    image: &'a Image,
    key: u64,
    node: ImageNode,
}

impl ImageFile<'_> {
    fn read<'a>(
        &self,
        offset: u64,
        end: u64,
        scratch: &'a mut Scratch,
    ) -> Result<Bytes<'a>, FsError> {
        let first = self.piece(offset, end)?;
        if offset + to_u64(first.range.len()) == end {
            return self.read_one(first, scratch);
        }
        let Scratch { answer, block } = scratch;
        answer.clear();
        let mut at = offset;
        while at < end {
            let piece = self.piece(at, end)?;
            at += to_u64(piece.range.len());
            self.append(&piece, answer, block)?;
        }
        Ok(Bytes::Here(answer))
    }

    /// The usual request: within one block.
    fn read_one<'a>(&self, piece: Piece, scratch: &'a mut Scratch) -> Result<Bytes<'a>, FsError> {
        let answer = &mut scratch.answer;
        if piece.is_hole() {
            answer.clear();
            answer.resize(piece.range.len(), 0);
        } else if piece.is_whole_block() {
            self.inflate(&piece.extent, answer)?;
        } else {
            let block = self.cached(&piece.extent)?;
            check(&block, &piece.range)?;
            return Ok(Bytes::Cached(block, piece.range));
        }
        Ok(Bytes::Here(answer))
    }

    fn append(
        &self,
        piece: &Piece,
        answer: &mut Vec<u8>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), FsError> {
        if piece.is_hole() {
            answer.resize(answer.len() + piece.range.len(), 0);
        } else if piece.is_whole_block() {
            self.inflate(&piece.extent, buffer)?;
            answer.extend_from_slice(check(buffer, &piece.range)?);
        } else {
            let block = self.cached(&piece.extent)?;
            answer.extend_from_slice(check(&block, &piece.range)?);
        }
        Ok(())
    }

    /// Where the bytes from `offset` lie, up to the end of their block or to `end`.
    fn piece(&self, offset: u64, end: u64) -> Result<Piece, FsError> {
        let extent = self.image.extent(self.node, offset);
        let extent = extent.ok_or(FsError::Inconsistent("no block for a part of a file"))?;
        let within = size_of_u64(offset % u64::from(self.image.block_size()));
        let wanted = size_of_u64(end - offset);
        let len = to_usize(extent.len).saturating_sub(within).min(wanted);
        if len == 0 {
            return Err(FsError::Inconsistent("a block that ends before its file"));
        }
        let start = to_usize(extent.skip) + within;
        Ok(Piece {
            extent,
            range: start..start + len,
        })
    }

    fn cached(&self, extent: &Extent) -> Result<Block, FsError> {
        let key = BlockKey {
            image: self.key,
            start: extent.block.start,
        };
        self.reader.cache.get(key, || {
            let mut block = Vec::with_capacity(to_usize(extent.block.length));
            self.inflate(extent, &mut block)?;
            // Inflating takes room for a full block, which a fragment need not be.
            block.shrink_to_fit();
            Ok(block)
        })
    }

    fn inflate(&self, extent: &Extent, out: &mut Vec<u8>) -> Result<(), FsError> {
        self.reader.counters.block();
        let read = self.image.read_block(&extent.block, out);
        read.map_err(|error| FsError::Image(Arc::new(error)))
    }
}

/// The bytes of a block that a piece wants.
fn check<'a>(block: &'a [u8], range: &Range<usize>) -> Result<&'a [u8], FsError> {
    let bytes = block.get(range.clone());
    bytes.ok_or(FsError::Inconsistent("a block shorter than its file needs"))
}

fn range(offset: u64, end: u64) -> Range<usize> {
    size_of_u64(offset)..size_of_u64(end)
}

/// A length in memory; saturates where memory can't hold so much anyway.
fn size_of_u64(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
