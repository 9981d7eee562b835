//! One request to the daemon and its reply, over a Unix socket or TCP.
//!
//! The only place that knows hyper. Owns connecting (and connecting again while a socket's queue
//! is full), the bound and the time of a reply, and the mapping of hyper's errors. Knows nothing
//! of operations or of what JSON means.
//!
//! Invariant: a request is sent at most once, unless hyper is sure that the daemon saw none of it.
//! Dropping a future of this module closes the connection that it used.

mod lines;
mod socket;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap,
    HeaderValue, USER_AGENT,
};
use hyper::{Request as HttpRequest, Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pool, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyperlocal::UnixConnector;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Settings;
use crate::error::{Obstacle, TransportError};
use crate::host::{Host, Scheme};

pub(crate) use lines::{Lines, Streamed};
pub(crate) use socket::{Ear, Mouth, Opened};

/// What goes to the daemon.
type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// Piece of a file that is sent at once.
const CHUNK: usize = 64 * 1024;

/// Pause before a socket whose queue is full is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The methods that the API has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Put,
    Post,
    Patch,
    Delete,
}

/// What a request carries.
pub(crate) enum Body {
    Empty,
    Json(Vec<u8>),
    Toml(Vec<u8>),
    /// A package file, read as it is sent.
    Package(Source),
}

/// A file on its way out.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) length: u64,
}

/// How long a reply may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The daemon looks something up.
    Short,
    /// The daemon runs, downloads or builds something.
    Work,
}

/// One request.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query, percent-encoded, from `/` on.
    pub(crate) path: String,
    pub(crate) body: Body,
    pub(crate) wait: Wait,
}

/// A whole reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// What came of a request whose reply goes to a writer.
#[derive(Debug)]
pub(crate) enum Download {
    /// Written, with its length, and the name that the daemon gave it.
    Done { length: u64, name: Option<String> },
    /// Not a success: nothing was written.
    Refused(Reply),
}

/// A daemon's address with the connections that are open to it.
#[derive(Clone)]
pub(crate) struct Connection {
    host: Host,
    settings: Settings,
    pool: Transport,
}

#[derive(Clone)]
enum Transport {
    Unix(Pool<UnixConnector, Outgoing>),
    Tcp(Pool<HttpConnector, Outgoing>),
    #[cfg(feature = "tls")]
    Tls(Pool<hyper_rustls::HttpsConnector<HttpConnector>, Outgoing>),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Prepares to connect; nothing is opened before the first request.
    pub(crate) fn new(host: Host, settings: Settings) -> Self {
        let mut builder = Pool::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new());
        let pool = match &host {
            Host::Unix(_) => Transport::Unix(builder.build(UnixConnector)),
            Host::Http(address) => {
                let mut connector = HttpConnector::new();
                connector.set_connect_timeout(Some(settings.connect_timeout));
                connector.set_nodelay(true);
                match address.scheme() {
                    Scheme::Http => Transport::Tcp(builder.build(connector)),
                    #[cfg(feature = "tls")]
                    Scheme::Https => {
                        let trusted = settings.authorities.as_ref();
                        Transport::Tls(builder.build(tls::connector(connector, trusted)))
                    }
                }
            }
        };
        Self {
            host,
            settings,
            pool,
        }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Sends a request and takes the whole reply.
    pub(crate) async fn send(&self, request: Request) -> Result<Reply, TransportError> {
        let after = self.time_for(request.wait);
        let reply = async {
            let response = self.begin(request).await?;
            self.take(response).await
        };
        timeout(after, reply)
            .await
            .unwrap_or_else(|_| Err(self.timed_out(after)))
    }

