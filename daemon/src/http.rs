//! The HTTP API over Unix and TCP listeners.
//!
//! Parts, outside in: [`listener`] (sockets), this file (connections: their number, time for a
//! head, graceful end), [`edge`] (around every request: id, span, panic boundary, Host check, how
//! errors look), [`route`] (the one table of v3 operations), the handlers by subject, [`v2`] (the
//! released Piston's API), `stream` and `ws` (jobs that are listened to), `told` (their events in words), [`body`] and [`reply`] (bounds and JSON). Handlers hold no logic: they
//! parse, call `job` or `packages`, and answer.
//!
//! Invariant: a request's future belongs to its connection. When the client goes away hyper drops
//! it, and with it the job that it waits for. What must go on without its client (installations)
//! is spawned through [`App::detached`].

pub mod app;
mod batch;
pub mod body;
pub mod cache;
mod connection;
pub mod edge;
pub mod execute;
mod hangup;
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
mod told;
pub mod v2;
mod ws;

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
use connection::Connection;
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
        let (stream, peer, hangup) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely. Those who wait in the backlog lose nothing.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let facts = (peer, Connection::new(hangup, slot));
        let connection = connection(stream, router.clone(), facts, Arc::clone(&app));
        drop(shutdown.spawn(connection));
    }
}

/// One connection, to its end.
async fn connection<S>(stream: S, router: Router, (peer, facts): (Peer, Connection), app: Arc<App>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = facts.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(facts.clone());
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
        // Who has said all and waits for the reply is told from who went away by `client`.
        .half_close(client.knows_half_closed())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let shutdown: &Shutdown = app.shutdown();
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = client.gone() => return,
        () = shutdown.draining() => None,
    };
    if let Some(ended) = ended {
        return log_end(ended);
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection.as_mut() => log_end(ended),
        () = client.gone() => {}
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
