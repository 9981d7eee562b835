//! The daemon's side of starting: the [`Launcher`] it keeps, and the sandboxes that wait.
//!
//! Sandboxes are ordered ahead, a few: a stage is given to one that is made already. Each serves
//! one stage. All of them end with the launcher; one that is given up ends with its control
//! socket.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio as ProcessStdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use piston_client::api::Network;
use rustix::fs::MemfdFlags;
use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;

use super::accounting::Accounting;
use super::cgroup::Groups;
use super::error::SandboxError;
use super::message::{self, JobFds, Report, Setup};
use super::running::{Running, non_blocking, receive};
use super::spec::{Controllers, Spec, Stdio};
use super::view::Turns;
use super::workspace::Workspace;

/// Name of the hidden subcommand that runs the launcher.
pub(super) const SUBCOMMAND: &str = "launcher";

/// A sandbox takes about a millisecond to make; one that takes this long never will be.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A launcher that has not even begun with a sandbox after this long is replaced, and so is a
/// sandbox that does not take its stage.
const BIRTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Sandboxes that wait for a stage: some for a burst, each a small process.
const AHEAD: usize = 4;

/// When fewer wait, more are ordered while a stage runs.
const FEW: usize = 2;

/// How often a stage is given to another sandbox: more often than all that wait may be dead.
const ATTEMPTS: usize = AHEAD + 2;

/// The process that starts sandboxes. When it dies the next spawn starts another.
#[derive(Debug)]
pub struct Launcher {
    /// How to start one.
    command: LauncherCommand,
    /// Where what it starts is counted.
    groups: Option<Groups>,
    /// The one in use.
    link: Mutex<Arc<Link>>,
    /// Held by whoever replaces a dead one.
    replacing: tokio::sync::Mutex<()>,
    /// The one of jobs that see the daemon's network, from the first such job on: where this one
    /// has left that network it could not go back to it.
    of_host_network: tokio::sync::OnceCell<Box<Self>>,
}

/// How a launcher process is started.
#[derive(Debug)]
struct LauncherCommand {
    program: PathBuf,
    setup: Setup,
    turns: Turns,
}

/// A launcher process and the socket to it; its end ends the process.
#[derive(Debug)]
pub(super) struct Link {
    socket: AsyncFd<OwnedFd>,
    process: tokio::process::Child,
    /// Control sockets of the sandboxes that wait, the oldest first.
    ahead: Mutex<VecDeque<AsyncFd<OwnedFd>>>,
}

impl Launcher {
    /// Starts the launcher over the filesystem mounted at `fs`. `ids`: first host uid and gid for
    /// slots, or none when all jobs share the daemon's. `groups`: those for jobs, where the host
    /// has any. The launcher is this very program, whose `main` has to call
    /// [`super::hidden_subcommand`].
    pub async fn start(
        fs: &Path,
        ids: Option<u32>,
        groups: Option<Groups>,
    ) -> Result<Self, SandboxError> {
        Self::start_program(Path::new("/proc/self/exe"), fs, ids, groups).await
    }

    /// The same with another program as launcher, for callers that are not `pistond` themselves.
    pub async fn start_program(
        program: &Path,
        fs: &Path,
        ids: Option<u32>,
        groups: Option<Groups>,
    ) -> Result<Self, SandboxError> {
        let setup = Setup {
            fs: fs.to_owned(),
            ids,
            network: Network::None,
            controllers: groups
                .as_ref()
                .map_or_else(Controllers::default, |groups| groups.offer().controllers),
        };
        let command = LauncherCommand {
            program: program.to_owned(),
            setup,
            turns: Turns::new().map_err(|error| SandboxError::step("turns", error))?,
        };
        Self::of(command, groups).await
    }

    async fn of(command: LauncherCommand, groups: Option<Groups>) -> Result<Self, SandboxError> {
        let link = Mutex::new(Arc::new(command.start().await?));
        Ok(Self {
            command,
            groups,
            link,
            replacing: tokio::sync::Mutex::new(()),
            of_host_network: tokio::sync::OnceCell::new(),
        })
    }

    /// The launcher of jobs that see this network.
    async fn of_network(&self, network: Network) -> Result<&Self, SandboxError> {
        if network == self.command.setup.network {
            return Ok(self);
        }
        let start = async || {
            let setup = Setup {
                network,
                ..self.command.setup.clone()
            };
            let command = LauncherCommand {
                program: self.command.program.clone(),
                setup,
                turns: self.command.turns.clone(),
            };
            // What it starts is counted by this one.
            let launcher = Self::of(command, None).await?;
            Ok::<_, SandboxError>(Box::new(launcher))
        };
        Ok(&**self.of_host_network.get_or_try_init(start).await?)
    }

