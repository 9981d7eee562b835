//! Jobs that run or wait. Who may only execute sees those of the own token; without one, whoever
//! holds a job's id may look at it and end it: ids can't be guessed.

use std::sync::Arc;

use axum::extract::State;
use piston_client::api::{Code, Job, Role};
use piston_client::ids::JobId;

use super::app::App;
use super::body::{self, Params};
use super::edge::Peer;
use super::reply::{self, Reply};
use crate::error::Error;
use crate::job::queue::Requester;
use crate::job::registry::Whose;

/// `GET /jobs`.
pub(super) async fn list(State(app): State<Arc<App>>, peer: Peer) -> Reply {
    let whose = match (peer.role, peer.requester) {
        (Role::Execute, Requester::Token(_)) | (Role::Admin, _) => whose(peer),
        // Nobody can tell which of them are whose.
        (Role::Execute, _) => return reply::json(&Vec::<Job>::new()),
    };
    reply::json(&app.engine().await?.runner.registry().list(whose))
}

/// `GET /jobs/{id}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    peer: Peer,
    Params(id): Params<String>,
) -> Reply {
    let id = body::id(&id)?;
    let job = app.engine().await?.runner.registry().get(&id, whose(peer));
    reply::json(&job.ok_or_else(|| unknown(&id))?)
}

/// `DELETE /jobs/{id}`: ends it; its caller gets what it printed so far.
pub(super) async fn kill(
    State(app): State<Arc<App>>,
    peer: Peer,
    Params(id): Params<String>,
) -> Reply {
    let id = body::id(&id)?;
    let job = app.engine().await?.runner.registry().kill(&id, whose(peer));
    job.map_or_else(|| Err(unknown(&id)), |_| reply::nothing())
}

/// The jobs that somebody may look at.
fn whose(peer: Peer) -> Whose {
    match (peer.role, peer.requester) {
        (Role::Admin, _) => Whose::All,
        (Role::Execute, token @ Requester::Token(_)) => Whose::Of(token),
        (Role::Execute, _) => Whose::Nobodys,
    }
}

fn unknown(id: &JobId) -> Error {
    Error::new(Code::NotFound, format!("no job {id} runs or waits"))
}
