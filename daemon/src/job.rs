//! A job: request to outcome.
//!
//! Reads top-down: [`Runner::run`] admits a checked [`Request`], runs its stages one after the
//! other, each in a sandbox and a workspace of its own, and returns an [`Outcome`]. Parts:
//! [`request`] (everything that can be wrong with a submission is found there and nowhere later),
//! [`limits`], [`runners`] (what the operator says of single runtimes), [`queue`] (who runs next),
//! [`registry`] (what runs now, and how to end it), [`stage`] (one stage), [`output`] (bounded
//! capture), [`live`] (telling it as it happens), [`input`] (what is said to it meanwhile),
//! [`outcome`] (status and words), [`figures`] (how jobs ended, counted), [`batch`] (one program, many runs).
//!
//! Invariants: a program that fails is an [`Outcome`], never an error; a fault of ours is an
//! outcome too (`XX`), with its reason in the log. Dropping the future of [`Runner::run`] kills the
//! job, and its slot is free for another one only after its last process is dead.
//!
//! What an equal job left in the [`crate::cache`] is used instead of doing it again: a whole result
//! before the job queues, artifacts in the place of its compile stage. The run stage is given its
//! files the same way in both cases. A job whose compile another one is doing right now waits for
//! it before it queues: who waits for others holds no slot.
//!
//! What this does not do: HTTP.

mod again;
pub mod batch;
pub mod command;
pub mod figures;
pub mod input;
pub mod limits;
pub mod live;
pub mod outcome;
pub mod output;
pub mod queue;
pub mod registry;
pub mod request;
pub mod runners;
pub mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use piston_client::api;
use piston_client::ids::{JobId, Language, Version};
use tracing::Instrument as _;

use crate::cache::Cache;
use crate::cache::entry::Kept;
use crate::cache::flight::{Leader, Seat};
use crate::cache::key::{Key, Keys};
use crate::sandbox::{Launcher, WorkspaceFile};
use crate::shutdown::Shutdown;
pub use again::Again;
use figures::Figures;
use input::Input;
use live::{Event, Live};
use outcome::{StageOutcome, Verdict};
use queue::{Admission, Entry, Queue};
use registry::{Registry, State, Ticket};
use request::Request;
use stage::{Finished, Stage, StageKind};

/// Runs jobs.
#[derive(Debug)]
pub struct Runner {
    sandboxes: Sandboxes,
    queue: Arc<Queue>,
    registry: Arc<Registry>,
    cache: Arc<Cache>,
    shutdown: Shutdown,
    host_network: HostNetwork,
    figures: Figures,
}

/// Whether jobs may see the daemon's network, where the operator says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostNetwork {
    /// They may.
    Possible,
    /// They may not, for this reason: such jobs are refused.
    Refused(String),
}

/// Whether this host can make sandboxes.
#[derive(Debug)]
pub enum Sandboxes {
    /// It can.
    Ready {
        /// What makes them.
        launcher: Box<Launcher>,
        /// First host id of the slots, none where every job shares the daemon's.
        ids: Option<u32>,
    },
    /// It can't, for this reason: jobs are refused.
    Refused(String),
}

/// What came of a job.
#[derive(Debug)]
pub struct Outcome {
    /// The job.
    pub id: JobId,
    /// The language that ran.
    pub language: Language,
    /// The version of the package that ran.
    pub version: Version,
    /// The compile stage, when there was one.
    pub compile: Option<StageOutcome>,
    /// The run stage, when it started.
    pub run: Option<StageOutcome>,
    /// Files that the request asked for.
    pub files: Vec<WorkspaceFile>,
    /// Where it came from.
    pub cache: api::CacheOutcome,
    /// What the daemon's own steps took.
    pub timings: Timings,
    /// What to ask the cache for when the same request comes again; only of whole results that came
    /// out of it.
    pub again: Option<Again>,
}

/// What the daemon's own steps took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Waiting for a slot, and before it for another job's compile.
    pub queue: Duration,
    /// Workspaces, sandboxes, exec; all stages together.
    pub sandbox: Duration,
    /// Reaping and reading results; all stages together.
    pub collect: Duration,
}

/// Why a job did not start.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The queue is full.
    #[error("{running} jobs run and {waiting} wait already, try again later")]
    QueueFull {
        /// Jobs running.
        running: u64,
        /// Jobs waiting.
        waiting: u64,
    },
    /// The host can't make a sandbox.
    #[error("no jobs can run on this host, `pistond check` says what to do: {0}")]
    NoSandbox(String),
    /// The host's network can't be shown to jobs.
    #[error("the operator gives this runtime the host's network, which is not safe here: {0}")]
    NoHostNetwork(String),
    /// The daemon is shutting down.
    #[error("the daemon is shutting down and takes no more jobs")]
    ShuttingDown,
}

