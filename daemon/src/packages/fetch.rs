//! Downloads: indexes and package files from `https://`, `http://`, `file://` or a path.
//!
//! The only room that knows the HTTP client. Invariants: every download is bounded in bytes and
//! time; a redirect leads to http or https only, never from https to http, and not in circles;
//! a package file is hashed while it is written, and is only returned when its checksum is right.
//! Does not read what it downloads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt as _;
use piston_client::ids::Digest;
use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use sha2::{Digest as _, Sha256, Sha512};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::files::{AtPath as _, PathError};
use super::index::{Checksum, MAX_INDEX_BYTES};

/// Name of the index in a folder.
const INDEX_NAME: &str = "index.yaml";
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Time bounds of downloads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until a connection stands.
    pub(crate) connect: Duration,
    /// Between two pieces of a body.
    pub(crate) silence: Duration,
    /// For a whole index.
    pub(crate) index: Duration,
    /// For a whole package file.
    pub(crate) package: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            index: Duration::from_mins(1),
            package: Duration::from_hours(1),
        }
    }
}

/// Where an index or a package file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `https://` or `http://`.
    Web(Url),
    /// A file of this host.
    File(PathBuf),
}

/// Why a location is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {reason}")]
pub struct LocationError {
    text: String,
    reason: String,
}

/// Why a download fails.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The place is not acceptable.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A file of ours, or of a `file://` repository.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The server can't be reached, or the connection broke.
    #[error("cannot download {from}: {reason}")]
    Transport {
        /// From where.
        from: String,
        /// What happened.
        reason: String,
    },
    /// The server answered something else.
    #[error("cannot download {from}: the server answered {status}")]
    Status {
        /// From where.
        from: String,
        /// Its answer.
        status: String,
    },
    /// It is longer than it may be.
    #[error("{from} is longer than the {limit} bytes that it may have")]
    TooLong {
        /// From where.
        from: String,
        /// The bound.
        limit: u64,
    },
    /// It takes too long.
    #[error("{from} did not arrive within {seconds} s")]
    Slow {
        /// From where.
        from: String,
        /// The bound.
        seconds: u64,
    },
    /// It is not the file that the index names.
    #[error("the {algorithm} of {from} is {got}, the index says {want}")]
    Checksum {
        /// From where.
        from: String,
        /// Which checksum.
        algorithm: &'static str,
        /// What the index says.
        want: String,
        /// What the file has.
        got: String,
    },
}

impl FetchError {
    /// Whether the file system is full.
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self, Self::Path(error) if error.is_no_space())
    }
}

impl Location {
    /// Reads `https://`, `http://`, `file://` or an absolute path. A folder means its
    /// `index.yaml`.
    pub fn of_index(text: &str) -> Result<Self, LocationError> {
        let fail = |reason: &str| LocationError::new(text, reason);
        if text.starts_with('/') {
            return Ok(Self::file(PathBuf::from(text)));
        }
        let mut url = Url::parse(text).map_err(|_| {
            fail("is no URL: write https://, http:// or file:// or an absolute path")
        })?;
        match url.scheme() {
            "https" | "http" => {
                if url.path().ends_with('/') {
                    url = url
                        .join(INDEX_NAME)
                        .map_err(|_| fail("is no URL of a file"))?;
                }
                Ok(Self::Web(url))
            }
            "file" => url
                .to_file_path()
                .map(Self::file)
                .map_err(|()| fail("names no file of this host: write file:///path")),
            _ => Err(fail(
                "is of a kind that is not supported: https, http and file are",
            )),
        }
    }

    fn file(path: PathBuf) -> Self {
        if path.is_dir() {
            Self::File(path.join(INDEX_NAME))
        } else {
            Self::File(path)
        }
    }

    /// Where `reference` leads from here: as a browser would resolve it, but never from the web
    /// to a file, nor from https to http.
    pub fn join(&self, reference: &str) -> Result<Self, LocationError> {
        let fail = |reason: &str| LocationError::new(reference, reason);
        let base = match self {
            Self::Web(url) => url.clone(),
            Self::File(path) => {
                Url::from_file_path(path).map_err(|()| fail("starts at no absolute path"))?
            }
        };
        let url = base.join(reference).map_err(|_| fail("is no URL"))?;
        match (self, url.scheme()) {
            (Self::Web(from), "http") if from.scheme() == "https" => {
                Err(fail("leads from https to http"))
            }
            (_, "http" | "https") => Ok(Self::Web(url)),
            (Self::File(_), "file") => {
                let path = url
                    .to_file_path()
                    .map_err(|()| fail("names no file of this host"))?;
                Ok(Self::File(path))
            }
            _ => Err(fail(
                "leads from the web to something else than http or https",
            )),
        }
    }
}

