//! The limits of one stage, every one with a value, and the rule that gives them.
//!
//! One rule: the operator's entry for the runtime ([`super::runners`], then `[limits.override]` of
//! the configuration), else the package's `limit_overrides`, else the general default; never above
//! the operator's maximum; a request may only lower.
//! [`LimitPolicy`] is what the configuration says, [`super::runners::Rules::terms`] applies it to
//! a runtime, [`RuntimeLimits::lower`] lets a request lower the result. Enforcement is elsewhere: wall time
//! and output in [`super::stage`], the rest in [`crate::sandbox`].

use std::collections::BTreeMap;
use std::time::Duration;

use piston_client::api;
use piston_client::units::{Bytes, Millis};

use crate::packages::ProvidedRuntime;
use crate::packages::info::LIMIT_NAMES;
use crate::sandbox::{Rlimits, TreeLimits};

/// What `RLIMIT_DATA` is above the memory limit, where no control group counts memory. It counts
/// what a program reserves: Go and Java start only with hundreds of MiB that they never touch.
/// What is touched is looked at, and is what decides; this bounds a process between two looks.
const DATA_HEADROOM: u64 = 512 << 20;

/// Limits in force for one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time on the clock, from the program's start.
    pub wall_time: Duration,
    /// Time on the processors, summed over the process tree.
    pub cpu_time: Duration,
    /// Memory of the process tree.
    pub memory: Bytes,
    /// Bytes kept of each of stdout and stderr.
    pub output: Bytes,
    /// Processes and threads alive at once.
    pub processes: u64,
    /// Open descriptors of one process.
    pub open_files: u64,
    /// Length of one file that the program writes.
    pub file_size: Bytes,
    /// Bytes in the job directory, `/tmp` and `/dev/shm` together.
    pub disk: Bytes,
}

impl Limits {
    /// Memory that a stage may need: its processes' and its workspace's.
    pub fn all_memory(&self) -> Bytes {
        Bytes(self.memory.0.saturating_add(self.disk.0))
    }
}

/// One value for each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages<T> {
    /// Of the compile stage.
    pub compile: T,
    /// Of the run stage.
    pub run: T,
}

/// What the operator set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitPolicy {
    /// General defaults.
    pub defaults: Stages<Limits>,
    /// What no job gets more of.
    pub max: Limits,
    /// The operator's entries by language.
    pub overrides: BTreeMap<String, Overrides>,
    /// How v2 differs.
    pub v2: V2Limits,
}

/// What v2 requests see instead of the general defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V2Limits {
    /// Bytes kept of each of stdout and stderr.
    pub output: Bytes,
    /// The memory that the operator configured; without it v2 checks no ceiling.
    pub memory: Stages<Option<Bytes>>,
}

/// Some of the limits of each stage, set for one language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overrides(pub Stages<api::Limits>);

/// Why a table of limits by the released Piston's names is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a limit, expected one of {known}", known = LIMIT_NAMES.join(", "))]
pub struct UnknownLimit(pub String);

impl Overrides {
    /// Reads limits by the released Piston's names. A negative number means "none" there: the
    /// operator's maximum here, save for memory, where it means the default.
    pub fn from_released(given: &BTreeMap<String, i64>) -> Result<Self, UnknownLimit> {
        let mut stages = Stages::<api::Limits>::default();
        for (name, value) in given {
            let number = u64::try_from(*value).unwrap_or(u64::MAX);
            let known_memory = u64::try_from(*value).ok().map(Bytes);
            let (compile, run) = (&mut stages.compile, &mut stages.run);
            match name.as_str() {
                "compile_timeout" => compile.wall_time_ms = Some(Millis(number)),
                "run_timeout" => run.wall_time_ms = Some(Millis(number)),
                "compile_cpu_time" => compile.cpu_time_ms = Some(Millis(number)),
                "run_cpu_time" => run.cpu_time_ms = Some(Millis(number)),
                "compile_memory_limit" => compile.memory_bytes = known_memory,
                "run_memory_limit" => run.memory_bytes = known_memory,
                "max_process_count" => stages.each(|stage| stage.processes = Some(number)),
                "max_open_files" => stages.each(|stage| stage.open_files = Some(number)),
                "max_file_size" => stages.each(|stage| stage.file_size_bytes = Some(Bytes(number))),
                "output_max_size" => stages.each(|stage| stage.output_bytes = Some(Bytes(number))),
                _ => return Err(UnknownLimit(name.clone())),
            }
        }
        Ok(Self(stages))
    }
}

