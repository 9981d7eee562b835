//! Which version of which package in which folder, so that each finds what it needs.
//!
//! As high as possible: at the top, where every program finds it, unless another version is there;
//! then beside the one that needs it. Bounded in packages and depth. Knows nothing of files and of
//! the network.

use std::collections::{BTreeMap, VecDeque};

use piston_client::ids::Version;

use super::super::ExtendError;
use super::name::{Name, Versions, Wanted};
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

/// What is to be placed, in order: what was asked for, then what has to be beside it, then the rest;
/// so that who has to share a package with others finds it at the top.
#[derive(Default)]
struct Queue {
    first: VecDeque<Open>,
    later: VecDeque<Open>,
}

impl Queue {
    fn push(&mut self, open: Open) {
        match open.kind {
            Kind::Peer => self.first.push_back(open),
            Kind::Needed | Kind::Optional => self.later.push_back(open),
        }
    }

    fn pop(&mut self) -> Option<Open> {
        self.first.pop_front().or_else(|| self.later.pop_front())
    }
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
    let mut queue = Queue::default();
    queue.first.extend(wanted.into_iter().map(|what| Open {
        from: Vec::new(),
        by: String::new(),
        what,
        kind: Kind::Needed,
    }));
    while let Some(next) = queue.pop() {
        folders.add(next, registry, &mut queue)?;
    }
    Ok(folders)
}

