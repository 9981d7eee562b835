//! Batches: compiled once, each case alone, verdicts, events, and `piston judge`.

use std::fs;

use piston_tests::{Daemon, Who, http, packages};
use serde_json::{Value, json};

const BATCH: &str = "/api/v3/packages/bash/*/batch";

as_root_and_user!(each_case_is_run_alone_and_judged);

fn run(daemon: &Daemon, path: &str, body: &Value) -> Value {
    let reply = daemon.send("POST", path, body);
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status, 200, "{text}\n{}", daemon.log());
    reply.json()
}

fn verdicts(reply: &Value) -> Vec<&str> {
    let cases = reply["cases"].as_array().expect("cases");
    cases
        .iter()
        .map(|case| case["verdict"].as_str().unwrap_or("-"))
        .collect()
}

fn each_case_is_run_alone_and_judged(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    // A case that finds another one's file is caught.
    let code = "[ -e left ] && exit 9; : > left; read -r a b; case $a in
        code) exit \"$b\";; signal) kill -KILL $$;; loop) while :; do :; done;;
        flood) while :; do echo 0123456789; done;; env) echo \"$MORE $1\";; *) echo $((a + b));; esac";
    let body = json!({"code": code, "env": {"MORE": "all"}, "parallel": 2,
    "limits": {"run": {"wall_time_ms": 2000, "cpu_time_ms": 500}},
    "cases": [
        {"stdin": "1 2\n", "expected_stdout": "3\n"},
        {"stdin": "1 2\n", "expected_stdout": "3"},
        {"stdin": "1 2\n", "expected_stdout": "3 \n\n", "compare": "trim"},
        {"stdin": "1 2\n", "expected_stdout": " 3", "compare": "tokens"},
        {"stdin": "code 3\n"},
        {"stdin": "signal\n"},
        {"stdin": "loop\n"},
        {"stdin": "flood\n", "limits": {"output_bytes": 1000}},
        {"stdin": "env\n", "args": ["arg"], "env": {"MORE": "own"}, "expected_stdout": "own arg\n"},
        {"stdin": {"content": "ZW52Cg==", "encoding": "base64"}, "expected_stdout": "all \n"},
    ]});
    let reply = run(&daemon, BATCH, &body);
    let expected = ["AC", "WA", "AC", "AC", "RE", "SG", "TO", "OL", "AC", "AC"];
    assert_eq!(verdicts(&reply), expected, "{reply}");
    assert_eq!(reply["verdict"], "WA", "the first that is not accepted");
    let case = &reply["cases"][4];
    assert_eq!(
        (&case["index"], &case["run"]["code"]),
        (&json!(4), &json!(3))
    );
    assert!(case["timings"]["sandbox_us"].as_u64() > Some(0), "{case}");
    assert_eq!(
        reply["cases"][7]["run"]["stdout"].as_str().map(str::len),
        Some(1000)
    );
    assert!(reply.get("compile").is_none());
    assert_eq!(daemon.get("/api/v3/jobs").json(), json!([]));
}

#[test]
fn a_batch_stops_at_a_failure_when_it_is_to() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let cases = [0, 1, 0].map(|code| json!({"stdin": code.to_string()}));
    let body = json!({"code": "read -r code; exit $code", "stop_on_failure": true, "cases": cases});
    let reply = run(&daemon, BATCH, &body);
    assert_eq!(verdicts(&reply), ["AC", "RE", "-"]);
    assert!(reply["cases"][2].get("run").is_none());
    for (body, code) in [
        (json!({"code": "", "cases": []}), "invalid_field"),
        (
            json!({"code": "", "cases": [{}], "stdin": ""}),
            "malformed_request",
        ),
    ] {
        let reply = daemon.send("POST", BATCH, &body);
        assert_eq!(reply.json()["code"], code);
    }
}

