//! The launcher: a small process with one thread that starts the init of every sandbox.
//!
//! It is the daemon's own program, executed anew (`pistond launcher`), so a start costs the same
//! however much memory the daemon uses. It reads jobs from the socket on its standard input and
//! answers only once, when it is ready; everything about a job is between its init and the
//! daemon. It ends when that socket does, and every init ends with it.
//!
//! Its own network is the daemon's. Jobs that see that one have a launcher to themselves.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use piston_client::api::Network;
use rustix::net::RecvFlags;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::error::{Failure, Step as _};
use super::init;
use super::message::{self, JobFds, Report, Setup};
use super::mounts::Template;
use super::seccomp::Filter;
use super::spec::Controllers;
use super::sys::{self, Disposition, Forked, OneThread};

/// Signals that are meant for the daemon and reach the launcher too (a terminal's, a service
/// manager's), and those that it has no use for.
pub(super) const IGNORED_SIGNALS: [i32; 6] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGPIPE,
    // Ignored, so that the kernel reaps every init by itself.
    libc::SIGCHLD,
];

/// What every sandbox of this launcher has in common.
#[derive(Debug)]
pub(super) struct Common {
    /// The launcher's root.
    pub(super) template: Template,
    /// The filter of all programs.
    pub(super) filter: Filter,
    /// First host id of the slots; none when all jobs share the daemon's.
    pub(super) ids: Option<u32>,
    /// Which network its jobs see.
    pub(super) network: Network,
    /// What control groups limit and count.
    pub(super) controllers: Controllers,
}

/// Runs the launcher until the daemon is gone.
///
/// Has to be called before the process has a second thread.
pub(super) fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prepares, says so, and starts jobs.
fn serve() -> io::Result<()> {
    let thread = OneThread::check()?;
    // Its own copy of standard input; number 0 stays open to be nothing else's.
    let mut socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    nix::unistd::dup2_stdin(&std::fs::File::open("/dev/null")?)?;
    // A person who calls this has no socket on standard input and gets an error here.
    let Some((setup, _)) = message::receive_bytes(&socket, RecvFlags::empty())? else {
        return Ok(());
    };
    let setup: Setup = serde_json::from_slice(&setup)?;
    let common = match prepare(setup) {
        Ok(common) => {
            message::send(&socket, &Report::Ready, &[])?;
            common
        }
        Err(failure) => return message::send(&socket, &Report::Failed(failure), &[]),
    };
    while let Some(next) = next_job(&socket)? {
        start(&thread, &common, next, &mut socket);
    }
    Ok(())
}

/// The next message that is a job.
fn next_job(socket: &OwnedFd) -> io::Result<Option<JobFds<OwnedFd>>> {
    loop {
        match JobFds::receive(socket) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            result => return result,
        }
    }
}

/// Everything that is done once.
fn prepare(setup: Setup) -> Result<Common, Failure> {
    let Setup {
        fs,
        ids,
        network,
        controllers,
    } = setup;
    rustix::thread::set_name(c"piston-launcher").step("name")?;
    sys::set_dispositions(1..=64, Disposition::Default);
    sys::set_dispositions(IGNORED_SIGNALS, Disposition::Ignore);
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .step("signal mask")?;
    rustix::process::setsid().step("session")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let filter = Filter::for_jobs().step("seccomp filter")?;
    let template = Template::build(&fs)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("dumpable")?;
    Ok(Common {
        template,
        filter,
        ids,
        network,
        controllers,
    })
}

/// Forks the init of a job.
fn start(thread: &OneThread, common: &Common, job: JobFds<OwnedFd>, socket: &mut OwnedFd) {
    match sys::fork_into_pid_namespace(thread) {
        Ok(Forked::Parent(_)) => {}
        Ok(Forked::Child) => init::run(thread, common, job, socket),
        Err(error) => {
            let failure = Failure::new("fork init", error);
            // The daemon may be gone by now; there is nobody else to tell.
            message::send(&job.control, &Report::Failed(failure), &[]).ok();
        }
    }
}
