//! The tree in a tar archive, unpacked without a tool: of Debian's packages, of layers of images, of
//! the released Piston's packages.
//!
//! Invariants: no name of an archive is ever used as a path of the host, because contents go to
//! numbered files; an entry's path is relative and without `..`, or the whole archive is refused;
//! set-id bits, owners, extended attributes and devices are not taken over; what an archive takes of
//! the disk and the memory is bounded by its [`Budget`]. What the entries become is `assemble`'s and
//! `merge`'s.

use std::io::{self, Read};
use std::path::PathBuf;

use tar::EntryType;

use super::super::files::PathError;
use super::work::Spool;

/// Longest header or script that is read into memory.
const MAX_SMALL_BYTES: u64 = 1 << 20;
/// Longest path of an entry, as in the kernel.
const MAX_PATH_BYTES: usize = 4095;
/// Longest name in a path.
pub(super) const MAX_NAME_BYTES: usize = 255;
/// Longest file; makers in a child may not write longer ones.
pub(super) const MAX_FILE_BYTES: u64 = (8 << 30) - 1;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File {
        /// Where its bytes are on this host.
        content: PathBuf,
        executable: bool,
        mtime: u32,
    },
    Symlink(String),
    /// Another name of the file at this path.
    Hardlink(String),
}

/// An entry: its path from the root (`/usr/bin/lua`), and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// Who writes such archives, and what they may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// dpkg: plain trees. What it would not write is refused.
    Debian,
    /// Anybody: extended headers are read; devices, pipes and names that are no text are left out.
    Any,
}

/// What archives may still take, all of a maker's together.
#[derive(Debug)]
pub(super) struct Budget {
    entries: usize,
    /// Bytes of the archives, unpacked.
    bytes: u64,
    /// Bytes of paths and links' targets.
    names: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            // The largest packages of Debian have some 50,000 entries.
            entries: 1_000_000,
            bytes: 16 << 30,
            names: 512 << 20,
        }
    }
}

#[cfg(test)]
impl Budget {
    /// One of so many bytes.
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }
}

/// What is not taken of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Devices, pipes.
    pub(super) special: usize,
    /// Entries with a name, or a target, that is no text.
    pub(super) names: usize,
}

