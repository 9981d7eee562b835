//! What had better be loaded before anybody asks for it, and who loads it.
//!
//! Owns the queue. Invariants: it holds no more than its bound in bytes, the oldest go first; what
//! somebody asks for himself is taken out, so that nothing is loaded twice. Who works it off waits
//! for an idle core before each block (`crew.rs`), so that no request ever waits for more than the
//! block at hand.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::state::Source;
use crate::cache::BlockKey;
use crate::image::BlockRef;
use crate::num::to_usize;

/// Cancelled ones that may stay in the order.
const CANCELLED: usize = 1000;

#[derive(Debug)]
struct Wanted {
    source: Arc<Source>,
    block: BlockRef,
}

#[derive(Debug, Default)]
struct Queue {
    wanted: HashMap<BlockKey, Wanted>,
    /// Next first; those that were cancelled are still in it.
    order: VecDeque<BlockKey>,
    bytes: usize,
    ended: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Ahead {
    queue: Mutex<Queue>,
    changed: Condvar,
    bound: usize,
}

impl Ahead {
    /// Nothing wanted, and never more than this many bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self {
            queue: Mutex::default(),
            changed: Condvar::new(),
            bound,
        }
    }

    /// Asks for blocks of a layer, the first one first, before what others asked for.
    pub(super) fn want(&self, source: &Arc<Source>, blocks: impl Iterator<Item = BlockRef>) {
        let mut blocks = blocks.peekable();
        if blocks.peek().is_none() {
            return;
        }
        let mut queue = self.lock();
        let mut new = VecDeque::new();
        for block in blocks {
            let length = to_usize(block.length);
            let key = source.key(&block);
            if queue.wanted.contains_key(&key) {
                continue;
            }
            queue.make_room(self.bound.saturating_sub(length));
            if queue.bytes + length > self.bound {
                break;
            }
            queue.bytes += length;
            let source = Arc::clone(source);
            queue.wanted.insert(key, Wanted { source, block });
            new.push_back(key);
        }
        new.append(&mut queue.order);
        queue.order = new;
        queue.tidy();
        drop(queue);
        self.changed.notify_all();
    }

    /// Somebody loads the block himself.
    pub(super) fn cancel(&self, key: BlockKey) {
        let mut queue = self.lock();
        queue.forget(key);
        if queue.wanted.is_empty() {
            queue.order.clear();
        }
    }

    /// Waits until something is wanted; false when it is over.
    pub(super) fn wait(&self) -> bool {
        let idle = |queue: &mut Queue| queue.wanted.is_empty() && !queue.ended;
        let waited = self.changed.wait_while(self.lock(), idle);
        !waited.unwrap_or_else(PoisonError::into_inner).ended
    }

    /// The next block.
    pub(super) fn next(&self) -> Option<(Arc<Source>, BlockRef)> {
        let mut queue = self.lock();
        while let Some(key) = queue.order.pop_front() {
            if let Some(Wanted { source, block }) = queue.forget(key) {
                return Some((source, block));
            }
        }
        None
    }

    /// Lets those go who wait.
    pub(super) fn end(&self) {
        *self.lock() = Queue {
            ended: true,
            ..Queue::default()
        };
        self.changed.notify_all();
    }

    /// Nothing behind this lock is left half done by a panic.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn forget(&mut self, key: BlockKey) -> Option<Wanted> {
        let wanted = self.wanted.remove(&key)?;
        self.bytes -= to_usize(wanted.block.length);
        Some(wanted)
    }

    /// Drops what was cancelled from the order, before that gets long.
    fn tidy(&mut self) {
        let Self { wanted, order, .. } = self;
        if order.len() > 2 * wanted.len() + CANCELLED {
            order.retain(|key| wanted.contains_key(key));
        }
    }

    fn make_room(&mut self, bytes: usize) {
        while self.bytes > bytes
            && let Some(key) = self.order.pop_back()
        {
            drop(self.forget(key));
        }
    }
}
