//! Layers: what one image, or a tree made up by the caller, contributes to a view.
//!
//! [`Layer`] and [`Placed`] are what callers hand in; `Contents` is the same as the tables need
//! it: nodes by number, whatever brings them. Does not merge (`view.rs`) or read blocks (`vfs.rs`).

mod flat;
pub mod memory;

use std::ops::Range;
use std::sync::Arc;

use crate::image::{Image, ImageError, ImageNode};
use crate::node::{Attr, Kind};
use flat::FlatTree;

/// The contents of one layer.
#[derive(Debug, Clone)]
pub enum Layer {
    /// An installed image.
    Image(Arc<Image>),
    /// A small synthetic tree: mount points, a package's scripts.
    Memory(Arc<memory::MemoryTree>),
}

/// A layer and the absolute path in the view where its root sits (`/` for the whole view).
#[derive(Debug, Clone)]
pub struct Placed {
    /// The contents.
    pub layer: Layer,
    /// Where: absolute, no `.`, `..` or empty component.
    pub at: String,
}

/// Longest name that Linux allows.
const NAME_BYTES: usize = 255;

impl Placed {
    /// The names on the way to where the layer sits; none when that is malformed.
    pub(crate) fn names(&self) -> Option<Vec<&[u8]>> {
        let below = self.at.strip_prefix('/')?;
        if below.is_empty() {
            return Some(Vec::new());
        }
        let names = below.split('/');
        names
            .map(|name| is_name(name).then_some(name.as_bytes()))
            .collect()
    }
}

/// Whether a directory can have an entry of this name.
pub(crate) fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= NAME_BYTES
        && !name.bytes().any(|byte| byte == b'/' || byte == 0)
}

/// A tree of numbered nodes, 0 its root, that can be merged into a view.
pub(crate) trait Listing {
    /// Kind of a node.
    fn kind(&self, node: ImageNode) -> Kind;

    /// Positions of a directory's entries, by name bytes; none for anything else.
    fn entries(&self, dir: ImageNode) -> Range<u32>;

    /// Name and node of the entry at a position.
    fn entry(&self, position: u32) -> (&[u8], ImageNode);

    /// How many directories come before a directory, breadth first, entries by name bytes. None
    /// for anything else, and in a tree that nobody counts because it is small.
    fn directory(&self, node: ImageNode) -> Option<u32>;

    /// Whether its directories say nothing but that they are there, so that another layer's
    /// owner and mode go before theirs.
    fn is_synthetic(&self) -> bool;
}

/// A layer's nodes by number.
#[derive(Debug)]
pub(crate) enum Contents {
    /// An installed image.
    Image(Arc<Image>),
    /// A synthetic tree, numbered; the tree it was made from tells it from others.
    Memory(FlatTree, Arc<memory::MemoryTree>),
}

impl Contents {
    /// Numbers the nodes of a layer.
    pub(crate) fn load(layer: &Layer) -> Self {
        match layer {
            Layer::Image(image) => Self::Image(Arc::clone(image)),
            Layer::Memory(tree) => Self::Memory(FlatTree::new(tree), Arc::clone(tree)),
        }
    }

    /// Whether `layer` holds the same: its nodes are then these nodes.
    pub(crate) fn is(&self, layer: &Layer) -> bool {
        match (self, layer) {
            (Self::Image(mine), Layer::Image(other)) => {
                Arc::ptr_eq(mine, other) || mine.digest() == other.digest()
            }
            (Self::Memory(_, mine), Layer::Memory(other)) => Arc::ptr_eq(mine, other),
            (Self::Image(_), Layer::Memory(_)) | (Self::Memory(..), Layer::Image(_)) => false,
        }
    }

    /// Attributes of a node.
    pub(crate) fn attr(&self, node: ImageNode) -> Attr {
        match self {
            Self::Image(image) => image.attr(node),
            Self::Memory(tree, _) => tree.attr(node),
        }
    }

    /// Number of nodes; node numbers are below it.
    pub(crate) fn node_count(&self) -> u32 {
        match self {
            Self::Image(image) => image.node_count(),
            Self::Memory(tree, _) => tree.node_count(),
        }
    }

    /// Bytes of memory that the tables of an image take; what synthetic trees take is not counted.
    pub(crate) fn table_bytes(&self) -> usize {
        match self {
            Self::Image(image) => image.table_bytes(),
            Self::Memory(..) => 0,
        }
    }

    /// Sum of the file lengths in bytes.
    pub(crate) fn content_bytes(&self) -> u64 {
        match self {
            Self::Image(image) => image.content_bytes(),
            Self::Memory(tree, _) => tree.content_bytes(),
        }
    }

    /// Target of a symlink; empty for anything else.
    pub(crate) fn symlink(&self, node: ImageNode) -> &[u8] {
        match self {
            Self::Image(image) => image.symlink(node),
            Self::Memory(tree, _) => tree.symlink(node),
        }
    }

    /// The bytes of a regular file; none for anything else.
    pub(crate) fn read(&self, node: ImageNode) -> Result<Vec<u8>, ImageError> {
        match self {
            Self::Image(image) => image.read(node),
            Self::Memory(tree, _) => Ok(tree.bytes(node).to_vec()),
        }
    }

    /// Appends the extended attributes of a node, full name and value, to `out`.
    pub(crate) fn xattrs<'a>(&'a self, node: ImageNode, out: &mut Vec<(&'a [u8], &'a [u8])>) {
        if let Self::Image(image) = self {
            out.extend(image.xattrs(node));
        }
    }
}

impl Listing for Contents {
    fn kind(&self, node: ImageNode) -> Kind {
        match self {
            Self::Image(image) => image.kind(node),
            Self::Memory(tree, _) => tree.attr(node).kind,
        }
    }

    fn entries(&self, dir: ImageNode) -> Range<u32> {
        match self {
            Self::Image(image) => image.entry_range(dir),
            Self::Memory(tree, _) => tree.entries(dir),
        }
    }

    fn entry(&self, position: u32) -> (&[u8], ImageNode) {
        match self {
            Self::Image(image) => image.entry(position),
            Self::Memory(tree, _) => tree.entry(position),
        }
    }

    fn directory(&self, node: ImageNode) -> Option<u32> {
        match self {
            Self::Image(image) => image.directory(node),
            Self::Memory(..) => None,
        }
    }

    fn is_synthetic(&self) -> bool {
        matches!(self, Self::Memory(..))
    }
}
