//! The terminal of an interactive program: made by init in the sandbox's own mount namespace, so
//! that its name is known there and no other job's is; its other side goes to the daemon.
//!
//! Invariant: a job can have no more than [`MOST`] terminals, of which the host has a bounded
//! number for everybody.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::error::{Failure, Step as _};
use super::spec::Window;

/// Terminals of a job, those that it makes itself included.
const MOST: &str = "8";

/// Both sides of a new terminal.
#[derive(Debug)]
pub(super) struct Pair {
    /// The program's standard streams.
    pub(super) program: [OwnedFd; 3],
    /// Where the daemon reads and writes.
    pub(super) daemon: OwnedFd,
}

impl Pair {
    /// Opens a terminal. The root of this process has to be a job's.
    pub(super) fn open(window: Window) -> Result<Self, Failure> {
        const STEP: &str = "terminal";
        let options = [("mode", "0620"), ("ptmxmode", "0666"), ("max", MOST)];
        super::mounts::mount_terminals(&options).step("mount /dev/pts")?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let daemon = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).step(STEP)?;
        rustix::pty::unlockpt(&daemon).step(STEP)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let stdin = rustix::pty::ioctl_tiocgptpeer(&daemon, flags).step(STEP)?;
        rustix::termios::tcsetwinsize(&daemon, window.into()).step(STEP)?;
        let (stdout, stderr) = (stdin.try_clone(), stdin.try_clone());
        Ok(Self {
            program: [stdin, stdout.step(STEP)?, stderr.step(STEP)?],
            daemon,
        })
    }
}

impl From<Window> for Winsize {
    fn from(window: Window) -> Self {
        Self {
            ws_row: window.rows,
            ws_col: window.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// The daemon's side of a program's terminal: what is written to it is typed, what is read from
/// it was printed.
#[derive(Debug)]
pub struct Terminal(OwnedFd);

impl Terminal {
    /// The side that init sent.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Changes the window's size, of which the program hears by `SIGWINCH`.
    pub fn resize(&self, window: Window) -> io::Result<()> {
        Ok(rustix::termios::tcsetwinsize(&self.0, window.into())?)
    }

    /// Another descriptor of it, to read or write.
    pub fn stream(&self) -> io::Result<File> {
        Ok(File::from(self.0.as_fd().try_clone_to_owned()?))
    }
}
