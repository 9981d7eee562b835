//! Tests of which package runs a language, and of how the end of a job is told.

use super::super::failure::account;
use super::*;
use crate::api::{CacheOutcome, StageLimits, Timings};
use crate::ids::JobId;
use crate::units::{Bytes, Millis};

fn runtime(package: &str, version: &str, language: &str, aliases: &[&str]) -> Runtime {
    Runtime {
        language: language.parse().expect("a language"),
        version: version.parse().expect("a version"),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        package: package.parse().expect("a package"),
        compiled: false,
        limits: StageLimits::default(),
    }
}

fn some() -> Vec<Runtime> {
    vec![
        runtime("gcc", "10.2.0", "c", &[]),
        runtime("gcc", "12.2.0", "c++", &["cpp"]),
        runtime("gcc", "12.2.0", "c", &[]),
        runtime("tcc", "99.0.0", "c", &[]),
        runtime("python", "3.9.0", "python", &["py"]),
        runtime("python", "3.11.2", "python", &["py"]),
        runtime("pypy", "7.3.0", "python", &["pypy3"]),
        runtime("node", "20.0.0", "javascript", &["js"]),
    ]
}

#[test]
fn the_package_of_a_language_is_found_by_every_name_of_it() {
    let check = |wanted: Wanted, expected: &[(&str, &str)]| {
        let found = candidates(&some(), &wanted);
        let found: Vec<_> = found
            .iter()
            .map(|(p, l)| (p.as_str(), l.as_str()))
            .collect();
        assert_eq!(found, expected, "{wanted:?}");
    };
    let named = |name: &str| Wanted::Named(name.to_owned());
    check(named("c++"), &[("gcc", "c++")]);
    check(named("CPP"), &[("gcc", "c++")]);
    check(named("py"), &[("python", "python")]);
    check(named("python"), &[("python", "python"), ("pypy", "python")]);
    check(named("c"), &[("tcc", "c"), ("gcc", "c")]);
    check(named("cobol"), &[]);
    check(Wanted::OneOf(&["bash", "js"]), &[("node", "javascript")]);
    check(Wanted::OneOf(&["bash", "sh"]), &[]);
}

