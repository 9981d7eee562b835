//! Each field that can change a result changes its key, and nothing else does.

use std::time::Duration;

use piston_client::api::CacheLevel;
use piston_client::ids::Digest;
use piston_client::units::Bytes;
use proptest::prelude::*;

use super::*;
use crate::job::limits::Stages;
use crate::job::request::tests::{lease, policy};
use crate::job::request::{CodeFiles, Draft, DraftFile, FileForm};
use crate::packages::{Installed, Lease};

fn package() -> Installed {
    let installed = lease(&["c", "c++"]).installed;
    let mut installed = std::sync::Arc::into_inner(installed).expect("nobody else's");
    installed.compile = Some(Entry::Script("/compile".to_owned()));
    installed
}

fn file(name: &str, text: &str) -> DraftFile {
    DraftFile {
        name: Some(name.to_owned()),
        bytes: text.as_bytes().to_vec(),
        form: FileForm::Text,
    }
}

fn draft_of(installed: Installed) -> Draft {
    Draft {
        lease: Lease::made_up(installed),
        language: "c".parse().expect("a language"),
        files: vec![file("main.c", "int"), file("b.c", "x")],
        code: CodeFiles::FirstAndText,
        args: vec!["one".to_owned(), "two".to_owned()],
        stdin: b"in".to_vec(),
        env: [("A".to_owned(), "b".to_owned())].into(),
        limits: policy().defaults,
        outputs: vec!["*.txt".to_owned()],
        cache: Some(CacheLevel::Output),
        grants: crate::sandbox::Grants::default(),
    }
}

fn draft() -> Draft {
    draft_of(package())
}

/// The keys of the compile stage and of the result.
fn keys(draft: Draft) -> (Option<Key>, Key) {
    let request = Request::try_from(draft).expect("acceptable");
    (Key::of_compile(&request), Key::of_result(&request))
}

fn changed(change: impl Fn(&mut Draft)) -> (Option<Key>, Key) {
    let mut draft = draft();
    change(&mut draft);
    keys(draft)
}

#[test]
fn what_a_compile_is_given_changes_both_keys() {
    let (compile, result) = keys(draft());
    let check = |what: &str, keys: (Option<Key>, Key)| {
        assert!(keys.0.is_some() && keys.0 != compile, "compile, {what}");
        assert_ne!(keys.1, result, "result, {what}");
    };
    let of_package = |change: &dyn Fn(&mut Installed)| {
        let mut package = package();
        change(&mut package);
        keys(draft_of(package))
    };
    check(
        "the view",
        of_package(&|p| p.identity = Digest::from_bytes([1; 32])),
    );
    check(
        "the compile entry",
        of_package(&|p| p.compile = Some(Entry::BashScript("/compile".to_owned()))),
    );
    check(
        "the package's environment",
        of_package(&|p| p.environment = vec![("X".to_owned(), "y".to_owned())]),
    );
    check(
        "the language",
        changed(|d| d.language = "c++".parse().expect("a language")),
    );
    check(
        "a name",
        changed(|d| d.files[1].name = Some("c.c".to_owned())),
    );
    check("bytes", changed(|d| d.files[1].bytes.push(b' ')));
    check("the main file", changed(|d| d.files.reverse()));
    check("another file", changed(|d| d.files.push(file("z", ""))));
    check("a file less", changed(|d| drop(d.files.pop())));
    check(
        "what is code",
        changed(|d| d.files[1].form = FileForm::Encoded),
    );
    check(
        "env",
        changed(|d| drop(d.env.insert("A".to_owned(), "c".to_owned()))),
    );
    check(
        "more env",
        changed(|d| drop(d.env.insert("B".to_owned(), String::new()))),
    );
    for (name, change) in limit_changes() {
        check(name, changed(|d| change(&mut d.limits.compile)));
    }
}

