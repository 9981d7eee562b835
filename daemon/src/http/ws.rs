//! The WebSocket: a job and its listener on one connection, for both APIs.
//!
//! [`Handshake`] is the request that becomes a WebSocket; [`Socket`] what it becomes; [`Talk`] a
//! job with all that is said and told, in the words of an API ([`Dialect`]).
//!
//! Invariants: the job ends when its listener leaves, also where nothing is read from it just then;
//! what a listener says is bounded in size, and not read faster than the program (1 MiB of input
//! may wait); what it is told waits for it. A connection counts among the bounded number of
//! connections to its very end.

pub(super) mod execute;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use piston_client::api::Code;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::Instrument as _;

use super::access::SUBPROTOCOL;
use super::app::App;
use super::connection::Connection;
use super::edge::Peer;
use super::stream::Task;
use crate::error::Error;
use crate::job::Outcome;
use crate::job::input::{Control, Hand};
use crate::job::live::Event;

/// How often a listener is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);

/// A listener of whom nothing was heard for so long is gone.
const SILENCE: Duration = Duration::from_mins(1);

/// How long a close may take.
const CLOSING: Duration = Duration::from_secs(2);

/// Close codes of the standard.
pub(super) mod code {
    /// It is done.
    pub(in super::super) const NORMAL: u16 = 1000;
    /// Something that is no WebSocket.
    pub(in super::super) const PROTOCOL: u16 = 1002;
    /// Text that is none.
    pub(in super::super) const NOT_TEXT: u16 = 1007;
    /// Something that is not acceptable.
    pub(in super::super) const POLICY: u16 = 1008;
    /// A message over its bound.
    pub(in super::super) const TOO_BIG: u16 = 1009;
    /// A fault of ours.
    pub(in super::super) const INTERNAL: u16 = 1011;
    /// Try again.
    pub(in super::super) const AGAIN: u16 = 1013;
}

/// The reply after which a connection is a WebSocket.
#[derive(Debug)]
pub(super) struct Upgraded(Response);

impl IntoResponse for Upgraded {
    fn into_response(self) -> Response {
        self.0
    }
}

/// A request to become a WebSocket.
#[derive(Debug)]
pub(super) struct Handshake {
    upgrade: WebSocketUpgrade,
    connection: Connection,
    pub(super) peer: Peer,
}

impl Handshake {
    /// Whether a request is for a WebSocket at all.
    pub(super) fn is_asked(request: &Request) -> bool {
        request.headers().contains_key(header::UPGRADE)
    }

    pub(super) async fn of(parts: &mut Parts) -> Result<Self, Error> {
        let peer = Peer::of_parts(parts);
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
        let upgrade = upgrade.map_err(|error| refused(&error))?;
        let upgrade = upgrade.protocols([SUBPROTOCOL]);
        let connection = parts.extensions.remove::<Connection>().ok_or_else(|| {
            Error::new(
                Code::UpgradeRequired,
                "this connection can't be a WebSocket",
            )
        })?;
        Ok(Self {
            upgrade,
            connection,
            peer,
        })
    }

    /// Accepts it; `session` is what happens then.
    pub(super) fn accept<F>(
        self,
        app: &Arc<App>,
        session: impl FnOnce(Arc<App>, Socket) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let bound = app.config().server.max_body.as_usize();
        let app = Arc::clone(app);
        let connection = self.connection;
        let span = tracing::Span::current();
        let upgrade = self.upgrade.max_message_size(bound).max_frame_size(bound);
        upgrade.on_upgrade(async move |socket| {
            let (sink, stream) = socket.split();
            let socket = Socket {
                sink,
                stream,
                connection,
            };
            let session = session(Arc::clone(&app), socket).instrument(span);
            // An error is a panic, which was told already.
            drop(app.shutdown().spawn(session).await);
        })
    }
}

impl FromRequestParts<Arc<App>> for Handshake {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Error> {
        Self::of(parts).await
    }
}

fn refused(rejection: &WebSocketUpgradeRejection) -> Error {
    use WebSocketUpgradeRejection as No;
    let code = match rejection {
        No::InvalidConnectionHeader(_) | No::InvalidUpgradeHeader(_) | No::MethodNotGet(_) => {
            Code::UpgradeRequired
        }
        _ => Code::MalformedRequest,
    };
    let text = format!(
        "this is not a WebSocket handshake: {}",
        rejection.body_text()
    );
    Error::new(code, text)
}

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct Socket {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    connection: Connection,
}

/// A message with something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Text(Bytes),
    Binary(Bytes),
}

/// How a WebSocket ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Farewell {
    /// Said before the end.
    pub(super) last: Option<String>,
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

impl Farewell {
    pub(super) fn new(code: u16, reason: &'static str) -> Self {
        Self {
            last: None,
            code,
            reason,
        }
    }

