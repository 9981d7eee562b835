//! The block cache: inflated blocks and fragments, bounded in bytes, loaded once.
//!
//! Holds what requests share: fragments, blocks that are asked for in pieces, and blocks that were
//! loaded before anybody asked. Whole blocks that somebody asked for don't stay here, since the
//! kernel's page cache keeps them (`vfs/read.rs` decides).
//!
//! Invariants: the blocks that the cache keeps are never more than its bound (those at work in a
//! request come on top, at most one a thread); while a block is loaded, whoever else wants it
//! waits for that load, but not for one that has been under way for longer than the cache's
//! patience; a failed load is told to all who waited and forgotten.
//!
//! Eviction gives every block that was used since the last look a second chance, per shard.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An inflated block.
pub(crate) type Block = Arc<Vec<u8>>;

/// Which block: the first inode number of the image it is in, and where it starts in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    /// First inode number of the image.
    pub(crate) image: u64,
    /// Where the block starts in the image file.
    pub(crate) start: u64,
}

/// Why a block is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss<E> {
    /// Loading it failed.
    Failed(E),
    /// Somebody else has been loading it for longer than anybody waits.
    Late,
}

/// Shards at most; fewer when the bound is too small for each to keep several blocks.
const SHARDS: usize = 16;

/// Bytes that a shard should be able to keep: four of the largest blocks of squashfs.
const SHARD_BYTES: usize = 4 << 20;

/// How far a load is.
#[derive(Debug)]
enum Load<E> {
    UnderWay,
    Done(Result<Block, E>),
    /// It panicked; the next who wants the block loads it.
    Abandoned,
}

/// A load that is done or at work.
#[derive(Debug)]
struct Slot<E> {
    load: Mutex<Load<E>>,
    changed: Condvar,
    since: Instant,
    /// Whether it was asked for since eviction last looked at it.
    used: AtomicBool,
}

#[derive(Debug)]
struct Shard<E> {
    slots: HashMap<BlockKey, Arc<Slot<E>>>,
    /// The loaded ones, in the order in which they are looked at for eviction.
    order: VecDeque<BlockKey>,
    bytes: usize,
}

/// The cache; `E` is the error of a load.
#[derive(Debug)]
pub(crate) struct BlockCache<E> {
    shards: Box<[Mutex<Shard<E>>]>,
    shard_bound: usize,
    patience: Duration,
}

impl<E: Clone> BlockCache<E> {
    /// A cache that keeps at most `bound` bytes, where nobody waits for a load that takes longer
    /// than `patience`.
    pub(crate) fn new(bound: usize, patience: Duration) -> Self {
        let shards = (bound / SHARD_BYTES).clamp(1, SHARDS);
        let shard = || {
            Mutex::new(Shard {
                slots: HashMap::new(),
                order: VecDeque::new(),
                bytes: 0,
            })
        };
        Self {
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            shard_bound: bound / shards,
            patience,
        }
    }

