//! A program on a terminal of its own: what is typed there, and what it shows.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};

/// Longest silence of a program, in milliseconds.
const PATIENCE: u16 = 60_000;

/// A program that runs on a terminal. Dropping it hangs up, and ends what does not heed that.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    screen: File,
    shown: Vec<u8>,
}

impl Terminal {
    /// Starts a command, with its environment and nothing else of it, on a terminal that is as
    /// wide as said; Ctrl-C typed there interrupts it.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(command: &Command, columns: u16) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None).expect("a terminal");
        // Nobody else keeps it open, such as a daemon that the command leaves behind.
        for end in [&pair.master, &pair.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
        }
        let stream = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        let mut outer = Command::new("setsid");
        outer
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                outer.env(name, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            outer.current_dir(folder);
        }
        let child = outer
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .expect("setsid starts");
        Self {
            child,
            screen: File::from(pair.master),
            shown: Vec::new(),
        }
    }

    /// Types something.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn write(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits until it has shown `words`.
    ///
    /// # Panics
    /// When it does not.
    pub fn until(&mut self, words: &str) {
        while !self.shown().contains(words) {
            assert!(self.more(), "no {words:?} in {:?}", self.shown());
        }
    }

    /// All that it has shown so far, with what moves the cursor.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Waits for its end: all that it showed, and its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(mut self) -> (String, Option<i32>) {
        while self.more() {}
        let status = self.child.wait().expect("it ends");
        (self.shown(), status.code())
    }

    /// Reads what it shows next; false when nobody is left to show anything.
    fn more(&mut self) -> bool {
        let mut ready = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
        let heard = poll(&mut ready, PollTimeout::from(PATIENCE)).expect("poll");
        assert_eq!(heard, 1, "silent after {:?}", self.shown());
        let mut piece = [0; 4096];
        // The end of a terminal is an error (EIO).
        let length = self.screen.read(&mut piece).unwrap_or(0);
        self.shown.extend_from_slice(&piece[..length]);
        length > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What has ended already needs nothing.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
