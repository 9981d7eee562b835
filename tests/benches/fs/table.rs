//! The printed table: medians, ratios, targets, verdicts.

use std::fmt::Write as _;
use std::time::Duration;

use crate::subject::Subject;

/// How many targets were met and how many were missed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Verdict {
    pub(crate) met: usize,
    pub(crate) missed: usize,
}

impl Verdict {
    fn of(met: bool) -> Self {
        Self {
            met: usize::from(met),
            missed: usize::from(!met),
        }
    }
}

impl FromIterator<Self> for Verdict {
    fn from_iter<I: IntoIterator<Item = Self>>(verdicts: I) -> Self {
        let add = |sum: Self, one: Self| Self {
            met: sum.met + one.met,
            missed: sum.missed + one.missed,
        };
        verdicts.into_iter().fold(Self::default(), add)
    }
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Micros,
    Millis,
    Bytes,
    Ratio,
}

/// One figure with the most that it may be, where that is its own affair.
#[derive(Debug)]
pub(crate) struct Figure {
    what: String,
    value: f64,
    unit: Unit,
    bound: Option<f64>,
}

impl Figure {
    /// A figure that only says why others are what they are.
    pub(crate) fn told(what: &str, value: f64, unit: Unit) -> Self {
        Self {
            what: what.to_owned(),
            value,
            unit,
            bound: None,
        }
    }

    pub(crate) fn new(what: &str, value: f64, unit: Unit, bound: f64) -> Self {
        Self {
            what: what.to_owned(),
            value,
            unit,
            bound: Some(bound),
        }
    }

    /// Prints it as a line of a row.
    pub(crate) fn print(&self, row: &str) -> Verdict {
        let with_unit = |value: f64| match self.unit {
            Unit::Micros => format!("{value:.1} us"),
            Unit::Millis => format!("{value:.1} ms"),
            Unit::Bytes => format!("{value:.0} bytes"),
            Unit::Ratio => format!("{value:.2}"),
        };
        let what = format!("{row:<12} {}: {}", self.what, with_unit(self.value));
        let Some(bound) = self.bound else {
            println!("{what}");
            return Verdict::default();
        };
        let met = self.value <= bound;
        println!("{what} (at most {})  {}", with_unit(bound), word(met));
        Verdict::of(met)
    }
}

fn word(met: bool) -> &'static str {
    if met { "ok" } else { "MISSED" }
}

/// The middle of some times, in seconds.
pub(crate) fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// Prints what stands above the columns of [`print`].
pub(crate) fn print_head() {
    println!(
        "{:<12} {:>9} {:>9} {:>9} {:>9}   {:>6} {:>6} {:>6}   {:>8}   targets",
        "ms", "ours", "ext4", "kernel", "fuse pair", "/ext4", "/kern", "/pair", "requests"
    );
}

/// Requests to our server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    /// In a cold round: as many as it takes.
    Cold(u64),
    /// In all warm rounds: none that a cache should have answered.
    Warm(u64),
}

/// Prints a row of all subjects: against the fuse pair every row has to be better.
pub(crate) fn print(
    name: &str,
    times: &[Vec<Duration>; 5],
    asked: Asked,
    bounds: &[(Subject, f64)],
) -> Verdict {
    let middle = |mut times: Vec<_>| {
        if times.is_empty() {
            0.0
        } else {
            median(&mut times)
        }
    };
    let medians = times.clone().map(middle);
    let [ours, plain, kernel, pair, bare] = medians;
    let mut verdicts = Vec::new();
    let mut targets = String::new();
    for &(rival, bound) in bounds.iter().chain(&[(Subject::Pair, 1.0)]) {
        let (time, name) = match rival {
            Subject::Ours => (ours, "itself"),
            Subject::Plain => (plain, "ext4"),
            Subject::Kernel => (kernel, "kernel"),
            Subject::Pair => (pair, "pair"),
            Subject::Bare => (bare, "never asked"),
        };
        let met = ours / time <= bound;
        verdicts.push(Verdict::of(met));
        write!(targets, "{name} {bound:.2} {}", word(met)).expect("memory");
        if rival == Subject::Bare {
            write!(targets, " ({:.2})", ours / time).expect("memory");
        }
        if rival == Subject::Kernel && plain / time > bound {
            // The program's own work is the rest, so no filesystem could.
            write!(targets, " (ext4 itself {:.2})", plain / time).expect("memory");
        }
        targets += "  ";
    }
    let (Asked::Cold(requests) | Asked::Warm(requests)) = asked;
    if let Asked::Warm(requests) = asked {
        verdicts.push(Verdict::of(requests == 0));
        targets += "no request ";
        targets += word(requests == 0);
    }
    let [ours_ms, plain_ms, kernel_ms, pair_ms, _] = medians.map(|median| median * 1e3);
    println!(
        "{name:<12} {ours_ms:9.2} {plain_ms:9.2} {kernel_ms:9.2} {pair_ms:9.2}   {:6.2} {:6.2} \
         {:6.2}   {requests:>8}   {}",
        ours / plain,
        ours / kernel,
        ours / pair,
        targets.trim_end()
    );
    verdicts.into_iter().collect()
}
