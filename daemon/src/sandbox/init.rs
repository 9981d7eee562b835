//! PID 1 of a job: builds the sandbox, starts the program, reaps, and reports.
//!
//! The program itself is not PID 1, because the kernel shields that one from its own signals
//! (`abort` would not be SIGABRT). Init holds nothing that a job wants: its capabilities are in
//! the user namespace above the job's, and it is not dumpable.
//!
//! It does what is the same for all jobs before it has one, and waits: the daemon orders sandboxes
//! ahead. A sandbox serves one job.
//!
//! Invariants: when it reports the end, no other process of the namespace is left; when it ends,
//! for whatever reason, the kernel kills all that are. It ends with the control socket, and with
//! the launcher.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus};

use super::cgroup::Entry;
use super::error::{Failure, Step as _};
use super::launcher::{Common, Own};
use super::message::{self, JobFds, Order, Report};
use super::mounts::Ground;
use super::network::Namespace;
use super::program::{self, Program, Progress};
use super::spec::{Ended, Spec};
use super::sys::{self, Disposition, OneThread};
use super::tally::{Figures, Tally};
use super::terminal::Pair;

/// Namespaces of every job besides those of its pids, its mounts and its network, and those that
/// the program enters by itself.
pub(super) const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWIPC.union(CloneFlags::CLONE_NEWUTS);

/// Host name of every job.
const HOST_NAME: &[u8] = b"piston";

/// Runs as init of a sandbox, in the process that was just forked for it, and never returns.
/// `launcher` is what this process has no business with.
pub(super) fn run(
    thread: &OneThread,
    common: &Common,
    network: Option<&Namespace>,
    control: &OwnedFd,
    launcher: Own,
) -> ! {
    // A panic must not unwind into the launcher's loop, of which this process has a copy.
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(launcher);
        let prepared = prepare(common, network, control);
        let Some(job) = JobFds::receive(control)? else {
            return Ok(());
        };
        message::send(control, &Report::Taken, &[])?;
        let started = prepared.and_then(|ready| start(thread, common, ready, job, control));
        match started {
            Ok(mut started) => attend(&mut started, control, || {
                network.map_or(Ok(()), |network| common.returns.give_back(network))
            }),
            Err(failure) => message::send(control, &Report::Failed(failure), &[]),
        }
    }));
    sys::leave(u8::from(!matches!(done, Ok(Ok(())))))
}

/// A sandbox that waits for its job.
struct Prepared {
    /// Tells of dead children.
    children: SignalFd,
    /// Where the job's root will be.
    ground: Ground,
}

/// A program that runs.
struct Started {
    /// Its pid in this namespace.
    pid: i32,
    /// When it was executed, on the monotonic clock.
    at: Duration,
    /// Tells of dead children.
    children: SignalFd,
    /// What the tree uses.
    tally: Tally,
}

/// Everything that is the same for all jobs.
fn prepare(
    common: &Common,
    network: Option<&Namespace>,
    control: &OwnedFd,
) -> Result<Prepared, Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step("death signal")?;
    rustix::thread::set_name(c"piston-init").step("name")?;
    // First of all, so that a start that hangs (on the filesystem) can be ended.
    let me = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .step("pidfd")?;
    message::send(control, &Report::Born, &[me.as_fd()]).step("report")?;
    drop(me);
    sys::set_dispositions([libc::SIGCHLD], Disposition::Default);
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block().step("signal mask")?;
    let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .step("signalfd")?;

    if let Some(network) = network {
        network.enter().step("network namespace")?;
    }
    nix::sched::unshare(NAMESPACES).step("namespaces")?;
    rustix::system::sethostname(HOST_NAME).step("host name")?;
    let ground = common.template.prepare()?;
    Ok(Prepared { children, ground })
}

/// Completes the sandbox and starts the program; returns when exec has succeeded.
fn start(
    thread: &OneThread,
    common: &Common,
    prepared: Prepared,
    job: JobFds<OwnedFd>,
    control: &OwnedFd,
) -> Result<Started, Failure> {
    let Prepared { children, ground } = prepared;
    let spec = read_spec(job.spec)?;
    let program = Program::prepare(&spec, common)?;
    let template = &common.template;
    template.enter(ground, &spec.view, &job.workspace, common.network)?;
    drop(job.workspace);

    let (stdio, terminal) = match spec.terminal {
        None => (job.stdio, None),
        Some(window) => {
            let Pair { program, daemon } = Pair::open(window)?;
            (program, Some(daemon))
        }
    };
    let (pid, at) = execute(thread, common, &program, &stdio, job.entry)?;
    drop(stdio);
    let terminal: Vec<_> = terminal.iter().map(OwnedFd::as_fd).collect();
    message::send(control, &Report::Ready, &terminal).step("report")?;
    Ok(Started {
        pid,
        at,
        children,
        tally: Tally::new(spec.tree.without(common.controllers), at),
    })
}

