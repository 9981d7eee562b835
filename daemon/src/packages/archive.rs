//! The package file: a gzipped tar of `pkg-info.json`, the image and the scripts.
//!
//! Owns reading one into a staging directory and writing one. Invariants: a member is one of
//! five names, a regular file, and comes once; small members are bounded in memory, the image
//! goes to disk under a bound; no path of the archive is ever used as a path of the host; the
//! same input gives the same bytes. Does not look into the image.

mod write;

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use piston_client::ids::Digest;
use tar::EntryType;

use super::files::{AtPath as _, Hashing, PathError};
use super::info::{InfoError, MAX_INFO_BYTES, PackageInfo};

pub use write::write;

/// Name of the metadata member.
pub const INFO: &str = "pkg-info.json";
/// Name of the image member.
pub const IMAGE: &str = "package.squashfs";
/// Name of the script that runs a program.
pub const RUN: &str = "run";
/// Name of the script that compiles.
pub const COMPILE: &str = "compile";
/// Name of the file of `export NAME=value` lines.
pub const ENVIRONMENT: &str = "environment";

/// Longest `run`, `compile` or `environment`.
pub const MAX_SCRIPT_BYTES: u64 = 4 << 20;
/// Longest image.
pub const MAX_IMAGE_BYTES: u64 = 64 << 30;
/// Most bytes of extended headers that are skipped.
const MAX_PAX_BYTES: u64 = 64 << 10;
/// Most members that are looked at, extended headers and directories included.
const MAX_MEMBERS: usize = 64;