    /// The other side ends it, or is gone.
    fn returned() -> Self {
        Self::new(code::NORMAL, "")
    }
}

/// What a listener says while its job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Input(Vec<u8>),
    End,
    Control(Control),
    /// Nothing of interest.
    Nothing,
}

/// The words of one API.
pub(super) trait Dialect: Send {
    /// What a message means once the job runs.
    fn hear(frame: &Frame) -> Result<Said, Farewell>;
    /// The messages that tell an event.
    fn tell(&mut self, event: &Event) -> Result<Vec<String>, Error>;
    /// How the end of the job is told.
    fn end(&mut self, ended: Result<Outcome, Error>) -> Farewell;
}

/// A job that is talked with.
#[derive(Debug)]
pub(super) struct Talk<D> {
    pub(super) job: Task,
    pub(super) events: UnboundedReceiver<Event>,
    pub(super) hand: Hand,
    pub(super) dialect: D,
}

impl Socket {
    /// The next message with something in it.
    pub(super) async fn next(&mut self) -> Result<Frame, Farewell> {
        next(&mut self.stream).await
    }

    /// Talks to the end of the job, or of the listener.
    pub(super) async fn talk<D: Dialect>(mut self, talk: Talk<D>) {
        let Talk {
            job,
            events,
            hand,
            mut dialect,
        } = talk;
        let farewell = tokio::select! {
            farewell = listen::<D>(&mut self.stream, hand) => farewell,
            farewell = tell(&mut self.sink, events, job, &mut dialect) => farewell,
            () = self.connection.gone() => return,
        };
        self.close(farewell).await;
    }

    /// Says farewell, and waits a little for the other side to say it too.
    pub(super) async fn close(mut self, farewell: Farewell) {
        let Farewell { last, code, reason } = farewell;
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        let said = async {
            if let Some(last) = last {
                self.sink.send(Message::Text(last.into())).await?;
            }
            self.sink.send(Message::Close(Some(frame))).await?;
            while let Some(Ok(_)) = self.stream.next().await {}
            Ok::<_, axum::Error>(())
        };
        // Whether the other side hears it is its own affair.
        drop(tokio::time::timeout(CLOSING, said).await);
    }
}

async fn next(stream: &mut SplitStream<WebSocket>) -> Result<Frame, Farewell> {
    loop {
        let Ok(message) = tokio::time::timeout(SILENCE, stream.next()).await else {
            return Err(Farewell::new(code::POLICY, "No answer to pings"));
        };
        match message {
            Some(Ok(Message::Text(text))) => return Ok(Frame::Text(text.into())),
            Some(Ok(Message::Binary(bytes))) => return Ok(Frame::Binary(bytes)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Err(Farewell::returned()),
            Some(Err(error)) => return Err(broken(error)),
        }
    }
}

fn broken(error: axum::Error) -> Farewell {
    use tungstenite::Error as Fault;
    match error.into_inner().downcast_ref::<Fault>() {
        Some(Fault::Capacity(_)) => Farewell::new(code::TOO_BIG, "Message too big"),
        Some(Fault::Utf8(_)) => Farewell::new(code::NOT_TEXT, "Not UTF-8"),
        Some(Fault::Protocol(_)) => Farewell::new(code::PROTOCOL, "Protocol error"),
        _ => Farewell::returned(),
    }
}

/// Passes on what is said, until it is over.
async fn listen<D: Dialect>(stream: &mut SplitStream<WebSocket>, mut hand: Hand) -> Farewell {
    loop {
        let said = match next(stream).await {
            Ok(frame) => D::hear(&frame),
            Err(farewell) => return farewell,
        };
        match said {
            Ok(Said::Input(bytes)) => hand.write(bytes).await,
            Ok(Said::End) => hand.end(),
            Ok(Said::Control(control)) => hand.control(control).await,
            Ok(Said::Nothing) => {}
            Err(farewell) => return farewell,
        }
    }
}

/// Tells what happens, until it is over.
async fn tell<D: Dialect>(
    sink: &mut SplitSink<WebSocket, Message>,
    mut events: UnboundedReceiver<Event>,
    job: Task,
    dialect: &mut D,
) -> Farewell {
    let mut pings = tokio::time::interval_at((Instant::now() + PING).into(), PING);
    loop {
        let sent = tokio::select! {
            event = events.recv() => {
                let Some(event) = event else {
                    return dialect.end(job.ended().await);
                };
                match dialect.tell(&event) {
                    Ok(texts) => send(sink, texts).await,
                    Err(error) => return dialect.end(Err(error)),
                }
            }
            _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await,
        };
        if sent.is_err() {
            return Farewell::returned();
        }
    }
}

async fn send(
    sink: &mut SplitSink<WebSocket, Message>,
    texts: Vec<String>,
) -> Result<(), axum::Error> {
    for text in texts {
        sink.send(Message::Text(text.into())).await?;
    }
    Ok(())
}
