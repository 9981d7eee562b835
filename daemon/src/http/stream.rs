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
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use piston_client::api::{self, Code, OutputEncoding, StageName};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::app::App;
use super::execute;
use super::reply::Reply;
use crate::error::Error;
use crate::job::Outcome;
use crate::job::live::{self, Event, Piece};
use crate::job::outcome::StageOutcome;
use crate::job::output::Name;
use crate::job::request::Request;
use crate::job::stage::StageKind;

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

    fn write(self, event: &api::Event, to: &mut Vec<u8>) -> Result<(), Error> {
        let json = serde_json::to_vec(event).map_err(|e| Error::caused_by(Code::Internal, &e))?;
        if self == Self::ServerSent {
            let name = match event {
                api::Event::Stage { .. } => "stage",
                api::Event::Stdout { .. } => "stdout",
                api::Event::Stderr { .. } => "stderr",
                api::Event::Exit(_) => "exit",
                api::Event::Result { .. } => "result",
            };
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

/// Runs a job and replies with its events.
pub(super) async fn execute(
    app: &Arc<App>,
    request: Request,
    form: Form,
    encoding: OutputEncoding,
) -> Reply {
    let (live, events) = live::channel();
    let runs = Arc::clone(app);
    let job = async move {
        let engine = runs.engine().await?;
        Ok(engine.runner.run_live(request, live).await?)
    };
    let mut telling = Telling {
        next: None,
        events,
        job: Some(Task(app.shutdown().spawn(job.in_current_span()))),
        writer: Writer::new(form, encoding),
    };
    telling.next = telling.events.recv().await;
    // Without an event it was refused, or killed while it waited.
    let first = match telling.next {
        Some(_) => None,
        None => telling.piece().await?,
    };
    let first = stream::iter(first.map(Ok::<_, io::Error>));
    let rest = stream::try_unfold(telling, async |mut telling| {
        let piece = telling.piece().await;
        let piece = piece.map_err(|error| io::Error::other(error.inside().to_owned()))?;
        Ok(piece.map(|piece| (piece, telling)))
    });
    let headers = [
        (header::CONTENT_TYPE, form.content_type()),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body = Body::from_stream(stream::StreamExt::chain(first, rest));
    Ok((headers, body).into_response())
}

/// A job that ends when this is dropped.
struct Task(JoinHandle<Result<Outcome, Error>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A reply on its way.
struct Telling {
    next: Option<Event>,
    events: UnboundedReceiver<Event>,
    /// None when its result was told.
    job: Option<Task>,
    writer: Writer,
}

impl Telling {
    /// The next piece of the body; none after the result.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let event = match self.next.take() {
                Some(event) => Some(event),
                None => self.events.recv().await,
            };
            let piece = if let Some(event) = event {
                self.writer.event(event)?
            } else {
                let Some(mut job) = self.job.take() else {
                    return Ok(None);
                };
                let ended = (&mut job.0).await;
                let ended = ended.map_err(|e| Error::caused_by(Code::Internal, &e))?;
                self.writer.result(ended?)?
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
    encoding: OutputEncoding,
    stdout: Text,
    stderr: Text,
}

impl Writer {
    fn new(form: Form, encoding: OutputEncoding) -> Self {
        Self {
            form,
            encoding,
            stdout: Text::default(),
            stderr: Text::default(),
        }
    }

    fn event(&mut self, event: Event) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        match event {
            Event::Stage(stage) => {
                let stage = name(stage);
                self.form.write(&api::Event::Stage { stage }, &mut bytes)?;
            }
            Event::Output(piece) => self.output(&piece, &mut bytes)?,
            Event::Exit(stage, outcome) => {
                for (stream, text) in [
                    (Name::Stdout, self.stdout.rest()),
                    (Name::Stderr, self.stderr.rest()),
                ] {
                    self.text(name(stage), stream, text, &mut bytes)?;
                }
                let exit = api::Event::Exit(exit(name(stage), &outcome));
                self.form.write(&exit, &mut bytes)?;
            }
        }
        Ok(bytes)
    }

    fn output(&mut self, piece: &Piece, to: &mut Vec<u8>) -> Result<(), Error> {
        let text = match (self.encoding, piece.name) {
            (OutputEncoding::Base64, _) => STANDARD.encode(&piece.bytes),
            (OutputEncoding::Utf8, Name::Stdout) => self.stdout.next(&piece.bytes),
            (OutputEncoding::Utf8, Name::Stderr) => self.stderr.next(&piece.bytes),
        };
        self.text(name(piece.stage), piece.name, text, to)
    }

    fn text(
        &self,
        stage: StageName,
        stream: Name,
        data: String,
        to: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if data.is_empty() {
            return Ok(());
        }
        let event = match stream {
            Name::Stdout => api::Event::Stdout { stage, data },
            Name::Stderr => api::Event::Stderr { stage, data },
        };
        self.form.write(&event, to)
    }

    fn result(&self, outcome: Outcome) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let result = Box::new(execute::response(outcome, self.encoding));
        self.form
            .write(&api::Event::Result { result }, &mut bytes)?;
        Ok(bytes)
    }
}

fn name(stage: StageKind) -> StageName {
    match stage {
        StageKind::Compile => StageName::Compile,
        StageKind::Run => StageName::Run,
    }
}

fn exit(stage: StageName, outcome: &StageOutcome) -> api::StageExit {
    api::StageExit {
        stage,
        code: outcome.code,
        signal: outcome.signal_name(),
        status: outcome.status(),
        message: outcome.message(),
        wall_time_ms: outcome.wall_time.into(),
        cpu_time_ms: outcome.cpu_time.into(),
        memory_bytes: outcome.memory,
    }
}

/// Bytes that become text piece by piece, where a piece may end amid a character.
#[derive(Debug, Default)]
struct Text {
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl Text {
    /// The text so far; what is not UTF-8 becomes U+FFFD.
    fn next(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let last = self.rest.utf8_chunks().last();
        let begun = last.map_or(0, |chunk| {
            match std::str::from_utf8(chunk.invalid()).map_err(|error| error.error_len()) {
                Err(None) => chunk.invalid().len(),
                _ => 0,
            }
        });
        let rest = self.rest.split_off(self.rest.len() - begun);
        let whole = std::mem::replace(&mut self.rest, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }

    /// What is left at the end.
    fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_character_in_two_pieces_is_one_character() {
        let all = "a\u{e9}\u{20ac}\u{1f600}z".as_bytes();
        for cut in 0..=all.len() {
            let mut text = Text::default();
            let told = [text.next(&all[..cut]), text.next(&all[cut..]), text.rest()];
            assert_eq!(told.concat().as_bytes(), all, "{cut}");
        }
        let mut text = Text::default();
        assert_eq!(text.next(b"a\xff\xe2\x82"), "a\u{fffd}");
        assert_eq!(
            (text.next(b"b"), text.rest()),
            ("\u{fffd}b".into(), String::new())
        );
        assert_eq!(text.next(b"\xe2"), "");
        assert_eq!(text.rest(), "\u{fffd}");
    }

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
                Writer::new(form, OutputEncoding::Utf8).event(Event::Stage(StageKind::Run));
            assert_eq!(written.expect("JSON"), expected.as_bytes());
        };
        let json = r#"{"event":"stage","stage":"run"}"#;
        check(Form::Lines, &format!("{json}\n"));
        check(Form::ServerSent, &format!("event: stage\ndata: {json}\n\n"));
    }
}
