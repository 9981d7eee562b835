//! Sandboxes: one isolated process tree for each stage of a job.
//!
//! A [`Launcher`] is a small single-threaded process that starts every sandbox; the daemon is
//! never forked. A [`Workspace`] is the writable space of one stage (job directory, `/tmp`,
//! `/dev/shm`): a tmpfs of its own that the daemon fills and reads through a descriptor.
//!
//! The parts, in the order of a stage: `spawn` requests a sandbox of the `launcher`, ahead of time;
//! that forks an `init` into a PID namespace with a `network` of its own. [`Spec`] says what to run
//! and goes to an init that waits; it looks up its `view`, builds the root (`mounts`), makes the `terminal` of a program
//! that gets one, and forks what `program` turns into the program, with the identity of `idmap`,
//! the limits of `rlimit`, the rules of `confine` and the filter of `seccomp`. Init then reaps, keeps the `tally` of
//! the tree, and reports to the daemon's [`Running`] in the words of `message`. Apart from that, [`rootless`] enters the
//! daemon's own namespaces when it is not root, and [`host`] says what this machine offers.
//!
//! What a job sees and may do is decided here; which limits it gets is not.

mod accounting;
pub mod cgroup;
mod confine;
mod error;
pub mod host;
mod idmap;
mod init;
mod launcher;
mod message;
mod mounts;
mod network;
mod program;
mod rlimit;
pub mod rootless;
mod running;
mod seccomp;
mod spawn;
mod spec;
mod sys;
mod tally;
mod terminal;
mod view;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

pub use error::SandboxError;
pub use running::Running;
pub use spawn::Launcher;
pub use spec::{
    Controllers, Ended, Exit, Grants, Over, Relaxation, Rlimits, Slot, Spec, Stdio, TreeLimits,
    Window,
};
pub(crate) use sys::watch;
pub use terminal::Terminal;
pub use workspace::{InvalidJobPath, JobPath, Workspace, WorkspaceFile};

/// Runs the hidden subcommand that `arguments` (with the program's name in front) call for: the
/// launcher of sandboxes, or the probe of this host. None when they call for something else.
///
/// `main` has to try this first, before the process has a second thread.
pub fn hidden_subcommand(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    match arguments.into_iter().nth(1)?.to_str()? {
        spawn::SUBCOMMAND => Some(launcher::run()),
        host::PROBE_SUBCOMMAND => Some(host::run_probe()),
        _ => None,
    }
}
