//! A place for what a maker downloads and unpacks.
//!
//! Invariant: no name of an archive is ever used as a path of the host: contents go to numbered
//! files. Everything is gone when the [`Work`] is dropped.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use super::super::files::{AtPath as _, PathError};

/// A directory for what is downloaded and unpacked; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Work {
    directory: PathBuf,
    /// For downloads.
    pub(super) downloads: PathBuf,
    /// For what is unpacked.
    pub(super) spool: PathBuf,
}

impl Work {
    /// A directory inside of `out`.
    pub(super) fn new(out: &Path) -> Result<Self, PathError> {
        let directory = out.join(format!(".piston-work-{}", std::process::id()));
        let (downloads, spool) = (directory.join("downloads"), directory.join("spool"));
        for directory in [out, &directory, &downloads, &spool] {
            fs::create_dir_all(directory).at("create", directory)?;
        }
        Ok(Self {
            directory,
            downloads,
            spool,
        })
    }
}

impl Work {
    /// A folder of its own in it.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, PathError> {
        let folder = self.directory.join(name);
        fs::create_dir_all(&folder).at("create", &folder)?;
        Ok(folder)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What can't be removed says nothing about what was made.
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// Where contents of files go: a directory of numbered files.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    files: u64,
}

impl Spool {
    /// Files will be numbered from one; the directory has to be there, and empty.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            files: 0,
        }
    }

    /// An error of writing here.
    pub(super) fn error(&self, source: io::Error) -> PathError {
        PathError {
            doing: "write to",
            path: self.directory.clone(),
            source,
        }
    }

    /// Writes a file of these bytes.
    pub(super) fn keep(&mut self, bytes: &mut (impl Read + ?Sized)) -> io::Result<PathBuf> {
        self.files += 1;
        let path = self.directory.join(self.files.to_string());
        let mut file = BufWriter::new(File::create_new(&path)?);
        io::copy(bytes, &mut file)?;
        file.flush()?;
        Ok(path)
    }
}
