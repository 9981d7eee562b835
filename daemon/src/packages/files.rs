//! Small file helpers: errors that carry the path, hashing while copying, durable renames.
//!
//! Invariant: no I/O error leaves this room without the path and what was being done to it.
//! Knows nothing of packages.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use piston_client::ids::Digest;
use sha2::{Digest as _, Sha256};

/// An I/O error with its file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}")]
pub struct PathError {
    /// What was being done, as an infinitive: `read`, `create`.
    pub doing: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl PathError {
    /// Whether the file system (or the user's quota) is full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Adds the path to an I/O result.
pub(crate) trait AtPath<T> {
    /// Names what was being done to which file.
    fn at(self, doing: &'static str, path: &Path) -> Result<T, PathError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, PathError> {
        self.map_err(|source| PathError {
            doing,
            path: path.to_owned(),
            source,
        })
    }
}

/// Counts and hashes (sha256) what is read through it.
#[derive(Debug)]
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    length: u64,
}

impl<R: Read> Hashing<R> {
    /// Starts at the reader's position.
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            length: 0,
        }
    }

    /// Digest and length of what was read.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (
            Digest::from_bytes(self.hasher.finalize().into()),
            self.length,
        )
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.length = self
            .length
            .saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

/// Length of a file.
pub(crate) fn length(path: &Path) -> Result<u64, PathError> {
    Ok(std::fs::metadata(path).at("inspect", path)?.len())
}

/// sha256 and length of a file.
pub(crate) fn digest(path: &Path) -> Result<(Digest, u64), PathError> {
    let file = File::open(path).at("open", path)?;
    let mut hashing = Hashing::new(file);
    let mut buffer = vec![0; 256 << 10];
    while hashing.read(&mut buffer).at("read", path)? > 0 {}
    Ok(hashing.finish())
}

/// Reads a whole file that must not be longer than `limit`.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, PathError> {
    let file = File::open(path).at("open", path)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .at("read", path)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        let source = io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {limit} bytes"),
        );
        return Err(source).at("read", path);
    }
    Ok(bytes)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), PathError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .at("sync", path)
}

/// Replaces `path` by `bytes` so that a reader, or a crash, sees the old file or the new one.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let temporary = sibling(path);
    let written = write_new(&temporary, bytes).and_then(|()| rename_durably(&temporary, path));
    if written.is_err() {
        // Best effort: the error that is reported is the first one.
        drop(std::fs::remove_file(&temporary));
    }
    written
}

/// A hidden name in the same directory, so that a rename is atomic.
pub(crate) fn sibling(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let mut file = File::create(path).at("create", path)?;
    file.write_all(bytes).at("write", path)?;
    file.sync_all().at("sync", path)
}

/// Renames a file whose contents are synced and makes the new name durable.
pub(crate) fn rename_durably(from: &Path, to: &Path) -> Result<(), PathError> {
    std::fs::rename(from, to).at("rename", from)?;
    to.parent().map_or(Ok(()), sync_directory)
}

/// Creates a directory (mode 0700) with its parents; an existing one is kept.
pub(crate) fn private_directory(path: &Path) -> Result<(), PathError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .at("create", path)
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), PathError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// Bytes that the file system of `path` still takes from us.
pub(crate) fn free_space(path: &Path) -> Result<u64, PathError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(io::Error::from)
        .at("inspect", path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_replaces_the_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.yaml");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_file_and_the_chain_names_the_cause() {
        let error = read_bounded(Path::new("/nonexistent/file"), 10).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(
            text.starts_with("cannot open /nonexistent/file: "),
            "{text}"
        );
    }

    #[test]
    fn a_file_over_its_bound_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        read_bounded(&path, 4).unwrap_err();
    }

    #[test]
    fn a_digest_is_sha256_of_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"abc").unwrap();
        let (digest, length) = digest(&path).unwrap();
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(length, 3);
    }
}
