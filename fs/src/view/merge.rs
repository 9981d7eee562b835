//! The merge itself: one directory of the view at a time, breadth first, without recursion.
//!
//! Each pending directory knows its parts: where in which layers it comes from, lowest first. One
//! that has a single part, with no whiteout in it, is shared: only its subdirectories are looked at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{DirIndex, DirRow, EntryRow, LayerNode, NO_DIRECTORY, NO_LAYER, Rows, View};
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
    pub(crate) listing: Arc<L>,
    /// Where it sits.
    pub(crate) at: Vec<&'a [u8]>,
}

/// A merged tree and what was odd about it.
#[derive(Debug)]
pub(crate) struct Merged<L> {
    /// The tree.
    pub(crate) view: View<L>,
    /// Absolute paths of entries that hide another layer's, at most a hundred. Directories that
    /// merge, whiteouts, and what a synthetic layer puts on top are meant to, and not told.
    pub(crate) overlaps: Vec<String>,
}

/// Why layers can't be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ViewError {
    /// The tables count rows in 32 bits.
    #[error("the merged tree has more than 4 billion entries")]
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

/// Where an entry's name is.
#[derive(Debug, Clone, Copy)]
enum Name {
    /// In a layer, as that of its entry at a position.
    Of { layer: u32, entry: u32 },
    /// Nowhere but on the way to where a layer sits.
    MadeUp,
}

/// What an entry of the directory at work leads to so far.
#[derive(Debug)]
enum Slot {
    Leaf { layer: u32, entry: u32 },
    Directory(Name, Vec<Part>),
}

/// The entries of the directory at work so far.
type Slots<'a> = BTreeMap<&'a [u8], Slot>;