    /// The block from the cache, or from `load` when nobody has it or loads it already.
    pub(crate) fn get(
        &self,
        key: BlockKey,
        load: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Block, Miss<E>> {
        loop {
            let (slot, found) = self.slot(key);
            if !found {
                return self.load(key, &slot, load).map_err(Miss::Failed);
            }
            if let Some(result) = slot.wait(self.patience) {
                return result;
            }
        }
    }

    /// Loads a block that nobody asked for yet, unless it is here or being loaded already.
    pub(crate) fn prepare(&self, key: BlockKey, load: impl FnOnce() -> Result<Vec<u8>, E>) {
        let (slot, found) = self.slot(key);
        if !found {
            // Whoever asks for it will load it again and be told what is wrong with it.
            drop(self.load(key, &slot, load));
        }
    }

    /// The block, if it is here and loaded.
    pub(crate) fn peek(&self, key: BlockKey) -> Option<Block> {
        let slot = Arc::clone(lock(self.shard(key)).slots.get(&key)?);
        let block = slot.block()?;
        slot.used.store(true, Ordering::Relaxed);
        Some(block)
    }

    /// Takes the block out, if it is here or being loaded: for the one who asks for all of it.
    pub(crate) fn take(&self, key: BlockKey) -> Option<Result<Block, Miss<E>>> {
        let slot = Arc::clone(lock(self.shard(key)).slots.get(&key)?);
        let result = slot.wait(self.patience)?;
        if result.is_ok() {
            self.remove(key, &slot);
        }
        Some(result)
    }

    /// Whether the block is here or being loaded.
    pub(crate) fn knows(&self, key: BlockKey) -> bool {
        lock(self.shard(key)).slots.contains_key(&key)
    }

    /// Forgets what is kept of an image; what requests hold lives on until they end.
    pub(crate) fn forget(&self, image: u64) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard {
                slots,
                order,
                bytes,
            } = &mut *shard;
            order.retain(|key| {
                let keep = key.image != image;
                if !keep && let Some(slot) = slots.remove(key) {
                    *bytes -= slot.size();
                }
                keep
            });
        }
    }

    /// Bytes kept now.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes).sum()
    }

    /// The slot of a block, and whether it was there already.
    fn slot(&self, key: BlockKey) -> (Arc<Slot<E>>, bool) {
        let mut shard = lock(self.shard(key));
        match shard.slots.entry(key) {
            Entry::Occupied(slot) => {
                slot.get().used.store(true, Ordering::Relaxed);
                (Arc::clone(slot.get()), true)
            }
            Entry::Vacant(place) => {
                let slot = Arc::new(Slot {
                    load: Mutex::new(Load::UnderWay),
                    changed: Condvar::new(),
                    since: Instant::now(),
                    used: AtomicBool::new(false),
                });
                (Arc::clone(place.insert(slot)), false)
            }
        }
    }

    fn load(
        &self,
        key: BlockKey,
        slot: &Arc<Slot<E>>,
        load: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Block, E> {
        let mut under_way = UnderWay {
            cache: self,
            key,
            slot,
            ended: false,
        };
        let result = load().map(Arc::new);
        under_way.ended = true;
        slot.finish(Load::Done(result.clone()));
        self.settle(key, slot, &result);
        result
    }

    /// Takes a finished load into account, or forgets it when it failed.
    fn settle(&self, key: BlockKey, slot: &Arc<Slot<E>>, result: &Result<Block, E>) {
        let mut shard = lock(self.shard(key));
        let current = shard.slots.get(&key);
        if !current.is_some_and(|current| Arc::ptr_eq(current, slot)) {
            return;
        }
        let size = slot.size();
        if result.is_err() || size > self.shard_bound {
            shard.slots.remove(&key);
            return;
        }
        shard.make_room(self.shard_bound - size);
        shard.order.push_back(key);
        shard.bytes += size;
    }

    /// Takes a slot out, if it is still the one of its block.
    fn remove(&self, key: BlockKey, slot: &Arc<Slot<E>>) {
        let mut shard = lock(self.shard(key));
        let current = shard.slots.get(&key);
        if !current.is_some_and(|current| Arc::ptr_eq(current, slot)) {
            return;
        }
        shard.slots.remove(&key);
        // Those loaded a moment ago are at the back.
        if let Some(at) = shard.order.iter().rposition(|known| *known == key) {
            shard.order.remove(at);
            shard.bytes -= slot.size();
        }
    }

    fn shard(&self, key: BlockKey) -> &Mutex<Shard<E>> {
        // Starts of neighbouring blocks differ in their middle bits; the multiplication (of
        // Fibonacci hashing) spreads those over the upper ones.
        let mixed = (key.start ^ key.image.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let upper = usize::try_from(mixed >> 48).unwrap_or(0);
        &self.shards[upper % self.shards.len()]
    }
}

/// Forgets a load that panics.
struct UnderWay<'a, E: Clone> {
    cache: &'a BlockCache<E>,
    key: BlockKey,
    slot: &'a Arc<Slot<E>>,
    ended: bool,
}

impl<E: Clone> Drop for UnderWay<'_, E> {
    fn drop(&mut self) {
        if !self.ended {
            self.cache.remove(self.key, self.slot);
            self.slot.finish(Load::Abandoned);
        }
    }
}

impl<E: Clone> Slot<E> {
    fn finish(&self, load: Load<E>) {
        *lock(&self.load) = load;
        self.changed.notify_all();
    }

    fn block(&self) -> Option<Block> {
        match &*lock(&self.load) {
            Load::Done(Ok(block)) => Some(Arc::clone(block)),
            Load::Done(Err(_)) | Load::UnderWay | Load::Abandoned => None,
        }
    }

