//! A Debian package file: an `ar` archive of two tars, unpacked without a tool.
//!
//! Invariants: no name of an archive is ever used as a path of the host, because contents go to
//! numbered files; an entry's path is relative, without `..`, and UTF-8, or the whole package is
//! refused; set-id bits, owners and devices are not taken over. Runs nothing. What the entries
//! become is `assemble`'s.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::super::work::Spool;
use super::compressed;
use super::error::DebianError;

/// First bytes of an `ar` archive.
const MAGIC: &[u8] = b"!<arch>\n";
/// Longest header or script that is read into memory.
const MAX_SMALL_BYTES: u64 = 1 << 20;
/// Longest path of an entry, as in the kernel.
const MAX_PATH_BYTES: usize = 4095;
/// Longest name in a path.
const MAX_NAME_BYTES: usize = 255;
/// Most entries of one package; the largest of Debian have some 50,000.
const MAX_ENTRIES: usize = 1_000_000;
/// Most bytes that one package unpacks to.
const MAX_UNPACKED_BYTES: u64 = 16 << 30;

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

/// What a package holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// The script that dpkg would run after unpacking.
    pub(super) postinst: Option<String>,
    pub(super) entries: Vec<Entry>,
}

/// Unpacks the package file `file` of the package `name`; of its tree what `wanted` takes.
pub(super) fn unpack(
    name: &str,
    file: &Path,
    spool: &mut Spool,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Contents, DebianError> {
    let damaged = |error: io::Error| DebianError::Damaged {
        what: format!("the Debian package {name}"),
        reason: error.to_string(),
    };
    let open = File::open(file).map_err(damaged)?;
    let mut members = Members {
        reader: BufReader::with_capacity(256 << 10, open),
    };
    members.begin().map_err(damaged)?;
    let mut reading = Reading {
        name,
        spool,
        wanted,
        contents: Contents::default(),
    };
    let mut tree = false;
    while let Some((member, mut bytes)) = members.next().map_err(damaged)? {
        if let Some(kind) = compressed::Kind::of(&member, "control.tar") {
            reading.control(kind.reader(&mut bytes).map_err(damaged)?)?;
        } else if let Some(kind) = compressed::Kind::of(&member, "data.tar") {
            reading.tree(kind.reader(&mut bytes).map_err(damaged)?)?;
            tree = true;
        }
        bytes.finish().map_err(damaged)?;
    }
    if !tree {
        let reason = "it holds no data.tar packed with gzip, xz or zstd, or not at all";
        return Err(damaged(io::Error::other(reason)));
    }
    Ok(reading.contents)
}

/// The members of an `ar` archive, in their order.
struct Members {
    reader: BufReader<File>,
}

impl Members {
    fn begin(&mut self) -> io::Result<()> {
        let mut magic = [0; MAGIC.len()];
        self.reader.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(io::Error::other("it is no ar archive"));
        }
        match self.next()? {
            Some((name, mut bytes)) if name == "debian-binary" => {
                let mut format = String::new();
                (&mut bytes).take(16).read_to_string(&mut format)?;
                if !format.starts_with("2.") {
                    return Err(io::Error::other("its format is not 2.x"));
                }
                bytes.finish()
            }
            _ => Err(io::Error::other("it does not start with debian-binary")),
        }
    }

    /// The name and the bytes of the next member; those of the one before have to be read.
    fn next(&mut self) -> io::Result<Option<(String, Member<'_>)>> {
        let mut header = [0; 60];
        let mut have = 0;
        while have < header.len() {
            match self.reader.read(&mut header[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => have += more,
            }
        }
        let wrong = || io::Error::other("a header of the ar archive is wrong");
        if &header[58..] != b"`\n" {
            return Err(wrong());
        }
        let text = |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).ok();
        let name = text(0..16).ok_or_else(wrong)?.trim_end();
        let name = name.strip_suffix('/').unwrap_or(name).to_owned();
        let size = text(48..58).and_then(|size| size.trim().parse().ok());
        let size: u64 = size.ok_or_else(wrong)?;
        let member = Member {
            bytes: (&mut self.reader).take(size),
            padded: size % 2 == 1,
        };
        Ok(Some((name, member)))
    }
}

/// The bytes of a member.
struct Member<'a> {
    bytes: io::Take<&'a mut BufReader<File>>,
    padded: bool,
}

impl Member<'_> {
    /// Reads what is left of it, and its padding.
    fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.bytes, &mut io::sink())?;
        if self.bytes.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.padded {
            let mut padding = self.bytes.into_inner().take(1);
            io::copy(&mut padding, &mut io::sink())?;
        }
        Ok(())
    }
}

impl Read for Member<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

/// A package that is being read.
struct Reading<'a> {
    name: &'a str,
    spool: &'a mut Spool,
    wanted: &'a dyn Fn(&str) -> bool,
    contents: Contents,
}

