//! The block cache: inflated blocks and fragments, bounded in bytes, loaded once.
//!
//! Holds what requests share: fragments, and blocks that are asked for in pieces. Whole blocks
//! don't pass through here, since the kernel's page cache keeps them (`vfs/read.rs` decides).
//!
//! Invariants: the blocks that the cache keeps are never more than its bound (those at work in a
//! request come on top, at most one a worker); while a block is loaded, whoever else wants it
//! waits for that load; a failed load is told to all who waited and forgotten.
//!
//! Eviction gives every block that was used since the last look a second chance, per shard.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

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

/// Shards at most; fewer when the bound is too small for each to keep several blocks.
const SHARDS: usize = 16;

/// Bytes that a shard should be able to keep: four of the largest blocks of squashfs.
const SHARD_BYTES: usize = 4 << 20;

/// A load that is done or at work.
#[derive(Debug)]
struct Slot<E> {
    block: OnceLock<Result<Block, E>>,
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
}

impl<E: Clone> BlockCache<E> {
    /// A cache that keeps at most `bound` bytes.
    pub(crate) fn new(bound: usize) -> Self {
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
        }
    }

    /// The block from the cache, or from `load` when nobody has it or loads it already.
    pub(crate) fn get(
        &self,
        key: BlockKey,
        load: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Block, E> {
        let slot = self.slot(key);
        let mut loaded_here = false;
        // A load that panics leaves the slot empty, and the next who wants it loads again.
        let result = slot.block.get_or_init(|| {
            loaded_here = true;
            load().map(Arc::new)
        });
        if loaded_here {
            self.settle(key, &slot, result);
        }
        result.clone()
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
                    *bytes -= size(&slot);
                }
                keep
            });
        }
    }

    /// Bytes kept now.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes).sum()
    }

    fn slot(&self, key: BlockKey) -> Arc<Slot<E>> {
        let mut shard = lock(self.shard(key));
        let slot = shard.slots.entry(key).or_insert_with(|| {
            Arc::new(Slot {
                block: OnceLock::new(),
                used: AtomicBool::new(false),
            })
        });
        slot.used.store(true, Ordering::Relaxed);
        Arc::clone(slot)
    }

    /// Takes a finished load into account, or forgets it when it failed.
    fn settle(&self, key: BlockKey, slot: &Arc<Slot<E>>, result: &Result<Block, E>) {
        let mut shard = lock(self.shard(key));
        let current = shard.slots.get(&key);
        if !current.is_some_and(|current| Arc::ptr_eq(current, slot)) {
            return;
        }
        let size = size(slot);
        if result.is_err() || size > self.shard_bound {
            shard.slots.remove(&key);
            return;
        }
        shard.make_room(self.shard_bound - size);
        shard.order.push_back(key);
        shard.bytes += size;
        slot.used.store(false, Ordering::Relaxed);
    }

    fn shard(&self, key: BlockKey) -> &Mutex<Shard<E>> {
        // Starts of neighbouring blocks differ in their middle bits; the multiplication (of
        // Fibonacci hashing) spreads those over the upper ones.
        let mixed = (key.start ^ key.image.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let upper = usize::try_from(mixed >> 48).unwrap_or(0);
        &self.shards[upper % self.shards.len()]
    }
}

impl<E> Shard<E> {
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
                self.bytes -= size(&slot);
            }
        }
    }
}

/// What a slot counts for.
fn size<E>(slot: &Slot<E>) -> usize {
    match slot.block.get() {
        Some(Ok(block)) => block.capacity(),
        Some(Err(_)) | None => 0,
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
        BlockCache::new(bound)
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
        assert_eq!(cache.get(key(0), || Err("broken")), Err("broken"));
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
}
