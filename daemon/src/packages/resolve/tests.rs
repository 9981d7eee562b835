//! Resolution by example, and against a naive search of every combination.

use proptest::prelude::*;

use super::*;

/// `name-1.2.3: dependency range, dependency range`
fn candidate(line: &str) -> Candidate {
    let (package, needs) = line.split_once(':').unwrap_or((line, ""));
    let (language, version) = package.trim().split_once('-').unwrap();
    let dependencies = needs
        .split(',')
        .filter(|need| !need.trim().is_empty())
        .map(|need| {
            let (name, range) = need.trim().split_once(' ').unwrap();
            (name.parse().unwrap(), range.parse().unwrap())
        })
        .collect();
    Candidate {
        package: PackageRef::new(language.parse().unwrap(), version.parse().unwrap()),
        dependencies,
        trust: Trust::Unsigned,
    }
}

/// The same, vouched for.
fn vouched(lines: &[&str], trust: Trust) -> Shelf {
    let all = lines.iter().map(|line| Candidate {
        trust,
        ..candidate(line)
    });
    all.collect()
}

#[test]
fn a_signed_package_stands_on_nothing_that_nobody_vouches_for() {
    let signed = vouched(&["python-3.0.0: base ^1"], Trust::Signed);
    let (open, ours) = (
        shelf(&["base-1.9.0"]),
        vouched(&["base-1.0.0"], Trust::Ours),
    );
    let pick = |repositories: Vec<&Shelf>, installed: &Shelf| {
        let catalog = Catalog {
            repositories,
            installed,
        };
        let (python, any) = ("python".parse().unwrap(), VersionRange::any());
        resolve(&catalog, &[0], &python, &any)
    };
    let error = pick(vec![&signed, &open], &Shelf::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("base-1.9.0, which is not signed"),
        "{error}"
    );
    // The first in the order, or the newest, is not taken for it.
    let picks = pick(vec![&signed, &open, &ours], &Shelf::default()).unwrap();
    assert_eq!(picks[0].package.to_string(), "base-1.0.0");
    let picks = pick(vec![&signed, &open], &ours).unwrap();
    assert_eq!(picks[0].place, Place::Installed);
    let same = vouched(&["base-1.9.0"], Trust::Ours);
    let picks = pick(vec![&signed, &open], &same).unwrap();
    assert_eq!(picks[0].place, Place::Installed);
    // An unsigned one takes what it finds.
    let unsigned = shelf(&["python-3.0.0: base ^1"]);
    let picks = pick(vec![&unsigned, &open, &ours], &Shelf::default()).unwrap();
    assert_eq!(picks[0].package.to_string(), "base-1.9.0");
    // Nor does another package bring it into the view.
    let signed = vouched(&["python-3.0.0: base ^1, app *"], Trust::Signed);
    let apps = vouched(&["app-1.0.0: base ^1"], Trust::Ours);
    let error = pick(vec![&signed, &apps, &open], &Shelf::default()).unwrap_err();
    assert!(error.to_string().contains("is not signed"), "{error}");
}

fn shelf(lines: &[&str]) -> Shelf {
    lines.iter().map(|line| candidate(line)).collect()
}

/// Resolves `python *` in the first repository.
fn outcome(repositories: &[&[&str]], installed: &[&str]) -> Result<String, String> {
    let shelves: Vec<Shelf> = repositories.iter().map(|lines| shelf(lines)).collect();
    let catalog = Catalog {
        repositories: shelves.iter().collect(),
        installed: &shelf(installed),
    };
    resolve(
        &catalog,
        &[0],
        &"python".parse().unwrap(),
        &VersionRange::any(),
    )
    .map(|picks| {
        let names: Vec<String> = picks
            .iter()
            .map(|pick| match pick.place {
                Place::Repository(number) => format!("{}@{number}", pick.package),
                Place::Installed | Place::Given => format!("{}@i", pick.package),
            })
            .collect();
        names.join(" ")
    })
    .map_err(|error| error.to_string())
}

#[test]
fn dependencies_come_first_and_ties_go_by_name() {
    let listed: &[&str] = &[
        "python-3.0.0: z *, a *",
        "z-1.0.0: base 1",
        "a-1.0.0: base 1",
        "base-1.0.0",
    ];
    assert_eq!(
        outcome(&[listed], &[]).unwrap(),
        "base-1.0.0@0 a-1.0.0@0 z-1.0.0@0 python-3.0.0@0"
    );
}

