//! Installing as a whole: from a repository with its dependencies, or from a file.
//!
//! Strings the steps of the other modules together; what each step guarantees is theirs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use piston_client::api::{InstallPhase, InstallReply, InstallState, PlannedPackage};
use piston_client::ids::{Language, PackageRef};
use piston_client::units::Bytes;

use super::data::Staging;
use super::error::{PackagesError, similar};
use super::fetch::{FetchError, Wanted};
use super::files;
use super::index::{self, Checksum, Entry};
use super::install::{self, Checked, Fetched, Origin};
use super::installed::Slot;
use super::progress::{Planned, Row};
use super::repo::{ALL, Loaded};
use super::resolve::{self, Candidate, Catalog, Pick, Place, ResolveError, Shelf};
use super::state::State;
use super::version::VersionRange;
use super::{Packages, blocking};

/// Downloads at once.
const DOWNLOADS: usize = 3;
/// Longest package file when the index does not say how long it is.
const MAX_PACKAGE_BYTES: u64 = 16 << 30;
/// Free space that is left alone.
const SPARE_BYTES: u64 = 16 << 20;

/// Whether what is installed is the very package of an index entry.
pub(super) fn is_listed_as(slot: &Slot, entry: &Entry) -> bool {
    match &entry.checksum {
        Checksum::Sha256(digest) => slot.record.file == *digest,
        // Only sha256 is recorded; a name and version that came from here are trusted to stay.
        Checksum::Sha512(_) => match entry.checksums.get("sha256") {
            Some(sha256) => slot.record.file.to_string() == *sha256,
            None => true,
        },
    }
}

impl Packages {
    /// Installs a package file (moved into the data directory); dependencies must be installed.
    /// `requested`: asked for by name, rather than as a dependency.
    pub async fn install_file(
        &self,
        file: PathBuf,
        requested: bool,
    ) -> Result<InstallReply, PackagesError> {
        self.install_file_told(file, requested, Planned::default())
            .await
    }

    /// The same; tells what it is as soon as its metadata is read.
    pub async fn install_file_told(
        &self,
        file: PathBuf,
        requested: bool,
        planned: Planned,
    ) -> Result<InstallReply, PackagesError> {
        let staging = self.staging()?;
        let fetched = blocking(move || {
            let inside = staging.path.join("upload");
            install::take_file(&file, &inside)?;
            Ok(Fetched {
                file: inside,
                origin: Origin {
                    repository: None,
                    expected: None,
                    requested,
                },
                staging,
                digest: None,
            })
        })
        .await?;
        let unpacked = blocking(move || fetched.unpack()).await?;
        let checking = unpacked.package().map(|package| {
            planned.tell(|| vec![given(package)]);
            self.board.row(package, InstallPhase::Verify)
        });
        let checked = unpacked.check(&self.verifier).await?;
        let package = checked.info.package.clone();
        let row = checking.unwrap_or_else(|| self.board.row(&package, InstallPhase::Publish));
        row.begin(InstallPhase::Publish, None);
        let new = self.commit(vec![(checked, row)], Vec::new()).await?;
        Ok(reply(package, new))
    }

    /// Installs the newest match from a repository (or `all`) with its dependencies.
    pub async fn install(
        &self,
        repository: &str,
        package: &Language,
        range: &VersionRange,
    ) -> Result<InstallReply, PackagesError> {
        self.install_told(repository, (package, range), Planned::default())
            .await
    }

    /// The same; tells what is to be installed as soon as that is known.
    pub async fn install_told(
        &self,
        repository: &str,
        (package, range): (&Language, &VersionRange),
        planned: Planned,
    ) -> Result<InstallReply, PackagesError> {
        let sources = self.sources(repository).await?;
        let picks = self.plan(&sources, repository, package, range)?;
        let wanted = picks.last().map(|pick| pick.package.clone());
        let wanted =
            wanted.ok_or_else(|| PackagesError::Internal("a plan without a package".to_owned()))?;
        // Told before the wait for whoever installs the same: it is that installation's steps, too.
        let missing = self.missing(&picks, &sources)?;
        self.ensure_space(&missing)?;
        planned.tell(|| missing.iter().copied().map(listed).collect());
        let keys = picks.iter().map(|pick| pick.package.clone()).collect();
        let _flight = self.installs.take_all(keys).await;

        let missing = self.missing(&picks, &sources)?;
        self.state.data.sweep_downloads()?;
        self.ensure_space(&missing)?;
        // Collected: with the closure alive across the await this future would not be `Send` for
        // every lifetime, as the compiler sees it.
        let downloads: Vec<_> = missing
            .into_iter()
            .map(|(repository, entry)| {
                let requested = entry.package == wanted;
                self.download(repository, entry, requested)
            })
            .collect();
        let checked: Vec<(Checked, Row)> = futures_util::stream::iter(downloads)
            .buffered(DOWNLOADS)
            .try_collect()
            .await?;
        let pins = picks.into_iter().map(|pick| pick.package).collect();
        let new = self.commit(checked, pins).await?;
        if !new.contains(&wanted) {
            let (state, wanted) = (Arc::clone(&self.state), wanted.clone());
            blocking(move || state.change().request(&wanted)).await?;
        }
        Ok(reply(wanted, new))
    }

