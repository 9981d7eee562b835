//! Downloads: indexes and package files from `https://`, `http://`, `file://` or a path.
//!
//! The only room that knows the HTTP client. Invariants: every download is bounded in bytes and
//! time; a redirect leads to http or https only, never from https to http, and not in circles;
//! a package file is hashed while it is written, and is only returned when its checksum is right.
//! Package files go on where they were cut off (`resume`). Does not read what it downloads.

mod ask;
mod location;
mod resume;
mod sink;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use reqwest::header::{
    ACCEPT, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::io::AsyncReadExt as _;
use tokio::runtime::Runtime;

use super::files::{self, AtPath as _, PathError};
use super::index::{Checksum, MAX_INDEX_BYTES};

pub(crate) use ask::Authorization;
pub(crate) use resume::note_of;

use location::shown;
pub use location::{Location, LocationError};

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// What makers download with, which do one thing after the other; `into` is where to.
pub(crate) fn runtime(into: &Path) -> Result<Runtime, PathError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .at("download to", into)
}

/// What makers download with that do something else meanwhile.
pub(crate) fn background(into: &Path) -> Result<Runtime, PathError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .at("download to", into)
}

/// Time bounds of downloads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until a connection stands.
    pub(crate) connect: Duration,
    /// Between two pieces of a body.
    pub(crate) silence: Duration,
    /// Before the first attempt after a fault; twice as long before each further one.
    pub(crate) pause: Duration,
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
            pause: Duration::from_millis(200),
            index: Duration::from_mins(1),
            package: Duration::from_hours(1),
        }
    }
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
        /// The number of it.
        code: u16,
    },
    /// It leads where no download goes, or in a circle.
    #[error("cannot download {from}: {reason}")]
    Redirect {
        /// From where.
        from: String,
        /// What is wrong.
        reason: String,
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

    /// Whether another attempt may be better off.
    fn passes(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Status { code, .. } => *code >= 500 || matches!(code, 408 | 425 | 429),
            _ => false,
        }
    }

    /// Whether what came before it is of use the next time.
    fn leaves_a_use(&self) -> bool {
        self.passes() || matches!(self, Self::Slow { .. })
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

/// A package file that is to be downloaded.
pub(crate) struct Wanted<'a> {
    /// Where it is.
    pub(crate) from: &'a Location,
    /// Bytes that it may have.
    pub(crate) limit: u64,
    /// What it has to be.
    pub(crate) checksum: &'a Checksum,
    /// Told how many bytes are there.
    pub(crate) told: &'a (dyn Fn(u64) + Send + Sync),
}

/// Downloads. The HTTP client is made when it is first needed.
#[derive(Debug)]
pub(crate) struct Fetcher {
    client: OnceLock<Result<Client, String>>,
    patience: Patience,
    /// Said with each request.
    authorization: Option<Authorization>,
}

impl Fetcher {
    /// Nothing is opened yet.
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            client: OnceLock::new(),
            patience,
            authorization: None,
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
                .map_err(|error| crate::error::chain(&error))
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
                let reply = self.web_index(url, stored, None);
                within(from, self.patience.index, reply).await
            }
        }
    }

    /// Downloads a page of an index of another kind, in one of the forms that are named.
    pub(crate) async fn page(
        &self,
        from: &Location,
        forms: &'static str,
    ) -> Result<IndexReply, FetchError> {
        let none = Validators::default();
        match from {
            Location::File(_) => self.index(from, &none).await,
            Location::Web(url) => {
                let reply = self.web_index(url, &none, Some(forms));
                within(from, self.patience.index, reply).await
            }
        }
    }

    async fn web_index(
        &self,
        url: &Url,
        stored: &Validators,
        forms: Option<&'static str>,
    ) -> Result<IndexReply, FetchError> {
        let mut headers = HeaderMap::new();
        if let Some(forms) = forms {
            headers.insert(ACCEPT, HeaderValue::from_static(forms));
        }
        for (name, value) in [
            (IF_NONE_MATCH, &stored.etag),
            (IF_MODIFIED_SINCE, &stored.last_modified),
        ] {
            if let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) {
                headers.insert(name, value);
            }
        }
        let conditional = *stored != Validators::default();
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
                return Err(too_long(&shown(url), MAX_INDEX_BYTES));
            }
        }
        Ok(IndexReply::Changed {
            bytes,
            validators,
            found_at,
        })
    }

    /// Downloads a small file beside another; none where there is none.
    pub(crate) async fn beside(
        &self,
        place: &Location,
        ending: &str,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        let place = place.with_ending(ending);
        match self.index(&place, &Validators::default()).await {
            Ok(IndexReply::Changed { bytes, .. }) => Ok(Some(bytes)),
            Err(FetchError::Status {
                code: 404 | 410, ..
            })
            | Ok(IndexReply::Unchanged) => Ok(None),
            Err(FetchError::Path(error)) if error.source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Downloads a package file. What an earlier attempt left in the file is used, and what this one
    /// leaves where a later one may go on; in the end the file is whole and right.
    pub(crate) async fn package(&self, wanted: &Wanted<'_>, to: &Path) -> Result<(), FetchError> {
        let transfer = async {
            match wanted.from {
                Location::File(path) => resume::copy(wanted, path, to).await,
                Location::Web(url) => self.resume(url, wanted, to).await,
            }
        };
        // Also of a download that nobody waits for any more.
        let mut left = Left::IfNotEmpty(to);
        let outcome = within(wanted.from, self.patience.package, transfer).await;
        match &outcome {
            Ok(()) => left = Left::Whole(to),
            Err(error) if error.leaves_a_use() => {}
            Err(_) => left = Left::Nothing(to),
        }
        drop(left);
        outcome
    }

    async fn get(&self, url: &Url, mut headers: HeaderMap) -> Result<Response, FetchError> {
        if let Some(authorization) = &self.authorization {
            authorization.add_to(&mut headers);
        }
        let client = self.client().map_err(|reason| FetchError::Transport {
            from: shown(url),
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
            from: shown(url),
            status: response.status().to_string(),
            code: response.status().as_u16(),
        });
    }
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_long(&shown(url), limit));
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
    let from = shown(url);
    if error.is_redirect() {
        FetchError::Redirect { from, reason }
    } else {
        FetchError::Transport { from, reason }
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

/// What is in a file, piece by piece.
fn pieces(
    file: tokio::fs::File,
    path: &Path,
) -> impl Stream<Item = Result<Vec<u8>, FetchError>> + use<'_> {
    stream::try_unfold(file, async |mut file| {
        let mut piece = vec![0; 256 << 10];
        let read = file.read(&mut piece).await.at("read", path)?;
        piece.truncate(read);
        Ok((read > 0).then_some((piece, file)))
    })
}

/// What stays of a download when this is dropped.
enum Left<'a> {
    /// The file, which needs no note any more.
    Whole(&'a Path),
    /// What came, if anything did.
    IfNotEmpty(&'a Path),
    Nothing(&'a Path),
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let remove_all = |part: &Path| [part, &note_of(part)].into_iter().for_each(remove);
        match self {
            Self::Whole(file) => remove(&note_of(file)),
            Self::IfNotEmpty(part) => {
                if files::length(part).is_ok_and(|length| length == 0) {
                    remove_all(part);
                }
            }
            Self::Nothing(part) => remove_all(part),
        }
    }
}

/// Removes what is of no use any more; the sweep of a later start finds what stays.
fn remove(path: &Path) {
    if let Err(error) = files::remove_if_there(path) {
        tracing::warn!(error = %crate::error::chain(&error), "a download stays");
    }
}
