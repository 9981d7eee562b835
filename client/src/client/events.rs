//! A job's events as they come.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};

use serde::de::DeserializeOwned;

use crate::api::{BatchRequest, BatchResponse, Event, ExecuteRequest, ExecuteResponse};
use crate::error::Error;
use crate::http::{Lines, Method, Reply, Streamed};
use crate::ids::Language;

use super::{Call, Client, path};

/// A job's events; the last one is its result. Dropping them kills the job.
///
/// Nothing is read ahead: a caller that does not ask for events slows the program down.
pub struct Events(pub(super) BoxStream<'static, Result<Event, Error>>);

impl Events {
    /// The next event; none after the result, or after an error.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        self.0.next().await
    }
}

impl Stream for Events {
    type Item = Result<Event, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_next_unpin(context)
    }
}

impl fmt::Debug for Events {
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

    async fn events<T: DeserializeOwned>(
        &self,
        call: Call,
        whole: impl FnOnce(T) -> Event,
    ) -> Result<Events, Error> {
        let events = match self.connection.lines(call.0).await? {
            Streamed::Lines(lines) => {
                stream::unfold(Some((self.clone(), lines)), async |reading| {
                    let (client, mut lines) = reading?;
                    match client.next_event(&mut lines).await {
                        Ok(event @ (Event::Result { .. } | Event::Batch { .. })) => {
                            Some((Ok(event), None))
                        }
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

    async fn next_event(&self, lines: &mut Lines) -> Result<Event, Error> {
        let body = lines.next().await?;
        serde_json::from_slice(&body).map_err(|error| {
            let reply = Reply { status: 200, body };
            self.undecodable(&reply, error.to_string()).into()
        })
    }
}