/// Why a package file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of ours can't be read or written.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The file is no gzipped tar, or it ends early.
    #[error("{path} is not a whole package file (a gzipped tar): {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the decoder says.
        reason: String,
    },
    /// A member is not acceptable.
    #[error("package file refused: member `{member}` {reason}")]
    Member {
        /// The member's name, shortened.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A member that every package file has is not there.
    #[error("package file refused: it holds no {0}")]
    Missing(&'static str),
    /// The metadata is refused.
    #[error(transparent)]
    Info(#[from] InfoError),
}

/// What a package file holds, with the image on disk.
#[derive(Debug)]
pub struct Contents {
    /// `pkg-info.json`, checked.
    pub info: PackageInfo,
    /// `pkg-info.json` as it stands in the file.
    pub info_json: Vec<u8>,
    /// The image, in the directory that was given.
    pub image: PathBuf,
    /// sha256 of the image.
    pub image_digest: Digest,
    /// Length of the image.
    pub image_bytes: u64,
    /// The small members.
    pub scripts: Scripts,
}

/// The optional small members of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    /// Runs a program.
    pub run: Option<Vec<u8>>,
    /// Compiles one.
    pub compile: Option<Vec<u8>>,
    /// `export NAME=value` lines.
    pub environment: Option<Vec<u8>>,
}

/// Unpacks a package file: small members into memory, the image to `package.squashfs` in `into`.
pub fn read(file: &Path, into: &Path) -> Result<Contents, ArchiveError> {
    let mut members = Members::new(file, Some(into.join(IMAGE)));
    members.read_all()?;
    let (image_digest, image_bytes) = members.image.ok_or(ArchiveError::Missing(IMAGE))?;
    let info_json = members.info.ok_or(ArchiveError::Missing(INFO))?;
    Ok(Contents {
        info: PackageInfo::parse(&info_json)?,
        info_json,
        image: into.join(IMAGE),
        image_digest,
        image_bytes,
        scripts: members.scripts,
    })
}

/// Reads the metadata of a package file; returns it with the bytes of all members together.
/// The whole file is read, so that a damaged one is found.
pub fn read_info(file: &Path) -> Result<(PackageInfo, u64), ArchiveError> {
    let mut members = Members::new(file, None);
    members.read_all()?;
    if members.image.is_none() {
        return Err(ArchiveError::Missing(IMAGE));
    }
    let info = members.info.ok_or(ArchiveError::Missing(INFO))?;
    Ok((PackageInfo::parse(&info)?, members.total))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn refused(member: &str, reason: impl Into<String>) -> ArchiveError {
    ArchiveError::Member {
        member: member.chars().take(80).collect(),
        reason: reason.into(),
    }
}

/// The members of one package file, as far as they are read.
struct Members<'a> {
    file: &'a Path,
    /// Where the image goes; none: it is read over.
    image_to: Option<PathBuf>,
    info: Option<Vec<u8>>,
    image: Option<(Digest, u64)>,
    scripts: Scripts,
    total: u64,
}

impl<'a> Members<'a> {
    fn new(file: &'a Path, image_to: Option<PathBuf>) -> Self {
        Self {
            file,
            image_to,
            info: None,
            image: None,
            scripts: Scripts::default(),
            total: 0,
        }
    }

    fn damaged(&self, error: &io::Error) -> ArchiveError {
        ArchiveError::Damaged {
            path: self.file.to_owned(),
            reason: error.to_string(),
        }
    }

    fn read_all(&mut self) -> Result<(), ArchiveError> {
        let file = File::open(self.file).at("open", self.file)?;
        let gzip = MultiGzDecoder::new(BufReader::with_capacity(256 << 10, file));
        // `take` bounds what a gzip bomb of padding or zeros can cost.
        let mut archive = tar::Archive::new(gzip.take(MAX_IMAGE_BYTES + (64 << 20)));
        // `raw`: the crate would read long-name headers of any length into memory.
        let entries = archive.entries().map_err(|error| self.damaged(&error))?;
        for (count, entry) in entries.raw(true).enumerate() {
            let entry = entry.map_err(|error| self.damaged(&error))?;
            if count >= MAX_MEMBERS {
                return Err(refused("...", format!("is one of over {MAX_MEMBERS}")));
            }
            self.read_member(entry)?;
        }
        let mut rest = archive.into_inner();
        // The gzip checksum stands at the very end: a cut or damaged tail is found here.
        io::copy(&mut rest, &mut io::sink()).map_err(|error| self.damaged(&error))?;
        Ok(())
    }

    fn read_member<R: Read>(&mut self, entry: tar::Entry<'_, R>) -> Result<(), ArchiveError> {
        let path = entry.path_bytes();
        let name = String::from_utf8_lossy(path.strip_prefix(b"./").unwrap_or(&path)).into_owned();
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => self.read_file(&name, entry),
            EntryType::Directory if matches!(name.as_str(), "" | ".") => Ok(()),
            EntryType::XHeader | EntryType::XGlobalHeader => self.read_pax(entry),
            EntryType::Directory => Err(unknown_member(&name)),
            EntryType::Link | EntryType::Symlink => Err(refused(&name, "is a link")),
            _ => Err(refused(&name, "is not a regular file")),
        }
    }

    fn read_file<R: Read>(
        &mut self,
        name: &str,
        entry: tar::Entry<'_, R>,
    ) -> Result<(), ArchiveError> {
        self.total = self.total.saturating_add(entry.size());
        if name == IMAGE {
            return self.read_image(entry);
        }
        let limit = if name == INFO {
            MAX_INFO_BYTES
        } else {
            MAX_SCRIPT_BYTES
        };
        let taken = match name {
            INFO => self.info.is_some(),
            RUN => self.scripts.run.is_some(),
            COMPILE => self.scripts.compile.is_some(),
            ENVIRONMENT => self.scripts.environment.is_some(),
            _ => return Err(unknown_member(name)),
        };
        if taken {
            return Err(refused(name, "is there twice"));
        }
        let bytes = Some(self.read_small(name, entry, limit)?);
        match name {
            INFO => self.info = bytes,
            RUN => self.scripts.run = bytes,
            COMPILE => self.scripts.compile = bytes,
            _ => self.scripts.environment = bytes,
        }
        Ok(())
    }

    fn read_small<R: Read>(
        &self,
        name: &str,
        mut entry: tar::Entry<'_, R>,
        limit: u64,
    ) -> Result<Vec<u8>, ArchiveError> {
        if entry.size() > limit {
            let reason = format!("is {} bytes long, {limit} are the most", entry.size());
            return Err(refused(name, reason));
        }
        let size = entry.size();
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| self.damaged(&error))?;
        self.whole(length(&bytes), size)?;
        Ok(bytes)
    }

    fn read_image<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), ArchiveError> {
        if self.image.is_some() {
            return Err(refused(IMAGE, "is there twice"));
        }
        let size = entry.size();
        if size > MAX_IMAGE_BYTES {
            return Err(refused(IMAGE, format!("is over {MAX_IMAGE_BYTES} bytes")));
        }
        let mut hashing = Hashing::new(&mut entry);
        match &self.image_to {
            Some(path) => copy_to_new(&mut hashing, path, |error| self.damaged(error))?,
            None => {
                io::copy(&mut hashing, &mut io::sink()).map_err(|error| self.damaged(&error))?;
            }
        }
        let (digest, read) = hashing.finish();
        self.whole(read, size)?;
        self.image = Some((digest, read));
        Ok(())
    }

    /// Extended headers are skipped, unless they would change what a member is.
    fn read_pax<R: Read>(&self, entry: tar::Entry<'_, R>) -> Result<(), ArchiveError> {
        let bytes = self.read_small("(extended header)", entry, MAX_PAX_BYTES)?;
        for extension in tar::PaxExtensions::new(&bytes) {
            let extension = extension.map_err(|error| self.damaged(&error))?;
            let key = String::from_utf8_lossy(extension.key_bytes()).into_owned();
            if matches!(key.as_str(), "path" | "size" | "linkpath") || key.starts_with("GNU.sparse")
            {
                let reason = format!("redefines `{key}`, which package files don't need");
                return Err(refused("(extended header)", reason));
            }
        }
        Ok(())
    }

    fn whole(&self, read: u64, size: u64) -> Result<(), ArchiveError> {
        if read == size {
            return Ok(());
        }
        Err(self.damaged(&io::Error::from(io::ErrorKind::UnexpectedEof)))
    }
}

fn unknown_member(name: &str) -> ArchiveError {
    refused(
        name,
        format!(
            "is not one of {INFO}, {IMAGE}, {RUN}, {COMPILE}, {ENVIRONMENT}; packages of plain \
             files, as the released Piston has them, must be packed into an image first"
        ),
    )
}

/// Copies to a new file and syncs it; tells errors of the source from errors of the file.
fn copy_to_new<R: Read>(
    source: &mut R,
    path: &Path,
    damaged: impl Fn(&io::Error) -> ArchiveError,
) -> Result<(), ArchiveError> {
    let mut file = File::create_new(path).at("create", path)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(&error)),
        };
        file.write_all(&buffer[..read]).at("write", path)?;
    }
    file.sync_all().at("sync", path)?;
    Ok(())
}

#[cfg(test)]
mod tests;
