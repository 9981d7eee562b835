//! Who a request is from, and what it may do: the listener's [`Door`], proxies, names, origins,
//! tokens.
//!
//! Invariants: nothing that a client says counts that its peer is not trusted to say; what a
//! listener does not grant no token gives. What a request costs is [`super::quota`]'s.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use piston_client::api::{Code, Role};

use super::app::App;
use super::edge::Peer;
use super::forwarded::{self, Told};
use super::page;
use crate::config::Server;
use crate::config::exposure::{Page, Proxies, Quota, TokenPolicy};
use crate::error::Error;
use crate::job::queue::Requester;

/// Names the protocol of a WebSocket whose client can't set `Authorization`: a browser offers it
/// together with one that is the token.
pub(super) const SUBPROTOCOL: &str = "piston";

/// What that other one begins with.
const TOKEN_SUBPROTOCOL: &str = "piston.token.";

/// What a listener grants.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) role: Role,
    pub(super) tokens: TokenPolicy,
    pub(super) quota: Quota,
    pub(super) gate: Gate,
    pub(super) page: Page,
}

/// Who can knock at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Whom the operator lets open the socket: programs of this host, and a browser where there is
    /// a page for it.
    Operators,
    /// The same, or a reverse proxy.
    Socket,
    /// Anybody, web pages in a browser too.
    Network,
}

impl Door {
    /// The operator's own.
    pub(super) fn operators(page: Page) -> Self {
        Self {
            role: Role::Admin,
            tokens: TokenPolicy::Ignored,
            quota: Quota::default(),
            gate: Gate::Operators,
            page,
        }
    }

    /// Whether what comes may come from a browser that another page has sent.
    fn has_browsers(&self) -> bool {
        self.gate == Gate::Network || self.page == Page::Served
    }
}

/// How a request arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) door: Arc<Door>,
    pub(super) from: Requester,
}

/// Who it is, and what is granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    pub(super) peer: Peer,
    pub(super) quota: Quota,
}

/// Finds out who a request is from; refuses it when it may not come in.
pub(super) async fn admit(
    app: &App,
    arrival: &Arrival,
    request: &Parts,
) -> Result<Admitted, Error> {
    let Arrival { door, from } = arrival;
    let server = &app.config().server;
    let headers = &request.headers;
    let proxied = is_proxy(&server.proxies, door.gate, *from);
    let told = proxied.then(|| forwarded::told(headers, &server.proxies));
    let Told { client, scheme } = told.unwrap_or_default();
    if proxied || door.has_browsers() {
        let host = host(request);
        check_host(host.as_deref(), server)?;
        check_origin(request, host.as_deref(), scheme, server)?;
    }
    let requester = client.map_or(*from, Requester::Address);
    let mut admitted = Admitted {
        peer: Peer {
            role: door.role,
            requester,
            concurrency: door.quota.concurrency,
        },
        quota: door.quota,
    };
    if watches(request) || page::is_part(door, request) {
        admitted.quota = Quota::default();
    } else if door.tokens == TokenPolicy::Required {
        let secret = secret(headers).ok_or_else(|| unauthorized("a token is needed here"))?;
        let token = app.engine().await?.tokens.find(secret);
        let token = token.ok_or_else(|| unauthorized("this token is not known"))?;
        admitted.peer = Peer {
            role: token.role.min(door.role),
            requester: Requester::Token(token.id),
            concurrency: token.concurrency,
        };
        admitted.quota = Quota {
            rate: token.rate,
            concurrency: token.concurrency,
        };
    }
    Ok(admitted)
}

/// Whoever only asks whether the daemon lives needs no token and costs nothing.
fn watches(request: &Parts) -> bool {
    matches!(request.uri.path(), "/healthz" | "/readyz")
}

fn unauthorized(what: &str) -> Error {
    let text = format!("{what}: send `Authorization: Bearer TOKEN`");
    Error::new(Code::Unauthorized, text)
}

fn is_proxy(proxies: &Proxies, gate: Gate, from: Requester) -> bool {
    match (gate, from) {
        (Gate::Socket, _) => proxies.unix,
        (Gate::Network, Requester::Address(peer)) => proxies.has(peer),
        (Gate::Operators | Gate::Network, _) => false,
    }
}

/// The token that a request comes with. Clients of the released Piston send it bare.
fn secret(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().ok()?.trim();
        return match value.split_once(' ') {
            None => Some(value),
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => Some(secret.trim()),
            Some(_) => None,
        };
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|word| word.trim().strip_prefix(TOKEN_SUBPROTOCOL))
}

