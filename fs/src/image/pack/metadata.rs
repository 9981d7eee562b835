//! Metadata blocks: bytes go in, compressed blocks of 8 KiB come out.

use super::compress::Encoder;
use crate::image::format::{METADATA_SIZE, metadata_header_of};
use crate::num::to_u64;

/// A table of metadata blocks in the making.
pub(super) struct Writer {
    encoder: Encoder,
    block: Vec<u8>,
    out: Vec<u8>,
    starts: Vec<u64>,
}

impl Writer {
    pub(super) fn new(encoder: Encoder) -> Self {
        Self {
            encoder,
            block: Vec::with_capacity(METADATA_SIZE),
            out: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Where the next byte will be: start of its block from the table's start, offset in it.
    pub(super) fn position(&self) -> (u64, u16) {
        let offset = u16::try_from(self.block.len());
        let offset = offset.expect("Invariant: a block of 8 KiB is flushed when it is full");
        (to_u64(self.out.len()), offset)
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = METADATA_SIZE - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == METADATA_SIZE {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let packed = self.encoder.pack(std::mem::take(&mut self.block));
        let header = metadata_header_of(packed.bytes.len(), packed.compressed)
            .expect("Invariant: packing makes no block larger than 8 KiB");
        self.starts.push(to_u64(self.out.len()));
        self.out.extend_from_slice(&header.to_le_bytes());
        self.out.extend_from_slice(&packed.bytes);
    }

    /// The table's bytes, and where in them each block starts.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<u64>) {
        if !self.block.is_empty() {
            self.flush();
        }
        (self.out, self.starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::pack::Compressor;

    #[test]
    fn a_position_is_never_at_the_end_of_a_block() {
        let encoder = Encoder::new(Compressor::Zstd(1)).unwrap();
        let mut writer = Writer::new(encoder);
        writer.write(&[1; METADATA_SIZE - 1]);
        assert_eq!(writer.position(), (0, 8191));
        writer.write(&[1]);
        let (start, offset) = writer.position();
        assert!(start > 0);
        assert_eq!(offset, 0);
        let (bytes, starts) = writer.finish();
        assert_eq!(starts, [0]);
        assert_eq!(to_u64(bytes.len()), start);
    }
}
