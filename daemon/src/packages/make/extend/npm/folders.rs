//! Which version of which package in which folder, so that each finds what it needs.
//!
//! As high as possible: at the top, where every program finds it, unless another version is there;
//! then beside the one that needs it. Bounded in packages and depth. Knows nothing of files and of
//! the network.

use std::collections::{BTreeMap, VecDeque};

use piston_client::ids::Version;

use super::super::super::super::version::VersionRange;
use super::super::ExtendError;
use super::name::{Name, Wanted};
use super::packument::{Kind, Need};

/// Folders at most.
const MAX_FOLDERS: usize = 3000;
/// Folders in folders at most.
const MAX_DEPTH: usize = 16;

/// The names of the folders that lead to a package.
pub(super) type Place = Vec<Name>;

/// What there is to choose from.
pub(super) trait Registry {
    /// The version to take.
    fn choose(&mut self, wanted: &Wanted) -> Result<Version, ExtendError>;
    /// What it needs, unless it is not for this kind of machine.
    fn needs(&mut self, real: &Name, version: &Version) -> Result<Fits, ExtendError>;
}

/// Whether a version is for this kind of machine.
pub(super) enum Fits {
    /// It is, and needs these.
    Yes(Vec<Need>),
    /// It is not.
    No,
}

/// A package in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    /// What the registry calls it.
    pub(super) real: Name,
    /// Which version.
    pub(super) version: Version,
    /// Whether it is there already.
    pub(super) is_new: bool,
}

/// What goes where, and what is worth telling.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// The packages by their places.
    pub(super) placed: BTreeMap<Place, Placed>,
    /// A sentence for each that may not find what it needs.
    pub(super) notes: Vec<String>,
}

/// Something that is to be placed.
struct Open {
    /// Where the one is who needs it.
    from: Place,
    /// Who that is; empty for the user.
    by: String,
    what: Wanted,
    kind: Kind,
}

/// Places what is wanted and all that it needs beside what is there at the top.
pub(super) fn place(
    wanted: Vec<Wanted>,
    installed: &BTreeMap<Name, Version>,
    registry: &mut dyn Registry,
) -> Result<Folders, ExtendError> {
    let mut folders = Folders::default();
    for (name, version) in installed {
        let placed = Placed {
            real: name.clone(),
            version: version.clone(),
            is_new: false,
        };
        folders.placed.insert(vec![name.clone()], placed);
    }
    let asked = |what| Open {
        from: Vec::new(),
        by: String::new(),
        what,
        kind: Kind::Needed,
    };
    let mut open: VecDeque<Open> = wanted.into_iter().map(asked).collect();
    while let Some(next) = open.pop_front() {
        folders.add(next, registry, &mut open)?;
    }
    Ok(folders)
}

impl Folders {
    fn add(
        &mut self,
        next: Open,
        registry: &mut dyn Registry,
        open: &mut VecDeque<Open>,
    ) -> Result<(), ExtendError> {
        let Open {
            from,
            by,
            what,
            kind,
        } = next;
        let found = self.seen_from(&from, &what.name);
        if found.is_some_and(|there| satisfies(&what, there)) {
            return Ok(());
        }
        let place = match found {
            None => vec![what.name.clone()],
            Some(there) if kind == Kind::Peer => {
                let note = format!(
                    "{by} wants {} beside it, there is {}",
                    what.shown(),
                    there.version
                );
                self.notes.push(note);
                return Ok(());
            }
            Some(there) if by.is_empty() => {
                return Err(ExtendError::Clash(format!(
                    "{} is asked for, and {} {} is there; extend a package without it",
                    what.shown(),
                    what.name,
                    there.version
                )));
            }
            Some(_) => [from, vec![what.name.clone()]].concat(),
        };
        self.bound(&place)?;
        let version = match registry.choose(&what) {
            Ok(version) => version,
            // It does without.
            Err(ExtendError::Unknown { .. } | ExtendError::Clash(_)) if kind == Kind::Optional => {
                return Ok(());
            }
            Err(ExtendError::Unknown { index, project, .. }) => {
                return Err(ExtendError::Unknown { index, project, by });
            }
            Err(ExtendError::Clash(reason)) => {
                let shown = what.shown();
                return Err(ExtendError::Clash(if by.is_empty() {
                    format!("{shown} can't be added: {reason}")
                } else {
                    format!("{by} needs {shown}: {reason}")
                }));
            }
            Err(error) => return Err(error),
        };
        let needs = match registry.needs(&what.real, &version)? {
            Fits::Yes(needs) => needs,
            Fits::No if kind == Kind::Optional => return Ok(()),
            Fits::No => {
                let text = format!("{} {version} is not for this kind of machine", what.name);
                return Err(ExtendError::Clash(text));
            }
        };
        let by = format!("{} {version}", what.name);
        for Need { what, kind } in needs {
            let what = match what {
                Ok(what) => what,
                Err(_) if kind == Kind::Optional => continue,
                Err(reason) => return Err(ExtendError::Clash(format!("{by} needs: {reason}"))),
            };
            // A peer is looked for where the package itself is, not inside of it.
            let from = if kind == Kind::Peer {
                place[..place.len() - 1].to_vec()
            } else {
                place.clone()
            };
            open.push_back(Open {
                from,
                by: by.clone(),
                what,
                kind,
            });
        }
        let placed = Placed {
            real: what.real,
            version,
            is_new: true,
        };
        self.placed.insert(place, placed);
        Ok(())
    }

