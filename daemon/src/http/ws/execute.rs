//! `GET /packages/{package}/{version}/execute` as a WebSocket: v3's interactive job.
//!
//! The package is looked for before the handshake is answered, so that a wrong one is a plain 404.
//! Then the client says `start`, and from there on [`api::Input`] goes one way and [`api::Event`]
//! the other. Whatever is wrong after the handshake is an `error` event, and a close code that
//! says of what kind: 1008 the client's fault, 1013 try again, 1011 ours.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use piston_client::api::{self, Code};

use super::super::app::App;
use super::super::body::{self, Params};
use super::super::edge::Peer;
use super::super::stream::Task;
use super::super::told::Words;
use super::{Dialect, Farewell, Frame, Handshake, Said, Socket, Talk, Upgraded, code};
use crate::error::Error;
use crate::job::input::{self, Control};
use crate::job::live::{self, Event};
use crate::job::request::{self, decode};
use crate::job::{Outcome, outcome};
use crate::packages::Lease;
use crate::sandbox::Window;

/// How long a client may take to say `start`.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the WebSocket of an interactive job.
pub(in super::super) async fn connect(
    State(app): State<Arc<App>>,
    Params((package, version)): Params<(String, String)>,
    handshake: Handshake,
) -> Result<Upgraded, Error> {
    let (package, range) = (body::id(&package)?, body::range(&version)?);
    let lease = app.engine().await?.packages.lease(&package, &range)?;
    let peer = handshake.peer;
    let accepted = handshake.accept(&app, async move |app, socket| {
        session(&app, socket, lease, peer).await;
    });
    Ok(Upgraded(accepted))
}

async fn session(app: &Arc<App>, mut socket: Socket, lease: Lease, peer: Peer) {
    let started = tokio::time::timeout(START_TIMEOUT, socket.next()).await;
    let started = match started {
        Ok(Ok(frame)) => start(app, &frame, lease, peer).map_err(|error| fault(&error)),
        Ok(Err(farewell)) => Err(farewell),
        Err(_) => Err(Farewell::new(code::POLICY, "Nothing was started in time")),
    };
    match started {
        Ok(talk) => socket.talk(talk).await,
        Err(farewell) => socket.close(farewell).await,
    }
}

/// Starts what the first message asks for.
fn start(app: &Arc<App>, frame: &Frame, lease: Lease, peer: Peer) -> Result<Talk<V3>, Error> {
    let first = match frame {
        Frame::Text(text) => body::parse(text)?,
        Frame::Binary(_) => {
            let text = "the first message has to be text: `start` with the job";
            return Err(Error::new(Code::MalformedRequest, text));
        }
    };
    let api::Input::Start { request, terminal } = first else {
        let text = "the first message has to be `start`, with the job";
        return Err(Error::new(Code::MalformedRequest, text));
    };
    let encoding = request.encoding;
    let (rules, jobs) = (app.runners().rules(), &app.config().jobs);
    let request = request::interactive_v3(*request, lease, &rules, jobs)?;
    let request = request.of(peer.requester);
    let permit = peer.job(app)?;
    let (hand, input) = input::channel(terminal.map(Window::from));
    let (live, events) = live::channel();
    let runs = Arc::clone(app);
    let job = Task::spawn(app, async move {
        let _permit = permit;
        let engine = runs.engine().await?;
        Ok(engine.runner.run_interactive(request, live, input).await?)
    });
    let dialect = V3(Words::new(encoding));
    Ok(Talk {
        job,
        events,
        hand,
        dialect,
    })
}

impl From<api::Window> for Window {
    fn from(window: api::Window) -> Self {
        Self {
            columns: window.columns,
            rows: window.rows,
        }
    }
}

/// v3's words.
#[derive(Debug)]
struct V3(Words);

impl Dialect for V3 {
    fn hear(frame: &Frame) -> Result<Said, Farewell> {
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Binary(bytes) => return Ok(Said::Input(bytes.to_vec())),
        };
        hear(text).map_err(|error| fault(&error))
    }

    fn tell(&mut self, event: &Event) -> Result<Vec<String>, Error> {
        self.0.event(event).iter().map(written).collect()
    }

    fn end(&mut self, ended: Result<Outcome, Error>) -> Farewell {
        let told = ended.and_then(|outcome| written(&self.0.result(outcome)));
        match told {
            Ok(result) => Farewell {
                last: Some(result),
                ..Farewell::new(code::NORMAL, "Job completed")
            },
            Err(error) => fault(&error),
        }
    }
}