#[test]
fn a_missing_language_gets_the_likeliest_advice_first() {
    let text = |wanted: &[&str], runtimes: &[Runtime], offered: Option<&str>| {
        let offered = offered.map(|name| name.parse().expect("a package"));
        let account = account(&missing_language(wanted, runtimes, offered.as_ref()).into());
        format!("{}\n{}", account.error, account.next.join("\n"))
    };
    insta::assert_snapshot!(text(&["pyhton"], &some(), None), @"
    language `pyhton` is not installed
    did you mean `python`?
    see what can be installed: `piston repo packages --sync`
    installed are: c, c++, javascript, python
    ");
    insta::assert_snapshot!(text(&["python"], &[], None), @"
    language `python` is not installed
    make it of what this machine has: `piston package from-host python --install`
    make it of what Debian has packaged: `piston package from-debian python`
    ");
    insta::assert_snapshot!(text(&["js"], &[], None), @"
    language `js` is not installed
    make it of what Debian has packaged: `piston package from-debian javascript`
    ");
    insta::assert_snapshot!(text(&["c++"], &[], Some("gcc")), @"
    language `c++` is not installed
    install it: `piston package install gcc`
    make it of what this machine has: `piston package from-host gcc --install`
    make it of what Debian has packaged: `piston package from-debian gcc`
    ");
    insta::assert_snapshot!(text(&["cobol"], &[], None), @"
    language `cobol` is not installed
    see what can be installed: `piston repo packages --sync`
    ");
}

#[test]
fn a_missing_version_says_how_to_get_it() {
    let account = account(&no_version(&["python", "pypy"], "4.x").into());
    assert_eq!(account.error, "no installed version of python, pypy is 4.x");
    assert_eq!(account.next[0], "`piston package install 'python@4.x'`");
}

fn stage(status: Option<Status>, code: Option<i32>, signal: Option<&str>) -> StageResult {
    StageResult {
        stdout: String::new(),
        stderr: String::new(),
        output: String::new(),
        lossy: false,
        code,
        signal: signal.map(str::to_owned),
        status,
        message: None,
        wall_time_ms: Millis(1),
        cpu_time_ms: Millis(1),
        system_time_ms: Millis(1),
        memory_bytes: Bytes(1),
        truncated: false,
    }
}

fn response(compile: Option<StageResult>, run: Option<StageResult>) -> ExecuteResponse {
    ExecuteResponse {
        id: JobId::from_random(1),
        language: "c".parse().expect("a language"),
        version: "1.0.0".parse().expect("a version"),
        compile,
        run,
        files: Vec::new(),
        cache: CacheOutcome::Miss,
        timings: Timings::default(),
    }
}

#[test]
fn piston_ends_as_the_program_ended() {
    let check = |stage: StageResult, expected: u8| {
        assert_eq!(exit(&response(None, Some(stage))).code(), expected);
    };
    check(stage(None, Some(0), None), 0);
    check(stage(Some(Status::RuntimeError), Some(7), None), 7);
    check(stage(Some(Status::RuntimeError), Some(-1), None), 255);
    check(stage(Some(Status::Signalled), None, Some("SIGSEGV")), 139);
    check(
        stage(Some(Status::Signalled), None, Some("SIGRTMIN+3")),
        137,
    );
    check(stage(Some(Status::TimedOut), None, Some("SIGKILL")), 137);
    check(stage(Some(Status::TimedOut), None, None), 137);
    // A program that ended by itself just as its output ran over is not a success.
    check(stage(Some(Status::StdoutLimit), Some(0), None), 137);
    check(stage(Some(Status::Internal), None, None), 125);
}

#[test]
fn a_failed_compile_ends_as_the_compiler_did() {
    let failed = stage(Some(Status::RuntimeError), Some(1), None);
    assert_eq!(exit(&response(Some(failed), None)).code(), 1);
    let good = stage(None, Some(0), None);
    let crashed = stage(Some(Status::Signalled), None, Some("SIGABRT"));
    assert_eq!(exit(&response(Some(good), Some(crashed))).code(), 134);
    assert_eq!(exit(&response(None, None)).code(), 125);
}

#[test]
fn the_end_is_told_where_the_exit_code_does_not_say_it() {
    let asked = Limits {
        wall_time_ms: Some(Millis(3000)),
        ..Limits::default()
    };
    let check = |stage: StageResult, limits: &Limits, expected: Option<&str>| {
        assert_eq!(verdict_text(&stage, limits).as_deref(), expected);
    };
    let none = Limits::default();
    let with = |message: &str, status| StageResult {
        message: Some(message.to_owned()),
        ..stage(Some(status), None, Some("SIGKILL"))
    };
    check(stage(None, Some(0), None), &none, None);
    check(
        stage(Some(Status::RuntimeError), Some(1), None),
        &none,
        None,
    );
    let crashed = stage(Some(Status::Signalled), None, Some("SIGSEGV"));
    check(crashed, &none, Some("ended by SIGSEGV"));
    check(
        with("Time limit exceeded", Status::TimedOut),
        &none,
        Some("killed: time limit exceeded"),
    );
    check(
        stage(Some(Status::MemoryLimit), None, None),
        &none,
        Some("killed: memory limit"),
    );
    check(
        with("shutdown", Status::Killed),
        &none,
        Some("killed: shutdown"),
    );
    check(
        with("no memory", Status::Internal),
        &none,
        Some("the daemon failed: no memory"),
    );
    let mut late = with("Time limit exceeded", Status::TimedOut);
    // Less time than was asked for: the processor's limit was hit, not the clock's.
    check(late.clone(), &asked, Some("killed: time limit exceeded"));
    late.wall_time_ms = Millis(3001);
    check(late, &asked, Some("killed: time limit 3 s"));
}
