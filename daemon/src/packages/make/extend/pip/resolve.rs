//! Which version of which library: the newest that satisfies everybody.
//!
//! Depth first, going back where somebody is not satisfied; bounded in steps. What is installed in
//! the package already stays as it is: two versions of a library can't lie in one directory. Knows
//! nothing of files and of the network.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pep440_rs::{Operator, Version, VersionSpecifier, VersionSpecifiers};

use super::super::ExtendError;
use super::marker::Environment;
use super::project::Project;
use super::requirement::Requirement;

/// Versions that are tried at most. Each may cost a download.
const MAX_STEPS: usize = 500;
/// Libraries at most.
const MAX_LIBRARIES: usize = 300;
/// Versions that a message names.
const SHOWN_VERSIONS: usize = 5;

/// What there is to choose from.
pub(super) trait Offers {
    /// The versions of a library that the Python can load, newest first; an error when there are
    /// none. `by` is who needs it, empty when it was asked for.
    fn versions(&mut self, project: &Project, by: &str) -> Result<Vec<Offer>, ExtendError>;
    /// What a version needs.
    fn requires(
        &mut self,
        project: &Project,
        version: &Version,
    ) -> Result<Vec<Requirement>, ExtendError>;
}

/// A version that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Which.
    pub(super) version: Version,
    /// Whether its authors took it back: only for those who name exactly this one.
    pub(super) yanked: bool,
}

/// A library that the package has already.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    /// Its version.
    pub(super) version: Version,
    /// What it needs.
    pub(super) requires: Vec<Requirement>,
    /// Whether another version may be put in front of it.
    pub(super) place: Place,
}

/// Where an installed library lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where new ones are put as well.
    Ours,
    /// In a directory that is searched later.
    Behind,
}

/// Chooses versions; those that are installed already are not in the answer.
pub(super) fn resolve(
    wanted: &[Requirement],
    environment: &Environment,
    installed: &BTreeMap<Project, Installed>,
    offers: &mut dyn Offers,
) -> Result<BTreeMap<Project, Version>, ExtendError> {
    let mut search = Search {
        environment,
        installed,
        offers,
        steps: 0,
        clash: None,
    };
    let mut state = State::default();
    let met = search.demand_all(&mut state, wanted, &BTreeSet::new(), "")?;
    let found = match met {
        Met::Yes => search.go_on(state)?,
        Met::No => None,
    };
    let Some(chosen) = found else {
        let clash = search.clash.unwrap_or_default();
        return Err(ExtendError::Clash(clash));
    };
    let new = chosen.into_iter().filter(|(project, version)| {
        let there = installed.get(project);
        there.is_none_or(|there| there.version != *version)
    });
    Ok(new.collect())
}

/// What was decided, and what is to be decided yet.
#[derive(Debug, Clone, Default)]
struct State {
    demands: BTreeMap<Project, Vec<Demand>>,
    extras: BTreeMap<Project, BTreeSet<String>>,
    chosen: BTreeMap<Project, Version>,
    open: VecDeque<Project>,
}

/// Versions that somebody will take.
#[derive(Debug, Clone)]
struct Demand {
    /// Who; empty for the user.
    by: String,
    versions: VersionSpecifiers,
    /// As in a message.
    shown: String,
}

/// Whether what is demanded goes with what is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Yes,
    No,
}

struct Search<'a> {
    environment: &'a Environment,
    installed: &'a BTreeMap<Project, Installed>,
    offers: &'a mut dyn Offers,
    steps: usize,
    /// The first thing that did not go together, which is of the newest versions.
    clash: Option<String>,
}

