//! Every package that the lists name, and what of it a wanted one needs.
//!
//! Pure: texts in, choices out. The newest version of a name is taken; of alternatives the first
//! that is there, and of several providers the first by name. Conflicts are not looked at: what is
//! chosen is unpacked, not installed, and Debian's own choice of alternatives rarely has any.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::control::{Stanza, stanzas};
use super::error::DebianError;
use super::relation::{Relation, alternatives, groups};
use super::version::compare;

/// One version of a package.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its version.
    pub(super) version: &'a str,
    /// Which list names it, by number.
    pub(super) list: usize,
    stanza: Stanza<'a>,
}

impl<'a> Package<'a> {
    /// The first line of one of its fields.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        self.stanza.field(name)
    }
}

/// All packages of some lists.
#[derive(Debug, Default)]
pub(super) struct Universe<'a> {
    packages: Vec<Package<'a>>,
    by_name: HashMap<&'a str, Vec<usize>>,
    /// What provides a name, with the version that is provided, if one is said.
    providers: HashMap<&'a str, Vec<(usize, Option<&'a str>)>>,
}

/// Packages that are chosen, by name.
pub(super) type Chosen<'a> = BTreeMap<&'a str, Package<'a>>;

impl<'a> Universe<'a> {
    /// Reads lists of packages; those of one that is only taken from when nothing else has a
    /// package come last.
    pub(super) fn of(lists: impl Iterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        for (list, text) in lists.enumerate() {
            for stanza in stanzas(text) {
                all.add(list, stanza);
            }
        }
        all
    }