    /// Starts a stage. Returns when the program runs (exec succeeded). A workspace serves one
    /// stage: its mount goes to the sandbox.
    pub async fn spawn(
        &self,
        spec: &Spec,
        workspace: &Workspace,
        stdio: Stdio,
    ) -> Result<Running, SandboxError> {
        let memfd = spec_memfd(spec).map_err(|error| SandboxError::step("spec", error))?;
        let accounting = Accounting::begin(self.groups.as_ref(), spec)?;
        let fds = StageFds {
            spec: memfd.as_fd(),
            workspace: workspace.mount(),
            stdio: &stdio,
            accounting: &accounting,
        };
        let launcher = self.of_network(spec.grants.network).await?;
        let mut link = launcher.link();
        for _ in 0..ATTEMPTS {
            if link.is_gone() {
                link = launcher.replace(&link).await?;
            }
            match link.spawn(&fds, spec).await {
                Ok(mut running) => {
                    running.count_by(accounting);
                    running.followed_by(&link);
                    return Ok(running);
                }
                Err(NotStarted::Failed(error)) => return Err(error),
                Err(NotStarted::Dead) => {}
                Err(NotStarted::Stuck) => {
                    tracing::warn!("the launcher of sandboxes does not answer; it is killed");
                    link.end();
                    link = launcher.replace(&link).await?;
                }
            }
        }
        Err(SandboxError::LauncherGone)
    }

    /// Process id of the launcher in use, when it is alive.
    pub fn process_id(&self) -> Option<u32> {
        self.link().process.id()
    }

    fn link(&self) -> Arc<Link> {
        self.link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Starts another launcher in the place of `dead`, unless somebody else has.
    async fn replace(&self, dead: &Arc<Link>) -> Result<Arc<Link>, SandboxError> {
        let _only_one = self.replacing.lock().await;
        let current = self.link();
        if !Arc::ptr_eq(&current, dead) {
            return Ok(current);
        }
        tracing::warn!("the launcher of sandboxes is gone; starting another");
        let link = Arc::new(self.command.start().await?);
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link.clone();
        Ok(link)
    }
}

impl LauncherCommand {
    /// Starts the process and waits until it is ready.
    async fn start(&self) -> Result<Link, SandboxError> {
        const STEP: &str = "start the launcher";
        let (ours, theirs) = message::pair().map_err(|error| SandboxError::step(STEP, error))?;
        let process = tokio::process::Command::new(&self.program)
            .arg0("pistond")
            .arg(SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(ProcessStdio::from(theirs))
            .stdout(ProcessStdio::null())
            .stderr(ProcessStdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| SandboxError::step(STEP, error))?;
        let socket = non_blocking(ours).map_err(|error| SandboxError::step(STEP, error))?;
        let setup = serde_json::to_vec(&self.setup)
            .map_err(|error| SandboxError::step(STEP, io::Error::from(error)))?;
        message::send_bytes(socket.get_ref(), &setup, &[self.turns.as_fd()])
            .map_err(|error| SandboxError::step(STEP, error))?;
        let report = tokio::time::timeout(START_TIMEOUT, receive(&socket))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| SandboxError::step(STEP, error))?;
        match report {
            Some((Report::Ready, _)) => {
                let link = Link {
                    socket,
                    process,
                    ahead: Mutex::default(),
                };
                link.order_ahead();
                Ok(link)
            }
            Some((Report::Failed(failure), _)) => Err(failure.into_error("")),
            Some(_) | None => Err(SandboxError::LauncherGone),
        }
    }
}

/// What a stage is started with, all of it borrowed: a second sandbox may have to get it too.
struct StageFds<'a> {
    spec: BorrowedFd<'a>,
    workspace: BorrowedFd<'a>,
    stdio: &'a Stdio,
    accounting: &'a Accounting,
}

/// Why a stage was not started.
enum NotStarted {
    /// The sandbox was dead before it was given the stage: another one may do.
    Dead,
    /// The launcher does not do what it was told to.
    Stuck,
    /// A step failed, or it is not known how far it came.
    Failed(SandboxError),
}

impl From<SandboxError> for NotStarted {
    fn from(error: SandboxError) -> Self {
        Self::Failed(error)
    }
}