    /// The indexes to choose from, in order; the one that was named must be there.
    async fn sources(&self, repository: &str) -> Result<Vec<Arc<Loaded>>, PackagesError> {
        if repository != ALL {
            self.repositories.load(repository).await?;
        }
        self.repositories.select(ALL, false).await
    }

    fn plan(
        &self,
        sources: &[Arc<Loaded>],
        repository: &str,
        package: &Language,
        range: &VersionRange,
    ) -> Result<Vec<Pick>, PackagesError> {
        let installed = installed_shelf(&self.state);
        let catalog = Catalog {
            repositories: sources.iter().map(|source| &source.shelf).collect(),
            installed: &installed,
        };
        let asked = |name: &str| repository == ALL || repository == name;
        let from: Vec<usize> = (0..sources.len())
            .filter(|&n| asked(&sources[n].name))
            .collect();
        resolve::resolve(&catalog, &from, package, range).map_err(|error| match error {
            error @ ResolveError::NotListed { .. } => {
                let names = from
                    .iter()
                    .flat_map(|&n| index::languages(&sources[n].index));
                PackagesError::NotListed {
                    reason: Box::new(error),
                    similar: similar(package.as_str(), names),
                    repositories: from.iter().map(|&n| sources[n].name.clone()).collect(),
                }
            }
            error => error.into(),
        })
    }

    /// The picks that are to be downloaded, dependencies first.
    fn missing<'a>(
        &self,
        picks: &[Pick],
        sources: &'a [Arc<Loaded>],
    ) -> Result<Vec<(&'a Loaded, &'a Entry)>, PackagesError> {
        let mut missing = Vec::new();
        for pick in picks {
            let Place::Repository(number) = pick.place else {
                continue;
            };
            let source = &sources[number];
            let Some(entry) = source.index.entries.get(&pick.package) else {
                let text = format!("{} was chosen and is not listed", pick.package);
                return Err(PackagesError::Internal(text));
            };
            match self.state.registry.get(&pick.package) {
                None => missing.push((&**source, entry)),
                Some(slot) if is_listed_as(&slot, entry) => {}
                Some(slot) => {
                    return Err(PackagesError::Listed {
                        package: Box::new(pick.package.clone()),
                        repository: source.name.clone(),
                        installed: slot.record.file,
                        listed: entry.checksum.hex(),
                    });
                }
            }
        }
        Ok(missing)
    }

    /// Package files and images are on the disk together for a moment.
    fn ensure_space(&self, missing: &[(&Loaded, &Entry)]) -> Result<(), PackagesError> {
        let sizes = missing.iter().map(|(_, entry)| {
            let packed = entry.compressed_size.unwrap_or(entry.size);
            let there = files::length(&self.state.data.part(&entry.checksum)).unwrap_or(0);
            packed.saturating_sub(there).saturating_add(entry.size)
        });
        let needed = sizes.fold(SPARE_BYTES, u64::saturating_add);
        let path = &self.state.data.root;
        let free = files::free_space(path)?;
        if missing.is_empty() || needed <= free {
            return Ok(());
        }
        Err(PackagesError::NoSpace {
            needed,
            free,
            path: path.clone(),
        })
    }

    async fn download(
        &self,
        repository: &Loaded,
        entry: &Entry,
        requested: bool,
    ) -> Result<(Checked, Row), PackagesError> {
        let row = self.board.row(&entry.package, InstallPhase::Download);
        row.begin(InstallPhase::Download, entry.compressed_size);
        let from = repository.location(entry)?;
        let file = self.state.data.part(&entry.checksum);
        // Another package may be of the same file.
        let _flight = self.downloads.take(file.clone()).await;
        let wanted = Wanted {
            from: &from,
            limit: most_bytes(entry),
            checksum: &entry.checksum,
            told: &|bytes| row.done(bytes),
        };
        let fetched = self.fetcher.package(&wanted, &file);
        fetched.await.map_err(|reason| match reason {
            FetchError::Checksum {
                algorithm,
                want,
                got,
                ..
            } => PackagesError::Checksum {
                package: Box::new(entry.package.clone()),
                repository: repository.name.clone(),
                algorithm,
                want,
                got,
            },
            reason => PackagesError::Fetch {
                repository: repository.name.clone(),
                reason,
            },
        })?;
        let downloaded = Downloaded(file.clone());
        tracing::info!(pkg = %entry.package, repository = repository.name, "downloaded");
        let origin = Origin {
            repository: Some(repository.name.clone()),
            expected: Some(entry.package.clone()),
            requested,
        };
        let fetched = Fetched {
            file,
            origin,
            staging: Staging::new(&self.state.data.staging())?,
            digest: match entry.checksum {
                Checksum::Sha256(digest) => Some(digest),
                Checksum::Sha512(_) => None,
            },
        };
        row.begin(InstallPhase::Unpack, None);
        let unpacked = blocking(move || {
            // Not before the thread is done with it.
            let _downloaded = downloaded;
            fetched.unpack()
        })
        .await?;
        row.begin(InstallPhase::Verify, None);
        let checked = unpacked.check(&self.verifier).await?;
        row.begin(InstallPhase::Publish, None);
        Ok((checked, row))
    }

    /// Installs what is new of the checked packages (dependencies first); returns that.
    async fn commit(
        &self,
        checked: Vec<(Checked, Row)>,
        pins: Vec<PackageRef>,
    ) -> Result<Vec<PackageRef>, PackagesError> {
        // The rows stay until all is done.
        let (checked, _rows): (Vec<Checked>, Vec<Row>) = checked.into_iter().unzip();
        let packages: Vec<_> = checked.iter().map(|c| c.info.package.clone()).collect();
        self.state.registry.settled(&packages).await;
        let state = Arc::clone(&self.state);
        blocking(move || commit(&state, &checked, &pins)).await
    }
}

