//! A WebSocket to the daemon.
//!
//! Invariant: a message that is over the bound of a reply is an error and not kept. Nothing is read
//! ahead of the message that is asked for.

use std::io;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::{Connection, Reply, Request};
use crate::error::TransportError;

type Raw = WebSocketStream<TokioIo<Upgraded>>;

/// A request that may become a WebSocket.
pub(crate) enum Opened {
    /// It did: what is said, and what is heard.
    Socket(Box<(Mouth, Ear)>),
    /// The daemon says why not.
    Refused(Reply),
}

/// Where messages go out. The connection closes when this and the [`Ear`] are gone.
pub(crate) struct Mouth {
    connection: Connection,
    sink: SplitSink<Raw, Message>,
}

/// Where messages come in.
pub(crate) struct Ear {
    connection: Connection,
    stream: SplitStream<Raw>,
}

impl Connection {
    /// Sends a request to become a WebSocket.
    pub(crate) async fn socket(&self, request: Request) -> Result<Opened, TransportError> {
        let after = self.time_for(request.wait);
        let late = |_| self.timed_out(after);
        let key = generate_key();
        let begun = self.begin_with(request, handshake(&key));
        let response = timeout(after, begun).await.map_err(late)??;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let reply = timeout(after, self.take(response)).await.map_err(late)??;
            return Ok(Opened::Refused(reply));
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|accepted| *accepted != derive_accept_key(key.as_bytes())) {
            let wrong = io::Error::new(io::ErrorKind::InvalidData, "a wrong handshake");
            return Err(self.broken(wrong));
        }
        let upgraded = hyper::upgrade::on(response).await;
        let upgraded = upgraded.map_err(|error| self.broken(error))?;
        let bound = Some(self.settings.max_reply.as_usize());
        let config = WebSocketConfig::default()
            .max_message_size(bound)
            .max_frame_size(bound);
        let io = TokioIo::new(upgraded);
        let raw = WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await;
        let (sink, stream) = raw.split();
        let connection = || self.clone();
        let mouth = Mouth {
            connection: connection(),
            sink,
        };
        let ear = Ear {
            connection: connection(),
            stream,
        };
        Ok(Opened::Socket(Box::new((mouth, ear))))
    }
}

fn handshake(key: &str) -> HeaderMap {
    let fixed = |name: HeaderName, value| (name, HeaderValue::from_static(value));
    let mut headers = HeaderMap::from_iter([
        fixed(CONNECTION, "Upgrade"),
        fixed(UPGRADE, "websocket"),
        fixed(SEC_WEBSOCKET_VERSION, "13"),
    ]);
    let key = HeaderValue::from_str(key).expect("base64 fits a header");
    headers.insert(SEC_WEBSOCKET_KEY, key);
    headers
}

impl Mouth {
    /// Says something.
    pub(crate) async fn text(&mut self, text: String) -> Result<(), TransportError> {
        self.send(Message::Text(text.into())).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn bytes(&mut self, bytes: Bytes) -> Result<(), TransportError> {
        self.send(Message::Binary(bytes)).await
    }

    async fn send(&mut self, message: Message) -> Result<(), TransportError> {
        let sent = self.sink.send(message).await;
        sent.map_err(|error| self.connection.broken(error))
    }
}

impl Ear {
    /// The next message. The end of the connection is an error: whoever asks knows that there is
    /// more to come.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, TransportError> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_bytes().to_vec()),
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes.to_vec()),
                Some(Ok(Message::Close(_))) | None => {
                    let end = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(self.connection.broken(end));
                }
                // Pings are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.connection.broken(error)),
            }
        }
    }
}