#[test]
fn what_only_a_run_is_given_changes_the_key_of_the_result_alone() {
    let (compile, result) = keys(draft());
    let check = |what: &str, keys: (Option<Key>, Key)| {
        assert_eq!(keys.0, compile, "compile, {what}");
        assert_ne!(keys.1, result, "result, {what}");
    };
    check("an argument", changed(|d| d.args[1] = "three".to_owned()));
    check(
        "arguments joined",
        changed(|d| d.args = vec!["onetwo".to_owned()]),
    );
    check("the order of arguments", changed(|d| d.args.reverse()));
    check("stdin", changed(|d| d.stdin.push(0)));
    check("outputs", changed(|d| d.outputs[0] = "*".to_owned()));
    for (name, change) in limit_changes() {
        check(name, changed(|d| change(&mut d.limits.run)));
    }
    let mut package = package();
    package.run = Some(Entry::BashScript("/run".to_owned()));
    check("the run entry", keys(draft_of(package)));
}

#[test]
fn nothing_else_changes_a_key() {
    let expected = keys(draft());
    // Each request has another id.
    assert_eq!(keys(draft()), expected);
    for level in [None, Some(CacheLevel::None), Some(CacheLevel::Binary)] {
        assert_eq!(changed(|d| d.cache = level), expected, "{level:?}");
    }
    let mut package = package();
    package.cache = CacheLevel::Output;
    assert_eq!(keys(draft_of(package)), expected);
}

#[test]
fn without_a_compile_stage_the_result_has_a_key_all_the_same() {
    let interpreted = |change: &dyn Fn(&mut Draft)| {
        let mut package = package();
        package.compile = None;
        let mut draft = draft_of(package);
        change(&mut draft);
        keys(draft)
    };
    let (compile, result) = interpreted(&|_| {});
    assert_eq!(compile, None);
    assert_ne!(result, keys(draft()).1);
    assert_ne!(result, interpreted(&|d| d.files[0].bytes.clear()).1);
    assert_ne!(result, interpreted(&|d| d.stdin.clear()).1);
    assert_eq!(
        result,
        interpreted(&|d| d.limits.compile.disk = Bytes(1 << 19)).1,
        "limits of a stage that there is not"
    );
}

type Change = fn(&mut Limits);

fn limit_changes() -> [(&'static str, Change); 9] {
    [
        ("wall time", |l| l.wall_time -= Duration::from_millis(1)),
        ("a nanosecond", |l| l.wall_time -= Duration::from_nanos(1)),
        ("cpu time", |l| l.cpu_time -= Duration::from_millis(1)),
        ("memory", |l| l.memory.0 -= 1),
        ("output", |l| l.output.0 -= 1),
        ("processes", |l| l.processes -= 1),
        ("open files", |l| l.open_files -= 1),
        ("file size", |l| l.file_size.0 -= 1),
        ("disk", |l| l.disk.0 -= 1),
    ]
}

/// A file's name and bytes.
type Named = (String, Vec<u8>);
/// Arguments, input, files, processes.
type Varied = (Vec<String>, Vec<u8>, Vec<Named>, u64);

fn any_draft() -> impl Strategy<Value = Varied> {
    let names = proptest::collection::btree_map(
        "[ab]{1,2}",
        proptest::collection::vec(0_u8..2, 0..2),
        1..3,
    );
    (
        proptest::collection::vec("[ab]{0,2}", 0..3),
        proptest::collection::vec(0_u8..2, 0..2),
        names.prop_map(|map| map.into_iter().collect()),
        1_u64..3,
    )
}

proptest! {
    /// From small inputs, so that neighbours meet often: `["a", "b"]` and `["ab"]`, a byte at the
    /// end of one field or at the start of the next.
    #[test]
    fn two_submissions_have_one_key_exactly_when_they_are_equal(
        one in any_draft(),
        two in any_draft(),
    ) {
        let of = |(args, stdin, files, processes): &Varied| {
            let mut draft = draft();
            draft.args.clone_from(args);
            draft.stdin.clone_from(stdin);
            draft.files = files
                .iter()
                .map(|(name, bytes)| DraftFile {
                    name: Some(name.clone()),
                    bytes: bytes.clone(),
                    form: FileForm::Text,
                })
                .collect();
            let limits = Limits { processes: *processes, ..draft.limits.run };
            draft.limits = Stages { compile: draft.limits.compile, run: limits };
            keys(draft)
        };
        prop_assert_eq!(of(&one).1 == of(&two).1, one == two);
        prop_assert_eq!(of(&one).0 == of(&two).0, one.2 == two.2);
    }
}