/// Merges layers, lowest first.
pub(crate) fn merge<L: Listing>(layers: &[PlacedListing<'_, L>]) -> Result<Merged<L>, ViewError> {
    let mut merger = Merger {
        layers,
        verbatim: matches!(layers, [only] if only.at.is_empty()),
        dirs: Vec::new(),
        starts: Vec::new(),
        entries: Vec::new(),
        made_up: Vec::new(),
        pending: VecDeque::new(),
        hidden: Vec::new(),
    };
    merger.run()?;
    let view = View {
        layers: layers
            .iter()
            .map(|layer| Arc::clone(&layer.listing))
            .collect(),
        dirs: merger.dirs.into_boxed_slice(),
        starts: merger.starts.into_boxed_slice(),
        entries: merger.entries.into_boxed_slice(),
        made_up: merger.made_up.into_boxed_slice(),
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
    starts: Vec<u32>,
    entries: Vec<EntryRow>,
    made_up: Vec<Box<[u8]>>,
    /// Parts of the directories that have a row but no entries yet, in the order of their rows.
    pending: VecDeque<Vec<Part>>,
    hidden: Vec<(DirIndex, Vec<u8>)>,
}

impl<'a, L: Listing> Merger<'a, L> {
    fn run(&mut self) -> Result<(), ViewError> {
        let parts = (0..row(self.layers.len())?).map(|layer| self.part(layer, 0));
        let parts = parts.collect();
        self.add_directory(parts)?;
        let mut dir = 0;
        while let Some(parts) = self.pending.pop_front() {
            let first = row(self.dirs.len())?;
            let rows = match parts[..] {
                [Part::Inside(only)] if self.can_share(only) => self.share(only)?,
                _ => self.merge_parts(DirIndex(dir), &parts)?,
            };
            let at = &mut self.dirs[to_usize(dir)];
            (at.first, at.rows) = (first, rows);
            dir += 1;
        }
        self.starts.push(row(self.entries.len())?);
        Ok(())
    }

    fn listing(&self, layer: u32) -> &'a L {
        &self.layers[to_usize(layer)].listing
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

    /// Whether a directory of one layer alone can be shown as the layer has it.
    fn can_share(&self, from: LayerNode) -> bool {
        let listing = self.listing(from.layer);
        let marks = |position| is_whiteout(listing, listing.entry(position));
        let counted = listing.directory(from.node).is_some();
        counted && (self.verbatim || !listing.entries(from.node).any(marks))
    }

    /// Adds the subdirectories of a directory that is shared.
    fn share(&mut self, from: LayerNode) -> Result<Rows, ViewError> {
        let listing = self.listing(from.layer);
        let mut first = None;
        for position in listing.entries(from.node) {
            let (_, node) = listing.entry(position);
            if let Some(place) = listing.directory(node) {
                first.get_or_insert(place);
                let layer = from.layer;
                self.add_directory(vec![Part::Inside(LayerNode { layer, node })])?;
            }
        }
        Ok(Rows::Shared(first.unwrap_or(0)))
    }

    /// Adds rows for a directory.
    fn merge_parts(&mut self, dir: DirIndex, parts: &[Part]) -> Result<Rows, ViewError> {
        let number = row(self.starts.len())?;
        self.starts.push(row(self.entries.len())?);
        let slots = self.slots(dir, parts);
        self.add_entries(slots)?;
        Ok(Rows::Own(number))
    }

    /// The entries of one directory, layer by layer from the lowest.
    fn slots(&mut self, dir: DirIndex, parts: &[Part]) -> Slots<'a> {
        let mut slots = BTreeMap::new();
        for part in parts {
            match *part {
                Part::Toward { layer, depth } => {
                    let name = self.layers[to_usize(layer)].at[depth];
                    let part = self.part(layer, depth + 1);
                    self.put_directory(dir, &mut slots, (name, Name::MadeUp), part);
                }
                Part::Inside(from) => {
                    self.hide(from, &mut slots);
                    self.put_entries(dir, from, &mut slots);
                }
            }
        }
        slots
    }

    /// Applies a layer's whiteouts to what is below, before its own entries come.
    fn hide(&self, from: LayerNode, below: &mut Slots<'a>) {
        if self.verbatim {
            return;
        }
        let listing = self.listing(from.layer);
        for position in listing.entries(from.node) {
            let (name, node) = listing.entry(position);
            if name == OPAQUE {
                below.clear();
            } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
                below.remove(hidden);
            } else if is_whiteout(listing, (name, node)) {
                below.remove(name);
            }
        }
    }

    /// Puts a layer's entries over those of the layers below.
    fn put_entries(&mut self, dir: DirIndex, from: LayerNode, slots: &mut Slots<'a>) {
        let listing = self.listing(from.layer);
        let layer = from.layer;
        for entry in listing.entries(from.node) {
            let (name, node) = listing.entry(entry);
            if !self.verbatim && is_whiteout(listing, (name, node)) {
                continue;
            }
            if listing.kind(node) == Kind::Directory {
                let part = Part::Inside(LayerNode { layer, node });
                let name = (name, Name::Of { layer, entry });
                self.put_directory(dir, slots, name, part);
            } else if slots.insert(name, Slot::Leaf { layer, entry }).is_some() {
                self.tell(dir, name, layer);
            }
        }
    }

    fn put_directory(
        &mut self,
        dir: DirIndex,
        slots: &mut Slots<'a>,
        (name, place): (&'a [u8], Name),
        part: Part,
    ) {
        match slots.get_mut(name) {
            Some(Slot::Directory(_, parts)) => parts.push(part),
            Some(leaf @ Slot::Leaf { .. }) => {
                *leaf = Slot::Directory(place, vec![part]);
                let layer = match part {
                    Part::Inside(from) => from.layer,
                    Part::Toward { layer, .. } => layer,
                };
                self.tell(dir, name, layer);
            }
            None => {
                slots.insert(name, Slot::Directory(place, vec![part]));
            }
        }
    }

    /// Notes that an entry of `layer` hides another layer's.
    fn tell(&mut self, dir: DirIndex, name: &[u8], layer: u32) {
        let on_purpose = self.listing(layer).is_synthetic();
        if !on_purpose && self.hidden.len() < OVERLAPS {
            self.hidden.push((dir, name.into()));
        }
    }

    fn add_entries(&mut self, slots: Slots<'_>) -> Result<(), ViewError> {
        for (name, slot) in slots {
            let entry = match slot {
                Slot::Leaf { layer, entry } => EntryRow {
                    layer,
                    entry,
                    directory: NO_DIRECTORY,
                },
                Slot::Directory(place, parts) => {
                    let directory = self.add_directory(parts)?;
                    let (layer, entry) = match place {
                        Name::Of { layer, entry } => (layer, entry),
                        Name::MadeUp => {
                            self.made_up.push(name.into());
                            (NO_LAYER, row(self.made_up.len() - 1)?)
                        }
                    };
                    EntryRow {
                        layer,
                        entry,
                        directory,
                    }
                }
            };
            self.entries.push(entry);
        }
        Ok(())
    }

    fn add_directory(&mut self, parts: Vec<Part>) -> Result<u32, ViewError> {
        let origin = self.origin(&parts);
        let number = row(self.dirs.len())?;
        self.dirs.push(DirRow {
            layer: origin.map_or(NO_LAYER, |from| from.layer),
            node: origin.map_or(0, |from| from.node.0),
            first: 0,
            rows: Rows::Shared(0),
        });
        self.pending.push_back(parts);
        Ok(number)
    }

    /// The uppermost layer's directory that says something of owner and mode.
    fn origin(&self, parts: &[Part]) -> Option<LayerNode> {
        let mut inside = parts.iter().rev().filter_map(|part| match part {
            Part::Inside(from) => Some(*from),
            Part::Toward { .. } => None,
        });
        inside.find(|from| !self.listing(from.layer).is_synthetic())
    }
}

/// Whether an entry says what is not there, and is not there itself.
fn is_whiteout<L: Listing>(listing: &L, (name, node): (&[u8], ImageNode)) -> bool {
    name.starts_with(WHITEOUT) || listing.kind(node) == (Kind::CharDevice { rdev: 0 })
}

/// A table position as it is stored; the last value is [`NO_LAYER`] and [`NO_DIRECTORY`].
fn row(position: usize) -> Result<u32, ViewError> {
    match u32::try_from(position) {
        Ok(row) if row != NO_LAYER => Ok(row),
        _ => Err(ViewError::TooLarge),
    }
}