impl LocationError {
    fn new(text: &str, reason: &str) -> Self {
        Self {
            text: text.chars().take(200).collect(),
            reason: reason.to_owned(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => url.fmt(f),
            Self::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// What a server said about a copy, to be asked with the next time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    /// `ETag`
    pub(crate) etag: Option<String>,
    /// `Last-Modified`
    pub(crate) last_modified: Option<String>,
}

/// An index, if it is another than the stored one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IndexReply {
    /// The stored copy is current.
    Unchanged,
    /// A new one.
    Changed {
        bytes: Vec<u8>,
        validators: Validators,
        /// Where it was in the end; relative downloads start there.
        found_at: String,
    },
}

/// Downloads. The HTTP client is made when it is first needed.
#[derive(Debug)]
pub(crate) struct Fetcher {
    client: OnceLock<Result<Client, String>>,
    patience: Patience,
}

impl Fetcher {
    /// Nothing is opened yet.
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            client: OnceLock::new(),
            patience,
        }
    }

    fn client(&self) -> Result<&Client, String> {
        let make = || {
            // Fails when a provider is installed already, which is just as well.
            drop(rustls::crypto::ring::default_provider().install_default());
            Client::builder()
                .user_agent(concat!("pistond/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(self.patience.connect)
                .read_timeout(self.patience.silence)
                .redirect(redirect::Policy::custom(redirected))
                .build()
                .map_err(|error| super::files::chain(&error))
        };
        self.client.get_or_init(make).as_ref().map_err(Clone::clone)
    }

    /// Downloads an index, unless the copy that `stored` describes is current.
    pub(crate) async fn index(
        &self,
        from: &Location,
        stored: &Validators,
    ) -> Result<IndexReply, FetchError> {
        match from {
            Location::File(path) => Ok(IndexReply::Changed {
                bytes: read_file(path.clone()).await?,
                validators: Validators::default(),
                found_at: from.to_string(),
            }),
            Location::Web(url) => {
                within(from, self.patience.index, self.web_index(url, stored)).await
            }
        }
    }

    async fn web_index(&self, url: &Url, stored: &Validators) -> Result<IndexReply, FetchError> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (IF_NONE_MATCH, &stored.etag),
            (IF_MODIFIED_SINCE, &stored.last_modified),
        ] {
            if let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) {
                headers.insert(name, value);
            }
        }
        let conditional = !headers.is_empty();
        let response = self.get(url, headers).await?;
        if response.status() == StatusCode::NOT_MODIFIED && conditional {
            return Ok(IndexReply::Unchanged);
        }
        let response = success(url, response, MAX_INDEX_BYTES)?;
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(ToOwned::to_owned)
        };
        let validators = Validators {
            etag: header(ETAG),
            last_modified: header(LAST_MODIFIED),
        };
        let found_at = response.url().to_string();
        let mut bytes = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| transport(url, &error))?;
            bytes.extend_from_slice(&piece);
            if length(bytes.len()) > MAX_INDEX_BYTES {
                return Err(too_long(url, MAX_INDEX_BYTES));
            }
        }
        Ok(IndexReply::Changed {
            bytes,
            validators,
            found_at,
        })
    }

    /// Downloads a package file of at most `limit` bytes to the new file `to`.
    pub(crate) async fn package(
        &self,
        from: &Location,
        to: &Path,
        limit: u64,
        checksum: &Checksum,
    ) -> Result<(), FetchError> {
        let mut sink = Sink::create(from, to, limit, checksum).await?;
        let transfer = async {
            match from {
                Location::File(path) => copy_file(path, &mut sink).await,
                Location::Web(url) => self.stream(url, &mut sink).await,
            }
        };
        within(from, self.patience.package, transfer).await?;
        sink.finish().await
    }

    async fn stream(&self, url: &Url, sink: &mut Sink<'_>) -> Result<(), FetchError> {
        let response = self.get(url, HeaderMap::new()).await?;
        let response = success(url, response, sink.limit)?;
        let mut body = response.bytes_stream();
        while let Some(piece) = body.next().await {
            sink.write(&piece.map_err(|error| transport(url, &error))?)
                .await?;
        }
        Ok(())
    }

    async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Response, FetchError> {
        let client = self.client().map_err(|reason| FetchError::Transport {
            from: url.to_string(),
            reason,
        })?;
        let sent = client.get(url.clone()).headers(headers).send().await;
        sent.map_err(|error| transport(url, &error))
    }
}

