//! Streams packed in one of the ways that archives are: gzip, xz, zstd, lz4, or not at all.
//!
//! Invariant: a decoder takes a bounded amount of memory whatever the stream says of itself. How
//! much comes out is the reader's to bound.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Memory of an xz decoder; dpkg's own files need 65 MiB at most.
const XZ_MEMORY: u64 = 256 << 20;
/// log2 of the window of a zstd decoder.
const ZSTD_WINDOW: u32 = 27;

/// How something is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

/// Every kind with the ending that files of it have.
const ENDINGS: [(&str, Kind); 5] = [
    ("", Kind::Plain),
    (".lz4", Kind::Lz4),
    (".gz", Kind::Gzip),
    (".xz", Kind::Xz),
    (".zst", Kind::Zstd),
];

/// Every packer with the bytes that its streams begin with.
const MAGIC: [(&[u8], Kind); 4] = [
    (&[0x1f, 0x8b], Kind::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Kind::Zstd),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Kind::Xz),
    (&[0x04, 0x22, 0x4d, 0x18], Kind::Lz4),
];

/// The file of that name that is there, with whatever ending.
pub(super) fn find(path: &Path) -> Option<(PathBuf, Kind)> {
    ENDINGS.into_iter().find_map(|(ending, kind)| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let file = PathBuf::from(name);
        file.is_file().then_some((file, kind))
    })
}

impl Kind {
    /// What `name` is packed with, when it is `stem` with one of the endings.
    pub(super) fn of(name: &str, stem: &str) -> Option<Self> {
        let ending = name.strip_prefix(stem)?;
        let known = ENDINGS.into_iter().find(|(known, _)| *known == ending);
        known.map(|(_, kind)| kind)
    }

    /// What a stream is packed with, by its first bytes; plain where they are of no packer.
    pub(super) fn of_magic(first: &[u8]) -> Self {
        MAGIC
            .into_iter()
            .find(|(magic, _)| first.starts_with(magic))
            .map_or(Self::Plain, |(_, kind)| kind)
    }

    /// Unpacks.
    pub(super) fn reader<'a>(self, packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Plain => Box::new(packed),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
            Self::Xz => {
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)
                    .map_err(io::Error::other)?;
                Box::new(liblzma::read::XzDecoder::new_stream(packed, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(packed)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Box::new(decoder)
            }
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(BufReader::new(packed))),
        })
    }
}

/// Unpacks a stream in the way that its first bytes tell.
pub(super) fn unpacking<'a>(mut packed: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Kind::of_magic(packed.fill_buf()?).reader(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_in_the_name() {
        for (name, expected) in [
            ("data.tar", Some(Kind::Plain)),
            ("data.tar.xz", Some(Kind::Xz)),
            ("data.tar.zst", Some(Kind::Zstd)),
            ("data.tar.gz", Some(Kind::Gzip)),
            ("data.tar.bz2", None),
            ("control.tar.xz", None),
        ] {
            assert_eq!(Kind::of(name, "data.tar"), expected, "{name}");
        }
    }

    #[test]
    fn the_kind_is_in_the_first_bytes() {
        let packed = zstd::stream::encode_all(&b"x"[..], 1).expect("packed");
        assert_eq!(Kind::of_magic(&packed), Kind::Zstd);
        let mut packed = flate2::read::GzEncoder::new(&b"x"[..], flate2::Compression::fast());
        let mut first = [0; 4];
        packed.read_exact(&mut first).expect("packed");
        assert_eq!(Kind::of_magic(&first), Kind::Gzip);
        for plain in [&b""[..], b"\x1f", b"./usr"] {
            assert_eq!(Kind::of_magic(plain), Kind::Plain);
        }
    }

    #[test]
    fn a_window_larger_than_the_bound_is_refused() {
        let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
        packed.window_log(28).expect("a window");
        packed.include_contentsize(false).expect("no size");
        io::copy(&mut io::repeat(1).take(1 << 20), &mut packed).expect("written");
        let packed = packed.finish().expect("packed");
        let mut reader = Kind::Zstd.reader(&packed[..]).expect("a reader");
        io::copy(&mut reader, &mut io::sink()).expect_err("256 MiB of window");
    }
}
