//! An installation's events as they happen.
//!
//! Invariants: what is wrong before there is a plan is an error reply with its own status; the
//! installation is a task that goes on when its client goes away; a client that reads slowly is told
//! less, and nothing is kept for it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use piston_client::api::{
    InstallEvent, InstallPhase, InstallReply, PackageProgress, PlannedPackage, Problem,
};
use piston_client::units;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::app::{App, ended};
use super::packages::Installed;
use super::stream::{Form, response};
use crate::error::Error;
use crate::packages::{Packages, PackagesError, Planned, Step, Steps};

/// Time between two tellings of bytes.
const PACE: Duration = Duration::from_millis(100);

/// A reply that comes whole, or as events where that was asked for.
#[derive(Debug)]
pub(super) enum Installing {
    /// At the end.
    Whole(Installed),
    /// As it happens.
    Events(Response),
}

impl IntoResponse for Installing {
    fn into_response(self) -> Response {
        match self {
            Self::Whole(installed) => installed.into_response(),
            Self::Events(response) => response,
        }
    }
}

/// Installs as `work` does, and replies as the client wants it.
pub(super) async fn install<F>(
    app: &Arc<App>,
    headers: &HeaderMap,
    packages: &Packages,
    work: impl FnOnce(Planned) -> F,
) -> Result<Installing, Error>
where
    F: Future<Output = Result<InstallReply, PackagesError>> + Send + 'static,
{
    let Some(form) = Form::asked(headers) else {
        let reply = app.detached(work(Planned::default())).await?;
        return Ok(Installing::Whole(Installed(reply)));
    };
    let board = packages.watch();
    let (planned, plan) = Planned::channel();
    let mut task = app.start_detached(work(planned))?;
    let Ok(plan) = plan.await else {
        // It failed before it was known what to do.
        let reply = ended((&mut task).await)?;
        return Ok(Installing::Whole(Installed(reply)));
    };
    let telling = Telling {
        form,
        seen: Steps::new(),
        board,
        task: Some(task),
        next: VecDeque::from([InstallEvent::Plan {
            packages: plan.clone(),
        }]),
        plan,
    };
    let pieces = stream::try_unfold(telling, async |mut telling| {
        let piece = telling.piece().await?;
        Ok(piece.map(|piece| (piece, telling)))
    });
    Ok(Installing::Events(response(form, pieces)))
}

type Task = JoinHandle<Result<InstallReply, PackagesError>>;

/// A reply on its way.
struct Telling {
    form: Form,
    plan: Vec<PlannedPackage>,
    /// What was told of each package.
    seen: Steps,
    board: watch::Receiver<Steps>,
    /// None when its result was told.
    task: Option<Task>,
    next: VecDeque<InstallEvent>,
}

impl Telling {
    /// The next piece of the body; none after the result.
    async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        if self.next.is_empty() && !self.seen.is_empty() {
            self.pause().await;
        }
        while self.next.is_empty() {
            let Some(task) = &mut self.task else {
                return Ok(None);
            };
            tokio::select! {
                biased;
                done = &mut *task => self.end(ended(done)),
                changed = self.board.changed() => {
                    // The board lives as long as the daemon.
                    drop(changed);
                    self.look();
                    if !self.next.is_empty() {
                        break;
                    }
                }
            }
        }
        let mut bytes = Vec::new();
        for event in self.next.drain(..) {
            let name = match event {
                InstallEvent::Plan { .. } => "plan",
                InstallEvent::Progress(_) => "progress",
                InstallEvent::Result { .. } => "result",
                InstallEvent::Error { .. } => "error",
            };
            let written = self.form.write(name, &event, &mut bytes);
            written.map_err(|error| io::Error::other(error.inside().to_owned()))?;
        }
        Ok(Some(Bytes::from(bytes)))
    }

    /// Notes what is new of the packages of the plan.
    fn look(&mut self) {
        let steps = self.board.borrow_and_update();
        for planned in &self.plan {
            let package = &planned.package;
            let Some(step) = steps.get(package) else {
                continue;
            };
            if self.seen.insert(package.clone(), *step) != Some(*step) {
                self.next.push_back(progress(package, *step));
            }
        }
    }

    /// Notes how it ended, and before that what came last.
    fn end(&mut self, ended: Result<InstallReply, Error>) {
        self.task = None;
        self.look();
        if ended.is_ok() {
            // Steps may be over sooner than anyone looks; all of them led here.
            let step = Step {
                phase: InstallPhase::Publish,
                bytes: 0,
                total: None,
            };
            for planned in &self.plan {
                if self.seen.insert(planned.package.clone(), step) != Some(step) {
                    self.next.push_back(progress(&planned.package, step));
                }
            }
        }
        self.next.push_back(last(ended));
    }

    /// Lets bytes gather; the end is told at once.
    async fn pause(&mut self) {
        if let Some(task) = &mut self.task {
            let paced = tokio::time::sleep(PACE);
            tokio::pin!(paced);
            tokio::select! {
                () = paced => {}
                done = task => self.end(ended(done)),
            }
        }
    }
}

fn progress(package: &piston_client::ids::PackageRef, step: Step) -> InstallEvent {
    InstallEvent::Progress(PackageProgress {
        package: package.clone(),
        phase: step.phase,
        bytes: units::Bytes(step.bytes),
        total: step.total.map(units::Bytes),
    })
}

fn last(ended: Result<InstallReply, Error>) -> InstallEvent {
    match ended {
        Ok(result) => InstallEvent::Result { result },
        Err(error) => {
            // A reply's error is logged where the reply is made; this one is no reply.
            tracing::info!(reason = error.inside(), "not installed");
            let problem = Box::new(Problem::new(error.code(), error.outside()));
            InstallEvent::Error { problem }
        }
    }
}
