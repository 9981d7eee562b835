//! Tests of how the end of a job is told.

use super::*;
use crate::api::Timings;
use crate::ids::JobId;
use crate::units::{Bytes, Millis};

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
fn a_program_that_lacks_something_easily_given_is_told_from_others_that_fail() {
    let check = |status, said: &str, expected: Option<&str>| {
        let run = stage(status, Some(1), None);
        let found = hint(&run, said.as_bytes(), InputFrom::Nowhere);
        assert_eq!(found.is_some(), expected.is_some(), "{said}");
        assert!(
            found
                .unwrap_or_default()
                .contains(expected.unwrap_or_default())
        );
    };
    let failed = Some(Status::RuntimeError);
    check(failed, "EOFError: EOF when reading a line", Some("`-i`"));
    check(failed, "Prelude.getLine: end of file", Some("`-i`"));
    check(
        failed,
        "java.util.NoSuchElementException: No line found",
        Some("`-i`"),
    );
    let module = "ModuleNotFoundError: No module named 'numpy'";
    check(failed, module, Some("--pip NAME"));
    check(failed, "Error: Cannot find module 'x'", Some("--npm NAME"));
    check(failed, "ZeroDivisionError: division by zero", None);
    check(None, "EOF", None);
    check(Some(Status::TimedOut), "EOF", None);
    let run = stage(failed, Some(1), None);
    assert_eq!(hint(&run, b"EOF", InputFrom::Request), None, "it had some");
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
        assert_eq!(ending::why(&stage, limits).as_deref(), expected);
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
    check(late.clone(), &asked, Some("killed: time limit 3 s"));
    late.cpu_time_ms = Millis(2001);
    let given = Limits {
        cpu_time_ms: Some(Millis(2000)),
        output_bytes: Some(Bytes::mib(1)),
        ..Limits::default()
    };
    check(late, &given, Some("killed: processor time limit 2 s"));
    let wordy = with("stdout length exceeded", Status::StdoutLimit);
    check(wordy.clone(), &none, Some("killed: stdout length exceeded"));
    check(
        wordy,
        &given,
        Some("killed: it wrote more than 1 MiB to standard output"),
    );
}
