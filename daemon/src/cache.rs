//! The cache: what is kept of jobs for the next equal ones, never a wrong answer.
//!
//! Two levels above none: artifacts of compile stages (`binary`), and whole results (`output`).
//! Parts: [`key`] (what makes two jobs equal), [`entry`] (what is kept, and what never is),
//! [`flight`] (equal compiles at once are one), `evict` (who goes first), `hot` (what is at hand in
//! memory), `store` (where the bytes are). The way of an entry: [`Cache::keep`] -> index and memory
//! -> writer thread -> disk; [`Cache::find`] -> index -> memory, or bytes -> checksum -> [`Kept`].
//!
//! Invariants: what is given out is byte for byte what was kept under that key; a fault of disk,
//! database or file costs entries, never a job; nothing waits for a write but [`Cache::flushed`].
//! Entries end with their time to live, with their package, by purge, or as those used longest ago
//! when there are too many bytes. Jobs can't write here: the daemon reads artifacts out of finished
//! sandboxes.

pub mod entry;
mod evict;
pub mod flight;
mod hot;
pub mod key;
mod store;
mod tally;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, SystemTime};

use piston_client::ids::PackageRef;
use piston_client::units::Bytes;

use entry::{Kept, NotKept};
pub use evict::{Amount, Entry};
use evict::{Meta, Place};
use flight::{Flights, Leader, Seat};
use hot::Hot;
use key::Key;
use store::{Disk, LARGEST_ROW, Open, Shelf, Work, digest_of};
use tally::Tallies;
pub use tally::{Counters, Tally};

use crate::store::cache::CacheStore;

/// Larger things are encoded and hashed on another thread than the reply's.
const SMALL: usize = 32 << 10;
/// Entries looked at under one lock when everything is looked through.
const AT_ONCE: usize = 4096;
/// How long to do without a database that can't be opened.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the operator set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of all entries; 0 keeps nothing.
    pub size: Bytes,
    /// How long an entry lasts.
    pub time_to_live: Duration,
    /// Bytes of one entry.
    pub max_entry: Bytes,
    /// Bytes of memory for entries at hand and for those that wait to be written.
    pub memory: Bytes,
}

impl Settings {
    /// The part of the memory that is for replies to requests that come again, which are not kept
    /// here.
    pub fn repeats(&self) -> Bytes {
        match self.size.0 {
            0 => Bytes(0),
            _ => Bytes(self.memory.0 / 8),
        }
    }
}

/// What went wrong since the daemon's start, none of it seen by a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Entries dropped because they were not what was written.
    pub damaged: u64,
    /// Databases set aside.
    pub set_aside: u64,
    /// Entries that could not be written, or for which the disk was too slow.
    pub unwritten: u64,
    /// Results larger than an entry may be.
    pub too_large: u64,
}

/// The cache. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Cache {
    settings: Settings,
    shelf: Arc<Shelf>,
    hot: Hot,
    writer: Sender<Work>,
    flights: Arc<Flights>,
    tallies: Tallies,
    too_large: AtomicU64,
    evicted: AtomicU64,
}

impl Cache {
    /// Opens the cache in the data directory `root`, which the caller has locked, and starts its
    /// writer. Blocks on the disk.
    pub fn open(root: &Path, settings: Settings) -> std::io::Result<Arc<Self>> {
        Self::open_on(root, settings, Box::new(CacheStore::open), PATIENCE)
    }

    fn open_on(
        root: &Path,
        settings: Settings,
        open: Open,
        patience: Duration,
    ) -> std::io::Result<Arc<Self>> {
        let disk = Disk {
            open,
            patience,
            max_waiting: settings.memory.0 / 2,
        };
        let shelf = Arc::new(Shelf::open(root, disk));
        let (writer, work) = mpsc::channel();
        // It ends when the cache is dropped.
        std::thread::Builder::new()
            .name("cache-writer".to_owned())
            .spawn({
                let shelf = Arc::clone(&shelf);
                move || shelf.write(&work)
            })?;
        let cache = Self {
            settings,
            shelf,
            hot: Hot::new(Bytes(settings.memory.0 / 2 - settings.repeats().0)),
            writer,
            flights: Arc::default(),
            tallies: Tallies::default(),
            too_large: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        };
        cache.evict();
        Ok(Arc::new(cache))
    }

    /// What the operator set.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// What is kept under a key and not over its time, which is `lasts` where the operator set
    /// one for the package.
    pub async fn find(self: &Arc<Self>, key: Key, lasts: Option<Duration>) -> Option<Arc<Kept>> {
        let (_, kept) = self.find_named(key, lasts).await?;
        Some(kept)
    }

