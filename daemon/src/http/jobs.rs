//! Jobs that run or wait. Who may only execute sees those of the own token; without one, whoever
//! holds a job's id may look at it and end it: ids can't be guessed.

use std::sync::Arc;

use axum::extract::State;
use piston_client::api::{Code, Job, Role};
use piston_client::ids::JobId;

use super::app::App;
use super::body::{self, Json, Params};
use super::edge::Peer;
use super::reply::{Answer, NoContent};
use crate::error::Error;
use crate::job::queue::Requester;
use crate::job::registry::Whose;

/// `GET /jobs`.
pub(super) async fn list(State(app): State<Arc<App>>, peer: Peer) -> Answer<Vec<Job>> {
    let whose = match (peer.role, peer.requester) {
        (Role::Execute, Requester::Token(_)) | (Role::Admin, _) => whose(peer),
        // Nobody can tell which of them are whose.
        (Role::Execute, _) => return Ok(Json(Vec::new())),
    };
    Ok(Json(app.engine().await?.runner.registry().list(whose)))
}

/// `GET /jobs/{id}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    peer: Peer,
    Params(id): Params<String>,
) -> Answer<Job> {
    let id = body::id(&id)?;
    let job = app.engine().await?.runner.registry().get(&id, whose(peer));
    Ok(Json(job.ok_or_else(|| unknown(&id))?))
}

/// `DELETE /jobs/{id}`: ends it; its caller gets what it printed so far.
pub(super) async fn kill(
    State(app): State<Arc<App>>,
    peer: Peer,
    Params(id): Params<String>,
) -> Result<NoContent, Error> {
    let id = body::id(&id)?;
    let job = app.engine().await?.runner.registry().kill(&id, whose(peer));
    job.map_or_else(|| Err(unknown(&id)), |_| Ok(NoContent))
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