impl LeftOut {
    /// What is not in the package, a sentence each.
    pub(super) fn notes(self, of: &str) -> Vec<String> {
        let mut notes = Vec::new();
        for (count, what) in [
            (self.special, "devices and pipes"),
            (self.names, "entries with names that are no text"),
        ] {
            if count > 0 {
                notes.push(format!("{count} {what} of {of} are left out"));
            }
        }
        notes
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

/// Why an archive is refused.
#[derive(Debug)]
pub(super) enum UnpackError {
    /// It is no tar, ends early, or unpacks to too much.
    Damaged(io::Error),
    /// What is unpacked finds no place.
    Path(PathError),
    /// An entry would not stay in its place.
    Entry {
        /// Which, shortened.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl From<io::Error> for UnpackError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

/// Unpacks trees.
pub(super) struct Unpacker<'a> {
    /// Where contents go.
    pub(super) spool: &'a mut Spool,
    /// What may be taken.
    pub(super) budget: &'a mut Budget,
    /// Whose archives they are.
    pub(super) manner: Manner,
    /// Which paths are taken.
    pub(super) wanted: &'a dyn Fn(&str) -> bool,
}

/// What headers said of the entry that follows them.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Unpacker<'_> {
    /// Unpacks a tar to its end.
    pub(super) fn tree(&mut self, tar: impl Read) -> Result<(Vec<Entry>, LeftOut), UnpackError> {
        let bounded = Bounded {
            inner: tar,
            left: self.budget.bytes,
        };
        let mut archive = tar::Archive::new(bounded);
        let (mut entries, mut left_out) = (Vec::new(), LeftOut::default());
        let mut said = Said::default();
        // `raw`: the crate would read long-name headers of any length into memory.
        for entry in archive.entries()?.raw(true) {
            let mut entry = entry?;
            self.budget.entries = self
                .budget
                .entries
                .checked_sub(1)
                .ok_or_else(|| refused(b"...", "is one of over a million"))?;
            match entry.header().entry_type() {
                EntryType::GNULongName => said.path = Some(long(&mut entry)?),
                EntryType::GNULongLink => said.link = Some(long(&mut entry)?),
                EntryType::XHeader if self.manner == Manner::Any => {
                    said.read(&small(&mut entry)?)?;
                }
                EntryType::XGlobalHeader if self.manner == Manner::Any => {}
                _ => {
                    let said = std::mem::take(&mut said);
                    entries.extend(self.entry(said, &mut entry, &mut left_out)?);
                }
            }
        }
        // A cut or damaged tail is found here.
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink())?;
        self.budget.bytes = rest.left;
        Ok((entries, left_out))
    }

    fn entry(
        &mut self,
        said: Said,
        entry: &mut tar::Entry<'_, impl Read>,
        left_out: &mut LeftOut,
    ) -> Result<Option<Entry>, UnpackError> {
        let raw = said.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let link = said
            .link
            .or_else(|| Some(entry.link_name_bytes()?.into_owned()));
        let taken = raw.len() + link.as_ref().map_or(0, Vec::len);
        self.budget.names = self
            .budget
            .names
            .checked_sub(taken)
            .ok_or_else(|| refused(&raw, "is one name too many"))?;
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if self.manner == Manner::Any && !(is_text(&raw) && link.as_deref().is_none_or(is_text)) {
            left_out.names += 1;
            return Ok(None);
        }
        let path = normal(&raw).map_err(|reason| refused(&raw, reason))?;
        if path.is_empty() || !(self.wanted)(&path) {
            return Ok(None);
        }
        if said.size.is_some_and(|size| size != entry.size()) || entry.size() > MAX_FILE_BYTES {
            return Err(refused(&raw, "is over 8 GiB long"));
        }
        let kind = match entry.header().entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(target(&raw, link.as_deref())?),
            EntryType::Link => {
                let to = link.filter(|link| !link.is_empty());
                let to = to.ok_or_else(|| refused(&raw, "is a link to nothing"))?;
                Kind::Hardlink(normal(&to).map_err(|reason| refused(&raw, reason))?)
            }
            EntryType::Regular | EntryType::Continuous => self.file(entry)?,
            EntryType::Block | EntryType::Char | EntryType::Fifo if self.manner == Manner::Any => {
                left_out.special += 1;
                return Ok(None);
            }
            EntryType::XHeader | EntryType::XGlobalHeader => {
                let reason = "has an extended header, which dpkg does not write";
                return Err(refused(&raw, reason));
            }
            _ => return Err(refused(&raw, "is a device, a pipe or of an unknown kind")),
        };
        Ok(Some(Entry { path, kind }))
    }

