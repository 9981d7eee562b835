//! The daemon's side: the [`Launcher`] it keeps, and each [`Running`] stage.
//!
//! A stage lives exactly as long as its `Running`: dropping that closes the control socket, at
//! which init ends and the kernel kills the tree.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio as ProcessStdio;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use piston_client::api::Network;
use piston_client::units::Bytes;
use rustix::fs::MemfdFlags;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::accounting::Accounting;
use super::cgroup::Groups;
use super::error::SandboxError;
use super::message::{self, JobFds, Order, Report, Setup};
use super::spec::{Controllers, Exit, Spec, Stdio};
use super::sys;
use super::terminal::Terminal;
use super::workspace::Workspace;

/// Name of the hidden subcommand that runs the launcher.
pub(super) const SUBCOMMAND: &str = "launcher";

/// A sandbox takes about a millisecond to make; one that takes this long never will be.
const START_TIMEOUT: Duration = Duration::from_secs(30);

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
}

/// A launcher process and the socket to it; its end ends the process.
#[derive(Debug)]
struct Link {
    socket: AsyncFd<OwnedFd>,
    process: tokio::process::Child,
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
            let program = self.command.program.clone();
            // What it starts is counted by this one.
            let launcher = Self::of(LauncherCommand { program, setup }, None).await?;
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
        let link = launcher.link();
        let spawned = match link.spawn(&fds, spec).await {
            Err(SandboxError::LauncherGone) => {
                let link = launcher.replace(&link).await?;
                link.spawn(&fds, spec).await
            }
            result => result,
        };
        let mut running = spawned?;
        running.accounting = accounting;
        Ok(running)
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
        tracing::warn!("the launcher of sandboxes died; starting another");
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
        message::send_bytes(socket.get_ref(), &setup, &[])
            .map_err(|error| SandboxError::step(STEP, error))?;
        let report = tokio::time::timeout(START_TIMEOUT, receive(&socket))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| SandboxError::step(STEP, error))?;
        match report {
            Some((Report::Ready, _)) => Ok(Link { socket, process }),
            Some((Report::Failed(failure), _)) => Err(failure.into_error("")),
            Some(_) | None => Err(SandboxError::LauncherGone),
        }
    }
}

/// What a stage is started with, all of it borrowed: a second launcher may have to get it too.
struct StageFds<'a> {
    spec: BorrowedFd<'a>,
    workspace: BorrowedFd<'a>,
    stdio: &'a Stdio,
    accounting: &'a Accounting,
}

impl Link {
    async fn spawn(&self, fds: &StageFds<'_>, spec: &Spec) -> Result<Running, SandboxError> {
        let (ours, theirs) =
            message::pair().map_err(|error| SandboxError::step("socket", error))?;
        let control = non_blocking(ours).map_err(|error| SandboxError::step("socket", error))?;
        let Stdio {
            stdin,
            stdout,
            stderr,
        } = fds.stdio;
        let job = JobFds {
            spec: fds.spec,
            workspace: fds.workspace,
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            control: theirs.as_fd(),
            entry: fds.accounting.entry(),
        };
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, |socket| job.send(socket))
            .await;
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                SandboxError::LauncherGone
            }
            _ => SandboxError::step("reach the launcher", error),
        })?;
        drop(theirs);
        tokio::time::timeout(START_TIMEOUT, self.started(control, spec))
            .await
            .unwrap_or_else(|_| Err(SandboxError::step("start", io::ErrorKind::TimedOut)))
    }

    /// Waits until a stage's program runs. When this is given up, the stage is killed.
    async fn started(
        &self,
        control: AsyncFd<OwnedFd>,
        spec: &Spec,
    ) -> Result<Running, SandboxError> {
        let program = spec.argv.first().map_or("", String::as_str);
        let mut running = match receive(&control).await {
            Ok(Some((Report::Born, fds))) => Running::new(control, fds)?,
            Ok(Some((Report::Failed(failure), _))) => return Err(failure.into_error(program)),
            // The end of the launcher closes every job that it had not come to.
            _ if self.is_gone() => return Err(SandboxError::LauncherGone),
            _ => return Err(SandboxError::Lost),
        };
        let error = match receive(&running.control).await {
            Ok(Some((Report::Ready, fds))) => {
                running.terminal = fds.into_iter().next().map(Terminal::new);
                return Ok(running);
            }
            Ok(Some((Report::Failed(failure), _))) => failure.into_error(program),
            _ => SandboxError::Lost,
        };
        // What was made of the sandbox is to be gone before the caller hears of it.
        running.dead().await?;
        Err(error)
    }

    /// Whether the launcher has closed its socket.
    fn is_gone(&self) -> bool {
        !matches!(
            message::receive_bytes(self.socket.get_ref(), RecvFlags::DONTWAIT),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        )
    }
}

