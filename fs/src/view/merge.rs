//! The merge itself: one directory of the view at a time, breadth first, without recursion.
//!
//! Each pending directory knows its parts: where in which layers it comes from, lowest first.

use std::collections::{BTreeMap, VecDeque};

use super::{DirIndex, DirRow, EntryRow, LayerNode, NO_LAYER, View};
use crate::image::ImageNode;
use crate::layer::Listing;
use crate::node::Kind;
use crate::num::to_usize;

/// How many overlapping names are told.
const OVERLAPS: usize = 100;

const ROOT: ImageNode = ImageNode(0);
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A layer and the names on the way to where its root sits; none for the view's root.
#[derive(Debug)]
pub(crate) struct PlacedListing<'a, L> {
    /// The layer.
    pub(crate) listing: &'a L,
    /// Where it sits.
    pub(crate) at: Vec<&'a [u8]>,
}

/// A merged tree and what was odd about it.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The tree.
    pub(crate) view: View,
    /// Absolute paths of entries that hide another layer's, at most a hundred. Directories that
    /// merge, whiteouts, and what a synthetic layer puts on top are meant to, and not told.
    pub(crate) overlaps: Vec<String>,
}

/// Why layers can't be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ViewError {
    /// The tables count rows and bytes of names in 32 bits.
    #[error("the merged tree has more than 4 GiB of names or 4 billion nodes")]
    TooLarge,
}

/// Where a directory of the view comes from in one layer.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// From a directory of the layer.
    Inside(LayerNode),
    /// From the way to where the layer sits: the next name is `at[depth]`.
    Toward { layer: u32, depth: usize },
}

/// What an entry of the directory at work leads to so far.
#[derive(Debug)]
enum Slot {
    Leaf(LayerNode),
    Directory(Vec<Part>),
}

/// Merges layers, lowest first.
pub(crate) fn merge<L: Listing>(layers: &[PlacedListing<'_, L>]) -> Result<Merged, ViewError> {
    let mut merger = Merger {
        layers,
        verbatim: matches!(layers, [only] if only.at.is_empty()),
        dirs: Vec::new(),
        entries: Vec::new(),
        names: Vec::new(),
        pending: VecDeque::new(),
        hidden: Vec::new(),
    };
    merger.run()?;
    let view = View {
        dirs: merger.dirs.into_boxed_slice(),
        entries: merger.entries.into_boxed_slice(),
        names: merger.names.into_boxed_slice(),
    };
    let overlaps = merger.hidden.iter().map(|(dir, name)| {
        let parent = view.path(*dir);
        let slash = if parent.is_empty() { "" } else { "/" };
        format!("/{parent}{slash}{}", String::from_utf8_lossy(name))
    });
    let overlaps = overlaps.collect();
    Ok(Merged { view, overlaps })
}

struct Merger<'a, L> {
    layers: &'a [PlacedListing<'a, L>],
    verbatim: bool,
    dirs: Vec<DirRow>,
    entries: Vec<EntryRow>,
    names: Vec<u8>,
    /// Parts of the directories that have a row but no entries yet, in the order of their rows.
    pending: VecDeque<Vec<Part>>,
    hidden: Vec<(DirIndex, Vec<u8>)>,
}

impl<'a, L: Listing> Merger<'a, L> {
    fn run(&mut self) -> Result<(), ViewError> {
        let parts = (0..row(self.layers.len())?).map(|layer| self.part(layer, 0));
        let parts = parts.collect();
        self.add_directory(DirIndex::ROOT, 0, parts)?;
        let mut dir = 0;
        while let Some(parts) = self.pending.pop_front() {
            self.dirs[to_usize(dir)].first = row(self.entries.len())?;
            let slots = self.slots(DirIndex(dir), &parts);
            self.add_entries(DirIndex(dir), slots)?;
            dir += 1;
        }
        self.add_entry_row(NO_LAYER, 0)
    }

    /// What a layer brings to the directory `depth` names down its way.
    fn part(&self, layer: u32, depth: usize) -> Part {
        let here = depth == self.layers[to_usize(layer)].at.len();
        if here {
            Part::Inside(LayerNode { layer, node: ROOT })
        } else {
            Part::Toward { layer, depth }
        }
    }

