//! Who runs next: a bounded number of slots, where nothing else bounds what all jobs use a bounded
//! sum of memory too, and a bounded line in front of them.
//!
//! Each requester has a line of its own, first come first served; the lines take turns. Of a full
//! house the newest of the longest line has to go when somebody comes whose own line is shorter:
//! nobody can keep others out by asking often.
//!
//! Invariants: no two admissions hold one slot number at once (a slot decides the host user of its
//! job); a slot and its memory are free again when its [`Admission`] is dropped; nobody overtakes
//! whose turn it is, also where what is free is too little for that one and enough for others.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use piston_client::ids::TokenId;
use piston_client::units::Bytes;
use tokio::sync::oneshot;

use super::JobError;
use crate::sandbox::Slot;

/// On whose behalf a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requester {
    /// A user of this host, as the daemon's user namespace knows it.
    User(u32),
    /// Somebody over the network.
    Address(IpAddr),
    /// Whoever holds a token.
    Token(TokenId),
    /// Somebody of whom nothing is known.
    Unknown,
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid {uid}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Token(id) => write!(f, "token {id}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Something new, which a full line refuses.
    New,
    /// The next part of something that was let in: there is always room for it.
    Continued,
}

/// The slots and the lines.
#[derive(Debug)]
pub struct Queue {
    state: Arc<Mutex<State>>,
    max_concurrent: u64,
    max_queued: usize,
    /// Bytes that all jobs may need together.
    memory: u64,
}

#[derive(Debug)]
struct State {
    free: Vec<u32>,
    /// Bytes that no running job may need.
    memory: u64,
    running: u64,
    waiting: usize,
    /// Never an empty one.
    lines: BTreeMap<Requester, VecDeque<Waiter>>,
    /// Everybody with a line, in the order of their turns.
    turns: VecDeque<Requester>,
    /// Of the next waiter.
    number: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    entry: Entry,
    needs: u64,
    grant: oneshot::Sender<Admission>,
}

/// A slot that one job holds until this is dropped, and what memory it may need.
#[derive(Debug)]
pub struct Admission {
    slot: u32,
    memory: u64,
    state: Arc<Mutex<State>>,
}

impl Queue {
    /// A queue of `max_concurrent` slots and `max_queued` places in line.
    pub fn new(max_concurrent: u32, max_queued: usize) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                free: (0..max_concurrent).rev().collect(),
                memory: u64::MAX,
                running: 0,
                waiting: 0,
                lines: BTreeMap::new(),
                turns: VecDeque::new(),
                number: 0,
            })),
            max_concurrent: u64::from(max_concurrent),
            max_queued,
            memory: u64::MAX,
        }
    }

    /// The same, for jobs that need at most so much memory together; one that needs more by itself
    /// runs alone.
    #[must_use]
    pub fn within(self, memory: Bytes) -> Self {
        lock(&self.state).memory = memory.0;
        Self {
            memory: memory.0,
            ..self
        }
    }

    /// Waits for a slot, and for so much memory. Refuses when the line is full, at once or when
    /// somebody with a better right comes.
    pub async fn admit(
        &self,
        requester: Requester,
        needs: Bytes,
        entry: Entry,
    ) -> Result<Admission, JobError> {
        let needs = needs.0.min(self.memory);
        let (number, granted) = {
            let mut state = lock(&self.state);
            if state.waiting == 0
                && let Some(slot) = state.claim(needs)
            {
                return Ok(Admission::of(&self.state, slot, needs));
            }
            if entry == Entry::New && state.waiting >= self.max_queued && !state.yields(requester) {
                return Err(self.full(state.running));
            }
            state.enter(requester, needs, entry)
        };
        let mut place = Place {
            state: &self.state,
            requester,
            number,
            granted,
        };
        // An error: somebody else has the place now.
        (&mut place.granted)
            .await
            .map_err(|_| self.full(self.running()))
    }

    fn full(&self, running: u64) -> JobError {
        JobError::QueueFull {
            running,
            waiting: u64::try_from(self.max_queued).unwrap_or(u64::MAX),
        }
    }

    /// Jobs that hold a slot.
    pub fn running(&self) -> u64 {
        lock(&self.state).running
    }

    /// Jobs in line.
    pub fn waiting(&self) -> u64 {
        u64::try_from(lock(&self.state).waiting).unwrap_or(u64::MAX)
    }

    /// How many slots there are.
    pub fn max_concurrent(&self) -> u64 {
        self.max_concurrent
    }
}

impl State {
    /// A slot with so much memory.
    fn claim(&mut self, needs: u64) -> Option<u32> {
        let left = self.memory.checked_sub(needs)?;
        let slot = self.free.pop()?;
        self.memory = left;
        self.running += 1;
        Some(slot)
    }

