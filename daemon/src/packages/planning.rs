//! What an installation takes: which packages from where, what of it is not there yet, and whether
//! there is space for it.
//!
//! Repositories are asked in their order; `builtin` only for what the others do not have, so that
//! nothing is made here, nor found out about, that somebody offers. Invariant: nothing is downloaded
//! here but indexes, and nothing is changed.

use std::sync::Arc;

use piston_client::api::PlannedPackage;
use piston_client::ids::{Language, PackageRef};
use piston_client::units::Bytes;

use super::Packages;
use super::error::{PackagesError, similar};
use super::files;
use super::index::{self, Checksum, Entry, Source};
use super::install::Origin;
use super::installed::Slot;
use super::make::Base;
use super::repo::{ALL, BUILTIN, Loaded};
use super::resolve::{self, Candidate, Catalog, Pick, Place, ResolveError, Shelf, Trust};
use super::signature::SignatureError;
use super::state::State;
use super::version::VersionRange;

/// Free space that is left alone.
const SPARE_BYTES: u64 = 16 << 20;

/// Packages that were chosen, and where they are.
#[derive(Debug)]
pub(super) struct Plan {
    /// Dependencies first, what was asked for last.
    pub(super) picks: Vec<Pick>,
    sources: Vec<Arc<Loaded>>,
}

/// A package of a plan that is not installed.
#[derive(Debug)]
pub(super) struct Missing<'a> {
    pub(super) repository: &'a Loaded,
    pub(super) entry: &'a Entry,
    pub(super) pick: &'a Pick,
}

impl Plan {
    /// What was asked for.
    pub(super) fn wanted(&self) -> Result<PackageRef, PackagesError> {
        let wanted = self.picks.last().map(|pick| pick.package.clone());
        wanted.ok_or_else(|| PackagesError::Internal("a plan without a package".to_owned()))
    }

    /// All of it.
    pub(super) fn packages(&self) -> Vec<PackageRef> {
        self.picks.iter().map(|pick| pick.package.clone()).collect()
    }

    /// Where a package stands in the order of installation.
    pub(super) fn place_of(&self, package: &PackageRef) -> Option<usize> {
        self.picks.iter().position(|pick| pick.package == *package)
    }
}

impl Missing<'_> {
    /// The same for those who watch.
    pub(super) fn listed(&self) -> PlannedPackage {
        PlannedPackage {
            package: self.entry.package.clone(),
            repository: Some(self.repository.name.clone()),
            length: self.entry.compressed_size.map(Bytes),
        }
    }

    /// Where it comes from.
    pub(super) fn origin(&self, requested: bool) -> Origin {
        Origin {
            repository: Some(self.repository.name.clone()),
            expected: Some(self.entry.package.clone()),
            requested,
            signed_by: None,
        }
    }
}

/// Whether what is installed is the very package of an index entry.
pub(super) fn is_listed_as(slot: &Slot, entry: &Entry) -> bool {
    match &entry.source {
        // Of what is made here name and version say all that is known before.
        Source::Recipe(_) => true,
        Source::File {
            checksum: Checksum::Sha256(digest),
            ..
        } => slot.record.file == *digest,
        // Only sha256 is recorded; a name and version that came from here are trusted to stay.
        Source::File {
            checksum: Checksum::Sha512(_),
            ..
        } => match entry.checksums.get("sha256") {
            Some(sha256) => slot.record.file.to_string() == *sha256,
            None => true,
        },
    }
}

/// What is installed, for the resolver.
pub(super) fn installed_shelf(state: &State) -> Shelf {
    let slots = state.registry.all();
    let candidates = slots.iter().map(|slot| Candidate {
        package: slot.record.package.clone(),
        dependencies: slot.info.dependencies.clone(),
        trust: match (&slot.record.signed_by, slot.record.repository.as_deref()) {
            (Some(_), _) => Trust::Signed,
            (None, None | Some(BUILTIN)) => Trust::Ours,
            (None, Some(_)) => Trust::Unsigned,
        },
    });
    candidates.collect()
}

impl Packages {
    /// Chooses the newest match from a repository (or `all`) and what it needs.
    pub(super) async fn plan(
        &self,
        repository: &str,
        package: &Language,
        range: &VersionRange,
    ) -> Result<Plan, PackagesError> {
        if repository != ALL {
            self.repositories.load(repository).await?;
        }
        let (mut sources, unreachable) = self.repositories.configured().await?;
        let want = (repository, package, range);
        let without = match self.choose(&sources, want) {
            Ok(picks) => return Ok(Plan { picks, sources }),
            Err(error) => error,
        };
        if self.repositories.builtin().is_none() || !builtin_may_help(&without, repository) {
            let nothing = sources.is_empty();
            return Err(unreachable.filter(|_| nothing).unwrap_or(without));
        }
        match self.repositories.load(BUILTIN).await {
            Ok(builtin) => sources.push(builtin),
            Err(error) => return Err(with_builtin_failed(without, &error)),
        }
        let picks = self.choose(&sources, want)?;
        Ok(Plan { picks, sources })
    }

