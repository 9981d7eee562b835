//! The process that becomes the program: its last steps, from its start to exec. It borrows the memory
//! of init, which stands still meanwhile.
//!
//! The order matters. The user is changed while capabilities last; the user namespace comes last
//! of all namespaces (earlier it would forbid the proc mount) and before `NPROC`, which is then
//! counted in it; Landlock comes when all places are known and no privilege is left; seccomp comes
//! last, because the steps before use what it forbids.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::fs::{FileType, Gid, Uid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::cgroup::Entry;
use super::error::{EXEC, Failure, Step as _};
use super::launcher::{Common, IGNORED_SIGNALS};
use super::seccomp::Filter;
use super::spec::{Grants, Rlimits, Spec};
use super::sys::{self, Disposition};
use super::{confine, idmap, rlimit};

/// Where programs start.
const JOB_DIRECTORY: &str = "/piston/job";

/// What came of a program's process.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// When it went to execute the program, on the monotonic clock.
    pub(super) at: Option<Duration>,
    /// The step that it failed at.
    pub(super) failure: Option<Failure>,
}

/// What to execute, in the kernel's form.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    rlimits: Rlimits,
    grants: Grants,
    /// Its own filter, where the operator allowed it more than others.
    filter: Option<Filter>,
    /// Host id of its slot, where slots have their own.
    id: Option<u32>,
    streams: Streams,
}

/// What standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// Whatever the daemon gave.
    Given,
    /// A terminal, which is to be the program's.
    Terminal,
}

impl Program {
    /// Takes from the spec what the program needs.
    pub(super) fn prepare(spec: &Spec, common: &Common) -> Result<Self, Failure> {
        let argv = spec.argv.iter().map(|word| c_string(word.as_bytes()));
        let argv = argv.collect::<Result<Vec<_>, _>>()?;
        let env = spec
            .env
            .iter()
            .map(|(name, value)| c_string(format!("{name}={value}").as_bytes()));
        let id = match common.ids {
            None => None,
            Some(first) => Some(
                first
                    .checked_add(spec.slot)
                    .ok_or_else(|| io::Error::from_raw_os_error(libc::ERANGE))
                    .step("id of the slot")?,
            ),
        };
        let path = argv
            .first()
            .cloned()
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
            .step(EXEC)?;
        Ok(Self {
            path,
            env: env.collect::<Result<_, _>>()?,
            argv,
            rlimits: spec.rlimits.without(common.controllers),
            filter: own_filter(&spec.grants)?,
            grants: spec.grants.clone(),
            id,
            streams: match spec.terminal {
                None => Streams::Given,
                Some(_) => Streams::Terminal,
            },
        })
    }
}

/// The filter of a program that may make calls which others may not.
fn own_filter(grants: &Grants) -> Result<Option<Filter>, Failure> {
    if grants.calls.is_empty() {
        return Ok(None);
    }
    let filter = Filter::relaxed(&grants.calls).step("seccomp filter")?;
    Ok(Some(filter))
}

/// A word of the command or environment; the kernel ends them with NUL, so none may be inside.
fn c_string(word: &[u8]) -> Result<CString, Failure> {
    CString::new(word).step("arguments and environment")
}

/// Becomes the program; returns only when that fails. Its memory is borrowed from init, which
/// finds there what came of it.
pub(super) fn run(
    program: &Program,
    filter: &Filter,
    stdio: &[OwnedFd; 3],
    entry: &Entry<OwnedFd>,
    progress: &mut Progress,
) -> u8 {
    let Err(failure) = become_program(program, filter, stdio, entry, &mut progress.at);
    progress.failure = Some(failure);
    127
}

/// All the steps.
fn become_program(
    program: &Program,
    filter: &Filter,
    stdio: &[OwnedFd; 3],
    entry: &Entry<OwnedFd>,
    at: &mut Option<Duration>,
) -> Result<Infallible, Failure> {
    // First of all: whatever this process uses from here on is the job's.
    entry.join().step("control group")?;
    rustix::process::setsid().step("session")?;
    take_stdio(stdio, program.id)?;
    if program.streams == Streams::Terminal {
        rustix::process::ioctl_tiocsctty(io::stdin()).step("controlling terminal")?;
    }
    // Init is not dumpable, and so is who borrows its memory: its proc files belong to root then.
    set_dumpable_behavior(DumpableBehavior::Dumpable).step("dumpable")?;
    // When memory runs out the kernel is to end jobs first.
    std::fs::write("/proc/self/oom_score_adj", "1000").step("oom score")?;
    if let Some(id) = program.id {
        idmap::become_user(id)?;
    }
    idmap::enter_last_namespaces()?;
    // It is init's memory still; the program's own is dumpable.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("dumpable")?;
    rustix::process::chdir(JOB_DIRECTORY).step("job directory")?;
    rlimit::apply(&program.rlimits)?;
    idmap::drop_capabilities()?;
    confine::apply(&program.grants)?;
    sys::set_dispositions(IGNORED_SIGNALS, Disposition::Default);
    SigSet::empty().thread_set_mask().step("signal mask")?;
    sys::close_on_exec_from(3).step("close descriptors")?;
    sys::install_filter(program.filter.as_ref().unwrap_or(filter)).step("seccomp")?;
    *at = Some(super::init::monotonic().step("clock")?);
    nix::unistd::execve(&program.path, &program.argv, &program.env).step(EXEC)
}

/// Puts the streams where programs expect them. Pipes and terminals are given to the job's user,
/// who could not open `/dev/stdout` otherwise.
fn take_stdio([stdin, stdout, stderr]: &[OwnedFd; 3], id: Option<u32>) -> Result<(), Failure> {
    const STEP: &str = "standard streams";
    if let Some(id) = id {
        for stream in [stdin, stdout, stderr] {
            let mode = rustix::fs::fstat(stream).step(STEP)?.st_mode;
            let kind = FileType::from_raw_mode(mode);
            if kind == FileType::Fifo || rustix::termios::isatty(stream) {
                rustix::fs::fchown(stream, Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
                    .step(STEP)?;
            }
        }
    }
    nix::unistd::dup2_stdin(stdin).step(STEP)?;
    nix::unistd::dup2_stdout(stdout).step(STEP)?;
    nix::unistd::dup2_stderr(stderr).step(STEP)
}
