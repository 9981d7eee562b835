//! What was read of a layer lately, and what that says of what will be read next.
//!
//! Owns the guess and nothing else: a reader who went from one block to the next twice will go
//! on; over the end of a file only if he came to it over the end of another. And the hot list: the
//! blocks of the first reads of all, in their order, which the next start will need as well.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use super::hot::{self, HotList};
use crate::image::order::Spot;
use crate::image::{BlockRef, Image};

/// Readers that are followed at a time.
const READERS: usize = 16;

/// Steps from block to block after which a reader is held to go on.
const STEPS: u32 = 2;

/// Blocks that are loaded ahead of a reader.
const DEPTH: usize = 2;

/// One who reads on.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// Where the block starts that was read last.
    at: u64,
    /// Where the one starts that comes next, and whether it is another file's.
    next: Option<(u64, bool)>,
    steps: u32,
    /// Whether there were steps from file to file.
    crossed: bool,
}

/// What was read of a layer.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// The one who read last is at the end.
    readers: Vec<Reader>,
    first: Option<First>,
    /// What the next start will need, of an earlier mount.
    hot: Option<HotList>,
}

/// The first reads.
#[derive(Debug)]
struct First {
    since: Instant,
    /// None when nobody is to keep it, or it was taken.
    recorded: Option<(PathBuf, HotList)>,
    seen: HashSet<Spot>,
}

impl Trail {
    /// Of a layer that nothing was read of; knows what was read first in an earlier mount.
    pub(super) fn new(image: &Image) -> Self {
        let hot = image.hot_list().and_then(|file| hot::load(file, image));
        Self {
            hot,
            ..Self::default()
        }
    }

    /// A block is being read. The answer is what had better be loaded too: next first.
    pub(super) fn read(&mut self, image: &Image, spot: Spot, block: BlockRef) -> Vec<BlockRef> {
        self.record(image, spot);
        let mut wanted = self.step(image, spot, block);
        if let Some(hot) = self.hot.take() {
            let blocks = hot.spots.iter().filter_map(|spot| image.block_at(*spot));
            wanted.extend(blocks.filter(|known| *known != block));
        }
        wanted
    }

    /// Takes what was recorded, when it is complete: `since` some time, or full.
    pub(super) fn take_recorded(&mut self, before: Instant) -> Option<(PathBuf, HotList)> {
        let first = self.first.as_mut()?;
        let full = first.seen.len() >= hot::SPOTS;
        if full || first.since <= before {
            first.seen = HashSet::new();
            return first.recorded.take();
        }
        None
    }

    fn record(&mut self, image: &Image, spot: Spot) {
        let known = self.hot.is_some();
        let first = self.first.get_or_insert_with(|| First {
            since: Instant::now(),
            recorded: image
                .hot_list()
                .filter(|_| !known)
                .map(|file| (file.to_owned(), HotList::of(image))),
            seen: HashSet::new(),
        });
        if let Some((_, list)) = &mut first.recorded
            && list.spots.len() < hot::SPOTS
            && first.seen.insert(spot)
        {
            list.spots.push(spot);
        }
    }

    /// Follows the reader, or takes up a new one.
    fn step(&mut self, image: &Image, spot: Spot, block: BlockRef) -> Vec<BlockRef> {
        let known = self.readers.iter().rposition(|reader| {
            reader.at == block.start || reader.next.is_some_and(|(next, _)| next == block.start)
        });
        let Some(known) = known else {
            self.take_up(image, spot, block);
            return Vec::new();
        };
        let mut reader = self.readers.remove(known);
        let mut wanted = Vec::new();
        if let Some((next, crosses)) = reader.next
            && next == block.start
        {
            let following = image.following(spot);
            reader = Reader {
                at: block.start,
                next: following.map(|following| (following.block.start, following.crosses)),
                steps: reader.steps.saturating_add(1),
                crossed: reader.crossed || crosses,
            };
            let goes_on = reader.steps >= STEPS;
            let mut following = following.filter(|_| goes_on);
            while let Some(found) = following
                && wanted.len() < DEPTH
                && (reader.crossed || !found.crosses)
            {
                wanted.push(found.block);
                following = image.following(found.spot);
            }
        }
        self.readers.push(reader);
        wanted
    }

    fn take_up(&mut self, image: &Image, spot: Spot, block: BlockRef) {
        if self.readers.len() == READERS {
            self.readers.remove(0);
        }
        let following = image.following(spot);
        self.readers.push(Reader {
            at: block.start,
            next: following.map(|following| (following.block.start, following.crosses)),
            steps: 0,
            crossed: false,
        });
    }
}
