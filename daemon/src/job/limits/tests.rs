//! The limits rule, row by row.

use super::*;

fn limits(wall: u64) -> Limits {
    Limits {
        wall_time: Duration::from_millis(wall),
        ..crate::config::limits::RUN
    }
}

fn policy() -> LimitPolicy {
    let operator = BTreeMap::from([("run_timeout".to_owned(), 9000)]);
    LimitPolicy {
        defaults: Stages {
            compile: limits(10_000),
            run: limits(3000),
        },
        max: limits(20_000),
        overrides: BTreeMap::from([(
            "slow".to_owned(),
            Overrides::from_released(&operator).expect("a known name"),
        )]),
        v2: V2Limits {
            output: Bytes(1024),
            memory: Stages::default(),
        },
    }
}

fn given(runtime: &ProvidedRuntime) -> RuntimeLimits {
    policy().for_runtime(runtime, Stages::default())
}

fn runtime(language: &str, limits: &[(&str, i64)]) -> ProvidedRuntime {
    ProvidedRuntime {
        language: language.parse().expect("a language"),
        aliases: Vec::new(),
        limits: limits
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect(),
    }
}

#[test]
fn the_operators_entry_wins_over_the_packages_over_the_default_up_to_the_maximum() {
    let check = |language: &str, package: &[(&str, i64)], wall: u64| {
        let given = given(&runtime(language, package));
        assert_eq!(
            given.stages.run.wall_time,
            Duration::from_millis(wall),
            "{language} {package:?}"
        );
    };
    check("fast", &[], 3000);
    check("fast", &[("run_timeout", 5000)], 5000);
    check("slow", &[("run_timeout", 5000)], 9000);
    check("fast", &[("run_timeout", 20_001)], 20_000);
    check("fast", &[("run_timeout", -1)], 20_000);
    check("fast", &[("compile_timeout", 5000)], 3000);
    check("fast", &[("limit_of_the_future", 5000)], 3000);
}

#[test]
fn no_memory_limit_means_the_default_one() {
    let given = given(&runtime("x", &[("run_memory_limit", -1)]));
    assert_eq!(given.stages.run.memory, Bytes::mib(512));
}

#[test]
fn a_request_may_lower_and_is_told_the_field_and_the_most_when_it_raises() {
    let given = given(&runtime("x", &[]));
    let ask = |wall, processes| api::StageLimits {
        run: api::Limits {
            wall_time_ms: wall,
            processes,
            ..api::Limits::default()
        },
        ..api::StageLimits::default()
    };
    let lowered = given
        .lower(&ask(Some(Millis(3000)), Some(1)))
        .expect("not above");
    assert_eq!(lowered.run.processes, 1);
    assert_eq!(lowered.compile, given.stages.compile);
    let refused = |request| given.lower(&request).expect_err("refused").to_string();
    assert_eq!(
        refused(ask(Some(Millis(3001)), None)),
        "`limits.run.wall_time_ms` is 3001 ms, the most for this runtime is 3 s"
    );
    assert_eq!(
        refused(ask(None, Some(0))),
        "`limits.run.processes` is 0, the least is 1"
    );
}

#[test]
fn limits_are_told_in_the_largest_unit_that_says_them_exactly() {
    let check = |name, number, words| assert_eq!(in_words(name, number), words);
    check("wall_time_ms", 0, "0 ms");
    check("wall_time_ms", 999, "999 ms");
    check("wall_time_ms", 10_000, "10 s");
    check("cpu_time_ms", 10_001, "10001 ms");
    check("memory_bytes", 1000, "1000 bytes");
    check("output_bytes", 1 << 10, "1 KiB");
    check("disk_bytes", 1536 << 20, "1536 MiB");
    check("memory_bytes", 4 << 30, "4 GiB");
    check("processes", 1024, "1024");
}

#[test]
fn a_request_may_ask_for_no_output_at_all() {
    let given = given(&runtime("x", &[]));
    let mut request = api::StageLimits::default();
    request.run.output_bytes = Some(Bytes(0));
    assert_eq!(given.lower(&request).expect("allowed").run.output, Bytes(0));
}

#[test]
fn an_unknown_name_is_refused_with_the_known_ones() {
    let error = Overrides::from_released(&BTreeMap::from([("timeout".to_owned(), 1)]));
    let text = error.expect_err("unknown").to_string();
    assert!(
        text.contains("`timeout`") && text.contains("run_timeout"),
        "{text}"
    );
}

#[test]
fn cpu_time_is_rounded_up_to_whole_seconds_and_one_more() {
    let check = |time: Duration, seconds: u64| {
        let limits = Limits {
            cpu_time: time,
            ..crate::config::limits::RUN
        };
        assert_eq!(Rlimits::from(&limits).cpu_seconds, seconds, "{time:?}");
    };
    check(Duration::from_secs(3), 4);
    check(Duration::from_millis(3001), 5);
    check(Duration::from_millis(1), 2);
    check(Duration::MAX, u64::MAX);
}
