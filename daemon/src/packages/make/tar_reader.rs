//! Tar archives that somebody else wrote, entry by entry: Debian's packages, images and their layers,
//! packages of registries, folders of requests.
//!
//! Invariants: headers that are read into memory, entries, their names and the bytes of all archives
//! that share a [`Budget`] are bounded; a name comes from where the format says that it counts; a path is
//! handed out only where it is text, relative and without `..`; a file whose length is said twice, or
//! that has holes, is refused. Which kinds of entries are taken, and what becomes of them, is the
//! caller's.

use std::io::{self, Read, Seek};
use std::path::PathBuf;

use tar::EntryType;

use super::super::files::PathError;
use super::work::Spool;

/// Longest header that is read into memory.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// Longest path of an entry, as in the kernel.
const MAX_PATH_BYTES: usize = 4095;
/// Longest name in a path.
pub(super) const MAX_NAME_BYTES: usize = 255;
/// Longest file; makers in a child may not write longer ones.
pub(super) const MAX_FILE_BYTES: u64 = (8 << 30) - 1;

/// What archives may hold together, and still may.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes that they unpack to, headers included.
    bytes: Share<u64>,
    entries: Share<usize>,
    /// Bytes of paths and links' targets.
    names: Share<usize>,
}

/// How much there may be, and how much of it still may come.
#[derive(Debug, Clone, Copy)]
struct Share<T> {
    most: T,
    left: T,
}

impl<T: Copy> Share<T> {
    fn of(most: T) -> Self {
        Self { most, left: most }
    }
}

impl Share<usize> {
    fn take(&mut self, count: usize, what: &str) -> io::Result<()> {
        let left = self.left.checked_sub(count);
        self.left = left.ok_or_else(|| too_much(&format!("more than {} {what}", self.most)))?;
        Ok(())
    }
}

impl Default for Budget {
    fn default() -> Self {
        // The largest packages of Debian have some 50,000 entries.
        Self::new(16 << 30, 1_000_000)
    }
}

impl Budget {
    /// One of so many bytes and entries.
    pub(super) fn new(bytes: u64, entries: usize) -> Self {
        Self {
            bytes: Share::of(bytes),
            entries: Share::of(entries),
            names: Share::of(512 << 20),
        }
    }
}

/// Why an archive is refused.
#[derive(Debug)]
pub(super) enum TarError {
    /// It is no tar, ends early, or unpacks to too much.
    Damaged(io::Error),
    /// What is unpacked finds no place, or the archive can't be read.
    Path(PathError),
    /// Something of it is not taken.
    Entry {
        /// Which entry, shortened.
        entry: String,
        /// What is wrong with it, as the end of a sentence about it.
        reason: &'static str,
    },
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

impl From<PathError> for TarError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

/// What to say of an archive that can't be read. Only the system's words and ours: those of readers
/// repeat what is in the file, which may be any file of this machine.
pub(super) fn told(error: &io::Error) -> String {
    let is_known = error.raw_os_error().is_some() || error.kind() == io::ErrorKind::FileTooLarge;
    if is_known {
        error.to_string()
    } else {
        "it is damaged, or no tar".to_owned()
    }
}

/// Why an entry is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// What is wrong with it, as the end of a sentence about it.
    Because(&'static str),
    /// Its contents can't be read, or find no place.
    Failed(TarError),
}

impl From<&'static str> for Refused {
    fn from(reason: &'static str) -> Self {
        Self::Because(reason)
    }
}

impl From<TarError> for Refused {
    fn from(error: TarError) -> Self {
        Self::Failed(error)
    }
}

/// An entry of an archive.
pub(super) struct Entry<'a> {
    /// What it is.
    pub(super) kind: EntryType,
    /// Whether a file may be executed.
    pub(super) executable: bool,
    /// When a file was last changed.
    pub(super) mtime: u32,
    /// Where in the archive its contents begin.
    pub(super) start: u64,
    /// How long they are.
    pub(super) size: u64,
    /// They themselves.
    pub(super) bytes: &'a mut dyn Read,
    name: &'a [u8],
    link: &'a [u8],
}