    fn choose(
        &self,
        sources: &[Arc<Loaded>],
        (repository, package, range): (&str, &Language, &VersionRange),
    ) -> Result<Vec<Pick>, PackagesError> {
        let installed = installed_shelf(&self.state);
        let slots = self.state.registry.all();
        let on_base: Vec<Option<Shelf>> = sources
            .iter()
            .map(|source| (source.name == BUILTIN).then(|| on_installed_base(source, &slots)))
            .collect();
        let shelves = sources.iter().zip(&on_base);
        let catalog = Catalog {
            repositories: shelves
                .map(|(source, own)| own.as_ref().unwrap_or(&source.shelf))
                .collect(),
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

    /// The picks that are to be had, dependencies first.
    pub(super) fn missing<'a>(&self, plan: &'a Plan) -> Result<Vec<Missing<'a>>, PackagesError> {
        let mut missing = Vec::new();
        for pick in &plan.picks {
            let Place::Repository(number) = pick.place else {
                continue;
            };
            let repository = &plan.sources[number];
            let Some(entry) = repository.index.entries.get(&pick.package) else {
                let text = format!("{} was chosen and is not listed", pick.package);
                return Err(PackagesError::Internal(text));
            };
            match self.state.registry.get(&pick.package) {
                // Found out before anything is downloaded.
                None if entry.signature.is_none() && repository.keys.is_some() => {
                    let keys = repository.keys.as_ref();
                    return Err(PackagesError::Signature {
                        what: pick.package.to_string(),
                        repository: repository.name.clone(),
                        reason: keys.map_or(SignatureError::NoMore, |keys| keys.unsigned()),
                    });
                }
                None => missing.push(Missing {
                    repository,
                    entry,
                    pick,
                }),
                Some(slot) if is_listed_as(&slot, entry) => {}
                Some(slot) => {
                    return Err(PackagesError::Listed {
                        package: Box::new(pick.package.clone()),
                        repository: repository.name.clone(),
                        installed: slot.record.file,
                        listed: match &entry.source {
                            Source::File { checksum, .. } => checksum.hex(),
                            Source::Recipe(recipe) => recipe.clone(),
                        },
                    });
                }
            }
        }
        Ok(missing)
    }

    /// Package files and images are on the disk together for a moment.
    pub(super) fn ensure_space(&self, missing: &[Missing<'_>]) -> Result<(), PackagesError> {
        let sizes = missing.iter().map(|Missing { entry, .. }| {
            let there = match &entry.source {
                Source::File { checksum, .. } => files::length(&self.state.data.part(checksum)),
                Source::Recipe(_) => Ok(0),
            };
            let packed = entry.compressed_size.unwrap_or(entry.size);
            packed
                .saturating_sub(there.unwrap_or(0))
                .saturating_add(entry.size)
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
}

/// Whether what can't be found could be made here: what was asked for, where any repository will do,
/// or what it needs.
fn builtin_may_help(error: &PackagesError, repository: &str) -> bool {
    match error {
        PackagesError::NotListed { .. } => repository == ALL || repository == BUILTIN,
        PackagesError::Resolve(reason) => matches!(**reason, ResolveError::Missing { .. }),
        _ => false,
    }
}

/// Why something is not listed, where `builtin` could not be asked.
fn with_builtin_failed(error: PackagesError, failure: &PackagesError) -> PackagesError {
    match error {
        PackagesError::NotListed {
            reason,
            similar,
            mut repositories,
        } => {
            repositories.push(format!("{BUILTIN} (which can't be used: {failure})"));
            PackagesError::NotListed {
                reason,
                similar,
                repositories,
            }
        }
        error => error,
    }
}

/// What `builtin` offers where a base package of the same release is installed already: the others
/// are made on that one, rather than on one of today.
fn on_installed_base(builtin: &Loaded, slots: &[Arc<Slot>]) -> Shelf {
    let is_base =
        |entry: &&Entry| entry.source == Source::Recipe(super::make::DEBIAN_BASE.to_owned());
    let today = builtin.index.entries.values().find(is_base);
    let fits = |slot: &&Arc<Slot>| {
        let package = &slot.record.package;
        today.is_some_and(|today| {
            package.language == today.package.language
                && package.version.semver().major == today.package.version.semver().major
        }) && Base::of(&slot.info).is_some()
    };
    let there = slots.iter().filter(fits);
    let newest = there.map(|slot| &slot.record.package).max();
    let exact = newest.and_then(|base| Some((base, base.version.to_string().parse().ok()?)));
    let candidates = builtin.index.entries.values().map(|entry| {
        let mut dependencies = entry.dependencies.clone();
        if let Some((base, exact)) = &exact
            && let Some(range) = dependencies.get_mut(&base.language)
        {
            *range = VersionRange::clone(exact);
        }
        Candidate {
            package: entry.package.clone(),
            dependencies,
            trust: Trust::Ours,
        }
    });
    candidates.collect()
}
