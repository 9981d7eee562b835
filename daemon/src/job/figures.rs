//! How jobs ended and how long they took, counted since the daemon's start.
//!
//! Counts each job that was let in, once, when it is over; a batch counts as one. What the cache
//! answers before the queue is no job here: the cache counts it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use piston_client::api::Status;

use crate::metrics::Times;

/// Bounds of the histogram, in milliseconds.
const WITHIN: [u64; 12] = [2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Ways to end, by the words of the API.
const ENDS: [(Option<Status>, &str); 9] = [
    (None, "OK"),
    (Some(Status::RuntimeError), "RE"),
    (Some(Status::Signalled), "SG"),
    (Some(Status::TimedOut), "TO"),
    (Some(Status::StdoutLimit), "OL"),
    (Some(Status::StderrLimit), "EL"),
    (Some(Status::MemoryLimit), "ML"),
    (Some(Status::Killed), "KL"),
    (Some(Status::Internal), "XX"),
];

/// The counters.
#[derive(Debug, Default)]
pub struct Figures {
    /// In the order of `ENDS`.
    ended: [AtomicU64; ENDS.len()],
    /// In the order of `WITHIN`, each job in the first bound that it is within; the last ones took
    /// longer.
    took: [AtomicU64; WITHIN.len() + 1],
    micros: AtomicU64,
}

impl Figures {
    /// Counts a job that is over.
    pub(super) fn count(&self, status: Option<Status>, took: Duration) {
        let end = ENDS.iter().position(|(end, _)| *end == status);
        let bound = WITHIN.partition_point(|&bound| Duration::from_millis(bound) < took);
        let counters = [
            end.and_then(|end| self.ended.get(end)),
            self.took.get(bound),
        ];
        for counter in counters.into_iter().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many ended in each way.
    pub fn ended(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.ended.iter().map(|count| count.load(Ordering::Relaxed));
        ENDS.iter().map(|(_, word)| *word).zip(counts)
    }

    /// How long they took, from being let in to their end.
    pub fn times(&self) -> Times {
        let mut count = 0;
        let mut so_far = self.took.iter().map(|took| {
            count += took.load(Ordering::Relaxed);
            count
        });
        let within = WITHIN.map(Duration::from_millis);
        let within = within.into_iter().zip(so_far.by_ref()).collect();
        let all = so_far.last().unwrap_or_default();
        Times {
            within,
            count: all,
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_counts_once_by_its_end_and_within_every_bound_that_it_kept() {
        let figures = Figures::default();
        for (status, millis) in [
            (None, 2),
            (None, 3),
            (Some(Status::TimedOut), 10_000),
            (Some(Status::Internal), 10_001),
        ] {
            figures.count(status, Duration::from_millis(millis));
        }
        let ended: Vec<_> = figures.ended().filter(|(_, count)| *count > 0).collect();
        assert_eq!(ended, [("OK", 2), ("TO", 1), ("XX", 1)]);
        let times = figures.times();
        let within = |millis| {
            let bound = Duration::from_millis(millis);
            times
                .within
                .iter()
                .find(|(known, _)| *known == bound)
                .map(|(_, count)| *count)
        };
        assert_eq!(
            [within(2), within(5), within(5000), within(10_000)],
            [1, 2, 2, 3].map(Some)
        );
        assert_eq!((times.count, times.sum), (4, Duration::from_millis(20_006)));
    }
}
