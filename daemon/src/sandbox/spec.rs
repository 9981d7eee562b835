//! What to run and how it ended, as plain data; no behaviour.

use std::os::fd::OwnedFd;
use std::time::Duration;

use piston_client::units::Bytes;
use serde::{Deserialize, Serialize};

/// One of the places in which jobs run at once: decides the host uid of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(pub u32);

/// What to run, as plain data; sent to the sandbox's init in a memfd.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Path of the view below the filesystem's root, e.g. `views/python/3.11.2`.
    pub view: String,
    /// Program (an absolute path in the view, or relative to the job directory) and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Limits that the kernel enforces through rlimits.
    pub rlimits: Rlimits,
    /// Limits on the sums over all its processes.
    pub tree: TreeLimits,
    /// Which slot it runs in.
    pub slot: u32,
}

/// The part of the limits that become rlimits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimits {
    /// `RLIMIT_CPU` in seconds, rounded up.
    pub cpu_seconds: u64,
    /// `RLIMIT_DATA` in bytes.
    pub data_bytes: u64,
    /// `RLIMIT_NPROC`, counted in the job's own user namespace.
    pub processes: u64,
    /// `RLIMIT_NOFILE`.
    pub open_files: u64,
    /// `RLIMIT_FSIZE` in bytes.
    pub file_size: u64,
}

/// What all processes of a stage may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeLimits {
    /// Bytes of memory.
    pub memory: u64,
    /// Nanoseconds of processor time.
    pub cpu: u64,
}

/// Which limits the control groups of jobs enforce on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Controllers {
    /// Memory is limited and counted.
    pub memory: bool,
    /// Processes are limited.
    pub pids: bool,
    /// Processor time is counted.
    pub cpu: bool,
}

/// The limits that init has to watch itself, by looking at the processes of its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Watched {
    /// Bytes of memory.
    pub(super) memory: Option<u64>,
    /// Nanoseconds of processor time.
    pub(super) cpu: Option<u64>,
}

impl TreeLimits {
    /// What is left to watch where `groups` do their part.
    pub(super) fn without(self, groups: Controllers) -> Watched {
        Watched {
            memory: (!groups.memory).then_some(self.memory),
            cpu: (!groups.cpu).then_some(self.cpu),
        }
    }
}

impl Rlimits {
    /// These limits where `groups` do their part: `RLIMIT_DATA` counts memory that a program never
    /// touches, and is only a substitute.
    pub(super) fn without(self, groups: Controllers) -> Self {
        Self {
            data_bytes: if groups.memory {
                u64::MAX
            } else {
                self.data_bytes
            },
            ..self
        }
    }
}

/// A limit on a sum that a stage exceeded, for which its tree was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// Memory.
    Memory,
    /// Processor time.
    CpuTime,
}

/// Standard streams of a stage.
#[derive(Debug)]
pub struct Stdio {
    /// Read end for the program.
    pub stdin: OwnedFd,
    /// Write end for the program.
    pub stdout: OwnedFd,
    /// Write end for the program.
    pub stderr: OwnedFd,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// Exit code.
    Exited(i32),
    /// Signal number.
    Signalled(i32),
}

/// What is known of a stage when its last process is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// How the program itself ended.
    pub ended: Ended,
    /// The limit for which its tree was killed.
    pub over: Option<Over>,
    /// From the program's start to its end.
    pub wall_time: Duration,
    /// User and system time of every process of the tree, save for children that their parent
    /// told the kernel to discard (`SIGCHLD` ignored): only a cgroup counts those.
    pub cpu_time: Duration,
    /// Peak memory of the tree: the highest sum seen of what its processes held besides files, and
    /// at least the peak resident memory of the largest one.
    pub memory: Bytes,
}
