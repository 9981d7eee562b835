//! Whose request it is: from what the kernel says of the thread that asks.
//!
//! The kernel names the user and the thread. Which job a thread is of is told by its PID
//! namespace, which a job can't leave; reading that costs some microseconds, so it is kept for a
//! moment. A thread that is gone, or is not seen from here, is told by its user alone. A wrong
//! answer (the number of a thread is used again within the moment) costs fairness and nothing else.

use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::crew::Requester;

/// How long an answer is kept.
const MOMENT: Duration = Duration::from_secs(1);

/// Answers kept at most.
const KNOWN: usize = 4096;

/// What is known of the threads that asked lately.
#[derive(Debug, Default)]
pub(super) struct Requesters {
    spaces: Mutex<HashMap<u32, (Instant, u64)>>,
}

impl Requesters {
    /// Whom a thread asks for.
    pub(super) fn of(&self, uid: u32, thread: u32) -> Requester {
        let now = Instant::now();
        let known = || self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |(since, space): &(Instant, u64)| {
            (now.duration_since(*since) < MOMENT).then_some(*space)
        };
        if let Some(space) = known().get(&thread).and_then(fresh) {
            return Requester { uid, space };
        }
        let space = space_of(thread).unwrap_or(0);
        let mut known = known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(thread, (now, space));
        Requester { uid, space }
    }
}

/// The number of a thread's PID namespace.
fn space_of(thread: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{thread}/ns/pid")).ok()?;
    let name = link.to_str()?;
    name.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_one_namespace_and_user_are_one_requester() {
        let requesters = Requesters::default();
        let this = requesters.of(7, std::process::id());
        assert_ne!(this.space, 0);
        let thread = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
        assert_eq!(requesters.of(7, thread), this);
        assert_ne!(requesters.of(8, thread), this);
        // Kept, though there is no such thread by now.
        let gone = requesters.of(7, u32::MAX);
        assert_eq!(gone.space, 0);
        assert_eq!(requesters.of(7, u32::MAX), gone);
    }
}
