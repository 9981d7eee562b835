//! Jobs whose events are told as they happen: order, contents, limits, and who goes away.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use piston_tests::{Daemon, Who, binary, http, packages, wait_until};
use serde_json::{Value, json};

const EXECUTE: &str = "/api/v3/packages/bash/*/execute";
const LINES: &str = "Accept: application/x-ndjson";

/// All events of a job.
fn events(daemon: &Daemon, path: &str, body: &Value) -> Vec<Value> {
    let body = body.to_string();
    let reply = http::request(&daemon.address(), "POST", path, &[LINES], body.as_bytes());
    let text = String::from_utf8(reply.body.clone()).expect("UTF-8");
    assert_eq!(reply.status, 200, "{text}");
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let line = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(line).collect()
}

/// The names of events, those of pieces of one stream once.
fn names(events: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for event in events {
        let name = event["event"].as_str().expect("a name");
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names
}

/// What the events say was printed to a stream.
fn told(events: &[Value], stream: &str) -> String {
    let pieces = events.iter().filter(|event| event["event"] == stream);
    pieces.filter_map(|event| event["data"].as_str()).collect()
}

#[test]
fn events_come_in_order_and_end_with_the_plain_reply() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash", "gcc"]);
    let body =
        json!({"code": "echo out; sleep 0.1; echo err >&2; sleep 0.1; printf '\u{e9}'; exit 3"});
    let events_of = events(&daemon, EXECUTE, &body);
    assert_eq!(
        names(&events_of),
        ["stage", "stdout", "stderr", "stdout", "exit", "result"]
    );
    assert_eq!(told(&events_of, "stdout"), "out\n\u{e9}");
    let exit = &events_of[events_of.len() - 2];
    assert_eq!(
        (&exit["stage"], &exit["code"], &exit["status"]),
        (&json!("run"), &json!(3), &json!("RE"))
    );
    let mut result = events_of[events_of.len() - 1]["result"].clone();
    let mut plain = daemon.execute("bash", &body);
    for reply in [&mut result, &mut plain] {
        for measured in ["id", "timings"] {
            reply[measured] = Value::Null;
        }
        for measured in [
            "wall_time_ms",
            "cpu_time_ms",
            "system_time_ms",
            "memory_bytes",
        ] {
            reply["run"][measured] = Value::Null;
        }
    }
    assert_eq!(result, plain);

    let path = "/api/v3/packages/gcc/*/execute";
    let c = "#warning careful\n#include <stdio.h>\nint main() { puts(\"hi\"); }";
    let body = json!({"language": "c", "files": [{"name": "a.c", "content": c}]});
    let events_of = events(&daemon, path, &body);
    let names_of = names(&events_of);
    assert_eq!(
        names_of,
        [
            "stage", "stderr", "exit", "stage", "stdout", "exit", "result"
        ]
    );
    assert_eq!(events_of[0]["stage"], "compile");

    // What a cache restores is told like what runs.
    let restored = events(&daemon, path, &body);
    assert_eq!(names(&restored), names_of);
    assert_eq!(told(&restored, "stderr"), told(&events_of, "stderr"));
    assert_eq!(restored[restored.len() - 1]["result"]["cache"], "binary");
    let body = json!({"code": "echo kept; echo too >&2", "cache": "output"});
    let miss = events(&daemon, EXECUTE, &body);
    let hit = events(&daemon, EXECUTE, &body);
    assert_eq!(hit[hit.len() - 1]["result"]["cache"], "output", "{hit:?}");
    for stream in ["stdout", "stderr"] {
        assert_eq!(told(&hit, stream), told(&miss, stream));
    }

    let headers = ["Accept: text/event-stream"];
    let body = json!({"code": "echo hi"}).to_string();
    let reply = http::request(
        &daemon.address(),
        "POST",
        EXECUTE,
        &headers,
        body.as_bytes(),
    );
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let text = String::from_utf8(reply.body).expect("UTF-8");
    let first = "event: stage\ndata: {\"event\":\"stage\",\"stage\":\"run\"}\n\n\
        event: stdout\ndata: {\"event\":\"stdout\",\"stage\":\"run\",\"data\":\"hi\\n\"}\n\n";
    assert!(text.starts_with(first) && text.ends_with("}\n\n"), "{text}");
}

#[test]
fn a_refused_job_is_a_problem_also_when_events_are_asked_for() {
    let daemon = Daemon::start(Who::User);
    let body = json!({"code": ""}).to_string();
    let reply = http::request(
        &daemon.address(),
        "POST",
        EXECUTE,
        &[LINES],
        body.as_bytes(),
    );
    assert_eq!(
        (reply.status, reply.json()["code"].clone()),
        (404, json!("package_not_found"))
    );
}

#[test]
fn output_is_cut_at_its_limit_as_in_the_plain_reply() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let code = "while :; do echo 0123456789; done";
    let body = json!({"code": code, "limits": {"run": {"output_bytes": 300_001}}});
    let events = events(&daemon, EXECUTE, &body);
    let result = &events.last().expect("a result")["result"]["run"];
    assert_eq!(
        (&result["status"], &result["truncated"]),
        (&json!("OL"), &json!(true))
    );
    let told = told(&events, "stdout");
    assert_eq!(told.len(), 300_001);
    assert_eq!(result["stdout"], told);
}

#[test]
fn output_is_told_while_the_program_runs_and_a_client_that_leaves_ends_it() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let body = json!({"code": "echo first; sleep 2.5; echo second"}).to_string();
    let begun = Instant::now();
    let reply = http::begin(
        &daemon.address(),
        "POST",
        EXECUTE,
        &[LINES],
        body.as_bytes(),
    );
    let mut lines = BufReader::new(reply).lines();
    let first = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("first")));
    assert!(first.is_some() && begun.elapsed() < Duration::from_secs(2));
    assert!(!daemon.has_no_jobs());
    drop(lines);
    wait_until("the job of a client that left is over", || {
        daemon.has_no_jobs()
    });
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "it was waited for"
    );
}

#[test]
fn a_client_that_reads_nothing_holds_no_job_beyond_its_limits() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let code = "while :; do echo 0123456789012345678901234567890123456789; done";
    let body = json!({"code": code, "limits": {"run": {"wall_time_ms": 1000}}}).to_string();
    let mut reply = http::begin(
        &daemon.address(),
        "POST",
        EXECUTE,
        &[LINES],
        body.as_bytes(),
    );
    wait_until("the job runs", || !daemon.has_no_jobs());
    wait_until("the job is over", || daemon.has_no_jobs());
    // All of it is there when it is read at last.
    let mut text = String::new();
    reply.read_to_string(&mut text).expect("UTF-8");
    assert!(text.contains("\"event\":\"result\""));
}

#[test]
fn piston_run_shows_output_as_it_comes() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let script = daemon.folder().join("slow.sh");
    std::fs::write(
        &script,
        "printf '\\xff first\\n'; sleep 2; echo second; exit 4",
    )
    .expect("script");
    let mut command = daemon.who().command(&binary("piston"));
    let mut child = command
        .args(["run", "bash"])
        .arg(&script)
        .env(
            "PISTON_HOST",
            format!("unix://{}", daemon.socket().display()),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("piston starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = Vec::new();
    output.read_until(b'\n', &mut line).expect("a line");
    assert_eq!(line, b"\xff first\n");
    assert!(!daemon.has_no_jobs(), "the line came after the end");
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("the rest");
    assert_eq!(rest, b"second\n");
    assert_eq!(child.wait().expect("its end").code(), Some(4));
}
