//! What a request knows of its connection: where it came in, its place among the bounded number of
//! them, and whether its client is still there.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::access::Arrival;
use super::hangup::Hangup;

/// A connection; cheap to clone. It counts as open until the last clone is gone.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    arrival: Arrival,
    hangup: Hangup,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(arrival: Arrival, hangup: Hangup, slot: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Parts {
            arrival,
            hangup,
            _slot: slot,
        }))
    }

    /// Where it came in, and from whom.
    pub(super) fn arrival(&self) -> &Arrival {
        &self.0.arrival
    }

    /// Whether the end of what a client says leaves it waiting for a reply.
    pub(super) fn knows_half_closed(&self) -> bool {
        self.0.hangup.knows_half_closed()
    }

    /// Returns some time after the client has gone.
    pub(super) async fn gone(&self) {
        self.0.hangup.gone().await;
    }
}

#[cfg(test)]
impl Connection {
    /// The connection of a stream, the only one that is allowed.
    pub(super) fn only(stream: &super::hangup::Stream, arrival: Arrival) -> Self {
        let slots = Arc::new(tokio::sync::Semaphore::new(1));
        let slot = slots.try_acquire_owned().expect("a slot");
        let hangup = Hangup::of(stream, super::hangup::Transport::Unix);
        Self::new(arrival, hangup, slot)
    }

    /// One without a client.
    pub(super) fn abandoned(arrival: Arrival) -> Self {
        let (stream, _) = tokio::net::UnixStream::pair().expect("a pair");
        Self::only(&super::hangup::Stream::new(stream), arrival)
    }
}
