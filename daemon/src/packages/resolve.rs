//! Which packages a view needs: a pure function of what is listed, installed and wanted.
//!
//! The wanted package is the newest that matches. Its dependencies are searched depth first, the
//! newest candidate of the requiring package's own source before those of the repositories in
//! their order before installed ones; a choice that leads nowhere is taken back, so a solution is
//! found when there is one. What a failure has nothing to do with is not tried again in other ways,
//! and what fails whatever else is chosen is remembered, so that one package that is missing below
//! many versions of many is found at once. Invariants: at most one version of a language in a solution, no
//! cycle, every range satisfied, nothing that a key vouches for stands on what nobody vouches for;
//! nothing is downloaded or looked up here.

mod error;

use std::collections::{BTreeMap, BTreeSet};

use piston_client::ids::{Language, PackageRef, Version};

use super::version::VersionRange;

pub use error::{ResolveError, Trail};

/// Most packages in one view.
const MAX_PACKAGES: usize = 256;
/// Most candidates that are tried before the search gives up.
const MAX_STEPS: usize = 50_000;

/// Who vouches for a package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// Nobody: it comes from a repository whose packages need no signature.
    #[default]
    Unsigned,
    /// A key that the operator trusts. It takes no dependency that nobody vouches for.
    Signed,
    /// The operator, who uploaded it or had it made here.
    Ours,
}

/// A package that could be part of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Name and version.
    pub package: PackageRef,
    /// What it needs.
    pub dependencies: BTreeMap<Language, VersionRange>,
    /// Who vouches for it.
    pub trust: Trust,
}

impl Candidate {
    /// Whether it takes a package as a dependency.
    fn takes(&self, other: &Self) -> bool {
        self.trust != Trust::Signed || other.trust != Trust::Unsigned
    }
}

/// The packages of one source, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shelf {
    packages: BTreeMap<Language, Vec<Candidate>>,
}

/// Everything that can be chosen from.
#[derive(Debug)]
pub struct Catalog<'a> {
    /// Repositories, in their order.
    pub repositories: Vec<&'a Shelf>,
    /// What is installed.
    pub installed: &'a Shelf,
}

/// Where a chosen package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Repository of this number in the catalog.
    Repository(usize),
    /// Installed already.
    Installed,
    /// In the caller's hands.
    Given,
}

/// A package that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// Name and version.
    pub package: PackageRef,
    /// Where it is.
    pub place: Place,
    /// What it needs directly, as chosen.
    pub dependencies: Vec<PackageRef>,
}

impl Shelf {
    /// Adds a package; one that is there already is kept.
    pub fn insert(&mut self, candidate: Candidate) {
        let versions = self
            .packages
            .entry(candidate.package.language.clone())
            .or_default();
        let newest_first =
            |there: &Candidate| candidate.package.version.cmp(&there.package.version);
        if let Err(at) = versions.binary_search_by(newest_first) {
            versions.insert(at, candidate);
        }
    }

    /// Leaves only `package` of its language.
    pub fn pin(&mut self, package: &PackageRef) {
        if let Some(versions) = self.packages.get_mut(&package.language) {
            versions.retain(|candidate| candidate.package == *package);
        }
    }

    /// The packages of a name, newest first.
    pub fn versions(&self, language: &Language) -> &[Candidate] {
        self.packages.get(language).map_or(&[], Vec::as_slice)
    }

    /// Names of everything there is.
    pub fn languages(&self) -> impl Iterator<Item = &Language> {
        self.packages.keys()
    }
}

impl FromIterator<Candidate> for Shelf {
    fn from_iter<I: IntoIterator<Item = Candidate>>(candidates: I) -> Self {
        let mut shelf = Self::default();
        for candidate in candidates {
            shelf.insert(candidate);
        }
        shelf
    }
}

/// Chooses the newest match in the repositories `from`, and its dependencies.
///
/// The picks are in installation order: dependencies first, the wanted package last.
pub fn resolve(
    catalog: &Catalog<'_>,
    from: &[usize],
    language: &Language,
    range: &VersionRange,
) -> Result<Vec<Pick>, ResolveError> {
    let listed = || {
        from.iter().flat_map(|&number| {
            let shelf = catalog.repositories.get(number);
            let versions = shelf.map_or(&[][..], |shelf| shelf.versions(language));
            versions.iter().map(move |candidate| (number, candidate))
        })
    };
    let newest = listed()
        .filter(|(_, candidate)| range.matches(&candidate.package.version))
        // `max_by` takes the last of equals; the first repository is to win.
        .reduce(|best, next| {
            if next.1.package.version > best.1.package.version {
                next
            } else {
                best
            }
        });
    if let Some((number, candidate)) = newest {
        return closure(catalog, candidate, Place::Repository(number));
    }
    let versions: BTreeSet<Version> = listed()
        .map(|(_, candidate)| candidate.package.version.clone())
        .collect();
    Err(ResolveError::NotListed {
        language: language.clone(),
        range: range.to_string(),
        versions: versions.into_iter().rev().collect(),
    })
}

