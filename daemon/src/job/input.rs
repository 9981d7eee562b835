//! What a listener says to a job while it runs: input for the program, its end, signals, the size
//! of its window.
//!
//! Invariants: input that the program has not read yet is bounded (`ROOM`), whoever writes more
//! waits; signals and sizes do not wait behind input. What is said after the end of the job is
//! lost, which is no fault.

use std::sync::Arc;

use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sandbox::Window;

/// Bytes of input that may wait for the program.
const ROOM: usize = 1 << 20;

/// What a piece takes of that besides its bytes.
const PIECE: usize = 64;

/// Signals and sizes that may wait for the program's init.
const CONTROLS: usize = 16;

/// What is said besides input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// A signal for the program's process group.
    Signal(i32),
    /// The window has another size now. Without a terminal this says nothing.
    Resize(Window),
}

/// The listener's end. Dropping it is the end of the input.
#[derive(Debug)]
pub struct Hand {
    typed: Option<UnboundedSender<Typed>>,
    room: Arc<Semaphore>,
    control: Sender<Control>,
}

/// A piece of input; there is room for more when it is dropped.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

/// The job's end.
#[derive(Debug)]
pub struct Input {
    /// The size of the terminal that the program runs on, when it does.
    pub(super) window: Option<Window>,
    pub(super) typed: UnboundedReceiver<Typed>,
    pub(super) control: Receiver<Control>,
}

/// Both ends, for a program with or without a terminal.
pub fn channel(window: Option<Window>) -> (Hand, Input) {
    let (typing, typed) = mpsc::unbounded_channel();
    let (controls, control) = mpsc::channel(CONTROLS);
    let hand = Hand {
        typed: Some(typing),
        room: Arc::new(Semaphore::new(ROOM)),
        control: controls,
    };
    let input = Input {
        window,
        typed,
        control,
    };
    (hand, input)
}

impl Hand {
    /// Gives the program input, waiting while it has much to read yet.
    pub async fn write(&self, bytes: Vec<u8>) {
        let Some(typed) = &self.typed else {
            return;
        };
        let length = bytes.len().saturating_add(PIECE).min(ROOM);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let room = Arc::clone(&self.room).acquire_many_owned(length).await.ok();
        // Nobody reads any more when the job is over.
        typed.send(Typed { bytes, _room: room }).ok();
    }

    /// There is no more input.
    pub fn end(&mut self) {
        self.typed = None;
    }

    /// Sends a signal, or another size.
    pub async fn control(&self, control: Control) {
        self.control.send(control).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn input_is_bounded_until_it_is_read_and_signals_pass_it() {
        let (mut hand, mut input) = channel(None);
        hand.write(vec![b'a'; ROOM]).await;
        let mut more = Box::pin(hand.write(vec![b'b'; 1]));
        assert!((&mut more).now_or_never().is_none());
        hand.control(Control::Signal(2)).await;
        assert_eq!(input.control.recv().await, Some(Control::Signal(2)));
        let first = input.typed.recv().await.expect("input");
        assert_eq!(first.bytes.len(), ROOM);
        assert!(
            (&mut more).now_or_never().is_none(),
            "it is not written yet"
        );
        drop(first);
        more.await;
        hand.end();
        hand.write(b"too late".to_vec()).await;
        assert_eq!(input.typed.recv().await.expect("input").bytes, b"b");
        assert!(input.typed.recv().await.is_none());
    }

    #[tokio::test]
    async fn what_is_said_after_the_end_is_lost() {
        let (hand, input) = channel(None);
        drop(input);
        hand.write(b"x".to_vec()).await;
        hand.control(Control::Signal(1)).await;
    }
}