impl Search<'_> {
    /// Decides all that is open; none when there is no way.
    fn go_on(
        &mut self,
        mut state: State,
    ) -> Result<Option<BTreeMap<Project, Version>>, ExtendError> {
        let project = loop {
            match state.open.pop_front() {
                None => return Ok(Some(state.chosen)),
                Some(project) if state.chosen.contains_key(&project) => {}
                Some(project) => break project,
            }
        };
        if state.chosen.len() >= MAX_LIBRARIES {
            return Err(ExtendError::TooMuch {
                what: format!("{project} would be library number {}", MAX_LIBRARIES + 1),
                most: MAX_LIBRARIES.to_string(),
            });
        }
        let demands = state.demands.get(&project).cloned().unwrap_or_default();
        let candidates = self.candidates(&project, &demands)?;
        for version in candidates {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(ExtendError::TooMuch {
                    what: format!("{MAX_STEPS} versions were tried and do not go together"),
                    most: MAX_STEPS.to_string(),
                });
            }
            let mut next = state.clone();
            next.chosen.insert(project.clone(), version);
            if self.needs_of(&mut next, &project)? == Met::Yes
                && let Some(found) = self.go_on(next)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Versions that all demands take, best first.
    fn candidates(
        &mut self,
        project: &Project,
        demands: &[Demand],
    ) -> Result<Vec<Version>, ExtendError> {
        let fits = |version: &Version| demands.iter().all(|d| d.versions.contains(version));
        if let Some(there) = self.installed.get(project) {
            if fits(&there.version) {
                return Ok(vec![there.version.clone()]);
            }
            if there.place == Place::Ours {
                let text = format!(
                    "the package has {project} {} already, and {}; extend a package without it",
                    there.version,
                    all(demands)
                );
                self.clash.get_or_insert(text);
                return Ok(Vec::new());
            }
        }
        let by = demands.first().map_or("", |demand| demand.by.as_str());
        let offers = self.offers.versions(project, by)?;
        let exact = |demand: &Demand| demand.versions.iter().any(names_one);
        let pinned = demands.iter().any(exact);
        let taken = |offer: &&Offer| fits(&offer.version) && (pinned || !offer.yanked);
        let fitting: Vec<&Version> = offers.iter().filter(taken).map(|o| &o.version).collect();
        let asks = |demand: &Demand| demand.versions.iter().any(VersionSpecifier::any_prerelease);
        let stable: Vec<&Version> = fitting.iter().copied().filter(|v| v.is_stable()).collect();
        let fitting = if demands.iter().any(asks) || stable.is_empty() {
            fitting
        } else {
            stable
        };
        if fitting.is_empty() {
            let text = format!(
                "no version of {project} will do: {}{}",
                all(demands),
                there(&offers)
            );
            self.clash.get_or_insert(text);
        }
        Ok(fitting.into_iter().cloned().collect())
    }

    /// Adds what a chosen version needs, with the extras that are wanted of it.
    fn needs_of(&mut self, state: &mut State, project: &Project) -> Result<Met, ExtendError> {
        let Some(version) = state.chosen.get(project).cloned() else {
            return Ok(Met::Yes);
        };
        let there = self
            .installed
            .get(project)
            .filter(|there| there.version == version);
        let requires = match there {
            Some(there) => there.requires.clone(),
            None => self.offers.requires(project, &version)?,
        };
        let extras = state.extras.get(project).cloned().unwrap_or_default();
        let by = format!("{project} {version}");
        self.demand_all(state, &requires, &extras, &by)
    }

    fn demand_all(
        &mut self,
        state: &mut State,
        requirements: &[Requirement],
        extras: &BTreeSet<String>,
        by: &str,
    ) -> Result<Met, ExtendError> {
        for requirement in requirements {
            let needed = requirement.marker.as_ref();
            if needed.is_none_or(|marker| self.environment.holds(marker, extras))
                && self.demand(state, requirement, by)? == Met::No
            {
                return Ok(Met::No);
            }
        }
        Ok(Met::Yes)
    }

    fn demand(
        &mut self,
        state: &mut State,
        requirement: &Requirement,
        by: &str,
    ) -> Result<Met, ExtendError> {
        let project = &requirement.project;
        let demand = Demand {
            by: by.to_owned(),
            versions: requirement.versions.clone(),
            shown: requirement.shown(),
        };
        let wanted = state.extras.entry(project.clone()).or_default();
        let before = wanted.len();
        wanted.extend(requirement.extras.iter().cloned());
        let more = wanted.len() > before;
        let clashes = state
            .chosen
            .get(project)
            .filter(|v| !demand.versions.contains(v));
        if let Some(version) = clashes {
            let before = state.demands.get(project).cloned().unwrap_or_default();
            let text = format!(
                "{project} {version} will not do: {}",
                all(&[before, vec![demand]].concat())
            );
            self.clash.get_or_insert(text);
            return Ok(Met::No);
        }
        state
            .demands
            .entry(project.clone())
            .or_default()
            .push(demand);
        if !state.chosen.contains_key(project) {
            state.open.push_back(project.clone());
            return Ok(Met::Yes);
        }
        if more {
            self.needs_of(state, project)
        } else {
            Ok(Met::Yes)
        }
    }
}

