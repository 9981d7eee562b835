//! Around every request: its id, its span, the Host check, the panic boundary, and what an error
//! looks like in the API that was spoken to.
//!
//! Invariant: every reply carries `x-request-id`, and every error reply was logged once, here,
//! under that id. Never the body of a request.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use piston_client::api::Code;
use tracing::Instrument as _;

use super::app::App;
use super::reply::{self, Dialect};
use crate::error::Error;
use crate::job::queue::Requester;

/// Names a request in replies and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a connection may do, by the listener it came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The listener's role.
    pub role: Role,
    /// The kind of listener.
    pub transport: Transport,
    /// Who it is.
    pub requester: Requester,
}

/// What a listener's clients may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Runtimes, execute, health, a reduced `info`.
    Execute,
    /// Everything.
    Admin,
}

/// How a client reached the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// The Unix socket, which no browser can open.
    Unix,
    /// TCP.
    Tcp,
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
            transport: Transport::Tcp,
            requester: Requester::Unknown,
        };
        extensions.get().copied().unwrap_or(least)
    }
}

/// As an argument of a handler.
impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::in_extensions(&parts.extensions))
    }
}

/// The outermost layer.
pub(super) async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let dialect = Dialect::of(request.uri().path());
    let span = tracing::info_span!(
        "request", req = %id, method = %request.method(), path = request.uri().path()
    );
    let inside = async move {
        let mut response = match check_host(&app, &request) {
            Err(error) => error.into_response(),
            Ok(()) => AssertUnwindSafe(next.run(request))
                .catch_unwind()
                .await
                .unwrap_or_else(|_| panicked().into_response()),
        };
        if let Some(error) = response.extensions_mut().remove::<Error>() {
            log(&error);
            reply::render(&error, dialect, &id, &mut response);
        }
        tracing::debug!(status = response.status().as_u16(), "replied");
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    };
    inside.instrument(span).await
}

/// The panic itself was printed by the panic hook.
fn panicked() -> Error {
    Error::caused_by(Code::Internal, &std::io::Error::other("a handler panicked"))
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
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=64).contains(&id.len()) && id.bytes().all(plain)
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    if let Some(id) = given.filter(plain) {
        return id.to_owned();
    }
    let mut bytes = [0; 8];
    // Without randomness the id is all zeros: a worse name, not a worse reply.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

/// Refuses a name that an attacker's DNS may have given us: a browser that was told that
/// `evil.example` is 127.0.0.1 sends that name here.
fn check_host(app: &App, request: &Request) -> Result<(), Error> {
    if Peer::of(request).transport == Transport::Unix {
        return Ok(());
    }
    let header = request.headers().get(header::HOST);
    let host = match (request.uri().authority(), header) {
        (Some(authority), _) => authority.as_str().to_owned(),
        (None, Some(host)) => String::from_utf8_lossy(host.as_bytes()).to_lowercase(),
        (None, None) => return Ok(()),
    };
    if is_own_name(&host, &app.config().server.hosts) {
        return Ok(());
    }
    let text = format!("`{host}` is not a name of this daemon; `http.hosts` lists those it has");
    Err(Error::new(Code::Forbidden, text))
}

fn is_own_name(host: &str, configured: &[String]) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _port)) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok()
        || configured.iter().any(|own| own == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_addresses_and_configured_names_are_own() {
        let configured = ["piston.example".to_owned()];
        for (host, own) in [
            ("localhost", true),
            ("localhost:2000", true),
            ("app.localhost:80", true),
            ("127.0.0.1:2000", true),
            ("192.168.0.7", true),
            ("[::1]:2000", true),
            ("piston.example", true),
            ("piston.example.:443", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("[evil]", false),
            ("", false),
        ] {
            assert_eq!(is_own_name(host, &configured), own, "{host}");
        }
    }

    #[test]
    fn a_plain_id_of_the_client_is_kept() {
        let with =
            |id: &'static str| HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(id))]);
        assert_eq!(request_id(&with("abc-1")), "abc-1");
        for bad in ["", "a b", "\u{7f}"]
            .iter()
            .filter_map(|id| HeaderValue::from_str(id).ok())
        {
            let id = request_id(&HeaderMap::from_iter([(REQUEST_ID, bad)]));
            assert_eq!(id.len(), 16);
        }
    }
}
