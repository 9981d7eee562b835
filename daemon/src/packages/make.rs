//! Makers: package files from what the host has.

use std::path::{Path, PathBuf};

use piston_client::ids::{Language, PackageRef};

/// A package file that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// What it holds.
    pub package: PackageRef,
    /// Where it is.
    pub file: PathBuf,
}

/// Why a package can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Replaced by the real variants.
    #[error("{0}")]
    Other(String),
}

/// Makes the package `name` from the host into the directory `out`.
///
/// Returns one package file; what it depends on is named in its `pkg-info.json` and made by a
/// call of its own.
pub fn from_host(
    _name: &Language,
    _program: Option<&Path>,
    _out: &Path,
) -> Result<Made, MakeError> {
    unimplemented!()
}
