//! v2's WebSocket `connect`: messages, their order and the close codes of the original.
//!
//! What differs is listed in [`super`].

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use piston_client::api::Code;
use piston_client::units::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::super::app::App;
use super::super::body;
use super::super::edge::Peer;
use super::super::reply::Reply;
use super::super::stream::Task;
use super::super::told::Text;
use super::super::ws::{Dialect, Farewell, Frame, Handshake, Said, Socket, Talk};
use super::execute::{bad, checked};
use crate::error::Error;
use crate::job::input::{self, Control};
use crate::job::live::{self, Event};
use crate::job::output::Name;
use crate::job::{Outcome, outcome};

/// How long a client may take to say `init`.
const INIT_TIMEOUT: Duration = Duration::from_secs(1);

const ALREADY_INITIALIZED: (u16, &str) = (4000, "Already Initialized");
const INIT_TIMED_OUT: (u16, &str) = (4001, "Initialization Timeout");
const NOTIFIED_ERROR: (u16, &str) = (4002, "Notified Error");
const NOT_INITIALIZED: (u16, &str) = (4003, "Not yet initialized");
const ONLY_STDIN: (u16, &str) = (4004, "Can only write to stdin");
const INVALID_SIGNAL: (u16, &str) = (4005, "Invalid signal");
const JOB_COMPLETED: (u16, &str) = (4999, "Job Completed");

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Sent<'a> {
    Runtime {
        language: &'a str,
        version: &'a str,
    },
    Stage {
        stage: &'a str,
    },
    Data {
        stream: &'a str,
        data: &'a str,
    },
    Exit {
        stage: &'a str,
        code: Option<i32>,
        signal: Option<String>,
    },
    Error {
        message: &'a str,
    },
}

impl Sent<'_> {
    fn text(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::caused_by(Code::Internal, &error))
    }
}

/// Opens the WebSocket of an interactive job.
pub(super) async fn connect(app: &Arc<App>, request: Request) -> Reply {
    let (mut parts, _) = request.into_parts();
    let handshake = Handshake::of(&mut parts).await?;
    let peer = handshake.peer;
    Ok(handshake.accept(app, async move |app, socket| {
        session(&app, socket, peer).await;
    }))
}

async fn session(app: &Arc<App>, mut socket: Socket, peer: Peer) {
    let init = tokio::time::timeout(INIT_TIMEOUT, init(&mut socket)).await;
    let talk = match init.unwrap_or_else(|_| Err(close(INIT_TIMED_OUT))) {
        Ok(message) => start(app, &message, peer)
            .await
            .map_err(|error| notified(&error)),
        Err(farewell) => Err(farewell),
    };
    match talk {
        Ok(talk) => socket.talk(talk).await,
        Err(farewell) => socket.close(farewell).await,
    }
}

/// Waits for `init`.
async fn init(socket: &mut Socket) -> Result<Value, Farewell> {
    loop {
        let message = parse(&socket.next().await?)?;
        match kind(&message) {
            "init" => return Ok(message),
            "data" | "signal" | "eof" => return Err(close(NOT_INITIALIZED)),
            _ => {}
        }
    }
}

/// Starts the job of an `init`.
async fn start(app: &Arc<App>, init: &Value, peer: Peer) -> Result<Talk<V2>, Error> {
    let mut request = checked(app, init).await?.of(peer.requester);
    let permit = peer.job(app)?;
    // It comes by `data` here, and all that is printed goes out.
    request.stdin = Vec::new();
    request.limits.run.output = Bytes(u64::MAX);
    let runtime = Sent::Runtime {
        language: request.language.as_str(),
        version: &request.package().version.to_string(),
    };
    let dialect = V2 {
        runtime: Some(runtime.text()?),
        stdout: Text::default(),
        stderr: Text::default(),
    };
    let (hand, input) = input::channel(None);
    let (live, events) = live::channel();
    let runs = Arc::clone(app);
    let job = Task::spawn(app, async move {
        let _permit = permit;
        let engine = runs.engine().await?;
        Ok(engine.runner.run_interactive(request, live, input).await?)
    });
    Ok(Talk {
        job,
        events,
        hand,
        dialect,
    })
}

/// v2's words.
#[derive(Debug)]
struct V2 {
    /// Told before everything else.
    runtime: Option<String>,
    stdout: Text,
    stderr: Text,
}

impl Dialect for V2 {
    fn hear(frame: &Frame) -> Result<Said, Farewell> {
        let message = parse(frame)?;
        let text = |field: &str| message.get(field).and_then(Value::as_str);
        match kind(&message) {
            "init" => Err(close(ALREADY_INITIALIZED)),
            "data" if text("stream") != Some("stdin") => Err(close(ONLY_STDIN)),
            "data" => match text("data") {
                Some(data) => Ok(Said::Input(data.as_bytes().to_vec())),
                None => Err(notified(&bad("data is required as a string"))),
            },
            "eof" => Ok(Said::End),
            "signal" => {
                let name = text("signal").filter(|name| name.starts_with("SIG"));
                match name.and_then(outcome::signal_number) {
                    Some(signal) => Ok(Said::Control(Control::Signal(signal))),
                    None => Err(close(INVALID_SIGNAL)),
                }
            }
            _ => Ok(Said::Nothing),
        }
    }