impl Reading<'_> {
    /// Takes the script out of the control archive.
    fn control(&mut self, tar: impl Read) -> Result<(), DebianError> {
        let mut archive = tar::Archive::new(tar.take(64 * MAX_SMALL_BYTES));
        let entries = archive.entries().map_err(|error| self.damaged(&error))?;
        for entry in entries.raw(true) {
            let mut entry = entry.map_err(|error| self.damaged(&error))?;
            let is_script = matches!(&*entry.path_bytes(), b"./postinst" | b"postinst");
            if is_script && entry.header().entry_type() == EntryType::Regular {
                let bytes = self.small(&mut entry)?;
                self.contents.postinst = Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(())
    }

    /// Takes the tree out of the data archive.
    fn tree(&mut self, tar: impl Read) -> Result<(), DebianError> {
        let mut archive = tar::Archive::new(tar.take(MAX_UNPACKED_BYTES));
        // `raw`: the crate would read long-name headers of any length into memory.
        let entries = archive.entries().map_err(|error| self.damaged(&error))?;
        let (mut long_path, mut long_link) = (None, None);
        for (count, entry) in entries.raw(true).enumerate() {
            let mut entry = entry.map_err(|error| self.damaged(&error))?;
            if count >= MAX_ENTRIES {
                return Err(self.refused("...", "is one of over a million"));
            }
            match entry.header().entry_type() {
                EntryType::GNULongName => long_path = Some(self.long(&mut entry)?),
                EntryType::GNULongLink => long_link = Some(self.long(&mut entry)?),
                _ => {
                    let path = long_path.take();
                    let path = path.unwrap_or_else(|| entry.path_bytes().into_owned());
                    let link = long_link
                        .take()
                        .or_else(|| Some(entry.link_name_bytes()?.into_owned()));
                    self.entry(&path, link.as_deref(), &mut entry)?;
                }
            }
        }
        // A cut or damaged tail is found here.
        io::copy(&mut archive.into_inner(), &mut io::sink())
            .map_err(|error| self.damaged(&error))?;
        Ok(())
    }

    fn entry(
        &mut self,
        path: &[u8],
        link: Option<&[u8]>,
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> Result<(), DebianError> {
        let shown = String::from_utf8_lossy(path).into_owned();
        let path = normal(path).map_err(|reason| self.refused(&shown, reason))?;
        if path.is_empty() || !(self.wanted)(&path) {
            return Ok(());
        }
        let header = entry.header();
        let target = |what| match link.map(std::str::from_utf8) {
            Some(Ok(text)) if !text.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
            _ => Err(self.refused(&shown, what)),
        };
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => {
                Kind::Symlink(target("leads nowhere, or to a name that is no text")?)
            }
            EntryType::Link => {
                let to = normal(target("is a link to nothing")?.as_bytes());
                Kind::Hardlink(to.map_err(|reason| self.refused(&shown, reason))?)
            }
            EntryType::Regular | EntryType::Continuous => {
                let mode = header.mode().map_err(|error| self.damaged(&error))?;
                let mtime = header.mtime().map_err(|error| self.damaged(&error))?;
                let content = self.spool.keep(entry);
                Kind::File {
                    content: content.map_err(|error| self.damaged(&error))?,
                    executable: mode & 0o111 != 0,
                    mtime: u32::try_from(mtime).unwrap_or(u32::MAX),
                }
            }
            EntryType::XHeader | EntryType::XGlobalHeader => {
                return Err(
                    self.refused(&shown, "has an extended header, which dpkg does not write")
                );
            }
            _ => return Err(self.refused(&shown, "is a device, a pipe or of an unknown kind")),
        };
        self.contents.entries.push(Entry { path, kind });
        Ok(())
    }

    /// A name that is too long for a header.
    fn long(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, DebianError> {
        let mut bytes = self.small(entry)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn small(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, DebianError> {
        let mut bytes = Vec::new();
        let mut bounded = entry.take(MAX_SMALL_BYTES);
        bounded
            .read_to_end(&mut bytes)
            .map_err(|error| self.damaged(&error))?;
        Ok(bytes)
    }

    fn damaged(&self, error: &io::Error) -> DebianError {
        DebianError::Damaged {
            what: format!("the Debian package {}", self.name),
            reason: error.to_string(),
        }
    }

    fn refused(&self, entry: &str, reason: &'static str) -> DebianError {
        DebianError::Entry {
            package: self.name.to_owned(),
            entry: entry.chars().take(80).collect(),
            reason,
        }
    }
}

/// The path of an entry, from the root; empty for the root itself.
fn normal(path: &[u8]) -> Result<String, &'static str> {
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
    let mut clean = String::with_capacity(text.len());
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

#[cfg(test)]
mod tests;
