//! What the walk and the writer share of squashfs 4.0: the superblock and the packed words.
//!
//! The superblock's fields are backhand's [`SuperBlock`]; the 96 bytes are decoded and encoded
//! here, because backhand's own reader also follows what they point to. The only module that
//! names backhand. Checks nothing but what
//! is needed to know that these bytes are a superblock; [`super::verify`] does the rest.

use backhand::compression::Compressor;
pub(crate) use backhand::{Flags, SuperBlock};

use super::bytes::Bytes;

/// First bytes of every image.
pub(crate) const MAGIC: [u8; 4] = *b"hsqs";
/// Bytes of the superblock.
pub(crate) const SUPERBLOCK_SIZE: usize = 96;
/// Bytes that a full metadata block holds.
pub(crate) const METADATA_SIZE: usize = 8192;
/// A table that an image does not have.
pub(crate) const NO_TABLE: u64 = u64::MAX;
/// "No fragment" and "no extended attributes" in an inode.
pub(crate) const NONE: u32 = u32::MAX;
/// Longest name of a directory entry.
pub(crate) const NAME_MAX: usize = 255;
/// Longest symlink target that Linux follows.
pub(crate) const TARGET_MAX: usize = 4095;

/// The namespaces of extended attributes, in the order of their numbers.
pub(crate) const XATTR_PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Longest value of an extended attribute that Linux allows.
pub(crate) const XATTR_VALUE_MAX: u32 = 65536;

/// Set in a metadata block's header when it is stored as it is.
const METADATA_STORED: u16 = 1 << 15;
/// Set in a data block's word when it is stored as it is.
const DATA_STORED: u32 = 1 << 24;

/// The algorithms that this crate inflates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Nothing is compressed.
    Stored,
    /// zlib streams, which squashfs calls gzip.
    Gzip,
    /// LZO1X.
    Lzo,
    /// xz streams, with or without a filter for machine code.
    Xz,
    /// LZ4 blocks without frame.
    Lz4,
    /// zstd frames.
    Zstd,
}

/// All codecs with their numbers in a superblock.
const CODECS: [(u16, Codec); 6] = [
    (0, Codec::Stored),
    (1, Codec::Gzip),
    (3, Codec::Lzo),
    (4, Codec::Xz),
    (5, Codec::Lz4),
    (6, Codec::Zstd),
];

impl Codec {
    /// The number of it in a superblock (and in our index).
    pub(crate) fn id(self) -> u16 {
        CODECS
            .iter()
            .find_map(|(id, codec)| (*codec == self).then_some(*id))
            .expect("Invariant: every codec is in the table")
    }

    /// What `mksquashfs -comp` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stored => "none",
            Self::Gzip => "gzip",
            Self::Lzo => "lzo",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of a number.
    pub(crate) fn from_id(id: u16) -> Option<Self> {
        CODECS
            .iter()
            .find_map(|(known, codec)| (*known == id).then_some(*codec))
    }
}

/// The codec of a compressor, or the name of one that Linux does not read either.
pub(crate) fn codec_of(compressor: Compressor) -> Result<Codec, &'static str> {
    match compressor {
        Compressor::Uncompressed => Ok(Codec::Stored),
        Compressor::Gzip => Ok(Codec::Gzip),
        Compressor::Lzma => Err("lzma"),
        Compressor::Lzo => Ok(Codec::Lzo),
        Compressor::Xz => Ok(Codec::Xz),
        Compressor::Lz4 => Ok(Codec::Lz4),
        Compressor::Zstd => Ok(Codec::Zstd),
    }
}

/// The compressor of a codec.
pub(crate) fn compressor_of(codec: Codec) -> Compressor {
    match codec {
        Codec::Stored => Compressor::Uncompressed,
        Codec::Gzip => Compressor::Gzip,
        Codec::Lzo => Compressor::Lzo,
        Codec::Xz => Compressor::Xz,
        Codec::Lz4 => Compressor::Lz4,
        Codec::Zstd => Compressor::Zstd,
    }
}

