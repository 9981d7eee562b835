//! Writes images: a tree described in memory, file contents from host files, bytes or an image.
//!
//! The way of a tree: `tree` describes it; `data` reads the files one after the other, has their
//! blocks compressed by several threads and writes them in order; `inodes` writes the inode and
//! directory tables behind them, `attributes` the extended attributes; the superblock comes last, so
//! an interrupted image is not one. `recompress` makes a tree of an image.
//!
//! Invariant: the same tree with the same contents gives the same bytes, whatever the number of
//! threads. Files are opened one at a time and are never in memory as a whole. Equal files are
//! stored once, blocks of zeros not at all. Everything that squashfs can hold can be written.
//!
//! Why not backhand's writer: it takes files with one 64-bit checksum for equal without comparing
//! them (whoever makes such a pair gets another file's bytes served), compresses on one thread,
//! and counts files as links of their directory. Its [`SuperBlock`] is used.

mod attributes;
mod compress;
mod data;
mod inodes;
mod metadata;
mod recompress;
mod tree;

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;

use self::compress::Encoder;
pub use self::recompress::ImageFile;
pub use self::tree::Tree;
use super::format::{self, Flags, MAGIC, NO_TABLE, SUPERBLOCK_SIZE, SuperBlock};
use crate::num::{to_u64, to_usize};

/// Bytes of a full data block: large enough to compress well, small enough to read at random.
const BLOCK_SIZE: u32 = 128 << 10;
/// Images are padded to a multiple of this, so that they can be mounted from a block device.
const PADDING: u64 = 4096;

/// Mode, owner and time of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Unix time in seconds.
    pub mtime: u32,
}

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file of the host, read when the image is written.
    Path(PathBuf),
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// A file of another image.
    Image(ImageFile),
}

