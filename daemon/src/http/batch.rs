//! `POST /packages/{package}/{version}/batch`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use piston_client::api::{BatchRequest, BatchResponse, CaseResult, OutputEncoding};

use super::app::App;
use super::body::{self, Json, Params};
use super::edge::Peer;
use super::execute;
use super::stream::{self, Form, Manner, Told};
use super::told::Words;
use crate::error::Error;
use crate::job::batch::{BatchOutcome, CaseOutcome, Output};
use crate::job::request;

/// Runs a batch; replies at its end, or with its events when `Accept` asks for them.
pub(super) async fn batch(
    State(app): State<Arc<App>>,
    Params((package, version)): Params<(String, String)>,
    peer: Peer,
    headers: HeaderMap,
    Json(wire): Json<BatchRequest>,
) -> Result<Told<BatchResponse>, Error> {
    let (package, range) = (body::id(&package)?, body::range(&version)?);
    let engine = app.engine().await?;
    let lease = engine.packages.lease(&package, &range)?;
    let encoding = wire.encoding;
    let mut batch = request::batch_v3(wire, lease, &app.runners().rules())?;
    batch.program.requester = peer.requester;
    for case in &mut batch.cases {
        case.request.requester = peer.requester;
    }
    let permit = peer.job(&app)?;
    let Some(form) = Form::asked(&headers) else {
        let outcome = engine.runner.run_batch(batch, None).await?;
        return Ok(Told::Whole(Json(response(outcome, encoding))));
    };
    let job = move |app: Arc<App>, live| async move {
        let _permit = permit;
        let runner = &app.engine().await?.runner;
        Ok(runner.run_batch(batch, Some(live)).await?)
    };
    let manner = Manner { form, encoding };
    stream::tell(&app, manner, job, Words::batch).await
}

/// The reply of a batch that ended.
pub(super) fn response(outcome: BatchOutcome, encoding: OutputEncoding) -> BatchResponse {
    let BatchOutcome {
        program,
        verdict,
        cases,
    } = outcome;
    let program = execute::response(program, encoding);
    BatchResponse {
        id: program.id,
        language: program.language,
        version: program.version,
        verdict,
        // One that was killed before it could compile anything tells so in the stage it had.
        compile: program.compile,
        cases: cases.iter().map(|case| result(case, encoding)).collect(),
        cache: program.cache,
        timings: program.timings,
    }
}

/// What is told of a case.
pub(super) fn result(case: &CaseOutcome, encoding: OutputEncoding) -> CaseResult {
    let ended = case.ended.as_ref();
    CaseResult {
        index: u32::try_from(case.index).unwrap_or(u32::MAX),
        verdict: ended.map(|(_, verdict)| *verdict),
        run: ended.map(|(outcome, _)| execute::result(outcome.clone(), encoding)),
        omitted: ended.is_some() && case.output == Output::LeftOut,
        timings: execute::timings(case.timings),
    }
}
