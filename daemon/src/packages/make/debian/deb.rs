//! A Debian package file: an `ar` archive of two tars, unpacked without a tool.
//!
//! Invariants: those of `make::unpack`; what dpkg would not write (devices, names that are no text) is
//! refused with the whole package. Runs nothing. What the entries
//! become is `assemble`'s.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use tar::EntryType;

use super::super::compressed;
use super::super::tar_reader::{self, Budget, TarError};
pub(super) use super::super::unpack::{Entry, Kind};
use super::super::unpack::{Manner, Unpacker};
use super::super::work::Spool;
use super::error::DebianError;

/// First bytes of an `ar` archive.
const MAGIC: &[u8] = b"!<arch>\n";
/// Most bytes of the control archive, unpacked, that are read.
const MAX_CONTROL_BYTES: u64 = 64 << 20;
/// Most entries of it.
const MAX_CONTROL_ENTRIES: usize = 10_000;
/// Most bytes of a script.
const MAX_SCRIPT_BYTES: u64 = 1 << 20;

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
        let mut budget = Budget::new(MAX_CONTROL_BYTES, MAX_CONTROL_ENTRIES);
        let read = tar_reader::each(tar, &mut budget, &mut |entry| {
            if entry.kind == EntryType::Regular && entry.path()? == "/postinst" {
                let mut bytes = Vec::new();
                let mut script = entry.bytes.take(MAX_SCRIPT_BYTES);
                script.read_to_end(&mut bytes).map_err(TarError::from)?;
                self.contents.postinst = Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(())
        });
        read.map_err(|error| self.refused(error))
    }

    /// Takes the tree out of the data archive.
    fn tree(&mut self, tar: impl Read) -> Result<(), DebianError> {
        let mut unpacker = Unpacker {
            spool: &mut *self.spool,
            budget: &mut Budget::default(),
            manner: Manner::Debian,
            wanted: self.wanted,
        };
        let (entries, _) = unpacker.tree(tar).map_err(|error| self.refused(error))?;
        self.contents.entries = entries;
        Ok(())
    }

    fn refused(&self, error: TarError) -> DebianError {
        match error {
            TarError::Damaged(error) => DebianError::Damaged {
                what: format!("the Debian package {}", self.name),
                reason: error.to_string(),
            },
            TarError::Path(error) => error.into(),
            TarError::Entry { entry, reason } => DebianError::Entry {
                package: self.name.to_owned(),
                entry,
                reason,
            },
        }
    }
}

#[cfg(test)]
mod tests;
