//! The package manager: repositories, install and uninstall, what is published.
//!
//! Reading order: [`info`] and [`environment`] (what a package says), [`archive`] (its file),
//! [`index`] and `repo` (what can be had), [`resolve`] (what is needed), `fetch`, `install` and
//! `verify` (the pipeline Fetched -> Unpacked -> Checked -> Ready), `view` (layers), `state` (one
//! change at a time to database, images and filesystem), `installed` (what jobs hold). The way
//! of an install: [`Packages::install`] -> `repo.select` -> [`resolve::resolve`] -> `fetch.package`
//! -> `Fetched::unpack` -> `Unpacked::check` -> `Checked::ready` -> `Changing::install`.
//!
//! Invariants: only a package whose image the limited child has checked is registered; a crash
//! at any point leaves the state before or after, and garbage that the next start sweeps.

mod acquire;
pub mod archive;
mod data;
pub mod environment;
mod error;
mod extending;
mod fetch;
mod files;
mod flights;
pub mod index;
pub mod info;
mod install;
mod installed;
mod list;
pub mod make;
mod making;
mod opening;
mod planning;
mod progress;
mod recheck;
mod recompress;
mod remove;
mod repair;
mod repo;
pub mod resolve;
mod signature;
mod state;
mod verify;
mod version;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use piston_client::api;
use piston_client::ids::{Language, PackageRef, Version};
use tokio::sync::watch;

pub use data::{DataDirectory, DataLock, LockError, Staging};
pub use error::PackagesError;
pub use extending::Extension;
pub use fetch::{FetchError, Location, LocationError};
pub use files::PathError;
pub(crate) use files::{read_bounded, write_atomic};
pub use installed::{Entry, Installed, ProvidedRuntime};
pub use list::LimitsOf;
pub use making::{
    DEFAULT_BASE, INDEX_VARIABLE, MadeFile, Making, NO_SPACE, PISTON_V2_VARIABLE, RECIPE_FILES,
    REGISTRY_PASSWORD_VARIABLE, REGISTRY_VARIABLE,
};
pub use progress::{Planned, Step, Steps};
pub use recompress::recompress_image_main;
pub use repair::{LeftOut, Rebuilt, Repair, repair};
pub use repo::Builtin;
pub(crate) use signature::read_keys;
pub use signature::{SignatureError, Signer};
pub use verify::{VerifyError, verify_image_main};
pub use version::{InvalidRange, VersionRange};

use crate::changes::Changes;
use crate::store::Store;
use fetch::{Fetcher, Patience};
use flights::Flights;
use installed::Slot;
pub use installed::{CacheRule, CacheRules};
use progress::Board;
use recompress::Recompressor;
use repo::Repositories;
use state::{Found, Shown, State};
use verify::Verifier;

/// An installed package held while a job uses it: it is not unpublished before the lease ends.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The package.
    pub installed: Arc<Installed>,
    /// Returns the lease with its last clone; none where a test made it up.
    _hold: Option<Arc<Hold>>,
}

#[cfg(test)]
impl Lease {
    /// A lease of a package that no package manager knows.
    pub(crate) fn made_up(installed: Installed) -> Self {
        Self {
            installed: Arc::new(installed),
            _hold: None,
        }
    }
}

/// One count of a lease.
#[derive(Debug)]
struct Hold {
    state: Arc<State>,
    package: PackageRef,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(slot) = self.state.registry.release(&self.package) else {
            return;
        };
        // The package was uninstalled meanwhile and this was its last job.
        let state = Arc::clone(&self.state);
        let bury = move || state.bury(&slot);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(bury)),
            Err(_) => bury(),
        }
    }
}

/// The package manager. Shared behind an `Arc`.
#[derive(Debug)]
pub struct Packages {
    state: Arc<State>,
    repositories: Repositories,
    fetcher: Arc<Fetcher>,
    verifier: Verifier,
    installs: Flights<PackageRef>,
    downloads: Flights<PathBuf>,
    board: Board,
}

