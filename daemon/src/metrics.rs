//! Figures of the daemon in the `OpenMetrics` text form.
//!
//! Owns the form alone: nothing is counted here. Whoever has figures writes them as families when
//! they are asked for, from the counters it keeps anyway, so that nothing is counted twice.
//! Invariant: what [`Exposition::finish`] gives is one valid exposition whatever names of packages
//! and labels hold.

use std::fmt::Write as _;
use std::time::Duration;

/// Content type of an exposition.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every name begins with it.
const PREFIX: &str = "piston_";

/// What a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its samples are called `NAME_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// How long things took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// Bounds, growing, and how many things were within each.
    pub within: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// How long they took together.
    pub sum: Duration,
}

/// An exposition being written.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// Samples of one name.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    suffix: &'static str,
}

impl Exposition {
    /// Begins a family. `name` is without the prefix, and ends with its unit where it has one;
    /// `help` is one sentence.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let (word, suffix) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        let text = &mut self.0;
        put(text, format_args!("# TYPE {PREFIX}{name} {word}\n"));
        if name.ends_with("_bytes") {
            put(text, format_args!("# UNIT {PREFIX}{name} bytes\n"));
        }
        put(
            text,
            format_args!("# HELP {PREFIX}{name} {}\n", escaped(help)),
        );
        Family { text, name, suffix }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// A family of times, whose `name` ends with `_seconds`.
    pub fn times(&mut self, name: &'static str, help: &str, times: &Times) {
        let Times { within, count, sum } = times;
        let text = &mut self.0;
        put(
            text,
            format_args!("# TYPE {PREFIX}{name} histogram\n# UNIT {PREFIX}{name} seconds\n"),
        );
        put(
            text,
            format_args!("# HELP {PREFIX}{name} {}\n", escaped(help)),
        );
        for (bound, count) in within {
            let bound = bound.as_secs_f64();
            put(
                text,
                format_args!("{PREFIX}{name}_bucket{{le=\"{bound:?}\"}} {count}\n"),
            );
        }
        put(
            text,
            format_args!("{PREFIX}{name}_bucket{{le=\"+Inf\"}} {count}\n"),
        );
        let sum = sum.as_secs_f64();
        put(
            text,
            format_args!("{PREFIX}{name}_count {count}\n{PREFIX}{name}_sum {sum:?}\n"),
        );
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

impl Family<'_> {
    /// One sample. Each has to have other labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: u64) -> &mut Self {
        put(
            self.text,
            format_args!("{PREFIX}{}{}", self.name, self.suffix),
        );
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            put(
                self.text,
                format_args!("{before}{label}=\"{}\"", escaped(text)),
            );
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        put(self.text, format_args!(" {value}\n"));
        self
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_openmetrics_has_them() {
        let mut exposition = Exposition::default();
        exposition
            .family("cache_hits", Kind::Counter, "Hits.")
            .sample(&[("package", "a\\b\"c\nd"), ("level", "output")], 3)
            .sample(&[("package", "gcc"), ("level", "binary")], 4);
        exposition.single("cache_bytes", Kind::Gauge, "Bytes.", 5);
        let times = Times {
            within: vec![(Duration::from_millis(5), 1), (Duration::from_secs(1), 3)],
            count: 4,
            sum: Duration::from_millis(2500),
        };
        exposition.times("job_seconds", "Times.", &times);
        let expected = r#"# TYPE piston_cache_hits counter
# HELP piston_cache_hits Hits.
piston_cache_hits_total{package="a\\b\"c\nd",level="output"} 3
piston_cache_hits_total{package="gcc",level="binary"} 4
# TYPE piston_cache_bytes gauge
# UNIT piston_cache_bytes bytes
# HELP piston_cache_bytes Bytes.
piston_cache_bytes 5
# TYPE piston_job_seconds histogram
# UNIT piston_job_seconds seconds
# HELP piston_job_seconds Times.
piston_job_seconds_bucket{le="0.005"} 1
piston_job_seconds_bucket{le="1.0"} 3
piston_job_seconds_bucket{le="+Inf"} 4
piston_job_seconds_count 4
piston_job_seconds_sum 2.5
# EOF
"#;
        assert_eq!(exposition.finish(), expected);
    }
}
