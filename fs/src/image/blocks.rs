//! Inflating blocks: one decompressor and one input buffer per thread.
//!
//! Invariant: output is bounded by the caller's buffer, whatever the input says about itself, and
//! what a decoder allocates besides by a constant. A decoder says how many bytes a block gave;
//! whether that is the right number is for the caller to know.
//! Does not know where blocks lie; [`super::Image::read_block`] reads them.
//!
//! zstd and zlib keep their state from block to block. LZO and LZ4 have none. An xz stream is set
//! up anew for each block: its dictionary may have another size, and the library resets none.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use liblzma::stream::{Action, Status, Stream};

use super::format::Codec;

/// What an xz stream may ask for. Dictionaries of squashfs are not larger than a block, at most
/// 1 MiB; besides there are some tens of KiB of tables.
const XZ_MEMORY: u64 = 4 << 20;

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
            Codec::Xz => inflate_xz(stored, out),
            Codec::Lz4 => lz4_flex::block::decompress_into(stored, out)
                .map_err(|error| format!("lz4: {error}")),
            Codec::Lzo => {
                lzo::decompress_into(stored, out).map_err(|error| format!("lzo: {error}"))
            }
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

/// Inflates an xz stream; as for the kernel, it may have any filters, and bytes behind its end are
/// not looked at.
fn inflate_xz(stored: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
    let fault = |error: liblzma::stream::Error| format!("xz: {error}");
    let mut stream = Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(fault)?;
    match stream.process(stored, out, Action::Finish).map_err(fault)? {
        Status::StreamEnd => {}
        Status::Ok | Status::GetCheck | Status::MemNeeded => {
            return Err("xz: the stream does not end where the block does".to_owned());
        }
    }
    usize::try_from(stream.total_out()).map_err(|_| "xz: too many bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use liblzma::stream::{Check, Filters, LzmaOptions};

    use super::*;

    const CODECS: [Codec; 5] = [Codec::Gzip, Codec::Zstd, Codec::Xz, Codec::Lz4, Codec::Lzo];

    /// `count` times the byte 7, as each codec may store it.
    fn packed(codec: Codec, count: usize) -> Vec<u8> {
        let plain = vec![7; count];
        match codec {
            Codec::Stored => plain,
            Codec::Zstd => {
                let mut out = vec![0; count + 1000];
                let size = zstd_safe::compress(&mut out[..], &plain, 3).unwrap();
                out.truncate(size);
                out
            }
            Codec::Gzip => {
                let mut encoder =
                    libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
                let mut out = vec![0; count + 1000];
                let size = encoder.zlib_compress(&plain, &mut out).unwrap();
                out.truncate(size);
                out
            }
            Codec::Xz => xz(&plain, 1 << 17),
            Codec::Lz4 => lz4_flex::block::compress(&plain),
            Codec::Lzo => lzo_run(count),
        }
    }

    fn xz(plain: &[u8], dictionary: u32) -> Vec<u8> {
        let mut options = LzmaOptions::new_preset(1).unwrap();
        options.dict_size(dictionary);
        let mut filters = Filters::new();
        filters.x86().lzma2(&options);
        let mut stream = Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
        let mut out = Vec::with_capacity(plain.len() + 1000);
        let status = stream.process_vec(plain, &mut out, Action::Finish);
        assert_eq!(status, Ok(Status::StreamEnd));
        out
    }

    /// LZO by hand: four literal bytes, one long match at distance 1, the end.
    fn lzo_run(count: usize) -> Vec<u8> {
        let mut out = vec![21, 7, 7, 7, 7, 0x20];
        let mut rest = count - 4 - 33;
        while rest > 255 {
            out.push(0);
            rest -= 255;
        }
        out.push(u8::try_from(rest).unwrap());
        out.extend([0, 0, 0x11, 0, 0]);
        out
    }

    #[test]
    fn more_output_than_the_buffer_holds_is_a_fault_of_every_codec() {
        let mut decoder = Decoder::new();
        for codec in CODECS {
            let stored = packed(codec, 9000);
            for room in [0, 8192, 8999] {
                let fault = decoder.inflate(codec, &stored, &mut vec![0; room]);
                assert!(fault.is_err(), "{codec:?} into {room}: {fault:?}");
            }
            for room in [9000, 10_000] {
                let mut out = vec![0; room];
                assert_eq!(
                    decoder.inflate(codec, &stored, &mut out),
                    Ok(9000),
                    "{codec:?}"
                );
                assert!(out[..9000].iter().all(|byte| *byte == 7), "{codec:?}");
            }
        }
    }

    #[test]
    fn noise_is_a_fault_of_every_codec() {
        let mut out = vec![0; 8192];
        let inflated = Decoder::new().inflate(Codec::Stored, &[0xa5; 100], &mut out);
        assert!(inflated.unwrap_err().contains("without a compressor"));
        for codec in CODECS {
            for noise in [[0xa5; 100], [0xff; 100]] {
                let inflated = Decoder::new().inflate(codec, &noise, &mut out);
                assert!(inflated.is_err(), "{codec:?}");
            }
        }
    }

    #[test]
    fn a_block_that_is_cut_short_is_a_fault_of_every_codec_at_every_length() {
        let mut decoder = Decoder::new();
        let mut out = vec![0; 5000];
        for codec in CODECS {
            let stored = packed(codec, 5000);
            for length in 1..stored.len() {
                let inflated = decoder.inflate(codec, &stored[..length], &mut out);
                // An LZ4 block has no end of its own: cut between two sequences it is a shorter one.
                let shorter = codec == Codec::Lz4 && inflated.as_ref().is_ok_and(|got| *got < 5000);
                assert!(
                    inflated.is_err() || shorter,
                    "{codec:?}, {length}: {inflated:?}"
                );
            }
        }
    }

    #[test]
    fn an_xz_stream_that_asks_for_much_memory_is_a_fault() {
        let mut out = vec![0; 9000];
        let largest = xz(&[7; 9000], 1 << 20);
        let mut decoder = Decoder::new();
        assert_eq!(decoder.inflate(Codec::Xz, &largest, &mut out), Ok(9000));
        let bomb = xz(&[7; 9000], 1 << 28);
        let fault = decoder.inflate(Codec::Xz, &bomb, &mut out).unwrap_err();
        assert!(fault.contains("xz"), "{fault}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Damage is told or gives other bytes; it never panics and never leaves the buffer.
        #[test]
        fn overwritten_blocks_do_no_harm(
            at in 0..60_usize,
            value: u8,
            second in 0..60_usize,
            other: u8,
        ) {
            let mut decoder = Decoder::new();
            let mut out = vec![0; 5000];
            for codec in CODECS {
                let mut stored = packed(codec, 5000);
                let count = stored.len();
                stored[at % count] = value;
                stored[second % count] = other;
                if let Ok(got) = decoder.inflate(codec, &stored, &mut out) {
                    proptest::prop_assert!(got <= 5000);
                }
                // What a block did to the decoder is forgotten at the next.
                let sound = packed(codec, 5000);
                proptest::prop_assert_eq!(decoder.inflate(codec, &sound, &mut out), Ok(5000));
            }
        }
    }
}
