//! Writes images: a tree described in memory, file contents from host files or bytes.
//!
//! The way of a tree: `data` reads the files one after the other, has their blocks compressed by
//! several threads and writes them in order; `inodes` writes the inode and directory tables behind
//! them; the superblock comes last, so an interrupted image is not one.
//!
//! Invariant: the same tree with the same contents gives the same bytes, whatever the number of
//! threads. Files are opened one at a time and are never in memory as a whole. Equal files are
//! stored once. Does not write hard links, devices or extended attributes.
//!
//! Why not backhand's writer: it takes files with one 64-bit checksum for equal without comparing
//! them (whoever makes such a pair gets another file's bytes served), compresses on one thread,
//! and counts files as links of their directory. Its [`SuperBlock`] is used.

mod compress;
mod data;
mod inodes;
mod metadata;

use std::collections::BTreeMap;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;

use self::compress::Encoder;
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

/// What parents that nobody described have.
const PARENT: Meta = Meta {
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: 0,
};

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file of the host, read when the image is written.
    Path(PathBuf),
    /// Bytes in memory.
    Bytes(Vec<u8>),
}

/// Compressor of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressor {
    /// zstd at a level 1 to 22.
    Zstd(i32),
    /// zlib, level 1 to 9.
    Gzip(u32),
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
    /// The tree has more of something than squashfs can count.
    #[error("a squashfs image cannot hold so many {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
    },
}

/// A tree to be written; parents are made as needed (0755, root). Entries are kept sorted, so
/// the same tree gives the same bytes.
#[derive(Debug)]
pub struct Tree {
    /// The root is the first.
    nodes: Vec<Node>,
}

/// One entry of the tree, without its name.
#[derive(Debug)]
struct Node {
    meta: Meta,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// Positions of the entries in [`Tree::nodes`], by name.
    Directory(BTreeMap<Vec<u8>, usize>),
    File(Source),
    Symlink(Vec<u8>),
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An empty tree: a root directory of mode 0755.
    pub fn new() -> Self {
        Self {
            nodes: vec![Node {
                meta: PARENT,
                content: Content::Directory(BTreeMap::new()),
            }],
        }
    }

    /// Adds or re-describes a directory.
    pub fn directory(&mut self, path: &str, meta: Meta) -> Result<(), PackError> {
        let mut at = 0;
        for name in components(path)? {
            at = self.enter(at, name, path)?;
        }
        self.nodes[at].meta = meta;
        Ok(())
    }

    /// Adds a regular file; an entry of that path must not exist.
    pub fn file(&mut self, path: &str, meta: Meta, source: Source) -> Result<(), PackError> {
        self.add(path, meta, Content::File(source))
    }

    /// Adds a symlink; an entry of that path must not exist.
    pub fn symlink(&mut self, path: &str, meta: Meta, target: &str) -> Result<(), PackError> {
        if format::target_fault(target.as_bytes()).is_some() {
            let reason = "its target is empty, holds a NUL or is longer than 4095 bytes";
            return Err(bad_path(path, reason));
        }
        self.add(path, meta, Content::Symlink(target.as_bytes().to_vec()))
    }

    /// Whether there is an entry of that path.
    pub fn contains(&self, path: &str) -> bool {
        let Ok(names) = components(path) else {
            return false;
        };
        let mut at = 0;
        for name in names {
            match self.child(at, name) {
                Some(child) => at = child,
                None => return false,
            }
        }
        true
    }

    /// Writes the image; returns its length in bytes.
    pub fn write<W: Write + Seek>(self, out: W, with: Compressor) -> Result<u64, PackError> {
        let encoders = (Encoder::new(with)?, Encoder::new(with)?);
        let mut out = Output::new(out)?;
        let stored = data::write(&self.nodes, &mut out, with)?;
        let fragments = stored.fragment_table()?;
        let tables = inodes::write(&self.nodes, &stored, encoders)?;

        let mut superblock = empty_superblock(with);
        superblock.inode_count = tables.inode_count;
        superblock.root_inode = tables.root;
        superblock.inode_table = out.position;
        out.write(&tables.inodes)?;
        superblock.dir_table = out.position;
        out.write(&tables.directories)?;
        if !fragments.is_empty() {
            superblock.frag_count = count(fragments.len() / 16, "fragments")?;
            superblock.frag_table = out.lookup_table(&fragments, Encoder::new(with)?)?;
        }
        superblock.id_count = u16::try_from(tables.owners.len() / 4)
            .map_err(|_| PackError::TooMany { what: "owners" })?;
        superblock.id_table = out.lookup_table(&tables.owners, Encoder::new(with)?)?;
        superblock.bytes_used = out.position;
        out.finish(&superblock, with)
    }