    /// Whose turn it is, with a slot, when there is one with enough memory.
    fn grant(&mut self) -> Option<(Waiter, u32)> {
        let line = self.lines.get(self.turns.front()?)?;
        let slot = self.claim(line.front()?.needs)?;
        self.next().map(|waiter| (waiter, slot))
    }

    /// Takes a place at the end of the requester's line.
    fn enter(
        &mut self,
        requester: Requester,
        needs: u64,
        entry: Entry,
    ) -> (u64, oneshot::Receiver<Admission>) {
        let (grant, granted) = oneshot::channel();
        let number = self.number;
        self.number += 1;
        self.waiting += 1;
        let line = self.lines.entry(requester).or_default();
        if line.is_empty() {
            self.turns.push_back(requester);
        }
        line.push_back(Waiter {
            number,
            entry,
            needs,
            grant,
        });
        (number, granted)
    }

    /// Makes room in a full house for somebody with a shorter line than the longest one.
    fn yields(&mut self, requester: Requester) -> bool {
        let own = self.lines.get(&requester).map_or(0, VecDeque::len);
        let longest = self.lines.iter().max_by_key(|(_, line)| line.len());
        let Some((&longest, line)) = longest else {
            return false;
        };
        if line.len() <= own + 1 {
            return false;
        }
        let newest = line.iter().rev().find(|waiter| waiter.entry == Entry::New);
        let Some(number) = newest.map(|waiter| waiter.number) else {
            return false;
        };
        // Its end of the channel goes with it, by which it learns.
        self.remove(longest, number);
        true
    }

    /// The first of the line whose turn it is.
    fn next(&mut self) -> Option<Waiter> {
        let requester = self.turns.pop_front()?;
        let line = self.lines.get_mut(&requester)?;
        let waiter = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&requester);
        } else {
            self.turns.push_back(requester);
        }
        self.waiting -= usize::from(waiter.is_some());
        waiter
    }

    /// Takes somebody out of a line, who may not be there any more.
    fn remove(&mut self, requester: Requester, number: u64) {
        let Some(line) = self.lines.get_mut(&requester) else {
            return;
        };
        let Some(at) = line.iter().position(|waiter| waiter.number == number) else {
            return;
        };
        line.remove(at);
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&requester);
            self.turns.retain(|other| *other != requester);
        }
    }
}

impl Admission {
    fn of(state: &Arc<Mutex<State>>, slot: u32, memory: u64) -> Self {
        Self {
            slot,
            memory,
            state: Arc::clone(state),
        }
    }

    /// The slot.
    pub fn slot(&self) -> Slot {
        Slot(self.slot)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.state);
            state.running -= 1;
            state.memory += self.memory;
            state.free.push(self.slot);
        }
        grant_all(&self.state);
    }
}

/// Lets in whose turns it is, as far as slots and memory go.
fn grant_all(state: &Arc<Mutex<State>>) {
    loop {
        let granted = lock(state).grant();
        let Some((waiter, slot)) = granted else {
            return;
        };
        // Whoever has just left drops this again, and the next one gets it.
        drop(waiter.grant.send(Admission::of(state, slot, waiter.needs)));
    }
}

