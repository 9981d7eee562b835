//! The way to an image's file, closed while reading it hangs.
//!
//! A disk that is gone keeps each thread that reads from it. So when some have been reading for
//! longer than anybody waits, others are refused at once, until one of those comes back: an image
//! costs a few threads at most, and the rest of the filesystem goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Reads of one image that may hang.
const HANGING: usize = 2;

/// The gate of one image.
#[derive(Debug)]
pub(super) struct Gate {
    patience: Duration,
    /// When those began that are reading.
    inside: Mutex<Vec<Instant>>,
}

/// One who reads.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    since: Instant,
}

impl Gate {
    /// A gate for reads that should take no longer than this.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            inside: Mutex::default(),
        }
    }

    /// Leave to read; none while too many hang.
    pub(super) fn pass(&self) -> Option<Pass<'_>> {
        let since = Instant::now();
        let mut inside = self.lock();
        let hangs = |began: &&Instant| since.duration_since(**began) > self.patience;
        if inside.iter().filter(hangs).count() >= HANGING {
            return None;
        }
        inside.push(since);
        Some(Pass { gate: self, since })
    }

    /// Nothing behind this lock is left half done by a panic.
    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut inside = self.gate.lock();
        if let Some(at) = inside.iter().position(|since| *since == self.since) {
            inside.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_hangs_is_closed_until_a_read_of_it_comes_back() {
        let gate = Gate::new(Duration::ZERO);
        let first = gate.pass();
        let second = gate.pass();
        assert!(first.is_some() && second.is_some());
        std::thread::sleep(Duration::from_millis(1));
        assert!(gate.pass().is_none());
        drop(first);
        assert!(gate.pass().is_some());
        let patient = Gate::new(Duration::from_mins(1));
        let readers: Vec<_> = (0..10).map(|_| patient.pass()).collect();
        assert!(readers.iter().all(Option::is_some));
    }
}
