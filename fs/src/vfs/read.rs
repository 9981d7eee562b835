//! Reading file contents: which blocks, through the cache or past it.
//!
//! A request that takes all that a file has in a block goes past the cache, into a buffer of the
//! calling thread: the kernel keeps what it asked for. Anything else goes through it: the rest of
//! the block, or the other files of a fragment, will be asked for next. What was loaded ahead is
//! taken out of it.

use std::ops::{Deref, Range};
use std::sync::Arc;

use super::ahead::Ahead;
use super::state::Source;
use crate::cache::{Block, BlockCache, Miss};
use crate::error::FsError;
use crate::image::{BlockRef, Extent, Image, ImageNode};
use crate::ino::Ino;
use crate::layer::Contents;
use crate::node::Kind;
use crate::num::{to_u64, to_usize};
use crate::stats::Counters;

/// Buffer of one thread, reused from request to request: a block that is the answer, or a part.
#[derive(Debug, Default)]
pub(crate) struct Scratch(Vec<u8>);

/// A request that may take several blocks.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The file.
    pub(super) ino: Ino,
    offset: u64,
    size: u32,
    /// What is there so far, when one block is not all.
    answer: Vec<u8>,
}

impl Reading {
    /// So many bytes of a file from an offset on.
    pub(crate) fn new((ino, offset, size): (Ino, u64, u32)) -> Self {
        Self {
            ino,
            offset,
            size,
            answer: Vec::new(),
        }
    }

    /// The file.
    pub(crate) fn ino(&self) -> Ino {
        self.ino
    }
}

/// Bytes of a file.
#[derive(Debug)]
pub(crate) enum Bytes<'a> {
    /// In a buffer.
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
    pub(super) ahead: &'a Ahead,
    pub(super) counters: &'a Counters,
}

/// Some bytes of a file that lie in one block.
#[derive(Debug, Clone)]
struct Piece {
    extent: Extent,
    /// Where in the file.
    offset: u64,
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
    /// Reads the next block of a request; the answer when that was the last.
    pub(super) fn read_on<'s>(
        self,
        source: &Arc<Source>,
        node: ImageNode,
        reading: &'s mut Reading,
        scratch: &'s mut Scratch,
    ) -> Result<Option<Bytes<'s>>, FsError> {
        let end = end(source, node, reading.offset, reading.size)?;
        match &source.contents {
            Contents::Image(image) if reading.offset < end => {
                let file = ImageFile::new(self, source, image, node);
                file.read_on(reading, end, scratch)
            }
            Contents::Image(_) | Contents::Memory(..) => {
                Ok(Some(in_memory(source, node, reading.offset..end, scratch)))
            }
        }
    }

    /// What takes no time: nothing has to be loaded.
    pub(super) fn read_ready<'s>(
        self,
        source: &Arc<Source>,
        node: ImageNode,
        (offset, len): (u64, u32),
        scratch: &'s mut Scratch,
    ) -> Result<Option<Bytes<'s>>, FsError> {
        let end = end(source, node, offset, len)?;
        match &source.contents {
            Contents::Image(image) if offset < end => {
                let file = ImageFile::new(self, source, image, node);
                file.read_ready(offset, end)
            }
            Contents::Image(_) | Contents::Memory(..) => {
                Ok(Some(in_memory(source, node, offset..end, scratch)))
            }
        }
    }

    /// Loads a block that nobody asked for yet.
    pub(super) fn prepare(self, source: &Arc<Source>, block: &BlockRef) {
        if let Contents::Image(image) = &source.contents {
            self.cache.prepare(source.key(block), || {
                self.counters.ahead();
                self.load(source, image, block)
            });
        }
    }

    fn load(self, source: &Source, image: &Image, block: &BlockRef) -> Result<Vec<u8>, FsError> {
        let mut bytes = Vec::with_capacity(to_usize(block.length));
        self.inflate(source, image, block, &mut bytes)?;
        // Inflating takes room for a full block, which a fragment need not be.
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    fn inflate(
        self,
        source: &Source,
        image: &Image,
        block: &BlockRef,
        out: &mut Vec<u8>,
    ) -> Result<(), FsError> {
        let _pass = source.gate.pass().ok_or(FsError::Late)?;
        self.counters.block(block.length);
        let read = image.read_block(block, out);
        read.map_err(|error| FsError::Image(Arc::new(error)))
    }
}

/// Bytes that no image holds, or none.
fn in_memory<'s>(
    source: &Source,
    node: ImageNode,
    wanted: Range<u64>,
    Scratch(answer): &'s mut Scratch,
) -> Bytes<'s> {
    answer.clear();
    if let Contents::Memory(tree, _) = &source.contents {
        let wanted = size_of_u64(wanted.start)..size_of_u64(wanted.end);
        answer.extend_from_slice(tree.bytes(node).get(wanted).unwrap_or(&[]));
    }
    Bytes::Here(answer)
}

/// Where a read ends: at the end of the file, or before.
fn end(source: &Source, node: ImageNode, offset: u64, len: u32) -> Result<u64, FsError> {
    match source.contents.attr(node).kind {
        Kind::File { size } => Ok(offset.saturating_add(u64::from(len)).min(size)),
        _ => Err(FsError::WrongKind),
    }
}