impl Packages {
    /// Opens the state in `data` (which the caller has locked), sweeps what a crash left, and
    /// publishes every installed package in `fs`. Images of the compressors that `recompress` names
    /// are written anew when they are installed. `builtin` says whether packages are made of what
    /// Debian has where no repository has them.
    pub async fn open(
        data: DataDirectory,
        fs: Arc<piston_fs::mount::Server>,
        rules: CacheRules,
        recompress: Vec<String>,
        builtin: Builtin,
    ) -> Result<Arc<Self>, PackagesError> {
        let recompressor = Recompressor::of_this_program(recompress);
        let verifier = Verifier::of_this_program().recompressing(recompressor);
        let shown = Shown {
            publisher: fs,
            rules,
        };
        Self::open_with(data, shown, verifier, Patience::default(), builtin).await
    }

    async fn open_with(
        data: DataDirectory,
        shown: Shown,
        verifier: Verifier,
        patience: Patience,
        builtin: Builtin,
    ) -> Result<Arc<Self>, PackagesError> {
        let state = opening::open(data, shown, &verifier).await?;
        let fetcher = Arc::new(Fetcher::new(patience));
        Ok(Arc::new(Self {
            repositories: Repositories::new(Arc::clone(&state), Arc::clone(&fetcher), builtin),
            state,
            fetcher,
            verifier,
            installs: Flights::default(),
            downloads: Flights::default(),
            board: Board::default(),
        }))
    }

