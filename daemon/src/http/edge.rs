//! Around every request: its id, its span, whether it is let in, the panic boundary, and what an
//! error looks like in the API that was spoken to.
//!
//! Invariant: every reply carries `x-request-id`, and every error reply was logged once, here,
//! under that id. Never the body of a request.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use piston_client::api::{Code, Role};
use tower::Service as _;
use tracing::{Instrument as _, Span};

use super::access::{self, Admitted, Arrival};
use super::app::App;
use super::body;
use super::connection::Connection;
use super::quota::{Permit, Standing};
use super::repeat::{self, Asked, Repeat};
use super::reply::{self, Dialect};
use super::{route, status};
use crate::error::Error;
use crate::job::queue::Requester;
use crate::random;

/// Names a request in replies and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes that are read of a request that is not let in: more than most send, since who is still
/// sending when the connection ends may never see the answer.
const REFUSED: usize = 16 << 20;

/// Who a request is from, once it is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// What it may do.
    pub role: Role,
    /// Who it is.
    pub requester: Requester,
    /// Jobs that it may have at once.
    pub concurrency: Option<u32>,
}

impl Peer {
    /// The peer of a request; without one, the least.
    pub fn of(request: &Request) -> Self {
        Self::in_extensions(request.extensions())
    }

    /// The same of a request's head.
    pub(super) fn of_parts(parts: &Parts) -> Self {
        Self::in_extensions(&parts.extensions)
    }

    fn in_extensions(extensions: &Extensions) -> Self {
        let least = Self {
            role: Role::Execute,
            requester: Requester::Unknown,
            concurrency: None,
        };
        extensions.get().copied().unwrap_or(least)
    }

    /// Refuses who may only execute.
    pub(super) fn manages(self) -> Result<(), Error> {
        match (self.role, self.requester) {
            (Role::Admin, _) => Ok(()),
            (Role::Execute, Requester::Token(_)) => {
                let text = "this token or its listener only executes; management needs `admin`";
                Err(Error::new(Code::Forbidden, text))
            }
            (Role::Execute, _) => {
                let text = "this listener only executes; management needs the daemon's Unix socket";
                Err(Error::new(Code::Forbidden, text))
            }
        }
    }

    /// Lets a job of its in; it counts until the permit is dropped.
    pub(super) fn job(self, app: &App) -> Result<Permit, Error> {
        app.quotas().job(self.requester, self.concurrency)
    }
}

/// As an argument of a handler.
impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::in_extensions(&parts.extensions))
    }
}

/// What stands around the routes.
#[derive(Debug)]
pub(super) struct Edge {
    app: Arc<App>,
    routes: Router,
}

impl Edge {
    pub(super) fn new(app: Arc<App>) -> Self {
        let routes = route::router(Arc::clone(&app));
        Self::with_routes(app, routes)
    }

    pub(super) fn with_routes(app: Arc<App>, routes: Router) -> Self {
        Self { app, routes }
    }