impl Folders {
    fn add(
        &mut self,
        next: Open,
        registry: &mut dyn Registry,
        queue: &mut Queue,
    ) -> Result<(), ExtendError> {
        let Some(place) = self.place_of(&next, registry)? else {
            return Ok(());
        };
        self.bound(&place)?;
        let Some((version, needs)) = choose(&next, registry)? else {
            return Ok(());
        };
        let by = format!("{} {version}", next.what.name);
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
            queue.push(Open {
                from,
                by: by.clone(),
                what,
                kind,
            });
        }
        let placed = Placed {
            real: next.what.real,
            version,
            is_new: true,
        };
        self.placed.insert(place, placed);
        Ok(())
    }

    /// Where something goes; nowhere when what is there will do, or can't be helped.
    fn place_of(
        &mut self,
        next: &Open,
        registry: &mut dyn Registry,
    ) -> Result<Option<Place>, ExtendError> {
        let Open {
            from,
            by,
            what,
            kind,
        } = next;
        let Some(there) = self.seen_from(from, &what.name) else {
            return Ok(Some(vec![what.name.clone()]));
        };
        let will_do = what.real == there.real
            && match &what.versions {
                Versions::Range(range) => range.matches(&there.version),
                // Who needs a package by a tag takes what there is of it.
                Versions::Tag(_) => !by.is_empty() || registry.choose(what)? == there.version,
            };
        if will_do {
            return Ok(None);
        }
        let (shown, there) = (what.shown(), there.version.clone());
        if *kind == Kind::Peer {
            let note = format!("{by} wants {shown} beside it, there is {there}");
            self.notes.push(note);
            return Ok(None);
        }
        if by.is_empty() {
            return Err(ExtendError::Clash(format!(
                "{shown} is asked for, and {} {there} is there; extend a package without it",
                what.name
            )));
        }
        Ok(Some(
            [from.as_slice(), std::slice::from_ref(&what.name)].concat(),
        ))
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

/// The version of something and what it needs; none when it is done without.
fn choose(
    next: &Open,
    registry: &mut dyn Registry,
) -> Result<Option<(Version, Vec<Need>)>, ExtendError> {
    let Open { by, what, kind, .. } = next;
    let optional = *kind == Kind::Optional;
    let version = match registry.choose(what) {
        Ok(version) => version,
        Err(ExtendError::Unknown { .. } | ExtendError::Clash(_)) if optional => return Ok(None),
        Err(ExtendError::Unknown { index, project, .. }) => {
            let by = by.clone();
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
    match registry.needs(&what.real, &version)? {
        Fits::Yes(needs) => Ok(Some((version, needs))),
        Fits::No if optional => Ok(None),
        Fits::No => {
            let text = format!("{} {version} is not for this kind of machine", what.name);
            Err(ExtendError::Clash(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;

    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, Kind)]);

    struct Shelf<'a>(Vec<Row<'a>>);

    impl Registry for Shelf<'_> {
        fn choose(&mut self, wanted: &Wanted) -> Result<Version, ExtendError> {
            let rows = self
                .0
                .iter()
                .filter(|(name, ..)| *name == wanted.real.as_str());
            let versions =
                rows.map(|(_, version, _)| version.parse::<Version>().expect("a version"));
            let fits = |version: &Version| match &wanted.versions {
                Versions::Range(range) => range.matches(version),
                Versions::Tag(tag) => tag == "latest",
            };
            let unknown = || ExtendError::Unknown {
                index: "the shelf".to_owned(),
                project: wanted.real.to_string(),
                by: String::new(),
            };
            versions.filter(fits).max().ok_or_else(unknown)
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

    fn placed(
        rows: &[Row<'_>],
        installed: &[(&str, &str)],
        wanted: &[&str],
    ) -> Result<String, String> {
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
        let rows: &[Row<'_>] = &[
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
        let rows: &[Row<'_>] = &[
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
        let rows: &[Row<'_>] = &[
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
    fn who_shares_a_package_finds_it_at_the_top_whoever_else_needs_another() {
        let rows: &[Row<'_>] = &[
            (
                "app",
                "1.0.0",
                &[("host@1", Kind::Needed), ("plugin", Kind::Needed)],
            ),
            ("plugin", "1.0.0", &[("host@2", Kind::Peer)]),
            ("host", "1.0.0", &[]),
            ("host", "2.0.0", &[]),
        ];
        let found = placed(rows, &[], &["app", "plugin"]).expect("placed");
        assert_eq!(found, "app=1.0.0 app>host=1.0.0 host=2.0.0 plugin=1.0.0");
        // What was asked for comes before that.
        let found = placed(rows, &[], &["plugin", "host@1"]).expect("placed");
        assert_eq!(
            found,
            "host=1.0.0 plugin=1.0.0 plugin 1.0.0 wants host@2 beside it, there is 1.0.0"
        );
    }

    #[test]
    fn a_tag_that_is_asked_for_means_its_version() {
        let rows: &[Row<'_>] = &[
            ("a", "1.0.0", &[]),
            ("a", "2.0.0", &[]),
            ("b", "1.0.0", &[("a@latest", Kind::Needed)]),
        ];
        let there = [("a", "1.0.0")];
        let error = placed(rows, &there, &["a@latest"]).expect_err("another one is there");
        assert!(
            error.contains("a@latest is asked for, and a 1.0.0 is there"),
            "{error}"
        );
        assert_eq!(
            placed(rows, &[("a", "2.0.0")], &["a@latest"]).expect("placed"),
            ""
        );
        assert_eq!(placed(rows, &there, &["b"]).expect("placed"), "b=1.0.0");
    }

    #[test]
    fn what_is_optional_may_be_missing_and_what_is_needed_may_not() {
        use Kind::{Needed, Optional};
        let rows: &[Row<'_>] = &[
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
        let rows: &[Row<'_>] = &[
            ("a", "1.0.0", &[("b@1", Kind::Needed)]),
            ("a", "2.0.0", &[("b@2", Kind::Needed)]),
            ("b", "1.0.0", &[("a@2", Kind::Needed)]),
            ("b", "2.0.0", &[("a@1", Kind::Needed)]),
        ];
        let error = placed(rows, &[], &["a@1"]).expect_err("no end");
        assert!(error.contains("folders"), "{error}");
    }

    /// What packages of a registry need of each other.
    const NEEDS: [(&str, Kind); 8] = [
        ("a@1", Kind::Needed),
        ("a@2", Kind::Optional),
        ("b@1", Kind::Needed),
        ("b@2", Kind::Needed),
        ("c", Kind::Needed),
        ("c@1", Kind::Optional),
        ("d@1", Kind::Needed),
        ("d@2", Kind::Needed),
    ];

    proptest! {
        #[test]
        fn everybody_finds_what_they_need(
            mut needs in vec(subsequence(NEEDS.to_vec(), 0..4), 8),
            wanted in "[abcd]",
        ) {
            for needs in &mut needs {
                // Metadata has each name once.
                needs.dedup_by_key(|(what, _)| what.chars().next());
            }
            let versions = ["a", "b", "c", "d"].into_iter();
            let versions = versions.flat_map(|name| [(name, "1.0.0"), (name, "2.0.0")]);
            let row = |((name, version), needs)| (name, version, Vec::as_slice(needs));
            let rows: Vec<Row<'_>> = versions.zip(&needs).map(row).collect();
            let wanted = vec![Wanted::parse(&wanted).expect("a name")];
            let mut shelf = Shelf(rows);
            // Versions that bring each other for ever are another test's.
            let Ok(found) = place(wanted, &BTreeMap::new(), &mut shelf) else {
                return Ok(());
            };
            for (at, placed) in &found.placed {
                let needs = shelf.needs(&placed.real, &placed.version).expect("a row");
                let Fits::Yes(needs) = needs else { continue };
                for need in needs {
                    let what = need.what.expect("a need");
                    let seen = found.seen_from(at, &what.name);
                    let Versions::Range(range) = &what.versions else { continue };
                    prop_assert!(
                        seen.is_some_and(|seen| range.matches(&seen.version)),
                        "{:?} does not find {}", at, what.shown()
                    );
                }
            }
        }
    }
}
