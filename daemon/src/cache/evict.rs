//! What is kept, in memory: who goes first, what has ended, how much there is.
//!
//! Pure data; knows neither files nor the database. Entries stand in one table and are found
//! through a hash of slot numbers; last use is a list through the table. So an entry takes some
//! 120 bytes however many there are, and looking one up touches a handful of cache lines.
//!
//! Invariants: the sums are those of the entries; every entry stands in the list of last use
//! exactly once. An entry is charged more than it takes here and in the database, so that the
//! bound on bytes is one on memory and disk as well.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use piston_client::ids::{Digest, PackageRef};

use super::key::Key;

/// What an entry is charged besides its bytes: its row, and its place in memory.
pub(super) const OVERHEAD: u64 = 512;

/// No slot.
const NONE: u32 = u32::MAX;

/// Where an entry's bytes are, once they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the database.
    Row,
    /// In a file of their digest's name.
    File,
}

/// What is known of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// The package it ends with, see [`Index::package`].
    pub(super) package: PackageNumber,
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

/// An entry, told from whatever else is or was kept under its key; costs no search to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    slot: u32,
    number: u64,
}

/// A package as entries name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PackageNumber(u32);

/// An entry in its place, or a free place.
#[derive(Debug)]
struct Slot {
    key: Key,
    /// Which entry it is of all that there ever were.
    number: u64,
    meta: Meta,
    older: u32,
    newer: u32,
    state: SlotState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Free,
    Kept,
    /// Used since [`Index::take_used`].
    Touched,
}

/// A package that has or had entries.
#[derive(Debug)]
struct Package {
    name: Arc<PackageRef>,
    amount: Amount,
}

/// Every entry.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// How many entries there ever were.
    made: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: RandomState,
    /// Used longest ago, and last; the ends of the list.
    ends: Option<(u32, u32)>,
    touched: Vec<u32>,
    packages: Vec<Package>,
    numbers: BTreeMap<Arc<PackageRef>, PackageNumber>,
    /// Digest of a file -> entries that have it.
    files: HashMap<Digest, u64>,
    /// Bytes that are not written yet.
    waiting: HashMap<Key, Arc<[u8]>>,
    total: Amount,
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

    fn subtract(&mut self, meta: &Meta) {
        self.entries -= 1;
        self.bytes -= meta.length;
    }

    /// What is charged for it.
    fn charge(self) -> u64 {
        self.bytes + self.entries * OVERHEAD
    }
}

impl Index {
    /// One entry.
    pub(super) fn get(&self, key: &Key) -> Option<&Meta> {
        let slot = self.find(key)?;
        Some(&self.slot(slot).meta)
    }

    /// The entry that is kept under a key now.
    pub(super) fn entry(&self, key: &Key) -> Option<Entry> {
        let slot = self.find(key)?;
        let number = self.slot(slot).number;
        Some(Entry { slot, number })
    }

    /// What is known of an entry that is still kept.
    pub(super) fn get_entry(&self, entry: Entry) -> Option<&Meta> {
        let slot = self.slots.get(place(entry.slot))?;
        let is_it = slot.number == entry.number && slot.state != SlotState::Free;
        is_it.then_some(&slot.meta)
    }

    /// The bytes of an entry that is not written yet.
    pub(super) fn waiting(&self, key: &Key) -> Option<&Arc<[u8]>> {
        self.waiting.get(key)
    }

    /// The number of a package.
    pub(super) fn number(&mut self, package: &PackageRef) -> PackageNumber {
        if let Some(number) = self.numbers.get(package) {
            return *number;
        }
        let number = PackageNumber(u32::try_from(self.packages.len()).unwrap_or(NONE));
        let name = Arc::new(package.clone());
        self.packages.push(Package {
            name: Arc::clone(&name),
            amount: Amount::default(),
        });
        self.numbers.insert(name, number);
        number
    }

    /// The package of a number.
    pub(super) fn package(&self, number: PackageNumber) -> &Arc<PackageRef> {
        &self.packages[place(number.0)].name
    }