    /// Answers a request.
    pub(super) async fn call(&self, connection: &Connection, request: Request) -> Response {
        let id = request_id(request.headers());
        let (mut head, body) = request.into_parts();
        let (entered, standing) = self.enter(connection.arrival(), &head, body).await;
        let mut response = match entered {
            Ok((_, Asked::Before(response))) => {
                tracing::debug!(req = name(&id), path = head.uri.path(), "replied at once");
                response
            }
            Ok((peer, Asked::New(body, repeat))) => {
                let span = span(name(&id), &head);
                head.extensions.insert(connection.clone());
                head.extensions.insert(peer);
                let request = Request::from_parts(head, body);
                let routed = self.route(request, repeat, name(&id)).instrument(span);
                // Apart, or every request would carry its size about.
                Box::pin(routed).await
            }
            Err(error) => span(name(&id), &head).in_scope(|| {
                let mut response = Response::default();
                let dialect = Dialect::of(head.uri.path());
                tell(&error, dialect, name(&id), &mut response);
                response
            }),
        };
        if let Some(standing) = standing {
            standing.tell(response.headers_mut());
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    /// Lets a request in, and looks whether it came before; says how its sender stands as well.
    async fn enter(
        &self,
        arrival: &Arrival,
        head: &Parts,
        body: Body,
    ) -> (Result<(Peer, Asked<'_>), Error>, Option<Standing>) {
        let app = &self.app;
        let Admitted { peer, quota } = match access::admit(app, arrival, head).await {
            Ok(admitted) => admitted,
            Err(error) => return (Err(Box::pin(refuse(body, error)).await), None),
        };
        let spend = |rate| app.quotas().spend(peer.requester, rate, Instant::now());
        let standing = quota.rate.map(spend);
        if let Some(error) = standing.as_ref().and_then(Standing::refusal) {
            return (Err(Box::pin(refuse(body, error)).await), standing);
        }
        if let Some(response) = status::at_once(head) {
            return (Ok((peer, Asked::Before(response))), standing);
        }
        let asked = AssertUnwindSafe(repeat::ask(app, peer, head, body)).catch_unwind();
        let asked = asked.await.unwrap_or_else(|_| Err(panicked()));
        (asked.map(|asked| (peer, asked)), standing)
    }

    /// What a handler answers.
    async fn route(&self, request: Request, repeat: Option<Repeat<'_>>, id: &str) -> Response {
        let dialect = Dialect::of(request.uri().path());
        let called = AssertUnwindSafe(self.routes.clone().call(request)).catch_unwind();
        let mut response = match called.await {
            Ok(Ok(response)) => response,
            Err(_panic) => panicked().into_response(),
        };
        if let Some(error) = response.extensions_mut().remove::<Error>() {
            tell(&error, dialect, id, &mut response);
        } else if let Some(repeat) = repeat {
            repeat.remember(&mut response);
        }
        tracing::debug!(status = response.status().as_u16(), "replied");
        response
    }
}

/// What all that is logged of a request stands in.
fn span(id: &str, head: &Parts) -> Span {
    tracing::info_span!("request", req = %id, method = %head.method, path = head.uri.path())
}

/// Reads what comes with a refused request, within bounds: a client that sends first and reads then
/// gets to see why.
async fn refuse(body: Body, error: Error) -> Error {
    body::drain(&mut body.into_data_stream(), REFUSED).await;
    error
}

/// The panic itself was printed by the panic hook.
fn panicked() -> Error {
    Error::caused_by(Code::Internal, &std::io::Error::other("a handler panicked"))
}

/// Logs an error and puts it into a response.
fn tell(error: &Error, dialect: Dialect, id: &str, response: &mut Response) {
    log(error);
    reply::render(error, dialect, id, response);
}

fn log(error: &Error) {
    match error.code().status() {
        500.. if error.code() == Code::Internal => {
            tracing::error!(reason = error.inside(), "request failed");
        }
        _ => tracing::debug!(code = ?error.code(), reason = error.inside(), "request refused"),
    }
}

/// The client's own id when it is a plain word, else a random one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |id: &&HeaderValue| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=64).contains(&id.len()) && id.as_bytes().iter().all(plain)
    };
    if let Some(id) = headers.get(REQUEST_ID).filter(plain) {
        return id.clone();
    }
    // Without randomness the id is all zeros: a worse name, not a worse reply.
    let drawn: [u8; 8] = random::bytes().unwrap_or_default();
    HeaderValue::try_from(hex::encode(drawn)).unwrap_or(HeaderValue::from_static("0"))
}

/// An id, which is made of plain letters, as a word.
fn name(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_id_of_the_client_is_kept() {
        let with =
            |id: &'static str| HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(id))]);
        assert_eq!(name(&request_id(&with("abc-1"))), "abc-1");
        for bad in ["", "a b", "\u{7f}"]
            .iter()
            .filter_map(|id| HeaderValue::from_str(id).ok())
        {
            let id = request_id(&HeaderMap::from_iter([(REQUEST_ID, bad)]));
            assert_eq!(name(&id).len(), 16);
        }
    }
}