/// A stage that runs. Dropping it kills the whole tree.
pub struct Running {
    control: AsyncFd<OwnedFd>,
    /// Pidfd of init: readable when it and all of its namespace are dead.
    init: AsyncFd<OwnedFd>,
    /// What init reported, once it has.
    exit: OnceLock<Exit>,
    /// Of a program that got one.
    terminal: Option<Terminal>,
    /// Who counts.
    accounting: Accounting,
}

impl Running {
    /// A stage whose init was born with the descriptor of itself in `fds`.
    fn new(control: AsyncFd<OwnedFd>, fds: Vec<OwnedFd>) -> Result<Self, SandboxError> {
        let init = fds.into_iter().next().ok_or(SandboxError::Lost)?;
        let init = sys::watch(init, Interest::READABLE)
            .map_err(|error| SandboxError::step("watch init", error))?;
        Ok(Self {
            control,
            init,
            exit: OnceLock::new(),
            terminal: None,
            accounting: Accounting::Init,
        })
    }

    /// Waits until the program has ended and every process of the tree is dead. May be cancelled
    /// and called again.
    pub async fn wait(&self) -> Result<Exit, SandboxError> {
        let exit = if let Some(exit) = self.exit.get() {
            *exit
        } else {
            let exit = self.end().await?;
            *self.exit.get_or_init(|| exit)
        };
        self.dead().await?;
        self.accounting.settle(exit)
    }

    /// The last report of init, brought about where the tree is over a limit.
    async fn end(&self) -> Result<Exit, SandboxError> {
        let mut report = std::pin::pin!(self.report());
        tokio::select! {
            exit = &mut report => return exit,
            () = self.accounting.exceeded() => self.kill(),
        }
        report.await
    }

    /// Kills the whole tree now; `wait` then tells the figures.
    pub fn kill(&self) {
        if message::send_order(self.control.get_ref(), Order::Kill).is_err() {
            self.kill_init();
        }
    }

    /// Sends a signal to the program's process group. A program that is just ending may not get
    /// it any more.
    pub async fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        let order = |socket: &OwnedFd| message::send_order(socket, Order::Signal(signal));
        match self.control.async_io(Interest::WRITABLE, order).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(SandboxError::step("send a signal", error))
            }
            _ => Ok(()),
        }
    }

    /// The other side of the program's terminal, where it got one.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// The last report of init.
    async fn report(&self) -> Result<Exit, SandboxError> {
        loop {
            match receive(&self.control).await {
                Ok(Some((
                    Report::Ended {
                        ended,
                        over,
                        wall,
                        cpu,
                        memory,
                    },
                    _,
                ))) => {
                    return Ok(Exit {
                        ended,
                        over,
                        wall_time: Duration::from_nanos(wall),
                        cpu_time: Duration::from_nanos(cpu),
                        memory: Bytes(memory),
                    });
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    self.dead().await?;
                    return Err(SandboxError::Lost);
                }
            }
        }
    }

    /// Waits until init is dead, and with it the namespace.
    async fn dead(&self) -> Result<(), SandboxError> {
        let ready = self.init.readable().await;
        ready
            .map(drop)
            .map_err(|error| SandboxError::step("watch init", error))
    }

    /// Kills init, and by that the tree, without figures.
    fn kill_init(&self) {
        let kill = rustix::process::Signal::KILL;
        // ESRCH: it is dead already.
        rustix::process::pidfd_send_signal(self.init.get_ref(), kill).ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_init();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("exit", &self.exit)
            .finish_non_exhaustive()
    }
}

/// The next report on a socket.
async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    let receive = |socket: &OwnedFd| message::receive(socket, RecvFlags::DONTWAIT);
    socket.async_io(Interest::READABLE, receive).await
}

/// Registers a socket with the runtime. Only this end of the pair stops blocking.
fn non_blocking(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    sys::watch(socket, Interest::READABLE | Interest::WRITABLE)
}

/// The spec in a memfd, which can be any size without a bound on messages.
fn spec_memfd(spec: &Spec) -> io::Result<OwnedFd> {
    let memfd = rustix::fs::memfd_create("spec", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memfd);
    io::Write::write_all(&mut file, &serde_json::to_vec(spec)?)?;
    Ok(file.into())
}
