//! The one rule of precedence, and a file that changes.

use std::fs::{self, File};
use std::time::Duration;

use piston_client::units::{Bytes, Millis};

use super::*;
use crate::job::request::tests::{lease, policy};

fn rules(text: &str) -> Rules {
    Rules {
        limits: policy(),
        entries: runners::parse(text, &policy().max).expect("a good file"),
    }
}

#[test]
fn the_operators_entry_wins_setting_by_setting_and_the_later_one_first() {
    let text = "[[runner]]\nlanguage = \"c\"\ncache = \"output\"\nrun.wall_time = 900\n\
                run.processes = 9\n\
                [[runner]]\nlanguage = \"gcc\"\nversions = \"1.x\"\nrun.wall_time = 800\n\
                [[runner]]\nlanguage = \"c\"\nversions = \"2.x\"\nrun.wall_time = 700\n";
    let rules = rules(text);
    let lease = lease(&["c"]);
    let mut runtime = lease.installed.runtimes[0].clone();
    runtime.limits = [("run_timeout", 1000), ("max_open_files", 100)]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    let terms = rules.terms(&lease.installed, &runtime);
    let run = terms.limits.stages.run;
    assert_eq!(run.wall_time, Duration::from_millis(800), "the later entry");
    assert_eq!(
        run.processes, 9,
        "the earlier entry, which the later one leaves alone"
    );
    assert_eq!(run.open_files, 100, "the package");
    assert_eq!(run.memory, policy().defaults.run.memory, "the default");
    assert_eq!(
        terms.limits.stages.compile.wall_time,
        Duration::from_secs(3)
    );
    assert_eq!(terms.cache, Some(api::CacheLevel::Output));
    assert_eq!(terms.limits.set.run.wall_time_ms, Some(Millis(800)));
}

#[test]
fn a_request_may_only_lower_what_the_entry_says() {
    let rules = rules("[[runner]]\nlanguage = \"c\"\nrun.memory = \"8M\"\n");
    let lease = lease(&["c"]);
    let terms = rules.terms(&lease.installed, &lease.installed.runtimes[0]);
    let ask = |bytes| api::StageLimits {
        run: api::Limits {
            memory_bytes: Some(Bytes(bytes)),
            ..api::Limits::default()
        },
        ..api::StageLimits::default()
    };
    let lowered = terms.limits.lower(&ask(8 << 20)).expect("as much");
    assert_eq!(lowered.run.memory, Bytes::mib(8));
    let refused = terms.limits.lower(&ask((8 << 20) + 1)).expect_err("more");
    assert!(refused.to_string().ends_with("8 MiB"), "{refused}");
}

#[test]
fn a_bad_file_changes_nothing_until_it_is_good_again() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join(FILE_NAME);
    let good = "[[runner]]\nlanguage = \"c\"\n";
    fs::write(&file, good).expect("written");
    let runners = Runners::open(data.path(), policy()).expect("a good file");
    assert_eq!(runners.rules().entries.len(), 1);

    fs::write(&file, "[[runner]]\nlangauge = \"c\"\n").expect("written");
    runners.reload();
    let state = runners.state();
    assert_eq!((state.rules.entries.len(), &*state.text), (1, good));
    let error = state.error.expect("told");
    assert!(
        error.contains("runners.toml: line 2, column 1: "),
        "{error}"
    );
    let refused = Runners::open(data.path(), policy()).expect_err("no old one to keep");
    assert_eq!(refused.to_string(), error);

    fs::remove_file(&file).expect("removed");
    runners.reload();
    let state = runners.state();
    assert_eq!(
        (state.rules.entries.len(), &*state.text, state.error),
        (0, "", None)
    );
}

#[test]
fn a_replaced_file_is_in_force_on_disk_and_kept_when_it_would_be_bad() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join(FILE_NAME);
    let runners = Runners::open(data.path(), policy()).expect("no file");
    let tag = runners.state().tag();
    let one = "[[runner]]\nlanguage = \"c\"\n".to_owned();
    runners.replace(one.clone(), Some(&tag)).expect("good");
    assert_eq!(fs::read_to_string(&file).expect("there"), one);
    let late = runners.replace(String::new(), Some(&tag));
    assert!(matches!(late, Err(RunnersError::Changed)), "{late:?}");
    let bad = runners.replace("x = 1".to_owned(), None);
    assert!(matches!(bad, Err(RunnersError::Bad { .. })), "{bad:?}");
    assert_eq!(fs::read_to_string(&file).expect("there"), one);
    assert_eq!(runners.rules().entries.len(), 1);
    let left = fs::read_dir(data.path()).expect("a directory").count();
    assert_eq!(left, 1, "no other file is left");
}

#[test]
fn a_file_without_end_is_not_read() {
    let data = tempfile::tempdir().expect("a directory");
    let file = File::create(data.path().join(FILE_NAME)).expect("made");
    file.set_len(MAX_BYTES + 1).expect("grown");
    let error = Runners::open(data.path(), policy()).expect_err("too long");
    let error = crate::error::chain(&error);
    assert!(error.contains("longer than 1048576 bytes"), "{error}");
}