    /// The same, with what tells it from whatever else is kept under that key at another time.
    pub async fn find_named(
        self: &Arc<Self>,
        key: Key,
        lasts: Option<Duration>,
    ) -> Option<(Entry, Arc<Kept>)> {
        let now = now();
        let (entry, meta, waiting) = {
            let mut index = self.shelf.index();
            let entry = index.entry(&key)?;
            let meta = *index.get_entry(entry)?;
            if self.is_over(&meta, lasts, now) {
                drop(index);
                self.remove(&[key]);
                return None;
            }
            index.touch(entry, now);
            (entry, meta, index.waiting(&key).cloned())
        };
        if let Some(kept) = self.hot.get(&key, &meta.digest) {
            return Some((entry, kept));
        }
        let found = match (waiting, meta.place) {
            (Some(bytes), _) => Kept::decode(&bytes),
            (None, Place::Row) => self.read(&key, &meta),
            (None, Place::File) => {
                let cache = Arc::clone(self);
                let reading = tokio::task::spawn_blocking(move || cache.read(&key, &meta));
                reading.await.ok()?
            }
        };
        let Some(kept) = found else {
            self.drop_damaged(&key, &meta);
            return None;
        };
        let kept = Arc::new(kept);
        self.hot.put(key, meta.digest, &kept);
        Some((entry, kept))
    }

    /// Whether what was found is still kept and not over its time; it counts as used.
    pub fn uses(&self, entry: Entry, lasts: Option<Duration>) -> bool {
        let now = now();
        let mut index = self.shelf.index();
        let meta = index.get_entry(entry);
        let fits = meta.is_some_and(|meta| !self.is_over(meta, lasts, now));
        if fits {
            index.touch(entry, now);
        }
        fits
    }

    /// Whether [`Cache::find`] would look further than memory.
    pub fn has(&self, key: Key, lasts: Option<Duration>) -> bool {
        let now = now();
        let index = self.shelf.index();
        let meta = index.get(&key);
        meta.is_some_and(|meta| !self.is_over(meta, lasts, now))
    }

    fn read(&self, key: &Key, meta: &Meta) -> Option<Kept> {
        let bytes = self.shelf.read(key, meta, &self.writer)?;
        Kept::decode(&bytes)
    }

    /// Drops an entry that could not be read, unless it has gone or changed meanwhile: then it was
    /// not damaged.
    fn drop_damaged(&self, key: &Key, read: &Meta) {
        let is_same = |now: &Meta| now.digest == read.digest && now.created == read.created;
        if !self.shelf.index().get(key).is_some_and(is_same) {
            return;
        }
        self.shelf.faults.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(?key, "a damaged entry of the cache was dropped");
        self.remove(&[*key]);
    }

    /// Keeps something, if it may be kept. Returns at once; the entry is found from then on, or,
    /// when it is large, soon.
    pub fn keep(self: &Arc<Self>, key: Key, package: &PackageRef, kept: Arc<Kept>) {
        self.keep_and_hold(key, package, kept, None);
    }

    /// Gives what a leader did to all who wait for it, and keeps it. Who comes meanwhile still
    /// finds the flight.
    pub fn land(self: &Arc<Self>, leader: Leader, package: &PackageRef, kept: Arc<Kept>) {
        leader.land(Arc::clone(&kept));
        self.keep_and_hold(leader.key(), package, kept, Some(leader));
    }

    fn keep_and_hold(
        self: &Arc<Self>,
        key: Key,
        package: &PackageRef,
        kept: Arc<Kept>,
        leader: Option<Leader>,
    ) {
        if self.settings.size.0 == 0 {
            return;
        }
        if kept.weight() <= SMALL {
            self.insert(key, package, &kept);
            drop(leader);
        } else {
            let (cache, package) = (Arc::clone(self), package.clone());
            drop(tokio::task::spawn_blocking(move || {
                cache.insert(key, &package, &kept);
                drop(leader);
            }));
        }
    }

