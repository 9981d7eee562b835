//! Who works on what: requests that take time, spread fairly over a few threads.
//!
//! The threads that read requests from the kernel do the work themselves as long as one of them
//! is left to read on; what comes beyond that waits in a queue of its requester, and whoever ends
//! a step takes the next one, a requester at a time. So there is no handing over where there is no
//! crowd, and in a crowd each requester gets the same share, however much it asks for, and however
//! long its jobs are: a task does a block at a time and goes to the end of the line after it.
//!
//! Invariants: at most `slots` jobs are under way, those given up not counted; no requester has
//! more than all slots but one (there are two at least), so that another finds one free at once; at
//! least one reader is not at work, whatever the jobs do. A job that hangs is given up by the
//! watchdog: its thread is lost until it comes back by itself, and a spare one takes its place.
//!
//! Knows neither FUSE nor files. The tasks answer for themselves.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Threads that stand in for those that hang, at most.
const SPARES: usize = 64;

/// Something to do, a step at a time; it is not called again after its last.
pub(crate) type Task = Box<dyn FnMut() -> Step + Send>;

/// How far a task is after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has more to do, when it is its requester's turn again.
    More,
    /// That was the last.
    Last,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Requester {
    /// The user.
    pub(crate) uid: u32,
    /// Which of his doings.
    pub(crate) group: Group,
}

/// What counts as one requester among those of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// All that is in a PID namespace of its own, by the namespace's number. A job is in one and
    /// can't leave it, so it is one requester however many processes it has, also where all jobs
    /// are one user.
    Space(u64),
    /// A process of the PID namespace that this server is in.
    Process(u32),
    /// Whatever is not seen from here.
    Unknown,
}

/// The number of a request, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

struct Job {
    ticket: Ticket,
    who: Requester,
    task: Task,
}

/// The threads and their queue.
pub(crate) struct Crew {
    /// Threads that read requests.
    readers: usize,
    /// Jobs under way at most.
    slots: usize,
    /// Processors.
    cores: usize,
    state: Mutex<State>,
    /// Something ended: there may be an idle core.
    calmer: Condvar,
}

#[derive(Default)]
struct State {
    /// The jobs under way that are not given up.
    seats: HashMap<Ticket, Requester>,
    /// How many of them each requester has; none has 0.
    held: HashMap<Requester, usize>,
    /// Readers at work, those that hang included.
    readers_at_work: usize,
    /// Spare threads that live, those that hang included.
    spares: usize,
    /// What waits, by requester; none is empty.
    queues: HashMap<Requester, VecDeque<Job>>,
    /// Those who have something waiting, the next one first.
    turns: VecDeque<Requester>,
    /// Threads that work ahead.
    ahead: usize,
    ended: bool,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew")
            .field("readers", &self.readers)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// Leave to work ahead for a while.
pub(crate) struct Idle<'a>(&'a Crew);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.lock().ahead -= 1;
        self.0.calmer.notify_one();
    }
}

impl Crew {
    /// A crew of so many threads that read requests, at least three.
    pub(crate) fn new(readers: usize, cores: usize) -> Self {
        let readers = readers.max(3);
        Self {
            readers,
            slots: readers - 1,
            cores: cores.max(1),
            state: Mutex::default(),
            calmer: Condvar::new(),
        }
    }

    /// How many threads have to read requests: all slots can be used, and one reads on.
    pub(crate) fn readers(&self) -> usize {
        self.readers
    }

    /// Has a task done: here and now, or when its requester's turn comes. To be called by the
    /// threads that read requests, and by no others.
    pub(crate) fn submit(self: &Arc<Self>, who: Requester, ticket: Ticket, task: Task) {
        let job = Job { ticket, who, task };
        let mut state = self.lock();
        if state.may_start(who, self.slots) && state.readers_at_work + 1 < self.readers {
            state.readers_at_work += 1;
            state.sit(&job);
            drop(state);
            self.work(job);
            self.lock().readers_at_work -= 1;
        } else {
            state.enqueue(job, VecDeque::push_back);
            self.call_spares(state);
        }
    }

