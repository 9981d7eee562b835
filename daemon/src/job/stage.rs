//! One stage: workspace, sandbox, input and output, limits on time and output.
//!
//! Invariants: the program's wall time counts from its exec; whatever ends it, the whole tree is
//! dead before the outcome is known; a stage whose future is dropped is killed, and its slot and
//! workspace are given back only when it is dead (`Leash`).

mod streams;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc::SIGKILL;
use piston_client::api::Network;

use super::input::Input;
use super::limits::Limits;
use super::live::{Live, Teller};
use super::outcome::{StageOutcome, Verdict};
use super::output::{Capture, Captured, Keep, Name};
use super::queue::Admission;
use super::registry::Ticket;
use super::request::Request;
use super::{Timings, command};
use crate::cache::entry::Kept;
use crate::packages::Entry;
use crate::sandbox::{
    Ended, Exit, JobPath, Launcher, Over, Running, SandboxError, Spec, Workspace, WorkspaceFile,
};
use crate::shutdown::Shutdown;
use streams::{Pipes, pipes};

/// How long a killed tree may take to die before that is a fault of ours.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);

/// Files that are written at once: they go to memory, which takes less time than waking a thread.
const SMALL_FILES: usize = 16;

/// The same for what they hold together.
const SMALL_BYTES: usize = 64 << 10;
/// How long after the limit on its wall time a program is killed from here, should the sandbox not
/// have done so.
const WALL_GRACE: Duration = Duration::from_millis(500);

/// Which stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageKind {
    /// The package's compile entry.
    Compile,
    /// The package's run entry.
    Run,
}

impl StageKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compile => "compile",
            Self::Run => "run",
        }
    }
}

/// A stage about to run.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) kind: StageKind,
    pub(super) request: &'a Request,
    pub(super) launcher: &'a Launcher,
    pub(super) ids: Option<u32>,
    pub(super) slot: Arc<Admission>,
    pub(super) shutdown: &'a Shutdown,
    /// Who is told what it prints.
    pub(super) live: Option<Live>,
}

/// A stage that ended, and the files that go on from it: artifacts after compiling, what
/// `outputs` names after running.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) outcome: StageOutcome,
    pub(super) files: Vec<WorkspaceFile>,
}

impl Finished {
    /// Whether the program and its limits made the outcome, so that it is an equal job's too.
    pub(super) fn is_of_the_program(&self) -> bool {
        !matches!(
            self.outcome.verdict,
            Some(Verdict::Killed | Verdict::Internal(_))
        )
    }

    /// A compile stage for the cache.
    pub(super) fn kept(&self) -> Kept {
        Kept {
            compile: Some(self.outcome.clone()),
            run: None,
            files: self.files.clone(),
        }
    }

    /// A compile stage out of the cache.
    pub(super) fn of_kept(kept: &Kept) -> Option<Self> {
        Some(Self {
            outcome: kept.compile.clone()?,
            files: kept.files.clone(),
        })
    }
}

