//! Why a package can't be made, in words that say what to do.

use std::path::PathBuf;

use piston_fs::image::pack::PackError;

use super::super::archive::ArchiveError;
use super::super::info::InfoError;
use super::debian::DebianError;
use super::elf::ElfError;
use super::extend::ExtendError;
use super::oci::OciError;
use super::piston_v2::PistonV2Error;

/// Why a package can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Nothing of that name can be made.
    #[error("cannot make `{name}` from the host: {hint}")]
    Unknown {
        /// The name.
        name: String,
        /// What can be made, and which of it was probably meant.
        hint: String,
    },
    /// The host lacks the program that the package is about.
    #[error("the host has no {program}; install it first: {install}")]
    NotInstalled {
        /// The program.
        program: String,
        /// How this host's distribution installs it.
        install: String,
    },
    /// A program of the host does not answer.
    #[error("{program} does not answer as expected: {reason}")]
    Answer {
        /// The program.
        program: PathBuf,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The program is of a kind that no package can be made of.
    #[error("cannot make a package of {program}: {reason}")]
    Unsupported {
        /// The program.
        program: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A version of the host that is not one.
    #[error("{what} has the version {text:?}, which cannot be read as a semver version")]
    Version {
        /// Whose version.
        what: String,
        /// The version as the host has it.
        text: String,
    },
    /// A file that is needed can't be looked at or read.
    #[error("cannot read {path}, which the package needs")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is needed lies where packages take nothing from (home directories, most of
    /// `/etc`), or is neither a file nor a directory.
    #[error("{path} cannot be packed: {reason}")]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A recipe can't be read or followed.
    #[error("{recipe} is refused: {reason}")]
    Recipe {
        /// Which recipe.
        recipe: String,
        /// Why.
        reason: String,
    },
    /// A file that was named as the base is none.
    #[error("{path} is no base package made of a distribution's packages: {reason}")]
    Base {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// What was made is nothing that could be installed.
    #[error(transparent)]
    Info(#[from] InfoError),
    /// Debian's packages.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// Adding libraries to a package.
    #[error(transparent)]
    Extend(#[from] ExtendError),
    /// Taking an image apart.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// One of the released Piston's packages.
    #[error(transparent)]
    PistonV2(#[from] PistonV2Error),
    /// The package file can't be written.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program or library of the host is damaged or incomplete.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The image can't be written.
    #[error(transparent)]
    Image(#[from] PackError),
    /// The package file can't be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}