/// Whether it names one version exactly.
fn names_one(specifier: &VersionSpecifier) -> bool {
    matches!(specifier.operator(), Operator::Equal | Operator::ExactEqual)
}

/// Everybody's demands, in words.
fn all(demands: &[Demand]) -> String {
    let one = |demand: &Demand| match demand.by.as_str() {
        "" => format!("{} is asked for", demand.shown),
        by => format!("{by} needs {}", demand.shown),
    };
    let all: Vec<String> = demands.iter().map(one).collect();
    all.join(", ")
}

/// The newest versions that there are, in words.
fn there(offers: &[Offer]) -> String {
    let versions = offers.iter().take(SHOWN_VERSIONS);
    let versions: Vec<String> = versions.map(|offer| offer.version.to_string()).collect();
    let more = if offers.len() > SHOWN_VERSIONS {
        ", ..."
    } else {
        ""
    };
    format!("; for this Python there are {}{more}", versions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions by library, each with what it needs.
    struct Shelf(Vec<(&'static str, &'static str, &'static [&'static str])>);

    impl Offers for Shelf {
        fn versions(&mut self, project: &Project, by: &str) -> Result<Vec<Offer>, ExtendError> {
            let rows = self.0.iter().filter(|(name, ..)| *name == project.as_str());
            let mut found: Vec<Offer> = rows
                .map(|(_, version, _)| Offer {
                    version: version.trim_end_matches('!').parse().expect("a version"),
                    yanked: version.ends_with('!'),
                })
                .collect();
            found.sort_by(|a, b| b.version.cmp(&a.version));
            if found.is_empty() {
                return Err(ExtendError::Unknown {
                    index: "the shelf".to_owned(),
                    project: project.to_string(),
                    by: by.to_owned(),
                });
            }
            Ok(found)
        }

        fn requires(
            &mut self,
            project: &Project,
            version: &Version,
        ) -> Result<Vec<Requirement>, ExtendError> {
            let row = self.0.iter().find(|(name, v, _)| {
                *name == project.as_str() && v.trim_end_matches('!') == version.to_string()
            });
            let (_, _, needs) = row.expect("an offer");
            Ok(needs.iter().map(|text| text.parse().expect(text)).collect())
        }
    }

    fn requirements(texts: &[&str]) -> Vec<Requirement> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    fn resolved(
        shelf: &[(&'static str, &'static str, &'static [&'static str])],
        installed: &[(&str, &str, &[&str], Place)],
        wanted: &[&str],
    ) -> Result<String, String> {
        let environment = Environment {
            python: "3.11.2".parse().expect("a version"),
            machine: "x86_64",
        };
        let installed = installed.iter().map(|(name, version, requires, place)| {
            let installed = Installed {
                version: version.parse().expect("a version"),
                requires: requirements(requires),
                place: *place,
            };
            (Project::new(name).expect("a name"), installed)
        });
        let found = resolve(
            &requirements(wanted),
            &environment,
            &installed.collect(),
            &mut Shelf(shelf.to_vec()),
        );
        let shown = |found: BTreeMap<Project, Version>| {
            let each = found
                .iter()
                .map(|(project, version)| format!("{project}={version}"));
            each.collect::<Vec<_>>().join(" ")
        };
        found.map(shown).map_err(|error| error.to_string())
    }

    #[test]
    fn the_newest_versions_are_chosen_with_what_they_need() {
        let shelf = [
            (
                "pandas",
                "2.2.3",
                &[
                    "numpy>=1.26; python_version<'3.12'",
                    "pytz",
                    "odd; extra=='x'",
                ][..],
            ),
            ("pandas", "1.0", &[]),
            ("numpy", "2.1.0", &[]),
            ("numpy", "3.0rc1", &[]),
            ("numpy", "2.2.0!", &[]),
            ("pytz", "2024.1", &[]),
        ];
        let found = resolved(&shelf, &[], &["pandas"]);
        assert_eq!(
            found.expect("found"),
            "numpy=2.1.0 pandas=2.2.3 pytz=2024.1"
        );
        let found = resolved(&shelf, &[], &["numpy>=3.0rc0"]);
        assert_eq!(found.expect("found"), "numpy=3.0rc1", "it is asked for");
        let found = resolved(&shelf, &[], &["numpy==2.2.0"]);
        assert_eq!(
            found.expect("found"),
            "numpy=2.2.0",
            "taken back, but named"
        );
    }

    #[test]
    fn an_older_version_is_taken_where_the_newest_clashes() {
        let shelf = [
            ("a", "2.0", &["c>=2"][..]),
            ("a", "1.0", &["c>=1"]),
            ("b", "1.0", &["c<2"]),
            ("c", "2.0", &[]),
            ("c", "1.5", &[]),
        ];
        let found = resolved(&shelf, &[], &["a", "b"]);
        assert_eq!(found.expect("found"), "a=1.0 b=1.0 c=1.5");
    }

    #[test]
    fn a_clash_names_everybody_who_is_in_it() {
        let shelf = [
            ("a", "1.0", &["c>=2"][..]),
            ("b", "1.0", &["c<2"]),
            ("c", "2.0", &[]),
            ("c", "1.5", &[]),
        ];
        let error = resolved(&shelf, &[], &["a", "b"]).expect_err("no way");
        assert!(
            error.contains("a 1.0 needs c>=2, b 1.0 needs c<2"),
            "{error}"
        );
        let error = resolved(&shelf, &[], &["c>=3"]).expect_err("no such version");
        assert!(
            error.contains("c>=3 is asked for") && error.contains("2.0, 1.5"),
            "{error}"
        );
        let error = resolved(&shelf, &[], &["d"]).expect_err("no such library");
        assert!(error.contains("no d"), "{error}");
    }

    #[test]
    fn extras_bring_what_they_need_also_when_they_come_late() {
        let shelf = [
            ("a", "1.0", &["s; extra == 'socks'"][..]),
            ("b", "1.0", &["a[Socks]"]),
            ("s", "1.0", &[]),
        ];
        assert_eq!(resolved(&shelf, &[], &["a"]).expect("found"), "a=1.0");
        let found = resolved(&shelf, &[], &["a", "b"]).expect("found");
        assert_eq!(found, "a=1.0 b=1.0 s=1.0");
    }

    #[test]
    fn what_is_installed_stays_and_is_not_chosen_again() {
        let shelf = [
            ("a", "1.0", &["n>=1"][..]),
            ("b", "1.0", &["n>=2"]),
            ("n", "2.0", &[]),
        ];
        let ours = [("n", "1.5", &[][..], Place::Ours)];
        assert_eq!(resolved(&shelf, &ours, &["a"]).expect("found"), "a=1.0");
        let error = resolved(&shelf, &ours, &["b"]).expect_err("another n");
        assert!(
            error.contains("has n 1.5 already") && error.contains("b 1.0 needs n>=2"),
            "{error}"
        );
        let behind = [("n", "1.5", &[][..], Place::Behind)];
        assert_eq!(
            resolved(&shelf, &behind, &["b"]).expect("found"),
            "b=1.0 n=2.0"
        );
        assert_eq!(
            resolved(&shelf, &ours, &["n"]).expect("found"),
            "",
            "nothing is new"
        );
    }

    #[test]
    fn libraries_that_need_each_other_are_chosen_once() {
        let shelf = [("a", "1.0", &["b"][..]), ("b", "1.0", &["a"])];
        assert_eq!(resolved(&shelf, &[], &["a"]).expect("found"), "a=1.0 b=1.0");
    }
}