/// A file of an image, being read.
struct ImageFile<'a> {
    reader: Reader<'a>,
    source: &'a Arc<Source>,
    image: &'a Image,
    node: ImageNode,
}

impl<'a> ImageFile<'a> {
    fn new(reader: Reader<'a>, source: &'a Arc<Source>, image: &'a Image, node: ImageNode) -> Self {
        Self {
            reader,
            source,
            image,
            node,
        }
    }

    /// The next block of a request.
    fn read_on<'s>(
        &self,
        reading: &'s mut Reading,
        end: u64,
        scratch: &'s mut Scratch,
    ) -> Result<Option<Bytes<'s>>, FsError> {
        let Reading { offset, answer, .. } = reading;
        let at = *offset + to_u64(answer.len());
        let piece = self.piece(at, end)?;
        let after = at + to_u64(piece.range.len());
        if answer.is_empty() {
            if after == end {
                return self.read_one(piece, scratch).map(Some);
            }
            answer.reserve_exact(size_of_u64(end - at));
            self.want_rest(after, end);
        }
        self.append(&piece, answer, scratch)?;
        Ok((after == end).then_some(Bytes::Here(answer)))
    }

    /// Has idle cores load the later blocks of a request, while the first is loaded here.
    fn want_rest(&self, mut at: u64, end: u64) {
        let mut blocks = Vec::new();
        while at < end
            && let Ok(piece) = self.piece(at, end)
        {
            at += to_u64(piece.range.len());
            let known = self
                .reader
                .cache
                .knows(self.source.key(&piece.extent.block));
            if !piece.is_hole() && !known {
                blocks.push(piece.extent.block);
            }
        }
        self.reader.ahead.want(self.source, blocks.into_iter());
    }

    /// What lies in one block that is loaded.
    fn read_ready<'s>(&self, offset: u64, end: u64) -> Result<Option<Bytes<'s>>, FsError> {
        let piece = self.piece(offset, end)?;
        let key = self.source.key(&piece.extent.block);
        if offset + to_u64(piece.range.len()) < end || piece.is_hole() {
            return Ok(None);
        }
        let Some(block) = self.reader.cache.peek(key) else {
            return Ok(None);
        };
        self.note(&piece);
        check(&block, &piece.range)?;
        if piece.is_whole_block() {
            drop(self.reader.cache.take(key));
        }
        Ok(Some(Bytes::Cached(block, piece.range)))
    }

    /// The usual request: within one block.
    fn read_one<'s>(
        &self,
        piece: Piece,
        Scratch(answer): &'s mut Scratch,
    ) -> Result<Bytes<'s>, FsError> {
        if piece.is_hole() {
            answer.clear();
            answer.resize(piece.range.len(), 0);
        } else if let Some(block) = self.cached(&piece)? {
            check(&block, &piece.range)?;
            return Ok(Bytes::Cached(block, piece.range));
        } else {
            self.inflate(&piece, answer)?;
        }
        Ok(Bytes::Here(answer))
    }

    fn append(
        &self,
        piece: &Piece,
        answer: &mut Vec<u8>,
        Scratch(buffer): &mut Scratch,
    ) -> Result<(), FsError> {
        if piece.is_hole() {
            answer.resize(answer.len() + piece.range.len(), 0);
        } else if let Some(block) = self.cached(piece)? {
            answer.extend_from_slice(check(&block, &piece.range)?);
        } else {
            self.inflate(piece, buffer)?;
            answer.extend_from_slice(check(buffer, &piece.range)?);
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
            offset,
            range: start..start + len,
        })
    }

    /// The block of a piece through the cache; none when it is to go past it.
    fn cached(&self, piece: &Piece) -> Result<Option<Block>, FsError> {
        let block = &piece.extent.block;
        let key = self.source.key(block);
        self.note(piece);
        let found = if piece.is_whole_block() {
            self.reader.cache.take(key)
        } else {
            let load = || self.reader.load(self.source, self.image, block);
            Some(self.reader.cache.get(key, load))
        };
        found.transpose().map_err(|miss| match miss {
            Miss::Failed(error) => error,
            Miss::Late => FsError::Late,
        })
    }

    fn inflate(&self, piece: &Piece, out: &mut Vec<u8>) -> Result<(), FsError> {
        let block = &piece.extent.block;
        self.reader.inflate(self.source, self.image, block, out)
    }

    /// Tells that a block is being read, before it is loaded: what comes next may be loaded at
    /// the same time.
    fn note(&self, piece: &Piece) {
        let block = piece.extent.block;
        self.reader.ahead.cancel(self.source.key(&block));
        let Some(spot) = self.image.spot(self.node, piece.offset) else {
            return;
        };
        let wanted = self.source.trail().read(self.image, spot, block);
        let cache = self.reader.cache;
        let new = wanted
            .into_iter()
            .filter(|block| !cache.knows(self.source.key(block)));
        self.reader.ahead.want(self.source, new);
    }
}

/// The bytes of a block that a piece wants.
fn check<'a>(block: &'a [u8], range: &Range<usize>) -> Result<&'a [u8], FsError> {
    let bytes = block.get(range.clone());
    bytes.ok_or(FsError::Inconsistent("a block shorter than its file needs"))
}

/// A length in memory; saturates where memory can't hold so much anyway.
fn size_of_u64(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
