//! `POST /packages/{package}/{version}/execute`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use piston_client::api::{
    ExecuteRequest, ExecuteResponse, OutputEncoding, OutputFile, StageResult, Timings,
};
use piston_client::units::Bytes;

use super::app::App;
use super::body::{self, Json, Params};
use super::edge::Peer;
use super::repeat;
use super::reply;
use super::stream::{self, Form, Manner, Told};
use super::told::Words;
use crate::error::Error;
use crate::job::outcome::StageOutcome;
use crate::job::{self, Outcome, request};

/// Runs a job; replies at its end, or with its events when `Accept` asks for them.
pub(super) async fn execute(
    State(app): State<Arc<App>>,
    Params((package, version)): Params<(String, String)>,
    peer: Peer,
    headers: HeaderMap,
    Json(wire): Json<ExecuteRequest>,
) -> Result<Told<ExecuteResponse>, Error> {
    let (package, range) = (body::id(&package)?, body::range(&version)?);
    let engine = app.engine().await?;
    let lease = engine.packages.lease(&package, &range)?;
    let encoding = wire.encoding;
    let request = request::from_v3(wire, lease, &app.runners().rules())?.of(peer.requester);
    let permit = peer.job(&app)?;
    let Some(form) = Form::asked(&headers) else {
        let mut outcome = engine.runner.run(request).await?;
        let (again, id) = (outcome.again.take(), outcome.id.clone());
        let json = reply::encoded(&response(outcome, encoding))?;
        return Ok(Told::Written(repeat::reply(json, again, Some(&id))));
    };
    let job = move |app: Arc<App>, live| async move {
        let _permit = permit;
        let runner = &app.engine().await?.runner;
        Ok(runner.run_live(request, live).await?)
    };
    let manner = Manner { form, encoding };
    Box::pin(stream::tell(&app, manner, job, Words::result)).await
}

/// The reply of a job that ended.
pub(super) fn response(outcome: Outcome, encoding: OutputEncoding) -> ExecuteResponse {
    let stage = |stage: Option<StageOutcome>| stage.map(|stage| result(stage, encoding));
    ExecuteResponse {
        id: outcome.id,
        language: outcome.language,
        version: outcome.version,
        compile: stage(outcome.compile),
        run: stage(outcome.run),
        files: outcome
            .files
            .into_iter()
            .map(|file| OutputFile {
                name: file.path.as_str().to_owned(),
                content: STANDARD.encode(&file.bytes),
                size: Bytes(u64::try_from(file.bytes.len()).unwrap_or(u64::MAX)),
            })
            .collect(),
        cache: outcome.cache,
        timings: timings(outcome.timings),
    }
}

/// What the daemon's own steps took.
pub(super) fn timings(timings: job::Timings) -> Timings {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Timings {
        queue_us: micros(timings.queue),
        sandbox_us: micros(timings.sandbox),
        collect_us: micros(timings.collect),
    }
}

/// What is told of a stage. Its output is taken as it is where it is text already.
pub(super) fn result(stage: StageOutcome, encoding: OutputEncoding) -> StageResult {
    let mut lossy = false;
    let mut text = |bytes: Vec<u8>| match encoding {
        OutputEncoding::Base64 => STANDARD.encode(bytes),
        OutputEncoding::Utf8 => String::from_utf8(bytes).unwrap_or_else(|error| {
            lossy = true;
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        }),
    };
    let (signal, status, message) = (stage.signal_name(), stage.status(), stage.message());
    let truncated = stage.is_truncated();
    let (stdout, stderr, output) = (text(stage.stdout), text(stage.stderr), text(stage.output));
    StageResult {
        stdout,
        stderr,
        output,
        lossy,
        code: stage.code,
        signal,
        status,
        message,
        wall_time_ms: stage.wall_time.into(),
        cpu_time_ms: stage.cpu_time.into(),
        system_time_ms: stage.system_time.into(),
        memory_bytes: stage.memory,
        truncated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_flagged_or_encoded() {
        let stage = StageOutcome {
            stdout: vec![b'a', 0xff],
            ..StageOutcome::default()
        };
        let utf8 = result(stage.clone(), OutputEncoding::Utf8);
        assert_eq!((utf8.stdout.as_str(), utf8.lossy), ("a\u{fffd}", true));
        let base64 = result(stage, OutputEncoding::Base64);
        assert_eq!((base64.stdout.as_str(), base64.lossy), ("Yf8=", false));
    }
}
