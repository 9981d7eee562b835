//! A stage that runs, from the daemon's side.
//!
//! It lives exactly as long as its [`Running`]: dropping that closes the control socket, at which
//! init ends and the kernel kills the tree. How it is started: `spawn`.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use piston_client::units::Bytes;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::accounting::Accounting;
use super::error::SandboxError;
use super::message::{self, Order, Report};
use super::spawn::Link;
use super::spec::Exit;
use super::sys;
use super::terminal::Terminal;

/// How long an init that is told to end its tree may take for that. One that is stopped or starved
/// is then killed itself, and the figures are lost.
const KILL_TIMEOUT: Duration = Duration::from_secs(3);

/// A stage that runs. Dropping it kills the whole tree.
pub struct Running {
    control: AsyncFd<OwnedFd>,
    /// Pidfd of init: readable when it and all of its namespace are dead.
    init: AsyncFd<OwnedFd>,
    /// What init reported, once it has.
    exit: OnceLock<Exit>,
    /// Init was told to end it.
    is_killed: AtomicBool,
    /// Of a program that got one.
    terminal: Option<Terminal>,
    /// Who counts.
    accounting: Accounting,
    /// Where a sandbox is ordered in the place of this one, when it is over.
    next: Option<(Weak<Link>, Handle)>,
}

impl Running {
    /// A stage whose init was born with the descriptor of itself in `fds`.
    pub(super) fn new(control: AsyncFd<OwnedFd>, fds: Vec<OwnedFd>) -> Result<Self, SandboxError> {
        let init = fds.into_iter().next().ok_or(SandboxError::Lost)?;
        let init = sys::watch(init, Interest::READABLE)
            .map_err(|error| SandboxError::step("watch init", error))?;
        Ok(Self {
            control,
            init,
            exit: OnceLock::new(),
            terminal: None,
            is_killed: AtomicBool::new(false),
            accounting: Accounting::Init,
            next: None,
        })
    }

    /// What init sent: the other side of a terminal.
    pub(super) fn keep(&mut self, fds: Vec<OwnedFd>) {
        self.terminal = fds.into_iter().next().map(Terminal::new);
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

    /// The socket to init.
    pub(super) fn control(&self) -> &AsyncFd<OwnedFd> {
        &self.control
    }

    /// Who counts what it uses.
    pub(super) fn count_by(&mut self, accounting: Accounting) {
        self.accounting = accounting;
    }

    /// Where to order a sandbox that follows it.
    pub(super) fn followed_by(&mut self, link: &Arc<Link>) {
        self.next = Some((Arc::downgrade(link), Handle::current()));
    }

    /// The next report of init.
    pub(super) async fn receive(&self) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
        receive(&self.control).await
    }

    /// Waits until the program has ended and every process of the tree is dead. Init, which has told
    /// so, then takes the sandbox apart by ending, which nobody waits for. May be cancelled and
    /// called again.
    pub async fn wait(&self) -> Result<Exit, SandboxError> {
        let exit = if let Some(exit) = self.exit.get() {
            *exit
        } else {
            let exit = self.end().await?;
            *self.exit.get_or_init(|| exit)
        };
        self.accounting.settle(exit)
    }

    /// Kills the whole tree now; `wait` then tells the figures.
    pub fn kill(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
        if message::send_order(self.control.get_ref(), Order::Kill).is_err() {
            self.kill_init();
        }
    }

    /// The last report of init, brought about where the tree is over a limit, which has to come
    /// soon once init was told to end it.
    async fn end(&self) -> Result<Exit, SandboxError> {
        if !self.is_killed.load(Ordering::Relaxed) {
            tokio::select! {
                exit = self.report() => return exit,
                () = self.accounting.exceeded() => self.kill(),
            }
        }
        if let Ok(report) = tokio::time::timeout(KILL_TIMEOUT, self.report()).await {
            return report;
        }
        tracing::warn!("an init does not end its job; it is killed");
        self.kill_init();
        self.report().await
    }

    /// The last report of init.
    async fn report(&self) -> Result<Exit, SandboxError> {
        loop {
            match self.receive().await {
                Ok(Some((
                    Report::Ended {
                        ended,
                        over,
                        wall,
                        cpu,
                        system,
                        memory,
                    },
                    _,
                ))) => {
                    return Ok(Exit {
                        ended,
                        over,
                        wall_time: Duration::from_nanos(wall),
                        cpu_time: Duration::from_nanos(cpu),
                        system_time: Duration::from_nanos(system),
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
    pub(super) async fn dead(&self) -> Result<(), SandboxError> {
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
        if let Some((link, runtime)) = self.next.take() {
            // A task, since who drops this may have a reply to send.
            runtime.spawn(async move {
                if let Some(link) = link.upgrade() {
                    link.order_ahead();
                }
            });
        }
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
pub(super) async fn receive(
    socket: &AsyncFd<OwnedFd>,
) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    let receive = |socket: &OwnedFd| message::receive(socket, RecvFlags::DONTWAIT);
    loop {
        match socket.async_io(Interest::READABLE, receive).await {
            // The other end closed without having read an order of ours (a kill that crossed its
            // last report). The kernel says so once, and before what was sent (unix(7)).
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            received => return received,
        }
    }
}

/// Registers a socket with the runtime. Only this end of the pair stops blocking.
pub(super) fn non_blocking(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    sys::watch(socket, Interest::READABLE | Interest::WRITABLE)
}

#[cfg(test)]
mod tests {
    use super::super::spec::Ended;
    use super::*;

    fn last_report() -> Report {
        Report::Ended {
            ended: Ended::Exited(3),
            over: None,
            wall: 1,
            cpu: 2,
            system: 1,
            memory: 3,
        }
    }

    #[tokio::test]
    async fn a_kill_that_crosses_the_last_report_does_not_hide_it() {
        let (ours, theirs) = message::pair().unwrap();
        let ours = non_blocking(ours).unwrap();
        message::send(&theirs, &last_report(), &[]).unwrap();
        message::send_order(ours.get_ref(), Order::Kill).unwrap();
        drop(theirs);
        // The kernel tells of the unread order first (ECONNRESET), then gives out the report.
        let (report, _) = receive(&ours).await.unwrap().unwrap();
        assert_eq!(report, last_report());
        assert!(receive(&ours).await.unwrap().is_none());
    }
}