impl JobError {
    /// The stable code for clients.
    pub fn code(&self) -> api::Code {
        match self {
            Self::QueueFull { .. } => api::Code::QueueFull,
            Self::NoSandbox(_) | Self::NoHostNetwork(_) => api::Code::SandboxUnavailable,
            Self::ShuttingDown => api::Code::ShuttingDown,
        }
    }
}

impl Runner {
    /// A runner of jobs.
    pub fn new(sandboxes: Sandboxes, queue: Queue, cache: Arc<Cache>, shutdown: Shutdown) -> Self {
        Self {
            sandboxes,
            queue: Arc::new(queue),
            registry: Arc::new(Registry::default()),
            cache,
            shutdown,
            host_network: HostNetwork::Possible,
            figures: Figures::default(),
        }
    }

    /// The same on a host whose network jobs may or may not see.
    #[must_use]
    pub fn with_host_network(self, host_network: HostNetwork) -> Self {
        Self {
            host_network,
            ..self
        }
    }

    /// What runs and what waits.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How many may run at once, and how many do.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// How jobs ended so far, and how long they took.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Runs a job to its end.
    pub async fn run(&self, request: Request) -> Result<Outcome, JobError> {
        self.in_span(request, None, None).await
    }

    /// The same, telling what happens as it happens.
    pub async fn run_live(&self, request: Request, live: Live) -> Result<Outcome, JobError> {
        self.in_span(request, Some(live), None).await
    }

    /// The same with a listener who also says something. The run stage's output is told to it and
    /// not kept, and as nobody knows what it will say its result is no equal job's.
    pub async fn run_interactive(
        &self,
        mut request: Request,
        live: Live,
        input: Input,
    ) -> Result<Outcome, JobError> {
        request.cache = request.cache.min(api::CacheLevel::Binary);
        self.in_span(request, Some(live), Some(input)).await
    }

    async fn in_span(
        &self,
        request: Request,
        live: Option<Live>,
        input: Option<Input>,
    ) -> Result<Outcome, JobError> {
        if self.shutdown.is_draining() {
            return Err(JobError::ShuttingDown);
        }
        // Before the files go to the first stage: they are a part of both.
        let keys = Keys::of(&request);
        // Before the span: it would cost as much as the rest of the way.
        if let Some(outcome) = self.repeated(&request, keys, live.as_ref()).await {
            return Ok(outcome);
        }
        let span = tracing::info_span!("job", job = %request.id, pkg = %request.package());
        // In a box: what is answered above would carry the room for a whole job through every
        // layer of the server.
        let job = self.admit_and_run(request, keys, live, input);
        Box::pin(job.instrument(span)).await
    }

    /// The whole result that an equal job left.
    async fn repeated(
        &self,
        request: &Request,
        keys: Keys,
        live: Option<&Live>,
    ) -> Option<Outcome> {
        let (key, lasts) = (keys.result?, request.installed().time_to_live);
        let (entry, kept) = self.cache.find_named(key, lasts).await?;
        let tally = self.cache.tally(request.package());
        tally.count(api::CacheOutcome::Output);
        let outcome = Outcome {
            again: Some(Again::new(entry, request, tally)),
            ..Outcome::restored(request, &kept)
        };
        if let Some(live) = live {
            outcome.tell(live);
        }
        Some(outcome)
    }

    async fn admit_and_run(
        &self,
        mut request: Request,
        keys: Keys,
        live: Option<Live>,
        input: Option<Input>,
    ) -> Result<Outcome, JobError> {
        let queued = Instant::now();
        let ticket = self.registry.enter(&request);
        let admitted = self.ready(&request, keys.compile, &ticket).await?;
        let Some((compile, slot)) = admitted else {
            return Ok(Outcome::killed_in_queue(&request));
        };
        let files = std::mem::take(&mut request.files);
        let mut job = Job {
            live,
            input,
            ..self.job(&request, slot)?
        };
        job.timings.queue = queued.elapsed();
        let outcome = job.stages(files, compile, &ticket).await;
        let status = outcome.last().and_then(StageOutcome::status);
        self.figures.count(status, queued.elapsed());
        tracing::debug!(?status, "job ended");
        if let Some(key) = keys.result {
            self.cache
                .keep(key, request.package(), Arc::new(outcome.kept()));
        }
        if keys.result.or(keys.compile).is_some() {
            self.cache.tally(request.package()).count(outcome.cache);
        }
        Ok(outcome)
    }