fn host(request: &Parts) -> Option<String> {
    let header = request.headers.get(header::HOST);
    match (request.uri.authority(), header) {
        (Some(authority), _) => Some(authority.as_str().to_lowercase()),
        (None, Some(host)) => Some(String::from_utf8_lossy(host.as_bytes()).to_lowercase()),
        (None, None) => None,
    }
}

/// Refuses a name that an attacker's DNS may have given us: a browser that was told that
/// `evil.example` is 127.0.0.1 sends that name here.
fn check_host(host: Option<&str>, server: &Server) -> Result<(), Error> {
    match host {
        Some(host) if !is_own_name(host, &server.hosts) => {
            let text =
                format!("`{host}` is not a name of this daemon; `http.hosts` lists those it has");
            Err(Error::new(Code::HostNotKnown, text))
        }
        _ => Ok(()),
    }
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

/// Refuses what a page of another site makes its visitor's browser send. Reading is harmless: the
/// page does not get to see the reply unless its origin is allowed.
fn check_origin(
    request: &Parts,
    host: Option<&str>,
    scheme: Option<&str>,
    server: &Server,
) -> Result<(), Error> {
    let Some(origin) = request.headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let upgrade = request.headers.contains_key(header::UPGRADE);
    let reads = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if reads && !upgrade {
        return Ok(());
    }
    let origin = String::from_utf8_lossy(origin.as_bytes()).to_lowercase();
    let own = origin.split_once("://").is_some_and(|(given, page)| {
        let known = matches!(given, "http" | "https");
        known && scheme.is_none_or(|scheme| scheme == given) && Some(page) == host
    });
    if own || server.origins.allow(&origin) {
        return Ok(());
    }
    let text =
        format!("pages of `{origin}` may not do this; `http.cors_origins` lists those that may");
    Err(Error::new(Code::Forbidden, text))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue, Request};

    use super::*;
    use crate::config::exposure::Origins;

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
    fn a_page_may_only_change_things_and_open_websockets_at_its_own_server() {
        let host = crate::config::paths::Host {
            home: crate::config::Home::User,
            uid: 0,
            cpus: 1,
            variables: std::collections::BTreeMap::new(),
        };
        let loaded = crate::config::load(&crate::config::Flags::default(), &host);
        let mut server = loaded.expect("defaults").config.server;
        server.origins = Origins::These(vec!["https://app.example".to_owned()]);
        let check = |origin: &str, own: &str, scheme: Option<&str>, method: Method| {
            let request = Request::builder()
                .method(method)
                .header("origin", origin)
                .body(())
                .expect("a request");
            check_origin(&request.into_parts().0, Some(own), scheme, &server).is_ok()
        };
        for (origin, own, scheme, fits) in [
            ("http://piston.example", "piston.example", None, true),
            (
                "https://Piston.example:8443",
                "piston.example:8443",
                None,
                true,
            ),
            (
                "https://piston.example",
                "piston.example",
                Some("https"),
                true,
            ),
            (
                "http://piston.example",
                "piston.example",
                Some("https"),
                false,
            ),
            ("https://app.example", "piston.example", None, true),
            ("http://app.example", "piston.example", None, false),
            ("http://localhost:3000", "localhost:2000", None, false),
            ("http://evil.example", "piston.example", None, false),
            ("null", "piston.example", None, false),
            ("piston.example", "piston.example", None, false),
        ] {
            assert_eq!(
                check(origin, own, scheme, Method::POST),
                fits,
                "{origin} {own}"
            );
            assert!(check(origin, own, scheme, Method::GET));
        }
        let upgrade = Request::builder()
            .header("origin", "http://evil.example")
            .header("upgrade", "websocket")
            .body(());
        let (upgrade, ()) = upgrade.expect("a request").into_parts();
        check_origin(&upgrade, None, None, &server).expect_err("a WebSocket");
        let (program, ()) = Request::new(()).into_parts();
        check_origin(&program, None, None, &server).expect("programs say no origin");
    }

    #[test]
    fn a_token_comes_with_or_without_bearer_or_as_a_subprotocol() {
        let with = |name: HeaderName, value: &'static str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            secret(&headers).map(str::to_owned)
        };
        let token = Some("pst_1_2".to_owned());
        assert_eq!(with(header::AUTHORIZATION, "Bearer pst_1_2"), token);
        assert_eq!(with(header::AUTHORIZATION, "bearer  pst_1_2 "), token);
        assert_eq!(with(header::AUTHORIZATION, "pst_1_2"), token);
        assert_eq!(with(header::AUTHORIZATION, "Basic cHN0"), None);
        let offered = "piston, piston.token.pst_1_2";
        assert_eq!(with(header::SEC_WEBSOCKET_PROTOCOL, offered), token);
        assert_eq!(with(header::SEC_WEBSOCKET_PROTOCOL, "piston"), None);
    }
}