#[test]
fn the_newest_match_is_taken_and_pre_releases_are_not() {
    let listed: &[&str] = &[
        "python-3.0.0: base 1",
        "base-1.0.0",
        "base-1.2.0",
        "base-1.3.0-rc.1",
        "base-2.0.0",
    ];
    assert_eq!(
        outcome(&[listed], &[]).unwrap(),
        "base-1.2.0@0 python-3.0.0@0"
    );
}

#[test]
fn a_dependency_comes_from_the_own_repository_then_in_order_then_from_what_is_installed() {
    let root: &[&str] = &["python-3.0.0: base *"];
    assert_eq!(
        outcome(
            &[&["python-3.0.0: base *", "base-1.0.0"], &["base-2.0.0"]],
            &["base-3.0.0"]
        )
        .unwrap(),
        "base-1.0.0@0 python-3.0.0@0"
    );
    assert_eq!(
        outcome(&[root, &["base-2.0.0"], &["base-2.5.0"]], &["base-3.0.0"]).unwrap(),
        "base-2.0.0@1 python-3.0.0@0"
    );
    assert_eq!(
        outcome(&[root], &["base-3.0.0"]).unwrap(),
        "base-3.0.0@i python-3.0.0@0"
    );
}

#[test]
fn a_choice_that_leads_nowhere_is_taken_back() {
    let listed: &[&str] = &[
        "python-3.0.0: a *, b *",
        "a-2.0.0: base 2",
        "a-1.0.0: base 1",
        "b-1.0.0: base 1",
        "base-1.0.0",
        "base-2.0.0",
    ];
    assert_eq!(
        outcome(&[listed], &[]).unwrap(),
        "base-1.0.0@0 a-1.0.0@0 b-1.0.0@0 python-3.0.0@0"
    );
}

#[test]
fn what_is_missing_is_named_with_the_path_and_with_what_there_is() {
    let listed: &[&str] = &["python-3.0.0: lib *", "lib-1.0.0: base ^12", "base-11.0.0"];
    assert_eq!(
        outcome(&[listed], &[]).unwrap_err(),
        "python-3.0.0 -> lib-1.0.0 needs base >=12.0.0 <13.0.0, which is neither listed nor \
         installed; there is base 11.0.0"
    );
    assert_eq!(
        outcome(&[&["ruby-1.0.0"]], &[]).unwrap_err(),
        "no package python is listed"
    );
}

#[test]
fn two_versions_of_one_language_are_named_with_both_paths() {
    let listed: &[&str] = &[
        "python-3.0.0: a *, b *",
        "a-1.0.0: base 1",
        "b-1.0.0: base 2",
        "base-1.0.0",
        "base-2.0.0",
    ];
    let text = outcome(&[listed], &[]).unwrap_err();
    assert_eq!(
        text,
        "python-3.0.0 -> b-1.0.0 needs base >=2.0.0 <3.0.0, but python-3.0.0 -> a-1.0.0 brings \
         base-1.0.0 into the same view, which holds one version of a language"
    );
}

