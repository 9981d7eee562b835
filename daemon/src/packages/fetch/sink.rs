//! A package file on its way to the disk: bounded, hashed as it grows, compared in the end.
//!
//! What an earlier attempt left in the file is hashed first and kept. Hashing and writing have a
//! thread of their own while bytes come in, so that neither waits for the network. Invariant: the
//! hash is always that of what is in the file.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use futures_util::{Stream, StreamExt as _};
use piston_client::ids::Digest;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::sync::mpsc;

use super::{FetchError, Wanted, length, too_long};
use crate::packages::files::{AtPath as _, PathError};
use crate::packages::index::Checksum;

/// Pieces that may wait to be written.
const AHEAD: usize = 16;
/// What is read of a file at once.
const PIECE: usize = 256 << 10;

#[derive(Clone)]
enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn of(checksum: &Checksum) -> Self {
        match checksum {
            Checksum::Sha256(_) => Self::Sha256(Sha256::new()),
            Checksum::Sha512(_) => Self::Sha512(Sha512::new()),
        }
    }

    fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(piece),
            Self::Sha512(hasher) => hasher.update(piece),
        }
    }

    fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hasher) => Checksum::Sha256(Digest::from_bytes(hasher.finalize().into())),
            Self::Sha512(hasher) => Checksum::Sha512(Box::new(hasher.finalize().into())),
        }
    }
}

/// The file with its hash, which go to the writing thread and come back.
struct Hashed {
    path: PathBuf,
    file: File,
    hasher: Hasher,
}

impl Hashed {
    /// Opens the file, or creates it; hashes what is there.
    fn open(path: PathBuf, mut hasher: Hasher) -> Result<(Self, u64), PathError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .at("open", &path)?;
        let (mut buffer, mut written) = (vec![0; PIECE], 0_u64);
        loop {
            match file.read(&mut buffer).at("read", &path)? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    written = written.saturating_add(length(read));
                }
            }
        }
        Ok((Self { path, file, hasher }, written))
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), PathError> {
        self.hasher.update(piece);
        self.file.write_all(piece).at("write", &self.path)
    }
}

/// A bounded file that is hashed as it grows.
pub(super) struct Sink<'a> {
    wanted: &'a Wanted<'a>,
    /// None while the writing thread has it, and after an error there.
    hashed: Option<Hashed>,
    written: u64,
}

impl<'a> Sink<'a> {
    /// Goes on with what is in the file.
    pub(super) async fn open(wanted: &'a Wanted<'a>, to: &Path) -> Result<Self, FetchError> {
        let (path, hasher) = (to.to_owned(), Hasher::of(wanted.checksum));
        let (hashed, written) = thread(to, move || Hashed::open(path, hasher)).await?;
        let sink = Self {
            wanted,
            hashed: Some(hashed),
            written,
        };
        (wanted.told)(written);
        Ok(sink)
    }

    /// Bytes that are in it.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// The bytes that it may have.
    pub(super) fn limit(&self) -> u64 {
        self.wanted.limit
    }

    /// Forgets what is in it.
    pub(super) fn restart(&mut self) -> Result<(), FetchError> {
        let hashed = self.hashed.as_mut().ok_or_else(lost)?;
        hashed.file.set_len(0).at("truncate", &hashed.path)?;
        hashed.file.rewind().at("truncate", &hashed.path)?;
        hashed.hasher = Hasher::of(self.wanted.checksum);
        self.written = 0;
        (self.wanted.told)(0);
        Ok(())
    }

    /// Appends all pieces, up to the first that is an error.
    pub(super) async fn append<B: AsRef<[u8]> + Send + 'static>(
        &mut self,
        mut pieces: impl Stream<Item = Result<B, FetchError>> + Unpin,
    ) -> Result<(), FetchError> {
        let mut hashed = self.hashed.take().ok_or_else(lost)?;
        let path = hashed.path.clone();
        let (sender, mut receiver) = mpsc::channel::<B>(AHEAD);
        let writing = tokio::task::spawn_blocking(move || {
            let mut outcome = Ok(());
            while let Some(piece) = receiver.blocking_recv() {
                outcome = hashed.write(piece.as_ref());
                if outcome.is_err() {
                    break;
                }
            }
            (hashed, outcome)
        });
        let came = loop {
            let piece = match pieces.next().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(error),
                Some(Ok(piece)) => piece,
            };
            let more = length(piece.as_ref().len());
            if self.written.saturating_add(more) > self.wanted.limit {
                break Err(too_long(self.wanted.from, self.wanted.limit));
            }
            if sender.send(piece).await.is_err() {
                // The thread has stopped, and says why below.
                break Ok(());
            }
            self.written += more;
            (self.wanted.told)(self.written);
        };
        drop(sender);
        let (hashed, outcome) = writing.await.map_err(|error| died(&path, error))?;
        outcome?;
        self.hashed = Some(hashed);
        came
    }

    /// Whether what is in it is what was wanted.
    pub(super) fn check(&self) -> Result<(), FetchError> {
        let hashed = self.hashed.as_ref().ok_or_else(lost)?;
        let got = hashed.hasher.clone().finish();
        if got == *self.wanted.checksum {
            return Ok(());
        }
        Err(FetchError::Checksum {
            from: self.wanted.from.to_string(),
            algorithm: got.algorithm(),
            want: self.wanted.checksum.hex(),
            got: got.hex(),
        })
    }
}

/// Runs what blocks on a thread for that.
async fn thread<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, PathError> + Send + 'static,
) -> Result<T, FetchError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| died(path, error))??)
}

/// The thread panicked, or the runtime ends.
fn died(path: &Path, error: tokio::task::JoinError) -> FetchError {
    FetchError::Path(PathError {
        doing: "write",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    })
}

/// Nobody goes on after an error of the file.
fn lost() -> FetchError {
    FetchError::Path(PathError {
        doing: "write",
        path: PathBuf::new(),
        source: std::io::Error::other("an earlier error of the file"),
    })
}