    /// Sends a request and writes the reply's body, which may be of any length, to `writer`.
    ///
    /// Time counts until the reply begins, and then between its pieces.
    pub(crate) async fn download(
        &self,
        request: Request,
        writer: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<Download, TransportError> {
        let after = self.time_for(request.wait);
        let late = |_| self.timed_out(after);
        let response = timeout(after, self.begin(request)).await.map_err(late)??;
        if !response.status().is_success() {
            let reply = timeout(after, self.take(response)).await.map_err(late)??;
            return Ok(Download::Refused(reply));
        }
        let name = file_name(response.headers());
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = timeout(after, body.frame()).await.map_err(late)? {
            let frame = frame.map_err(|error| self.broken(error))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            writer
                .write_all(&data)
                .await
                .map_err(TransportError::Write)?;
            length += u64::try_from(data.len()).unwrap_or(u64::MAX);
        }
        writer.flush().await.map_err(TransportError::Write)?;
        Ok(Download::Done { length, name })
    }

    fn time_for(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Short => self.settings.request_timeout,
            Wait::Work => self.settings.work_timeout,
        }
    }

    /// Sends a request, up to the reply's head.
    async fn begin(&self, request: Request) -> Result<Response<Incoming>, TransportError> {
        self.begin_as(
            request,
            "application/json, application/problem+json, application/gzip",
        )
        .await
    }

    /// The same, with what the reply may be.
    async fn begin_as(
        &self,
        request: Request,
        accept: &'static str,
    ) -> Result<Response<Incoming>, TransportError> {
        let accept = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        self.begin_with(request, accept).await
    }

    /// The same, with further headers.
    async fn begin_with(
        &self,
        request: Request,
        further: HeaderMap,
    ) -> Result<Response<Incoming>, TransportError> {
        let uri = self.uri(&request.path)?;
        let method = match request.method {
            Method::Get => hyper::Method::GET,
            Method::Put => hyper::Method::PUT,
            Method::Post => hyper::Method::POST,
            Method::Patch => hyper::Method::PATCH,
            Method::Delete => hyper::Method::DELETE,
        };
        let mut headers = self.headers(&request.body)?;
        headers.extend(further);
        // Only a body that is in memory can be sent again to a socket whose queue was full.
        let (body, again) = match request.body {
            Body::Empty => (
                Empty::new().map_err(|e| match e {}).boxed_unsync(),
                Some(Bytes::new()),
            ),
            Body::Json(text) | Body::Toml(text) => {
                let text = Bytes::from(text);
                (in_memory(text.clone()), Some(text))
            }
            Body::Package(source) => (streamed(source), None),
        };
        let attempt = |body: Outgoing| {
            let mut request = HttpRequest::new(body);
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            match &self.pool {
                Transport::Unix(pool) => pool.request(request),
                Transport::Tcp(pool) => pool.request(request),
                #[cfg(feature = "tls")]
                Transport::Tls(pool) => pool.request(request),
            }
        };
        let give_up = Instant::now() + self.settings.connect_timeout;
        let mut result = attempt(body).await;
        while let (Err(error), Some(bytes)) = (&result, &again) {
            if !queue_full(error) || Instant::now() >= give_up {
                break;
            }
            sleep(RETRY_PAUSE).await;
            result = attempt(in_memory(bytes.clone())).await;
        }
        result.map_err(|error| self.failed(error))
    }

    fn uri(&self, path: &str) -> Result<Uri, TransportError> {
        match &self.host {
            Host::Unix(socket) => Ok(hyperlocal::Uri::new(socket, path).into()),
            Host::Http(address) => {
                let (scheme, authority) = (address.scheme(), address.authority());
                format!("{scheme}{authority}{}{path}", address.prefix())
                    .parse()
                    .map_err(|error| TransportError::Unreachable {
                        host: self.host.clone(),
                        obstacle: Obstacle::Connection,
                        source: io::Error::new(io::ErrorKind::InvalidInput, error),
                    })
            }
        }
    }

