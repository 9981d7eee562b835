//! A view: ordered layers merged into one tree of flat tables.
//!
//! Owns the rules by which layers merge, and nothing of the mount: no inode numbers, no locks.
//! Layers come lowest first. Directories merge; for anything else the upper entry wins and hides
//! what lies below, a directory with all it holds included; whiteouts (a character device 0:0, or
//! a file `.wh.NAME`) hide the lower NAME, `.wh..wh..opq` everything lower in its directory, and
//! are not seen themselves. The directories on the way to where a layer sits are made up when no
//! layer brings them. A layer alone at `/` is shown as it is, whiteouts included.
//!
//! Most directories of a view come from one layer alone: such a one has no entries here, it is
//! listed from its layer's. Only a directory that several layers bring, or that a whiteout leaves
//! its mark in, has rows of its own, and those say where in which layer an entry is and no name.
//! So a view takes 20 bytes a directory, and 12 for each entry of those few.
//!
//! Invariant: directories are numbered breadth first, 0 the root, subdirectories by name bytes. So
//! those of one directory stand together, here as in each layer's own count.

mod merge;
#[cfg(test)]
mod tests;

pub(crate) use merge::{Merged, PlacedListing, ViewError, merge};

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use crate::image::ImageNode;
use crate::layer::Listing;
use crate::num::to_usize;

/// A directory of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirIndex(pub(crate) u32);

impl DirIndex {
    /// The root of the view.
    pub(crate) const ROOT: Self = Self(0);
}

/// A node of one of the layers that a view was merged from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerNode {
    /// Position of the layer among those handed to [`merge()`].
    pub(crate) layer: u32,
    /// The node in it.
    pub(crate) node: ImageNode,
}

/// What an entry of a view leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    /// A directory of the view.
    Directory(DirIndex),
    /// Anything else: a node of a layer.
    Leaf(LayerNode),
}

/// Marks "no layer" in [`DirRow`] and [`EntryRow`].
const NO_LAYER: u32 = u32::MAX;

/// Marks "no directory" in [`EntryRow`].
const NO_DIRECTORY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct DirRow {
    /// The layer's directory that gives owner, mode and attributes, if one does.
    layer: u32,
    node: u32,
    /// The first of its subdirectories, or where it would be.
    first: u32,
    rows: Rows,
}

/// Where a directory's entries are.
#[derive(Debug, Clone, Copy)]
enum Rows {
    /// They are those of the layer's directory, whose first subdirectory has this place among the
    /// directories of the layer.
    Shared(u32),
    /// They are from here on in the view's own rows, to where the next such directory's start.
    Own(u32),
}

/// An entry of a directory that has rows of its own.
#[derive(Debug, Clone, Copy)]
struct EntryRow {
    /// The layer whose entry it is; none when a directory was made up.
    layer: u32,
    /// Position of the entry in the layer, or of the name among those made up.
    entry: u32,
    /// The directory of the view that it leads to; none for anything else.
    directory: u32,
}

/// The merged tree.
#[derive(Debug)]
pub(crate) struct View<L> {
    layers: Box<[Arc<L>]>,
    dirs: Box<[DirRow]>,
    /// Where the rows of each directory start that has its own, and where the last ends.
    starts: Box<[u32]>,
    entries: Box<[EntryRow]>,
    /// Names of directories that no layer has.
    made_up: Box<[Box<[u8]>]>,
}

impl<L: Listing> View<L> {
    /// Number of directories.
    pub(crate) fn dir_count(&self) -> u32 {
        count(self.dirs.len())
    }

    /// Bytes that the tables take.
    pub(crate) fn table_bytes(&self) -> usize {
        let names = self
            .made_up
            .iter()
            .map(|name| size_of_val(name) + name.len());
        size_of_val(&*self.dirs)
            + size_of_val(&*self.starts)
            + size_of_val(&*self.entries)
            + names.sum::<usize>()
    }

    /// The layers that it was merged from, the lowest first.
    pub(crate) fn layers(&self) -> &[Arc<L>] {
        &self.layers
    }

    /// One of the layers.
    pub(crate) fn layer(&self, number: u32) -> &Arc<L> {
        &self.layers[to_usize(number)]
    }

    /// The layer's directory that gives a directory its owner, mode and attributes; none when it
    /// was made up.
    pub(crate) fn origin(&self, dir: DirIndex) -> Option<LayerNode> {
        let row = self.row(dir);
        (row.layer != NO_LAYER).then_some(LayerNode {
            layer: row.layer,
            node: ImageNode(row.node),
        })
    }

