//! What is at hand in memory: entries that were checked once and are given out without another
//! look at the disk.
//!
//! Invariants: bounded by bytes; what is given out under a key has the digest that the index has
//! for that key now, so an entry that was replaced or dropped is never seen here again.

use std::sync::Arc;

use piston_client::ids::Digest;
use piston_client::units::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::entry::Kept;
use super::key::Key;

/// What an entry takes besides what it holds.
const OVERHEAD: usize = 256;
/// An entry may have this part of the memory; larger ones would push too many others out.
const LARGEST_PART: u64 = 4;

/// Checked entries, those used most.
#[derive(Debug)]
pub(super) struct Hot {
    entries: Cache<Key, (Digest, Arc<Kept>), Weight>,
    largest: u64,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Key, (Digest, Arc<Kept>)> for Weight {
    fn weight(&self, _: &Key, (_, kept): &(Digest, Arc<Kept>)) -> u64 {
        weight(kept)
    }
}

fn weight(kept: &Kept) -> u64 {
    u64::try_from(kept.weight() + OVERHEAD).unwrap_or(u64::MAX)
}

impl Hot {
    /// Room for so many bytes.
    pub(super) fn new(memory: Bytes) -> Self {
        // A guess at how many entries that is; it only sizes tables.
        let expected = Bytes(memory.0 / 4096).as_usize();
        Self {
            entries: Cache::with_weighter(expected, memory.0, Weight),
            largest: memory.0 / LARGEST_PART,
        }
    }

    pub(super) fn get(&self, key: &Key, digest: &Digest) -> Option<Arc<Kept>> {
        let (found, kept) = self.entries.get(key)?;
        (found == *digest).then_some(kept)
    }

    pub(super) fn put(&self, key: Key, digest: Digest, kept: &Arc<Kept>) {
        if weight(kept) <= self.largest {
            self.entries.insert(key, (digest, Arc::clone(kept)));
        }
    }

    pub(super) fn remove(&self, key: &Key) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::outcome::StageOutcome;

    fn kept(length: usize) -> Arc<Kept> {
        let run = StageOutcome {
            stdout: vec![1; length],
            ..StageOutcome::default()
        };
        Arc::new(Kept {
            run: Some(run),
            ..Kept::default()
        })
    }

    #[test]
    fn memory_is_bounded_and_a_replaced_entry_is_not_seen() {
        let hot = Hot::new(Bytes::kib(64));
        let digest = |number| Digest::from_bytes([number; 32]);
        for number in 0..=255 {
            hot.put(Key([number; 32]), digest(number), &kept(4000));
        }
        assert!(hot.entries.weight() <= Bytes::kib(64).0);
        let present = (0..=255).filter(|n| hot.get(&Key([*n; 32]), &digest(*n)).is_some());
        assert!((4..=16).contains(&present.count()));
        hot.put(Key([7; 32]), digest(7), &kept(10));
        assert_eq!(hot.get(&Key([7; 32]), &digest(7)), Some(kept(10)));
        assert_eq!(hot.get(&Key([7; 32]), &digest(8)), None);
        hot.put(Key([9; 32]), digest(8), &kept(60_000));
        assert!(
            hot.get(&Key([9; 32]), &digest(8)).is_none(),
            "too large a part"
        );
    }
}
