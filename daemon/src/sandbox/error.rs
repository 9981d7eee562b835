//! Why a sandbox could not be made or used; and [`Failure`], the form in which a failed step
//! travels from the launcher's side to the daemon.

use std::io;

use serde::{Deserialize, Serialize};

/// Why a stage could not be run, or its workspace not be used.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The program's file is missing or can't be executed.
    #[error("cannot execute {program}")]
    Exec {
        /// `argv[0]`.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A step of making the sandbox failed.
    #[error("sandbox step `{step}` failed")]
    Step {
        /// Which one.
        step: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The launcher is gone and could not be replaced.
    #[error("the launcher of sandboxes is gone")]
    LauncherGone,
    /// The sandbox died before it could tell how its program ended: its init or the launcher was
    /// killed from outside, e.g. for want of memory.
    #[error("the sandbox was killed from outside")]
    Lost,
    /// All jobs together, or the host, had no memory left, and the kernel chose this one.
    #[error("the host ran out of memory for jobs and the kernel killed this one")]
    OutOfMemory,
    /// A control group could not be used.
    #[error(transparent)]
    Group(#[from] super::cgroup::FileError),
    /// A file of the workspace could not be written or read.
    #[error("cannot {action} {path} in the job's workspace")]
    Workspace {
        /// What was tried, a verb.
        action: &'static str,
        /// The file, relative to the job directory.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the job left behind is more than the caller takes.
    #[error("the job left more than {bound} {what}")]
    TooMuch {
        /// What was counted.
        what: &'static str,
        /// The bound.
        bound: u64,
    },
}

impl SandboxError {
    /// A failed step in the daemon's own process.
    pub(super) fn step(step: &str, source: impl Into<io::Error>) -> Self {
        Self::Step {
            step: step.to_owned(),
            source: source.into(),
        }
    }
}

/// The step that executes the program: its failure is the job's, not the sandbox's.
pub(super) const EXEC: &str = "exec";

/// A step that failed in the launcher, init, or what was to become the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// Which step.
    pub(super) step: String,
    /// Its errno.
    pub(super) errno: i32,
}

impl Failure {
    /// The failure of `step`.
    pub(super) fn new(step: &str, error: impl Into<io::Error>) -> Self {
        // Errors of our own making have no errno.
        let errno = error.into().raw_os_error().unwrap_or(libc::EINVAL);
        Self {
            step: step.to_owned(),
            errno,
        }
    }

    /// As the daemon reports it, for a sandbox that was to run `program`.
    pub(super) fn into_error(self, program: &str) -> SandboxError {
        let source = io::Error::from_raw_os_error(self.errno);
        if self.step == EXEC {
            SandboxError::Exec {
                program: program.to_owned(),
                source,
            }
        } else {
            SandboxError::Step {
                step: self.step,
                source,
            }
        }
    }
}

/// Names the step that a result belongs to.
pub(super) trait Step<T> {
    /// The value, or the failure of `step`.
    fn step(self, step: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, error))
    }
}