    /// How the compile stage of a job comes about. Returns when nobody does an equal one any more.
    async fn compile_of(&self, key: Key, lasts: Option<Duration>) -> Compile {
        loop {
            if self.cache.has(key, lasts) {
                return Compile::Restore(key);
            }
            match self.cache.join(key) {
                Seat::Waiter(waiter) => {
                    if let Some(kept) = waiter.landed().await {
                        return Compile::Landed(kept);
                    }
                }
                // It may have been kept between the look and the lead.
                Seat::Leader(_) if self.cache.has(key, lasts) => return Compile::Restore(key),
                Seat::Leader(leader) => return Compile::Do(Some(leader)),
            }
        }
    }
}

/// How a compile stage comes about.
enum Compile {
    /// It is done; as the one that others wait for, where there may be others.
    Do(Option<Leader>),
    /// It is in the cache.
    Restore(Key),
    /// An equal job did it just now.
    Landed(Arc<Kept>),
}

impl Runner {
    /// Waits for another job that does an equal compile, then for a slot; none when the job is killed
    /// meanwhile.
    async fn ready(
        &self,
        request: &Request,
        key: Option<Key>,
        ticket: &Ticket,
    ) -> Result<Option<(Compile, Admission)>, JobError> {
        let compile = match key {
            None => Compile::Do(None),
            Some(key) => tokio::select! {
                compile = self.compile_of(key, request.installed().time_to_live) => compile,
                () = ticket.killed() => return Ok(None),
                () = self.shutdown.ending() => return Err(JobError::ShuttingDown),
            },
        };
        let slot = self.admitted(request, Entry::New, ticket).await?;
        Ok(slot.map(|slot| (compile, slot)))
    }

    /// Waits for a slot; none when the job is killed meanwhile.
    async fn admitted(
        &self,
        request: &Request,
        entry: Entry,
        ticket: &Ticket,
    ) -> Result<Option<Admission>, JobError> {
        if let Sandboxes::Refused(reason) = &self.sandboxes {
            return Err(JobError::NoSandbox(reason.clone()));
        }
        if let (api::Network::Host, HostNetwork::Refused(reason)) =
            (request.grants.network, &self.host_network)
        {
            return Err(JobError::NoHostNetwork(reason.clone()));
        }
        tokio::select! {
            admission = self.queue.admit(request.requester, request.memory(), entry) => admission.map(Some),
            () = ticket.killed() => Ok(None),
            () = self.shutdown.ending() => Err(JobError::ShuttingDown),
        }
    }

    /// A job in its slot, that nobody listens to.
    fn job<'a>(&'a self, request: &'a Request, slot: Admission) -> Result<Job<'a>, JobError> {
        let (launcher, ids) = match &self.sandboxes {
            Sandboxes::Ready { launcher, ids } => (&**launcher, *ids),
            Sandboxes::Refused(reason) => return Err(JobError::NoSandbox(reason.clone())),
        };
        Ok(Job {
            launcher,
            ids,
            cache: &self.cache,
            shutdown: &self.shutdown,
            slot: Arc::new(slot),
            timings: Timings::default(),
            request,
            live: None,
            input: None,
        })
    }
}

/// A job that has its slot.
struct Job<'a> {
    launcher: &'a Launcher,
    ids: Option<u32>,
    cache: &'a Arc<Cache>,
    shutdown: &'a Shutdown,
    slot: Arc<Admission>,
    timings: Timings,
    request: &'a Request,
    /// Who is told, when somebody is.
    live: Option<Live>,
    /// What is said to it.
    input: Option<Input>,
}

