//! How jobs that could be cached fared, counted by package.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use piston_client::api::CacheOutcome;
use piston_client::ids::PackageRef;

/// How jobs fared since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Compile stages that were restored.
    pub binary_hits: u64,
    /// Whole results that were restored.
    pub output_hits: u64,
    /// Jobs of which nothing was restored.
    pub misses: u64,
}

/// Counts those of one package.
#[derive(Debug, Default)]
pub struct Tally {
    binary_hits: AtomicU64,
    output_hits: AtomicU64,
    misses: AtomicU64,
}

impl Tally {
    /// Notes how a job fared.
    pub fn count(&self, outcome: CacheOutcome) {
        let counter = match outcome {
            CacheOutcome::Miss => &self.misses,
            CacheOutcome::Binary => &self.binary_hits,
            CacheOutcome::Output => &self.output_hits,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn counted(&self) -> Counters {
        Counters {
            binary_hits: self.binary_hits.load(Ordering::Relaxed),
            output_hits: self.output_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

/// Those of all packages.
#[derive(Debug, Default)]
pub(super) struct Tallies(Mutex<BTreeMap<PackageRef, Arc<Tally>>>);

impl Tallies {
    /// The one of a package, to count with.
    pub(super) fn of(&self, package: &PackageRef) -> Arc<Tally> {
        let mut tallies = self.lock();
        match tallies.get(package) {
            Some(tally) => Arc::clone(tally),
            None => Arc::clone(tallies.entry(package.clone()).or_default()),
        }
    }

    /// What was counted of a package, or of all together.
    pub(super) fn counted(&self, package: Option<&PackageRef>) -> Counters {
        let tallies = self.lock();
        let counted = |tally: &Arc<Tally>| tally.counted();
        match package {
            Some(package) => tallies.get(package).map(counted).unwrap_or_default(),
            None => tallies
                .values()
                .map(counted)
                .fold(Counters::default(), |sum, one| Counters {
                    binary_hits: sum.binary_hits + one.binary_hits,
                    output_hits: sum.output_hits + one.output_hits,
                    misses: sum.misses + one.misses,
                }),
        }
    }

    /// What was counted, by package.
    pub(super) fn all(&self) -> BTreeMap<PackageRef, Counters> {
        let tallies = self.lock();
        let all = tallies.iter();
        all.map(|(package, tally)| (package.clone(), tally.counted()))
            .collect()
    }

    /// Forgets all packages but those that `stays` says.
    pub(super) fn retain(&self, stays: impl Fn(&PackageRef) -> bool) {
        self.lock().retain(|package, _| stays(package));
    }

    /// A panic elsewhere leaves the map whole: every change is one insert or remove.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PackageRef, Arc<Tally>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
