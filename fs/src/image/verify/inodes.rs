//! The inode table, read front to back: every byte of it belongs to exactly one inode.
//!
//! Checks each inode by itself and against the file's length; that they form a tree is checked by
//! [`super::tree`]. Link counts are taken over as they are, as the kernel does; the parent number of
//! a directory is not, it follows from the tree.

use super::VerifyError;
use super::metadata::{Source, Table};
use super::superblock::Layout;
use crate::image::bytes::Bytes;
use crate::image::format::{self, NONE, SUPERBLOCK_SIZE};
use crate::image::index::{Span, Tag, block_end};
use crate::num::{to_u32, to_u64, to_usize};

/// The inodes of an image, in the order of the table.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    /// Position of each in the inflated table, ascending.
    pub(super) positions: Vec<u32>,
    pub(super) list: Vec<Inode>,
    /// Words of the blocks of all regular files.
    pub(super) blocks: Vec<u32>,
    /// Targets of all symlinks.
    pub(super) targets: Vec<u8>,
    /// Position in `list` of the root.
    pub(super) root: usize,
    starts: Table,
}

/// One inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) permissions: u16,
    pub(super) user: u16,
    pub(super) group: u16,
    pub(super) mtime: u32,
    pub(super) rest: Rest,
}

/// What follows the fields that every inode starts with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) nlink: u32,
    pub(super) xattrs: u32,
    pub(super) body: Body,
}

impl Rest {
    fn plain(body: Body, nlink: u32) -> Self {
        Self {
            nlink,
            xattrs: NONE,
            body,
        }
    }
}

/// What an inode of a kind has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    /// Where the listing is in the directory table, and its length as the inode tells it.
    Directory { block: u32, offset: u16, size: u32 },
    /// A regular file.
    File(Contents),
    /// Where the target is in [`Inodes::targets`].
    Symlink(Span),
    /// A device, with its number.
    Device(Tag, u32),
    /// A pipe or a socket.
    Special(Tag),
}

/// Where the bytes of a regular file are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents {
    pub(super) size: u64,
    pub(super) start: u64,
    /// Bytes in holes.
    pub(super) sparse: u64,
    pub(super) first_block: u32,
    pub(super) fragment: u32,
    pub(super) skip: u32,
}

impl Inode {
    pub(super) fn tag(&self) -> Tag {
        match self.rest.body {
            Body::Directory { .. } => Tag::Directory,
            Body::File(_) => Tag::File,
            Body::Symlink(_) => Tag::Symlink,
            Body::Device(tag, _) | Body::Special(tag) => tag,
        }
    }
}

impl Inodes {
    /// The inode at a reference: block and offset.
    pub(super) fn at(&self, block: u64, offset: u16) -> Option<usize> {
        let position = to_u32(self.starts.position(block, offset)?)?;
        self.positions.binary_search(&position).ok()
    }
}

/// Reads the inode table.
pub(super) fn read(source: &mut Source<'_>, layout: &Layout) -> Result<Inodes, VerifyError> {
    let mut table = source.table("inode table", layout.codec, layout.inodes)?;
    let bytes = std::mem::take(&mut table.bytes);
    let mut parser = Parser {
        layout,
        used: source.length,
        found: Inodes::default(),
        numbers: vec![false; to_usize(layout.inode_count)],
    };
    let mut from = Bytes::new(&bytes);
    while !from.is_empty() {
        let position = bytes.len() - from.len();
        parser
            .inode(position, &mut from)
            .map_err(|reason| VerifyError::damaged("inode", to_u64(position), reason))?;
    }
    parser.finish(table)
}

struct Parser<'a> {
    layout: &'a Layout,
    used: u64,
    found: Inodes,
    /// Which inode numbers were seen.
    numbers: Vec<bool>,
}

/// Why an inode is refused, in words.
type Fault = String;

/// The fault of an inode that the table's end cuts short.
fn cut_short() -> Fault {
    "it is cut short by the end of the table".to_owned()
}

