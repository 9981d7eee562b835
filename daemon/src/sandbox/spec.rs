//! What to run and how it ended, as plain data; no behaviour.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use piston_client::api::Network;
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
    /// What it may do that others may not.
    pub grants: Grants,
    /// The size of the terminal that it gets instead of its standard streams; none for the streams.
    pub terminal: Option<Window>,
}

/// What the operator lets a job do that jobs may not otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grants {
    /// Which network it sees.
    pub network: Network,
    /// System calls that are allowed besides.
    pub calls: BTreeSet<Relaxation>,
}

/// A group of system calls that the operator may allow; all others stay as they are for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relaxation {
    /// `inotify`. Jobs of one package then see each other use its files.
    Inotify,
    /// `io_uring`.
    IoUring,
    /// Sockets to the kernel (`AF_NETLINK`), by which programs list network devices.
    Netlink,
    /// Placement of memory on NUMA nodes.
    Numa,
    /// `perf_event_open`, as far as the host's `perf_event_paranoid` lets it.
    PerfEvents,
    /// Shared memory, semaphores and queues of System V: memory that no limit counts without a
    /// memory controller.
    SysvIpc,
    /// Nested namespaces and mounts in them. Landlock's rules for files are off then.
    UserNamespaces,
    /// `userfaultfd`.
    Userfaultfd,
}

/// The size of a terminal's window, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
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
    /// Nanoseconds on the clock, from the program's start.
    pub wall: u64,
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

/// The limits that init has to watch itself: the time, and what it has to look at the processes of
/// its tree for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watched {
    /// Nanoseconds on the clock, from the program's start.
    pub(super) wall: u64,
    /// Bytes of memory.
    pub(super) memory: Option<u64>,
    /// Nanoseconds of processor time.
    pub(super) cpu: Option<u64>,
}

impl TreeLimits {
    /// What is left to watch where `groups` do their part.
    pub(super) fn without(self, groups: Controllers) -> Watched {
        Watched {
            wall: self.wall,
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

/// A limit that a stage as a whole exceeded, for which its tree was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// Memory.
    Memory,
    /// Processor time.
    CpuTime,
    /// Time on the clock.
    WallTime,
}

/// Standard streams of a stage. One that gets a terminal does not use them.
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
    /// User and system time of every process of the tree. Of children that their parent told the
    /// kernel to discard (`SIGCHLD` ignored) it is what was seen of them while they lived, or all of
    /// it with a control group that counts.
    pub cpu_time: Duration,
    /// What of that was in the kernel.
    pub system_time: Duration,
    /// Peak memory of the tree. With a control group: anonymous memory, files in memory, and the
    /// kernel's own for it. Else the highest sum seen of what its processes held besides files, and
    /// at least the peak resident memory of the largest one.
    pub memory: Bytes,
}