/// Follows a redirect to http or https, never from https to http, and not for ever.
fn redirected(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let to = attempt.url().scheme().to_owned();
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("it is redirected too often");
    }
    let from_https = attempt.previous().iter().any(|url| url.scheme() == "https");
    match to.as_str() {
        "https" => attempt.follow(),
        "http" if !from_https => attempt.follow(),
        "http" => attempt.error("it is redirected from https to http"),
        _ => attempt.error("it is redirected to something else than http or https"),
    }
}

/// A reply with a body that is worth reading.
fn success(url: &Url, response: Response, limit: u64) -> Result<Response, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status {
            from: url.to_string(),
            status: response.status().to_string(),
        });
    }
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_long(url, limit));
    }
    Ok(response)
}

fn transport(url: &Url, error: &reqwest::Error) -> FetchError {
    // reqwest repeats the URL in its outermost text; the causes say what happened.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let reason = if error.is_timeout() {
        "the server does not answer".to_owned()
    } else {
        cause.to_string()
    };
    FetchError::Transport {
        from: url.to_string(),
        reason,
    }
}

fn too_long(from: &impl ToString, limit: u64) -> FetchError {
    FetchError::TooLong {
        from: from.to_string(),
        limit,
    }
}

async fn within<T>(
    from: &Location,
    time: Duration,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| {
        Err(FetchError::Slow {
            from: from.to_string(),
            seconds: time.as_secs(),
        })
    })
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Opens a regular file: a pipe or device would block or never end.
async fn open_regular(path: &Path) -> Result<tokio::fs::File, FetchError> {
    let kind = tokio::fs::metadata(path).await.at("open", path)?;
    if !kind.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        Err(error).at("read", path)?;
    }
    Ok(tokio::fs::File::open(path).await.at("open", path)?)
}

async fn read_file(path: PathBuf) -> Result<Vec<u8>, FetchError> {
    let file = open_regular(&path).await?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(MAX_INDEX_BYTES + 1);
    bounded.read_to_end(&mut bytes).await.at("read", &path)?;
    if length(bytes.len()) > MAX_INDEX_BYTES {
        return Err(too_long(&path.display(), MAX_INDEX_BYTES));
    }
    Ok(bytes)
}

async fn copy_file(path: &Path, sink: &mut Sink<'_>) -> Result<(), FetchError> {
    let mut file = open_regular(path).await?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer).await.at("read", path)?;
        if read == 0 {
            return Ok(());
        }
        sink.write(&buffer[..read]).await?;
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// A bounded file that is hashed as it grows.
struct Sink<'a> {
    from: &'a Location,
    to: &'a Path,
    limit: u64,
    want: &'a Checksum,
    file: tokio::fs::File,
    hasher: Hasher,
    written: u64,
}

impl<'a> Sink<'a> {
    async fn create(
        from: &'a Location,
        to: &'a Path,
        limit: u64,
        want: &'a Checksum,
    ) -> Result<Self, FetchError> {
        let file = tokio::fs::File::create_new(to).await.at("create", to)?;
        Ok(Self {
            from,
            to,
            limit,
            want,
            file,
            hasher: match want {
                Checksum::Sha256(_) => Hasher::Sha256(Sha256::new()),
                Checksum::Sha512(_) => Hasher::Sha512(Sha512::new()),
            },
            written: 0,
        })
    }

    async fn write(&mut self, piece: &[u8]) -> Result<(), FetchError> {
        self.written = self.written.saturating_add(length(piece.len()));
        if self.written > self.limit {
            return Err(too_long(self.from, self.limit));
        }
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(piece),
            Hasher::Sha512(hasher) => hasher.update(piece),
        }
        self.file.write_all(piece).await.at("write", self.to)?;
        Ok(())
    }

    async fn finish(mut self) -> Result<(), FetchError> {
        self.file.flush().await.at("write", self.to)?;
        let got = match self.hasher {
            Hasher::Sha256(hasher) => {
                Checksum::Sha256(Digest::from_bytes(hasher.finalize().into()))
            }
            Hasher::Sha512(hasher) => Checksum::Sha512(Box::new(hasher.finalize().into())),
        };
        if got == *self.want {
            return Ok(());
        }
        Err(FetchError::Checksum {
            from: self.from.to_string(),
            algorithm: got.algorithm(),
            want: self.want.hex(),
            got: got.hex(),
        })
    }
}