    /// Adds an entry as the one used last, in the place of an older one; `waiting` are its bytes
    /// while they are not written.
    pub(super) fn insert(&mut self, key: Key, meta: Meta, waiting: Option<Arc<[u8]>>) {
        self.remove(&key);
        self.total.add(&meta);
        self.packages[place(meta.package.0)].amount.add(&meta);
        if meta.place == Place::File {
            *self.files.entry(meta.digest).or_default() += 1;
        }
        if let Some(bytes) = waiting {
            self.waiting.insert(key, bytes);
        }
        self.made += 1;
        let entry = Slot {
            key,
            number: self.made,
            meta,
            older: NONE,
            newer: NONE,
            state: SlotState::Kept,
        };
        let slot = if let Some(free) = self.free.pop() {
            *self.slot_mut(free) = entry;
            free
        } else {
            self.slots.push(entry);
            u32::try_from(self.slots.len() - 1).expect("entries are fewer than their charged bytes")
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |other: &u32| hasher.hash_one(slots[place(*other)].key);
        let hash = hasher.hash_one(key);
        self.table.insert_unique(hash, slot, rehash);
        self.put_last(slot);
    }

    /// Notes a use of an entry that is still kept.
    pub(super) fn touch(&mut self, entry: Entry, now: u64) {
        if self.get_entry(entry).is_none() {
            return;
        }
        let number = entry.slot;
        if self.ends.is_none_or(|(_, newest)| newest != number) {
            self.take_out(number);
            self.put_last(number);
        }
        let slot = self.slot_mut(number);
        slot.meta.used = now;
        if slot.state == SlotState::Kept {
            slot.state = SlotState::Touched;
            self.touched.push(number);
        }
    }

    /// An entry's bytes are where its place says, if it still is the one with that digest.
    pub(super) fn settle(&mut self, key: &Key, digest: &Digest) {
        if self.get(key).is_some_and(|meta| meta.digest == *digest) {
            self.waiting.remove(key);
        }
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Meta> {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let is_it = |other: &u32| slots[place(*other)].key == *key;
        let (number, _) = self.table.find_entry(hash, is_it).ok()?.remove();
        self.take_out(number);
        let slot = self.slot_mut(number);
        slot.state = SlotState::Free;
        let meta = slot.meta;
        self.free.push(number);
        self.waiting.remove(key);
        self.total.subtract(&meta);
        self.packages[place(meta.package.0)].amount.subtract(&meta);
        if meta.place == Place::File
            && let Some(count) = self.files.get_mut(&meta.digest)
        {
            *count -= 1;
            if *count == 0 {
                self.files.remove(&meta.digest);
            }
        }
        if self.total.entries == 0 {
            self.give_memory_back();
        }
        Some(meta)
    }

    /// Begins anew, without entries.
    pub(super) fn clear(&mut self) {
        self.packages.iter_mut().for_each(|package| {
            package.amount = Amount::default();
        });
        self.give_memory_back();
    }

    /// Of an index without entries: what somebody may hold stays, the numbers of packages and of
    /// entries.
    fn give_memory_back(&mut self) {
        *self = Self {
            made: self.made,
            packages: std::mem::take(&mut self.packages),
            numbers: std::mem::take(&mut self.numbers),
            ..Self::default()
        };
    }

    /// Whether an entry has bytes of that digest in a file.
    pub(super) fn has_file(&self, digest: &Digest) -> bool {
        self.files.contains_key(digest)
    }

    /// Keys of the entries used longest ago, as many as have to go to be charged at most `max`.
    pub(super) fn over(&self, max: u64) -> Vec<Key> {
        let mut left = self.total.charge();
        let mut keys = Vec::new();
        let mut next = self.ends.map_or(NONE, |(oldest, _)| oldest);
        while left > max && next != NONE {
            let slot = self.slot(next);
            left -= slot.meta.length + OVERHEAD;
            keys.push(slot.key);
            next = slot.newer;
        }
        keys
    }

    /// Keys among so many places of the table that `which` says; none when there are no more
    /// places. Whoever looks through everything does it piece by piece, so that nobody has to wait
    /// for it.
    pub(super) fn select(
        &self,
        places: Range<usize>,
        which: impl Fn(&PackageRef, &Meta) -> bool,
    ) -> Option<Vec<Key>> {
        let slots = self.slots.get(places.start..)?;
        if slots.is_empty() {
            return None;
        }
        let slots = slots.iter().take(places.len());
        let kept = slots.filter(|slot| slot.state != SlotState::Free);
        let chosen = kept.filter(|slot| which(self.package(slot.meta.package), &slot.meta));
        Some(chosen.map(|slot| slot.key).collect())
    }

    /// How much there is, of one package or of all.
    pub(super) fn amount(&self, package: Option<&PackageRef>) -> Amount {
        match package {
            None => self.total,
            Some(package) => self
                .numbers
                .get(package)
                .map_or_else(Amount::default, |number| {
                    self.packages[place(number.0)].amount
                }),
        }
    }

    /// How much there is of each package that has any.
    pub(super) fn amounts(&self) -> Vec<(Arc<PackageRef>, Amount)> {
        let packages = self
            .packages
            .iter()
            .filter(|package| package.amount.entries > 0);
        packages
            .map(|package| (Arc::clone(&package.name), package.amount))
            .collect()
    }

    /// Uses that nobody has written down yet.
    pub(super) fn take_used(&mut self) -> Vec<(Key, u64)> {
        let touched = std::mem::take(&mut self.touched);
        let mut used = Vec::with_capacity(touched.len());
        for number in touched {
            let slot = self.slot_mut(number);
            // One that was removed and replaced meanwhile is written anew anyway.
            if slot.state == SlotState::Touched {
                slot.state = SlotState::Kept;
                used.push((slot.key, slot.meta.used));
            }
        }
        used
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let is_it = |other: &u32| self.slot(*other).key == *key;
        self.table.find(self.hasher.hash_one(key), is_it).copied()
    }

    fn slot(&self, number: u32) -> &Slot {
        &self.slots[place(number)]
    }

    fn slot_mut(&mut self, number: u32) -> &mut Slot {
        &mut self.slots[place(number)]
    }

    /// Puts a slot that is in no list at the end of the one of last use.
    fn put_last(&mut self, number: u32) {
        let oldest = match self.ends {
            None => number,
            Some((oldest, newest)) => {
                self.slot_mut(newest).newer = number;
                self.slot_mut(number).older = newest;
                oldest
            }
        };
        self.ends = Some((oldest, number));
    }

    fn take_out(&mut self, number: u32) {
        let slot = self.slot_mut(number);
        let older = std::mem::replace(&mut slot.older, NONE);
        let newer = std::mem::replace(&mut slot.newer, NONE);
        if older != NONE {
            self.slot_mut(older).newer = newer;
        }
        if newer != NONE {
            self.slot_mut(newer).older = older;
        }
        self.ends = match self.ends {
            Some((oldest, newest)) if older == NONE && newer == NONE && oldest == newest => None,
            Some((_, newest)) if older == NONE => Some((newer, newest)),
            Some((oldest, _)) if newer == NONE => Some((oldest, older)),
            ends => ends,
        };
    }
}

/// A number as a place in a table.
fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn package(name: &str) -> PackageRef {
        PackageRef::new(name.parse().unwrap(), "1.0.0".parse().unwrap())
    }

    fn key(number: u8) -> Key {
        Key([number; 32])
    }

    fn put(index: &mut Index, name: &str, number: u8, length: u64) {
        let meta = Meta {
            package: index.number(&package(name)),
            digest: Digest::from_bytes([7; 32]),
            length,
            created: 0,
            used: 0,
            place: Place::File,
        };
        index.insert(key(number), meta, None);
    }

    fn touch(index: &mut Index, number: u8, now: u64) {
        if let Some(entry) = index.entry(&key(number)) {
            index.touch(entry, now);
        }
    }

    fn three() -> Index {
        let mut index = Index::default();
        for number in 1..=3 {
            put(&mut index, "gcc", number, 100);
        }
        index
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_no_more_than_needed() {
        let mut index = three();
        let one = 100 + OVERHEAD;
        assert_eq!(index.over(3 * one), []);
        assert_eq!(index.over(3 * one - 1), [key(1)]);
        touch(&mut index, 1, 5);
        assert_eq!(index.over(2 * one), [key(2)]);
        assert_eq!(index.over(0), [key(2), key(3), key(1)]);
        assert_eq!(index.take_used(), [(key(1), 5)]);
        assert_eq!(index.take_used(), []);
    }

    #[test]
    fn replacing_and_removing_keep_the_sums_right() {
        let mut index = three();
        put(&mut index, "gcc", 1, 50);
        put(&mut index, "rust", 4, 7);
        touch(&mut index, 9, 1);
        let amount = |entries, bytes| Amount { entries, bytes };
        assert_eq!(index.amount(None), amount(4, 257));
        assert_eq!(index.amount(Some(&package("gcc"))), amount(3, 250));
        assert_eq!(index.amount(Some(&package("none"))), amount(0, 0));
        assert_eq!(index.amounts().len(), 2);
        for number in 1..=4 {
            assert!(index.has_file(&Digest::from_bytes([7; 32])));
            assert!(index.remove(&key(number)).is_some());
        }
        assert!(!index.has_file(&Digest::from_bytes([7; 32])));
        assert_eq!((index.amount(None), index.over(0)), (amount(0, 0), vec![]));
        assert!(index.remove(&key(1)).is_none());
        assert_eq!(index.select(0..9, |_, _| true), None);
    }

    #[test]
    fn bytes_wait_until_their_own_entry_is_written() {
        let mut index = three();
        let meta = *index.get(&key(1)).unwrap();
        index.insert(key(1), meta, Some(vec![1].into()));
        index.settle(&key(1), &Digest::from_bytes([8; 32]));
        assert!(index.waiting(&key(1)).is_some(), "another one was written");
        index.settle(&key(1), &meta.digest);
        assert!(index.waiting(&key(1)).is_none());
    }

    #[derive(Debug, Clone)]
    enum Act {
        Put(u8, u64),
        Touch(u8),
        Remove(u8),
        Flush,
        Clear,
    }

    fn any_act() -> impl Strategy<Value = Act> {
        let key = 0_u8..12;
        prop_oneof![
            (key.clone(), 1_u64..9).prop_map(|(key, length)| Act::Put(key, length)),
            key.clone().prop_map(Act::Touch),
            key.prop_map(Act::Remove),
            Just(Act::Flush),
            Just(Act::Clear),
        ]
    }

    proptest! {
        /// Against a plain list in the order of last use.
        #[test]
        fn the_index_does_what_a_plain_list_does(
            acts in proptest::collection::vec(any_act(), 0..200)
        ) {
            let (mut index, mut list) = (Index::default(), Vec::<(u8, u64)>::new());
            let mut touched = std::collections::BTreeSet::new();
            // Every entry that there ever was, and its key.
            let mut made = Vec::new();
            for act in acts {
                match act {
                    Act::Put(number, length) => {
                        put(&mut index, "gcc", number, length);
                        list.retain(|(other, _)| *other != number);
                        list.push((number, length));
                        touched.remove(&number);
                        made.push((number, index.entry(&key(number)).unwrap()));
                    }
                    Act::Touch(number) => {
                        touch(&mut index, number, 1);
                        if let Some(at) = list.iter().position(|(other, _)| *other == number) {
                            let entry = list.remove(at);
                            list.push(entry);
                            touched.insert(number);
                        }
                    }
                    Act::Remove(number) => {
                        let was = list.iter().any(|(other, _)| *other == number);
                        prop_assert_eq!(index.remove(&key(number)).is_some(), was);
                        list.retain(|(other, _)| *other != number);
                        touched.remove(&number);
                    }
                    Act::Flush => {
                        let used: std::collections::BTreeSet<Key> =
                            index.take_used().into_iter().map(|(key, _)| key).collect();
                        let expected = std::mem::take(&mut touched);
                        prop_assert_eq!(used, expected.into_iter().map(key).collect());
                    }
                    Act::Clear => {
                        index.clear();
                        list.clear();
                        touched.clear();
                    }
                }
                let order: Vec<Key> = list.iter().map(|(number, _)| key(*number)).collect();
                prop_assert_eq!(index.over(0), order);
                let bytes = list.iter().map(|(_, length)| length).sum();
                let entries = u64::try_from(list.len()).unwrap();
                prop_assert_eq!(index.amount(None), Amount { entries, bytes });
                for (number, length) in &list {
                    prop_assert_eq!(index.get(&key(*number)).unwrap().length, *length);
                }
                for (at, (number, entry)) in made.iter().enumerate() {
                    let is_last = made[at + 1..].iter().all(|(other, _)| other != number);
                    let listed = list.iter().find(|(other, _)| other == number);
                    let length = listed.filter(|_| is_last).map(|(_, length)| *length);
                    prop_assert_eq!(index.get_entry(*entry).map(|meta| meta.length), length);
                }
            }
        }
    }
}