impl Entry<'_> {
    /// Whether its name and what it leads to are text.
    pub(super) fn is_text(&self) -> bool {
        [self.name, self.link]
            .iter()
            .all(|bytes| std::str::from_utf8(bytes).is_ok())
    }

    /// Its path from the root (`/usr/bin/lua`); empty for the root itself.
    pub(super) fn path(&self) -> Result<String, &'static str> {
        normal(self.name)
    }

    /// The path of the file that a hard link is another name of.
    pub(super) fn linked(&self) -> Result<String, &'static str> {
        if self.link.is_empty() {
            return Err("is a link to nothing");
        }
        normal(self.link)
    }

    /// Where a symlink leads; anywhere, as long as it is a name.
    pub(super) fn target(&self) -> Result<&str, &'static str> {
        match std::str::from_utf8(self.link) {
            Ok(text) if text.len() > MAX_PATH_BYTES => Err("leads to a path that is too long"),
            Ok(text) if !text.is_empty() && !text.contains('\0') => Ok(text),
            _ => Err("leads nowhere, or to a name that is no text"),
        }
    }

    /// Writes its contents to a file of the spool.
    pub(super) fn keep(&mut self, spool: &mut Spool) -> Result<PathBuf, TarError> {
        spool.keep(self.bytes).map_err(|source| {
            if source.kind() == io::ErrorKind::StorageFull {
                TarError::Path(spool.error(source))
            } else {
                TarError::Damaged(source)
            }
        })
    }
}

/// What is done with each entry.
pub(super) type Take<'a> = dyn FnMut(Entry<'_>) -> Result<(), Refused> + 'a;

/// Reads an archive to its end.
pub(super) fn each(
    tar: impl Read,
    budget: &mut Budget,
    take: &mut Take<'_>,
) -> Result<(), TarError> {
    let mut archive = tar::Archive::new(Bounded {
        inner: tar,
        bytes: budget.bytes,
    });
    walk(archive.entries()?, budget, take)?;
    // A cut or damaged tail is found here.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    budget.bytes = rest.bytes;
    Ok(())
}

/// Looks through an archive without reading contents that nobody asks for; what is cut off of those is
/// not found, and their bytes are not counted.
pub(super) fn each_in_place(
    tar: impl Read + Seek,
    budget: &mut Budget,
    take: &mut Take<'_>,
) -> Result<(), TarError> {
    walk(tar::Archive::new(tar).entries_with_seek()?, budget, take)
}

fn walk(
    entries: tar::Entries<'_, impl Read>,
    budget: &mut Budget,
    take: &mut Take<'_>,
) -> Result<(), TarError> {
    let mut said = Said::default();
    // `raw`: the crate would read headers of any length into memory.
    for entry in entries.raw(true) {
        let mut entry = entry?;
        budget.entries.take(1, "entries")?;
        match entry.header().entry_type() {
            EntryType::GNULongName => said.path = Some(long(&mut entry)?),
            EntryType::GNULongLink => said.link = Some(long(&mut entry)?),
            EntryType::XHeader => said.read(&header(&mut entry)?)?,
            EntryType::XGlobalHeader => {}
            kind => one(kind, std::mem::take(&mut said), &mut entry, budget, take)?,
        }
    }
    Ok(())
}

/// Hands an entry on.
fn one(
    kind: EntryType,
    said: Said,
    entry: &mut tar::Entry<'_, impl Read>,
    budget: &mut Budget,
    take: &mut Take<'_>,
) -> Result<(), TarError> {
    let name = said.path.unwrap_or_else(|| entry.path_bytes().into_owned());
    let link = said
        .link
        .or_else(|| Some(entry.link_name_bytes()?.into_owned()));
    let link = link.unwrap_or_default();
    budget
        .names
        .take(name.len() + link.len(), "bytes of names")?;
    let size = entry.size();
    if let Some(other) = said.size.filter(|other| *other != size) {
        let reason = if other > MAX_FILE_BYTES {
            "is over 8 GiB long"
        } else {
            "has its length said in two places"
        };
        return Err(refused(&name, reason));
    }
    let (mut executable, mut mtime) = (false, 0);
    if matches!(kind, EntryType::Regular | EntryType::Continuous) {
        executable = entry.header().mode()? & 0o111 != 0;
        mtime = u32::try_from(entry.header().mtime()?).unwrap_or(u32::MAX);
    }
    let read = Entry {
        kind,
        executable,
        mtime,
        start: entry.raw_file_position(),
        size,
        bytes: entry,
        name: &name,
        link: &link,
    };
    take(read).map_err(|error| match error {
        Refused::Because(reason) => refused(&name, reason),
        Refused::Failed(error) => error,
    })
}

