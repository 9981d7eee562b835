//! The directory tree: breadth first from the root, node numbers given in that order.
//!
//! Invariant: each directory is reached once, so the walk ends. Inodes that are not reached are not
//! taken over. Listings together are not longer than their table, so that many directories can't
//! claim the same one.

use std::collections::{HashMap, VecDeque};

use super::inodes::{Body, Contents, Inode, Inodes};
use super::listing::{RUN_MAX, Run, entry_fields, run_header};
use super::metadata::{Source, Table};
use super::superblock::Layout;
use super::{Bounds, VerifyError};
use crate::image::bytes::Bytes;
use crate::image::format::{self, NONE};
use crate::image::index::{
    Directory, Entry, Facts, Fragment, Node, NodeXattrs, RegularFile, Span, Sparse, Tables, Tag,
    Xattr,
};
use crate::num::{to_u32, to_u64, to_usize};

/// An inode that has no node number yet.
const UNSEEN: u32 = u32::MAX;

/// Walks the tree and fills the index's tables.
pub(super) fn walk(
    source: &mut Source<'_>,
    layout: &Layout,
    mut found: Inodes,
    facts: Facts,
    bounds: &Bounds,
) -> Result<Tables, VerifyError> {
    let listings = source.table("directory table", layout.codec, layout.directories)?;
    let mut tables = Tables::new(facts);
    tables.owners.clone_from(&layout.ids);
    tables.blocks = std::mem::take(&mut found.blocks);
    tables.text = std::mem::take(&mut found.targets);
    let root = found.root;
    let mut tree = Tree {
        numbers: vec![UNSEEN; found.list.len()],
        fragment_ends: vec![0; layout.fragments.len()],
        attribute_sets: HashMap::new(),
        unclaimed: listings.bytes.len(),
        queue: VecDeque::new(),
        tables,
        found,
        layout,
        bounds,
        source,
    };
    let node = tree.number(root)?;
    tree.queue.push_back(Pending {
        inode: root,
        node,
        depth: 0,
        name: Span {
            start: 0,
            length: 0,
        },
    });
    while let Some(pending) = tree.queue.pop_front() {
        tree.directory(&pending, &listings)?;
    }
    tree.finish()
}

/// A directory whose entries are still to be read.
struct Pending {
    inode: usize,
    node: u32,
    depth: u32,
    /// Its name in the text, for messages.
    name: Span,
}

struct Tree<'a, 's> {
    source: &'a mut Source<'s>,
    found: Inodes,
    layout: &'a Layout,
    bounds: &'a Bounds,
    tables: Tables,
    /// Node number of each inode.
    numbers: Vec<u32>,
    queue: VecDeque<Pending>,
    /// Where the attributes of a set are, once one of its nodes was met.
    attribute_sets: HashMap<u32, NodeXattrs>,
    /// Bytes that files use of each fragment.
    fragment_ends: Vec<u32>,
    /// Bytes of the directory table less those of the listings read: no listing is read twice
    /// without this running out.
    unclaimed: usize,
}

impl Tree<'_, '_> {
    /// Reads the entries of a directory; queues its subdirectories.
    fn directory(&mut self, pending: &Pending, listings: &Table) -> Result<(), VerifyError> {
        let first = table_end(&self.tables.entries)?;
        let (mut listing, size) = self.listing(pending, listings)?;
        while !listing.is_empty() {
            let (count, run) = run_header(&mut listing)
                .filter(|(count, _)| *count <= RUN_MAX)
                .ok_or_else(|| self.bad_listing(pending, "a header is wrong"))?;
            for _ in 0..count {
                self.entry(pending, &run, &mut listing)?;
            }
        }
        let count = table_end(&self.tables.entries)? - first;
        let payload = table_end(&self.tables.directories)?;
        self.tables
            .directories
            .push(Directory { first, count, size });
        self.tables.nodes[to_usize(pending.node)].payload = payload;
        self.check_order(pending, first)
    }