/// A place in line, given back on drop (a client that goes away leaves the line).
struct Place<'a> {
    state: &'a Arc<Mutex<State>>,
    requester: Requester,
    number: u64,
    granted: oneshot::Receiver<Admission>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.state).remove(self.requester, self.number);
        // What was too little for this one may do for the next.
        grant_all(self.state);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use piston_client::api::Code;

    use super::*;

    const ANN: Requester = Requester::User(1);
    const BOB: Requester = Requester::User(2);
    const NONE: Bytes = Bytes(0);

    /// Somebody who waits from now on.
    fn waits(
        queue: &Queue,
        requester: Requester,
    ) -> std::pin::Pin<Box<impl Future<Output = Result<Admission, JobError>>>> {
        let mut waiting = Box::pin(queue.admit(requester, NONE, Entry::New));
        assert!((&mut waiting).now_or_never().is_none());
        waiting
    }

    #[tokio::test]
    async fn slots_are_distinct_and_come_back() {
        let queue = Queue::new(3, 0);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(
                queue
                    .admit(ANN, NONE, Entry::New)
                    .await
                    .expect("a free slot"),
            );
        }
        let mut slots: Vec<_> = held.iter().map(|admission| admission.slot().0).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2]);
        let freed = held.pop().expect("three").slot();
        let again = queue
            .admit(ANN, NONE, Entry::New)
            .await
            .expect("the freed slot");
        assert_eq!(again.slot(), freed);
        drop(again);
        assert_eq!(queue.running(), 2);
    }

    #[tokio::test]
    async fn the_line_is_bounded_and_leaving_it_frees_the_place() {
        let queue = Queue::new(1, 1);
        let _running = queue
            .admit(ANN, NONE, Entry::New)
            .await
            .expect("a free slot");
        let waiting = waits(&queue, ANN);
        assert_eq!(queue.waiting(), 1);
        let refused = queue.admit(ANN, NONE, Entry::New).now_or_never();
        let refused = refused.expect("at once").expect_err("full");
        assert_eq!(refused.code(), Code::QueueFull);
        // What was let in already goes on.
        let mut continued = Box::pin(queue.admit(ANN, NONE, Entry::Continued));
        assert!((&mut continued).now_or_never().is_none());
        drop((waiting, continued));
        assert_eq!(queue.waiting(), 0);
        drop(waits(&queue, ANN));
    }

    #[tokio::test]
    async fn first_come_is_first_served_and_requesters_take_turns() {
        let queue = Queue::new(1, 10);
        let mut running = Some(
            queue
                .admit(ANN, NONE, Entry::New)
                .await
                .expect("a free slot"),
        );
        let mut waiting = Vec::new();
        for (name, requester) in [
            ("a1", ANN),
            ("a2", ANN),
            ("a3", ANN),
            ("b1", BOB),
            ("b2", BOB),
        ] {
            waiting.push((name, waits(&queue, requester)));
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(running.take());
            let mut next = None;
            for (at, (_, waiter)) in waiting.iter_mut().enumerate() {
                if let Some(admitted) = waiter.now_or_never() {
                    assert!(next.is_none(), "two were let in");
                    running = Some(admitted.expect("a slot"));
                    next = Some(at);
                }
            }
            order.push(waiting.remove(next.expect("somebody's turn")).0);
        }
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    }

    #[tokio::test]
    async fn nobody_is_kept_out_by_somebody_who_asks_often() {
        let queue = Queue::new(1, 3);
        let running = queue
            .admit(ANN, NONE, Entry::New)
            .await
            .expect("a free slot");
        let (_first, _second) = (waits(&queue, ANN), waits(&queue, ANN));
        let newest = waits(&queue, ANN);
        let bob = waits(&queue, BOB);
        assert_eq!(queue.waiting(), 3);
        let refused = newest.now_or_never().expect("at once").expect_err("out");
        assert_eq!(refused.code(), Code::QueueFull);
        // Now that both have as much as is fair, whoever comes is refused.
        let refused = queue.admit(BOB, NONE, Entry::New).now_or_never();
        refused.expect("at once").expect_err("full");
        drop((running, bob));
    }

    #[tokio::test]
    async fn a_slot_that_was_granted_to_somebody_who_left_goes_to_the_next() {
        let queue = Queue::new(1, 3);
        let running = queue
            .admit(ANN, NONE, Entry::New)
            .await
            .expect("a free slot");
        let (left, next) = (waits(&queue, ANN), waits(&queue, ANN));
        drop(running);
        drop(left);
        assert!(matches!(next.now_or_never(), Some(Ok(_))));
        assert_eq!((queue.running(), queue.waiting()), (0, 0));
        drop(
            queue
                .admit(BOB, NONE, Entry::New)
                .await
                .expect("a free slot"),
        );
    }

    #[tokio::test]
    async fn jobs_run_while_their_memory_is_there_and_nobody_overtakes() {
        let queue = Queue::new(4, 10).within(Bytes(10));
        let admit = |requester, needs| Box::pin(queue.admit(requester, Bytes(needs), Entry::New));
        let first = admit(ANN, 4).await.expect("all is free");
        let second = admit(BOB, 6).await.expect("just enough");
        let (mut large, mut small) = (admit(ANN, 8), admit(BOB, 1));
        assert!((&mut large).now_or_never().is_none());
        drop(first);
        // Two slots and memory for it are free, but it isn't its turn.
        assert!((&mut small).now_or_never().is_none());
        assert_eq!((queue.running(), queue.waiting()), (1, 2));
        drop(second);
        let large = large.now_or_never().expect("at once").expect("its turn");
        let small = small.now_or_never().expect("at once").expect("the rest");
        // Who leaves the line makes way for those behind.
        let (mut leaves, mut follows) = (admit(ANN, 5), admit(ANN, 1));
        assert!((&mut leaves).now_or_never().is_none());
        assert!((&mut follows).now_or_never().is_none());
        drop(leaves);
        let follows = follows
            .now_or_never()
            .expect("at once")
            .expect("one is left");
        drop((large, small, follows));
        // More than there is: alone.
        let alone = admit(ANN, 100).await.expect("all of it");
        let mut beside = admit(BOB, 1);
        assert!((&mut beside).now_or_never().is_none());
        drop(alone);
        beside.await.expect("it is over");
        assert_eq!((queue.running(), queue.waiting()), (0, 0));
    }
}