/// A whole package file among the downloads, removed on drop: only one that was cut off is kept.
struct Downloaded(PathBuf);

impl Drop for Downloaded {
    fn drop(&mut self) {
        if let Err(error) = files::remove_if_there(&self.0) {
            // The next start sweeps it some day.
            tracing::warn!(error = %crate::error::chain(&error), "a download stays");
        }
    }
}

/// The most bytes that a package file may have, from what the index says.
fn most_bytes(entry: &Entry) -> u64 {
    match (entry.compressed_size, entry.size) {
        (Some(exact), _) => exact,
        (None, 0) => MAX_PACKAGE_BYTES,
        // Packed it is hardly longer than unpacked.
        (None, size) => size.saturating_add(size / 8).saturating_add(1 << 20),
    }
}

/// A package of a plan.
fn listed((repository, entry): (&Loaded, &Entry)) -> PlannedPackage {
    PlannedPackage {
        package: entry.package.clone(),
        repository: Some(repository.name.clone()),
        length: entry.compressed_size.map(Bytes),
    }
}

/// A package that is in our hands.
fn given(package: &PackageRef) -> PlannedPackage {
    PlannedPackage {
        package: package.clone(),
        repository: None,
        length: None,
    }
}

fn reply(package: PackageRef, new: Vec<PackageRef>) -> InstallReply {
    InstallReply {
        state: if new.contains(&package) {
            InstallState::Installed
        } else {
            InstallState::AlreadyInstalled
        },
        dependencies: new.into_iter().filter(|other| *other != package).collect(),
        package,
    }
}

fn installed_shelf(state: &State) -> Shelf {
    let slots = state.registry.all();
    let candidates = slots.iter().map(|slot| Candidate {
        package: slot.record.package.clone(),
        dependencies: slot.info.dependencies.clone(),
    });
    candidates.collect()
}

fn commit(
    state: &State,
    checked: &[Checked],
    pins: &[PackageRef],
) -> Result<Vec<PackageRef>, PackagesError> {
    let changing = state.change();
    let mut new = Vec::new();
    for checked in checked {
        let package = &checked.info.package;
        match state.registry.get(package) {
            Some(slot) => {
                checked.same_as(&slot)?;
                if checked.origin.requested {
                    changing.request(package)?;
                }
            }
            None if state.registry.is_retiring(package) => {
                return Err(PackagesError::Retiring(package.clone()));
            }
            None => new.push(checked),
        }
    }
    let mut shelf = installed_shelf(state);
    let mut environments = BTreeMap::new();
    for checked in &new {
        shelf.insert(Candidate {
            package: checked.info.package.clone(),
            dependencies: checked.info.dependencies.clone(),
        });
        environments.insert(checked.info.package.clone(), checked.own_environment()?);
    }
    // What the plan chose holds, even where something newer is installed as well.
    for package in pins {
        shelf.pin(package);
    }
    let environment = |package: &PackageRef| {
        let new = environments.get(package).cloned();
        new.or_else(|| Some(state.registry.get(package)?.record.own_environment.clone()))
    };
    let ready = new
        .iter()
        .map(|checked| checked.ready(&shelf, &environment))
        .collect::<Result<Vec<_>, _>>()?;
    let packages = ready
        .iter()
        .map(|ready| ready.record.package.clone())
        .collect();
    if !ready.is_empty() {
        changing.install(&ready)?;
    }
    Ok(packages)
}
