//! The end of a mount, as others wait for it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whether the last worker has ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    fn set(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until it was.
    pub(super) fn wait(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(ended, |ended| !*ended);
        drop(waited);
    }

    /// Whether it was within some time.
    pub(super) fn wait_for(&self, time: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(ended, time, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Sets [`Ended`] however the workers end.
pub(super) struct EndedOnDrop(pub(super) Arc<Ended>);

impl Drop for EndedOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}