/// Chooses the dependencies of one package; picks as of [`resolve`].
pub fn closure(
    catalog: &Catalog<'_>,
    root: &Candidate,
    place: Place,
) -> Result<Vec<Pick>, ResolveError> {
    let mut search = Search {
        catalog,
        chosen: BTreeMap::new(),
        needs: Vec::new(),
        hopeless: BTreeMap::new(),
        steps: 0,
        root: root.package.clone(),
    };
    search.choose(root, place, Trail(vec![root.package.clone()]));
    search.satisfy(0).map_err(|failure| failure.error)
}

/// A package in the solution under construction.
struct Chosen<'a> {
    candidate: &'a Candidate,
    place: Place,
    trail: Trail,
}

/// A dependency that is to be satisfied.
struct Need<'a> {
    by: Language,
    language: &'a Language,
    range: &'a VersionRange,
}

/// What led nowhere.
struct Failure {
    error: ResolveError,
    /// Of which languages something else would have to be chosen for anything to change.
    culprits: BTreeSet<Language>,
}

impl Failure {
    fn of(error: ResolveError, culprits: impl IntoIterator<Item = Language>) -> Self {
        let culprits = culprits.into_iter().collect();
        Self { error, culprits }
    }
}

struct Search<'a> {
    catalog: &'a Catalog<'a>,
    chosen: BTreeMap<Language, Chosen<'a>>,
    needs: Vec<Need<'a>>,
    /// What fails whatever else is chosen, and why.
    hopeless: BTreeMap<(Place, &'a PackageRef), ResolveError>,
    steps: usize,
    root: PackageRef,
}

impl<'a> Search<'a> {
    fn choose(&mut self, candidate: &'a Candidate, place: Place, trail: Trail) {
        let by = candidate.package.language.clone();
        for (language, range) in &candidate.dependencies {
            self.needs.push(Need {
                by: by.clone(),
                language,
                range,
            });
        }
        self.chosen.insert(
            by,
            Chosen {
                candidate,
                place,
                trail,
            },
        );
    }