#[test]
fn a_circle_is_named_wherever_it_is() {
    for (listed, expected) in [
        (
            &["python-3.0.0: a *", "a-1.0.0: python *"][..],
            "a-1.0.0 -> python-3.0.0 -> a-1.0.0",
        ),
        (
            &["python-3.0.0: a *, b *", "a-1.0.0: b *", "b-1.0.0: a *"],
            "a-1.0.0 -> b-1.0.0 -> a-1.0.0",
        ),
        (
            &[
                "python-3.0.0: a *",
                "a-1.0.0: b *",
                "b-1.0.0: c *",
                "c-1.0.0: b *",
            ],
            "b-1.0.0 -> c-1.0.0 -> b-1.0.0",
        ),
    ] {
        let text = outcome(&[listed], &[]).unwrap_err();
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn a_chain_of_hundreds_is_given_up_with_an_error() {
    let lines: Vec<String> = (0..400)
        .map(|n| format!("p{n}-1.0.0: p{} *", n + 1))
        .chain(["python-1.0.0: p0 *".to_owned()])
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert!(outcome(&[&lines], &[]).unwrap_err().contains("too many"));
}

#[test]
fn what_is_missing_below_many_versions_of_many_is_named() {
    // Ten levels of ten versions, each with a dead end below: 10^10 combinations.
    let mut lines = vec!["python-1.0.0: p0 *, dead *".to_owned()];
    for level in 0..10 {
        for version in 0..10 {
            lines.push(format!("p{level}-{version}.0.0: p{} *", level + 1));
        }
    }
    lines.push("p10-1.0.0: gone *".to_owned());
    lines.push("dead-1.0.0".to_owned());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let text = outcome(&[&lines], &[]).unwrap_err();
    assert!(
        text.starts_with("python-1.0.0 -> p0-9.0.0 -> p1-9.0.0 ->")
            && text.contains("p10-1.0.0 needs gone *, which is neither listed nor installed"),
        "{text}"
    );
}

#[test]
fn a_tangle_without_solution_ends() {
    // Ranges in a circle that exclude each other in ways which only a search finds.
    let mut lines = vec![format!(
        "python-1.0.0: {}",
        (0..12)
            .map(|n| format!("p{n} *"))
            .collect::<Vec<_>>()
            .join(", ")
    )];
    for name in 0..12_u32 {
        for version in 0..8_u32 {
            let other = (name + 1 + version % 5) % 12;
            let range = (version * 7 + name) % 8;
            lines.push(format!("p{name}-{version}.0.0: p{other} {range}"));
        }
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    outcome(&[&lines], &[]).unwrap_err();
}

/// A small world: per language up to three versions, each with ranges on other languages.
fn world() -> impl Strategy<Value = Vec<Candidate>> {
    let need = (
        0_usize..5,
        prop_oneof![Just("*"), Just("1"), Just("2"), Just(">=2"), Just("1 || 3")],
    );
    let package = (0_usize..5, 1_u64..4, proptest::collection::vec(need, 0..3));
    proptest::collection::vec(package, 1..12).prop_map(|packages| {
        packages
            .into_iter()
            .map(|(name, version, needs)| {
                let needs: Vec<String> = needs
                    .into_iter()
                    .filter(|(other, _)| *other != name)
                    .map(|(other, range)| format!("l{other} {range}"))
                    .collect();
                candidate(&format!("l{name}-{version}.0.0: {}", needs.join(", ")))
            })
            .collect()
    })
}

fn satisfied(candidate: &Candidate, set: &BTreeMap<Language, &Candidate>) -> bool {
    candidate.dependencies.iter().all(|(language, range)| {
        set.get(language)
            .is_some_and(|there| range.matches(&there.package.version))
    })
}

/// Whether `set` is free of circles: packages whose dependencies are gone go, until none is left.
fn acyclic(set: &BTreeMap<Language, &Candidate>) -> bool {
    let mut left = set.clone();
    loop {
        let free: Vec<Language> = left
            .iter()
            .filter(|(_, c)| !c.dependencies.keys().any(|d| left.contains_key(d)))
            .map(|(language, _)| language.clone())
            .collect();
        if free.is_empty() {
            return left.is_empty();
        }
        left.retain(|language, _| !free.contains(language));
    }
}

/// Every way to take one or no version of each language, by brute force.
fn solvable(root: &Candidate, world: &Shelf) -> bool {
    let mut sets: Vec<BTreeMap<Language, &Candidate>> =
        vec![BTreeMap::from([(root.package.language.clone(), root)])];
    for language in world.languages().filter(|l| **l != root.package.language) {
        let mut more = sets.clone();
        for set in &sets {
            for candidate in world.versions(language) {
                let mut with = set.clone();
                with.insert(language.clone(), candidate);
                more.push(with);
            }
        }
        sets = more;
    }
    sets.iter()
        .any(|set| set.values().all(|candidate| satisfied(candidate, set)) && acyclic(set))
}

proptest! {
    #[test]
    fn a_solution_is_found_exactly_when_there_is_one(world in world()) {
        let shelf: Shelf = world.into_iter().collect();
        let language: Language = "l0".parse().unwrap();
        let empty = Shelf::default();
        let catalog = Catalog { repositories: vec![&shelf], installed: &empty };
        let result = resolve(&catalog, &[0], &language, &VersionRange::any());
        let Some(root) = shelf.versions(&language).first() else {
            prop_assert!(matches!(result, Err(ResolveError::NotListed { .. })), "expected NotListed");
            return Ok(());
        };
        prop_assert_eq!(result.is_ok(), solvable(root, &shelf));
        if let Ok(picks) = result {
            let set: BTreeMap<Language, &Candidate> = picks
                .iter()
                .map(|pick| {
                    let versions = shelf.versions(&pick.package.language);
                    let same = versions.iter().find(|c| c.package == pick.package).unwrap();
                    (pick.package.language.clone(), same)
                })
                .collect();
            prop_assert_eq!(set.len(), picks.len(), "one version of a language");
            prop_assert!(set.values().all(|candidate| satisfied(candidate, &set)));
            prop_assert_eq!(&picks.last().unwrap().package, &root.package);
            for (index, pick) in picks.iter().enumerate() {
                for dependency in &pick.dependencies {
                    prop_assert!(picks[..index].iter().any(|before| before.package == *dependency));
                }
            }
        }
    }
}
