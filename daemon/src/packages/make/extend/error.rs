//! Why a package can't be extended.

use piston_fs::image::ImageError;

use super::super::super::archive::ArchiveError;
use super::super::super::fetch::FetchError;
use super::super::super::files::PathError;
use super::super::tar_reader::{TarError, told};

/// Why a package can't be extended.
#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    /// The package is not one that such libraries can be added to.
    #[error("cannot extend {package}: {reason}")]
    Target {
        /// Which package.
        package: String,
        /// Why not.
        reason: String,
    },
    /// What was asked for, or what a library says that it needs, is not understood.
    #[error("`{text}` is refused: {reason}")]
    Requirement {
        /// As it was written, shortened.
        text: String,
        /// Why.
        reason: String,
    },
    /// The index has no such library.
    #[error("{index} has no {project}{}: check how it is spelt", needed(.by))]
    Unknown {
        /// Where it was looked for.
        index: String,
        /// What.
        project: String,
        /// Who needs it; empty when it was asked for.
        by: String,
    },
    /// There are no versions that satisfy everybody.
    #[error("{0}")]
    Clash(String),
    /// A file of the index is not what it has to be.
    #[error("{file} is refused: {reason}")]
    File {
        /// Which file.
        file: String,
        /// Why.
        reason: String,
    },
    /// It would take more than is allowed.
    #[error("{what}, which is more than the {most} that are allowed")]
    TooMuch {
        /// What it would take.
        what: String,
        /// How much is allowed.
        most: String,
    },
    /// A download.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file of ours.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An image of the package that is extended.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The package file that is extended.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

fn needed(by: &str) -> String {
    if by.is_empty() {
        String::new()
    } else {
        format!(", which {by} needs")
    }
}

impl ExtendError {
    /// A requirement that is not understood.
    pub(super) fn requirement(text: &str, reason: impl Into<String>) -> Self {
        Self::Requirement {
            text: text.chars().take(200).collect(),
            reason: reason.into(),
        }
    }

    /// An archive that is not taken.
    pub(super) fn tar(file: &str, error: TarError) -> Self {
        match error {
            TarError::Damaged(error) => Self::file(file, told(&error)),
            TarError::Path(error) => error.into(),
            TarError::Entry { entry, reason } => {
                Self::file(file, format!("its entry `{entry}` {reason}"))
            }
        }
    }

    /// A file that is not taken.
    pub(super) fn file(file: &str, reason: impl Into<String>) -> Self {
        Self::File {
            file: file.chars().take(200).collect(),
            reason: reason.into(),
        }
    }
}