    /// Satisfies the needs from number `next` on; undoes its choices when that fails.
    fn satisfy(&mut self, next: usize) -> Result<Vec<Pick>, Box<Failure>> {
        let Some(need) = self.needs.get(next) else {
            return self.in_order();
        };
        let (language, range) = (need.language, need.range);
        let by = &self.chosen[&need.by];
        if let Some(there) = self.chosen.get(language) {
            return match clash(by, need, there) {
                None => self.satisfy(next + 1),
                Some(error) => Err(Box::new(Failure::of(
                    error,
                    [need.by.clone(), language.clone()],
                ))),
            };
        }
        let mut culprits = BTreeSet::from([need.by.clone()]);
        let (trail, place, requirer) = (by.trail.clone(), by.place, by.candidate);
        let mut first_error = None;
        let all = self.candidates(language, range, place);
        let (fit, unsigned): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(_, other)| requirer.takes(other));
        for (place, candidate) in distinct(fit) {
            if let Some(error) = self.hopeless.get(&(place, &candidate.package)) {
                first_error.get_or_insert_with(|| error.clone());
                continue;
            }
            self.steps += 1;
            if self.steps > MAX_STEPS || self.chosen.len() >= MAX_PACKAGES {
                let error = ResolveError::TooComplex(self.root.clone());
                // Nothing that could still be chosen changes that.
                return Err(Box::new(Failure::of(error, [])));
            }
            let needs = self.needs.len();
            let mut path = trail.clone();
            path.0.push(candidate.package.clone());
            self.choose(candidate, place, path);
            let mut failure = match self.satisfy(next + 1) {
                Ok(picks) => return Ok(picks),
                Err(failure) => failure,
            };
            self.chosen.remove(language);
            self.needs.truncate(needs);
            if !failure.culprits.remove(language) {
                return Err(failure);
            }
            if failure.culprits.is_empty() {
                let key = (place, &candidate.package);
                self.hopeless.insert(key, failure.error.clone());
            }
            culprits.append(&mut failure.culprits);
            first_error.get_or_insert(failure.error);
        }
        let error = first_error.unwrap_or_else(|| match unsigned.first() {
            Some((_, candidate)) => ResolveError::Unsigned {
                trail,
                dependency: Box::new(candidate.package.clone()),
            },
            None => self.missing(trail, language, range),
        });
        Err(Box::new(Failure::of(error, culprits)))
    }

    /// What could satisfy a need, best first.
    fn candidates(
        &self,
        language: &Language,
        range: &VersionRange,
        own: Place,
    ) -> Vec<(Place, &'a Candidate)> {
        let places = self.places(own).into_iter();
        let all = places.flat_map(|place| {
            let versions = self.shelf(place).versions(language).iter();
            versions.map(move |candidate| (place, candidate))
        });
        all.filter(|(_, candidate)| range.matches(&candidate.package.version))
            .collect()
    }

    /// The own source, then the repositories in order, then what is installed.
    fn places(&self, own: Place) -> Vec<Place> {
        let mut places = vec![own];
        places.extend((0..self.catalog.repositories.len()).map(Place::Repository));
        places.push(Place::Installed);
        let mut seen = BTreeSet::from([Place::Given]);
        places.retain(|place| seen.insert(*place));
        places
    }

    fn shelf(&self, place: Place) -> &'a Shelf {
        match place {
            Place::Repository(number) => self.catalog.repositories[number],
            Place::Installed | Place::Given => self.catalog.installed,
        }
    }

    fn missing(&self, trail: Trail, language: &Language, range: &VersionRange) -> ResolveError {
        let versions: BTreeSet<Version> = self
            .places(Place::Installed)
            .into_iter()
            .flat_map(|place| self.shelf(place).versions(language))
            .map(|candidate| candidate.package.version.clone())
            .collect();
        ResolveError::Missing {
            trail,
            language: language.clone(),
            range: range.to_string(),
            versions: versions.into_iter().rev().collect(),
        }
    }

    /// The chosen packages in topological order, ties by name; or the circle they are in.
    fn in_order(&self) -> Result<Vec<Pick>, Box<Failure>> {
        let mut picks: Vec<Pick> = Vec::new();
        let mut placed: BTreeSet<&Language> = BTreeSet::new();
        while picks.len() < self.chosen.len() {
            let ready = self.chosen.iter().find(|(language, chosen)| {
                !placed.contains(language)
                    && chosen
                        .candidate
                        .dependencies
                        .keys()
                        .all(|d| placed.contains(d))
            });
            let Some((language, chosen)) = ready else {
                let circle = self.circle(&placed);
                let culprits: Vec<_> = circle.0.iter().map(|it| it.language.clone()).collect();
                let error = ResolveError::Cycle(circle);
                return Err(Box::new(Failure::of(error, culprits)));
            };
            placed.insert(language);
            let dependencies = chosen.candidate.dependencies.keys();
            picks.push(Pick {
                package: chosen.candidate.package.clone(),
                place: chosen.place,
                dependencies: dependencies
                    .map(|language| self.chosen[language].candidate.package.clone())
                    .collect(),
            });
        }
        Ok(picks)
    }

    /// A circle among the packages that can't be placed, its first package repeated at the end.
    fn circle(&self, placed: &BTreeSet<&Language>) -> Trail {
        let start = self
            .chosen
            .keys()
            .find(|language| !placed.contains(language));
        let mut path: Vec<&Language> = Vec::new();
        let mut next = start;
        while let Some(language) = next {
            if let Some(at) = path.iter().position(|there| *there == language) {
                path.drain(..at);
                path.push(language);
                break;
            }
            path.push(language);
            // Every package that can't be placed has a dependency that can't be either.
            next = self.chosen[language]
                .candidate
                .dependencies
                .keys()
                .find(|dependency| !placed.contains(dependency));
        }
        let package = |language: &&Language| self.chosen[*language].candidate.package.clone();
        Trail(path.iter().map(package).collect())
    }
}

/// Why what was chosen before does not satisfy a need.
fn clash(by: &Chosen<'_>, need: &Need<'_>, there: &Chosen<'_>) -> Option<ResolveError> {
    let (trail, package) = (&by.trail, &there.candidate.package);
    if !by.candidate.takes(there.candidate) {
        return Some(ResolveError::Unsigned {
            trail: trail.clone(),
            dependency: Box::new(package.clone()),
        });
    }
    if need.range.matches(&package.version) {
        return None;
    }
    Some(ResolveError::Conflict {
        trail: trail.clone(),
        language: need.language.clone(),
        range: need.range.to_string(),
        chosen: Box::new(package.clone()),
        other: Trail(there.trail.0[..there.trail.0.len() - 1].to_vec()),
    })
}

/// The first of each version: the same one of a later place is the same package, or a conflict that
/// the installer names.
fn distinct(candidates: Vec<(Place, &Candidate)>) -> Vec<(Place, &Candidate)> {
    let mut seen = BTreeSet::new();
    let new = |(_, candidate): &(Place, &Candidate)| seen.insert(candidate.package.version.clone());
    candidates.into_iter().filter(new).collect()
}

#[cfg(test)]
mod tests;