/// Why 96 bytes are no superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSuperblock {
    /// Fewer bytes, or another magic number.
    Magic,
    /// A squashfs of another version.
    Version(u16, u16),
    /// A compressor number that squashfs 4.0 does not know.
    Compressor(u16),
}

/// Decodes a superblock.
pub(crate) fn decode_superblock(bytes: &[u8]) -> Result<SuperBlock, NotSuperblock> {
    let mut from = Bytes::new(bytes);
    if bytes.len() < SUPERBLOCK_SIZE || from.array() != Some(MAGIC) {
        return Err(NotSuperblock::Magic);
    }
    let version = {
        let mut at = Bytes::new(&bytes[28..]);
        (at.u16(), at.u16())
    };
    if let (Some(major), Some(minor)) = version
        && (major, minor) != (4, 0)
    {
        return Err(NotSuperblock::Version(major, minor));
    }
    let compressor = Bytes::new(&bytes[20..]).u16().unwrap_or(u16::MAX);
    let compressor = compressor_from_id(compressor)?;
    decode_fields(from, compressor).ok_or(NotSuperblock::Magic)
}

/// The fields after the magic number.
fn decode_fields(mut from: Bytes<'_>, compressor: Compressor) -> Option<SuperBlock> {
    let (inode_count, mod_time) = (from.u32()?, from.u32()?);
    let (block_size, frag_count) = (from.u32()?, from.u32()?);
    from.u16()?; // The compressor, decoded by the caller.
    Some(SuperBlock {
        magic: MAGIC,
        inode_count,
        mod_time,
        block_size,
        frag_count,
        compressor,
        block_log: from.u16()?,
        flags: from.u16()?,
        id_count: from.u16()?,
        version_major: from.u16()?,
        version_minor: from.u16()?,
        root_inode: from.u64()?,
        bytes_used: from.u64()?,
        id_table: from.u64()?,
        xattr_table: from.u64()?,
        inode_table: from.u64()?,
        dir_table: from.u64()?,
        frag_table: from.u64()?,
        export_table: from.u64()?,
    })
}

fn compressor_from_id(id: u16) -> Result<Compressor, NotSuperblock> {
    Ok(match id {
        0 => Compressor::Uncompressed,
        1 => Compressor::Gzip,
        2 => Compressor::Lzma,
        3 => Compressor::Lzo,
        4 => Compressor::Xz,
        5 => Compressor::Lz4,
        6 => Compressor::Zstd,
        other => return Err(NotSuperblock::Compressor(other)),
    })
}

/// Encodes the superblock of an image that this crate can read again.
pub(crate) fn encode_superblock(superblock: &SuperBlock, codec: Codec) -> Vec<u8> {
    let mut out = Vec::with_capacity(SUPERBLOCK_SIZE);
    out.extend_from_slice(&superblock.magic);
    for word in [
        superblock.inode_count,
        superblock.mod_time,
        superblock.block_size,
        superblock.frag_count,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for half in [
        codec.id(),
        superblock.block_log,
        superblock.flags,
        superblock.id_count,
        superblock.version_major,
        superblock.version_minor,
    ] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    for position in [
        superblock.root_inode,
        superblock.bytes_used,
        superblock.id_table,
        superblock.xattr_table,
        superblock.inode_table,
        superblock.dir_table,
        superblock.frag_table,
        superblock.export_table,
    ] {
        out.extend_from_slice(&position.to_le_bytes());
    }
    out
}

/// The header of a metadata block: bytes it takes on disk, and whether they are compressed.
pub(crate) fn metadata_header(header: u16) -> (usize, bool) {
    let size = usize::from(header & !METADATA_STORED);
    (size, header & METADATA_STORED == 0)
}

/// The header for a metadata block of `size` bytes on disk; none when that is too many.
pub(crate) fn metadata_header_of(size: usize, compressed: bool) -> Option<u16> {
    let size = u16::try_from(size)
        .ok()
        .filter(|size| usize::from(*size) <= METADATA_SIZE)?;
    Some(if compressed {
        size
    } else {
        size | METADATA_STORED
    })
}

/// One word of a block list: bytes the block takes on disk, and whether they are compressed.
///
/// A word of 0 is a hole. None when bits are set that mean nothing.
pub(crate) fn data_word(word: u32) -> Option<(u32, bool)> {
    let stored = word & (DATA_STORED - 1);
    let compressed = word & DATA_STORED == 0;
    (word < DATA_STORED << 1 && (stored > 0 || compressed)).then_some((stored, compressed))
}

/// The word for a block of `size` bytes on disk.
pub(crate) fn data_word_of(size: u32, compressed: bool) -> u32 {
    if compressed { size } else { size | DATA_STORED }
}

/// How many blocks of a file's own (outside fragments) hold its bytes.
pub(crate) fn block_count(size: u64, block_size: u32, in_fragment: bool) -> u64 {
    let block_size = u64::from(block_size);
    if in_fragment {
        size / block_size
    } else {
        size.div_ceil(block_size)
    }
}

/// Why `name` may not name a directory entry; none when it may.
pub(crate) fn name_fault(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("it is empty"),
        b"." | b".." => Some("it means another directory"),
        _ if name.len() > NAME_MAX => Some("it is longer than 255 bytes"),
        _ if name.contains(&b'/') => Some("it contains a slash"),
        _ if name.contains(&0) => Some("it contains a NUL"),
        _ => None,
    }
}

