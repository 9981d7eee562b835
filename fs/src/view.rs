//! A view: ordered layers merged into one tree of flat tables.
//!
//! Owns the rules by which layers merge, and nothing of the mount: no inode numbers, no locks.
//! Layers come lowest first. Directories merge; for anything else the upper entry wins and hides
//! what lies below, a directory with all it holds included; whiteouts (a character device 0:0, or
//! a file `.wh.NAME`) hide the lower NAME, `.wh..wh..opq` everything lower in its directory, and
//! are not seen themselves. The directories on the way to where a layer sits are made up when no
//! layer brings them. A layer alone at `/` is shown as it is, whiteouts included.
//!
//! Invariant: directories are numbered breadth first, 0 the root, and the entries of all
//! directories lie in that order in one table, sorted by name bytes within each. So a directory
//! needs to know only where its entries start, and an entry only where its name starts.

mod merge;
#[cfg(test)]
mod tests;

pub(crate) use merge::{Merged, PlacedListing, ViewError, merge};

use crate::image::ImageNode;
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

/// What a view knows of one of its directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirInfo {
    /// The directory that holds it; the root holds itself.
    pub(crate) parent: DirIndex,
    /// The layer's directory that gives owner, mode and attributes; none when it was made up.
    pub(crate) origin: Option<LayerNode>,
    /// 2 + subdirectories.
    pub(crate) nlink: u32,
    /// Number of entries.
    pub(crate) entries: u32,
    /// Bytes of the entries' names.
    pub(crate) name_bytes: u32,
}

/// Marks "no layer" in [`DirRow`] and "a directory of the view" in [`EntryRow`].
const NO_LAYER: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct DirRow {
    parent: u32,
    /// Its own row in the entry table, for its name; unused for the root.
    entry: u32,
    first: u32,
    nlink: u32,
    layer: u32,
    node: u32,
}

#[derive(Debug, Clone, Copy)]
struct EntryRow {
    name: u32,
    layer: u32,
    node: u32,
}

/// The merged tree.
#[derive(Debug)]
pub(crate) struct View {
    dirs: Box<[DirRow]>,
    entries: Box<[EntryRow]>,
    names: Box<[u8]>,
}

impl View {
    /// Number of directories.
    pub(crate) fn dir_count(&self) -> u32 {
        count(self.dirs.len())
    }

    /// Bytes that the tables take.
    pub(crate) fn table_bytes(&self) -> usize {
        size_of_val(&*self.dirs) + size_of_val(&*self.entries) + self.names.len()
    }

    /// What is known of a directory.
    pub(crate) fn dir(&self, dir: DirIndex) -> DirInfo {
        let row = &self.dirs[to_usize(dir.0)];
        let (first, end) = self.range(dir);
        let name_bytes = self.name_start(end) - self.name_start(first);
        DirInfo {
            parent: DirIndex(row.parent),
            origin: (row.layer != NO_LAYER).then_some(LayerNode {
                layer: row.layer,
                node: ImageNode(row.node),
            }),
            nlink: row.nlink,
            entries: count(end - first),
            name_bytes: count(name_bytes),
        }
    }

    /// What `name` is in a directory.
    pub(crate) fn find(&self, dir: DirIndex, name: &[u8]) -> Option<Child> {
        let (first, end) = self.range(dir);
        let (mut low, mut high) = (first, end);
        while low < high {
            let middle = low.midpoint(high);
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.child(middle)),
            }
        }
        None
    }

    /// The entries of a directory from the `skip`th on, by name.
    pub(crate) fn list(
        &self,
        dir: DirIndex,
        skip: usize,
    ) -> impl Iterator<Item = (&[u8], Child)> + '_ {
        let (first, end) = self.range(dir);
        let from = first.saturating_add(skip).min(end);
        (from..end).map(|entry| (self.name(entry), self.child(entry)))
    }

    /// Path of a directory below the view's root, without a leading slash.
    pub(crate) fn path(&self, dir: DirIndex) -> String {
        let mut names = Vec::new();
        let mut at = dir;
        while at != DirIndex::ROOT {
            let row = &self.dirs[to_usize(at.0)];
            names.push(String::from_utf8_lossy(self.name(to_usize(row.entry))));
            at = DirIndex(row.parent);
        }
        names.reverse();
        names.join("/")
    }

    /// Path of some entry that leads to a leaf. Slow (reads the whole table): for reports.
    pub(crate) fn path_of(&self, leaf: LayerNode) -> Option<String> {
        let found = |entry: &usize| self.child(*entry) == Child::Leaf(leaf);
        let entry = (0..self.entries.len().saturating_sub(1)).find(found)?;
        let dir = self
            .dirs
            .partition_point(|row| to_usize(row.first) <= entry)
            .checked_sub(1)?;
        let parent = self.path(DirIndex(count(dir)));
        let name = String::from_utf8_lossy(self.name(entry));
        Some(if parent.is_empty() {
            name.into_owned()
        } else {
            format!("{parent}/{name}")
        })
    }

    /// The rows of a directory's entries: from the first to before the next directory's first.
    fn range(&self, dir: DirIndex) -> (usize, usize) {
        let dir = to_usize(dir.0);
        let first = to_usize(self.dirs[dir].first);
        let end = match self.dirs.get(dir + 1) {
            Some(next) => to_usize(next.first),
            None => self.entries.len() - 1,
        };
        (first, end)
    }

    /// Where an entry's name starts; the table ends with a row that only says where the last ends.
    fn name_start(&self, entry: usize) -> usize {
        to_usize(self.entries[entry].name)
    }

    fn name(&self, entry: usize) -> &[u8] {
        &self.names[self.name_start(entry)..self.name_start(entry + 1)]
    }

    fn child(&self, entry: usize) -> Child {
        let row = &self.entries[entry];
        if row.layer == NO_LAYER {
            Child::Directory(DirIndex(row.node))
        } else {
            Child::Leaf(LayerNode {
                layer: row.layer,
                node: ImageNode(row.node),
            })
        }
    }
}

/// A table length as it is stored.
fn count(length: usize) -> u32 {
    u32::try_from(length).expect("merge refuses tables of 2^32 rows")
}
