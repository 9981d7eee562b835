//! The tree that an image is to show: described path by path, entries kept sorted.
//!
//! Invariant: every node but the root has at least one name, a directory exactly one; names, targets
//! and attributes are such as a reader accepts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::attributes::{self, Attribute};
use super::{Meta, PackError, Source, Special};
use crate::image::format;

/// What parents that nobody described have.
const PARENT: Meta = Meta {
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: 0,
};

/// A tree to be written; parents are made as needed (0755, root). Entries are kept sorted, so
/// the same tree gives the same bytes.
#[derive(Debug)]
pub struct Tree {
    /// The root is the first.
    pub(super) nodes: Vec<Node>,
}

/// One entry of the tree, without its names.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) meta: Meta,
    pub(super) content: Content,
    /// Extended attributes, sorted by name.
    pub(super) attributes: Vec<Attribute>,
    /// How many names it has.
    pub(super) names: u32,
}

impl Node {
    /// A node without attributes, of one name.
    pub(super) fn new(meta: Meta, content: Content) -> Self {
        Self {
            meta,
            content,
            attributes: Vec::new(),
            names: 1,
        }
    }

    fn parent() -> Self {
        Self::new(PARENT, Content::Directory(BTreeMap::new()))
    }
}

#[derive(Debug)]
pub(super) enum Content {
    /// Positions of the entries in [`Tree::nodes`], by name.
    Directory(BTreeMap<Vec<u8>, usize>),
    File(Source),
    Symlink(Vec<u8>),
    Special(Special),
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
            nodes: vec![Node::parent()],
        }
    }

    /// Adds or re-describes a directory.
    pub fn directory(&mut self, path: impl AsRef<[u8]>, meta: Meta) -> Result<(), PackError> {
        let path = path.as_ref();
        let mut at = 0;
        for name in components(path)? {
            at = self.enter(at, name, path)?;
        }
        self.nodes[at].meta = meta;
        Ok(())
    }

    /// Adds a regular file; an entry of that path must not exist.
    pub fn file(
        &mut self,
        path: impl AsRef<[u8]>,
        meta: Meta,
        source: Source,
    ) -> Result<(), PackError> {
        self.add(path.as_ref(), meta, Content::File(source))
    }

    /// Adds a symlink; an entry of that path must not exist.
    pub fn symlink(
        &mut self,
        path: impl AsRef<[u8]>,
        meta: Meta,
        target: impl AsRef<[u8]>,
    ) -> Result<(), PackError> {
        let (path, target) = (path.as_ref(), target.as_ref());
        if format::target_fault(target).is_some() {
            let reason = "its target is empty, holds a NUL or is longer than 4095 bytes";
            return Err(bad_path(path, reason));
        }
        self.add(path, meta, Content::Symlink(target.to_vec()))
    }

    /// Adds a device, pipe or socket; an entry of that path must not exist.
    pub fn special(
        &mut self,
        path: impl AsRef<[u8]>,
        meta: Meta,
        special: Special,
    ) -> Result<(), PackError> {
        self.add(path.as_ref(), meta, Content::Special(special))
    }

    /// Gives what is at `existing`, and is no directory, another name.
    pub fn link(
        &mut self,
        path: impl AsRef<[u8]>,
        existing: impl AsRef<[u8]>,
    ) -> Result<(), PackError> {
        let (path, existing) = (path.as_ref(), existing.as_ref());
        let node = self
            .find(existing)
            .filter(|node| !matches!(self.nodes[*node].content, Content::Directory(_)))
            .ok_or_else(|| bad_path(existing, "there is nothing that can have another name"))?;
        let (parent, name) = self.place(path)?;
        self.enlist(parent, name, node);
        self.nodes[node].names += 1;
        Ok(())
    }

    /// Gives what is at `path` an extended attribute, or another value for one that it has.
    pub fn attribute(
        &mut self,
        path: impl AsRef<[u8]>,
        name: impl AsRef<[u8]>,
        value: impl Into<Vec<u8>>,
    ) -> Result<(), PackError> {
        let (path, name) = (path.as_ref(), name.as_ref());
        let node = self.find(path);
        let node = node.ok_or_else(|| bad_path(path, "there is no such entry"))?;
        let attribute =
            Attribute::new(name, value.into()).map_err(|reason| PackError::Attribute {
                path: to_path(path),
                name: name.escape_ascii().to_string(),
                reason,
            })?;
        attributes::set(&mut self.nodes[node].attributes, attribute);
        Ok(())
    }

    /// Whether there is an entry of that path.
    pub fn contains(&self, path: impl AsRef<[u8]>) -> bool {
        self.find(path.as_ref()).is_some()
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        let mut at = 0;
        for name in components(path).ok()? {
            at = self.child(at, name)?;
        }
        Some(at)
    }

    /// Adds an entry that is not a directory.
    fn add(&mut self, path: &[u8], meta: Meta, content: Content) -> Result<(), PackError> {
        let (parent, name) = self.place(path)?;
        self.insert(parent, name, Node::new(meta, content));
        Ok(())
    }

    /// The directory for a new entry, made if there is none, and its name there.
    fn place<'p>(&mut self, path: &'p [u8]) -> Result<(usize, &'p [u8]), PackError> {
        let names = components(path)?;
        let Some((last, parents)) = names.split_last() else {
            return Err(bad_path(path, "the root is a directory"));
        };
        let mut at = 0;
        for name in parents {
            at = self.enter(at, name, path)?;
        }
        match self.child(at, last) {
            Some(_) => Err(bad_path(path, "there is an entry already")),
            None => Ok((at, last)),
        }
    }

    fn child(&self, at: usize, name: &[u8]) -> Option<usize> {
        match &self.nodes[at].content {
            Content::Directory(entries) => entries.get(name).copied(),
            Content::File(_) | Content::Symlink(_) | Content::Special(_) => None,
        }
    }

    /// The directory `name` in the directory `at`, made if there is none.
    fn enter(&mut self, at: usize, name: &[u8], path: &[u8]) -> Result<usize, PackError> {
        match self.child(at, name) {
            Some(child) if matches!(self.nodes[child].content, Content::Directory(_)) => Ok(child),
            Some(_) => Err(bad_path(path, "a part of it is not a directory")),
            None => Ok(self.insert(at, name, Node::parent())),
        }
    }

    fn insert(&mut self, at: usize, name: &[u8], node: Node) -> usize {
        let position = self.nodes.len();
        self.nodes.push(node);
        self.enlist(at, name, position);
        position
    }

    fn enlist(&mut self, at: usize, name: &[u8], node: usize) {
        if let Content::Directory(entries) = &mut self.nodes[at].content {
            entries.insert(name.to_vec(), node);
        }
    }
}

/// The names that an absolute path is made of.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, PackError> {
    let Some(relative) = path.strip_prefix(b"/") else {
        return Err(bad_path(path, "it is not absolute"));
    };
    if relative.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = relative.split(|byte| *byte == b'/').collect();
    match names.iter().find_map(|name| format::name_fault(name)) {
        Some(_) => Err(bad_path(
            path,
            "a part of it is empty, `.`, `..`, holds a NUL or is longer than 255 bytes",
        )),
        None => Ok(names),
    }
}

fn bad_path(path: &[u8], reason: &'static str) -> PackError {
    PackError::Path {
        path: to_path(path),
        reason,
    }
}

fn to_path(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}
