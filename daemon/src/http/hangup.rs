//! Whether the other side of a connection is gone altogether, seen without reading from it.
//!
//! Owns the connection's stream together with whoever reads it. A client that has only said its last word (`shutdown`) waits for its reply. On a Unix socket
//! that can be told from one that went away; on TCP it can't, so there the end of what a client
//! says is its end.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest};

/// After so long a request is worth a watch over its client. Most replies are there before.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a connection is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// A Unix socket.
    Unix,
    /// TCP.
    Tcp,
}

/// What is read, written and watched.
pub(super) trait Duplex: AsyncRead + AsyncWrite + AsFd + Unpin + Send + Debug {}

impl<T: AsyncRead + AsyncWrite + AsFd + Unpin + Send + Debug> Duplex for T {}

/// A connection of either kind, which one reads and writes while another may have to watch it.
#[derive(Debug)]
pub(super) struct Stream(Arc<Mutex<dyn Duplex>>);

impl Stream {
    pub(super) fn new(stream: impl Duplex + 'static) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, dyn Duplex + 'static> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watch over one connection. Costs a descriptor only while it watches: most connections are
/// idle.
#[derive(Debug)]
pub(super) struct Hangup {
    stream: Weak<Mutex<dyn Duplex>>,
    transport: Transport,
}

impl Hangup {
    pub(super) fn of(stream: &Stream, transport: Transport) -> Self {
        Self {
            stream: Arc::downgrade(&stream.0),
            transport,
        }
    }

    /// Whether the end of what a client says leaves it waiting for a reply.
    pub(super) fn knows_half_closed(&self) -> bool {
        self.transport == Transport::Unix
    }

    /// Returns some time after the other side has gone.
    pub(super) async fn gone(&self) {
        tokio::time::sleep(PATIENCE).await;
        if let Err(error) = self.watch().await {
            tracing::debug!(%error, "a connection can't be watched");
            std::future::pending::<()>().await;
        }
    }

    async fn watch(&self) -> io::Result<()> {
        let interest = match self.transport {
            // Nothing of its own ever comes, so that only the end does.
            Transport::Unix => Interest::PRIORITY,
            Transport::Tcp => Interest::READABLE,
        };
        let Some(stream) = self.stream.upgrade().map(Stream) else {
            // Whoever had it has let it go.
            return Ok(());
        };
        // A second descriptor: the runtime watches the first one for its owner.
        let socket: OwnedFd = stream.lock().as_fd().try_clone_to_owned()?;
        drop(stream);
        let socket = crate::sandbox::watch(socket, interest)?;
        loop {
            let mut ready = socket.ready(interest).await?;
            if ready.ready().is_read_closed() {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    async fn is_gone(hangup: &Hangup) -> bool {
        // The watch itself, which answers at once when there is something to say.
        let watched = tokio::time::timeout(Duration::from_millis(100), hangup.watch());
        watched.await.is_ok()
    }

    #[tokio::test]
    async fn a_unix_client_that_said_its_last_word_is_not_gone() {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        let here = Stream::new(here);
        let hangup = Hangup::of(&here, Transport::Unix);
        assert!(!is_gone(&hangup).await);
        there.shutdown().await.expect("shut");
        assert!(!is_gone(&hangup).await);
        drop(there);
        hangup.watch().await.expect("gone");
    }

    #[tokio::test]
    async fn a_tcp_client_that_closed_is_gone_also_behind_unread_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let there = TcpStream::connect(listener.local_addr().expect("its address")).await;
        let there = there.expect("connected");
        let (here, _) = listener.accept().await.expect("accepted");
        let here = Stream::new(here);
        let hangup = Hangup::of(&here, Transport::Tcp);
        there.try_write(b"unread").expect("sent");
        assert!(!is_gone(&hangup).await);
        drop(there);
        hangup.watch().await.expect("gone");
    }
}
