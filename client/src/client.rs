//! The typed client: one method for each operation of the v3 API.
//!
//! Owns the table of methods and paths as a caller sees it, and the decoding of replies. The
//! methods stand by subject in [`packages`], [`repositories`], [`jobs`], [`events`] and [`interact`]. Transport is
//! [`crate::http`]'s; nothing here retries or caches.

mod cache;
mod events;
mod interact;
mod jobs;
mod packages;
mod repositories;
mod runners;
mod tokens;

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{BASE_PATH, Info, Problem, VersionInfo};
use crate::error::{DecodeError, Error, excerpt};
use crate::host::Host;
#[cfg(feature = "tls")]
use crate::http::tls::Authorities;
use crate::http::{Body, Connection, Method, Reply, Request, Wait};
use crate::units::Bytes;

pub use events::Events;
pub use interact::Keyboard;
pub use packages::MadeFile;
pub use repositories::AvailableQuery;
pub use runners::SetRunnersMode;

/// A client of one daemon; cheap to clone, and clones share connections.
///
/// A version `range` is npm's (`*`, `3.x`, `^3.9`, `>=3 <4`); the newest version in it is meant.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
}

/// Bounds of what a client waits for and takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Until there is a connection.
    pub connect_timeout: Duration,
    /// For a reply that the daemon only has to look up.
    pub request_timeout: Duration,
    /// For a job, an installation, a download.
    pub work_timeout: Duration,
    /// Length of a reply, files excepted.
    pub max_reply: Bytes,
    /// What is said to listeners that ask for a token.
    pub token: Option<Secret>,
    /// Who vouches for the certificates of `https://` addresses, where that is not who the system
    /// trusts.
    #[cfg(feature = "tls")]
    pub authorities: Option<Authorities>,
}

/// A token's secret, which no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes it from a text; what stands around it, such as a file's last line end, is no part of it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            work_timeout: Duration::from_hours(1),
            max_reply: Bytes::mib(64),
            token: None,
            #[cfg(feature = "tls")]
            authorities: None,
        }
    }
}

impl Client {
    /// A client of the daemon at `host`. Connections are opened when they are needed.
    pub fn new(host: Host) -> Self {
        Self::with_settings(host, Settings::default())
    }

    /// The same with other bounds.
    pub fn with_settings(host: Host, settings: Settings) -> Self {
        Self {
            connection: Connection::new(host, settings),
        }
    }

    /// A client of a daemon that is there and serves this version of the API.
    pub async fn connect(host: Host) -> Result<Self, Error> {
        let client = Self::new(host);
        let version = client.version().await?;
        if version.api.iter().any(|api| api == "v3") {
            return Ok(client);
        }
        Err(Error::Decode(DecodeError {
            host: client.host().clone(),
            status: 200,
            reason: format!("{} {} has no API v3", version.product, version.version),
            excerpt: String::new(),
        }))
    }

    /// Where the daemon is.
    pub fn host(&self) -> &Host {
        self.connection.host()
    }

    /// `GET /version`: what answers there.
    pub async fn version(&self) -> Result<VersionInfo, Error> {
        self.get(path(&["version"])).await
    }

    /// `GET /info`: what the daemon can do on its host, and how busy it is.
    pub async fn info(&self) -> Result<Info, Error> {
        self.get(path(&["info"])).await
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, Error> {
        self.call(Call::new(Method::Get, path)).await
    }

    /// Sends a call and decodes its reply.
    async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let reply = self.connection.send(call.0).await?;
        let body = self.accept(reply)?;
        serde_json::from_slice(&body.body)
            .map_err(|error| self.undecodable(&body, error.to_string()).into())
    }

    /// Sends a call whose success says everything.
    async fn command(&self, call: Call) -> Result<(), Error> {
        let reply = self.connection.send(call.0).await?;
        self.accept(reply).map(drop)
    }

    /// The reply, if it is a success, else the daemon's problem.
    fn accept(&self, reply: Reply) -> Result<Reply, Error> {
        if (200..300).contains(&reply.status) {
            return Ok(reply);
        }
        match serde_json::from_slice::<Problem>(&reply.body) {
            Ok(problem) => Err(problem.into()),
            Err(_) => Err(self
                .undecodable(&reply, "no problem details in it".to_owned())
                .into()),
        }
    }

    fn undecodable(&self, reply: &Reply, reason: String) -> DecodeError {
        DecodeError {
            host: self.host().clone(),
            status: reply.status,
            reason,
            excerpt: excerpt(&reply.body),
        }
    }
}

/// A request as the operations put it together.
struct Call(Request);

impl Call {
    fn new(method: Method, path: String) -> Self {
        Self(Request {
            method,
            path,
            body: Body::Empty,
            wait: Wait::Short,
        })
    }

    /// The daemon works on it rather than looking something up.
    fn work(mut self) -> Self {
        self.0.wait = Wait::Work;
        self
    }

    fn body(mut self, body: Body) -> Self {
        self.0.body = body;
        self
    }

    fn json(self, value: &impl Serialize) -> Self {
        let json =
            serde_json::to_vec(value).expect("wire types have string keys and no failing parts");
        self.body(Body::Json(json))
    }
}

/// What of a segment of a path is sent as it is (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A path below the API's base, each segment percent-encoded.
fn path(segments: &[&str]) -> String {
    let mut path = BASE_PATH.to_owned();
    for segment in segments {
        path.push('/');
        path.extend(utf8_percent_encode(segment, SEGMENT));
    }
    path
}

/// Adds `name=value` pairs to a path.
fn with_query(mut path: String, pairs: &[(&str, &str)]) -> String {
    for (at, (name, value)) in pairs.iter().enumerate() {
        path.push(if at == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        path.extend(utf8_percent_encode(value, SEGMENT));
    }
    path
}

#[cfg(test)]
mod tests;