    fn file(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Kind, UnpackError> {
        let mode = entry.header().mode()?;
        let mtime = entry.header().mtime()?;
        Ok(Kind::File {
            content: self.spool.keep(entry).map_err(|source| {
                if source.kind() == io::ErrorKind::StorageFull {
                    UnpackError::Path(self.spool.error(source))
                } else {
                    UnpackError::Damaged(source)
                }
            })?,
            executable: mode & 0o111 != 0,
            mtime: u32::try_from(mtime).unwrap_or(u32::MAX),
        })
    }
}

impl Said {
    /// Takes what counts of an extended header.
    fn read(&mut self, header: &[u8]) -> Result<(), UnpackError> {
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
                    return Err(refused(
                        key,
                        "tells of a sparse file, which is not supported",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where a symlink leads; anywhere, as long as it is a name.
fn target(path: &[u8], link: Option<&[u8]>) -> Result<String, UnpackError> {
    match link.map(std::str::from_utf8) {
        Some(Ok(text)) if text.len() > MAX_PATH_BYTES => {
            Err(refused(path, "leads to a path that is too long"))
        }
        Some(Ok(text)) if !text.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(refused(path, "leads nowhere, or to a name that is no text")),
    }
}

/// A name that is too long for a header.
fn long(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = small(entry)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// The first bytes of an entry, all of them where it is a short one.
pub(super) fn small(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(MAX_SMALL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refused(entry: &[u8], reason: &'static str) -> UnpackError {
    let entry = String::from_utf8_lossy(entry);
    UnpackError::Entry {
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
    pub(super) inner: R,
    /// Bytes that may still come.
    pub(super) left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let taken = u64::try_from(read).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(taken).ok_or_else(|| {
            let text = "it unpacks to more than may be taken";
            io::Error::new(io::ErrorKind::FileTooLarge, text)
        })?;
        Ok(read)
    }
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

    /// Unpacks what `write` puts into a tar, within a budget.
    fn unpacked(
        budget: &mut Budget,
        write: impl FnOnce(&mut tar::Builder<Vec<u8>>),
    ) -> Result<(Vec<Entry>, LeftOut), String> {
        let folder = tempfile::tempdir().expect("a directory");
        let mut spool = Spool::new(folder.path().to_owned());
        let mut tar = tar::Builder::new(Vec::new());
        write(&mut tar);
        let tar = tar.into_inner().expect("written");
        let mut unpacker = Unpacker {
            spool: &mut spool,
            budget,
            manner: Manner::Any,
            wanted: &|_| true,
        };
        unpacker.tree(&tar[..]).map_err(|error| match error {
            UnpackError::Damaged(error) => error.to_string(),
            UnpackError::Path(error) => error.to_string(),
            UnpackError::Entry { entry, reason } => format!("{entry} {reason}"),
        })
    }

    fn header(kind: EntryType, path: &[u8], link: &str) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(0);
        header.set_mtime(1);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        header
    }

    #[test]
    fn extended_headers_name_what_follows_them() {
        let long = format!("usr/{}/x", "n".repeat(200));
        let (entries, left_out) = unpacked(&mut Budget::default(), |tar| {
            let records = [
                ("path", long.as_bytes()),
                ("SCHILY.xattr.security.capability", b"\x01\xff".as_slice()),
            ];
            tar.append_pax_extensions(records).expect("a header");
            let short = header(EntryType::Regular, b"cut", "");
            tar.append(&short, io::empty()).expect("an entry");
            tar.append_pax_extensions([("linkpath", b"../there".as_slice())])
                .expect("a header");
            let link = header(EntryType::Symlink, b"link", "cut");
            tar.append(&link, io::empty()).expect("an entry");
        })
        .expect("a tree");
        let paths: Vec<&str> = entries.iter().map(|entry| &*entry.path).collect();
        assert_eq!(paths, [format!("/{long}").as_str(), "/link"]);
        assert_eq!(entries[1].kind, Kind::Symlink("../there".to_owned()));
        assert_eq!(left_out, LeftOut::default());
    }

    #[test]
    fn devices_and_names_that_are_no_text_are_left_out_and_counted() {
        let (entries, left_out) = unpacked(&mut Budget::default(), |tar| {
            for (kind, path) in [
                (EntryType::Char, b"dev/null".as_slice()),
                (EntryType::Block, b"dev/sda"),
                (EntryType::Fifo, b"pipe"),
                (EntryType::Regular, b"caf\xe9"),
                (EntryType::Regular, b"good"),
            ] {
                tar.append(&header(kind, path, ""), io::empty())
                    .expect("an entry");
            }
        })
        .expect("a tree");
        assert_eq!(entries.len(), 1);
        let expected = LeftOut {
            special: 3,
            names: 1,
        };
        assert_eq!(left_out, expected);
    }

    #[test]
    fn a_sparse_file_and_another_size_than_the_headers_are_refused() {
        for (key, value, reason) in [
            ("GNU.sparse.major", "1", "sparse"),
            ("size", "9999999999999", "over 8 GiB"),
            ("size", "-1", "no size"),
            ("path", "../../etc/passwd", "leads out of its tree"),
            ("path", "/etc/passwd", "absolute"),
            ("path", "a\0b", "NUL"),
        ] {
            let text = unpacked(&mut Budget::default(), |tar| {
                tar.append_pax_extensions([(key, value.as_bytes())])
                    .expect("a header");
                tar.append(&header(EntryType::Regular, b"x", ""), io::empty())
                    .expect("an entry");
            });
            let text = text.expect_err(value);
            assert!(text.contains(reason), "{key}={value}: {text}");
        }
    }

    #[test]
    fn what_archives_take_is_bounded_over_all_of_them() {
        let three = |tar: &mut tar::Builder<Vec<u8>>| {
            for path in [b"a".as_slice(), b"b", b"c"] {
                tar.append(&header(EntryType::Regular, path, ""), io::empty())
                    .expect("an entry");
            }
        };
        let mut entries = Budget {
            entries: 5,
            ..Budget::default()
        };
        unpacked(&mut entries, three).expect("the first three");
        let text = unpacked(&mut entries, three).expect_err("the sixth");
        assert!(text.contains("a million"), "{text}");
        let mut bytes = Budget::of_bytes(2000);
        let text = unpacked(&mut bytes, three).expect_err("2560 bytes and padding");
        assert!(text.contains("more than may be taken"), "{text}");
        let mut names = Budget {
            names: 2,
            ..Budget::default()
        };
        let text = unpacked(&mut names, three).expect_err("the third");
        assert!(text.contains("one name too many"), "{text}");
    }
}
