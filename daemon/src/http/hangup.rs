//! Whether the other side of a connection is gone altogether, seen without reading from it.
//!
//! A client that has only said its last word (`shutdown`) waits for its reply. On a Unix socket
//! that can be told from one that went away; on TCP it can't, so there the end of what a client
//! says is its end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;

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

/// The watch over one connection.
#[derive(Debug)]
pub(super) struct Hangup {
    /// Another descriptor of the connection.
    socket: OwnedFd,
    transport: Transport,
}

impl Hangup {
    pub(super) fn of(stream: impl AsFd, transport: Transport) -> io::Result<Self> {
        Ok(Self {
            socket: stream.as_fd().try_clone_to_owned()?,
            transport,
        })
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
        let socket = crate::sandbox::watch(self.socket.try_clone()?, interest)?;
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
    use std::os::unix::net::UnixStream;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn is_gone(hangup: &Hangup) -> bool {
        // The watch itself, which answers at once when there is something to say.
        let watched = tokio::time::timeout(Duration::from_millis(100), hangup.watch());
        watched.await.is_ok()
    }

    #[tokio::test]
    async fn a_unix_client_that_said_its_last_word_is_not_gone() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let hangup = Hangup::of(&here, Transport::Unix).expect("watched");
        assert!(!is_gone(&hangup).await);
        there.shutdown(std::net::Shutdown::Write).expect("shut");
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
        let hangup = Hangup::of(&here, Transport::Tcp).expect("watched");
        there.try_write(b"unread").expect("sent");
        assert!(!is_gone(&hangup).await);
        drop(there);
        hangup.watch().await.expect("gone");
    }
}