/// Why a stage could not be run: a fault of ours, of the host or of the package.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The package has no such entry.
    #[error("the package has no {0} entry")]
    NoEntry(&'static str),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A pipe to the program failed.
    #[error("cannot use a pipe to the program")]
    Pipe(#[source] io::Error),
    /// Blocking work panicked.
    #[error("a worker thread of the daemon failed")]
    Worker(#[from] tokio::task::JoinError),
    /// The tree was killed and did not die.
    #[error("processes of the job are still there {} s after they were killed", DEATH_TIMEOUT.as_secs())]
    Stuck,
}

impl Stage<'_> {
    /// Runs it to its end.
    pub(super) async fn run(
        self,
        files: Arc<Vec<WorkspaceFile>>,
        mut input: Option<&mut Input>,
        ticket: &Ticket,
        timings: &mut Timings,
    ) -> Result<Finished, StageError> {
        let begun = Instant::now();
        let mut spec = self.spec()?;
        if self.kind == StageKind::Run {
            spec.terminal = input.as_ref().and_then(|input| input.window);
        }
        let workspace = Arc::new(self.workspace(files).await?);
        let (pipes, stdio) = pipes().map_err(StageError::Pipe)?;
        let running = self.launcher.spawn(&spec, &workspace, stdio).await?;
        let pipes = match running.terminal() {
            None => pipes,
            Some(terminal) => Pipes::of_terminal(terminal).map_err(StageError::Pipe)?,
        };
        timings.sandbox += begun.elapsed();
        // Of no use any more, it ends with the sandbox, in the time of that.
        let workspace = self.wants_files().then_some(workspace);
        let mut leash = Leash {
            running: Some(running),
            is_dead: false,
            workspace: workspace.clone(),
            slot: Arc::clone(&self.slot),
            shutdown: self.shutdown.clone(),
        };
        let end = self.watch(&mut leash, pipes, input.take(), ticket).await?;
        let ended = Instant::now();
        let mut outcome = judge(self.limits(), end);
        let collected = self.collect(&outcome, workspace).await;
        leash.release();
        timings.collect += ended.elapsed();
        let files = match collected {
            // The job's own doing: what it printed is told all the same.
            Err(StageError::Sandbox(error @ SandboxError::TooMuch { .. })) => {
                let verdict = Verdict::LeftTooMuch(error.to_string());
                outcome.verdict.get_or_insert(verdict);
                Vec::new()
            }
            files => files?,
        };
        Ok(Finished { outcome, files })
    }

    fn limits(&self) -> &Limits {
        match self.kind {
            StageKind::Compile => &self.request.limits.compile,
            StageKind::Run => &self.request.limits.run,
        }
    }

    fn entry(&self) -> Result<&Entry, StageError> {
        let installed = self.request.installed();
        let entry = match self.kind {
            StageKind::Compile => &installed.compile,
            StageKind::Run => &installed.run,
        };
        entry.as_ref().ok_or(StageError::NoEntry(self.kind.name()))
    }

    fn spec(&self) -> Result<Spec, StageError> {
        Ok(Spec {
            view: self.request.installed().view.clone(),
            argv: command::argv(
                self.kind,
                self.entry()?,
                &self.request.code,
                &self.request.args,
            ),
            env: command::environment(self.request),
            rlimits: self.limits().into(),
            tree: self.limits().into(),
            slot: self.slot.slot().0,
            grants: self.request.grants.clone(),
            terminal: None,
        })
    }

    /// A fresh workspace with the files in it.
    async fn workspace(&self, files: Arc<Vec<WorkspaceFile>>) -> Result<Workspace, StageError> {
        let (disk, slot, ids) = (self.limits().disk, self.slot.slot(), self.ids);
        let network = self.request.grants.network;
        let bytes = files.iter().map(|file| file.bytes.len()).sum::<usize>();
        // The files of the host's network are read from a disk.
        let is_small =
            files.len() <= SMALL_FILES && bytes <= SMALL_BYTES && network == Network::None;
        let fill = move || {
            let workspace = Workspace::new(disk, slot, ids)?;
            if network == Network::Host {
                workspace.add_network_files()?;
            }
            for file in files.iter() {
                workspace.write(&file.path, file.mode, &file.bytes)?;
            }
            Ok::<_, SandboxError>(workspace)
        };
        let filled = if is_small {
            fill()
        } else {
            tokio::task::spawn_blocking(fill).await?
        };
        Ok(filled?)
    }

    /// Waits for the end of the program, or brings it about.
    async fn watch(
        &self,
        leash: &mut Leash,
        pipes: Pipes,
        input: Option<&mut Input>,
        ticket: &Ticket,
    ) -> Result<End, StageError> {
        let limits = self.limits();
        let keep = match (&input, self.kind) {
            // Its listener is all who wants to know.
            (Some(_), StageKind::Run) => Keep::Nothing,
            (Some(_) | None, _) => Keep::All,
        };
        let mut capture = Capture::new(pipes.stdout, pipes.stderr, limits.output).keeping(keep);
        if let Some(live) = self.live.clone() {
            capture = capture.told_to(Teller {
                live,
                stage: self.kind,
            });
        }
        let running = leash.running.as_ref().expect("it is released after this");
        let cause = tokio::select! {
            exit = running.wait() => Cause::OwnEnd(exit?),
            over = capture.overflow() => Cause::Killed(over.map_err(StageError::Pipe)?.into()),
            // Init keeps the time. This is for one that does not get to it.
            () = tokio::time::sleep(limits.wall_time + WALL_GRACE) => {
                Cause::Killed(Verdict::WallTime)
            }
            () = self.idle() => Cause::Killed(Verdict::Idle),
            () = ticket.killed() => Cause::Killed(Verdict::Killed),
            () = self.shutdown.ending() => Cause::Killed(Verdict::Killed),
            never = self.feed(pipes.stdin, input, running) => match never {},
        };
        let (exit, killed_for) = match cause {
            Cause::OwnEnd(exit) => (exit, None),
            Cause::Killed(verdict) => {
                running.kill();
                let dead = tokio::time::timeout(DEATH_TIMEOUT, running.wait()).await;
                (dead.map_err(|_| StageError::Stuck)??, Some(verdict))
            }
        };
        let overflow = capture.drain().map_err(StageError::Pipe)?;
        Ok(End {
            exit,
            killed_for,
            overflow: overflow.map(Verdict::from),
            captured: capture.finish(),
        })
    }

    /// Whether files may go on from this stage.
    fn wants_files(&self) -> bool {
        self.kind == StageKind::Compile || !self.request.outputs.is_empty()
    }

    /// Files that go on from this stage.
    async fn collect(
        &self,
        outcome: &StageOutcome,
        workspace: Option<Arc<Workspace>>,
    ) -> Result<Vec<WorkspaceFile>, StageError> {
        let Some(workspace) = workspace else {
            return Ok(Vec::new());
        };
        let wanted: Box<dyn Fn(&JobPath) -> bool + Send> = match self.kind {
            StageKind::Compile if outcome.verdict.is_some() => return Ok(Vec::new()),
            StageKind::Compile => self.request.artifact_filter(),
            StageKind::Run => {
                let outputs = self.request.outputs.clone();
                Box::new(move |path| outputs.is_match(path.as_str()))
            }
        };
        let bound = self.limits().disk;
        let collected =
            tokio::task::spawn_blocking(move || workspace.collect(&*wanted, bound)).await?;
        Ok(collected?)
    }
}

/// What ended the program.
enum Cause {
    /// It ended by itself.
    OwnEnd(Exit),
    /// We have to end it.
    Killed(Verdict),
}

/// A dead program and what is known of it.
struct End {
    exit: Exit,
    /// Why we killed it.
    killed_for: Option<Verdict>,
    /// The stream that was found over its limit when it was dead.
    overflow: Option<Verdict>,
    captured: Captured,
}

impl From<Over> for Verdict {
    fn from(over: Over) -> Self {
        match over {
            Over::Memory => Self::MemoryLimit,
            Over::CpuTime => Self::CpuTime,
            Over::WallTime => Self::WallTime,
        }
    }
}

impl From<Name> for Verdict {
    fn from(name: Name) -> Self {
        match name {
            Name::Stdout => Self::StdoutLimit,
            Name::Stderr => Self::StderrLimit,
        }
    }
}

/// The outcome of a dead program. One that went over a limit is said to have died of `SIGKILL`
/// also when it ended before we could send it: what a client sees must not depend on a race. What
/// it was killed for comes first; what else it went over was found afterwards.
fn judge(limits: &Limits, end: End) -> StageOutcome {
    let End {
        exit,
        killed_for,
        overflow,
        captured,
    } = end;
    let out_of_cpu = exit.cpu_time >= limits.cpu_time;
    let out_of_time = exit.wall_time >= limits.wall_time;
    let over = killed_for
        .or(exit.over.map(Verdict::from))
        .or(overflow)
        .or(out_of_cpu.then_some(Verdict::CpuTime))
        .or(out_of_time.then_some(Verdict::WallTime));
    let (code, signal, verdict) = match (over, exit.ended) {
        (Some(verdict), _) => (None, Some(SIGKILL), Some(verdict)),
        (None, Ended::Exited(0)) => (Some(0), None, None),
        (None, Ended::Exited(code)) => (Some(code), None, Some(Verdict::ExitCode(code))),
        (None, Ended::Signalled(signal)) => (None, Some(signal), Some(Verdict::Signal(signal))),
    };
    StageOutcome {
        stdout: captured.stdout,
        stderr: captured.stderr,
        output: captured.combined,
        code,
        signal,
        verdict,
        wall_time: exit.wall_time,
        cpu_time: exit.cpu_time,
        system_time: exit.system_time,
        memory: exit.memory,
    }
}

/// Holds on to a program until it is dead, also when nobody waits for the job any more.
struct Leash {
    running: Option<Running>,
    /// It has ended already.
    is_dead: bool,
    workspace: Option<Arc<Workspace>>,
    slot: Arc<Admission>,
    shutdown: Shutdown,
}

impl Leash {
    /// Lets go of a program that is dead. Its sandbox ends by itself, and its workspace in the
    /// background: giving back memory is not the client's time.
    fn release(mut self) {
        self.is_dead = true;
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        let (running, workspace) = (self.running.take(), self.workspace.take());
        if self.is_dead && workspace.is_none() {
            return;
        }
        let (slot, is_dead) = (Arc::clone(&self.slot), self.is_dead);
        self.shutdown.spawn(async move {
            if let (Some(running), false) = (&running, is_dead) {
                running.kill();
                if tokio::time::timeout(DEATH_TIMEOUT, running.wait())
                    .await
                    .is_err()
                {
                    tracing::error!("processes of a cancelled job do not die");
                }
            }
            drop((slot, running));
            // An error means that the runtime ends, which drops it as well.
            drop(tokio::task::spawn_blocking(move || drop(workspace)).await);
        });
    }
}

#[cfg(test)]
mod tests;
