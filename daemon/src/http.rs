//! The HTTP API over Unix and TCP listeners.
//!
//! Parts, outside in: [`listener`] (sockets), this file (connections: their number and end),
//! `pace` (their time), `hangup` (whether somebody is still there), `cors` (pages of other origins),
//! `edge` (around every request: id, span, panic boundary, how errors look), `access` (who it is,
//! what it may do), `forwarded` (what proxies say of it), `quota` (how much of it), [`repeat`] (what
//! came before and need not be routed), `route` (the one table of v3 operations), the handlers by subject, [`v2`] (the released Piston's
//! API), `stream` and `ws` (jobs that are listened to), `told` (their events in words), `page` (the
//! playground, for browsers), [`body`] and [`reply`] (bounds and JSON). Handlers hold no logic:
//! they parse, call `job` or `packages`, and answer.
//!
//! Invariant: a request's future belongs to its connection. When the client goes away hyper drops
//! it, and with it the job that it waits for. What must go on without its client (installations)
//! is spawned through [`App::detached`].

mod access;
pub mod app;
mod batch;
pub mod body;
pub mod cache;
mod connection;
mod cors;
pub mod edge;
pub mod execute;
mod forwarded;
mod hangup;
mod inplace;
pub mod jobs;
pub mod listener;
pub mod make;
mod metrics;
mod openapi;
mod pace;
pub mod packages;
mod page;
mod progress;
mod quota;
pub mod repeat;
pub mod reply;
pub mod repos;
pub mod route;
mod runners;
pub mod status;
mod stream;
mod tokens;
mod told;
pub mod v2;
mod ws;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tower::{Layer as _, Service as _};

use crate::shutdown::Shutdown;
use app::App;
use connection::Connection;
use cors::CorsLayer;
use edge::Edge;
use hangup::{Hangup, Stream};
use inplace::InPlace;
use listener::Listener;
use pace::{Heard, Pace, Paced};

/// How long replies may take to leave once everything has to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until the shutdown drains; connections end by themselves after it.
pub async fn serve(listener: Listener, app: Arc<App>, slots: Arc<Semaphore>) {
    let service = Arc::new(Service::new(&app));
    let shutdown = app.shutdown().clone();
    let mut failing = false;
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
        let (stream, arrival, transport) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely. Those who wait in the backlog lose nothing.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections for now");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        failing = false;
        let client = Connection::new(arrival, Hangup::of(&stream, transport), slot);
        let connection = connection(stream, Arc::clone(&service), client, Arc::clone(&app));
        drop(shutdown.spawn(connection));
    }
}

/// What answers the requests of a listener.
struct Service {
    edge: Edge,
    /// Speaks to browsers for pages of other origins.
    cors: Option<CorsLayer>,
    prefix: String,
}

impl Service {
    fn new(app: &Arc<App>) -> Self {
        let server = &app.config().server;
        Self {
            edge: Edge::new(Arc::clone(app)),
            cors: cors::layer(&server.origins),
            prefix: server.prefix.clone(),
        }
    }

    /// Answers a request, whose path begins after the prefix.
    async fn call(&self, client: &Connection, mut request: Request) -> Response {
        if let Some(below) = route::below(request.uri(), &self.prefix) {
            *request.uri_mut() = below;
        }
        let headers = request.headers();
        // Such a request may have had a length as well, of which hyper tells nothing.
        let has_two_ends = headers.contains_key(header::TRANSFER_ENCODING);
        let mut response = match &self.cors {
            Some(cors) if headers.contains_key(header::ORIGIN) => {
                let call = |request| self.edge.call(client, request).map(Ok);
                let called = cors.layer(tower::service_fn(call)).call(request);
                Box::pin(called)
                    .await
                    .unwrap_or_else(|never: Infallible| match never {})
            }
            _ => self.edge.call(client, request).await,
        };
        if has_two_ends {
            // A second request behind what one of two readers takes for the end is not read
            // (RFC 9112, 6.3).
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

/// One connection, to its end.
async fn connection(stream: Stream, service: Arc<Service>, client: Connection, app: Arc<App>) {
    let (pace, server) = (Pace::new(), &app.config().server);
    let stream = Heard::new(stream, pace.clone());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let replying = pace.asked();
        let called = service.call(&client, request.map(Body::new));
        called.map(|response| Ok::<_, Infallible>(response.map(|body| Paced::new(body, replying))))
    });
    let connection = http1::Builder::new()
        // `pace` has the time.
        .header_read_timeout(None)
        .max_header_size(server.max_head.as_usize())
        // Kept as long as the connection, also when it is idle after a large body.
        .max_buf_size(server.max_head.as_usize())
        // Who has said all and waits for the reply is told from who went away by `client`.
        .half_close(client.knows_half_closed())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let shutdown: &Shutdown = app.shutdown();
    let polls = InPlace::new();
    let (mut slow, mut gone) = (None, None);
    let mut silence = pin!(tokio::time::sleep(server.idle_timeout));
    let header_time = || tokio::time::sleep(server.header_timeout);
    let ended = tokio::select! {
        // What is read decides what is waited for.
        biased;
        ended = poll_fn(|task| polls.poll(connection.as_mut(), task)) => Some(ended),
        () = poll_fn(|task| pace.poll_in_head(&mut slow, header_time, task)) => {
            tracing::debug!("a request did not come to its end");
            return;
        }
        () = poll_fn(|task| pace.poll_in_reply(&mut gone, || client.gone(), task)) => return,
        () = poll_fn(|task| pace.poll_silent(silence.as_mut(), server.idle_timeout, task)) => return,
        () = shutdown.draining() => None,
    };
    if let Some(ended) = ended {
        return log_end(ended);
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        ended = connection.as_mut() => log_end(ended),
        () = poll_fn(|task| pace.poll_in_reply(&mut gone, || client.gone(), task)) => {}
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
