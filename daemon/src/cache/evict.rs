//! What is kept, in memory: who goes first, what has ended, how much there is.
//!
//! Pure data; knows neither files nor the database. Invariants: `bytes` is the sum of what the
//! entries are charged; every entry stands in the order of last use exactly once. An entry is
//! charged a little more than its bytes, so that the bound on bytes is one on memory as well.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use piston_client::ids::{Digest, PackageRef};

use super::key::Key;

/// What an entry takes besides its bytes: its row, and its place in memory.
const OVERHEAD: u64 = 512;

/// Where an entry's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Not written yet.
    Memory(Arc<[u8]>),
    /// In the database.
    Row,
    /// In a file of their digest's name.
    File,
}

/// What is known of an entry.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    /// The package it ends with.
    pub(super) package: Arc<PackageRef>,
    /// sha256 of its bytes.
    pub(super) digest: Digest,
    /// How many bytes.
    pub(super) length: u64,
    /// Unix time when it was made.
    pub(super) created: u64,
    /// Unix time of its last use.
    pub(super) used: u64,
    /// Where its bytes are.
    pub(super) place: Place,
}

/// Every entry.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<Key, (u64, Meta)>,
    /// By last use, the oldest first.
    order: BTreeMap<u64, Key>,
    /// The next place in that order.
    next: u64,
    /// Digest of a file -> entries that have it.
    files: HashMap<Digest, u64>,
    /// Entries used since [`Index::take_used`].
    touched: HashSet<Key>,
    bytes: u64,
}

/// How many entries, how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Entries.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, meta: &Meta) {
        self.entries += 1;
        self.bytes += meta.length;
    }
}

impl Index {
    /// One entry.
    pub(super) fn get(&self, key: &Key) -> Option<&Meta> {
        self.entries.get(key).map(|(_, meta)| meta)
    }

    /// Adds an entry as the one used last, in the place of an older one.
    pub(super) fn insert(&mut self, key: Key, meta: Meta) {
        self.remove(&key);
        self.bytes += meta.length + OVERHEAD;
        *self.files.entry(meta.digest).or_default() += 1;
        let place = self.place_last(key);
        self.entries.insert(key, (place, meta));
    }

    fn place_last(&mut self, key: Key) -> u64 {
        let place = self.next;
        self.next += 1;
        self.order.insert(place, key);
        place
    }

    /// Notes a use.
    pub(super) fn touch(&mut self, key: &Key, now: u64) {
        let last = self.place_last(*key);
        match self.entries.get_mut(key) {
            Some((place, meta)) => {
                meta.used = now;
                self.order.remove(&std::mem::replace(place, last));
                self.touched.insert(*key);
            }
            None => drop(self.order.remove(&last)),
        }
    }

    /// Says where an entry's bytes are now, if it still is the one with that digest.
    pub(super) fn settle(&mut self, key: &Key, digest: &Digest, place: Place) {
        if let Some((_, meta)) = self.entries.get_mut(key)
            && meta.digest == *digest
        {
            meta.place = place;
        }
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Meta> {
        let (place, meta) = self.entries.remove(key)?;
        self.order.remove(&place);
        self.touched.remove(key);
        self.bytes -= meta.length + OVERHEAD;
        if let Some(count) = self.files.get_mut(&meta.digest) {
            *count -= 1;
            if *count == 0 {
                self.files.remove(&meta.digest);
            }
        }
        Some(meta)
    }

    /// Whether an entry has bytes of that digest.
    pub(super) fn has_file(&self, digest: &Digest) -> bool {
        self.files.contains_key(digest)
    }

    /// Keys of the entries used longest ago, as many as have to go to leave `max` bytes.
    pub(super) fn over(&self, max: u64) -> Vec<Key> {
        let mut left = self.bytes;
        let oldest = self.order.values().take_while(|key| {
            let over = left > max;
            if over {
                left -= self.get(key).map_or(0, |meta| meta.length + OVERHEAD);
            }
            over
        });
        oldest.copied().collect()
    }

    /// Keys of the entries that `which` says.
    pub(super) fn select(&self, which: impl Fn(&Meta) -> bool) -> Vec<Key> {
        let entries = self.entries.iter();
        let chosen = entries.filter(|(_, (_, meta))| which(meta));
        chosen.map(|(key, _)| *key).collect()
    }

    /// How much there is of what `which` says.
    pub(super) fn amount(&self, which: impl Fn(&Meta) -> bool) -> Amount {
        let mut amount = Amount::default();
        let entries = self.entries.values().map(|(_, meta)| meta);
        entries
            .filter(|meta| which(meta))
            .for_each(|m| amount.add(m));
        amount
    }

    /// Uses that nobody has written down yet.
    pub(super) fn take_used(&mut self) -> Vec<(Key, u64)> {
        let touched = std::mem::take(&mut self.touched);
        let used = touched.into_iter();
        used.filter_map(|key| self.get(&key).map(|meta| (key, meta.used)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(package: &str, length: u64) -> Meta {
        let package = PackageRef::new(package.parse().unwrap(), "1.0.0".parse().unwrap());
        Meta {
            package: Arc::new(package),
            digest: Digest::from_bytes([7; 32]),
            length,
            created: 0,
            used: 0,
            place: Place::Row,
        }
    }

    fn key(number: u8) -> Key {
        Key([number; 32])
    }

    fn three() -> Index {
        let mut index = Index::default();
        for number in 1..=3 {
            index.insert(key(number), meta("gcc", 100));
        }
        index
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_no_more_than_needed() {
        let mut index = three();
        let one = 100 + OVERHEAD;
        assert_eq!(index.over(3 * one), []);
        assert_eq!(index.over(3 * one - 1), [key(1)]);
        index.touch(&key(1), 5);
        assert_eq!(index.over(2 * one), [key(2)]);
        assert_eq!(index.over(0), [key(2), key(3), key(1)]);
        assert_eq!(index.take_used(), [(key(1), 5)]);
        assert_eq!(index.take_used(), []);
    }

    #[test]
    fn replacing_and_removing_keep_the_sums_right() {
        let mut index = three();
        index.insert(key(1), meta("gcc", 50));
        index.touch(&key(9), 1);
        let all = |index: &Index| index.amount(|_| true);
        assert_eq!(
            all(&index),
            Amount {
                entries: 3,
                bytes: 250
            }
        );
        assert_eq!(index.bytes, 250 + 3 * OVERHEAD);
        assert_eq!(index.order.len(), 3);
        for number in 1..=3 {
            assert!(index.has_file(&Digest::from_bytes([7; 32])));
            assert!(index.remove(&key(number)).is_some());
        }
        assert!(!index.has_file(&Digest::from_bytes([7; 32])));
        assert_eq!(
            (index.bytes, index.order.len(), all(&index)),
            (0, 0, Amount::default())
        );
        assert!(index.remove(&key(1)).is_none());
    }
}
