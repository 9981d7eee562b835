//! Events of jobs and installations as they come.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};

use serde::de::DeserializeOwned;

use crate::api::{
    BatchRequest, BatchResponse, Event, ExecuteRequest, ExecuteResponse, InstallEvent,
};
use crate::error::Error;
use crate::http::{Lines, Method, Reply, Streamed};
use crate::ids::Language;

use super::{Call, Client, path};

/// Events of a job, or of an installation; the last one is its result. Dropping those of a job kills
/// the job; an installation goes on.
///
/// Nothing is read ahead: a caller that does not ask for events slows the program down.
pub struct Events<E = Event>(pub(super) BoxStream<'static, Result<E, Error>>);

/// A kind of event.
pub(super) trait Told: DeserializeOwned + Send + 'static {
    /// The daemon's problem, where it is that.
    fn checked(self) -> Result<Self, Error>;
    /// Whether nothing follows it.
    fn is_last(&self) -> bool;
}

impl Told for Event {
    fn checked(self) -> Result<Self, Error> {
        match self {
            Self::Error { problem } => Err(Error::Fault(problem)),
            event => Ok(event),
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Result { .. } | Self::Batch { .. })
    }
}

impl Told for InstallEvent {
    fn checked(self) -> Result<Self, Error> {
        match self {
            Self::Error { problem } => Err(Error::Fault(problem)),
            event => Ok(event),
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Result { .. })
    }
}

impl<E> Events<E> {
    /// The next event; none after the result, or after an error.
    pub async fn next(&mut self) -> Option<Result<E, Error>> {
        self.0.next().await
    }
}

impl<E> Stream for Events<E> {
    type Item = Result<E, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_next_unpin(context)
    }
}

impl<E> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Client {
    /// `POST /packages/{package}/{version}/execute`, streamed: runs a job as [`Client::execute`]
    /// does, and tells what it does while it does it. Returns when the job's first stage starts.
    pub async fn execute_events(
        &self,
        package: &Language,
        range: &str,
        request: &ExecuteRequest,
    ) -> Result<Events, Error> {
        let path = path(&["packages", package.as_str(), range, "execute"]);
        let call = Call::new(Method::Post, path).json(request).work();
        // A daemon that does not stream tells the result alone.
        let whole = |result: ExecuteResponse| Event::Result {
            result: Box::new(result),
        };
        self.events(call, whole).await
    }

    /// `POST /packages/{package}/{version}/batch`, streamed: runs a batch as [`Client::batch`]
    /// does, and tells of each case when it has ended.
    pub async fn batch_events(
        &self,
        package: &Language,
        range: &str,
        request: &BatchRequest,
    ) -> Result<Events, Error> {
        let path = path(&["packages", package.as_str(), range, "batch"]);
        let call = Call::new(Method::Post, path).json(request).work();
        let whole = |result: BatchResponse| Event::Batch {
            result: Box::new(result),
        };
        self.events(call, whole).await
    }

    /// Sends a call whose reply comes as events, or `whole` from a daemon that does not stream.
    pub(super) async fn events<T: DeserializeOwned, E: Told>(
        &self,
        call: Call,
        whole: impl FnOnce(T) -> E,
    ) -> Result<Events<E>, Error> {
        let events = match self.connection.lines(call.0).await? {
            Streamed::Lines(lines) => {
                stream::unfold(Some((self.clone(), lines)), async |reading| {
                    let (client, mut lines) = reading?;
                    match client.next_event::<E>(&mut lines).await {
                        Ok(event) if event.is_last() => Some((Ok(event), None)),
                        Ok(event) => Some((Ok(event), Some((client, lines)))),
                        Err(error) => Some((Err(error), None)),
                    }
                })
                .boxed()
            }
            Streamed::Whole(reply) => {
                let reply = self.accept(reply)?;
                let result = serde_json::from_slice(&reply.body)
                    .map_err(|error| self.undecodable(&reply, error.to_string()))?;
                stream::iter([Ok(whole(result))]).boxed()
            }
        };
        Ok(Events(events))
    }

    async fn next_event<E: Told>(&self, lines: &mut Lines) -> Result<E, Error> {
        let body = lines.next().await?;
        match serde_json::from_slice::<E>(&body) {
            Ok(event) => event.checked(),
            Err(error) => {
                let reply = Reply { status: 200, body };
                Err(self.undecodable(&reply, error.to_string()).into())
            }
        }
    }
}
