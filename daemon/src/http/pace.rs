//! The pace of a connection's client: whether it says a request in time, once it has begun one.
//!
//! A client that says nothing between two requests is welcome for minutes (a proxy that keeps
//! connections open), one that has begun a head and does not end it is not. hyper has one time for
//! both, and sets a timer for each request. So this watches the bytes instead: the first ones after
//! a reply begin a head, which most often is whole at once and needs no timer; silence has one for
//! the whole connection, which looks again when it was not silent for long enough.
//!
//! What this does not do: bodies, whose time is [`super::body`]'s.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::hangup::Stream;

/// Nothing is said.
const IDLE: u8 = 0;
/// A head has begun.
const HEAD: u8 = 1;
/// It is a request, whose reply is not over.
const ASKED: u8 = 2;

/// What is known of a connection's pace; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pace(Arc<Known>);

#[derive(Debug)]
struct Known {
    state: AtomicU8,
    opened: Instant,
    /// When the last reply was over: milliseconds since `opened`.
    replied: AtomicU64,
}

impl Pace {
    /// Of a new connection: whoever opens one has something to say.
    pub(super) fn new() -> Self {
        Self(Arc::new(Known {
            state: AtomicU8::new(HEAD),
            opened: Instant::now(),
            replied: AtomicU64::new(0),
        }))
    }

    /// A request was said; its reply is on its way as long as the guard lives.
    pub(super) fn asked(&self) -> Replying {
        self.0.state.store(ASKED, Ordering::Relaxed);
        Replying(self.clone())
    }

    /// A reply is over.
    fn replied(&self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis());
        self.0
            .replied
            .store(now.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.0.state.store(IDLE, Ordering::Relaxed);
    }

    /// Ready when nothing was said for so long. `timer` is this connection's, used for nothing else.
    pub(super) fn poll_silent(
        &self,
        mut timer: Pin<&mut Sleep>,
        allowed: Duration,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            ready!(timer.as_mut().poll(task));
            let now = Instant::now();
            let next = if self.0.state.load(Ordering::Relaxed) == IDLE {
                let since = Duration::from_millis(self.0.replied.load(Ordering::Relaxed));
                self.0.opened + since + allowed
            } else {
                now + allowed
            };
            if next <= now {
                return Poll::Ready(());
            }
            timer.as_mut().reset(next);
        }
    }

    /// Polls what may not be ready while a head is on its way; it begins anew with each.
    pub(super) fn poll_in_head<F: Future<Output = ()>>(
        &self,
        held: &mut Held<F>,
        new: impl FnOnce() -> F,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        self.poll_in(HEAD, held, new, task)
    }

    /// The same while a reply is.
    pub(super) fn poll_in_reply<F: Future<Output = ()>>(
        &self,
        held: &mut Held<F>,
        new: impl FnOnce() -> F,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        self.poll_in(ASKED, held, new, task)
    }

    /// To be polled after the connection was, which is what changes the state.
    fn poll_in<F: Future<Output = ()>>(
        &self,
        state: u8,
        held: &mut Held<F>,
        new: impl FnOnce() -> F,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        if self.0.state.load(Ordering::Relaxed) != state {
            *held = None;
            return Poll::Pending;
        }
        held.get_or_insert_with(|| Box::pin(new()))
            .as_mut()
            .poll(task)
    }
}

/// What is waited for in a state; none in others.
pub(super) type Held<F> = Option<Pin<Box<F>>>;

/// A reply on its way.
#[derive(Debug)]
pub(super) struct Replying(Pace);

impl Drop for Replying {
    fn drop(&mut self) {
        self.0.replied();
    }
}

/// The body of a reply, which is over when this is dropped.
#[derive(Debug)]
pub(super) struct Paced {
    body: Body,
    _replying: Replying,
}

impl Paced {
    pub(super) fn new(body: Body, replying: Replying) -> Self {
        Self {
            body,
            _replying: replying,
        }
    }
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose bytes are seen coming.
#[derive(Debug)]
pub(super) struct Heard {
    stream: Stream,
    pace: Pace,
}

impl Heard {
    pub(super) fn new(stream: Stream, pace: Pace) -> Self {
        Self { stream, pace }
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *self.stream.lock()).poll_read(task, buffer))?;
        if buffer.filled().len() > before {
            // Whichever other state it is in stays.
            let (was, is) = (IDLE, HEAD);
            let state = &self.pace.0.state;
            let _ = state.compare_exchange(was, is, Ordering::Relaxed, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.lock()).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.lock()).poll_write_vectored(task, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.lock()).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.lock()).poll_shutdown(task)
    }
}