    fn headers(&self, body: &Body) -> Result<HeaderMap, TransportError> {
        let agent = concat!("piston-client/", env!("CARGO_PKG_VERSION"));
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if self.host.socket().is_some() {
            // The URI of a socket holds its path in hex, which is no host name.
            headers.insert(HOST, HeaderValue::from_static("localhost"));
        }
        if let Some(token) = &self.settings.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| TransportError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        match body {
            Body::Empty => {}
            Body::Json(_) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            Body::Toml(_) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/toml"));
            }
            Body::Package(source) => {
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/octet-stream"),
                );
                headers.insert(CONTENT_LENGTH, HeaderValue::from(source.length));
            }
        }
        Ok(headers)
    }

    /// Takes a whole body within the bound.
    async fn take(&self, response: Response<Incoming>) -> Result<Reply, TransportError> {
        let status = response.status().as_u16();
        let bound = self.settings.max_reply;
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| self.broken(error))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if body.len().saturating_add(data.len()) > bound.as_usize() {
                return Err(TransportError::ReplyTooLarge {
                    host: self.host.clone(),
                    bound,
                });
            }
            body.extend_from_slice(&data);
        }
        Ok(Reply { status, body })
    }

    fn timed_out(&self, after: Duration) -> TransportError {
        TransportError::TimedOut {
            host: self.host.clone(),
            after,
        }
    }

    fn broken(&self, source: impl StdError + Send + Sync + 'static) -> TransportError {
        TransportError::Broken {
            host: self.host.clone(),
            source: Box::new(source),
        }
    }

    fn failed(&self, error: PoolError) -> TransportError {
        if let Some(unread) = find::<Unread>(&error) {
            return TransportError::Read {
                path: unread.path.clone(),
                source: copy(&unread.source),
            };
        }
        if !error.is_connect() {
            return self.broken(error);
        }
        let (obstacle, source) = match find::<io::Error>(&error).map(innermost) {
            Some(source) => (obstacle(source), copy(source)),
            None => (Obstacle::Connection, io::Error::other(error)),
        };
        TransportError::Unreachable {
            host: self.host.clone(),
            obstacle,
            source,
        }
    }
}

/// The name in `content-disposition: attachment; filename="NAME"`, if it is a plain one.
fn file_name(headers: &HeaderMap) -> Option<String> {
    let disposition = headers.get(CONTENT_DISPOSITION)?.to_str().ok()?;
    let name = disposition
        .split_once("filename=")?
        .1
        .trim()
        .trim_matches('"');
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+#-".contains(c);
    let good = !name.is_empty() && !name.starts_with('.') && name.chars().all(plain);
    good.then(|| name.to_owned())
}

fn in_memory(bytes: Bytes) -> Outgoing {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn streamed(source: Source) -> Outgoing {
    let pieces = stream::try_unfold(source, |mut source| async {
        let mut piece = BytesMut::with_capacity(CHUNK);
        match source.reader.read_buf(&mut piece).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some((Frame::data(piece.freeze()), source))),
            Err(error) => Err(io::Error::other(Unread {
                path: source.path,
                source: error,
            })),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Marks a failure of our own file among the failures of the connection.
#[derive(Debug, thiserror::Error)]
#[error("can't read {path}", path = .path.display())]
struct Unread {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Whether the socket's queue of connections was full, so that the daemon saw nothing.
fn queue_full(error: &PoolError) -> bool {
    let source = find::<io::Error>(error);
    error.is_connect() && source.is_some_and(|source| source.kind() == io::ErrorKind::WouldBlock)
}

/// How the standard library begins the text of a name that has no address: such an error has no
/// kind and no number of its own.
const NO_ADDRESS: &str = "failed to lookup address information";

/// What a connection failed of.
fn obstacle(error: &io::Error) -> Obstacle {
    #[cfg(feature = "tls")]
    if let Some(obstacle) = tls::obstacle(error) {
        return obstacle;
    }
    if error.to_string().starts_with(NO_ADDRESS) {
        return Obstacle::Name;
    }
    Obstacle::Connection
}

/// What an error was before somebody wrapped it: TLS says of which kind it is in there.
fn innermost(error: &io::Error) -> &io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.map_or(error, innermost)
}

/// The first error of a kind in a chain of sources.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `io::Error` hides what it wraps from `source`, and names what that wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| wrapped.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The same error again: `io::Error` is not `Clone`.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