/// What headers said of the entry that follows them.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Said {
    /// Takes what counts of an extended header.
    fn read(&mut self, header: &[u8]) -> Result<(), TarError> {
        for extension in tar::PaxExtensions::new(header) {
            let extension = extension?;
            let value = extension.value_bytes();
            match extension.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let text = std::str::from_utf8(value).ok();
                    let size = text.and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or_else(|| refused(value, "is no size"))?);
                }
                key if key.starts_with(b"GNU.sparse") => {
                    let reason = "tells of a sparse file, which is not supported";
                    return Err(refused(key, reason));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A name that is too long for a header.
fn long(entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, TarError> {
    let mut bytes = header(entry)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// The contents of an entry that is about the next one.
fn header(entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, TarError> {
    if entry.size() > MAX_HEADER_BYTES {
        return Err(refused(&entry.path_bytes(), "is a header of over 1 MiB"));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refused(entry: &[u8], reason: &'static str) -> TarError {
    let entry = String::from_utf8_lossy(entry);
    TarError::Entry {
        entry: entry.chars().take(80).collect(),
        reason,
    }
}

/// The path of an entry, from the root; empty for the root itself.
pub(super) fn normal(path: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(path).map_err(|_| "has a name that is no text")?;
    if text.starts_with('/') {
        return Err("has an absolute path");
    }
    if text.len() > MAX_PATH_BYTES {
        return Err("has a path that is too long");
    }
    if text.contains('\0') {
        return Err("has a NUL in its name");
    }
    let mut clean = String::with_capacity(text.len() + 1);
    for name in text.split('/').filter(|name| !matches!(*name, "" | ".")) {
        if name == ".." {
            return Err("leads out of its tree");
        }
        if name.len() > MAX_NAME_BYTES {
            return Err("has a name that is too long");
        }
        clean.push('/');
        clean.push_str(name);
    }
    Ok(clean)
}

/// Reads no more than it may; more is an error that says so.
pub(super) struct Bounded<R> {
    inner: R,
    bytes: Share<u64>,
}

impl<R> Bounded<R> {
    /// A reader of so many bytes.
    pub(super) fn new(inner: R, most: u64) -> Self {
        let bytes = Share::of(most);
        Self { inner, bytes }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let taken = u64::try_from(read).unwrap_or(u64::MAX);
        let left = self.bytes.left.checked_sub(taken);
        self.bytes.left =
            left.ok_or_else(|| too_much(&format!("more than {} MiB", self.bytes.most >> 20)))?;
        Ok(read)
    }
}

fn too_much(what: &str) -> io::Error {
    let text = format!("it unpacks to {what}, the most that may be taken");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_or_refused() {
        for (path, expected) in [
            ("./", ""),
            ("./usr//bin/./x/", "/usr/bin/x"),
            ("usr", "/usr"),
            ("./..a/b..", "/..a/b.."),
        ] {
            assert_eq!(normal(path.as_bytes()).as_deref(), Ok(expected), "{path}");
        }
        let long = "n".repeat(256);
        for path in ["..", "a/..", "/a", "a\0b", &long] {
            normal(path.as_bytes()).expect_err(path);
        }
    }

    fn tar(names: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_mtime(1);
            tar.append_data(&mut header, name, io::empty())
                .expect("an entry");
        }
        tar.into_inner().expect("written")
    }

    fn read(tar: &[u8], budget: &mut Budget) -> Result<Vec<String>, String> {
        let mut paths = Vec::new();
        let read = each(tar, budget, &mut |entry| {
            paths.push(entry.path()?);
            Ok(())
        });
        match read {
            Ok(()) => Ok(paths),
            Err(TarError::Damaged(error)) => Err(told(&error)),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn what_archives_take_is_bounded_over_all_of_them() {
        let three = tar(&["a", "b", "c"]);
        let mut budget = Budget::new(1 << 20, 5);
        assert_eq!(
            read(&three, &mut budget).expect("the first three"),
            ["/a", "/b", "/c"]
        );
        let text = read(&three, &mut budget).expect_err("the sixth");
        assert!(text.contains("more than 5 entries"), "{text}");
        let length = u64::try_from(three.len()).expect("a length");
        read(&three, &mut Budget::new(length, 3)).expect("as much as there may be");
        let text = read(&three, &mut Budget::new(length - 1, 3)).expect_err("a byte more");
        assert!(text.contains("more than 0 MiB"), "{text}");
        let mut budget = Budget {
            names: Share::of(4),
            ..Budget::default()
        };
        read(&three, &mut budget).expect("the first three");
        let text = read(&three, &mut budget).expect_err("the fifth");
        assert!(text.contains("more than 4 bytes of names"), "{text}");
    }

    #[test]
    fn an_archive_that_is_read_in_place_is_not_read_through() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5000);
        header.set_mode(0o644);
        header.set_mtime(1);
        builder
            .append_data(&mut header, "a", &[7; 5000][..])
            .expect("an entry");
        let whole = builder.into_inner().expect("written");
        let mut found = Vec::new();
        each_in_place(
            io::Cursor::new(&whole),
            &mut Budget::new(0, 10),
            &mut |entry| {
                found.push((entry.path()?, entry.start, entry.size));
                Ok(())
            },
        )
        .expect("an archive");
        assert_eq!(found, [("/a".to_owned(), 512, 5000)]);
    }
}