    /// What a package at a place loads by a name: the nearest one.
    fn seen_from(&self, from: &[Name], name: &Name) -> Option<&Placed> {
        (0..=from.len()).rev().find_map(|depth| {
            let place = [&from[..depth], std::slice::from_ref(name)].concat();
            self.placed.get(&place)
        })
    }

    fn bound(&self, place: &Place) -> Result<(), ExtendError> {
        let too_much = |what: String, most: usize| {
            Err(ExtendError::TooMuch {
                what,
                most: most.to_string(),
            })
        };
        match place.last() {
            Some(name) if place.len() > MAX_DEPTH => too_much(
                format!("{name} would be in {} folders", place.len()),
                MAX_DEPTH,
            ),
            Some(name) if self.placed.len() >= MAX_FOLDERS => too_much(
                format!("{name} would be package number {}", MAX_FOLDERS + 1),
                MAX_FOLDERS,
            ),
            _ => Ok(()),
        }
    }
}

/// Whether what is there will do. A tag is satisfied by whatever is there.
fn satisfies(what: &Wanted, there: &Placed) -> bool {
    let range = what.versions.parse::<VersionRange>();
    what.real == there.real && range.map_or(true, |range| range.matches(&there.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, &'static str, &'static [(&'static str, Kind)]);

    struct Shelf(Vec<Row>);

    impl Registry for Shelf {
        fn choose(&mut self, wanted: &Wanted) -> Result<Version, ExtendError> {
            let rows = self
                .0
                .iter()
                .filter(|(name, ..)| *name == wanted.real.as_str());
            let versions =
                rows.map(|(_, version, _)| version.parse::<Version>().expect("a version"));
            let range: VersionRange = wanted.versions.parse().expect("a range");
            let unknown = || ExtendError::Unknown {
                index: "the shelf".to_owned(),
                project: wanted.real.to_string(),
                by: String::new(),
            };
            versions
                .filter(|version| range.matches(version))
                .max()
                .ok_or_else(unknown)
        }

        fn needs(&mut self, real: &Name, version: &Version) -> Result<Fits, ExtendError> {
            let row = self
                .0
                .iter()
                .find(|(name, v, _)| *name == real.as_str() && *v == version.to_string());
            let needs = row.expect("a row").2;
            if needs.iter().any(|(what, _)| *what == "another-machine") {
                return Ok(Fits::No);
            }
            let need = |(what, kind): &(&str, Kind)| Need {
                what: Ok(Wanted::parse(what).expect(what)),
                kind: *kind,
            };
            Ok(Fits::Yes(needs.iter().map(need).collect()))
        }
    }

    fn placed(rows: &[Row], installed: &[(&str, &str)], wanted: &[&str]) -> Result<String, String> {
        let wanted = wanted
            .iter()
            .map(|text| Wanted::parse(text).expect(text))
            .collect();
        let installed = installed.iter().map(|(name, version)| {
            (
                Name::new(name).expect("a name"),
                version.parse().expect("a version"),
            )
        });
        let found = place(wanted, &installed.collect(), &mut Shelf(rows.to_vec()));
        let shown = |folders: Folders| {
            let new = folders.placed.iter().filter(|(_, placed)| placed.is_new);
            let paths = new.map(|(place, placed)| {
                let path: Vec<&str> = place.iter().map(Name::as_str).collect();
                format!("{}={}", path.join(">"), placed.version)
            });
            paths.chain(folders.notes).collect::<Vec<_>>().join(" ")
        };
        found.map(shown).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_is_at_the_top_unless_versions_differ() {
        use Kind::Needed;
        let rows: &[Row] = &[
            ("a", "1.0.0", &[("c@^1", Needed), ("b", Needed)]),
            ("b", "1.0.0", &[("c@^2", Needed), ("d", Needed)]),
            ("c", "1.5.0", &[]),
            ("c", "2.5.0", &[("d@1", Needed)]),
            ("d", "2.0.0", &[]),
            ("d", "1.0.0", &[]),
        ];
        let found = placed(rows, &[], &["a"]).expect("placed");
        assert_eq!(
            found,
            "a=1.0.0 b=1.0.0 b>c=2.5.0 b>c>d=1.0.0 c=1.5.0 d=2.0.0"
        );
        // What is there stays, and others get their own beside it.
        let found = placed(rows, &[("c", "2.9.0")], &["a"]).expect("placed");
        assert_eq!(found, "a=1.0.0 a>c=1.5.0 b=1.0.0 d=2.0.0");
        let found = placed(rows, &[("a", "1.0.0")], &["a@1"]).expect("placed");
        assert_eq!(found, "", "nothing is new");
        let error = placed(rows, &[("c", "1.0.0")], &["c@2"]).expect_err("another c");
        assert!(
            error.contains("c@2 is asked for, and c 1.0.0 is there"),
            "{error}"
        );
    }

    #[test]
    fn packages_that_need_each_other_are_placed_once() {
        let rows: &[Row] = &[
            ("a", "1.0.0", &[("b", Kind::Needed)]),
            ("b", "1.0.0", &[("a", Kind::Needed)]),
        ];
        assert_eq!(
            placed(rows, &[], &["a"]).expect("placed"),
            "a=1.0.0 b=1.0.0"
        );
    }

    #[test]
    fn a_peer_is_at_the_top_or_told_about() {
        let rows: &[Row] = &[
            ("plugin", "1.0.0", &[("host@2", Kind::Peer)]),
            ("host", "1.0.0", &[]),
            ("host", "2.0.0", &[]),
        ];
        assert_eq!(
            placed(rows, &[], &["plugin"]).expect("placed"),
            "host=2.0.0 plugin=1.0.0"
        );
        let found = placed(rows, &[("host", "1.0.0")], &["plugin"]).expect("placed");
        assert_eq!(
            found,
            "plugin=1.0.0 plugin 1.0.0 wants host@2 beside it, there is 1.0.0"
        );
    }

    #[test]
    fn what_is_optional_may_be_missing_and_what_is_needed_may_not() {
        use Kind::{Needed, Optional};
        let rows: &[Row] = &[
            (
                "a",
                "1.0.0",
                &[("gone", Optional), ("other", Optional), ("there", Optional)],
            ),
            ("b", "1.0.0", &[("gone", Needed)]),
            ("c", "1.0.0", &[("other", Needed)]),
            ("other", "1.0.0", &[("another-machine", Needed)]),
            ("there", "1.0.0", &[]),
        ];
        assert_eq!(
            placed(rows, &[], &["a"]).expect("placed"),
            "a=1.0.0 there=1.0.0"
        );
        let error = placed(rows, &[], &["b"]).expect_err("nothing of that name");
        assert!(error.contains("no gone, which b 1.0.0 needs"), "{error}");
        let error = placed(rows, &[], &["c"]).expect_err("for another machine");
        assert!(error.contains("not for this kind of machine"), "{error}");
    }

    #[test]
    fn versions_that_bring_each_other_for_ever_are_given_up() {
        let rows: &[Row] = &[
            ("a", "1.0.0", &[("b@1", Kind::Needed)]),
            ("a", "2.0.0", &[("b@2", Kind::Needed)]),
            ("b", "1.0.0", &[("a@2", Kind::Needed)]),
            ("b", "2.0.0", &[("a@1", Kind::Needed)]),
        ];
        let error = placed(rows, &[], &["a@1"]).expect_err("no end");
        assert!(error.contains("folders"), "{error}");
    }
}