/// Reads the spec out of its memfd.
fn read_spec(memfd: OwnedFd) -> Result<Spec, Failure> {
    use std::io::{Read as _, Seek as _};
    let mut file = std::fs::File::from(memfd);
    let mut text = Vec::new();
    file.rewind().step("read the spec")?;
    file.read_to_end(&mut text).step("read the spec")?;
    serde_json::from_slice(&text).step("read the spec")
}

/// Starts the program's process; returns when it has been executed.
fn execute(
    thread: &OneThread,
    common: &Common,
    program: &Program,
    stdio: &[OwnedFd; 3],
    mut entry: Entry<OwnedFd>,
) -> Result<(i32, Duration), Failure> {
    let mut progress = Progress::default();
    let pid = entry
        .start(thread, &common.stack, &mut |entry| {
            program::run(program, &common.filter, stdio, entry, &mut progress)
        })
        .step("start the program")?;
    if let Some(failure) = progress.failure {
        return Err(failure);
    }
    // Without a time the process was killed on its way: it is reaped like a program's.
    let at = progress.at.map_or_else(monotonic, Ok).step("clock")?;
    Ok((pid, at))
}

/// Reaps until the program has ended, kills what is left, and reports, after `emptied`. Kills on
/// request, and when the tree is over a limit; returns at once when the daemon is gone.
fn attend(
    started: &mut Started,
    control: &OwnedFd,
    emptied: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let mut ready = [
            PollFd::new(control, PollFlags::IN),
            PollFd::new(&started.children, PollFlags::IN),
        ];
        let rest = started.tally.rest(monotonic()?);
        let rest = rest.and_then(|rest| Timespec::try_from(rest).ok());
        match poll(&mut ready, rest.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [from_daemon, _] = ready;
        if !from_daemon.revents().is_empty() {
            match message::receive_order(control)? {
                None => return Ok(()),
                Some(Order::Kill) => kill_all(),
                Some(Order::Signal(signal)) => signal_group(started.pid, signal),
            }
        }
        // One signal stands for any number of children.
        while started.children.read_signal()?.is_some() {}
        if let Some(status) = reap_until(started.pid, WaitOptions::NOHANG)? {
            let wall = monotonic()?.saturating_sub(started.at);
            kill_all();
            reap_until(0, WaitOptions::empty())?;
            let figures = started.tally.finish()?;
            emptied()?;
            return message::send(control, &end(status, wall, figures), &[]);
        }
        if started.tally.look(monotonic()?)? {
            kill_all();
        }
    }
}

/// Sends a signal to the process group of the program, which leads its session and can't leave
/// its group. This process is in another one.
fn signal_group(program: i32, signal: i32) {
    let Ok(signal) = Signal::try_from(signal) else {
        return;
    };
    // ESRCH: it is just being reaped.
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(program), signal).ok();
}

/// Kills every process of the namespace but this one.
fn kill_all() {
    // ESRCH: there is none.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), Signal::SIGKILL).ok();
}

/// Reaps children until `pid` is among them, or until none is left to reap.
fn reap_until(pid: i32, options: WaitOptions) -> io::Result<Option<WaitStatus>> {
    loop {
        match rustix::process::wait(options) {
            Ok(Some((reaped, status))) if Pid::as_raw(Some(reaped)) == pid => {
                return Ok(Some(status));
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The last report, after everything was reaped.
fn end(status: WaitStatus, wall: Duration, figures: Figures) -> Report {
    let ended = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or(libc::SIGKILL)),
    };
    let Figures {
        over,
        cpu,
        system,
        memory,
    } = figures;
    Report::Ended {
        ended,
        over,
        wall: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        cpu,
        system,
        memory,
    }
}

/// The monotonic clock.
pub(super) fn monotonic() -> io::Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?.into())
}
