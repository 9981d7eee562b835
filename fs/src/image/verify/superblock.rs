//! The superblock, the tables it points to, and the small tables: ids and fragments.
//!
//! Owns the rules on where tables may lie: inodes, then directories, then everything else, each
//! within the bytes that the superblock says are used, which are within the file.

use super::metadata::Source;
use super::{Bounds, VerifyError, xattrs};
use crate::image::bytes::Bytes;
use crate::image::format::{self, Codec, NO_TABLE, NotSuperblock, SUPERBLOCK_SIZE, SuperBlock};
use crate::num::{to_u64, to_usize};

/// Where the image's tables are, and the small ones themselves.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) codec: Codec,
    pub(super) block_size: u32,
    pub(super) inode_count: u32,
    /// Reference of the root's inode: block and offset.
    pub(super) root: u64,
    /// Where the inode table starts and ends.
    pub(super) inodes: (u64, u64),
    /// Where the directory table starts and ends.
    pub(super) directories: (u64, u64),
    /// User and group numbers.
    pub(super) ids: Vec<u32>,
    pub(super) fragments: Vec<RawFragment>,
    pub(super) xattrs: Option<xattrs::Sets>,
}

/// An entry of the fragment table whose place in the file was checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawFragment {
    pub(super) start: u64,
    pub(super) word: u32,
}

impl Layout {
    /// Reads and checks the superblock and the small tables.
    pub(super) fn read(source: &mut Source<'_>, bounds: &Bounds) -> Result<Self, VerifyError> {
        let superblock = read_superblock(source)?;
        let codec = check_fields(&superblock, source.length, bounds)?;
        source.length = superblock.bytes_used;

        let mut first_after = superblock.bytes_used;
        let fragments = read_fragments(source, &superblock, codec, &mut first_after)?;
        locate_export(source, &superblock, &mut first_after)?;
        let ids = read_ids(source, &superblock, codec, &mut first_after)?;
        let xattrs = xattrs::Sets::read(source, &superblock, codec, &mut first_after)?;

        let layout = Self {
            codec,
            block_size: superblock.block_size,
            inode_count: superblock.inode_count,
            root: superblock.root_inode,
            inodes: (superblock.inode_table, superblock.dir_table),
            directories: (superblock.dir_table, first_after),
            ids,
            fragments,
            xattrs,
        };
        layout.check_order()?;
        Ok(layout)
    }

    fn check_order(&self) -> Result<(), VerifyError> {
        let (inodes, directories) = self.inodes;
        let end = self.directories.1;
        if to_u64(SUPERBLOCK_SIZE) <= inodes && inodes < directories && directories <= end {
            Ok(())
        } else {
            Err(VerifyError::damaged(
                "superblock",
                0,
                format!(
                    "its tables are not in order: inodes at {inodes}, directories at {directories}, others at {end}"
                ),
            ))
        }
    }
}

fn read_superblock(source: &Source<'_>) -> Result<SuperBlock, VerifyError> {
    let mut bytes = [0; SUPERBLOCK_SIZE];
    if source.length < to_u64(SUPERBLOCK_SIZE) {
        return Err(VerifyError::NotSquashfs);
    }
    source.read("superblock", 0, &mut bytes)?;
    format::decode_superblock(&bytes).map_err(|fault| match fault {
        NotSuperblock::Magic => VerifyError::NotSquashfs,
        NotSuperblock::Version(major, minor) => VerifyError::Version { major, minor },
        NotSuperblock::Compressor(number) => VerifyError::Compressor {
            name: format!("compressor-{number}"),
        },
    })
}

/// Checks what the superblock says by itself.
fn check_fields(
    superblock: &SuperBlock,
    file_length: u64,
    bounds: &Bounds,
) -> Result<Codec, VerifyError> {
    let damaged = |reason: String| Err(VerifyError::damaged("superblock", 0, reason));
    let codec =
        format::codec_of(superblock.compressor).map_err(|name| VerifyError::Compressor {
            name: name.to_owned(),
        })?;
    let SuperBlock {
        block_size,
        block_log,
        bytes_used,
        inode_count,
        ..
    } = *superblock;
    if !format::block_size_is_legal(block_size) || block_size.ilog2() != u32::from(block_log) {
        return damaged(format!("block size {block_size}, logarithm {block_log}"));
    }
    if bytes_used > file_length || bytes_used < to_u64(SUPERBLOCK_SIZE) {
        return damaged(format!(
            "it uses {bytes_used} bytes of a file of {file_length}"
        ));
    }
    if inode_count == 0 {
        return damaged("it has no inodes".to_owned());
    }
    if inode_count > bounds.nodes {
        return Err(VerifyError::TooMuch {
            what: "nodes",
            limit: u64::from(bounds.nodes),
        });
    }
    Ok(codec)
}

/// Reads the fragment table; lowers `first_after` to where it starts.
fn read_fragments(
    source: &mut Source<'_>,
    superblock: &SuperBlock,
    codec: Codec,
    first_after: &mut u64,
) -> Result<Vec<RawFragment>, VerifyError> {
    if superblock.frag_count == 0 {
        return Ok(Vec::new());
    }
    let bytes = u64::from(superblock.frag_count) * 16;
    let table = source.lookup_table("fragment table", codec, superblock.frag_table, bytes)?;
    *first_after = table.first_block.min(*first_after);
    let mut fragments = Vec::with_capacity(to_usize(superblock.frag_count));
    let mut from = Bytes::new(&table.bytes);
    while let (Some(start), Some(word), Some(_unused)) = (from.u64(), from.u32(), from.u32()) {
        let within = format::data_word(word)
            .filter(|(stored, _)| (1..=superblock.block_size).contains(stored))
            .and_then(|(stored, _)| start.checked_add(u64::from(stored)))
            .is_some_and(|end| end <= source.length);
        if !within || start < to_u64(SUPERBLOCK_SIZE) {
            let number = to_u64(fragments.len());
            return Err(VerifyError::damaged(
                "fragment",
                number,
                format!("word {word:#x} at byte {start} is out of range"),
            ));
        }
        fragments.push(RawFragment { start, word });
    }
    Ok(fragments)
}

/// Finds where the export table starts; it is for NFS, and not used.
fn locate_export(
    source: &mut Source<'_>,
    superblock: &SuperBlock,
    first_after: &mut u64,
) -> Result<(), VerifyError> {
    if superblock.export_table == NO_TABLE {
        return Ok(());
    }
    let bytes = u64::from(superblock.inode_count) * 8;
    let starts = source.block_list("export table", superblock.export_table, bytes)?;
    if let Some(first) = starts.first() {
        *first_after = (*first).min(*first_after);
    }
    Ok(())
}

fn read_ids(
    source: &mut Source<'_>,
    superblock: &SuperBlock,
    codec: Codec,
    first_after: &mut u64,
) -> Result<Vec<u32>, VerifyError> {
    let bytes = u64::from(superblock.id_count) * 4;
    let table = source.lookup_table("id table", codec, superblock.id_table, bytes)?;
    *first_after = table.first_block.min(*first_after);
    let mut from = Bytes::new(&table.bytes);
    Ok(std::iter::from_fn(|| from.u32()).collect())
}