/// Why `target` may not be a symlink's target; none when it may.
pub(crate) fn target_fault(target: &[u8]) -> Option<&'static str> {
    match target {
        b"" => Some("it is empty"),
        _ if target.len() > TARGET_MAX => Some("it is longer than 4095 bytes"),
        _ if target.contains(&0) => Some("it contains a NUL"),
        _ => None,
    }
}

/// Whether squashfs allows blocks of that size.
pub(crate) fn block_size_is_legal(block_size: u32) -> bool {
    block_size.is_power_of_two()
        && (backhand::MIN_BLOCK_SIZE..=backhand::MAX_BLOCK_SIZE).contains(&block_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_blocks_survive_and_senseless_ones_are_refused() {
        assert_eq!(data_word(data_word_of(77, true)), Some((77, true)));
        assert_eq!(data_word(data_word_of(77, false)), Some((77, false)));
        assert_eq!(data_word(0), Some((0, true)));
        assert_eq!(data_word(1 << 24), None);
        assert_eq!(data_word(1 << 25), None);
    }

    #[test]
    fn names_that_would_leave_their_directory_are_faults() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; 256]] {
            assert!(name_fault(name).is_some(), "{name:?}");
        }
        for name in [&b"..."[..], b"a", b"\xff", &[b'x'; 255]] {
            assert!(name_fault(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn files_in_fragments_have_one_block_less() {
        assert_eq!(block_count(0, 4096, false), 0);
        assert_eq!(block_count(4097, 4096, false), 2);
        assert_eq!(block_count(4097, 4096, true), 1);
    }

    #[test]
    fn a_superblock_is_what_backhand_reads_too() {
        let superblock = SuperBlock {
            magic: MAGIC,
            inode_count: 1,
            mod_time: 2,
            block_size: 1 << 17,
            frag_count: 3,
            compressor: Compressor::Zstd,
            block_log: 17,
            flags: 0x240,
            id_count: 4,
            version_major: 4,
            version_minor: 0,
            root_inode: 5,
            bytes_used: 6,
            id_table: 7,
            xattr_table: 8,
            inode_table: 9,
            dir_table: 10,
            frag_table: 11,
            export_table: 12,
        };
        let bytes = encode_superblock(&superblock, Codec::Zstd);
        assert_eq!(bytes.len(), SUPERBLOCK_SIZE);
        assert_eq!(decode_superblock(&bytes), Ok(superblock));
        let kind = backhand::kind::Kind::from_const(backhand::kind::LE_V4_0).unwrap();
        let mut reader = std::io::BufReader::new(std::io::Cursor::new(bytes));
        let theirs = backhand::Squashfs::superblock_and_compression_options(&mut reader, &kind);
        assert_eq!(theirs.unwrap().0, superblock);
    }
}