    /// What the load gave, when that is known within `patience` of its start; none when it was
    /// abandoned.
    fn wait(&self, patience: Duration) -> Option<Result<Block, Miss<E>>> {
        let mut load = lock(&self.load);
        loop {
            match &*load {
                Load::Done(result) => return Some(result.clone().map_err(Miss::Failed)),
                Load::Abandoned => return None,
                Load::UnderWay => {}
            }
            let left = patience.saturating_sub(self.since.elapsed());
            if left.is_zero() {
                return Some(Err(Miss::Late));
            }
            let waited = self.changed.wait_timeout(load, left);
            load = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What it counts for.
    fn size(&self) -> usize {
        self.block().map_or(0, |block| block.capacity())
    }
}

impl<E: Clone> Shard<E> {
    /// Evicts until at most `bytes` are kept.
    fn make_room(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some(key) = self.order.pop_front() else {
                return;
            };
            let used = |slot: &Arc<Slot<E>>| slot.used.swap(false, Ordering::Relaxed);
            if self.slots.get(&key).is_some_and(used) {
                self.order.push_back(key);
            } else if let Some(slot) = self.slots.remove(&key) {
                self.bytes -= slot.size();
            }
        }
    }
}

/// The shards stay consistent when a holder panics: nothing in them is changed in two steps that
/// a panic could part.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    fn key(start: u64) -> BlockKey {
        BlockKey { image: 7, start }
    }

    fn cache(bound: usize) -> BlockCache<&'static str> {
        BlockCache::new(bound, Duration::from_mins(1))
    }

    #[test]
    fn a_block_is_loaded_once_for_all_who_want_it_at_the_same_time() {
        let cache = cache(1 << 20);
        let loads = AtomicUsize::new(0);
        let together = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    together.wait();
                    let block = cache.get(key(0), || {
                        loads.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        Ok(vec![9; 100])
                    });
                    assert_eq!(block.unwrap()[..], [9; 100]);
                });
            }
        });
        assert_eq!(loads.into_inner(), 1);
    }

    #[test]
    fn a_failed_load_is_told_and_tried_again_by_the_next() {
        let cache = cache(1 << 20);
        assert_eq!(
            cache.get(key(0), || Err("broken")),
            Err(Miss::Failed("broken"))
        );
        assert_eq!(cache.get(key(0), || Ok(vec![1])).unwrap()[..], [1]);
        assert_eq!(cache.get(key(0), || Err("not asked")).unwrap()[..], [1]);
    }

    #[test]
    fn a_panicking_load_does_not_spoil_the_block() {
        let cache = cache(1 << 20);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cache.get(key(0), || panic!("a bug"))
        }));
        panicked.unwrap_err();
        assert_eq!(cache.get(key(0), || Ok(vec![1])).unwrap()[..], [1]);
    }

    #[test]
    fn what_is_kept_stays_below_the_bound() {
        for bound in [0, 999, 1000, 10_000, 20 << 20] {
            let cache = cache(bound);
            for start in 0..10_000 {
                cache.get(key(start * 4096), || Ok(vec![0; 1000])).unwrap();
                if start % 100 == 0 {
                    assert!(cache.bytes() <= bound, "{} > {bound}", cache.bytes());
                }
            }
            assert!(cache.bytes() <= bound);
            if bound >= 10_000 {
                assert!(
                    cache.bytes() > bound.min(10_000_000) / 2,
                    "{}",
                    cache.bytes()
                );
            }
        }
    }

    #[test]
    fn a_block_that_is_used_again_outlives_those_that_are_not() {
        let cache = cache(10_000);
        for start in 0..1000 {
            cache.get(key(start), || Ok(vec![0; 1000])).unwrap();
            cache.get(key(0), || Ok(vec![1; 1000])).unwrap();
        }
        cache.get(key(0), || Err("was evicted")).unwrap();
    }

    #[test]
    fn forgetting_an_image_frees_what_is_kept_of_it() {
        let cache = cache(1 << 20);
        let other = BlockKey { image: 8, start: 0 };
        cache.get(key(0), || Ok(vec![0; 1000])).unwrap();
        cache.get(other, || Ok(vec![0; 10])).unwrap();
        cache.forget(7);
        assert_eq!(cache.bytes(), 10);
        cache.get(other, || Err("was forgotten")).unwrap();
    }

    #[test]
    fn nobody_waits_for_a_load_that_is_stuck() {
        let cache = BlockCache::new(1 << 20, Duration::from_millis(20));
        let (stuck, gone_on) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                let block = cache.get(key(0), || {
                    stuck.wait();
                    gone_on.wait();
                    Ok::<_, &str>(vec![7])
                });
                assert_eq!(block.unwrap()[..], [7]);
            });
            stuck.wait();
            assert_eq!(cache.get(key(0), || Err("not asked")), Err(Miss::Late));
            assert_eq!(cache.take(key(0)), Some(Err(Miss::Late)));
            assert_eq!(cache.peek(key(0)), None);
            gone_on.wait();
        });
        assert_eq!(cache.get(key(0), || Err("not asked")).unwrap()[..], [7]);
    }

    #[test]
    fn what_is_taken_out_is_no_longer_kept() {
        let cache = cache(1 << 20);
        cache.prepare(key(0), || Ok(vec![1; 100]));
        cache.prepare(key(0), || Err("not asked"));
        cache.prepare(key(1), || Ok(vec![2; 10]));
        assert_eq!(cache.bytes(), 110);
        assert_eq!(cache.peek(key(0)).unwrap()[..], [1; 100]);
        assert_eq!(cache.take(key(0)).unwrap().unwrap()[..], [1; 100]);
        assert_eq!(cache.bytes(), 10);
        assert!(cache.take(key(0)).is_none());
        assert!(!cache.knows(key(0)) && cache.knows(key(1)));
    }

    #[test]
    fn what_was_prepared_in_vain_is_evicted_before_what_was_used() {
        let cache = cache(10_000);
        cache.get(key(0), || Ok(vec![1; 1000])).unwrap();
        cache.get(key(0), || Err("not asked")).unwrap();
        for start in 1..15 {
            cache.prepare(key(start), || Ok(vec![0; 1000]));
        }
        cache.get(key(0), || Err("was evicted")).unwrap();
    }
}