impl Link {
    /// Starts a stage in the sandbox that has waited longest.
    async fn spawn(&self, fds: &StageFds<'_>, spec: &Spec) -> Result<Running, NotStarted> {
        let ahead = self.waiting().pop_front();
        let control = ahead.map_or_else(|| self.order(), Ok)?;
        let Stdio {
            stdin,
            stdout,
            stderr,
        } = fds.stdio;
        let job = JobFds {
            spec: fds.spec,
            workspace: fds.workspace,
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            entry: fds.accounting.entry(),
        };
        // There is room: it is the first message.
        job.send(control.get_ref())
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    refusal(&control, spec)
                }
                _ => SandboxError::step("reach the sandbox", error).into(),
            })?;
        let started = tokio::time::timeout(START_TIMEOUT, started(control, spec)).await;
        // Otherwise when this one is over: what makes the next would be in the way of it.
        if !matches!(started, Ok(Ok(_))) || self.waiting().len() < FEW {
            self.order_ahead();
        }
        started.unwrap_or_else(|_| Err(SandboxError::step("start", io::ErrorKind::TimedOut).into()))
    }

    /// Orders a sandbox; what comes back is the daemon's end of its control socket.
    fn order(&self) -> Result<AsyncFd<OwnedFd>, NotStarted> {
        let socket = |error| SandboxError::step("socket", error);
        let (ours, theirs) = message::pair().map_err(socket)?;
        let control = non_blocking(ours).map_err(socket)?;
        match message::send_request(self.socket.get_ref(), &theirs) {
            Ok(()) => Ok(control),
            // It has taken none of some hundred orders.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(NotStarted::Stuck),
            Err(error) => match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(NotStarted::Dead),
                _ => Err(SandboxError::step("reach the launcher", error).into()),
            },
        }
    }

    /// Fills up what waits; needs the runtime. Whatever goes wrong is seen by the stage that then has
    /// to order.
    pub(super) fn order_ahead(&self) {
        let mut ahead = self.waiting();
        while ahead.len() < AHEAD
            && let Ok(control) = self.order()
        {
            ahead.push_back(control);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<AsyncFd<OwnedFd>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the launcher has closed its socket.
    fn is_gone(&self) -> bool {
        !matches!(
            message::receive_bytes(self.socket.get_ref(), RecvFlags::DONTWAIT),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        )
    }

    /// Ends the launcher, and with it all its sandboxes.
    fn end(&self) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // ESRCH: it is dead already. It is reaped when this link is dropped, not earlier.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Waits until a stage's program runs. When this is given up, the stage is killed.
async fn started(control: AsyncFd<OwnedFd>, spec: &Spec) -> Result<Running, NotStarted> {
    let program = spec.argv.first().map_or("", String::as_str);
    let born = tokio::time::timeout(BIRTH_TIMEOUT, receive(&control)).await;
    let born = match born.map_err(|_| NotStarted::Stuck)? {
        Ok(Some((Report::Born, fds))) => fds,
        Ok(Some((Report::Failed(failure), _))) => return Err(failure.into_error(program).into()),
        // The end of the launcher closes every order that it had not come to.
        _ => return Err(refusal(&control, spec)),
    };
    let mut running = Running::new(control, born)?;
    match tokio::time::timeout(BIRTH_TIMEOUT, running.receive()).await {
        Ok(Ok(Some((Report::Taken, _)))) => {}
        Ok(_) => return Err(refusal(running.control(), spec)),
        // Init is stopped: it is killed by being given up.
        Err(_) => return Err(NotStarted::Dead),
    }
    let error = match running.receive().await {
        Ok(Some((Report::Ready, fds))) => {
            running.keep(fds);
            return Ok(running);
        }
        Ok(Some((Report::Failed(failure), _))) => failure.into_error(program),
        _ => SandboxError::Lost,
    };
    // What was made of the sandbox is to be gone before the caller hears of it.
    running.dead().await?;
    Err(error.into())
}

/// What became of a sandbox that is gone without having taken its stage.
fn refusal(control: &AsyncFd<OwnedFd>, spec: &Spec) -> NotStarted {
    let program = spec.argv.first().map_or("", String::as_str);
    loop {
        match message::receive(control.get_ref(), RecvFlags::DONTWAIT) {
            Ok(Some((Report::Failed(failure), _))) => return failure.into_error(program).into(),
            // It comes before what was said.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return NotStarted::Dead,
        }
    }
}

/// The spec in a memfd, which can be any size without a bound on messages.
fn spec_memfd(spec: &Spec) -> io::Result<OwnedFd> {
    let memfd = rustix::fs::memfd_create("spec", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memfd);
    io::Write::write_all(&mut file, &serde_json::to_vec(spec)?)?;
    Ok(file.into())
}