    fn add(&mut self, list: usize, stanza: Stanza<'a>) {
        let (Some(name), Some(version)) = (stanza.field("Package"), stanza.field("Version")) else {
            return;
        };
        let number = self.packages.len();
        self.packages.push(Package {
            name,
            version,
            list,
            stanza,
        });
        self.by_name.entry(name).or_default().push(number);
        for provided in groups(stanza.field("Provides").unwrap_or_default()) {
            let Relation { name, bound } = Relation::parse(provided);
            let version = match bound {
                super::relation::Bound::Exactly(version) => Some(version),
                _ => None,
            };
            self.providers
                .entry(name)
                .or_default()
                .push((number, version));
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.packages.len()
    }

    /// The newest version of a package that a relation takes.
    pub(super) fn newest(&self, relation: Relation<'_>) -> Option<Package<'a>> {
        let versions = self.by_name.get(relation.name)?.iter();
        versions
            .map(|number| self.packages[*number])
            .filter(|package| relation.bound.holds(package.version))
            // The first of equals: the order of the sources counts.
            .reduce(|best, other| match compare(other.version, best.version) {
                Ordering::Greater => other,
                _ => best,
            })
    }

    /// What is provided under the name of a relation, by the first provider there is.
    fn provider(&self, relation: Relation<'_>) -> Option<Package<'a>> {
        let mut candidates: Vec<Package<'a>> = self
            .providers(relation)
            .filter(|package| {
                // One that is out of date is as good as not there.
                self.newest(Relation::parse(package.name))
                    .is_some_and(|newest| newest.version == package.version)
            })
            .collect();
        candidates.sort_by_key(|package| package.name);
        candidates.first().copied()
    }

    fn providers(&self, relation: Relation<'_>) -> impl Iterator<Item = Package<'a>> {
        let providers = self.providers.get(relation.name);
        providers
            .into_iter()
            .flatten()
            .filter(move |(_, version)| match version {
                Some(version) => relation.bound.holds(version),
                None => relation.bound == super::relation::Bound::None,
            })
            .map(|(number, _)| self.packages[*number])
    }

    /// The wanted packages and everything that they depend on, but for what is named in `without`.
    pub(super) fn closure(
        &self,
        wanted: &[&str],
        without: &BTreeSet<&str>,
    ) -> Result<Chosen<'a>, DebianError> {
        let mut chosen = Chosen::new();
        let mut pending = VecDeque::new();
        for name in wanted {
            let relation = Relation::parse(name);
            let package = self.newest(relation).or_else(|| self.provider(relation));
            let package = package.ok_or_else(|| self.unknown(name))?;
            if chosen.insert(package.name, package).is_none() {
                pending.push_back(package);
            }
        }
        while let Some(package) = pending.pop_front() {
            for field in ["Pre-Depends", "Depends"] {
                for group in groups(package.field(field).unwrap_or_default()) {
                    let new = self.choose(&package, group, &chosen, without)?;
                    if let Some(new) = new {
                        chosen.insert(new.name, new);
                        pending.push_back(new);
                    }
                }
            }
        }
        Ok(chosen)
    }

    /// What has to be added for one group; nothing when what is chosen will do.
    fn choose(
        &self,
        by: &Package<'a>,
        group: &str,
        chosen: &Chosen<'a>,
        without: &BTreeSet<&str>,
    ) -> Result<Option<Package<'a>>, DebianError> {
        let satisfied = alternatives(group).any(|relation| {
            let chosen_name = chosen.get(relation.name);
            without.contains(relation.name)
                || chosen_name.is_some_and(|package| relation.bound.holds(package.version))
                || self
                    .providers(relation)
                    .any(|package| chosen.contains_key(package.name))
        });
        if satisfied {
            return Ok(None);
        }
        let found = alternatives(group)
            .filter(|relation| !chosen.contains_key(relation.name))
            .find_map(|relation| {
                let package = self.newest(relation);
                package.or_else(|| self.provider(relation))
            });
        found.map(Some).ok_or_else(|| DebianError::Unsatisfied {
            package: format!("{} {}", by.name, by.version),
            needs: group.to_owned(),
        })
    }

    fn unknown(&self, name: &str) -> DebianError {
        // Among so many names anything looks like anything: a slip is rarely at the start.
        let start = name.get(..2).unwrap_or(name);
        let names = self.by_name.keys().copied();
        let names = names.filter(|other| other.starts_with(start));
        DebianError::NoPackage {
            name: name.to_owned(),
            similar: super::super::super::error::similar(name, names),
            known: self.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
Package: lua\nVersion: 5.4-1\nDepends: libc (>= 2), libreadline | libedit, editor\n\n\
Package: lua\nVersion: 5.4-2\nDepends: libc (>= 2), libreadline | libedit, editor\n\n\
Package: libc\nVersion: 2.36\nPre-Depends: never\n\n\
Package: libedit\nVersion: 3\nDepends: libc\n\n\
Package: vim\nVersion: 9\nProvides: editor, vi (= 9)\n\n\
Package: nano\nVersion: 7\nProvides: editor\n\n\
Package: ring\nVersion: 1\nDepends: ring-b\n\n\
Package: ring-b\nVersion: 1\nDepends: ring\n\n\
Package: new\nVersion: 1\nDepends: libc (>= 3)\n\n\
Package: asks-vi\nVersion: 1\nDepends: vi (>= 9)\n\n\
Package: asks-vi-10\nVersion: 1\nDepends: vi (>= 10)\n";

    fn names(wanted: &[&str]) -> Result<Vec<String>, String> {
        let universe = Universe::of([LIST].into_iter());
        let without = BTreeSet::from(["never"]);
        let chosen = universe.closure(wanted, &without);
        let chosen = chosen.map_err(|error| error.to_string())?;
        let name = |package: &Package<'_>| format!("{} {}", package.name, package.version);
        Ok(chosen.values().map(name).collect())
    }

    #[test]
    fn a_closure_has_the_newest_of_each_and_one_of_alternatives() {
        assert_eq!(
            names(&["lua"]).expect("all is there"),
            ["libc 2.36", "libedit 3", "lua 5.4-2", "nano 7"]
        );
    }

    #[test]
    fn what_is_chosen_already_satisfies_an_alternative() {
        assert_eq!(
            names(&["vim", "lua"]).expect("all is there"),
            ["libc 2.36", "libedit 3", "lua 5.4-2", "vim 9"]
        );
    }

    #[test]
    fn a_ring_is_no_trouble() {
        assert_eq!(names(&["ring"]).expect("both"), ["ring 1", "ring-b 1"]);
    }

    #[test]
    fn a_provided_version_counts() {
        assert_eq!(names(&["asks-vi"]).expect("9"), ["asks-vi 1", "vim 9"]);
        let text = names(&["asks-vi-10"]).expect_err("9 is provided");
        assert!(
            text.contains("asks-vi-10 1") && text.contains("vi (>= 10)"),
            "{text}"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_who_needs_it() {
        let text = names(&["new"]).expect_err("libc is 2.36");
        assert!(
            text.contains("new 1") && text.contains("libc (>= 3)"),
            "{text}"
        );
        let text = names(&["libcc"]).expect_err("a slip");
        assert!(text.contains("libcc") && text.contains("libc?"), "{text}");
    }
}