    /// Counts a job that hangs as over, so that another may be done in its place. Its thread takes
    /// no further job if it ever comes back.
    pub(crate) fn give_up(self: &Arc<Self>, ticket: Ticket) {
        let mut state = self.lock();
        state.stand_up(ticket);
        self.calmer.notify_one();
        self.call_spares(state);
    }

    /// Waits until a core is idle and nothing waits; none when the crew has ended.
    pub(crate) fn idle(&self) -> Option<Idle<'_>> {
        let busy = |state: &mut State| {
            let at_work = state.seats.len() + state.ahead;
            !state.ended && (!state.turns.is_empty() || at_work >= self.cores)
        };
        let waited = self.calmer.wait_while(self.lock(), busy);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return None;
        }
        state.ahead += 1;
        Some(Idle(self))
    }

    /// Lets those go who wait for an idle core.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.calmer.notify_all();
    }

    /// Starts threads for what could be done if there were any.
    fn call_spares(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut jobs = Vec::new();
        while state.spares < SPARES
            && let Some(job) = state.next(self.slots)
        {
            state.spares += 1;
            jobs.push(job);
        }
        drop(state);
        for job in jobs {
            let ticket = job.ticket;
            let crew = Arc::clone(self);
            let work = move || {
                crew.work(job);
                crew.lock().spares -= 1;
            };
            let thread = thread::Builder::new().name("fs-spare".to_owned());
            if let Err(error) = thread.spawn(work) {
                // The job went with the closure; its reply says so when it is dropped.
                tracing::error!(%error, "cannot start a thread for a request that waits");
                let mut state = self.lock();
                state.stand_up(ticket);
                state.spares -= 1;
            }
        }
    }

    /// Does a step of a job, and then what comes next: of this one or of others.
    fn work(&self, mut job: Job) {
        loop {
            // Tasks contain their panics; this is for what they forgot.
            let step = catch_unwind(AssertUnwindSafe(&mut job.task));
            match self.after(job, step.unwrap_or(Step::Last)) {
                Some(next) => job = next,
                None => return,
            }
        }
    }

    /// Ends a step of a job; the answer is what to do next, unless this one was given up meanwhile.
    fn after(&self, job: Job, step: Step) -> Option<Job> {
        let mut state = self.lock();
        state.stand_up(job.ticket)?;
        if step == Step::More {
            state.enqueue(job, VecDeque::push_front);
        }
        let next = state.next(self.slots);
        if next.is_none() {
            self.calmer.notify_one();
        }
        next
    }

    /// Nothing behind this lock is left half done by a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a slot is free, and one that this requester may have.
    fn may_start(&self, who: Requester, slots: usize) -> bool {
        self.seats.len() < slots && self.held.get(&who).is_none_or(|held| *held < slots - 1)
    }

    fn sit(&mut self, job: &Job) {
        self.seats.insert(job.ticket, job.who);
        *self.held.entry(job.who).or_insert(0) += 1;
    }

    /// Frees the slot of a job; none when it had none.
    fn stand_up(&mut self, ticket: Ticket) -> Option<()> {
        let who = self.seats.remove(&ticket)?;
        let held = self.held.get_mut(&who)?;
        *held -= 1;
        if *held == 0 {
            self.held.remove(&who);
        }
        Some(())
    }

    /// Has a job wait at one end of its requester's queue.
    fn enqueue(&mut self, job: Job, at: fn(&mut VecDeque<Job>, Job)) {
        let queue = self.queues.entry(job.who).or_default();
        if queue.is_empty() {
            self.turns.push_back(job.who);
        }
        at(queue, job);
    }

    /// The next job that may start, with its slot.
    fn next(&mut self, slots: usize) -> Option<Job> {
        let turn = (0..self.turns.len()).find(|turn| self.may_start(self.turns[*turn], slots))?;
        let who = self.turns.remove(turn)?;
        let queue = self.queues.get_mut(&who)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&who);
        } else {
            self.turns.push_back(who);
        }
        self.sit(&job);
        Some(job)
    }
}

#[cfg(test)]
mod tests;
