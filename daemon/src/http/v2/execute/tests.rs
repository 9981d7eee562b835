//! Validation in the original's order and words, limits, replies.

use serde_json::json;

use super::*;
use crate::job::request::tests::{lease, rules};

fn draft_with(body: &Value, rules: &Rules) -> Result<Draft, Error> {
    let find = |language: &str, range: &VersionRange| {
        let known = ["c", "file"].contains(&language)
            && range.matches(&"1.2.3".parse().expect("a version"));
        if known {
            Ok((lease(&[language]), language.parse().expect("a language")))
        } else {
            Err(Error::new(Code::PackageNotFound, "no such runtime"))
        }
    };
    Wire::check(body)?.draft(&find, rules)
}

fn draft(body: &Value) -> Result<Draft, Error> {
    draft_with(body, &rules())
}

fn good() -> Value {
    json!({"language": "c", "version": "*", "files": [{"content": "x"}]})
}

#[test]
fn refusals_come_in_the_originals_order_and_words() {
    // Each row repairs the fault that the row before was refused for.
    let mut body = json!({"run_timeout": "1"});
    for (field, value, message) in [
        ("x", json!(0), "language is required as a string"),
        ("language", json!(1), "language is required as a string"),
        ("language", json!(""), "language is required as a string"),
        ("language", json!("d"), "version is required as a string"),
        ("version", json!("9"), "files is required as an array"),
        ("files", json!({}), "files is required as an array"),
        (
            "files",
            json!([{"content": ""}, {}]),
            "files[1].content is required as a string",
        ),
        (
            "files",
            json!([null]),
            "files[0].content is required as a string",
        ),
        (
            "files",
            json!([{"content": "00", "encoding": "hex"}]),
            "d-9 runtime is unknown",
        ),
        ("language", json!("c"), "c-9 runtime is unknown"),
        (
            "version",
            json!("not a range"),
            "c-not a range runtime is unknown",
        ),
        (
            "version",
            json!("1.x"),
            "files must include at least one utf8 encoded file",
        ),
        (
            "files",
            json!([{"content": "x"}]),
            "If specified, run_timeout must be a number",
        ),
        (
            "compile_timeout",
            json!(true),
            "If specified, compile_timeout must be a number",
        ),
        (
            "run_memory_limit",
            json!("1"),
            "If specified, run_memory_limit must be a number",
        ),
    ] {
        body[field] = value;
        let error = draft(&body).expect_err(message);
        assert_eq!(
            (error.outside(), error.code().status()),
            (message, 400),
            "{body}"
        );
    }
}

#[test]
fn limits_are_checked_like_the_original_does() {
    let refused = |field: &str, value: Value, message: &str| {
        let mut body = good();
        body[field] = value;
        assert_eq!(draft(&body).expect_err(message).outside(), message);
    };
    refused(
        "run_timeout",
        json!(3001),
        "run_timeout cannot exceed the configured limit of 3000",
    );
    refused(
        "run_timeout",
        json!(3000.5),
        "run_timeout cannot exceed the configured limit of 3000",
    );
    refused(
        "run_timeout",
        json!(1e300),
        "run_timeout cannot exceed the configured limit of 3000",
    );
    refused("run_timeout", json!(-1), "run_timeout must be non-negative");
    refused(
        "compile_cpu_time",
        json!(-0.5),
        "compile_cpu_time must be non-negative",
    );
    let run_wall = |value: Value| {
        let mut body = good();
        body["run_timeout"] = value;
        draft(&body)
            .expect("accepted")
            .limits
            .run
            .wall_time
            .as_millis()
    };
    for (value, millis) in [
        (json!(3000), 3000),
        (json!(1), 1),
        (json!(0.2), 1),
        (json!(0), 3000),
        (json!(null), 3000),
    ] {
        assert_eq!(run_wall(value.clone()), millis, "{value}");
    }
}

