//! What a request knows of its connection: its place among the bounded number of them, and whether
//! its client is still there.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::hangup::Hangup;

/// A connection; cheap to clone. It counts as open until the last clone is gone.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    hangup: Hangup,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(hangup: Hangup, slot: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Parts {
            hangup,
            _slot: slot,
        }))
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