    fn insert(&self, key: Key, package: &PackageRef, kept: &Arc<Kept>) {
        let bytes: Arc<[u8]> = match kept.encode(self.settings.max_entry) {
            Ok(bytes) => bytes.into(),
            Err(NotKept::Unfit) => return,
            Err(NotKept::TooLarge) => {
                self.too_large.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if !self.shelf.reserve(length) {
            self.shelf.faults.unwritten.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (digest, now) = (digest_of(&bytes), now());
        self.hot.put(key, digest, kept);
        // Under one lock, or a look in between could change who has to go.
        let over = {
            let mut index = self.shelf.index();
            let meta = Meta {
                package: index.number(package),
                digest,
                length,
                created: now,
                used: now,
                place: if length > LARGEST_ROW {
                    Place::File
                } else {
                    Place::Row
                },
            };
            index.insert(key, meta, Some(bytes));
            index.over(self.settings.size.0)
        };
        self.tell(Work::Put(key, digest, length));
        self.make_room(&over);
    }

    /// Joins those who do what `key` is about, or leads them.
    pub fn join(&self, key: Key) -> Seat {
        self.flights.join(key)
    }

    /// What counts how jobs of a package fare.
    pub fn tally(&self, package: &PackageRef) -> Arc<Tally> {
        self.tallies.of(package)
    }

    /// How the jobs of a package, or all jobs, fared, and how much is kept of them.
    pub fn usage(&self, package: Option<&PackageRef>) -> (Amount, Counters) {
        let amount = self.shelf.index().amount(package);
        (amount, self.tallies.counted(package))
    }

    /// The same for each package that has any of it.
    pub fn usages(&self) -> BTreeMap<PackageRef, (Amount, Counters)> {
        let counted = self.tallies.all().into_iter();
        let mut usages: BTreeMap<_, _> = counted
            .map(|(package, counters)| (package, (Amount::default(), counters)))
            .collect();
        for (package, amount) in self.shelf.index().amounts() {
            usages.entry((*package).clone()).or_default().0 = amount;
        }
        usages
    }

    /// Entries that made room for others since the daemon's start.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// What went wrong.
    pub fn troubles(&self) -> Troubles {
        let faults = &self.shelf.faults;
        Troubles {
            damaged: faults.damaged.load(Ordering::Relaxed),
            set_aside: faults.set_aside.load(Ordering::Relaxed),
            unwritten: faults.unwritten.load(Ordering::Relaxed),
            too_large: self.too_large.load(Ordering::Relaxed),
        }
    }

    /// Drops everything, or what is kept of one package; says how much that was. What a crash
    /// brings back is gone only after [`Cache::flushed`].
    pub fn purge(&self, package: Option<&PackageRef>) -> Amount {
        self.remove_all(|name, _| package.is_none_or(|package| package == name))
    }

    /// Drops what is over its time or belongs to no package of `installed` (each with the time
    /// that the operator set for it), and writes down last uses.
    pub fn sweep(&self, installed: &BTreeMap<PackageRef, Option<Duration>>) {
        let now = now();
        self.remove_all(|package, meta| match installed.get(package) {
            Some(lasts) => self.is_over(meta, *lasts, now),
            None => true,
        });
        self.tallies
            .retain(|package| installed.contains_key(package));
        let used = self.shelf.index().take_used();
        if !used.is_empty() {
            self.tell(Work::Used(used));
        }
    }

    /// Removes what `which` says, piece by piece: nobody waits for a look through everything.
    fn remove_all(&self, which: impl Fn(&PackageRef, &Meta) -> bool) -> Amount {
        let mut removed = Amount::default();
        for piece in 0.. {
            let places = piece * AT_ONCE..(piece + 1) * AT_ONCE;
            let Some(keys) = self.shelf.index().select(places, &which) else {
                break;
            };
            let amount = self.remove(&keys);
            removed.entries += amount.entries;
            removed.bytes += amount.bytes;
        }
        removed
    }

    /// Returns when everything so far is on disk.
    pub async fn flushed(&self) {
        let (done, flushed) = tokio::sync::oneshot::channel();
        let used = self.shelf.index().take_used();
        self.tell(Work::Used(used));
        self.tell(Work::Flush(done));
        // An error means that the writer is gone, and nothing will be written any more.
        drop(flushed.await);
    }

    /// An entry from the future is as good as new: the clock was set back.
    fn is_over(&self, meta: &Meta, lasts: Option<Duration>, now: u64) -> bool {
        let lasts = lasts.unwrap_or(self.settings.time_to_live);
        now.saturating_sub(meta.created) >= lasts.as_secs()
    }

    fn evict(&self) {
        let keys = self.shelf.index().over(self.settings.size.0);
        self.make_room(&keys);
    }

    fn make_room(&self, keys: &[Key]) {
        let made = self.remove(keys);
        self.evicted.fetch_add(made.entries, Ordering::Relaxed);
    }

    fn remove(&self, keys: &[Key]) -> Amount {
        let mut amount = Amount::default();
        for key in keys {
            let removed = self.shelf.index().remove(key);
            if let Some(meta) = removed {
                self.hot.remove(key);
                amount.entries += 1;
                amount.bytes += meta.length;
                self.tell(Work::Remove(*key, meta));
            }
        }
        amount
    }

    fn tell(&self, work: Work) {
        if self.writer.send(work).is_err() {
            tracing::error!("the cache has no writer");
        }
    }
}

/// Unix time in seconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
