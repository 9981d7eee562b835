//! The order of blocks in an image: what a reader who goes on will ask for next.
//!
//! Writers put the blocks of a file one after the other, the files in the order of a walk through
//! the tree, and tails into fragments in that order as well; so there are two lines to follow,
//! blocks and fragments. Guesses only: nothing here is needed to read right.

use super::format::{NONE, block_count};
use super::{BlockRef, Image, ImageNode};
use crate::image::index::Tag;
use crate::num::{to_u32, to_usize};

/// Holes that are passed over in search of the next block.
const HOLES: usize = 64;

/// A place that has a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Spot {
    /// A block of a file, counted from 0.
    Block(ImageNode, u32),
    /// A fragment, counted in the order of the image.
    Fragment(u32),
}

/// The block that comes after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Following {
    /// Where it belongs.
    pub(crate) spot: Spot,
    /// The block.
    pub(crate) block: BlockRef,
    /// Whether it is another file's.
    pub(crate) crosses: bool,
}

impl Image {
    /// Bytes of memory that its tables take.
    pub(crate) fn table_bytes(&self) -> usize {
        let order = self.order.get().map_or(0, |order| size_of_val(&**order));
        self.tables.bytes() + size_of_val(&*self.anchors) + order
    }

    /// The place of the block that byte `offset` of a file is in.
    pub(crate) fn spot(&self, node: ImageNode, offset: u64) -> Option<Spot> {
        let extent = self.extent(node, offset)?;
        if extent.fragment {
            let at = self.fragment_at(extent.block.start)?;
            return Some(Spot::Fragment(at));
        }
        let number = u32::try_from(offset / u64::from(self.block_size())).ok()?;
        Some(Spot::Block(node, number))
    }

    /// The block at a place.
    pub(crate) fn block_at(&self, spot: Spot) -> Option<BlockRef> {
        match spot {
            Spot::Block(node, number) => {
                let offset = u64::from(number) * u64::from(self.block_size());
                let extent = self.extent(node, offset)?;
                (!extent.fragment && extent.block.stored > 0).then_some(extent.block)
            }
            Spot::Fragment(at) => {
                let fragment = self.tables.fragments.get(to_usize(at))?;
                let (stored, compressed) = super::format::data_word(fragment.word)?;
                Some(BlockRef {
                    start: fragment.start,
                    stored,
                    compressed,
                    length: fragment.length,
                })
            }
        }
    }

    /// The next block of the same line.
    pub(crate) fn following(&self, spot: Spot) -> Option<Following> {
        match spot {
            Spot::Fragment(at) => {
                let spot = Spot::Fragment(at + 1);
                let block = self.block_at(spot)?;
                Some(Following {
                    spot,
                    block,
                    crosses: false,
                })
            }
            Spot::Block(node, number) => {
                let rest = self.blocks_from(node, number + 1);
                rest.or_else(|| self.first_of_next(node))
            }
        }
    }

    /// The first stored block of a file from its `number`th on.
    fn blocks_from(&self, node: ImageNode, number: u32) -> Option<Following> {
        let count = self.stored_blocks(node)?;
        let mut numbers = (number..count).take(HOLES);
        numbers.find_map(|number| {
            let spot = Spot::Block(node, number);
            let block = self.block_at(spot)?;
            Some(Following {
                spot,
                block,
                crosses: false,
            })
        })
    }

    /// The first block of the file whose blocks come after those of `node` in the image.
    fn first_of_next(&self, node: ImageNode) -> Option<Following> {
        let order = self.order.get_or_init(|| self.data_order());
        let start = self.regular_file(node)?.start;
        let start_of = |node: &u32| self.regular_file(ImageNode(*node)).map(|file| file.start);
        let next = order.partition_point(|node| start_of(node) <= Some(start));
        let following = self.blocks_from(ImageNode(*order.get(next)?), 0)?;
        Some(Following {
            crosses: true,
            ..following
        })
    }

    /// The files that have blocks of their own, in the order in which those lie in the image.
    fn data_order(&self) -> Box<[u32]> {
        let has_blocks = |node: &u32| self.stored_blocks(ImageNode(*node)).is_some_and(|n| n > 0);
        let mut order: Vec<u32> = (0..self.node_count()).filter(has_blocks).collect();
        let start = |node: &u32| self.regular_file(ImageNode(*node)).map(|file| file.start);
        order.sort_by_key(start);
        order.dedup_by_key(|node| start(node));
        order.into_boxed_slice()
    }

    /// Blocks of a regular file, without its tail in a fragment.
    fn stored_blocks(&self, node: ImageNode) -> Option<u32> {
        self.payload(node, Tag::File)?;
        let file = self.regular_file(node)?;
        let count = block_count(file.size, self.block_size(), file.fragment != NONE);
        u32::try_from(count).ok()
    }

    fn fragment_at(&self, start: u64) -> Option<u32> {
        let fragments = &self.tables.fragments;
        let at = fragments.binary_search_by_key(&start, |fragment| fragment.start);
        to_u32(at.ok()?)
    }
}