impl<T> Stages<T> {
    fn each(&mut self, mut change: impl FnMut(&mut T)) {
        change(&mut self.compile);
        change(&mut self.run);
    }
}

/// What a runtime's jobs get when the request asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeLimits {
    /// Limits of each stage.
    pub stages: Stages<Limits>,
    /// What the operator or the package set by name, before the general defaults.
    pub set: Stages<api::Limits>,
}

/// Why a request's limits are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Above what the runtime gives.
    #[error("`{field}` is {asked}, the most for this runtime is {maximum}")]
    TooHigh {
        /// The field of the request.
        field: String,
        /// What it says, with its unit.
        asked: String,
        /// What it may say at most, with its unit.
        maximum: String,
    },
    /// Nothing can run with it.
    #[error("`{field}` is 0, the least is 1")]
    Zero {
        /// The field of the request.
        field: String,
    },
}

impl LimitPolicy {
    /// The limits of a runtime's jobs, where `operator` is what [`super::runners`] says of it.
    ///
    /// A package's override that this version does not know is passed over: it was made for a
    /// newer Piston, and the general default is still a limit.
    pub(super) fn for_runtime(
        &self,
        runtime: &ProvidedRuntime,
        operator: Stages<api::Limits>,
    ) -> RuntimeLimits {
        let package = runtime.limits.iter().filter_map(|(name, value)| {
            Overrides::from_released(&BTreeMap::from([(name.clone(), *value)])).ok()
        });
        let mut set = Stages::default();
        for Overrides(stages) in package {
            set = stacked(set, stages);
        }
        if let Some(Overrides(general)) = self.overrides.get(runtime.language.as_str()) {
            set = stacked(set, *general);
        }
        set = stacked(set, operator);
        let give = |base: Limits, set: &api::Limits| base.with(set).at_most(&self.max);
        let stages = Stages {
            compile: give(self.defaults.compile, &set.compile),
            run: give(self.defaults.run, &set.run),
        };
        RuntimeLimits { stages, set }
    }
}

/// `upper`'s limits where it has them, else `lower`'s.
pub(super) fn stacked(
    lower: Stages<api::Limits>,
    upper: Stages<api::Limits>,
) -> Stages<api::Limits> {
    let one = |lower: api::Limits, upper: api::Limits| api::Limits {
        wall_time_ms: upper.wall_time_ms.or(lower.wall_time_ms),
        cpu_time_ms: upper.cpu_time_ms.or(lower.cpu_time_ms),
        memory_bytes: upper.memory_bytes.or(lower.memory_bytes),
        output_bytes: upper.output_bytes.or(lower.output_bytes),
        processes: upper.processes.or(lower.processes),
        open_files: upper.open_files.or(lower.open_files),
        file_size_bytes: upper.file_size_bytes.or(lower.file_size_bytes),
        disk_bytes: upper.disk_bytes.or(lower.disk_bytes),
    };
    Stages {
        compile: one(lower.compile, upper.compile),
        run: one(lower.run, upper.run),
    }
}

impl RuntimeLimits {
    /// Lowers the limits to what a request asks for.
    pub fn lower(&self, request: &api::StageLimits) -> Result<Stages<Limits>, LimitError> {
        Ok(Stages {
            compile: self
                .stages
                .compile
                .lowered("limits.compile", &request.compile)?,
            run: self.stages.run.lowered("limits.run", &request.run)?,
        })
    }
}

impl Limits {
    /// These limits with the given ones in their place.
    #[must_use]
    pub fn with(self, given: &api::Limits) -> Self {
        Self {
            wall_time: given.wall_time_ms.map_or(self.wall_time, Duration::from),
            cpu_time: given.cpu_time_ms.map_or(self.cpu_time, Duration::from),
            memory: given.memory_bytes.unwrap_or(self.memory),
            output: given.output_bytes.unwrap_or(self.output),
            processes: given.processes.unwrap_or(self.processes),
            open_files: given.open_files.unwrap_or(self.open_files),
            file_size: given.file_size_bytes.unwrap_or(self.file_size),
            disk: given.disk_bytes.unwrap_or(self.disk),
        }
    }

