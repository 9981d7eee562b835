//! `piston run -i`: what is typed here is typed there.
//!
//! Where standard input and output are a terminal the program gets one too, and this one is raw
//! meanwhile: what keys do is the program's affair. Otherwise input is passed on as it comes, and
//! SIGINT and SIGTERM go to the program instead of ending us.
//!
//! Invariant: the terminal is put back as it was whenever what is returned here is dropped.

use std::convert::Infallible;
use std::future::pending;
use std::io::{self, IsTerminal as _, Read as _};

use anyhow::{Context as _, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::Keyboard;
use crate::api::Window;
use crate::error::Error;

/// Read at once of standard input.
const CHUNK: usize = 16 * 1024;

/// The window of the terminal that we are on; none when we are on none.
pub(super) fn window() -> Option<Window> {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let size = terminal
        .then(|| tcgetwinsize(io::stdout()).ok())
        .flatten()?;
    Some(Window {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}

/// Passes on what is typed and what signals say, for as long as it is polled.
pub(super) fn type_on(
    mut keyboard: Keyboard,
    window: Option<Window>,
) -> Result<impl Future<Output = Infallible>> {
    let raw = window.map(|_| Raw::enter()).transpose()?;
    let mut resized = signal(SignalKind::window_change())?;
    let (mut interrupt, mut terminate) = match window {
        // There keys make no signals.
        Some(_) => (None, None),
        None => (
            Some(signal(SignalKind::interrupt())?),
            Some(signal(SignalKind::terminate())?),
        ),
    };
    let mut typed = typed();
    Ok(async move {
        let _raw = raw;
        let mut ended = false;
        loop {
            let said = tokio::select! {
                piece = typed.recv(), if !ended => if let Some(bytes) = piece {
                    keyboard.write(&bytes).await
                } else {
                    ended = true;
                    keyboard.end().await
                },
                _ = resized.recv() => resize(&mut keyboard).await,
                () = next(&mut interrupt) => keyboard.signal("SIGINT").await,
                () = next(&mut terminate) => keyboard.signal("SIGTERM").await,
            };
            if said.is_err() {
                // The job is over, or the connection: whoever follows its events says which.
                return pending().await;
            }
        }
    })
}

async fn next(signal: &mut Option<Signal>) {
    let came = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if came.is_none() {
        pending::<()>().await;
    }
}

async fn resize(keyboard: &mut Keyboard) -> Result<(), Error> {
    match window() {
        Some(window) => keyboard.resize(window).await,
        None => Ok(()),
    }
}

/// What comes in on standard input. A read of a terminal can't be taken back, so it is done in a
/// thread that ends with the process.
fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        loop {
            match io::stdin().lock().read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => {
                    if sender.blocking_send(chunk[..length].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // As good as its end.
                Err(_) => return,
            }
        }
    });
    receiver
}

/// A terminal that passes keys on as they are, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("can't look at the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("can't change the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        tcsetattr(io::stdin(), OptionalActions::Drain, &self.0).ok();
    }
}
