//! Installing as a whole: from a repository with its dependencies, or from a file.
//!
//! Strings the steps of the other modules together; what each step guarantees is theirs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use piston_client::api::{InstallPhase, InstallReply, InstallState, PlannedPackage};
use piston_client::ids::{Language, PackageRef};

use super::data::Staging;
use super::error::PackagesError;
use super::fetch::{FetchError, Wanted};
use super::index::{Checksum, Entry, Source};
use super::install::{self, Checked, Fetched, Origin};
use super::making::Making;
use super::planning::{Missing, installed_shelf};
use super::progress::{Planned, Row};
use super::resolve::{Candidate, Trust};
use super::state::State;
use super::version::VersionRange;
use super::{Packages, blocking};

/// Downloads at once.
const DOWNLOADS: usize = 3;
/// Longest package file when the index does not say how long it is.
const MAX_PACKAGE_BYTES: u64 = 16 << 30;

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
                    signed_by: None,
                },
                staging,
                digest: None,
            })
        })
        .await?;
        let unpacked = blocking(move || fetched.unpack()).await?;
        let checking = unpacked.package().map(|package| {
            planned.tell(|| vec![given(package)]);
            self.board.row(package, InstallPhase::Verify, None)
        });
        let checked = unpacked.check(&self.verifier).await?;
        let package = checked.info.package.clone();
        let publish = InstallPhase::Publish;
        let row = match checking {
            Some(row) => {
                row.begin(publish, None);
                row
            }
            None => self.board.row(&package, publish, None),
        };
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
        let plan = self.plan(repository, package, range).await?;
        let wanted = plan.wanted()?;
        // Told before the wait for whoever installs the same: it is that installation's steps, too.
        let missing = self.missing(&plan)?;
        self.ensure_space(&missing)?;
        planned.tell(|| missing.iter().map(Missing::listed).collect());
        let _flight = self.installs.take_all(plan.packages()).await;

        let missing = self.missing(&plan)?;
        self.state.data.sweep_downloads()?;
        self.ensure_space(&missing)?;
        // Collected: with the closure alive across the await this future would not be `Send` for
        // every lifetime, as the compiler sees it.
        let downloads: Vec<_> = missing
            .iter()
            .filter_map(|missing| {
                let requested = missing.entry.package == wanted;
                self.download(missing, requested)
            })
            .collect();
        let mut checked: Vec<(Checked, Row)> = futures_util::stream::iter(downloads)
            .buffered(DOWNLOADS)
            .try_collect()
            .await?;
        for missing in &missing {
            if let Source::Recipe(recipe) = &missing.entry.source {
                let base = self.base_of(missing, &checked);
                let requested = missing.entry.package == wanted;
                let made = self.build(missing, recipe, base.as_deref(), requested);
                checked.push(made.await?);
            }
        }
        checked.sort_by_key(|(checked, _)| plan.place_of(&checked.info.package));
        let picks = plan.picks;
        let pins = picks.into_iter().map(|pick| pick.package).collect();
        let new = self.commit(checked, pins).await?;
        if !new.contains(&wanted) {
            let (state, wanted) = (Arc::clone(&self.state), wanted.clone());
            blocking(move || state.change().request(&wanted)).await?;
        }
        Ok(reply(wanted, new))
    }

    /// Downloads and checks what is a package file; nothing of what is made.
    fn download<'a>(
        &'a self,
        missing: &'a Missing<'_>,
        requested: bool,
    ) -> Option<impl Future<Output = Result<(Checked, Row), PackagesError>> + use<'a>> {
        let Source::File { download, checksum } = &missing.entry.source else {
            return None;
        };
        Some(self.fetch(missing, (download, checksum), requested))
    }

    async fn fetch(
        &self,
        missing: &Missing<'_>,
        (download, checksum): (&str, &Checksum),
        requested: bool,
    ) -> Result<(Checked, Row), PackagesError> {
        let Missing {
            repository, entry, ..
        } = missing;
        let total = entry.compressed_size;
        let row = self
            .board
            .row(&entry.package, InstallPhase::Download, total);
        let from = repository.location(download)?;
        let file = self.state.data.part(checksum);
        // Another package may be of the same file.
        let _flight = self.downloads.take(file.clone()).await;
        let wanted = Wanted {
            from: &from,
            limit: most_bytes(entry),
            checksum,
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
            reason => PackagesError::Download {
                package: Box::new(entry.package.clone()),
                repository: repository.name.clone(),
                reason,
            },
        })?;
        let mut staging = Staging::new(&self.state.data.staging())?;
        staging.take_along(file.clone());
        tracing::info!(pkg = %entry.package, repository = repository.name, "downloaded");
        let signed_by = self.signer(missing, file.clone()).await?;
        let fetched = Fetched {
            file,
            origin: Origin {
                signed_by,
                ..missing.origin(requested)
            },
            staging,
            digest: match checksum {
                Checksum::Sha256(digest) => Some(*digest),
                Checksum::Sha512(_) => None,
            },
        };
        let checked = self.check(fetched, row).await;
        checked.map_err(|reason| PackagesError::Downloaded {
            repository: repository.name.clone(),
            reason: Box::new(reason),
        })
    }

    /// Who signed a package file, where its repository's have to be signed.
    async fn signer(
        &self,
        missing: &Missing<'_>,
        file: PathBuf,
    ) -> Result<Option<String>, PackagesError> {
        let Some(keys) = missing.repository.keys.clone() else {
            return Ok(None);
        };
        let signature = missing.entry.signature.clone().unwrap_or_default();
        let checked = blocking(move || Ok(keys.check(&signature, || File::open(&file)))).await?;
        match checked {
            Ok(signed) => Ok(Some(signed.by)),
            Err(reason) => Err(PackagesError::Signature {
                what: missing.entry.package.to_string(),
                repository: missing.repository.name.clone(),
                reason,
            }),
        }
    }

    /// Makes and checks what a recipe of ours describes.
    async fn build(
        &self,
        missing: &Missing<'_>,
        recipe: &str,
        base: Option<&str>,
        requested: bool,
    ) -> Result<(Checked, Row), PackagesError> {
        let package = &missing.entry.package;
        let row = self.board.row(package, InstallPhase::Make, None);
        let what = Making::Debian {
            packages: vec![recipe.to_owned()],
            name: None,
            run: None,
        };
        let time = self.repositories.builtin().unwrap_or_default();
        let made = self.make_on(&what, base, time).await?;
        for note in &made.notes {
            tracing::info!(pkg = %package, note, "made");
        }
        let fetched = Fetched {
            file: made.file.clone(),
            origin: missing.origin(requested),
            staging: Staging::new(&self.state.data.staging())?,
            digest: None,
        };
        let checked = self.check(fetched, row).await;
        drop(made);
        checked
    }

    /// The metadata of what a package that is to be made stands on: made just before, or installed.
    fn base_of(&self, missing: &Missing<'_>, checked: &[(Checked, Row)]) -> Option<String> {
        let base = missing.pick.dependencies.first()?;
        let made = checked.iter().find(|(made, _)| made.info.package == *base);
        match made {
            Some((made, _)) => Some(made.info_text()),
            None => Some(self.state.registry.get(base)?.record.info.clone()),
        }
    }

    /// Unpacks and checks a file.
    async fn check(&self, fetched: Fetched, row: Row) -> Result<(Checked, Row), PackagesError> {
        row.begin(InstallPhase::Unpack, None);
        let unpacked = blocking(move || fetched.unpack()).await?;
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

/// The most bytes that a package file may have, from what the index says.
fn most_bytes(entry: &Entry) -> u64 {
    match (entry.compressed_size, entry.size) {
        (Some(exact), _) => exact,
        (None, 0) => MAX_PACKAGE_BYTES,
        // Packed it is hardly longer than unpacked.
        (None, size) => size.saturating_add(size / 8).saturating_add(1 << 20),
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
            trust: Trust::Ours,
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
