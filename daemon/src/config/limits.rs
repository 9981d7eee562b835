//! The `[limits]` sections: built-in defaults, and every stage within the maximum.

use std::collections::BTreeMap;
use std::time::Duration;

use piston_client::api;
use piston_client::ids::Language;
use piston_client::units::Bytes;

use super::BadValue;
use super::raw::{Raw, RawStage};
use crate::job::limits::{LimitPolicy, Limits, Overrides, Stages, V2Limits, in_words, numbers};

/// What a run stage gets when nobody says otherwise (jobs.md, Limits).
pub(crate) const RUN: Limits = Limits {
    wall_time: Duration::from_secs(3),
    cpu_time: Duration::from_secs(3),
    memory: Bytes::mib(512),
    output: Bytes::mib(1),
    processes: 64,
    open_files: 2048,
    file_size: Bytes(10_000_000),
    disk: Bytes::mib(64),
};

/// The same for a compile stage.
const COMPILE: Limits = Limits {
    wall_time: Duration::from_secs(10),
    cpu_time: Duration::from_secs(10),
    ..RUN
};

/// What no job gets more of.
const MAX: Limits = Limits {
    wall_time: Duration::from_mins(1),
    cpu_time: Duration::from_mins(1),
    memory: Bytes::mib(2048),
    output: Bytes::mib(16),
    processes: 1024,
    open_files: 65_536,
    file_size: Bytes::mib(1024),
    disk: Bytes::mib(1024),
};

const V2_OUTPUT: Bytes = Bytes(1024);

/// The file's names of the limits, in the order of [`numbers`].
pub(super) const KEYS: [&str; 8] = [
    "wall_time",
    "cpu_time",
    "memory",
    "output",
    "processes",
    "open_files",
    "file_size",
    "disk",
];

/// Resolves the limits of a source.
pub(super) fn resolve(raw: &Raw) -> Result<LimitPolicy, BadValue> {
    let limits = &raw.limits;
    let max = MAX.with(&given(&limits.max));
    let stage = |name, base: Limits, raw: &RawStage| {
        // A built-in default gives way to a low maximum; a value that somebody wrote does not.
        bounded(name, base.at_most(&max).with(&given(raw)), &max)
    };
    check_least("max", &max)?;
    let output = raw.v2.output.map_or(V2_OUTPUT, |size| size.0);
    if output > max.output {
        let message = above("output", ("output_bytes", output.0), max.output.0);
        return Err(BadValue::new(&["v2", "output"], message));
    }
    Ok(LimitPolicy {
        defaults: Stages {
            compile: stage("compile", COMPILE, &limits.compile)?,
            run: stage("run", RUN, &limits.run)?,
        },
        overrides: overrides(&limits.overrides)?,
        v2: V2Limits {
            output,
            memory: Stages {
                compile: limits.compile.memory.map(|size| size.0),
                run: limits.run.memory.map(|size| size.0),
            },
        },
        max,
    })
}

pub(super) fn given(raw: &RawStage) -> api::Limits {
    api::Limits {
        wall_time_ms: raw.wall_time.map(|time| time.0),
        cpu_time_ms: raw.cpu_time.map(|time| time.0),
        memory_bytes: raw.memory.map(|size| size.0),
        output_bytes: raw.output.map(|size| size.0),
        processes: raw.processes,
        open_files: raw.open_files,
        file_size_bytes: raw.file_size.map(|size| size.0),
        disk_bytes: raw.disk.map(|size| size.0),
    }
}

/// Refuses a stage that is above the maximum, rather than lowering it in silence.
fn bounded(stage: &str, limits: Limits, max: &Limits) -> Result<Limits, BadValue> {
    check_least(stage, &limits)?;
    let pairs = numbers(&limits.as_wire())
        .into_iter()
        .zip(numbers(&max.as_wire()));
    for (key, ((name, value), (_, most))) in KEYS.iter().zip(pairs) {
        if let (Some(value), Some(most)) = (value, most)
            && value > most
        {
            let message = above(key, (name, value), most);
            return Err(BadValue::new(&["limits", stage, key], message));
        }
    }
    Ok(limits)
}

/// What is said of a limit, by its `key` in the file and its name on the wire, that is above the
/// maximum.
pub(super) fn above(key: &str, (name, value): (&str, u64), most: u64) -> String {
    let (value, most) = (in_words(name, value), in_words(name, most));
    format!("{value} is above limits.max.{key}, {most}")
}

fn check_least(stage: &str, limits: &Limits) -> Result<(), BadValue> {
    for (key, (_, value)) in KEYS.iter().zip(numbers(&limits.as_wire())) {
        if value == Some(0) {
            return Err(BadValue::new(
                &["limits", stage, key],
                "0 is not a limit, the least is 1",
            ));
        }
    }
    Ok(())
}

fn overrides(
    given: &BTreeMap<String, BTreeMap<String, i64>>,
) -> Result<BTreeMap<String, Overrides>, BadValue> {
    let one = |(language, limits): (&String, &BTreeMap<String, i64>)| {
        let key = ["limits", "override", language.as_str()];
        language
            .parse::<Language>()
            .map_err(|error| BadValue::new(&key, error.to_string()))?;
        let overrides = Overrides::from_released(limits)
            .map_err(|error| BadValue::new(&key, error.to_string()))?;
        Ok((language.clone(), overrides))
    };
    given.iter().map(one).collect()
}