    /// The bytes of a directory's listing, and what the directory says is its size: three more, for
    /// `.` and `..`, which have no entries.
    fn listing<'t>(
        &mut self,
        pending: &Pending,
        listings: &'t Table,
    ) -> Result<(Bytes<'t>, u32), VerifyError> {
        let Body::Directory {
            block,
            offset,
            size,
        } = self.found.list[pending.inode].rest.body
        else {
            return Err(self.bad_listing(pending, "it is not a directory"));
        };
        let bytes = size.saturating_sub(3);
        if bytes == 0 {
            return Ok((Bytes::new(&[]), size));
        }
        let listing = listings
            .from(u64::from(block), offset)
            .and_then(|mut rest| rest.take(to_usize(bytes)))
            .ok_or_else(|| self.bad_listing(pending, "it is not in the directory table"))?;
        self.unclaimed = self
            .unclaimed
            .checked_sub(listing.len())
            .ok_or_else(|| self.bad_listing(pending, "it is shared with another directory"))?;
        Ok((Bytes::new(listing), size))
    }

    /// Reads one entry.
    fn entry(
        &mut self,
        pending: &Pending,
        run: &Run,
        listing: &mut Bytes<'_>,
    ) -> Result<(), VerifyError> {
        let (offset, delta, kind, name) =
            entry_fields(listing).ok_or_else(|| self.bad_listing(pending, "it is cut short"))?;
        if let Some(reason) = format::name_fault(name) {
            return Err(self.bad_name(pending, name, reason));
        }
        let inode = self.found.at(run.block, offset);
        let inode = inode.ok_or_else(|| self.bad_name(pending, name, "it has no inode"))?;
        let Inode { number, .. } = self.found.list[inode];
        let tag = self.found.list[inode].tag();
        if run.number.checked_add_signed(i32::from(delta)) != Some(number) || kind != tag.id() {
            let reason = "its inode is of another number or kind";
            return Err(self.bad_name(pending, name, reason));
        }
        self.append_entry(pending, (inode, tag), name)
    }

    /// Adds an entry of the directory at hand to the tables.
    fn append_entry(
        &mut self,
        pending: &Pending,
        (inode, tag): (usize, Tag),
        name: &[u8],
    ) -> Result<(), VerifyError> {
        if to_u64(self.tables.entries.len()) >= u64::from(self.bounds.nodes) {
            return Err(too_much("directory entries", self.bounds.nodes));
        }
        let known = self.numbers[inode] != UNSEEN;
        if known && tag == Tag::Directory {
            return Err(self.bad_name(pending, name, "the directory is reached twice"));
        }
        let node = self.number(inode)?;
        let span = self.append(name)?;
        self.tables.entries.push(Entry {
            name: span.start,
            length: u16::try_from(name.len()).unwrap_or(u16::MAX),
            node,
        });
        if tag == Tag::Directory {
            self.queue_directory(pending, (inode, node), span)?;
        }
        Ok(())
    }

    fn queue_directory(
        &mut self,
        parent: &Pending,
        (inode, node): (usize, u32),
        name: Span,
    ) -> Result<(), VerifyError> {
        let depth = parent.depth + 1;
        if depth > self.bounds.depth {
            return Err(too_much("levels of directories", self.bounds.depth));
        }
        self.queue.push_back(Pending {
            inode,
            node,
            depth,
            name,
        });
        Ok(())
    }

    /// The node number of an inode, which gets the next one when it has none.
    fn number(&mut self, position: usize) -> Result<u32, VerifyError> {
        if self.numbers[position] != UNSEEN {
            return Ok(self.numbers[position]);
        }
        let inode = self.found.list[position];
        let node = table_end(&self.tables.nodes)?;
        self.numbers[position] = node;
        let payload = match inode.rest.body {
            Body::Directory { .. } | Body::Special(_) => 0,
            Body::File(contents) => self.file(&contents)?,
            Body::Symlink(target) => {
                self.tables.symlinks.push(target);
                table_end(&self.tables.symlinks)? - 1
            }
            Body::Device(_, device) => device,
        };
        self.tables.nodes.push(Node {
            mode: Node::mode_of(inode.tag(), inode.permissions),
            user: inode.user,
            group: inode.group,
            mtime: inode.mtime,
            nlink: inode.rest.nlink,
            payload,
        });
        if inode.rest.xattrs != NONE {
            self.xattrs(node, inode.rest.xattrs)?;
        }
        Ok(node)
    }

    fn file(&mut self, contents: &Contents) -> Result<u32, VerifyError> {
        let total = &mut self.tables.facts.content_bytes;
        *total = total
            .checked_add(contents.size)
            .ok_or(VerifyError::TooMuch {
                what: "bytes in files",
                limit: u64::MAX,
            })?;
        if contents.fragment != NONE {
            let tail = contents.size % u64::from(self.layout.block_size);
            let end = u64::from(contents.skip) + tail;
            let used = &mut self.fragment_ends[to_usize(contents.fragment)];
            *used = u32::try_from(end).unwrap_or(u32::MAX).max(*used);
        }
        if contents.sparse > 0 {
            self.tables.sparse.push(Sparse {
                file: table_end(&self.tables.files)?,
                bytes: contents.sparse,
            });
        }
        self.tables.files.push(RegularFile {
            size: contents.size,
            start: contents.start,
            first_block: contents.first_block,
            fragment: contents.fragment,
            skip: contents.skip,
        });
        Ok(table_end(&self.tables.files)? - 1)
    }

    fn xattrs(&mut self, node: u32, set: u32) -> Result<(), VerifyError> {
        let known = match self.attribute_sets.get(&set) {
            Some(known) => *known,
            None => self.attribute_set(set)?,
        };
        self.tables.xattr_nodes.push(NodeXattrs { node, ..known });
        Ok(())
    }

    /// Takes over the attributes of a set; the answer is where they are, still of no node.
    fn attribute_set(&mut self, set: u32) -> Result<NodeXattrs, VerifyError> {
        let layout = self.layout;
        let Some(sets) = &layout.xattrs else {
            let reason = "the image has no extended attributes";
            return Err(VerifyError::damaged(
                "extended attribute set",
                u64::from(set),
                reason,
            ));
        };
        let first = table_end(&self.tables.xattrs)?;
        for (name, value) in sets.attributes(self.source, set)? {
            let name = self.append(&name)?;
            let value = self.append(value)?;
            self.tables.xattrs.push(Xattr {
                start: name.start,
                name: name.length,
                value: value.length,
            });
        }
        let known = NodeXattrs {
            node: 0,
            first,
            count: table_end(&self.tables.xattrs)? - first,
            size: sets.size(set),
        };
        self.attribute_sets.insert(set, known);
        Ok(known)
    }

    /// Appends to the text.
    fn append(&mut self, bytes: &[u8]) -> Result<Span, VerifyError> {
        let start = table_end(&self.tables.text)?;
        self.tables.text.extend_from_slice(bytes);
        let length = table_end(&self.tables.text)? - start;
        Ok(Span { start, length })
    }

    /// The entries of a directory, from `first` on, ascend by name.
    fn check_order(&self, pending: &Pending, first: u32) -> Result<(), VerifyError> {
        let entries = &self.tables.entries[to_usize(first)..];
        let name = |entry: &Entry| self.tables.text(entry.name()).unwrap_or_default();
        match entries
            .windows(2)
            .find(|pair| name(&pair[0]) >= name(&pair[1]))
        {
            Some(pair) => {
                Err(self.bad_name(pending, name(&pair[1]), "it is not sorted or not unique"))
            }
            None => Ok(()),
        }
    }

    /// Keeps the fragments that files use, sorted, and makes the files point to them.
    fn finish(mut self) -> Result<Tables, VerifyError> {
        let mut used: Vec<usize> = (0..self.fragment_ends.len())
            .filter(|position| self.fragment_ends[*position] > 0)
            .collect();
        used.sort_by_key(|position| self.layout.fragments[*position].start);
        let mut places = vec![NONE; self.fragment_ends.len()];
        for position in used {
            places[position] = table_end(&self.tables.fragments)?;
            let raw = self.layout.fragments[position];
            self.tables.fragments.push(Fragment {
                start: raw.start,
                word: raw.word,
                length: self.fragment_ends[position],
            });
        }
        for file in &mut self.tables.files {
            if file.fragment != NONE {
                file.fragment = places[to_usize(file.fragment)];
            }
        }
        Ok(self.tables)
    }

    fn bad_listing(&self, pending: &Pending, reason: &str) -> VerifyError {
        let number = self.found.list[pending.inode].number;
        let reason = format!("{:?}: {reason}", self.escaped(pending));
        VerifyError::damaged("directory of inode", u64::from(number), reason)
    }

    fn bad_name(&self, pending: &Pending, name: &[u8], reason: &'static str) -> VerifyError {
        VerifyError::Name {
            name: name.escape_ascii().to_string(),
            directory: self.escaped(pending),
            reason,
        }
    }

    fn escaped(&self, pending: &Pending) -> String {
        let name = self.tables.text(pending.name).unwrap_or_default();
        name.escape_ascii().to_string()
    }
}

fn too_much(what: &'static str, limit: u32) -> VerifyError {
    VerifyError::TooMuch {
        what,
        limit: u64::from(limit),
    }
}

/// The position that the next element of a table gets.
fn table_end<T>(table: &[T]) -> Result<u32, VerifyError> {
    to_u32(table.len()).ok_or(VerifyError::TooMuch {
        what: "elements of a table",
        limit: u64::from(u32::MAX),
    })
}