#[test]
fn memory_has_no_ceiling_but_the_maximum_unless_one_is_configured() {
    let mut rules = rules();
    rules.limits.max.memory = Bytes::mib(1024);
    let memory = |rules: &Rules, value: i64| {
        let mut body = good();
        body["run_memory_limit"] = json!(value);
        draft_with(&body, rules).map(|draft| draft.limits.run.memory)
    };
    assert_eq!(memory(&rules, -1).expect("the default"), Bytes::mib(512));
    assert_eq!(
        memory(&rules, 600 << 20).expect("above the default"),
        Bytes::mib(600)
    );
    assert_eq!(
        memory(&rules, 9 << 30).expect("the maximum"),
        Bytes::mib(1024)
    );
    rules.limits.v2.memory.run = Some(Bytes::mib(512));
    let error = memory(&rules, 600 << 20).expect_err("above the configured one");
    let message = "run_memory_limit cannot exceed the configured limit of 536870912";
    assert_eq!(error.outside(), message);
    assert_eq!(
        memory(&rules, -1).expect_err("negative").outside(),
        "run_memory_limit must be non-negative"
    );
}

#[test]
fn output_is_1024_bytes_unless_the_runtime_says_otherwise() {
    assert_eq!(
        draft(&good()).expect("accepted").limits.run.output,
        Bytes(1024)
    );
}

#[test]
fn files_input_and_arguments_are_taken_as_the_original_does() {
    let mut body = good();
    body["files"] = json!([
        {"content": "AAE", "encoding": "base64", "name": "b"},
        {"content": "x", "encoding": "latin1", "name": null},
        {"content": "y", "name": ""},
        {"content": "z", "name": "z.c", "unknown": 1},
    ]);
    body["args"] = json!(["a", 1]);
    body["stdin"] = json!("in");
    let draft = draft(&body).expect("accepted");
    assert_eq!(draft.stdin, b"in\n");
    assert_eq!(draft.args, ["a", "1"]);
    let request = request::Request::try_from(draft).expect("accepted");
    assert_eq!(request.code, ["file1.code", "file2.code", "z.c"]);
    assert_eq!(request.files[0].bytes, [0, 1]);
    // Also nothing ends in a newline.
    assert_eq!(Wire::check(&good()).expect("accepted").stdin(), b"\n");
}

#[test]
fn for_the_language_file_every_encoding_is_code() {
    let body = json!({"language": "file", "version": "*", "files": [{"content": "00", "encoding": "hex"}]});
    let request = request::Request::try_from(draft(&body).expect("accepted")).expect("accepted");
    assert_eq!(request.code, ["file0.code"]);
}

#[test]
fn a_stage_has_every_field_and_null_where_there_is_nothing() {
    let stage = StageOutcome {
        code: Some(0),
        stdout: b"hi\n".to_vec(),
        ..StageOutcome::default()
    };
    insta::assert_json_snapshot!(Stage::from(&stage), @r#"
    {
      "signal": null,
      "stdout": "hi\n",
      "stderr": "",
      "code": 0,
      "output": "",
      "memory": 0,
      "message": null,
      "status": null,
      "cpu_time": 0,
      "wall_time": 0
    }
    "#);
}

#[test]
fn run_repeats_a_compile_stage_that_failed() {
    let request = request::Request::try_from(draft(&good()).expect("accepted")).expect("accepted");
    let outcome = Outcome {
        id: request.id.clone(),
        language: request.language.clone(),
        version: request.package().version.clone(),
        compile: Some(StageOutcome::failed(Verdict::ExitCode(1))),
        run: None,
        files: Vec::new(),
        cache: piston_client::api::CacheOutcome::Miss,
        timings: crate::job::Timings::default(),
        again: None,
    };
    let reply = serde_json::to_value(Reply2::from(outcome)).expect("plain data");
    assert_eq!(reply["run"], reply["compile"]);
    assert_eq!(reply["run"]["message"], "Exited with error status 1");
}