#[test]
fn a_program_is_compiled_once_and_its_artifacts_are_kept() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["gcc"]);
    let path = "/api/v3/packages/gcc/*/batch";
    let program = |code: &str| {
        json!({"language": "c", "files": [{"name": "a.c", "content": code}], "parallel": 3,
            "cases": (0..6).map(|n| json!({"stdin": n.to_string(),
                "expected_stdout": format!("{}\n", n * n)})).collect::<Vec<_>>()})
    };
    let square =
        "#include <stdio.h>\nint main() { int n; scanf(\"%d\", &n); printf(\"%d\\n\", n * n); }";
    let body = program(square);
    let first = run(&daemon, path, &body);
    assert_eq!(verdicts(&first), ["AC"; 6], "{first}");
    assert_eq!(
        (&first["cache"], &first["verdict"]),
        (&json!("miss"), &json!("AC"))
    );
    assert_eq!(first["compile"]["code"], 0);
    let again = run(&daemon, path, &body);
    assert_eq!(
        (&again["cache"], &again["compile"]),
        (&json!("binary"), &first["compile"])
    );

    let broken = run(&daemon, path, &program("int main() { return x; }"));
    assert_eq!(
        (&broken["verdict"], verdicts(&broken)),
        (&json!("CE"), vec!["-"; 6])
    );
    assert!(
        broken["compile"]["stderr"]
            .as_str()
            .is_some_and(|text| text.contains("undeclared"))
    );
}

#[test]
fn cases_are_told_as_they_end() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let body = json!({"code": "read -r n; sleep 0.$n; echo $n", "parallel": 2,
        "cases": [{"stdin": "6\n", "expected_stdout": "6\n"}, {"stdin": "1\n"}]});
    let headers = ["Accept: application/x-ndjson"];
    let bytes = body.to_string();
    let reply = http::request(&daemon.address(), "POST", BATCH, &headers, bytes.as_bytes());
    let text = String::from_utf8(reply.body).expect("UTF-8");
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str()).collect();
    assert_eq!(names, [Some("case"), Some("case"), Some("batch")]);
    assert_eq!(
        (&events[0]["index"], &events[1]["index"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(events[1]["run"]["stdout"], "6\n");
    let last = &events[2]["result"];
    assert_eq!(
        (&last["verdict"], verdicts(last)),
        (&json!("AC"), vec!["AC"; 2])
    );
    let first = &last["cases"][0];
    assert_eq!(
        (&first["omitted"], &first["run"]["stdout"]),
        (&json!(true), &json!(""))
    );
}

#[test]
fn piston_judge_shows_verdicts_and_ends_with_one_when_one_is_wrong() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let folder = daemon.folder().join("cases");
    fs::create_dir(&folder).expect("a folder");
    for (name, text) in [
        ("1.in", "1 2"),
        ("1.out", "3"),
        ("2.in", "5 5"),
        ("2.out", "10\n"),
    ] {
        fs::write(folder.join(name), text).expect("written");
    }
    let program = daemon.folder().join("sum.sh");
    fs::write(&program, "read -r a b; echo $((a + b))").expect("written");
    let (program, cases) = (
        program.to_str().expect("UTF-8"),
        folder.to_str().expect("UTF-8"),
    );
    let right = daemon.cli(&["judge", program, cases], b"");
    let text = String::from_utf8_lossy(&right.stdout).into_owned();
    assert_eq!(right.status.code(), Some(0), "{text} {right:?}");
    assert_eq!(text.matches(" AC ").count(), 2, "{text}");

    fs::write(folder.join("2.out"), "11\n").expect("written");
    let wrong = daemon.cli(&["judge", "--json", program, cases], b"");
    assert_eq!(wrong.status.code(), Some(1));
    let reply: Value = serde_json::from_slice(&wrong.stdout).expect("JSON");
    assert_eq!(verdicts(&reply), ["AC", "WA"]);
    let none = daemon.cli(&["judge", program, "/nothing"], b"");
    assert_eq!(none.status.code(), Some(125));
}
