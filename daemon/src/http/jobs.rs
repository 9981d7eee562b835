//! Jobs that run or wait. Whoever holds a job's id may look at it and end it: ids can't be guessed.

use std::sync::Arc;

use axum::extract::State;
use piston_client::api::Code;
use piston_client::ids::JobId;

use super::app::App;
use super::body::{self, Params};
use super::reply::{self, Reply};
use crate::error::Error;

/// `GET /jobs`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Reply {
    reply::json(&app.engine().await?.runner.registry().list())
}

/// `GET /jobs/{id}`.
pub(super) async fn show(State(app): State<Arc<App>>, Params(id): Params<String>) -> Reply {
    let id = body::id(&id)?;
    let job = app.engine().await?.runner.registry().get(&id);
    reply::json(&job.ok_or_else(|| unknown(&id))?)
}

/// `DELETE /jobs/{id}`: ends it; its caller gets what it printed so far.
pub(super) async fn kill(State(app): State<Arc<App>>, Params(id): Params<String>) -> Reply {
    let id = body::id(&id)?;
    let job = app.engine().await?.runner.registry().kill(&id);
    job.map_or_else(|| Err(unknown(&id)), |_| reply::nothing())
}

fn unknown(id: &JobId) -> Error {
    Error::new(Code::NotFound, format!("no job {id} runs or waits"))
}
