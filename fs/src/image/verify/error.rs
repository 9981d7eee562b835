//! Why an image is refused: each variant says what, where, and against which rule.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image is refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The image can't be read or the index can't be written.
    #[error("cannot access {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not a squashfs image.
    #[error("not a squashfs image: it does not start with a squashfs superblock")]
    NotSquashfs,
    /// The image is of a squashfs version other than 4.0.
    #[error("squashfs {major}.{minor} images are not supported; repack with squashfs 4.0")]
    Version {
        /// Its major version.
        major: u16,
        /// Its minor version.
        minor: u16,
    },
    /// The image is compressed with something that is not supported.
    #[error("{name} images are not supported; repack with zstd")]
    Compressor {
        /// Name of the compressor, or its number.
        name: String,
    },
    /// A part of the image breaks a rule of the format.
    #[error("image damaged: {part} at {at}: {reason}")]
    Damaged {
        /// Which part: a table, an inode, a block.
        part: &'static str,
        /// Where in the image file, or which number of its kind.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// A directory entry has a name that no file can have.
    #[error("image refused: name {name:?} in directory {directory:?}: {reason}")]
    Name {
        /// The name, with unprintable bytes escaped.
        name: String,
        /// The directory's own name, escaped likewise; empty for the root.
        directory: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The image has more of something than the bounds allow.
    #[error("image refused: more than {limit} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
}

impl VerifyError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn damaged(part: &'static str, at: u64, reason: impl Into<String>) -> Self {
        Self::Damaged {
            part,
            at,
            reason: reason.into(),
        }
    }
}
