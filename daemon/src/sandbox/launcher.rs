//! The launcher: a small process with one thread that starts the init of every sandbox.
//!
//! It is the daemon's own program, executed anew (`pistond launcher`), so a start costs the same
//! however much memory the daemon uses. It reads orders from the socket on its standard input and
//! answers only once, when it is ready; everything about a job is between its init and the
//! daemon. It ends when that socket does, and every init ends with it. What it keeps from one
//! sandbox to another are network namespaces that nobody used.
//!
//! Jobs that see the daemon's network have a launcher to themselves, which stays in it.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use piston_client::api::Network;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::RecvFlags;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::error::{Failure, Step as _};
use super::init;
use super::message::{self, Report, Setup};
use super::mounts::Template;
use super::network::{Networks, Returns};
use super::seccomp::Filter;
use super::spec::Controllers;
use super::sys::{self, Disposition, Forked, OneThread, Stack};
use super::view::Turns;

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
    /// Where network namespaces are given back.
    pub(super) returns: Returns,
    /// What programs start on, in each init's own copy.
    pub(super) stack: Stack,
}

/// What is the launcher's alone. An init has a copy, which it closes.
#[derive(Debug)]
pub(super) struct Own {
    /// To the daemon.
    socket: OwnedFd,
    /// None where jobs see the daemon's.
    networks: Option<Networks>,
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

/// Prepares, says so, and makes sandboxes.
fn serve() -> io::Result<()> {
    let thread = OneThread::check()?;
    // Its own copy of standard input; number 0 stays open to be nothing else's.
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    nix::unistd::dup2_stdin(&std::fs::File::open("/dev/null")?)?;
    // A person who calls this has no socket on standard input and gets an error here.
    let Some((setup, fds)) = message::receive_bytes(&socket, RecvFlags::empty())? else {
        return Ok(());
    };
    let setup: Setup = serde_json::from_slice(&setup)?;
    let turns = fds.into_iter().next().map(Turns::of);
    let turns = turns.ok_or(io::ErrorKind::InvalidData)?;
    let (common, networks) = match prepare(setup, turns) {
        Ok(prepared) => {
            message::send(&socket, &Report::Ready, &[])?;
            prepared
        }
        Err(failure) => return message::send(&socket, &Report::Failed(failure), &[]),
    };
    let mut own = Own { socket, networks };
    while let Some(control) = own.next_order()? {
        own = start(&thread, &common, &control, own);
    }
    Ok(())
}

impl Own {
    /// The next order, by init's end of its control socket; none when the daemon is gone. Takes
    /// networks back when there is nothing else to do.
    fn next_order(&mut self) -> io::Result<Option<OwnedFd>> {
        loop {
            let returned = self.networks.as_ref().map(Networks::returned);
            let mut ready = vec![PollFd::new(&self.socket, PollFlags::IN)];
            ready.extend(returned.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut ready, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let from_daemon = ready.first().is_some_and(|fd| !fd.revents().is_empty());
            if from_daemon {
                return message::receive_request(&self.socket);
            }
            if let Some(networks) = &mut self.networks {
                networks.take_back()?;
            }
        }
    }
}

/// Everything that is done once.
fn prepare(setup: Setup, turns: Turns) -> Result<(Common, Option<Networks>), Failure> {
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
    let template = Template::build(&fs, turns)?;
    let (networks, returns) = Networks::new(network)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("dumpable")?;
    let common = Common {
        template,
        filter,
        ids,
        network,
        controllers,
        returns,
        stack: Stack::new().step("stack")?,
    };
    Ok((common, networks))
}

/// Forks the init of a sandbox.
fn start(thread: &OneThread, common: &Common, control: &OwnedFd, mut own: Own) -> Own {
    let failure = match own.networks.as_mut().map(Networks::lend).transpose() {
        Ok(network) => match sys::fork_into_pid_namespace(thread) {
            Ok(Forked::Child) => init::run(thread, common, network.as_ref(), control, own),
            Ok(Forked::Parent(_)) => return own,
            Err(error) => Failure::new("fork init", error),
        },
        Err(failure) => failure,
    };
    // The daemon may be gone by now; there is nobody else to tell.
    message::send(control, &Report::Failed(failure), &[]).ok();
    own
}
