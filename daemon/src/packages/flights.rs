//! One at a time for each key: equal requests wait for the first instead of repeating it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Locks by key, made when they are needed.
#[derive(Debug)]
pub(crate) struct Flights<K> {
    locks: Mutex<BTreeMap<K, Arc<tokio::sync::Mutex<()>>>>,
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self {
            locks: Mutex::default(),
        }
    }
}

impl<K: Ord + Clone + Debug> Flights<K> {
    /// Waits for the one who has this key.
    pub(crate) async fn take(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(key).or_default())
        };
        lock.lock_owned().await
    }

    /// Waits for several keys, in an order that is the same for everyone.
    pub(crate) async fn take_all(&self, mut keys: Vec<K>) -> Vec<OwnedMutexGuard<()>> {
        keys.sort();
        keys.dedup();
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            taken.push(self.take(key).await);
        }
        taken
    }
}
