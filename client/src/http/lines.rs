//! Replies that come line by line.
//!
//! Invariant: what is kept of a body is at most the bound of a reply, and nothing is read ahead of
//! the line that is asked for but the rest of its piece.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use tokio::time::timeout;

use super::{Connection, Reply, Request};
use crate::error::TransportError;

/// A reply of one JSON object a line.
const LINES: &str = "application/x-ndjson";

/// A reply that may come line by line.
pub(crate) enum Streamed {
    /// It does.
    Lines(Box<Lines>),
    /// It came whole: it is no success, or the daemon does not stream.
    Whole(Reply),
}

/// A body of lines, read as they are asked for.
pub(crate) struct Lines {
    connection: Connection,
    body: Incoming,
    /// What came and was not asked for yet.
    rest: BytesMut,
    /// How much of it has no end of a line.
    searched: usize,
    after: Duration,
}

impl Connection {
    /// Sends a request whose reply may come line by line. Time counts until the reply begins, and
    /// then between its pieces.
    pub(crate) async fn lines(&self, request: Request) -> Result<Streamed, TransportError> {
        let after = self.time_for(request.wait);
        let late = |_| self.timed_out(after);
        let begun = self.begin_as(request, LINES);
        let response = timeout(after, begun).await.map_err(late)??;
        let kind = response.headers().get(CONTENT_TYPE);
        let is_lines = kind.is_some_and(|kind| kind.as_bytes().starts_with(LINES.as_bytes()));
        if !response.status().is_success() || !is_lines {
            let reply = timeout(after, self.take(response)).await.map_err(late)??;
            return Ok(Streamed::Whole(reply));
        }
        Ok(Streamed::Lines(Box::new(Lines {
            connection: self.clone(),
            body: response.into_body(),
            rest: BytesMut::new(),
            searched: 0,
            after,
        })))
    }
}

impl Lines {
    /// The next line, without its end. The end of the body is an error: whoever asks knows that
    /// there is more to come.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, TransportError> {
        loop {
            let end = self.rest[self.searched..].iter().position(|&b| b == b'\n');
            if let Some(end) = end {
                let line = self.rest.split_to(self.searched + end);
                self.rest.advance(1);
                self.searched = 0;
                return Ok(line.to_vec());
            }
            self.searched = self.rest.len();
            let data = self.piece().await?;
            let bound = self.connection.settings.max_reply;
            if self.rest.len().saturating_add(data.len()) > bound.as_usize() {
                return Err(TransportError::ReplyTooLarge {
                    host: self.connection.host.clone(),
                    bound,
                });
            }
            self.rest.extend_from_slice(&data);
        }
    }

    async fn piece(&mut self) -> Result<Bytes, TransportError> {
        let frame = timeout(self.after, self.body.frame()).await;
        match frame.map_err(|_| self.connection.timed_out(self.after))? {
            Some(Ok(frame)) => Ok(frame.into_data().unwrap_or_default()),
            Some(Err(error)) => Err(self.connection.broken(error)),
            None => {
                let end = io::Error::from(io::ErrorKind::UnexpectedEof);
                Err(self.connection.broken(end))
            }
        }
    }
}
