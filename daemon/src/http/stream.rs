//! A job's events as they happen: one JSON object a line, or server-sent events.
//!
//! Invariants: a job that is refused is an error reply with its own status, because nothing is
//! sent before its first event; the job runs in a task of its own, so that its limits hold also
//! while its client takes nothing; the task ends with the reply's body, which hyper drops when the
//! client goes away.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use piston_client::api::{self, Code, OutputEncoding};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::app::App;
use super::body::Json;
use super::reply::Reply;
use super::told::Words;
use crate::error::Error;
use crate::job::Outcome;
use crate::job::live::{self, Event, Live};

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/x-ndjson`.
    Lines,
    /// `text/event-stream`.
    ServerSent,
}

impl Form {
    /// What `Accept` asks for; none when that is the plain reply. Of several the first counts.
    pub(super) fn asked(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT).into_iter();
        let kinds = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|kind| kind.split(';').next().unwrap_or_default().trim());
        for kind in kinds {
            match kind.to_ascii_lowercase().as_str() {
                "application/x-ndjson" => return Some(Self::Lines),
                "text/event-stream" => return Some(Self::ServerSent),
                "application/json" => return None,
                _ => {}
            }
        }
        None
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::ServerSent => "text/event-stream",
        }
    }

    /// Writes an event of that name.
    pub(super) fn write(
        self,
        name: &str,
        event: &impl Serialize,
        to: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let json = serde_json::to_vec(event).map_err(|e| Error::caused_by(Code::Internal, &e))?;
        if self == Self::ServerSent {
            to.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
        }
        to.extend_from_slice(&json);
        to.extend_from_slice(if self == Self::ServerSent {
            b"\n\n"
        } else {
            b"\n"
        });
        Ok(())
    }
}

/// The name of a job's event.
fn name(event: &api::Event) -> &'static str {
    match event {
        api::Event::Stage { .. } => "stage",
        api::Event::Stdout { .. } => "stdout",
        api::Event::Stderr { .. } => "stderr",
        api::Event::Exit(_) => "exit",
        api::Event::Result { .. } => "result",
        api::Event::Case(_) => "case",
        api::Event::Batch { .. } => "batch",
        api::Event::Error { .. } => "error",
    }
}

/// A reply of events that are written as they come.
pub(super) fn response(
    form: Form,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response {
    let headers = [
        (header::CONTENT_TYPE, form.content_type()),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

/// A reply that comes whole, or as events where that was asked for.
#[derive(Debug)]
pub(super) enum Told<T> {
    /// At the end.
    Whole(Json<T>),
    /// The same, where it is written already.
    Written(Response),
    /// As it happens.
    Events(Response),
}

impl<T: Serialize> IntoResponse for Told<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Whole(reply) => reply.into_response(),
            Self::Written(response) | Self::Events(response) => response,
        }
    }
}

/// How a client wants to hear of its job.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) form: Form,
    pub(super) encoding: OutputEncoding,
}

/// Runs what `job` begins and replies with its events, the last of which tells its `result`.
pub(super) async fn tell<T, F, R>(
    app: &Arc<App>,
    Manner { form, encoding }: Manner,
    job: impl FnOnce(Arc<App>, Live) -> F,
    result: fn(&Words, T) -> api::Event,
) -> Result<Told<R>, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (live, events) = live::channel();
    let telling = Telling {
        next: None,
        events,
        job: Some(Task::spawn(app, job(Arc::clone(app), live))),
        writer: Writer::new(form, encoding),
        result,
    };
    telling.reply().await.map(Told::Events)
}

/// A job that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Task<T = Outcome>(JoinHandle<Result<T, Error>>);

impl<T: Send + 'static> Task<T> {
    pub(super) fn spawn(
        app: &App,
        job: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Self {
        Self(app.shutdown().spawn(job.in_current_span()))
    }

    /// Waits for its end.
    pub(super) async fn ended(mut self) -> Result<T, Error> {
        let ended = (&mut self.0).await;
        ended.map_err(|e| Error::caused_by(Code::Internal, &e))?
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A reply on its way.
struct Telling<T> {
    next: Option<Event>,
    events: UnboundedReceiver<Event>,
    /// None when its result was told.
    job: Option<Task<T>>,
    writer: Writer,
    /// How its result is told.
    result: fn(&Words, T) -> api::Event,
}

impl<T: Send + 'static> Telling<T> {
    async fn reply(mut self) -> Reply {
        let form = self.writer.form;
        self.next = self.events.recv().await;
        // Without an event it was refused, or killed while it waited.
        let first = match self.next {
            Some(_) => None,
            None => self.piece().await?,
        };
        let first = stream::iter(first.map(Ok::<_, io::Error>));
        let rest = stream::try_unfold(self, async |mut telling| {
            let piece = telling.piece().await;
            let piece = piece.map_err(|error| io::Error::other(error.inside().to_owned()))?;
            Ok(piece.map(|piece| (piece, telling)))
        });
        Ok(response(form, stream::StreamExt::chain(first, rest)))
    }

    /// The next piece of the body; none after the result.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let event = match self.next.take() {
                Some(event) => Some(event),
                None => self.events.recv().await,
            };
            let piece = if let Some(event) = event {
                self.writer.event(&event)?
            } else {
                let Some(job) = self.job.take() else {
                    return Ok(None);
                };
                let result = (self.result)(&self.writer.words, job.ended().await?);
                self.writer.last(&result)?
            };
            // Half a character is told with its other half.
            if !piece.is_empty() {
                return Ok(Some(Bytes::from(piece)));
            }
        }
    }
}

/// Turns events into bytes.
struct Writer {
    form: Form,
    words: Words,
}

impl Writer {
    fn new(form: Form, encoding: OutputEncoding) -> Self {
        Self {
            form,
            words: Words::new(encoding),
        }
    }

    fn event(&mut self, event: &Event) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for event in self.words.event(event) {
            self.form.write(name(&event), &event, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn last(&self, event: &api::Event) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.form.write(name(event), event, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::job::stage::StageKind;

    #[test]
    fn the_first_known_kind_of_reply_is_taken() {
        for (accept, form) in [
            ("application/x-ndjson", Some(Form::Lines)),
            ("Text/Event-Stream; q=1", Some(Form::ServerSent)),
            ("text/html, text/event-stream", Some(Form::ServerSent)),
            ("application/json, application/x-ndjson", None),
            ("*/*", None),
        ] {
            let value = HeaderValue::from_static(accept);
            let headers = HeaderMap::from_iter([(header::ACCEPT, value)]);
            assert_eq!(Form::asked(&headers), form, "{accept}");
        }
        assert_eq!(Form::asked(&HeaderMap::new()), None);
    }

    #[test]
    fn an_event_is_a_line_or_a_server_sent_event() {
        let check = |form: Form, expected: &str| {
            let written =
                Writer::new(form, OutputEncoding::Utf8).event(&Event::Stage(StageKind::Run));
            assert_eq!(written.expect("JSON"), expected.as_bytes());
        };
        let json = r#"{"event":"stage","stage":"run"}"#;
        check(Form::Lines, &format!("{json}\n"));
        check(Form::ServerSent, &format!("event: stage\ndata: {json}\n\n"));
    }
}
