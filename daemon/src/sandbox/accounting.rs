//! Who counts what a stage uses: its control group where there is one, else init's tally alone.
//!
//! The kernel holds a group to its memory and its processes by itself. Processor time has to be
//! looked at: as seldom as the time that is left allows, so a job that ends early costs nothing.
//! What both have counted is settled here into one set of figures.

use std::num::NonZero;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use piston_client::units::Bytes;

use super::cgroup::{Bounds, Entry, FileError, Group, Groups, OutOfMemory};
use super::error::SandboxError;
use super::spec::{Exit, Over, Spec};

/// How often a group of version 1 is asked whether the kernel has begun to kill in it.
const INTERVAL: Duration = Duration::from_millis(20);

/// The least that a group is held to. With less a program does not start, or it does nothing but
/// read its own pages again and again, which the kernel does not end: `CPython` spends its time so
/// with 4 MiB. A stage with a lower limit gets this much, and is judged by what it has used.
const LEAST_MEMORY: u64 = 16 << 20;

/// The least time between two looks.
const LEAST: Duration = Duration::from_millis(2);

/// Who counts one stage.
#[derive(Debug)]
pub(super) enum Accounting {
    /// Init, by looking at its processes.
    Init,
    /// A control group, and init what the group does not.
    Group {
        /// The group.
        group: Group,
        /// Processor time that the stage may use.
        cpu: Duration,
        /// Bytes of memory that it may use.
        memory: u64,
    },
}

impl Accounting {
    /// For a stage that is about to start.
    pub(super) fn begin(groups: Option<&Groups>, spec: &Spec) -> Result<Self, SandboxError> {
        let Some(groups) = groups else {
            return Ok(Self::Init);
        };
        let bounds = Bounds {
            memory: spec.tree.memory.max(LEAST_MEMORY),
            processes: spec.rlimits.processes,
        };
        Ok(Self::Group {
            group: groups.take(bounds)?,
            cpu: Duration::from_nanos(spec.tree.cpu),
            memory: spec.tree.memory,
        })
    }

    /// How the program gets to where it is counted.
    pub(super) fn entry(&self) -> Entry<BorrowedFd<'_>> {
        match self {
            Self::Init => Entry::none(),
            Self::Group { group, .. } => group.entry(),
        }
    }

    /// Returns when the tree has to be killed, and never when there is nothing to look for.
    pub(super) async fn exceeded(&self) {
        match self {
            Self::Init => {}
            Self::Group { group, cpu, .. } => match watch(group, *cpu).await {
                Ok(()) => return,
                // The wall time limit ends the job all the same.
                Err(error) => {
                    tracing::error!(error = crate::error::chain(&error), "a job is not watched");
                }
            },
        }
        std::future::pending::<()>().await;
    }

    /// The figures of a stage that is dead, of which init says `exit`.
    pub(super) fn settle(&self, exit: Exit) -> Result<Exit, SandboxError> {
        let Self::Group { group, cpu, memory } = self else {
            return Ok(exit);
        };
        let usage = group.usage()?;
        let cpu_time = usage.cpu.unwrap_or(exit.cpu_time);
        let system_time = usage.system.unwrap_or(exit.system_time);
        let over = match usage.killed {
            OutOfMemory::OwnLimit => Some(Over::Memory),
            OutOfMemory::Elsewhere => return Err(SandboxError::OutOfMemory),
            OutOfMemory::No if *memory < LEAST_MEMORY && usage.memory > Some(*memory) => {
                Some(Over::Memory)
            }
            OutOfMemory::No => (cpu_time >= *cpu).then_some(Over::CpuTime),
        };
        Ok(Exit {
            over: over.or(exit.over),
            cpu_time,
            // Both are counted by ticks in places.
            system_time: system_time.min(cpu_time),
            memory: usage.memory.map_or(exit.memory, Bytes),
            ..exit
        })
    }
}

/// Looks at a group until it is over its limits.
async fn watch(group: &Group, limit: Duration) -> Result<(), FileError> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let mut used = Duration::ZERO;
    loop {
        // No sooner than with all processors at it.
        let rest = limit.saturating_sub(used) / processors;
        let pause = if group.may_be_decimated() {
            rest.min(INTERVAL)
        } else {
            rest
        };
        tokio::time::sleep(pause.max(LEAST)).await;
        used = match group.cpu()? {
            Some(used) => used,
            // Init's.
            None => Duration::ZERO,
        };
        if used >= limit || group.is_decimated()? {
            return Ok(());
        }
    }
}
