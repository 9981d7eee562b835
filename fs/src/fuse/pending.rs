//! Requests under way, and what becomes of those that take too long.
//!
//! A read can hang in a system call (an image on a network disk that is gone), so its reply lies
//! here while it is worked on: worker and watchdog race for it, and who takes it answers. All
//! other requests touch memory only. One of those that hangs is a fault of this program, nothing
//! can be answered in its place, and [`Overdue::Lost`] says so.
//!
//! Time is counted in looks of the watchdog and not by a clock: when the whole process was stopped
//! for a while, or got no processor, nobody is late because of that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::ReplyData;

use super::convert::errno;
use crate::crew::Ticket;
use crate::error::FsError;

/// Looks of the watchdog that a request may take.
pub(crate) const LOOKS: u32 = 8;

/// Looks after which a request that can't be answered is held to be lost.
const LOOKS_LOST: u32 = 3 * LOOKS;

/// A reply that two race for.
type Held = Arc<Mutex<Option<ReplyData>>>;

#[derive(Debug)]
struct Waiting {
    looks: u32,
    /// None for a request that only its worker can answer.
    reply: Option<Held>,
}

#[derive(Debug, Default)]
struct State {
    tickets: u64,
    waiting: BTreeMap<Ticket, Waiting>,
}

/// The requests under way.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<State>);

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// These were refused just now; whoever works on them may never come back.
    Refused(Vec<Ticket>),
    /// A request that should take no time does not end.
    Lost,
}

/// A request under way; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    pending: Arc<Pending>,
    /// Its number.
    pub(super) ticket: Ticket,
    reply: Option<Held>,
}

impl UnderWay {
    /// The reply, unless the watchdog was faster.
    pub(super) fn reply(&self) -> Option<ReplyData> {
        lock(self.reply.as_ref()?).take()
    }

    /// Whether the watchdog answered it.
    pub(super) fn is_refused(&self) -> bool {
        self.reply
            .as_ref()
            .is_some_and(|reply| lock(reply).is_none())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.pending.0).waiting.remove(&self.ticket);
    }
}

impl Pending {
    /// Notes a request that its worker answers.
    pub(super) fn watch(self: &Arc<Self>) -> UnderWay {
        self.add(None)
    }

    /// Notes a request that may hang, with its reply.
    pub(super) fn hold(self: &Arc<Self>, reply: ReplyData) -> UnderWay {
        self.add(Some(Arc::new(Mutex::new(Some(reply)))))
    }

    fn add(self: &Arc<Self>, reply: Option<Held>) -> UnderWay {
        let mut state = lock(&self.0);
        state.tickets += 1;
        let ticket = Ticket(state.tickets);
        let waiting = Waiting {
            looks: 0,
            reply: reply.clone(),
        };
        state.waiting.insert(ticket, waiting);
        drop(state);
        UnderWay {
            pending: Arc::clone(self),
            ticket,
            reply,
        }
    }

    /// One look of the watchdog: answers what is overdue with EIO.
    pub(crate) fn look(&self) -> Overdue {
        let mut overdue = Vec::new();
        let mut state = lock(&self.0);
        for (ticket, waiting) in &mut state.waiting {
            waiting.looks += 1;
            if waiting.looks > LOOKS
                && let Some(reply) = &waiting.reply
            {
                overdue.push((*ticket, Arc::clone(reply)));
            } else if waiting.looks > LOOKS_LOST {
                return Overdue::Lost;
            }
        }
        for (ticket, _) in &overdue {
            state.waiting.remove(ticket);
        }
        drop(state);
        // Answered without the lock, since that is a system call.
        overdue.retain(|(_, reply)| {
            let reply = lock(reply).take();
            let refused = reply.is_some();
            if let Some(reply) = reply {
                reply.error(errno(&FsError::Late));
            }
            refused
        });
        Overdue::Refused(overdue.into_iter().map(|(ticket, _)| ticket).collect())
    }
}

/// Nothing behind these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_reply_to_take_over_is_lost_when_it_does_not_end() {
        let pending = Arc::new(Pending::default());
        let ended = pending.watch();
        for _ in 0..LOOKS_LOST {
            assert_eq!(pending.look(), Overdue::Refused(Vec::new()));
        }
        drop(ended);
        let _hangs = pending.watch();
        for _ in 0..LOOKS_LOST {
            assert_eq!(pending.look(), Overdue::Refused(Vec::new()));
        }
        assert_eq!(pending.look(), Overdue::Lost);
    }
}
