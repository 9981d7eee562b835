//! A synthetic tree with its nodes numbered, as an image's are.
//!
//! Invariant: node 0 is the root, and the entries of a directory are sorted by name bytes. Holds
//! the files' bytes; they are small and read without a cache.

use std::collections::VecDeque;
use std::ops::Range;

use super::memory::{Entries, Entry, MemoryTree};
use crate::image::ImageNode;
use crate::node::{Attr, Kind};
use crate::num::{to_u64, to_usize};

/// One node.
#[derive(Debug)]
enum FlatNode {
    /// Its entries, as a range of `FlatTree::entries`.
    Directory(Range<u32>),
    File {
        mode: u16,
        bytes: Box<[u8]>,
    },
    Symlink(Box<[u8]>),
}

/// The numbered tree.
#[derive(Debug)]
pub(crate) struct FlatTree {
    nodes: Vec<FlatNode>,
    entries: Vec<(Box<[u8]>, ImageNode)>,
}

impl FlatTree {
    /// Numbers the nodes of a tree, directories before what is in them.
    pub(crate) fn new(tree: &MemoryTree) -> Self {
        let mut flat = Self {
            nodes: vec![FlatNode::Directory(0..0)],
            entries: Vec::new(),
        };
        let mut pending = VecDeque::from([(0, &tree.root)]);
        while let Some((index, entries)) = pending.pop_front() {
            let first = count(flat.entries.len());
            for (name, entry) in entries {
                flat.add(name, entry, &mut pending);
            }
            flat.nodes[index] = FlatNode::Directory(first..count(flat.entries.len()));
        }
        flat
    }

    fn add<'a>(
        &mut self,
        name: &[u8],
        entry: &'a Entry,
        pending: &mut VecDeque<(usize, &'a Entries)>,
    ) {
        let index = self.nodes.len();
        let node = match entry {
            Entry::Directory(entries) => {
                pending.push_back((index, entries));
                FlatNode::Directory(0..0)
            }
            Entry::File { mode, bytes } => FlatNode::File {
                mode: *mode,
                bytes: bytes.as_slice().into(),
            },
            Entry::Symlink(target) => FlatNode::Symlink(target.as_slice().into()),
        };
        self.nodes.push(node);
        self.entries.push((name.into(), ImageNode(count(index))));
    }

    fn node(&self, node: ImageNode) -> Option<&FlatNode> {
        self.nodes.get(to_usize(node.0))
    }

    /// Number of nodes.
    pub(crate) fn node_count(&self) -> u32 {
        count(self.nodes.len())
    }

    /// Sum of the file lengths.
    pub(crate) fn content_bytes(&self) -> u64 {
        let files = self.nodes.iter().map(|node| match node {
            FlatNode::File { bytes, .. } => to_u64(bytes.len()),
            FlatNode::Directory(_) | FlatNode::Symlink(_) => 0,
        });
        files.sum()
    }

    /// Attributes of a node: owned by root, as old as can be.
    pub(crate) fn attr(&self, node: ImageNode) -> Attr {
        let (kind, mode, nlink, size) = match self.node(node) {
            Some(FlatNode::File { mode, bytes }) => {
                let size = to_u64(bytes.len());
                (Kind::File { size }, *mode, 1, size)
            }
            Some(FlatNode::Symlink(target)) => (Kind::Symlink, 0o777, 1, to_u64(target.len())),
            Some(FlatNode::Directory(_)) | None => (Kind::Directory, 0o755, 2, 0),
        };
        Attr {
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            nlink,
            size,
            blocks: match kind {
                Kind::File { size } => size.div_ceil(512),
                _ => 0,
            },
        }
    }

    /// Positions of a directory's entries.
    pub(crate) fn entries(&self, dir: ImageNode) -> Range<u32> {
        match self.node(dir) {
            Some(FlatNode::Directory(range)) => range.clone(),
            _ => 0..0,
        }
    }

    /// The entry at a position.
    pub(crate) fn entry(&self, position: u32) -> (&[u8], ImageNode) {
        let (name, node) = &self.entries[to_usize(position)];
        (name, *node)
    }

    /// Target of a symlink; empty for anything else.
    pub(crate) fn symlink(&self, node: ImageNode) -> &[u8] {
        match self.node(node) {
            Some(FlatNode::Symlink(target)) => target,
            _ => &[],
        }
    }

    /// Bytes of a file; empty for anything else.
    pub(crate) fn bytes(&self, node: ImageNode) -> &[u8] {
        match self.node(node) {
            Some(FlatNode::File { bytes, .. }) => bytes,
            _ => &[],
        }
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("a tree made up in memory has few nodes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_leads_to_its_node() {
        let mut tree = MemoryTree::default();
        tree.file("/b/file", 0o755, b"hello".to_vec());
        tree.symlink("/a", "b/file");
        let flat = FlatTree::new(&tree);
        assert_eq!(flat.node_count(), 4);
        assert_eq!(flat.content_bytes(), 5);

        let list = |dir| {
            let positions = flat.entries(dir);
            positions.map(|at| flat.entry(at)).collect::<Vec<_>>()
        };
        let root = list(ImageNode(0));
        let [(b"a", link), (b"b", dir)] = root[..] else {
            panic!("unexpected root {root:?}");
        };
        assert_eq!(flat.symlink(link), b"b/file");

        let below = list(dir);
        let [(b"file", file)] = below[..] else {
            panic!("unexpected entries {below:?}");
        };
        assert_eq!(flat.bytes(file), b"hello");
        assert_eq!(flat.attr(file).mode, 0o755);
        assert_eq!(flat.attr(file).kind, Kind::File { size: 5 });
    }
}
