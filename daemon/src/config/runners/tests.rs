//! Faults with their places, and the two forms of one file.

use proptest::prelude::*;

use super::*;
use crate::config::{Flags, load, paths::Host};

/// The annotated example, with every line that shows a setting brought to life.
const EXAMPLE: &str = include_str!("../../../../contrib/config/runners.toml");

fn max() -> Limits {
    let host = Host {
        home: crate::config::Home::User,
        uid: 1000,
        cpus: 2,
        variables: std::collections::BTreeMap::new(),
    };
    let flags = Flags::default();
    load(&flags, &host).expect("defaults").config.limits.max
}

fn alive(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_sets_nothing_until_its_lines_are_brought_to_life() {
    assert_eq!(parse(EXAMPLE, &max()), Ok(Vec::new()));
    let entries = parse(&alive(EXAMPLE), &max()).expect("a good file");
    assert!(entries.len() > 1, "{entries:?}");
}

#[test]
fn the_example_names_every_key() {
    let file: RawFile = toml::from_str(&alive(EXAMPLE)).expect("a good file");
    let named = |key: fn(&RawEntry) -> bool| file.runner.iter().any(key);
    assert!(named(|entry| entry.versions.is_some()));
    assert!(named(|entry| entry.cache.is_some()));
    assert!(named(|entry| entry.network.is_some()));
    assert!(named(|entry| entry.allow.is_some()));
    let stages: Vec<api::Limits> = file
        .runner
        .iter()
        .flat_map(|entry| [&entry.compile, &entry.run])
        .flatten()
        .map(given)
        .collect();
    for (index, key) in KEYS.iter().enumerate() {
        let is_set = |limits: &api::Limits| numbers(limits)[index].1.is_some();
        assert!(stages.iter().any(is_set), "{key}");
    }
}

#[test]
fn a_fault_is_named_with_its_place_and_what_would_be_right() {
    let check = |text: &str, expected: &str| {
        let error = parse(text, &max()).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{text:?} gives {error}");
    };
    check("[[runner]\n", "line 1, column ");
    check(
        "[[runner]]\nlanguage = \"c\"\nlangauge = 1\n",
        "line 3, column 1: unknown field `langauge`",
    );
    check(
        "[[runner]]\nversions = \"*\"\n",
        "line 1, column 1: missing field",
    );
    check(
        "[[runner]]\nlanguage = \"a b\"\n",
        "line 2, column 12: runner[0].language: is a language",
    );
    check(
        "[[runner]]\nlanguage = \"c\"\n[[runner]]\nlanguage = \"c\"\nversions = \"x.y\"\n",
        "line 5, column 12: runner[1].versions: `x.y` is not a version range",
    );
    check(
        "[[runner]]\nlanguage = \"c\"\n[runner.run]\nmemory = \"4G\"\n",
        "line 4, column 10: runner[0].run.memory: 4 GiB is above limits.max.memory, 2 GiB: \
         lower it",
    );
    check(
        "[[runner]]\nlanguage = \"c\"\ncompile = { wall_time = 0 }\n",
        "line 3, column 25: runner[0].compile.wall_time: 0 is not a limit",
    );
    check(
        "[[runner]]\nlanguage = \"c\"\nrun.wall_time = \"soon\"\n",
        "line 3, column 17: `soon` is not a time",
    );
    check(
        "[[runner]]\nlanguage = \"c\"\ncache = \"all\"\n",
        "line 3, column 9: unknown variant `all`",
    );
    check(
        "[[runner]]\nlanguage = \"c\"\nallow = [\"netlink\", \"bpf\"]\n",
        "line 3, column 21: runner[0].allow[1]: unknown variant `bpf`, expected one of `inotify`",
    );
    check(
        "[[runner]]\nlanguage = \"c\"\nnetwork = \"all\"\n",
        "line 3, column 11: unknown variant `all`",
    );
    let many = "[[runner]]\nlanguage = \"c\"\n".repeat(MAX_ENTRIES + 1);
    check(&many, "runner: has 1025 entries");
}

#[test]
fn no_output_at_all_is_a_limit() {
    let text = "[[runner]]\nlanguage = \"c\"\nrun.output = 0\n";
    let entries = parse(text, &max()).expect("a good file");
    assert_eq!(
        entries[0].limits.run.output_bytes.map(|size| size.0),
        Some(0)
    );
}

#[test]
fn an_entry_is_for_a_language_an_alias_or_a_package_in_its_versions() {
    let package = PackageRef::new(
        "gcc".parse().expect("a name"),
        "12.2.0".parse().expect("a version"),
    );
    let runtime = ProvidedRuntime {
        language: "c++".parse().expect("a language"),
        aliases: vec!["cpp".to_owned()],
        limits: std::collections::BTreeMap::new(),
    };
    let check = |language: &str, versions: &str, expected: bool| {
        let text = format!("[[runner]]\nlanguage = \"{language}\"\n{versions}");
        let entries = parse(&text, &max()).expect("a good file");
        assert_eq!(entries[0].matches(&package, &runtime), expected, "{text}");
    };
    check("c++", "", true);
    check("cpp", "", true);
    check("gcc", "", true);
    check("c", "", false);
    check("c++", "versions = \"12\"", true);
    check("c++", "versions = \">=13\"", false);
}

fn limits() -> impl Strategy<Value = api::Limits> {
    let number = || proptest::option::of(1_u64..1_000);
    (number(), number(), number(), number()).prop_map(|(wall, memory, processes, disk)| {
        api::Limits {
            wall_time_ms: wall.map(piston_client::units::Millis),
            memory_bytes: memory.map(piston_client::units::Bytes),
            disk_bytes: disk.map(piston_client::units::Bytes),
            processes,
            ..api::Limits::default()
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_says_what_was_given(
        language in "[a-z+#.-]{1,20}",
        versions in proptest::option::of("[0-9]\\.[0-9]"),
        compile in limits(),
        run in limits(),
        cached in any::<bool>(),
    ) {
        let entry = api::Runner {
            language,
            versions,
            limits: api::StageLimits { compile, run },
            cache: cached.then_some(CacheLevel::Output),
            network: cached.then_some(Network::Host),
            allow: cached.then(|| vec!["inotify".to_owned(), "io_uring".to_owned()]),
        };
        let text = render(vec![entry.clone(), entry.clone()]).expect("plain data");
        let read: Vec<_> = parse(&text, &max())
            .expect("what was written is good")
            .iter()
            .map(Entry::as_wire)
            .collect();
        prop_assert_eq!(read, vec![entry.clone(), entry]);
    }
}
