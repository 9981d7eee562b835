//! The package manager: repositories, install and uninstall, what is published.

pub mod archive;
mod data;
pub mod environment;
mod files;
pub mod info;
pub mod make;
pub mod resolve;
mod verify;
mod version;

pub use data::{DataDirectory, DataLock, LockError, Staging};
pub use files::PathError;
pub use verify::{VerifyError, verify_image_main};
pub use version::{InvalidRange, VersionRange};

use std::path::PathBuf;
use std::sync::Arc;

use piston_client::api;
use piston_client::ids::{Digest, Language, PackageRef};

/// An installed package, as jobs and listings need it. Immutable; shared.
#[derive(Debug)]
pub struct Installed {
    /// Its name and version.
    pub package: PackageRef,
    /// Path of its view below the filesystem's root.
    pub view: String,
    /// What starts a job's program; none for a base package.
    pub run: Option<Entry>,
    /// What compiles.
    pub compile: Option<Entry>,
    /// The environment, worked out at install time: its own, then its dependencies'.
    pub environment: Vec<(String, String)>,
    /// Languages that it runs.
    pub runtimes: Vec<ProvidedRuntime>,
    /// Image digests of the view's layers, lowest first.
    pub layers: Vec<Digest>,
    /// Default cache level.
    pub cache: api::CacheLevel,
    /// Globs of what a compile leaves for run; empty means everything.
    pub artifacts: Vec<String>,
}

/// A language that a package provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvidedRuntime {
    /// The language.
    pub language: Language,
    /// Other names of it.
    pub aliases: Vec<String>,
    /// Its `limit_overrides`, by the released Piston's names (e.g. `run_timeout`), checked.
    pub limits: std::collections::BTreeMap<String, i64>,
}

/// How a package compiles or runs a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The script `/piston/packages/{language}/{version}/{run,compile}`, started directly.
    Script(String),
    /// The same, started as `/bin/bash FILE`: it has neither an ELF header nor `#!`.
    BashScript(String),
    /// An argv with `{main}`, `{files}`, `{args}`.
    Command(Vec<String>),
}

/// An installed package held while a job uses it: it is not unpublished before the lease ends.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The package.
    pub installed: Arc<Installed>,
}

/// Why an operation on packages fails; [`Self::code`] is what a client sees.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// Replaced by the real variants.
    #[error("{0}")]
    Other(String),
}

impl PackagesError {
    /// The stable code for clients.
    pub fn code(&self) -> api::Code {
        unimplemented!()
    }
}

/// The package manager. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Packages {}

impl Packages {
    /// Opens the state in `data` (which the caller has locked), sweeps what a crash left, and
    /// publishes every installed package in `fs`.
    pub async fn open(
        _data: DataDirectory,
        _fs: Arc<piston_fs::mount::Server>,
    ) -> Result<Arc<Self>, PackagesError> {
        unimplemented!()
    }

    /// Every installed package, by name, then version.
    pub fn list(&self) -> Vec<api::InstalledPackage> {
        unimplemented!()
    }

    /// Every runtime, by language, then version.
    pub fn runtimes(&self) -> Vec<api::Runtime> {
        unimplemented!()
    }

    /// The newest installed package of that *package* name that matches, held for a job.
    pub fn lease(
        &self,
        _package: &Language,
        _range: &VersionRange,
    ) -> Result<Lease, PackagesError> {
        unimplemented!()
    }

    /// The newest installed package that *provides* that language or alias and matches.
    pub fn lease_runtime(
        &self,
        _language: &str,
        _range: &VersionRange,
    ) -> Result<(Lease, Language), PackagesError> {
        unimplemented!()
    }

    /// Installs the newest match from a repository (or `all`) with its dependencies.
    pub async fn install(
        &self,
        _repository: &str,
        _package: &Language,
        _range: &VersionRange,
    ) -> Result<api::InstallReply, PackagesError> {
        unimplemented!()
    }

    /// Installs a package file (moved into the data directory); dependencies must be installed.
    /// `requested`: asked for by name, rather than as a dependency.
    pub async fn install_file(
        &self,
        _file: PathBuf,
        _requested: bool,
    ) -> Result<api::InstallReply, PackagesError> {
        unimplemented!()
    }

    /// Uninstalls a package; with `cascade`, what depends on it as well.
    pub async fn uninstall(
        &self,
        _package: &PackageRef,
        _cascade: bool,
    ) -> Result<api::UninstallReply, PackagesError> {
        unimplemented!()
    }

    /// Removes dependencies that nothing needs and nobody asked for.
    pub async fn gc(&self) -> Result<api::UninstallReply, PackagesError> {
        unimplemented!()
    }

    /// Configured repositories.
    pub fn repositories(&self) -> Vec<api::Repository> {
        unimplemented!()
    }

    /// Adds or changes a repository.
    pub async fn set_repository(
        &self,
        _name: &str,
        _settings: &api::RepositorySettings,
    ) -> Result<api::Repository, PackagesError> {
        unimplemented!()
    }

    /// Removes a repository.
    pub async fn remove_repository(&self, _name: &str) -> Result<(), PackagesError> {
        unimplemented!()
    }

    /// What a repository (or `all`) lists; `sync` downloads the index first.
    pub async fn available(
        &self,
        _repository: &str,
        _sync: bool,
    ) -> Result<Vec<api::AvailablePackage>, PackagesError> {
        unimplemented!()
    }

    /// An empty directory of its own below the data directory, for a package being made or
    /// uploaded; removed on drop.
    pub fn staging(&self) -> Result<Staging, PackagesError> {
        unimplemented!()
    }
}