/// What is neither a directory nor a file nor a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A block device, its number as Linux encodes it in 32 bits.
    BlockDevice(u32),
    /// A character device, its number likewise.
    CharDevice(u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Compressor of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressor {
    /// zstd at a level 1 to 22.
    Zstd(i32),
    /// zlib, level 1 to 9.
    Gzip(u32),
    /// LZ4: packs fastest and least.
    Lz4,
}

/// Why an image can't be written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A path is not absolute, holds `..`, or clashes with an entry that is there.
    #[error("cannot add {path}: {reason}")]
    Path {
        /// Which path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A host file can't be read.
    #[error("cannot pack {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What should be a regular file of the host is something else.
    #[error("cannot pack {path}: it is not a regular file")]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// A host file was written to while it was packed.
    #[error("cannot pack {path}: it changed meanwhile")]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// The image can't be written to where it goes.
    #[error("cannot write the image")]
    Write(#[source] std::io::Error),
    /// The compressor does not have that level.
    #[error("{compressor:?} is no compression level of squashfs")]
    Level {
        /// What was asked for.
        compressor: Compressor,
    },
    /// An extended attribute that squashfs can't hold.
    #[error("cannot give {path} the attribute {name}: {reason}")]
    Attribute {
        /// What it is of.
        path: PathBuf,
        /// Its name, unprintable bytes escaped.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The tree has more of something than squashfs can count.
    #[error("a squashfs image cannot hold so many {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
    },
}

impl Tree {
    /// Writes the image; returns its length in bytes.
    pub fn write<W: Write + Seek>(self, out: W, with: Compressor) -> Result<u64, PackError> {
        let encoder = || Encoder::new(with);
        let encoders = (encoder()?, encoder()?);
        let mut out = Output::new(out, with)?;
        let stored = data::write(&self.nodes, &mut out, with)?;
        let fragments = stored.fragment_table()?;
        let sets = attributes::Sets::of(&self.nodes)?;
        let tables = inodes::write(&self.nodes, (&stored, &sets), encoders)?;

        let mut superblock = empty_superblock(with);
        superblock.inode_count = tables.inode_count;
        superblock.root_inode = tables.root;
        superblock.inode_table = out.position;
        out.write(&tables.inodes)?;
        superblock.dir_table = out.position;
        out.write(&tables.directories)?;
        if !fragments.is_empty() {
            superblock.frag_count = count(fragments.len() / 16, "fragments")?;
            superblock.frag_table = out.lookup_table(&fragments, encoder()?)?;
        }
        superblock.id_count = u16::try_from(tables.owners.len() / 4)
            .map_err(|_| PackError::TooMany { what: "owners" })?;
        superblock.id_table = out.lookup_table(&tables.owners, encoder()?)?;
        if sets.is_empty() {
            superblock.flags |= Flags::NoXattrsInArchive as u16;
        } else {
            superblock.xattr_table = sets.write(&mut out, (encoder()?, encoder()?))?;
        }
        superblock.bytes_used = out.position;
        out.finish(&superblock, with)
    }
}

/// A count that the format keeps in 32 bits.
fn count(value: usize, what: &'static str) -> Result<u32, PackError> {
    u32::try_from(value).map_err(|_| PackError::TooMany { what })
}

fn empty_superblock(with: Compressor) -> SuperBlock {
    let options = match with.options() {
        Some(_) => Flags::CompressorOptionsArePresent as u16,
        None => 0,
    };
    SuperBlock {
        magic: MAGIC,
        inode_count: 0,
        mod_time: 0,
        block_size: BLOCK_SIZE,
        frag_count: 0,
        compressor: format::compressor_of(with.codec()),
        block_log: 17,
        flags: Flags::DataHasBeenDeduplicated as u16 | options,
        id_count: 0,
        version_major: 4,
        version_minor: 0,
        root_inode: 0,
        bytes_used: 0,
        id_table: NO_TABLE,
        xattr_table: NO_TABLE,
        inode_table: 0,
        dir_table: 0,
        frag_table: NO_TABLE,
        export_table: NO_TABLE,
    }
}

/// Where the image goes, and how much of it was written.
struct Output<W: Write + Seek> {
    out: BufWriter<W>,
    position: u64,
}

impl<W: Write + Seek> Output<W> {
    /// Starts behind the superblock, which is written as zeros until the image is complete, with
    /// the compressor's options.
    fn new(out: W, with: Compressor) -> Result<Self, PackError> {
        let mut out = Self {
            out: BufWriter::with_capacity(to_usize(BLOCK_SIZE), out),
            position: 0,
        };
        out.out.seek(SeekFrom::Start(0)).map_err(PackError::Write)?;
        out.write(&[0; SUPERBLOCK_SIZE])?;
        if let Some(options) = with.options() {
            let header = format::metadata_header_of(options.len(), false);
            let header = header.expect("Invariant: options have a few bytes");
            out.write(&header.to_le_bytes())?;
            out.write(&options)?;
        }
        Ok(out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.out.write_all(bytes).map_err(PackError::Write)?;
        self.position += to_u64(bytes.len());
        Ok(())
    }

    /// Writes a table and the list of its metadata blocks; the answer is where the list is.
    fn lookup_table(&mut self, table: &[u8], encoder: Encoder) -> Result<u64, PackError> {
        let mut blocks = metadata::Writer::new(encoder);
        blocks.write(table);
        let (bytes, starts) = blocks.finish();
        let first = self.position;
        self.write(&bytes)?;
        let list = self.position;
        self.list(first, &starts)?;
        Ok(list)
    }

    /// Writes where metadata blocks are, which start so far behind `first`.
    fn list(&mut self, first: u64, starts: &[u64]) -> Result<(), PackError> {
        for start in starts {
            self.write(&(first + start).to_le_bytes())?;
        }
        Ok(())
    }

    /// Pads the image and writes its superblock; the answer is its length.
    fn finish(mut self, superblock: &SuperBlock, with: Compressor) -> Result<u64, PackError> {
        let length = self.position.next_multiple_of(PADDING);
        let padding = usize::try_from(length - self.position).unwrap_or_default();
        self.write(&vec![0; padding])?;
        let header = format::encode_superblock(superblock, with.codec());
        self.out
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.out.write_all(&header))
            .and_then(|()| self.out.flush())
            .map_err(PackError::Write)?;
        Ok(length)
    }
}
