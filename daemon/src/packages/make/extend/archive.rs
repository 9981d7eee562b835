//! Tar archives that somebody else wrote, entry by entry.
//!
//! Invariants: a name that is handed on is relative, plain and UTF-8; headers that are read into
//! memory, bytes and entries are bounded, those of the last two by a [`Budget`] that several archives
//! share. Whatever is not like this is an error that names the archive and the entry. What becomes of
//! an entry, and which kinds of them are taken, is the caller's.

use std::cell::Cell;
use std::io::{self, Read};

use tar::{EntryType, PaxExtensions};

use super::ExtendError;
use super::entry::check_name;

/// Longest header that is read into memory.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// What archives may hold together, and still may.
#[derive(Debug)]
pub(super) struct Budget {
    most: (u64, u64),
    bytes: u64,
    entries: u64,
}

impl Budget {
    /// Bytes that they unpack to, headers included, and entries.
    pub(super) fn new(bytes: u64, entries: u64) -> Self {
        Self {
            most: (bytes, entries),
            bytes,
            entries,
        }
    }
}

/// An entry of an archive.
pub(super) struct Entry<'a> {
    /// Its name, without a `./` before it or a slash behind it.
    pub(super) name: &'a str,
    /// What it is.
    pub(super) kind: EntryType,
    /// What a link leads to.
    pub(super) target: Option<String>,
    /// Its permissions.
    pub(super) mode: u32,
    /// When it was last changed.
    pub(super) mtime: u32,
    /// Its contents.
    pub(super) bytes: &'a mut dyn Read,
}

/// Why an entry is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// What is wrong with it, as the end of a sentence about it.
    Because(&'static str),
    /// Its contents can't be read or written.
    Damaged(io::Error),
}

impl From<&'static str> for Refused {
    fn from(reason: &'static str) -> Self {
        Self::Because(reason)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

/// Reads an archive to its end; `file` is what messages call it.
pub(super) fn each(
    archive: impl Read,
    file: &str,
    budget: &mut Budget,
    take: &mut dyn FnMut(Entry<'_>) -> Result<(), Refused>,
) -> Result<(), ExtendError> {
    let left = Cell::new(budget.bytes);
    let metered = Metered {
        inner: archive,
        left: &left,
    };
    let too_much = |what: &str, most: String| ExtendError::TooMuch {
        what: format!("with {file} there are more {what}"),
        most,
    };
    let read = Reading { file }.all(metered, &mut budget.entries, take);
    budget.bytes = left.get();
    if budget.bytes == 0 {
        return Err(too_much("bytes", format!("{} MiB", budget.most.0 >> 20)));
    }
    match read? {
        End::Reached => Ok(()),
        End::TooFar => Err(too_much("files", budget.most.1.to_string())),
    }
}

/// How reading went.
enum End {
    Reached,
    /// There are more entries than there may be.
    TooFar,
}

/// A reader that ends when a number of bytes was read.
struct Metered<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.get()).map_or(into.len(), |left| left.min(into.len()));
        let read = self.inner.read(&mut into[..most])?;
        let length = u64::try_from(read).unwrap_or(u64::MAX);
        self.left.set(self.left.get().saturating_sub(length));
        Ok(read)
    }
}

/// Name and target that come in headers of their own, before the entry that they are of.
#[derive(Default)]
struct Long {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

struct Reading<'a> {
    file: &'a str,
}