    fn tell(&mut self, event: &Event) -> Result<Vec<String>, Error> {
        let mut texts: Vec<String> = self.runtime.take().into_iter().collect();
        match event {
            Event::Stage(stage) => {
                let stage = stage.name();
                texts.push(Sent::Stage { stage }.text()?);
            }
            Event::Output(piece) => {
                let data = match piece.name {
                    Name::Stdout => self.stdout.next(&piece.bytes),
                    Name::Stderr => self.stderr.next(&piece.bytes),
                };
                texts.extend(said(piece.name, &data)?);
            }
            // v2 has no batches.
            Event::Case(_) => {}
            Event::Exit(stage, outcome) => {
                texts.extend(said(Name::Stdout, &self.stdout.rest())?);
                texts.extend(said(Name::Stderr, &self.stderr.rest())?);
                let exit = Sent::Exit {
                    stage: stage.name(),
                    code: outcome.code,
                    signal: outcome.signal_name(),
                };
                texts.push(exit.text()?);
            }
        }
        Ok(texts)
    }

    fn end(&mut self, ended: Result<Outcome, Error>) -> Farewell {
        match ended {
            Ok(_) => close(JOB_COMPLETED),
            Err(error) => notified(&error),
        }
    }
}

fn said(stream: Name, data: &str) -> Result<Option<String>, Error> {
    let stream = match stream {
        Name::Stdout => "stdout",
        Name::Stderr => "stderr",
    };
    let sent = Sent::Data { stream, data };
    (!data.is_empty()).then(|| sent.text()).transpose()
}

fn parse(frame: &Frame) -> Result<Value, Farewell> {
    let (Frame::Text(bytes) | Frame::Binary(bytes)) = frame;
    body::parse(bytes).map_err(|error| notified(&error))
}

fn kind(message: &Value) -> &str {
    let kind = message.get("type").and_then(Value::as_str);
    kind.unwrap_or_default()
}

fn close((code, reason): (u16, &'static str)) -> Farewell {
    Farewell::new(code, reason)
}

fn notified(error: &Error) -> Farewell {
    tracing::debug!(reason = error.inside(), "a job was refused");
    let message = error.outside();
    Farewell {
        last: Sent::Error { message }.text().ok(),
        ..close(NOTIFIED_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::outcome::{StageOutcome, Verdict};
    use crate::job::stage::StageKind;

    fn hear(json: &str) -> Result<Said, Farewell> {
        let text = V2::hear(&Frame::Text(json.to_owned().into()));
        let binary = V2::hear(&Frame::Binary(json.to_owned().into()));
        assert_eq!(text, binary);
        text
    }

    #[test]
    fn messages_mean_what_they_mean_in_the_original() {
        for (message, meaning) in [
            (
                r#"{"type":"data","stream":"stdin","data":"x\n"}"#,
                Ok(Said::Input(b"x\n".to_vec())),
            ),
            (r#"{"type":"eof"}"#, Ok(Said::End)),
            (
                r#"{"type":"signal","signal":"SIGTERM"}"#,
                Ok(Said::Control(Control::Signal(15))),
            ),
            (r#"{"type":"other"}"#, Ok(Said::Nothing)),
            ("5", Ok(Said::Nothing)),
            (r#"{"type":"init"}"#, Err(close(ALREADY_INITIALIZED))),
            (
                r#"{"type":"data","stream":"stdout","data":"x"}"#,
                Err(close(ONLY_STDIN)),
            ),
            (
                r#"{"type":"signal","signal":"TERM"}"#,
                Err(close(INVALID_SIGNAL)),
            ),
            (r#"{"type":"signal"}"#, Err(close(INVALID_SIGNAL))),
        ] {
            assert_eq!(hear(message), meaning, "{message}");
        }
        let farewell = hear("{").expect_err("not JSON");
        let last = farewell.last.expect("a message");
        assert!(last.starts_with(r#"{"type":"error","message":"#), "{last}");
        assert_eq!((farewell.code, farewell.reason), NOTIFIED_ERROR);
    }

    #[test]
    fn events_are_told_in_the_originals_form_after_the_runtime() {
        let mut dialect = V2 {
            runtime: Some("runtime".to_owned()),
            stdout: Text::default(),
            stderr: Text::default(),
        };
        let mut tell = |event| dialect.tell(&event).expect("JSON");
        assert_eq!(
            tell(Event::Stage(StageKind::Run)),
            ["runtime", r#"{"type":"stage","stage":"run"}"#]
        );
        let killed = StageOutcome {
            signal: Some(9),
            ..StageOutcome::failed(Verdict::WallTime)
        };
        assert_eq!(
            tell(Event::Exit(StageKind::Run, Box::new(killed))),
            [r#"{"type":"exit","stage":"run","code":null,"signal":"SIGKILL"}"#]
        );
    }
}
