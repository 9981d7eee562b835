//! What runs and what waits, and how to end it.
//!
//! In memory only. Invariant: a job is listed from its request to its reply; its [`Ticket`] takes
//! it off the list when it is dropped, however the job ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use piston_client::api;
use piston_client::ids::{JobId, Language, PackageRef};
use tokio::sync::watch;

use super::queue::Requester;
use super::request::Request;

/// The list.
#[derive(Debug, Default)]
pub struct Registry {
    jobs: Mutex<BTreeMap<JobId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    id: JobId,
    language: Language,
    package: PackageRef,
    requester: Requester,
    state: State,
    since: Instant,
    kill: watch::Sender<Kill>,
}

impl Entry {
    fn job(&self) -> api::Job {
        api::Job {
            id: self.id.clone(),
            package: self.package.clone(),
            language: self.language.clone(),
            state: self.state,
            requester: self.requester.to_string(),
            age_ms: self.since.elapsed().into(),
        }
    }
}

/// Jobs that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    All,
    /// Those of one requester.
    Of(Requester),
    /// Those of requesters who can't be told apart by more than what they know: without a token.
    Nobodys,
}

impl Whose {
    fn has(self, requester: Requester) -> bool {
        match self {
            Self::All => true,
            Self::Of(own) => own == requester,
            Self::Nobodys => !matches!(requester, Requester::Token(_)),
        }
    }
}

/// Whether a job is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    NotYet,
    Now,
}

/// Where a job is.
pub use api::JobState as State;

impl Registry {
    /// Lists a job until the ticket is dropped.
    pub fn enter(self: &Arc<Self>, request: &Request) -> Ticket {
        let (kill, killed) = watch::channel(Kill::NotYet);
        let entry = Entry {
            id: request.id.clone(),
            language: request.language.clone(),
            package: request.package().clone(),
            requester: request.requester,
            state: State::Queued,
            since: Instant::now(),
            kill,
        };
        self.lock().insert(request.id.clone(), entry);
        Ticket {
            registry: Arc::clone(self),
            id: request.id.clone(),
            killed,
        }
    }

    /// Every job that somebody may see, by id.
    pub fn list(&self, whose: Whose) -> Vec<api::Job> {
        let jobs = self.lock();
        let seen = jobs.values().filter(|entry| whose.has(entry.requester));
        seen.map(Entry::job).collect()
    }

    /// One of them.
    pub fn get(&self, id: &JobId, whose: Whose) -> Option<api::Job> {
        let jobs = self.lock();
        let entry = jobs.get(id).filter(|entry| whose.has(entry.requester))?;
        Some(entry.job())
    }

    /// Ends one of them; its caller gets what it printed so far. Tells which job it was.
    pub fn kill(&self, id: &JobId, whose: Whose) -> Option<api::Job> {
        let jobs = self.lock();
        let entry = jobs.get(id).filter(|entry| whose.has(entry.requester))?;
        entry.kill.send_replace(Kill::Now);
        Some(entry.job())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Entry>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job's place on the list.
#[derive(Debug)]
pub struct Ticket {
    registry: Arc<Registry>,
    id: JobId,
    killed: watch::Receiver<Kill>,
}

impl Ticket {
    /// Says where the job is now.
    pub fn set(&self, state: State) {
        if let Some(entry) = self.registry.lock().get_mut(&self.id) {
            entry.state = state;
        }
    }

    /// Returns when somebody ended the job.
    pub async fn killed(&self) {
        let mut killed = self.killed.clone();
        if killed.wait_for(|kill| *kill == Kill::Now).await.is_err() {
            // The sender lives as long as this ticket, so this is not reached; never returning is
            // what "nobody ended it" means.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.id);
    }
}
