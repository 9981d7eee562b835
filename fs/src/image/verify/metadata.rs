//! Reading the image's metadata: bounded reads, inflated tables, lookup tables.
//!
//! Invariant: every read is within the file, and every byte that is kept in memory was charged to
//! the budget before it was read or inflated.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::VerifyError;
use crate::image::blocks::Decoder;
use crate::image::bytes::Bytes;
use crate::image::format::{Codec, METADATA_SIZE, SUPERBLOCK_SIZE, metadata_header};
use crate::num::to_u64;

/// The image file, how much of it counts, and how much of its metadata may still be inflated.
pub(super) struct Source<'a> {
    file: &'a File,
    path: &'a Path,
    /// Bytes that may be read: the file's length, later what the superblock says is used.
    pub(super) length: u64,
    decoder: Decoder,
    left: u64,
    limit: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a File, path: &'a Path, length: u64, limit: u64) -> Self {
        Self {
            file,
            path,
            length,
            decoder: Decoder::new(),
            left: limit,
            limit,
        }
    }

    /// Takes `bytes` from the budget.
    pub(super) fn charge(&mut self, bytes: u64) -> Result<(), VerifyError> {
        self.left = self.left.checked_sub(bytes).ok_or(VerifyError::TooMuch {
            what: "bytes of metadata",
            limit: self.limit,
        })?;
        Ok(())
    }

    /// Fills `out` from `start` on.
    pub(super) fn read(
        &self,
        part: &'static str,
        start: u64,
        out: &mut [u8],
    ) -> Result<(), VerifyError> {
        let end = start.checked_add(to_u64(out.len()));
        if end.is_none_or(|end| end > self.length) {
            return Err(VerifyError::damaged(
                part,
                start,
                format!("it reaches beyond the image's {} bytes", self.length),
            ));
        }
        self.file
            .read_exact_at(out, start)
            .map_err(|source| VerifyError::io(self.path, source))
    }

    /// Inflates the metadata block at `start` to the end of `out`; the answer is where the next
    /// one starts.
    fn metadata_block(
        &mut self,
        part: &'static str,
        codec: Codec,
        start: u64,
        out: &mut Vec<u8>,
    ) -> Result<u64, VerifyError> {
        let damaged = |reason: String| VerifyError::damaged(part, start, reason);
        let mut header = [0; 2];
        self.read(part, start, &mut header)?;
        let (size, compressed) = metadata_header(u16::from_le_bytes(header));
        if size == 0 || size > METADATA_SIZE {
            return Err(damaged(format!("a metadata block of {size} bytes")));
        }
        let mut buffer = [0; METADATA_SIZE];
        let stored = &mut buffer[..size];
        self.read(part, start + 2, stored)?;
        if compressed {
            let mut inflated = [0; METADATA_SIZE];
            let count = self
                .decoder
                .inflate(codec, stored, &mut inflated)
                .map_err(damaged)?;
            out.extend_from_slice(&inflated[..count]);
        } else {
            out.extend_from_slice(stored);
        }
        Ok(start + 2 + to_u64(size))
    }

    /// Reads a table of `bytes` bytes whose metadata blocks are listed at `position`.
    pub(super) fn lookup_table(
        &mut self,
        part: &'static str,
        codec: Codec,
        position: u64,
        bytes: u64,
    ) -> Result<LookupTable, VerifyError> {
        self.charge(bytes)?;
        let starts = self.block_list(part, position, bytes)?;
        let mut table = LookupTable {
            bytes: Vec::new(),
            first_block: starts.first().copied().unwrap_or(position),
        };
        for start in starts {
            self.metadata_block(part, codec, start, &mut table.bytes)?;
        }
        if to_u64(table.bytes.len()) != bytes {
            return Err(VerifyError::damaged(
                part,
                position,
                format!("it holds {} bytes, not {bytes}", table.bytes.len()),
            ));
        }
        Ok(table)
    }

    /// Where the metadata blocks of a lookup table of `bytes` bytes start.
    pub(super) fn block_list(
        &mut self,
        part: &'static str,
        position: u64,
        bytes: u64,
    ) -> Result<Vec<u64>, VerifyError> {
        let damaged = |reason: &str| VerifyError::damaged(part, position, reason);
        let count = bytes.div_ceil(to_u64(METADATA_SIZE));
        self.charge(count * 8)?;
        let count = usize::try_from(count).map_err(|_| damaged("it is too large"))?;
        let mut list = vec![0; count * 8];
        self.read(part, position, &mut list)?;
        let mut from = Bytes::new(&list);
        let mut starts = Vec::with_capacity(count);
        while let Some(start) = from.u64() {
            if starts.last().is_some_and(|before| start <= *before) || start >= position {
                return Err(damaged("its blocks are not in order before it"));
            }
            if start < to_u64(SUPERBLOCK_SIZE) {
                return Err(damaged("a block of it is in the superblock"));
            }
            starts.push(start);
        }
        Ok(starts)
    }

    /// Reads all metadata blocks from `start` to `end`.
    pub(super) fn table(
        &mut self,
        part: &'static str,
        codec: Codec,
        (start, end): (u64, u64),
    ) -> Result<Table, VerifyError> {
        let mut table = Table::default();
        let mut at = start;
        while at < end {
            self.charge(to_u64(METADATA_SIZE))?;
            let (block, first) = (at - start, table.bytes.len());
            at = self.metadata_block(part, codec, at, &mut table.bytes)?;
            table.blocks.push((block, first));
        }
        if at > end {
            return Err(VerifyError::damaged(
                part,
                start,
                "its last metadata block reaches into the next table",
            ));
        }
        Ok(table)
    }
}

/// A lookup table (ids, fragments, attribute sets), inflated.
pub(super) struct LookupTable {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// Where its first metadata block starts.
    pub(super) first_block: u64,
}

/// A table of metadata blocks that is referred to by block and offset, inflated.
///
/// Its blocks need not be full: what goes on behind the end of one goes on at the start of the
/// next, wherever that end is.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// Where each block starts: in the image, from the table's start, and in `bytes`.
    blocks: Vec<(u64, usize)>,
}

impl Table {
    /// The position in `bytes` of byte `offset` of the block that starts at `block`.
    pub(super) fn position(&self, block: u64, offset: u16) -> Option<usize> {
        let number = self
            .blocks
            .binary_search_by_key(&block, |(start, _)| *start)
            .ok()?;
        let (_, first) = self.blocks[number];
        let end = self.blocks.get(number + 1).map(|(_, first)| *first);
        let position = first + usize::from(offset);
        (position < end.unwrap_or(first + METADATA_SIZE)).then_some(position)
    }

    /// A cursor from byte `offset` of the block that starts at `block`, to the table's end.
    pub(super) fn from(&self, block: u64, offset: u16) -> Option<Bytes<'_>> {
        let rest = self.bytes.get(self.position(block, offset)?..)?;
        Some(Bytes::new(rest))
    }
}
