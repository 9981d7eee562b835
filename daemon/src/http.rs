//! The HTTP API over Unix and TCP listeners.
//!
//! Parts, outside in: [`listener`] (sockets), this file (connections: their number, time for a
//! head, graceful end), [`edge`] (around every request: id, span, panic boundary, Host check, how
//! errors look), [`route`] (the one table of v3 operations), the handlers by subject, [`v2`] (the
//! released Piston's API), `stream` (events of a job as they happen), [`body`] and [`reply`] (bounds and JSON). Handlers hold no logic: they
//! parse, call `job` or `packages`, and answer.
//!
//! Invariant: a request's future belongs to its connection. When the client goes away hyper drops
//! it, and with it the job that it waits for. What must go on without its client (installations)
//! is spawned through [`App::detached`].

pub mod app;
pub mod body;
pub mod cache;
pub mod edge;
pub mod execute;
pub mod jobs;
pub mod listener;
pub mod make;
pub mod packages;
pub mod reply;
pub mod repos;
pub mod route;
mod runners;
pub mod status;
mod stream;
pub mod v2;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tower::Service as _;

use crate::shutdown::Shutdown;
use app::App;
use edge::Peer;
use listener::Listener;

/// How long replies may take to leave once everything has to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until the shutdown drains; connections end by themselves after it.
pub async fn serve(listener: Listener, app: Arc<App>, slots: Arc<Semaphore>) {
    let router = route::router(Arc::clone(&app));
    let shutdown = app.shutdown().clone();
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            () = shutdown.draining() => return,
        };
        // The semaphore is never closed; if it were, nobody could be served any more.
        let Ok(slot) = slot else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.draining() => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely. Those who wait in the backlog lose nothing.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = listener.peer();
        let connection = connection(stream, router.clone(), peer, Arc::clone(&app));
        drop(shutdown.spawn(async move {
            connection.await;
            drop(slot);
        }));
    }
}

/// One connection, to its end.
async fn connection<S>(stream: S, router: Router, peer: Peer, app: Arc<App>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer);
        async move {
            router
                .call(request)
                .await
                .map_err(|never: Infallible| match never {})
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.config().server.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let shutdown: &Shutdown = app.shutdown();
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = shutdown.draining() => None,
    };
    if let Some(ended) = ended {
        return log_end(ended);
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection.as_mut() => log_end(ended),
        () = async { shutdown.ending().await; tokio::time::sleep(LAST_WORDS).await } => {}
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(error = crate::error::chain(&error), "a connection broke");
    }
}

#[cfg(test)]
mod tests;