impl Reading<'_> {
    fn all(
        &self,
        archive: impl Read,
        entries: &mut u64,
        take: &mut dyn FnMut(Entry<'_>) -> Result<(), Refused>,
    ) -> Result<End, ExtendError> {
        let damaged = |error: io::Error| self.damaged(&error);
        let mut archive = tar::Archive::new(archive);
        let mut long = Long::default();
        // `raw`: the crate would read headers of any length into memory.
        for entry in archive.entries().map_err(damaged)?.raw(true) {
            let mut entry = entry.map_err(damaged)?;
            let Some(left) = entries.checked_sub(1) else {
                return Ok(End::TooFar);
            };
            *entries = left;
            match entry.header().entry_type() {
                EntryType::XHeader => self.extended(&mut entry, &mut long)?,
                EntryType::GNULongName => long.name = Some(self.long(&mut entry)?),
                EntryType::GNULongLink => long.target = Some(self.long(&mut entry)?),
                EntryType::XGlobalHeader => {}
                kind => self.one(kind, std::mem::take(&mut long), &mut entry, take)?,
            }
        }
        // A cut or damaged tail is found here.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
        Ok(End::Reached)
    }

    fn one(
        &self,
        kind: EntryType,
        long: Long,
        entry: &mut tar::Entry<'_, impl Read>,
        take: &mut dyn FnMut(Entry<'_>) -> Result<(), Refused>,
    ) -> Result<(), ExtendError> {
        let damaged = |error: io::Error| self.damaged(&error);
        let name = long.name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let wrong = |reason: &str| {
            let shown: String = String::from_utf8_lossy(&name).chars().take(120).collect();
            ExtendError::file(self.file, format!("its entry `{shown}` {reason}"))
        };
        let Ok(name) = std::str::from_utf8(&name) else {
            return Err(wrong("has a name that is not UTF-8"));
        };
        let path = name.strip_prefix("./").unwrap_or(name);
        let plain = path.strip_suffix('/').unwrap_or(path);
        if matches!(plain, "" | ".") && kind == EntryType::Directory {
            return Ok(());
        }
        check_name(path).map_err(wrong)?;
        let target = match long.target {
            Some(target) => Some(target),
            None => entry.link_name_bytes().map(std::borrow::Cow::into_owned),
        };
        let target = target.map(String::from_utf8).transpose();
        let target = target.map_err(|_| wrong("leads to a name that is not UTF-8"))?;
        let mode = entry.header().mode().map_err(damaged)?;
        let mtime = entry.header().mtime().map_err(damaged)?;
        let read = Entry {
            name: plain,
            kind,
            target,
            mode,
            mtime: u32::try_from(mtime).unwrap_or_default(),
            bytes: entry,
        };
        take(read).map_err(|refused| match refused {
            Refused::Because(reason) => wrong(reason),
            Refused::Damaged(error) => damaged(error),
        })
    }

    /// What an extended header says of the next entry.
    fn extended(
        &self,
        entry: &mut tar::Entry<'_, impl Read>,
        long: &mut Long,
    ) -> Result<(), ExtendError> {
        let header = self.header(entry)?;
        for extension in PaxExtensions::new(&header) {
            let extension = extension.map_err(|error| self.damaged(&error))?;
            match extension.key_bytes() {
                b"path" => long.name = Some(extension.value_bytes().to_owned()),
                b"linkpath" => long.target = Some(extension.value_bytes().to_owned()),
                // Whoever believes it and whoever does not would see different files.
                b"size" => {
                    let reason = "it says the size of an entry in two places";
                    return Err(ExtendError::file(self.file, reason));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A long name, which ends with a NUL.
    fn long(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, ExtendError> {
        let bytes = self.header(entry)?;
        let name = bytes.split(|byte| *byte == 0).next();
        Ok(name.unwrap_or_default().to_owned())
    }

    fn header(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, ExtendError> {
        if entry.size() > MAX_HEADER_BYTES {
            let reason = "it has a header of over 1 MiB";
            return Err(ExtendError::file(self.file, reason));
        }
        let mut bytes = Vec::new();
        let read = entry.read_to_end(&mut bytes);
        read.map_err(|error| self.damaged(&error))?;
        Ok(bytes)
    }

    fn damaged(&self, error: &io::Error) -> ExtendError {
        let reason = format!("it can't be read: {}", crate::error::chain(error));
        ExtendError::file(self.file, reason)
    }
}