fn hear(text: &[u8]) -> Result<Said, Error> {
    let wrong = |text: String| Error::new(Code::InvalidField, text);
    Ok(match body::parse(text)? {
        api::Input::Start { .. } => return Err(wrong("the job was started already".to_owned())),
        api::Input::Stdin { data } => Said::Input(match data {
            api::Stdin::Text(text) => text.into_bytes(),
            api::Stdin::Encoded { content, encoding } => decode("data.content", content, encoding)?,
        }),
        api::Input::Eof {} => Said::End,
        api::Input::Signal { signal } => {
            let number = outcome::signal_number(&signal);
            let number = number.ok_or_else(|| wrong(format!("`{signal}` is not a signal")))?;
            Said::Control(Control::Signal(number))
        }
        api::Input::Resize { terminal } => Said::Control(Control::Resize(terminal.into())),
    })
}

fn written(event: &api::Event) -> Result<String, Error> {
    serde_json::to_string(event).map_err(|error| Error::caused_by(Code::Internal, &error))
}

/// The farewell of a job that can't be run.
fn fault(error: &Error) -> Farewell {
    let (code, reason) = match error.code().status() {
        429 | 503 => (code::AGAIN, "Try again later"),
        500.. => (code::INTERNAL, "Internal error"),
        _ => (code::POLICY, "Not acceptable"),
    };
    tracing::debug!(reason = error.inside(), "a job was refused");
    let problem = Box::new(api::Problem::new(error.code(), error.outside()));
    Farewell {
        last: written(&api::Event::Error { problem }).ok(),
        ..Farewell::new(code, reason)
    }
}

#[cfg(test)]
mod tests {
    use piston_client::api::OutputEncoding;

    use super::*;

    fn text(json: &str) -> Frame {
        Frame::Text(json.to_owned().into())
    }

    #[test]
    fn messages_are_what_the_client_library_says() {
        for (message, said) in [
            (
                text(r#"{"type":"stdin","data":"a\n"}"#),
                Said::Input(b"a\n".to_vec()),
            ),
            (
                text(r#"{"type":"stdin","data":{"content":"/w==","encoding":"base64"}}"#),
                Said::Input(vec![0xff]),
            ),
            (Frame::Binary(vec![0xff].into()), Said::Input(vec![0xff])),
            (text(r#"{"type":"eof"}"#), Said::End),
            (
                text(r#"{"type":"signal","signal":"SIGINT"}"#),
                Said::Control(Control::Signal(2)),
            ),
            (
                text(r#"{"type":"resize","terminal":{"columns":7,"rows":3}}"#),
                Said::Control(Control::Resize(Window {
                    columns: 7,
                    rows: 3,
                })),
            ),
        ] {
            assert_eq!(V3::hear(&message), Ok(said));
        }
    }

    #[test]
    fn a_message_that_means_nothing_ends_the_job_with_the_reason() {
        for (message, reason) in [
            ("", "the body is not JSON"),
            ("[]", "can't be read"),
            (r#"{"type":"eof","x":1}"#, "unknown field"),
            (r#"{"type":"signal","signal":"SIGNIL"}"#, "SIGNIL"),
            (
                r#"{"type":"resize","terminal":{"columns":70000,"rows":1}}"#,
                "70000",
            ),
            (r#"{"type":"start","request":{"code":""}}"#, "already"),
        ] {
            let farewell = V3::hear(&text(message)).expect_err(message);
            let last = farewell.last.expect("an event");
            assert_eq!(farewell.code, code::POLICY);
            assert!(
                last.contains(reason) && last.contains("\"event\":\"error\""),
                "{last}"
            );
        }
    }

    #[test]
    fn close_codes_say_whose_fault_it_is() {
        for (given, code) in [
            (Code::InvalidField, code::POLICY),
            (Code::QueueFull, code::AGAIN),
            (Code::ShuttingDown, code::AGAIN),
            (Code::Internal, code::INTERNAL),
        ] {
            assert_eq!(fault(&Error::new(given, "x")).code, code, "{given:?}");
        }
        let words = Words::new(OutputEncoding::Utf8);
        let ended = V3(words).end(Err(Error::new(Code::QueueFull, "full")));
        assert_eq!(ended.code, code::AGAIN);
    }
}
