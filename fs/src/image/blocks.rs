//! Inflating blocks: one decompressor and one input buffer per thread.
//!
//! Invariant: output is bounded by the caller's buffer, whatever the input says about itself.
//! Does not know where blocks lie; [`super::Image::read_block`] reads them.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::format::Codec;

/// Why a block does not inflate, in words.
pub(crate) type Fault = String;

/// Decompressors that are reused from block to block.
pub(crate) struct Decoder {
    zstd: zstd_safe::DCtx<'static>,
    zlib: libdeflater::Decompressor,
    stored: Vec<u8>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new());
}

impl Decoder {
    /// Decompressors with empty buffers.
    pub(crate) fn new() -> Self {
        Self {
            zstd: zstd_safe::DCtx::create(),
            zlib: libdeflater::Decompressor::new(),
            stored: Vec::new(),
        }
    }

    /// Runs `work` with this thread's decoder.
    pub(crate) fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        DECODER.with_borrow_mut(work)
    }

    /// Inflates `stored` into `out`; the answer is how many bytes that gave. More than `out`
    /// holds is a fault.
    pub(crate) fn inflate(
        &mut self,
        codec: Codec,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Fault> {
        match codec {
            Codec::Stored => Err("it is compressed, in an image without a compressor".to_owned()),
            Codec::Zstd => self
                .zstd
                .decompress(out, stored)
                .map_err(|code| format!("zstd: {}", zstd_safe::get_error_name(code))),
            Codec::Gzip => self
                .zlib
                .zlib_decompress(stored, out)
                .map_err(|error| format!("zlib: {error}")),
        }
    }

    /// Reads `count` bytes at `start` of `file` and inflates them as [`Decoder::inflate`] does.
    pub(crate) fn read_inflated(
        &mut self,
        file: &File,
        (start, count): (u64, usize),
        codec: Codec,
        out: &mut [u8],
    ) -> io::Result<Result<usize, Fault>> {
        let mut stored = std::mem::take(&mut self.stored);
        stored.resize(count, 0);
        let read = file.read_exact_at(&mut stored, start);
        let inflated = read.map(|()| self.inflate(codec, &stored, out));
        self.stored = stored;
        inflated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_output_than_the_buffer_holds_is_a_fault() {
        let mut compressed = vec![0; 1 << 16];
        let size = zstd_safe::compress(&mut compressed[..], &[7; 9000], 3).unwrap();
        let mut decoder = Decoder::new();
        let mut small = vec![0; 8192];
        let fault = decoder.inflate(Codec::Zstd, &compressed[..size], &mut small);
        assert!(fault.unwrap_err().contains("zstd"));
        let mut enough = vec![0; 10_000];
        let inflated = decoder.inflate(Codec::Zstd, &compressed[..size], &mut enough);
        assert_eq!(inflated, Ok(9000));
    }

    #[test]
    fn noise_is_a_fault_of_every_codec() {
        let mut out = vec![0; 8192];
        for codec in [Codec::Stored, Codec::Gzip, Codec::Zstd] {
            let inflated = Decoder::new().inflate(codec, &[0xa5; 100], &mut out);
            assert!(inflated.is_err(), "{codec:?}");
        }
    }
}
