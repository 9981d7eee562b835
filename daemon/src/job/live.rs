//! What a job does, told to somebody while it does it.
//!
//! Invariants: nothing here waits for the listener once a program is dead, so a slow listener
//! can't hold a slot; what it has not taken yet is bounded all the same, because output of a
//! living program is only read against `CREDIT`, and a dead one leaves at most what its pipes
//! hold. A listener that stops listening is no fault: who wants the job to end drops it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::batch::CaseOutcome;
use super::outcome::StageOutcome;
use super::output::Name;
use super::stage::StageKind;

/// Pieces of output, each at most a pipe's capacity, that may wait for the listener.
const CREDIT: usize = 8;

/// What a job does.
#[derive(Debug)]
pub enum Event {
    /// A stage starts.
    Stage(StageKind),
    /// A stage printed.
    Output(Piece),
    /// A case of a batch has ended.
    Case(Box<CaseOutcome>),
    /// A stage has ended; its outcome, without what it printed.
    Exit(StageKind, Box<StageOutcome>),
}

/// A piece of output. Dropping it makes room for the next.
#[derive(Debug)]
pub struct Piece {
    /// Which stage printed it.
    pub stage: StageKind,
    /// To which stream.
    pub name: Name,
    /// What.
    pub bytes: Vec<u8>,
    _credit: Option<OwnedSemaphorePermit>,
}

/// Where a job tells what it does.
#[derive(Debug, Clone)]
pub struct Live {
    events: UnboundedSender<Event>,
    credit: Arc<Semaphore>,
    /// When something was last read or printed.
    active: Arc<Mutex<Instant>>,
}

/// A job's end and a listener's end. The latter ends with the job.
pub fn channel() -> (Live, UnboundedReceiver<Event>) {
    let (events, listener) = unbounded_channel();
    let credit = Arc::new(Semaphore::new(CREDIT));
    let active = Arc::new(Mutex::new(Instant::now()));
    let live = Live {
        events,
        credit,
        active,
    };
    (live, listener)
}

impl Live {
    pub(super) fn tell(&self, event: Event) {
        // Nobody may be listening any more.
        self.events.send(event).ok();
    }

    /// Something was read or printed.
    pub(super) fn touch(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns when nothing was read or printed for so long.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let due = *self.active.lock().unwrap_or_else(PoisonError::into_inner) + limit;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }

    /// Tells a stage that an equal job ran: what it printed stands ready, so nothing waits.
    pub(super) fn replay(&self, stage: StageKind, outcome: &StageOutcome) {
        self.tell(Event::Stage(stage));
        let streams = [
            (Name::Stdout, &outcome.stdout),
            (Name::Stderr, &outcome.stderr),
        ];
        for (name, bytes) in streams {
            if !bytes.is_empty() {
                self.tell(Event::Output(Piece {
                    stage,
                    name,
                    bytes: bytes.clone(),
                    _credit: None,
                }));
            }
        }
        self.tell(Event::Exit(stage, Box::new(outcome.without_output())));
    }
}

/// Where one stage tells what it prints.
#[derive(Debug)]
pub(super) struct Teller {
    pub(super) live: Live,
    pub(super) stage: StageKind,
}

/// Room for a piece.
#[derive(Debug)]
pub(super) struct Credit(Option<OwnedSemaphorePermit>);

impl Credit {
    /// Room that nobody waits for: of a dead program, or where nobody listens.
    pub(super) const NONE: Self = Self(None);
}

impl Teller {
    /// Waits until the listener has room.
    pub(super) async fn room(&self) -> Credit {
        // The semaphore is never closed.
        Credit(Arc::clone(&self.live.credit).acquire_owned().await.ok())
    }

    pub(super) fn output(&self, name: Name, bytes: &[u8], credit: Credit) {
        self.live.touch();
        self.live.tell(Event::Output(Piece {
            stage: self.stage,
            name,
            bytes: bytes.to_vec(),
            _credit: credit.0,
        }));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn only_silence_is_idle() {
        let (live, _listener) = channel();
        live.touch();
        assert!(live.idle(Duration::from_hours(1)).now_or_never().is_none());
        assert!(live.idle(Duration::ZERO).now_or_never().is_some());
    }
}
