//! A program's standard streams, and what a listener does to it while it runs.
//!
//! Invariant: signals and window sizes wait for no input. A program need not read its input: that
//! is no fault.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Stage, StageKind};
use crate::job::input::{Control, Input, Typed};
use crate::sandbox::{Running, Stdio, Terminal};

/// End of input, as it is typed on a terminal.
const CTRL_D: u8 = 4;

/// The daemon's ends of the program's standard streams.
pub(super) struct Pipes {
    pub(super) stdin: Sender,
    pub(super) stdout: Receiver,
    /// None for a terminal, which is one stream.
    pub(super) stderr: Option<Receiver>,
}

impl Pipes {
    pub(super) fn of_terminal(terminal: &Terminal) -> io::Result<Self> {
        let (keys, screen) = (terminal.stream()?, terminal.stream()?);
        rustix::io::ioctl_fionbio(&screen, true)?;
        Ok(Self {
            stdin: Sender::from_file_unchecked(keys)?,
            stdout: Receiver::from_file_unchecked(screen)?,
            stderr: None,
        })
    }
}

/// Three pipes. The sandbox gives them to the job's user, who may open `/dev/stdout` then.
pub(super) fn pipes() -> io::Result<(Pipes, Stdio)> {
    let (stdin_read, stdin) = io::pipe()?;
    let (stdout, stdout_write) = io::pipe()?;
    let (stderr, stderr_write) = io::pipe()?;
    let stdio = Stdio {
        stdin: stdin_read.into(),
        stdout: stdout_write.into(),
        stderr: stderr_write.into(),
    };
    let pipes = Pipes {
        stdin: Sender::from_owned_fd(OwnedFd::from(stdin))?,
        stdout: Receiver::from_owned_fd(OwnedFd::from(stdout))?,
        stderr: Some(Receiver::from_owned_fd(OwnedFd::from(stderr))?),
    };
    Ok((pipes, stdio))
}

impl Stage<'_> {
    /// Returns when an interactive program has been idle for too long.
    pub(super) async fn idle(&self) {
        match (&self.live, self.request.idle_time, self.kind) {
            (Some(live), Some(limit), StageKind::Run) => {
                // What came before, in line and compiling, was not its doing.
                live.touch();
                live.idle(limit).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Gives the program its input: what the request has, then what its listener types; and does
    /// what the listener says.
    pub(super) async fn feed(
        &self,
        pipe: Sender,
        input: Option<&mut Input>,
        running: &Running,
    ) -> Infallible {
        let (typed, control) = match input {
            Some(input) => (Some(&mut input.typed), Some(&mut input.control)),
            None => (None, None),
        };
        tokio::join!(self.give(pipe, typed, running), obey(control, running));
        std::future::pending().await
    }

    async fn give(
        &self,
        mut pipe: Sender,
        typed: Option<&mut UnboundedReceiver<Typed>>,
        running: &Running,
    ) {
        // A compiler is given none.
        if self.kind == StageKind::Compile {
            return;
        }
        write(&mut pipe, &self.request.stdin).await;
        let Some(typed) = typed else { return };
        let mut last = self.request.stdin.last().copied();
        while let Some(piece) = typed.recv().await {
            if let Some(live) = &self.live {
                live.touch();
            }
            write(&mut pipe, &piece.bytes).await;
            last = piece.bytes.last().copied().or(last);
        }
        if running.terminal().is_some() {
            // Amid a line the first one only passes on what was typed.
            let ends = last
                .filter(|last| !matches!(last, b'\n' | b'\r'))
                .map_or(1, |_| 2);
            write(&mut pipe, &[CTRL_D; 2][..ends]).await;
        }
    }
}

/// Writes input for the program.
pub(super) async fn write(pipe: &mut Sender, input: &[u8]) {
    if let Err(error) = pipe.write_all(input).await {
        tracing::debug!(%error, "the program did not read all of its input");
    }
}

/// Does what the listener says, for as long as it says something.
async fn obey(control: Option<&mut tokio::sync::mpsc::Receiver<Control>>, running: &Running) {
    let Some(control) = control else { return };
    while let Some(control) = control.recv().await {
        let done = match control {
            Control::Signal(signal) => {
                let sent = running.signal(signal).await;
                sent.map_err(|error| error.to_string())
            }
            Control::Resize(window) => match running.terminal() {
                Some(terminal) => terminal.resize(window).map_err(|error| error.to_string()),
                None => Ok(()),
            },
        };
        if let Err(error) = done {
            tracing::debug!(error, "the program was not told");
        }
    }
}