impl Parser<'_> {
    fn inode(&mut self, position: usize, from: &mut Bytes<'_>) -> Result<(), Fault> {
        if self.found.list.len() >= self.numbers.len() {
            return Err(format!(
                "the table holds more than the {} inodes that the superblock counts",
                self.numbers.len()
            ));
        }
        let (kind, mut inode) = header(from).ok_or_else(cut_short)?;
        self.check_owner(&inode)?;
        self.check_number(inode.number)?;
        inode.rest = self.rest(kind, from)?;
        if inode.rest.nlink == 0 {
            return Err("it has no links, and is in the table all the same".to_owned());
        }
        self.found
            .positions
            .push(to_u32(position).ok_or("the table is too large")?);
        self.found.list.push(inode);
        Ok(())
    }

    fn check_owner(&self, inode: &Inode) -> Result<(), Fault> {
        let ids = self.layout.ids.len();
        if usize::from(inode.user) < ids && usize::from(inode.group) < ids {
            Ok(())
        } else {
            Err("its owner is not in the id table".to_owned())
        }
    }

    /// Numbers run from 1 to the superblock's count, each once.
    fn check_number(&mut self, number: u32) -> Result<(), Fault> {
        let seen = number
            .checked_sub(1)
            .and_then(|index| self.numbers.get_mut(to_usize(index)))
            .ok_or_else(|| format!("number {number} is out of range"))?;
        if std::mem::replace(seen, true) {
            return Err(format!("number {number} is used twice"));
        }
        Ok(())
    }

    /// What follows the header, by the kind of the inode.
    fn rest(&mut self, kind: u16, from: &mut Bytes<'_>) -> Result<Rest, Fault> {
        match kind {
            1 => basic_directory(from).ok_or_else(cut_short),
            8 => extended_directory(from).ok_or_else(cut_short),
            2 => {
                let contents = basic_contents(from).ok_or_else(cut_short)?;
                Ok(Rest::plain(self.file(contents, from)?, 1))
            }
            9 => {
                let (contents, rest) = extended_contents(from).ok_or_else(cut_short)?;
                let body = self.file(contents, from)?;
                Ok(Rest { body, ..rest })
            }
            3 => self.symlink(from),
            10 => {
                let rest = self.symlink(from)?;
                let xattrs = from.u32().ok_or_else(cut_short)?;
                Ok(Rest { xattrs, ..rest })
            }
            4 | 11 => device(Tag::BlockDevice, kind == 11, from).ok_or_else(cut_short),
            5 | 12 => device(Tag::CharDevice, kind == 12, from).ok_or_else(cut_short),
            6 | 13 => special(Tag::Fifo, kind == 13, from).ok_or_else(cut_short),
            7 | 14 => special(Tag::Socket, kind == 14, from).ok_or_else(cut_short),
            other => Err(format!("kind {other} is unknown")),
        }
    }

    /// The block list of a file, and its place in the image.
    fn file(&mut self, mut contents: Contents, from: &mut Bytes<'_>) -> Result<Body, Fault> {
        if contents.sparse > contents.size {
            return Err("its holes are longer than itself".to_owned());
        }
        let block_size = self.layout.block_size;
        let count = format::block_count(contents.size, block_size, contents.fragment != NONE);
        let words = count
            .checked_mul(4)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .and_then(|bytes| from.take(bytes))
            .ok_or_else(|| format!("its {count} blocks are not in the table"))?;
        contents.first_block = to_u32(self.found.blocks.len()).ok_or("too many blocks")?;
        let mut end = contents.start;
        let mut left = contents.size;
        let mut words = Bytes::new(words);
        while let Some(word) = words.u32() {
            let length = left.min(u64::from(block_size));
            left -= length;
            end = block_end(end, word, length, block_size)
                .ok_or_else(|| format!("block word {word:#x} does not fit {length} bytes"))?;
            self.found.blocks.push(word);
        }
        if end == contents.start {
            // Nothing is stored of it, and where that is means nothing: some writers say 0.
            contents.start = 0;
        } else if end > self.used || contents.start < to_u64(SUPERBLOCK_SIZE) {
            return Err(format!(
                "its blocks, from {} to {end}, are out of range",
                contents.start
            ));
        }
        self.check_tail(&contents)?;
        Ok(Body::File(contents))
    }

    fn check_tail(&self, contents: &Contents) -> Result<(), Fault> {
        if contents.fragment == NONE {
            return Ok(());
        }
        let block_size = u64::from(self.layout.block_size);
        let tail = contents.size % block_size;
        if to_usize(contents.fragment) >= self.layout.fragments.len() {
            return Err(format!("fragment {} is out of range", contents.fragment));
        }
        if tail == 0 || u64::from(contents.skip) + tail > block_size {
            return Err(format!(
                "its tail of {tail} bytes at {} is not within a fragment",
                contents.skip
            ));
        }
        Ok(())
    }

    fn symlink(&mut self, from: &mut Bytes<'_>) -> Result<Rest, Fault> {
        let (nlink, length) = from.u32().zip(from.u32()).ok_or_else(cut_short)?;
        let target = from.take(to_usize(length)).ok_or_else(cut_short)?;
        if let Some(fault) = format::target_fault(target) {
            return Err(format!("its target is illegal: {fault}"));
        }
        let start = to_u32(self.found.targets.len()).ok_or("the targets are too large")?;
        self.found.targets.extend_from_slice(target);
        Ok(Rest::plain(Body::Symlink(Span { start, length }), nlink))
    }

    /// Checks what can only be known at the end of the table.
    fn finish(self, table: Table) -> Result<Inodes, VerifyError> {
        let damaged = |reason: String| VerifyError::damaged("inode table", 0, reason);
        let mut found = self.found;
        if found.list.len() != self.numbers.len() {
            return Err(damaged(format!(
                "it holds {} inodes, the superblock counts {}",
                found.list.len(),
                self.numbers.len()
            )));
        }
        found.starts = table;
        let root = super::xattrs::split_reference(self.layout.root)
            .and_then(|(block, offset)| found.at(block, offset))
            .filter(|root| found.list[*root].tag() == Tag::Directory);
        found.root = root.ok_or_else(|| damaged("the root is not a directory in it".to_owned()))?;
        Ok(found)
    }
}

