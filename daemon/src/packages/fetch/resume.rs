//! Package files over HTTP, across broken connections, restarts of the daemon and of the server.
//!
//! Goes on where the file ends (`Range`, with `If-Range` where the server named a version of it);
//! begins anew where the server can't or where what came together is not what was wanted. Tries
//! again after faults that pass, as long as more arrives. Invariants: everything is bounded by the
//! caller's time and the file's length; what is in the file is kept for the next time where that may
//! help, and only then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Response, StatusCode, Url};

use super::location::shown;
use super::sink::Sink;
use super::{FetchError, Fetcher, Wanted, transport};
use crate::packages::files;

/// Faults in a row, without a byte more than before, after which it is given up.
const MOST_FAULTS: u32 = 4;
/// How often a file that was put together of several replies and is wrong is begun anew.
const MOST_RESTARTS: u32 = 2;
/// Longest note that is read.
const MAX_NOTE_BYTES: u64 = 16 << 10;

/// Faults in a row.
pub(super) struct Faults {
    left: u32,
    /// The most bytes that were there.
    most: u64,
    first_pause: Duration,
    pause: Duration,
}

impl Faults {
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            left: MOST_FAULTS,
            most: 0,
            first_pause: pause,
            pause,
        }
    }

    /// Waits before the next attempt; false when there should be none.
    pub(super) async fn again(&mut self, written: u64) -> bool {
        if written > self.most {
            *self = Self {
                most: written,
                ..Self::new(self.first_pause)
            };
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(self.pause).await;
        self.pause = self.pause.saturating_mul(2);
        true
    }
}

/// Which version of a file a part is of, as far as its server said; beside the part, for the next
/// time.
struct Note {
    path: PathBuf,
    from: String,
    /// A strong `ETag`, or `Last-Modified`.
    version: Option<HeaderValue>,
}

/// Where the note of a part is.
pub(crate) fn note_of(part: &Path) -> PathBuf {
    part.with_extension("note")
}

impl Note {
    /// What was noted of a part that came from there.
    fn read(part: &Path, from: &Url) -> Self {
        let path = note_of(part);
        let from = from.to_string();
        let noted = files::read_bounded(&path, MAX_NOTE_BYTES).unwrap_or_default();
        let noted = String::from_utf8_lossy(&noted);
        let mut lines = noted.lines();
        let version = match (lines.next(), lines.next()) {
            (Some(url), Some(version)) if url == from => version.parse().ok(),
            _ => None,
        };
        Self {
            path,
            from,
            version,
        }
    }

    /// Notes the version that a reply is of. Without the note less is known the next time, which is
    /// no reason to fail.
    fn take(&mut self, response: &Response) {
        let header = |name| response.headers().get(name);
        let strong = header(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        let version = strong.or_else(|| header(LAST_MODIFIED)).cloned();
        if version == self.version {
            return;
        }
        let shown = version.as_ref().and_then(|version| version.to_str().ok());
        let text = format!("{}\n{}\n", self.from, shown.unwrap_or_default());
        drop(std::fs::write(&self.path, text));
        self.version = version;
    }
}

impl Fetcher {
    /// Downloads to a file that may hold the beginning.
    pub(super) async fn resume(
        &self,
        url: &Url,
        wanted: &Wanted<'_>,
        to: &Path,
    ) -> Result<(), FetchError> {
        let mut sink = Sink::open(wanted, to).await?;
        if sink.written() > wanted.limit {
            sink.restart()?;
        }
        let mut note = Note::read(to, url);
        let mut faults = Faults::new(self.patience.pause);
        let mut restarts = 0;
        loop {
            if sink.written() > 0 && sink.check().is_ok() {
                return Ok(());
            }
            match self.transfer(url, &mut sink, &mut note).await {
                Ok(Joined::Whole) => return sink.check(),
                Ok(Joined::Appended) => match sink.check() {
                    Err(_) if restarts < MOST_RESTARTS => {
                        restarts += 1;
                        sink.restart()?;
                    }
                    checked => return checked,
                },
                Err(error) if error.passes() => {
                    tracing::debug!(%error, bytes = sink.written(), "the download goes on");
                    if !faults.again(sink.written()).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for what is missing, and takes it.
    async fn transfer(
        &self,
        url: &Url,
        sink: &mut Sink<'_>,
        note: &mut Note,
    ) -> Result<Joined, FetchError> {
        let start = sink.written();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if start > 0 {
            let range = HeaderValue::try_from(format!("bytes={start}-"));
            headers.extend(range.ok().map(|range| (RANGE, range)));
            headers.extend(note.version.clone().map(|version| (IF_RANGE, version)));
        }
        let response = self.get(url, headers).await?;
        let (joined, total) = match response.status() {
            StatusCode::OK => {
                sink.restart()?;
                (Joined::Whole, response.content_length())
            }
            StatusCode::PARTIAL_CONTENT if start > 0 => match range_of(&response) {
                Some((from, total)) if from == start => (Joined::Appended, total),
                _ => {
                    sink.restart()?;
                    return Err(broken(
                        url,
                        "the server sent another range than it was asked for",
                    ));
                }
            },
            StatusCode::RANGE_NOT_SATISFIABLE if start > 0 => {
                sink.restart()?;
                return Err(broken(
                    url,
                    "the server has fewer bytes than it sent before",
                ));
            }
            status => {
                return Err(FetchError::Status {
                    from: shown(url),
                    status: status.to_string(),
                    code: status.as_u16(),
                });
            }
        };
        let limit = sink.limit();
        if total.is_some_and(|total| total > limit) {
            return Err(super::too_long(&shown(url), limit));
        }
        note.take(&response);
        let pieces = response.bytes_stream();
        let pieces = pieces.map(|piece| piece.map_err(|error| transport(url, &error)));
        sink.append(Box::pin(pieces)).await?;
        if total.is_some_and(|total| total > sink.written()) {
            return Err(broken(url, "the server sent less than it said"));
        }
        Ok(joined)
    }
}

/// How what came relates to what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joined {
    /// It is all there is: one reply.
    Whole,
    /// It follows what was there.
    Appended,
}

/// Start and whole length of `Content-Range: bytes START-END/LENGTH`.
fn range_of(response: &Response) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, length.trim().parse().ok()))
}

fn broken(url: &Url, reason: &str) -> FetchError {
    FetchError::Transport {
        from: shown(url),
        reason: reason.to_owned(),
    }
}

/// Copies a file of this host; what was in the other one is forgotten.
pub(super) async fn copy(wanted: &Wanted<'_>, path: &Path, to: &Path) -> Result<(), FetchError> {
    let file = super::open_regular(path).await?;
    let mut sink = Sink::open(wanted, to).await?;
    if sink.written() > 0 && sink.check().is_ok() {
        return Ok(());
    }
    sink.restart()?;
    sink.append(Box::pin(super::pieces(file, path))).await?;
    sink.check()
}
