//! The inode and directory tables of a tree, and the owners they point to.
//!
//! Inodes are numbered breadth first, so the entries of a directory have neighbouring numbers; the
//! tables are written from the last directory to the first, because a directory's entries point to
//! inodes that must have been written. A node of several names has one inode, written for the first
//! of them that is met. Not recursive.
//!
//! Invariant: the smaller of a node's two kinds of inode is written where it can hold the node: one
//! name, no attributes, no holes, 32 bits of length and place.

use std::collections::{BTreeMap, HashMap};

use super::attributes::Sets;
use super::compress::Encoder;
use super::data::{Stored, StoredFile};
use super::metadata::Writer;
use super::tree::{Content, Node};
use super::{Meta, PackError, Special, count};
use crate::image::format::NONE;
use crate::image::index::Tag;

/// Entries that one header of a directory listing is good for.
const RUN: usize = 256;

/// The finished tables.
pub(super) struct Tables {
    pub(super) inodes: Vec<u8>,
    pub(super) directories: Vec<u8>,
    /// User and group numbers, four bytes each.
    pub(super) owners: Vec<u8>,
    pub(super) inode_count: u32,
    /// Reference to the root's inode.
    pub(super) root: u64,
}

/// Where an inode was written.
#[derive(Debug, Clone, Copy)]
struct Place {
    block: u32,
    offset: u16,
}

struct TableWriter<'a> {
    nodes: &'a [Node],
    stored: &'a Stored,
    sets: &'a Sets<'a>,
    inodes: Writer,
    directories: Writer,
    /// Number and place of each node's inode.
    numbers: Vec<u32>,
    places: Vec<Option<Place>>,
    owners: Vec<u8>,
    known_owners: HashMap<u32, u16>,
}

