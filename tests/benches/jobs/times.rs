//! Times of one subject, and how they are told.

use std::time::{Duration, Instant};

/// Times in the order measured.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Measures an action.
    pub(crate) fn measure<T>(&mut self, action: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = action();
        self.0.push(start.elapsed());
        result
    }

    /// Adds a time.
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time below which `percent` of them lie, in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len().max(1) - 1) * percent / 100;
        sorted.get(at).map_or(f64::NAN, Duration::as_secs_f64) * 1e6
    }

    /// The median in microseconds.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// Prints them.
    pub(crate) fn report(&self, name: &str) {
        let [p10, p50, p90, p99] = [10, 50, 90, 99].map(|percent| self.percentile(percent));
        println!(
            "  {name:<34} p10 {p10:8.0}   p50 {p50:8.0}   p90 {p90:8.0}   p99 {p99:8.0} us   n {}",
            self.0.len()
        );
    }
}

/// Runs every subject once in each round, a few rounds unmeasured first.
pub(crate) fn alternate(rounds: usize, subjects: &mut [(&str, &mut dyn FnMut())]) -> Vec<Times> {
    let mut times: Vec<Times> = subjects.iter().map(|_| Times::default()).collect();
    for round in 0..rounds + 10 {
        for ((_, action), times) in subjects.iter_mut().zip(&mut times) {
            if round < 10 {
                action();
            } else {
                times.measure(&mut *action);
            }
        }
    }
    for ((name, _), times) in subjects.iter().zip(&times) {
        times.report(name);
    }
    times
}