/// The fields that every inode has; the body is a placeholder.
fn header(from: &mut Bytes<'_>) -> Option<(u16, Inode)> {
    let kind = from.u16()?;
    let (permissions, user, group) = (from.u16()?, from.u16()?, from.u16()?);
    let (mtime, number) = (from.u32()?, from.u32()?);
    let inode = Inode {
        number,
        permissions: permissions & 0o7777,
        user,
        group,
        mtime,
        rest: Rest::plain(Body::Special(Tag::Socket), 1),
    };
    Some((kind, inode))
}

fn basic_directory(from: &mut Bytes<'_>) -> Option<Rest> {
    let (block, nlink) = (from.u32()?, from.u32()?);
    let (size, offset, _parent) = (from.u16()?, from.u16()?, from.u32()?);
    let body = Body::Directory {
        block,
        offset,
        size: u32::from(size),
    };
    Some(Rest::plain(body, nlink))
}

fn extended_directory(from: &mut Bytes<'_>) -> Option<Rest> {
    let (nlink, size, block, _parent) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
    let (index_count, offset, xattrs) = (from.u16()?, from.u16()?, from.u32()?);
    for _ in 0..index_count {
        // The index speeds up the kernel's lookup in large directories; we look up in memory.
        from.take(8)?;
        let name = from.u32()?.checked_add(1)?;
        from.take(to_usize(name))?;
    }
    Some(Rest {
        nlink,
        xattrs,
        body: Body::Directory {
            block,
            offset,
            size,
        },
    })
}

fn basic_contents(from: &mut Bytes<'_>) -> Option<Contents> {
    let (start, fragment) = (from.u32()?, from.u32()?);
    let (skip, size) = (from.u32()?, from.u32()?);
    Some(Contents {
        size: u64::from(size),
        start: u64::from(start),
        sparse: 0,
        first_block: 0,
        fragment,
        skip,
    })
}

/// The contents of a file, and the rest with them still to be checked.
fn extended_contents(from: &mut Bytes<'_>) -> Option<(Contents, Rest)> {
    let (start, size, sparse) = (from.u64()?, from.u64()?, from.u64()?);
    let nlink = from.u32()?;
    let contents = Contents {
        size,
        start,
        sparse,
        first_block: 0,
        fragment: from.u32()?,
        skip: from.u32()?,
    };
    let rest = Rest {
        nlink,
        xattrs: from.u32()?,
        body: Body::File(contents),
    };
    Some((contents, rest))
}

fn device(tag: Tag, extended: bool, from: &mut Bytes<'_>) -> Option<Rest> {
    let (nlink, number) = (from.u32()?, from.u32()?);
    let xattrs = if extended { from.u32()? } else { NONE };
    Some(Rest {
        nlink,
        xattrs,
        body: Body::Device(tag, number),
    })
}

fn special(tag: Tag, extended: bool, from: &mut Bytes<'_>) -> Option<Rest> {
    let nlink = from.u32()?;
    let xattrs = if extended { from.u32()? } else { NONE };
    Some(Rest {
        nlink,
        xattrs,
        body: Body::Special(tag),
    })
}