    /// Adds an entry that is not a directory.
    fn add(&mut self, path: &str, meta: Meta, content: Content) -> Result<(), PackError> {
        let names = components(path)?;
        let Some((last, parents)) = names.split_last() else {
            return Err(bad_path(path, "the root is a directory"));
        };
        let mut at = 0;
        for name in parents {
            at = self.enter(at, name, path)?;
        }
        if self.child(at, last).is_some() {
            return Err(bad_path(path, "there is an entry already"));
        }
        self.insert(at, last, Node { meta, content });
        Ok(())
    }

    fn child(&self, at: usize, name: &str) -> Option<usize> {
        match &self.nodes[at].content {
            Content::Directory(entries) => entries.get(name.as_bytes()).copied(),
            Content::File(_) | Content::Symlink(_) => None,
        }
    }

    /// The directory `name` in the directory `at`, made if there is none.
    fn enter(&mut self, at: usize, name: &str, path: &str) -> Result<usize, PackError> {
        match self.child(at, name) {
            Some(child) if matches!(self.nodes[child].content, Content::Directory(_)) => Ok(child),
            Some(_) => Err(bad_path(path, "a part of it is not a directory")),
            None => Ok(self.insert(
                at,
                name,
                Node {
                    meta: PARENT,
                    content: Content::Directory(BTreeMap::new()),
                },
            )),
        }
    }

    fn insert(&mut self, at: usize, name: &str, node: Node) -> usize {
        let position = self.nodes.len();
        self.nodes.push(node);
        if let Content::Directory(entries) = &mut self.nodes[at].content {
            entries.insert(name.as_bytes().to_vec(), position);
        }
        position
    }
}

/// The names that an absolute path is made of.
fn components(path: &str) -> Result<Vec<&str>, PackError> {
    let Some(relative) = path.strip_prefix('/') else {
        return Err(bad_path(path, "it is not absolute"));
    };
    if relative.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = relative.split('/').collect();
    match names
        .iter()
        .find_map(|name| format::name_fault(name.as_bytes()))
    {
        Some(_) => Err(bad_path(
            path,
            "a part of it is empty, `.`, `..`, holds a NUL or is longer than 255 bytes",
        )),
        None => Ok(names),
    }
}

fn bad_path(path: &str, reason: &'static str) -> PackError {
    PackError::Path {
        path: PathBuf::from(path),
        reason,
    }
}

/// A count that the format keeps in 32 bits.
fn count(value: usize, what: &'static str) -> Result<u32, PackError> {
    u32::try_from(value).map_err(|_| PackError::TooMany { what })
}

fn empty_superblock(with: Compressor) -> SuperBlock {
    SuperBlock {
        magic: MAGIC,
        inode_count: 0,
        mod_time: 0,
        block_size: BLOCK_SIZE,
        frag_count: 0,
        compressor: format::compressor_of(with.codec()),
        block_log: 17,
        flags: Flags::DataHasBeenDeduplicated as u16 | Flags::NoXattrsInArchive as u16,
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
    /// Starts behind the superblock, which is written as zeros until the image is complete.
    fn new(out: W) -> Result<Self, PackError> {
        let mut out = Self {
            out: BufWriter::with_capacity(to_usize(BLOCK_SIZE), out),
            position: 0,
        };
        out.out.seek(SeekFrom::Start(0)).map_err(PackError::Write)?;
        out.write(&[0; SUPERBLOCK_SIZE])?;
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
        for start in starts {
            self.write(&(first + start).to_le_bytes())?;
        }
        Ok(list)
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
