//! Many runs of one program: compiled once, then each case in a sandbox and workspace of its own.
//!
//! Invariants: a batch waits in line like any job when it comes, and again with every case, so that
//! it never holds more slots than it runs cases at once, and others have their turns between them;
//! what its cases printed is bounded (`OUTPUT`); one that was let in goes on to its end. A case
//! finds the files that every other one finds, whatever those did with theirs.
//!
//! What this does not do: keep whole results in the cache.

mod compare;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::{StreamExt as _, stream};
use piston_client::api::{self, Status};
use tracing::Instrument as _;

use super::live::{Event, Live};
use super::outcome::{StageOutcome, Verdict};
use super::queue::Entry;
use super::registry::{State, Ticket};
use super::request::Request;
use super::stage::StageKind;
use super::{JobError, Outcome, Runner, Timings};
use crate::cache::key::Keys;
use crate::sandbox::WorkspaceFile;

pub use api::Compare;

/// Bytes of output that the cases of a batch have room for together.
const OUTPUT: usize = 32 << 20;

/// A checked batch.
#[derive(Debug)]
pub struct Batch {
    /// The program, and what all cases have in common.
    pub program: Request,
    /// The cases.
    pub cases: Vec<Case>,
    /// What a failure means for the cases after it.
    pub after_failure: AfterFailure,
    /// Cases that run at once.
    pub parallel: usize,
}

/// One run: the program's request with its own arguments, input, variables and limits.
#[derive(Debug)]
pub struct Case {
    /// What is run.
    pub request: Request,
    /// What it has to print, if anything in particular.
    pub expected: Option<Expected>,
}

/// What a case has to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The output.
    pub stdout: Vec<u8>,
    /// How they are compared.
    pub compare: Compare,
}

/// Whether cases are begun after one that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// They are.
    GoOn,
    /// They are not.
    Stop,
}

/// What came of a batch.
#[derive(Debug)]
pub struct BatchOutcome {
    /// The program's compile stage, with all that is told of a job; it has no run stage.
    pub program: Outcome,
    /// The verdict on all of it.
    pub verdict: api::Verdict,
    /// One for each case, in their order.
    pub cases: Vec<CaseOutcome>,
}

/// What came of a case.
#[derive(Debug)]
pub struct CaseOutcome {
    /// Its place in the batch.
    pub index: usize,
    /// How it ended and what of it is thought; none when it was not run.
    pub ended: Option<(StageOutcome, api::Verdict)>,
    /// Where its output is.
    pub output: Output,
    /// What the daemon's own steps took.
    pub timings: Timings,
}

/// Where what a case printed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// In its outcome.
    Here,
    /// Told already, or more than there is room for.
    LeftOut,
}

impl CaseOutcome {
    fn not_run(index: usize) -> Self {
        Self {
            index,
            ended: None,
            output: Output::Here,
            timings: Timings::default(),
        }
    }

    /// The same without what it printed.
    fn without_output(&self) -> Self {
        let ended = self.ended.as_ref();
        Self {
            ended: ended.map(|(outcome, verdict)| (outcome.without_output(), *verdict)),
            output: Output::LeftOut,
            ..*self
        }
    }

    /// Bytes that it printed.
    fn size(&self) -> usize {
        let ended = self.ended.as_ref();
        ended.map_or(0, |(outcome, _)| {
            outcome.stdout.len() + outcome.stderr.len() + outcome.output.len()
        })
    }
}

impl Runner {
    /// Runs a batch to its end, telling each step and each case when somebody listens.
    pub async fn run_batch(
        &self,
        batch: Batch,
        live: Option<Live>,
    ) -> Result<BatchOutcome, JobError> {
        let program = &batch.program;
        let span = tracing::info_span!("batch", job = %program.id, pkg = %program.package());
        self.compile_and_run(batch, live).instrument(span).await
    }

    async fn compile_and_run(
        &self,
        mut batch: Batch,
        live: Option<Live>,
    ) -> Result<BatchOutcome, JobError> {
        if self.shutdown.is_draining() {
            return Err(JobError::ShuttingDown);
        }
        let ticket = self.registry.enter(&batch.program);
        let (outcome, files) = self
            .prepare_batch(&mut batch.program, live.clone(), &ticket)
            .await?;
        let Some(files) = files else {
            let cases = (0..batch.cases.len()).map(CaseOutcome::not_run).collect();
            let verdict = match outcome.last().and_then(StageOutcome::status) {
                Some(status @ (Status::Killed | Status::Internal)) => api::Verdict::Ended(status),
                _ => api::Verdict::CompileError,
            };
            return Ok(BatchOutcome {
                program: outcome,
                verdict,
                cases,
            });
        };
        ticket.set(State::Run);
        let cases = Cases {
            runner: self,
            files: Arc::new(files),
            ticket: &ticket,
            failed: AtomicBool::new(false),
            after_failure: batch.after_failure,
        };
        let cases = cases.run(batch.cases, batch.parallel, live).await;
        let verdicts = cases.iter().filter_map(|case| Some(case.ended.as_ref()?.1));
        let verdict = verdicts
            .into_iter()
            .find(|verdict| *verdict != api::Verdict::Accepted);
        Ok(BatchOutcome {
            program: outcome,
            verdict: verdict.unwrap_or(api::Verdict::Accepted),
            cases,
        })
    }

