//! Who runs next: a bounded number of slots, and a bounded line in front of them.
//!
//! First come, first served. Invariants: no two admissions hold one slot number at once (a slot
//! decides the host user of its job); a slot is free again when its [`Admission`] is dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::JobError;
use crate::sandbox::Slot;

/// The slots and the line.
#[derive(Debug)]
pub struct Queue {
    permits: Arc<Semaphore>,
    free: Arc<Mutex<Vec<u32>>>,
    max_concurrent: u64,
    max_queued: u64,
    waiting: AtomicU64,
    running: Arc<AtomicU64>,
}

/// A slot that one job holds until this is dropped.
#[derive(Debug)]
pub struct Admission {
    slot: u32,
    free: Arc<Mutex<Vec<u32>>>,
    running: Arc<AtomicU64>,
    // Dropped last: whoever gets the permit has to find the slot's number in `free`.
    _permit: OwnedSemaphorePermit,
}

impl Queue {
    /// A queue of `max_concurrent` slots and `max_queued` places in line.
    pub fn new(max_concurrent: u32, max_queued: usize) -> Self {
        let slots = usize::try_from(max_concurrent).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(slots)),
            free: Arc::new(Mutex::new((0..max_concurrent).rev().collect())),
            max_concurrent: u64::from(max_concurrent),
            max_queued: u64::try_from(max_queued).unwrap_or(u64::MAX),
            waiting: AtomicU64::new(0),
            running: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Waits for a slot; refuses at once when the line is full.
    pub async fn admit(&self) -> Result<Admission, JobError> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait_in_line().await?,
        };
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        // There are as many numbers as permits; without a number there is no slot.
        let slot = free.ok_or_else(|| self.full())?;
        self.running.fetch_add(1, Ordering::Relaxed);
        Ok(Admission {
            slot,
            free: Arc::clone(&self.free),
            running: Arc::clone(&self.running),
            _permit: permit,
        })
    }

    async fn wait_in_line(&self) -> Result<OwnedSemaphorePermit, JobError> {
        let _place = Place::take(&self.waiting, self.max_queued).ok_or_else(|| self.full())?;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        // The semaphore is never closed.
        permit.map_err(|_| JobError::ShuttingDown)
    }

    fn full(&self) -> JobError {
        JobError::QueueFull {
            running: self.running(),
            waiting: self.max_queued,
        }
    }

    /// Jobs that hold a slot.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Jobs in line.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many slots there are.
    pub fn max_concurrent(&self) -> u64 {
        self.max_concurrent
    }
}

impl Admission {
    /// The slot.
    pub fn slot(&self) -> Slot {
        Slot(self.slot)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.slot);
    }
}

/// A place in line, given back on drop (a client that goes away leaves the line).
struct Place<'a>(&'a AtomicU64);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicU64, max: u64) -> Option<Self> {
        let one_more = |now: u64| (now < max).then_some(now + 1);
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn slots_are_distinct_and_come_back() {
        let queue = Queue::new(3, 0);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(queue.admit().await.expect("a free slot"));
        }
        let mut slots: Vec<_> = held.iter().map(|admission| admission.slot().0).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2]);
        let freed = held.pop().expect("three").slot();
        assert_eq!(queue.admit().await.expect("the freed slot").slot(), freed);
        assert_eq!(queue.running(), 2);
    }

    #[tokio::test]
    async fn the_line_is_bounded_and_leaving_it_frees_the_place() {
        let queue = Queue::new(1, 1);
        let _running = queue.admit().await.expect("a free slot");
        let mut waiting = Box::pin(queue.admit());
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(queue.waiting(), 1);
        let refused = queue
            .admit()
            .now_or_never()
            .expect("at once")
            .expect_err("full");
        assert_eq!(refused.code(), piston_client::api::Code::QueueFull);
        drop(waiting);
        assert_eq!(queue.waiting(), 0);
        assert!(queue.admit().now_or_never().is_none());
    }

    #[tokio::test]
    async fn first_come_is_first_served() {
        let queue = Queue::new(1, 2);
        let running = queue.admit().await.expect("a free slot");
        let (mut first, mut second) = (Box::pin(queue.admit()), Box::pin(queue.admit()));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        drop(running);
        assert!((&mut second).now_or_never().is_none());
        assert!(matches!(first.now_or_never(), Some(Ok(_))));
    }
}
