//! Sandboxes: one isolated process tree for each stage of a job.
//!
//! A [`Launcher`] is a small single-threaded process that starts every sandbox; the daemon is
//! never forked. A [`Workspace`] is the writable space of one stage (job directory, `/tmp`,
//! `/dev/shm`): a tmpfs of its own that the daemon fills and reads through a descriptor.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use piston_client::units::Bytes;

use crate::job::limits::Limits;

/// One of the places in which jobs run at once: decides the host uid of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(pub u32);

/// What to run, as plain data; sent to the sandbox's init in a memfd.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Spec {
    /// Path of the view below the filesystem's root, e.g. `views/python/3.11.2`.
    pub view: String,
    /// Program (an absolute path in the view, or relative to the job directory) and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Limits that the kernel enforces through rlimits.
    pub rlimits: Rlimits,
    /// Which slot it runs in.
    pub slot: u32,
}

/// The part of the limits that become rlimits.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
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

impl From<&Limits> for Rlimits {
    fn from(_limits: &Limits) -> Self {
        unimplemented!()
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// From the program's start to its end.
    pub wall_time: Duration,
    /// User and system time of every process of the tree.
    pub cpu_time: Duration,
    /// Peak memory.
    pub memory: Bytes,
}

/// Why a stage could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The program's file is missing or can't be executed.
    #[error("cannot execute {program}: {source}")]
    Exec {
        /// `argv[0]`.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// A step of making the sandbox failed.
    #[error("sandbox step {step} failed")]
    Step {
        /// Which one.
        step: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The launcher is gone.
    #[error("the launcher is gone")]
    LauncherGone,
}

/// The process that starts sandboxes.
#[derive(Debug)]
pub struct Launcher {}

impl Launcher {
    /// Starts the launcher over the filesystem mounted at `fs`. `ids`: first host uid and gid for
    /// slots, or none when all jobs share the daemon's.
    pub async fn start(_fs: &Path, _ids: Option<u32>) -> Result<Self, SandboxError> {
        unimplemented!()
    }

    /// Starts a stage. Returns when the program runs (exec succeeded).
    pub async fn spawn(
        &self,
        _spec: &Spec,
        _workspace: &Workspace,
        _stdio: Stdio,
    ) -> Result<Running, SandboxError> {
        unimplemented!()
    }
}

/// A stage that runs. Dropping it kills the whole tree.
#[derive(Debug)]
pub struct Running {}

impl Running {
    /// Waits until the program has ended and every process of the tree is dead.
    pub async fn wait(&mut self) -> Result<Exit, SandboxError> {
        unimplemented!()
    }

    /// Kills the whole tree now; `wait` then tells the figures.
    pub fn kill(&self) {
        unimplemented!()
    }
}

/// The writable space of one stage: a tmpfs that is not mounted anywhere but in the sandbox.
#[derive(Debug)]
pub struct Workspace {}

/// A path below the job directory: relative, no empty, `.` or `..` component, no NUL, each
/// component at most 255 bytes, at most 4095 in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobPath(String);

impl JobPath {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for JobPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = text.split('/').any(|p| matches!(p, "" | "." | ".."));
        if bad || text.contains('\0') {
            Err("leaves the job directory".into())
        } else {
            Ok(Self(text.into()))
        }
    }
}

/// A file taken out of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceFile {
    /// Where it was.
    pub path: JobPath,
    /// Permission bits.
    pub mode: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Workspace {
    /// An empty workspace bounded by `size` bytes, owned by the slot's user.
    pub fn new(_size: Bytes, _slot: Slot, _ids: Option<u32>) -> Result<Self, SandboxError> {
        unimplemented!()
    }

    /// Writes a file with its folders (openat2 beneath the job directory, no symlinks).
    pub fn write(&self, _path: &JobPath, _mode: u32, _bytes: &[u8]) -> Result<(), SandboxError> {
        unimplemented!()
    }

    /// Regular files of the job directory that `wanted` accepts, in path order; fails when they
    /// hold more than `bound` bytes together.
    pub fn collect(
        &self,
        _wanted: &dyn Fn(&JobPath) -> bool,
        _bound: Bytes,
    ) -> Result<Vec<WorkspaceFile>, SandboxError> {
        unimplemented!()
    }
}