    /// These limits, each at most as high as `max`'s.
    #[must_use]
    pub fn at_most(self, max: &Self) -> Self {
        Self {
            wall_time: self.wall_time.min(max.wall_time),
            cpu_time: self.cpu_time.min(max.cpu_time),
            memory: self.memory.min(max.memory),
            output: self.output.min(max.output),
            processes: self.processes.min(max.processes),
            open_files: self.open_files.min(max.open_files),
            file_size: self.file_size.min(max.file_size),
            disk: self.disk.min(max.disk),
        }
    }

    /// In the wire's units, every field set.
    pub fn as_wire(&self) -> api::Limits {
        api::Limits {
            wall_time_ms: Some(self.wall_time.into()),
            cpu_time_ms: Some(self.cpu_time.into()),
            memory_bytes: Some(self.memory),
            output_bytes: Some(self.output),
            processes: Some(self.processes),
            open_files: Some(self.open_files),
            file_size_bytes: Some(self.file_size),
            disk_bytes: Some(self.disk),
        }
    }

    /// These limits, lowered to what is asked for in the field `stage`.
    pub fn lowered(self, stage: &str, asked: &api::Limits) -> Result<Self, LimitError> {
        let own = numbers(&self.as_wire());
        for ((name, maximum), (_, asked)) in own.into_iter().zip(numbers(asked)) {
            let (Some(asked), Some(maximum)) = (asked, maximum) else {
                continue;
            };
            let field = || format!("{stage}.{name}");
            if asked > maximum {
                return Err(LimitError::TooHigh {
                    field: field(),
                    asked: in_words(name, asked),
                    maximum: in_words(name, maximum),
                });
            }
            // No output at all is a fair wish; a tmpfs of size 0 would be one without a bound.
            if asked == 0 && name != "output_bytes" {
                return Err(LimitError::Zero { field: field() });
            }
        }
        Ok(self.with(asked))
    }
}

/// The part that the kernel enforces.
impl From<&Limits> for TreeLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            memory: limits.memory.0,
            cpu: u64::try_from(limits.cpu_time.as_nanos()).unwrap_or(u64::MAX),
            wall: u64::try_from(limits.wall_time.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl From<&Limits> for Rlimits {
    fn from(limits: &Limits) -> Self {
        let part = u64::from(limits.cpu_time.subsec_nanos() > 0);
        Self {
            // One more: the sum over the tree is what decides, and it has to be seen first, so
            // that a SIGXCPU that a program sends itself is never taken for a limit.
            cpu_seconds: limits.cpu_time.as_secs().saturating_add(part + 1),
            data_bytes: limits.memory.0.saturating_add(DATA_HEADROOM),
            processes: limits.processes,
            open_files: limits.open_files,
            file_size: limits.file_size.0,
        }
    }
}

/// The limits by their field names, in one order.
pub fn numbers(limits: &api::Limits) -> [(&'static str, Option<u64>); 8] {
    [
        ("wall_time_ms", limits.wall_time_ms.map(|time| time.0)),
        ("cpu_time_ms", limits.cpu_time_ms.map(|time| time.0)),
        ("memory_bytes", limits.memory_bytes.map(|size| size.0)),
        ("output_bytes", limits.output_bytes.map(|size| size.0)),
        ("processes", limits.processes),
        ("open_files", limits.open_files),
        ("file_size_bytes", limits.file_size_bytes.map(|size| size.0)),
        ("disk_bytes", limits.disk_bytes.map(|size| size.0)),
    ]
}

/// A limit of [`numbers`] for people: in the largest unit that says it exactly.
pub fn in_words(name: &str, number: u64) -> String {
    let (units, smallest): (&[(u64, &str)], _) = match name.rsplit_once('_') {
        Some((_, "ms")) => (&[(1000, "s")], "ms"),
        Some((_, "bytes")) => (
            &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
            "bytes",
        ),
        _ => return number.to_string(),
    };
    let is_whole = |unit: u64| number > 0 && number.is_multiple_of(unit);
    let whole = units.iter().find(|(unit, _)| is_whole(*unit));
    let (unit, word) = whole.copied().unwrap_or((1, smallest));
    format!("{} {word}", number / unit)
}

#[cfg(test)]
mod tests;