    /// The directory that holds a directory; the root holds itself.
    pub(crate) fn parent(&self, dir: DirIndex) -> DirIndex {
        let before = self.dirs.partition_point(|row| row.first <= dir.0);
        match dir {
            DirIndex::ROOT => dir,
            _ => DirIndex(count(before.saturating_sub(1))),
        }
    }

    /// Its links: 2 + subdirectories.
    pub(crate) fn nlink(&self, dir: DirIndex) -> u32 {
        let next = self.dirs.get(to_usize(dir.0) + 1);
        let end = next.map_or(self.dir_count(), |next| next.first);
        2 + (end - self.row(dir).first)
    }

    /// What `name` is in a directory.
    pub(crate) fn find(&self, dir: DirIndex, name: &[u8]) -> Option<Child> {
        let row = self.row(dir);
        let Range { mut start, mut end } = self.range(row);
        while start < end {
            let middle = start.midpoint(end);
            let (found, child) = self.entry(row, middle);
            match found.cmp(name) {
                Ordering::Less => start = middle + 1,
                Ordering::Greater => end = middle,
                Ordering::Equal => return Some(child),
            }
        }
        None
    }

    /// The entries of a directory from the `skip`th on, by name.
    pub(crate) fn list(
        &self,
        dir: DirIndex,
        skip: u32,
    ) -> impl Iterator<Item = (&[u8], Child)> + '_ {
        let row = self.row(dir);
        let Range { start, end } = self.range(row);
        let from = start.saturating_add(skip).min(end);
        (from..end).map(|position| self.entry(row, position))
    }

    /// Path of a directory below the view's root, without a leading slash. Slow: for reports.
    pub(crate) fn path(&self, dir: DirIndex) -> String {
        let mut names = Vec::new();
        let mut at = dir;
        while at != DirIndex::ROOT {
            let parent = self.parent(at);
            let mut entries = self.list(parent, 0);
            let name = entries.find_map(|(name, child)| {
                (child == Child::Directory(at)).then(|| String::from_utf8_lossy(name))
            });
            names.push(name.unwrap_or_default());
            at = parent;
        }
        names.reverse();
        names.join("/")
    }

    /// Path of some entry that leads to a leaf. Slow (reads all directories): for reports.
    pub(crate) fn path_of(&self, leaf: LayerNode) -> Option<String> {
        (0..self.dir_count()).map(DirIndex).find_map(|dir| {
            let mut entries = self.list(dir, 0);
            let (name, _) = entries.find(|(_, child)| *child == Child::Leaf(leaf))?;
            let (parent, name) = (self.path(dir), String::from_utf8_lossy(name));
            Some(if parent.is_empty() {
                name.into_owned()
            } else {
                format!("{parent}/{name}")
            })
        })
    }

    fn row(&self, dir: DirIndex) -> &DirRow {
        &self.dirs[to_usize(dir.0)]
    }

    /// Positions of a directory's entries, in its layer's table or in the view's own.
    fn range(&self, row: &DirRow) -> Range<u32> {
        match row.rows {
            Rows::Shared(_) => self.layer(row.layer).entries(ImageNode(row.node)),
            Rows::Own(number) => {
                let number = to_usize(number);
                self.starts[number]..self.starts[number + 1]
            }
        }
    }

    /// The entry of a directory at one of these positions.
    fn entry(&self, row: &DirRow, position: u32) -> (&[u8], Child) {
        match row.rows {
            Rows::Shared(first) => {
                let layer = self.layer(row.layer);
                let (name, node) = layer.entry(position);
                let child = match layer.directory(node) {
                    Some(place) => Child::Directory(DirIndex(row.first + (place - first))),
                    None => Child::Leaf(LayerNode {
                        layer: row.layer,
                        node,
                    }),
                };
                (name, child)
            }
            Rows::Own(_) => self.own_entry(&self.entries[to_usize(position)]),
        }
    }

    fn own_entry(&self, row: &EntryRow) -> (&[u8], Child) {
        let directory = Child::Directory(DirIndex(row.directory));
        if row.layer == NO_LAYER {
            return (&self.made_up[to_usize(row.entry)], directory);
        }
        let (name, node) = self.layer(row.layer).entry(row.entry);
        let leaf = Child::Leaf(LayerNode {
            layer: row.layer,
            node,
        });
        let is_leaf = row.directory == NO_DIRECTORY;
        (name, if is_leaf { leaf } else { directory })
    }
}

/// A table length as it is stored.
fn count(length: usize) -> u32 {
    u32::try_from(length).expect("merge refuses tables of 2^32 rows")
}