    /// The database that holds the state, for others who keep something in it.
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.state.store)
    }

    /// Every installed package, by name, then version.
    pub fn list(&self) -> Vec<api::InstalledPackage> {
        list::packages(&self.state.registry.all())
    }

    /// Every installed package, with how long entries of its jobs last where the operator said so.
    pub fn installed(&self) -> BTreeMap<PackageRef, Option<Duration>> {
        let slots = self.state.registry.all();
        slots
            .iter()
            .map(|slot| (slot.record.package.clone(), slot.installed.time_to_live))
            .collect()
    }

    /// How often what is installed, or is set for it, changed so far.
    pub(crate) fn changes(&self) -> Changes {
        self.state.registry.changes()
    }

    /// Changes what the operator set for a package; jobs from now on see it.
    pub async fn set(
        &self,
        package: &PackageRef,
        change: api::PackagePatch,
    ) -> Result<(), PackagesError> {
        let exact = package.version.to_string().parse();
        let exact = exact.unwrap_or_else(|_| VersionRange::any());
        let not_installed = self.not_installed(package.language.as_str(), &exact);
        let (state, package) = (Arc::clone(&self.state), package.clone());
        blocking(move || match state.change().set(&package, change)? {
            Found::Yes => Ok(()),
            Found::No => Err(not_installed),
        })
        .await
    }

    /// Every runtime, by language, then version, with the limits that are given here.
    pub fn runtimes(&self, limits: &LimitsOf<'_>) -> Vec<api::Runtime> {
        list::runtimes(&self.state.registry.all(), limits)
    }

    /// The newest installed package of that *package* name that matches, or what extends it, held
    /// for a job.
    pub fn lease(&self, package: &Language, range: &VersionRange) -> Result<Lease, PackagesError> {
        let matches =
            |slot: &Slot| slot.installed.is(package) && range.matches(&slot.record.package.version);
        let lease = self.hold(matches);
        let lease = lease.ok_or_else(|| self.not_installed(package.as_str(), range))??;
        if lease.installed.run.is_none() {
            return Err(PackagesError::NotExecutable(
                lease.installed.package.clone(),
            ));
        }
        Ok(lease)
    }

    /// The newest installed package that *provides* that language or alias and matches, with the
    /// language's own name.
    pub fn lease_runtime(
        &self,
        language: &str,
        range: &VersionRange,
    ) -> Result<(Lease, Language), PackagesError> {
        let matches = |slot: &Slot| {
            slot.installed.runtime(language).is_some()
                && range.matches(&slot.record.package.version)
        };
        let lease = self.hold(matches);
        let lease = lease.ok_or_else(|| self.not_installed(language, range))??;
        let runtime = lease.installed.runtime(language);
        let name = runtime.map(|runtime| runtime.language.clone());
        let name = name.ok_or_else(|| self.not_installed(language, range))?;
        Ok((lease, name))
    }

    /// A lease on the newest package that matches, of those that extend each other the one that has
    /// it all; an error when that one is not usable.
    fn hold(&self, matches: impl Fn(&Slot) -> bool) -> Option<Result<Lease, PackagesError>> {
        let choose = |installed: &BTreeMap<PackageRef, Arc<Slot>>| {
            let found = installed.values().filter(|slot| matches(slot));
            let newest = found.max_by(|a, b| {
                let key =
                    |slot: &Slot| (slot.published.is_ok(), slot.record.package.version.clone());
                key(a).cmp(&key(b)).then_with(|| a.reach().cmp(&b.reach()))
            });
            newest.cloned()
        };
        let slot = self.state.registry.lease(choose)?;
        let lease = Lease {
            installed: Arc::clone(&slot.installed),
            _hold: Some(Arc::new(Hold {
                state: Arc::clone(&self.state),
                package: slot.record.package.clone(),
            })),
        };
        Some(match &slot.published {
            Ok(_) => Ok(lease),
            Err(reason) => Err(PackagesError::Unpublished {
                package: slot.record.package.clone(),
                reason: reason.clone(),
            }),
        })
    }

    fn not_installed(&self, name: &str, range: &VersionRange) -> PackagesError {
        let slots = self.state.registry.all();
        let named = |slot: &&Arc<Slot>| {
            slot.record.package.language.as_str() == name || slot.installed.runtime(name).is_some()
        };
        let mut installed: Vec<Version> = slots
            .iter()
            .filter(named)
            .map(|slot| slot.record.package.version.clone())
            .collect();
        installed.sort();
        let names = slots.iter().flat_map(|slot| {
            let runtimes = slot.installed.runtimes.iter();
            let languages = runtimes.map(|runtime| runtime.language.as_str());
            languages.chain([slot.record.package.language.as_str()])
        });
        PackagesError::NotInstalled {
            name: name.to_owned(),
            range: range.to_string(),
            installed,
            similar: error::similar(name, names),
        }
    }

    /// How far packages are that are being installed, now and from now on.
    pub fn watch(&self) -> watch::Receiver<Steps> {
        self.board.watch()
    }

    /// Uninstalls a package; with `cascade`, what depends on it as well.
    pub async fn uninstall(
        &self,
        package: &PackageRef,
        cascade: bool,
    ) -> Result<api::UninstallReply, PackagesError> {
        let (state, package) = (Arc::clone(&self.state), package.clone());
        let exact = package.version.to_string().parse();
        let exact = exact.unwrap_or_else(|_| VersionRange::any());
        let not_installed = self.not_installed(package.language.as_str(), &exact);
        blocking(move || remove::uninstall(&state, &package, cascade, not_installed)).await
    }

    /// Removes dependencies that nothing needs and nobody asked for.
    pub async fn gc(&self) -> Result<api::UninstallReply, PackagesError> {
        let state = Arc::clone(&self.state);
        blocking(move || remove::gc(&state)).await
    }

    /// Configured repositories.
    pub fn repositories(&self) -> Vec<api::Repository> {
        let records = self.repositories.records().unwrap_or_else(|error| {
            tracing::error!(%error, "repositories can't be listed");
            Vec::new()
        });
        records.into_iter().map(repo::shown).collect()
    }

    /// Adds or changes a repository.
    pub async fn set_repository(
        &self,
        name: &str,
        settings: &api::RepositorySettings,
    ) -> Result<api::Repository, PackagesError> {
        Ok(repo::shown(self.repositories.set(name, settings).await?))
    }

    /// Removes a repository.
    pub async fn remove_repository(&self, name: &str) -> Result<(), PackagesError> {
        self.repositories.remove(name).await
    }

    /// What a repository (or `all`) lists; `sync` downloads the index first.
    pub async fn available(
        &self,
        repository: &str,
        sync: bool,
    ) -> Result<Vec<api::AvailablePackage>, PackagesError> {
        let repositories = self.repositories.select(repository, sync).await?;
        let installed = |entry: &index::Entry| {
            let slot = self.state.registry.get(&entry.package);
            let slot = slot.filter(|slot| planning::is_listed_as(slot, entry))?;
            Some(slot.record.file)
        };
        Ok(repositories
            .iter()
            .flat_map(|repository| repo::listed(repository, installed))
            .collect())
    }

    /// An empty directory of its own below the data directory, for a package being made or
    /// uploaded; removed on drop.
    pub fn staging(&self) -> Result<Staging, PackagesError> {
        Ok(Staging::new(&self.state.data.staging())?)
    }
}

/// Runs what blocks on the disk on a thread for that; it runs to its end even when the caller
/// goes away.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackagesError> + Send + 'static,
) -> Result<T, PackagesError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|error| Err(PackagesError::Internal(error.to_string())))
}

#[cfg(test)]
mod tests;