    /// The entries of one directory, layer by layer from the lowest.
    fn slots(&mut self, dir: DirIndex, parts: &[Part]) -> BTreeMap<&'a [u8], Slot> {
        let mut slots = BTreeMap::new();
        let mut entries = Vec::new();
        for part in parts {
            match *part {
                Part::Toward { layer, depth } => {
                    let name = self.layers[to_usize(layer)].at[depth];
                    let part = self.part(layer, depth + 1);
                    self.put_directory(dir, &mut slots, name, part);
                }
                Part::Inside(from) => {
                    entries.clear();
                    let listing: &'a L = self.layers[to_usize(from.layer)].listing;
                    listing.entries(from.node, &mut entries);
                    self.hide(listing, &mut entries, &mut slots);
                    for &(name, node) in &entries {
                        let child = LayerNode {
                            layer: from.layer,
                            node,
                        };
                        if listing.attr(node).kind == Kind::Directory {
                            self.put_directory(dir, &mut slots, name, Part::Inside(child));
                        } else {
                            self.put_leaf(dir, &mut slots, name, child);
                        }
                    }
                }
            }
        }
        slots
    }

    /// Applies a layer's whiteouts to what is below, before its own entries come, and drops them.
    fn hide(
        &self,
        listing: &L,
        entries: &mut Vec<(&'a [u8], ImageNode)>,
        below: &mut BTreeMap<&'a [u8], Slot>,
    ) {
        if self.verbatim {
            return;
        }
        entries.retain(|&(name, node)| {
            if name == OPAQUE {
                below.clear();
                false
            } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
                below.remove(hidden);
                false
            } else if listing.attr(node).kind == (Kind::CharDevice { rdev: 0 }) {
                below.remove(name);
                false
            } else {
                true
            }
        });
    }

    fn put_directory(
        &mut self,
        dir: DirIndex,
        slots: &mut BTreeMap<&'a [u8], Slot>,
        name: &'a [u8],
        part: Part,
    ) {
        match slots.get_mut(name) {
            Some(Slot::Directory(parts)) => parts.push(part),
            Some(leaf @ Slot::Leaf(_)) => {
                *leaf = Slot::Directory(vec![part]);
                let layer = match part {
                    Part::Inside(from) => from.layer,
                    Part::Toward { layer, .. } => layer,
                };
                self.tell(dir, name, layer);
            }
            None => {
                slots.insert(name, Slot::Directory(vec![part]));
            }
        }
    }

    fn put_leaf(
        &mut self,
        dir: DirIndex,
        slots: &mut BTreeMap<&'a [u8], Slot>,
        name: &'a [u8],
        leaf: LayerNode,
    ) {
        if slots.insert(name, Slot::Leaf(leaf)).is_some() {
            self.tell(dir, name, leaf.layer);
        }
    }

    /// Notes that an entry of `layer` hides another layer's.
    fn tell(&mut self, dir: DirIndex, name: &[u8], layer: u32) {
        let on_purpose = self.layers[to_usize(layer)].listing.is_synthetic();
        if !on_purpose && self.hidden.len() < OVERLAPS {
            self.hidden.push((dir, name.into()));
        }
    }

    fn add_entries(
        &mut self,
        dir: DirIndex,
        slots: BTreeMap<&[u8], Slot>,
    ) -> Result<(), ViewError> {
        for (name, slot) in slots {
            match slot {
                Slot::Leaf(leaf) => self.add_entry_row(leaf.layer, leaf.node.0)?,
                Slot::Directory(parts) => {
                    let entry = row(self.entries.len())?;
                    self.add_entry_row(NO_LAYER, row(self.dirs.len())?)?;
                    self.add_directory(dir, entry, parts)?;
                    self.dirs[to_usize(dir.0)].nlink += 1;
                }
            }
            self.names.extend_from_slice(name);
        }
        Ok(())
    }

    /// Adds an entry whose name is about to be appended.
    fn add_entry_row(&mut self, layer: u32, node: u32) -> Result<(), ViewError> {
        let name = row(self.names.len())?;
        self.entries.push(EntryRow { name, layer, node });
        Ok(())
    }

    fn add_directory(
        &mut self,
        parent: DirIndex,
        entry: u32,
        parts: Vec<Part>,
    ) -> Result<(), ViewError> {
        let origin = self.origin(&parts);
        row(self.dirs.len())?;
        self.dirs.push(DirRow {
            parent: parent.0,
            entry,
            first: 0,
            nlink: 2,
            layer: origin.map_or(NO_LAYER, |from| from.layer),
            node: origin.map_or(0, |from| from.node.0),
        });
        self.pending.push_back(parts);
        Ok(())
    }

    /// The uppermost layer's directory that says something of owner and mode.
    fn origin(&self, parts: &[Part]) -> Option<LayerNode> {
        let mut inside = parts.iter().rev().filter_map(|part| match part {
            Part::Inside(from) => Some(*from),
            Part::Toward { .. } => None,
        });
        inside.find(|from| !self.layers[to_usize(from.layer)].listing.is_synthetic())
    }
}

/// A table position as it is stored; the last value is [`NO_LAYER`].
fn row(position: usize) -> Result<u32, ViewError> {
    match u32::try_from(position) {
        Ok(row) if row != NO_LAYER => Ok(row),
        _ => Err(ViewError::TooLarge),
    }
}