    /// Compiles, where that is done; the files of every case, or none when there will be none.
    async fn prepare_batch(
        &self,
        program: &mut Request,
        live: Option<Live>,
        ticket: &Ticket,
    ) -> Result<(Outcome, Option<Vec<WorkspaceFile>>), JobError> {
        let key = Keys::of(program).compile;
        let queued = Instant::now();
        let Some((compile, slot)) = self.ready(program, key, ticket).await? else {
            return Ok((Outcome::killed_in_queue(program), None));
        };
        let files = std::mem::take(&mut program.files);
        let program = &*program;
        let mut job = self.job(program, slot)?;
        job.timings.queue = queued.elapsed();
        job.live = live;
        let mut outcome = Outcome::of(program);
        let files = job.prepare((files, compile), ticket, &mut outcome).await;
        outcome.timings = job.timings;
        if key.is_some() {
            self.cache.tally(program.package()).count(outcome.cache);
        }
        Ok((outcome, files))
    }
}

/// The cases of a batch that is compiled.
struct Cases<'a> {
    runner: &'a Runner,
    files: Arc<Vec<WorkspaceFile>>,
    ticket: &'a Ticket,
    failed: AtomicBool,
    after_failure: AfterFailure,
}

impl Cases<'_> {
    async fn run(&self, cases: Vec<Case>, parallel: usize, live: Option<Live>) -> Vec<CaseOutcome> {
        let mut outcomes: Vec<_> = (0..cases.len()).map(CaseOutcome::not_run).collect();
        let cases = cases.into_iter().enumerate();
        let runs = stream::iter(cases.map(|(index, case)| self.case(index, case)));
        let mut runs = std::pin::pin!(runs.buffer_unordered(parallel));
        let mut room = OUTPUT;
        while let Some(mut case) = runs.next().await {
            match room.checked_sub(case.size()) {
                Some(rest) => room = rest,
                None => case = case.without_output(),
            }
            let index = case.index;
            if let Some(live) = &live {
                let rest = case.without_output();
                live.tell(Event::Case(Box::new(case)));
                case = rest;
            }
            outcomes[index] = case;
        }
        outcomes
    }

    async fn case(&self, index: usize, case: Case) -> CaseOutcome {
        let not_run = CaseOutcome::not_run(index);
        if self.failed.load(Ordering::Relaxed) {
            return not_run;
        }
        let queued = Instant::now();
        let mut timings = Timings::default();
        let admitted = self
            .runner
            .admitted(&case.request, Entry::Continued, self.ticket);
        let job = match admitted.await {
            Ok(Some(slot)) => self.runner.job(&case.request, slot).ok(),
            Ok(None) | Err(_) => None,
        };
        let outcome = match job {
            Some(_) if self.failed.load(Ordering::Relaxed) => return not_run,
            Some(mut job) => {
                job.timings.queue = queued.elapsed();
                let files = Arc::clone(&self.files);
                let finished = job.stage(StageKind::Run, files, self.ticket).await;
                timings = job.timings;
                finished.outcome
            }
            None => StageOutcome::failed(Verdict::Killed),
        };
        let verdict = verdict(&outcome, case.expected.as_ref());
        let failed = verdict != api::Verdict::Accepted && self.after_failure == AfterFailure::Stop;
        // Who killed one killed them all.
        if failed || verdict == api::Verdict::Ended(Status::Killed) {
            self.failed.store(true, Ordering::Relaxed);
        }
        CaseOutcome {
            ended: Some((outcome, verdict)),
            timings,
            ..not_run
        }
    }
}

fn verdict(outcome: &StageOutcome, expected: Option<&Expected>) -> api::Verdict {
    match (outcome.status(), expected) {
        (Some(status), _) => api::Verdict::Ended(status),
        (None, Some(expected)) if !expected.is(&outcome.stdout) => api::Verdict::WrongAnswer,
        (None, _) => api::Verdict::Accepted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_the_status_or_else_what_was_printed() {
        let expected = Expected {
            stdout: b"3\n".to_vec(),
            compare: Compare::Exact,
        };
        let printed = |text: &str| StageOutcome {
            stdout: text.into(),
            ..StageOutcome::default()
        };
        for (outcome, expected, given) in [
            (printed("3\n"), Some(&expected), api::Verdict::Accepted),
            (printed("3"), Some(&expected), api::Verdict::WrongAnswer),
            (printed("x"), None, api::Verdict::Accepted),
            (
                StageOutcome::failed(Verdict::ExitCode(1)),
                None,
                api::Verdict::Ended(Status::RuntimeError),
            ),
            (
                StageOutcome {
                    verdict: Some(Verdict::MemoryLimit),
                    ..printed("3\n")
                },
                Some(&expected),
                api::Verdict::Ended(Status::MemoryLimit),
            ),
        ] {
            assert_eq!(verdict(&outcome, expected), given, "{outcome:?}");
        }
    }
}