/// Writes the tables of a tree whose files are stored.
pub(super) fn write(
    nodes: &[Node],
    (stored, sets): (&Stored, &Sets<'_>),
    (inodes, directories): (Encoder, Encoder),
) -> Result<Tables, PackError> {
    let inode_count = count(nodes.len(), "entries")?;
    let order = breadth_first(nodes);
    let mut numbers = vec![0; nodes.len()];
    for (number, (node, _)) in (1..).zip(&order) {
        numbers[*node] = number;
    }
    let mut writer = TableWriter {
        nodes,
        stored,
        sets,
        inodes: Writer::new(inodes),
        directories: Writer::new(directories),
        numbers,
        places: vec![None; nodes.len()],
        owners: Vec::new(),
        known_owners: HashMap::new(),
    };
    for (node, parent) in order.iter().rev() {
        if let Content::Directory(entries) = &nodes[*node].content {
            // The root has no parent; mksquashfs gives it the number after the last one.
            let parent = parent.map_or(inode_count.saturating_add(1), |at| writer.numbers[at]);
            writer.directory(*node, parent, entries)?;
        }
    }
    let root = writer.place(0);
    Ok(Tables {
        inodes: writer.inodes.finish().0,
        directories: writer.directories.finish().0,
        owners: writer.owners,
        inode_count,
        root: (u64::from(root.block) << 16) | u64::from(root.offset),
    })
}

/// All nodes with their parents, each directory's entries together; of several names the first.
fn breadth_first(nodes: &[Node]) -> Vec<(usize, Option<usize>)> {
    let mut seen = vec![false; nodes.len()];
    let mut order = vec![(0, None)];
    let mut next = 0;
    while let Some((node, _)) = order.get(next).copied() {
        if let Content::Directory(entries) = &nodes[node].content {
            let new = entries
                .values()
                .filter(|child| !std::mem::replace(&mut seen[**child], true));
            order.extend(new.map(|child| (*child, Some(node))));
        }
        next += 1;
    }
    order
}

impl TableWriter<'_> {
    /// Writes the inodes of a directory's files, its listing, and its own inode.
    fn directory(
        &mut self,
        node: usize,
        parent: u32,
        entries: &BTreeMap<Vec<u8>, usize>,
    ) -> Result<(), PackError> {
        let mut subdirectories = 0;
        for child in entries.values() {
            let written = self.places[*child].is_some();
            match &self.nodes[*child].content {
                Content::Directory(_) => subdirectories += 1,
                _ if written => {}
                Content::File(_) => self.file(*child)?,
                Content::Symlink(target) => self.symlink(*child, target)?,
                Content::Special(special) => self.special(*child, *special)?,
            }
        }
        let (block, offset) = self.directories.position();
        let block = u32::try_from(block).map_err(|_| PackError::TooMany { what: "entries" })?;
        let size = self.listing(entries)?;
        let links: u32 = 2 + subdirectories;
        let set = self.set(node);
        if let Ok(size) = u16::try_from(size)
            && set == NONE
        {
            self.begin(node, 1)?;
            self.put(&block.to_le_bytes());
            self.put(&links.to_le_bytes());
            self.put(&size.to_le_bytes());
            self.put(&offset.to_le_bytes());
            self.put(&parent.to_le_bytes());
        } else {
            self.begin(node, 8)?;
            for word in [links, size, block, parent] {
                self.put(&word.to_le_bytes());
            }
            // No index of the listing: only the kernel would use one.
            self.put(&0_u16.to_le_bytes());
            self.put(&offset.to_le_bytes());
            self.put(&set.to_le_bytes());
        }
        Ok(())
    }

    /// Writes a listing; the answer is the size that the directory's inode tells.
    fn listing(&mut self, entries: &BTreeMap<Vec<u8>, usize>) -> Result<u32, PackError> {
        let mut size = 3;
        let mut run: Vec<(&[u8], usize)> = Vec::new();
        for (name, child) in entries {
            let fits = run
                .first()
                .is_none_or(|(_, first)| run.len() < RUN && self.share_run(*first, *child));
            if !fits {
                size += self.run(&run)?;
                run.clear();
            }
            run.push((name, *child));
        }
        if !run.is_empty() {
            size += self.run(&run)?;
        }
        count(size, "entries in a directory")
    }

    /// Whether two nodes can be told by one header: inodes in one block, numbers close.
    fn share_run(&self, first: usize, other: usize) -> bool {
        self.place(first).block == self.place(other).block && self.delta(first, other).is_some()
    }

    fn delta(&self, first: usize, other: usize) -> Option<i16> {
        let delta = i64::from(self.numbers[other]) - i64::from(self.numbers[first]);
        i16::try_from(delta).ok()
    }

    /// Writes a header and its entries; the answer is how many bytes that took.
    fn run(&mut self, run: &[(&[u8], usize)]) -> Result<usize, PackError> {
        let Some((_, first)) = run.first() else {
            return Ok(0);
        };
        let mut bytes = Vec::new();
        for word in [
            count(run.len() - 1, "entries")?,
            self.place(*first).block,
            self.numbers[*first],
        ] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for (name, child) in run {
            let delta = self.delta(*first, *child).unwrap_or_default();
            let last = u16::try_from(name.len() - 1);
            let last = last.expect("Invariant: names of a tree have 1 to 255 bytes");
            bytes.extend_from_slice(&self.place(*child).offset.to_le_bytes());
            bytes.extend_from_slice(&delta.to_le_bytes());
            bytes.extend_from_slice(&self.nodes[*child].tag().id().to_le_bytes());
            bytes.extend_from_slice(&last.to_le_bytes());
            bytes.extend_from_slice(name);
        }
        self.directories.write(&bytes);
        Ok(bytes.len())
    }

    fn file(&mut self, node: usize) -> Result<(), PackError> {
        let stored = self.stored;
        let file = stored.file(node);
        let (fragment, skip) = file.fragment.unwrap_or((NONE, 0));
        let (names, set) = (self.nodes[node].names, self.set(node));
        if let Some((start, size)) = basic(file)
            && (names, set) == (1, NONE)
        {
            self.begin(node, 2)?;
            for word in [start, fragment, skip, size] {
                self.put(&word.to_le_bytes());
            }
        } else {
            self.begin(node, 9)?;
            let sparse = file.sparse.min(file.size.saturating_sub(1));
            for long in [file.start, file.size, sparse] {
                self.put(&long.to_le_bytes());
            }
            for word in [names, fragment, skip, set] {
                self.put(&word.to_le_bytes());
            }
        }
        for word in &file.words {
            self.put(&word.to_le_bytes());
        }
        Ok(())
    }

    fn symlink(&mut self, node: usize, target: &[u8]) -> Result<(), PackError> {
        let set = self.set(node);
        self.begin(node, if set == NONE { 3 } else { 10 })?;
        let length = count(target.len(), "bytes in a symlink")?;
        for word in [self.nodes[node].names, length] {
            self.put(&word.to_le_bytes());
        }
        self.put(target);
        if set != NONE {
            self.put(&set.to_le_bytes());
        }
        Ok(())
    }

    fn special(&mut self, node: usize, special: Special) -> Result<(), PackError> {
        let set = self.set(node);
        let number = match special {
            Special::BlockDevice(number) | Special::CharDevice(number) => Some(number),
            Special::Fifo | Special::Socket => None,
        };
        // The kinds that have attributes are numbered seven above those that have none.
        let kind = self.nodes[node].tag().id();
        self.begin(node, if set == NONE { kind } else { kind + 7 })?;
        let names = self.nodes[node].names;
        let attributes = (set != NONE).then_some(set);
        for word in [Some(names), number, attributes].into_iter().flatten() {
            self.put(&word.to_le_bytes());
        }
        Ok(())
    }

    /// What a node's inode says of its extended attributes.
    fn set(&self, node: usize) -> u32 {
        self.sets.number(&self.nodes[node])
    }

    fn place(&self, node: usize) -> Place {
        self.places[node].expect("Invariant: inodes are written before what refers to them")
    }

    /// Writes what every inode starts with.
    fn begin(&mut self, node: usize, kind: u16) -> Result<(), PackError> {
        let (block, offset) = self.inodes.position();
        let block = u32::try_from(block).map_err(|_| PackError::TooMany { what: "inodes" })?;
        self.places[node] = Some(Place { block, offset });
        let Meta {
            mode,
            uid,
            gid,
            mtime,
        } = self.nodes[node].meta;
        let (user, group) = (self.owner(uid)?, self.owner(gid)?);
        for half in [kind, mode & 0o7777, user, group] {
            self.put(&half.to_le_bytes());
        }
        self.put(&mtime.to_le_bytes());
        let number = self.numbers[node];
        self.put(&number.to_le_bytes());
        Ok(())
    }

    /// Position of a user or group number in the table of owners.
    fn owner(&mut self, id: u32) -> Result<u16, PackError> {
        if let Some(known) = self.known_owners.get(&id) {
            return Ok(*known);
        }
        let position = u16::try_from(self.known_owners.len())
            .ok()
            .filter(|position| *position < u16::MAX)
            .ok_or(PackError::TooMany { what: "owners" })?;
        self.known_owners.insert(id, position);
        self.owners.extend_from_slice(&id.to_le_bytes());
        Ok(position)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.inodes.write(bytes);
    }
}

impl Node {
    fn tag(&self) -> Tag {
        match self.content {
            Content::Directory(_) => Tag::Directory,
            Content::File(_) => Tag::File,
            Content::Symlink(_) => Tag::Symlink,
            Content::Special(Special::BlockDevice(_)) => Tag::BlockDevice,
            Content::Special(Special::CharDevice(_)) => Tag::CharDevice,
            Content::Special(Special::Fifo) => Tag::Fifo,
            Content::Special(Special::Socket) => Tag::Socket,
        }
    }
}

/// Start and size of a file that the smaller kind of inode can describe.
fn basic(file: &StoredFile) -> Option<(u32, u32)> {
    let start = u32::try_from(file.start).ok()?;
    let size = u32::try_from(file.size).ok()?;
    (file.sparse == 0).then_some((start, size))
}
