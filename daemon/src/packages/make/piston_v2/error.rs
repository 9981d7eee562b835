//! Why no package can be made of one of the released Piston's.

use super::super::super::fetch::FetchError;
use super::super::super::files::PathError;

/// Why no package can be made of one of the released Piston's.
#[derive(Debug, thiserror::Error)]
pub enum PistonV2Error {
    /// The package is not one, or can't be taken.
    #[error("cannot take {package}: {reason}")]
    Package {
        /// Which.
        package: String,
        /// Why not.
        reason: String,
    },
    /// The index can't be used, or does not have it.
    #[error("cannot take a package of the index {index}: {reason}")]
    Index {
        /// Which index.
        index: String,
        /// Why not.
        reason: String,
    },
    /// A download.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file of this machine.
    #[error(transparent)]
    Path(#[from] PathError),
}
