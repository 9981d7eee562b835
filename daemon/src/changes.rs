//! How often something changed, so that what was looked up may be used again as long as it did not.
//!
//! Invariant: whoever reads a count and then looks something up has what a look-up would give, as
//! long as that still is the count. So a change is counted after it is made, under its own lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the changes of something.
#[derive(Debug, Default)]
pub(crate) struct Changing(AtomicU64);

/// How many there were at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changes(u64);

impl Changing {
    /// One was made.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// How many there were so far.
    pub(crate) fn so_far(&self) -> Changes {
        Changes(self.0.load(Ordering::Acquire))
    }
}