impl Job<'_> {
    async fn stages(
        &mut self,
        files: Vec<WorkspaceFile>,
        compile: Compile,
        ticket: &Ticket,
    ) -> Outcome {
        let mut outcome = Outcome::of(self.request);
        if let Some(files) = self.prepare((files, compile), ticket, &mut outcome).await {
            ticket.set(State::Run);
            let finished = self.stage(StageKind::Run, files.into(), ticket).await;
            outcome.run = Some(finished.outcome);
            outcome.files = finished.files;
        }
        outcome.timings = self.timings;
        outcome
    }

    /// The files of the run stage, after compiling where that is done; none when it failed.
    async fn prepare(
        &mut self,
        (files, compile): (Vec<WorkspaceFile>, Compile),
        ticket: &Ticket,
        outcome: &mut Outcome,
    ) -> Option<Vec<WorkspaceFile>> {
        if self.request.installed().compile.is_none() {
            return Some(files);
        }
        ticket.set(State::Compile);
        let files = Arc::new(files);
        let (finished, from) = self.compile(compile, Arc::clone(&files), ticket).await;
        let succeeded = finished.outcome.verdict.is_none();
        outcome.compile = Some(finished.outcome);
        outcome.cache = from;
        let files = Arc::unwrap_or_clone(files);
        succeeded.then(|| request::carried_over(files, finished.files))
    }

    /// The compile stage, or what an equal one left.
    async fn compile(
        &mut self,
        compile: Compile,
        files: Arc<Vec<WorkspaceFile>>,
        ticket: &Ticket,
    ) -> (Finished, api::CacheOutcome) {
        let lasts = self.request.installed().time_to_live;
        let (kept, leader) = match compile {
            Compile::Do(leader) => (None, leader),
            Compile::Landed(kept) => (Some(kept), None),
            Compile::Restore(key) => match self.cache.find(key, lasts).await {
                Some(kept) => (Some(kept), None),
                // It was damaged, or had to make room meanwhile.
                None => match self.cache.join(key) {
                    Seat::Leader(leader) => (None, Some(leader)),
                    Seat::Waiter(_) => (None, None),
                },
            },
        };
        if let Some(finished) = kept.and_then(|kept| self.restored(&kept)) {
            return (finished, api::CacheOutcome::Binary);
        }
        let finished = self.stage(StageKind::Compile, files, ticket).await;
        if let Some(leader) = leader
            && finished.is_of_the_program()
        {
            let kept = Arc::new(finished.kept());
            self.cache.land(leader, self.request.package(), kept);
        }
        (finished, api::CacheOutcome::Miss)
    }

    /// A compile stage of an equal job, told as this one's.
    fn restored(&self, kept: &Kept) -> Option<Finished> {
        let finished = Finished::of_kept(kept)?;
        if let Some(live) = &self.live {
            live.replay(StageKind::Compile, &finished.outcome);
        }
        Some(finished)
    }

    /// One stage; a fault of ours becomes its outcome.
    async fn stage(
        &mut self,
        kind: StageKind,
        files: Arc<Vec<WorkspaceFile>>,
        ticket: &Ticket,
    ) -> Finished {
        self.tell(Event::Stage(kind));
        let stage = Stage {
            kind,
            request: self.request,
            launcher: self.launcher,
            ids: self.ids,
            slot: Arc::clone(&self.slot),
            shutdown: self.shutdown,
            live: self.live.clone(),
        };
        let finished = stage
            .run(files, self.input.as_mut(), ticket, &mut self.timings)
            .await;
        let finished = finished.unwrap_or_else(|error| {
            let reason = crate::error::chain(&error);
            tracing::error!(stage = kind.name(), reason, "a stage could not be run");
            Finished {
                outcome: StageOutcome::failed(Verdict::Internal(reason)),
                files: Vec::new(),
            }
        });
        if self.live.is_some() {
            let outcome = Box::new(finished.outcome.without_output());
            self.tell(Event::Exit(kind, outcome));
        }
        finished
    }

    fn tell(&self, event: Event) {
        if let Some(live) = &self.live {
            live.tell(event);
        }
    }
}

impl Outcome {
    fn of(request: &Request) -> Self {
        Self {
            id: request.id.clone(),
            language: request.language.clone(),
            version: request.package().version.clone(),
            compile: None,
            run: None,
            files: Vec::new(),
            cache: api::CacheOutcome::Miss,
            timings: Timings::default(),
            again: None,
        }
    }

    /// What an equal job left, as this one's.
    fn restored(request: &Request, kept: &Kept) -> Self {
        Self {
            compile: kept.compile.clone(),
            run: kept.run.clone(),
            files: kept.files.clone(),
            cache: api::CacheOutcome::Output,
            ..Self::of(request)
        }
    }

    /// Tells what an equal job did as this one's events.
    fn tell(&self, live: &Live) {
        let stages = [
            (StageKind::Compile, &self.compile),
            (StageKind::Run, &self.run),
        ];
        for (kind, stage) in stages {
            if let Some(stage) = stage {
                live.replay(kind, stage);
            }
        }
    }

    /// What the next equal job would need.
    fn kept(&self) -> Kept {
        Kept {
            compile: self.compile.clone(),
            run: self.run.clone(),
            files: self.files.clone(),
        }
    }

    /// A job that was killed before it started: its first stage says so.
    fn killed_in_queue(request: &Request) -> Self {
        let killed = Some(StageOutcome::failed(Verdict::Killed));
        let outcome = Self::of(request);
        match request.installed().compile {
            Some(_) => Self {
                compile: killed,
                ..outcome
            },
            None => Self {
                run: killed,
                ..outcome
            },
        }
    }

    /// The last stage that there was.
    pub fn last(&self) -> Option<&StageOutcome> {
        self.run.as_ref().or(self.compile.as_ref())
    }
}
