//! The operator's settings of languages: `runners.toml`, the API and the command line.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use piston_tests::{Daemon, Who, http, packages};
use serde_json::{Value, json};

as_root_and_user!(
    settings_of_a_language_hold_from_when_they_are_put_in_force,
    a_file_is_read_again_on_a_signal_and_a_bad_one_is_told_of_and_not_taken,
);

const RUNNERS: &str = "/api/v3/runners";

fn wall_limit(daemon: &Daemon) -> Value {
    let body = json!({"code": "echo hi", "limits": {"run": {"wall_time_ms": 60_000}}});
    let path = "/api/v3/packages/bash/*/execute";
    daemon.send("POST", path, &body).json()["detail"].clone()
}

fn settings_of_a_language_hold_from_when_they_are_put_in_force(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let start = daemon.get(RUNNERS);
    assert_eq!(start.json(), json!({"text": "", "runners": []}));
    let tag = start.header("etag").expect("a tag").to_owned();

    // As JSON, based on what was seen.
    let entry = json!({"language": "bash", "limits": {"run": {"wall_time_ms": 700}}});
    let body = json!({"runners": [entry]}).to_string();
    let put = |headers: &[&str], path: &str, body: &str| {
        http::request(&daemon.address(), "PUT", path, headers, body.as_bytes())
    };
    let json_type = "Content-Type: application/json";
    let tagged = format!("If-Match: {tag}");
    let reply = put(&[json_type, &tagged], RUNNERS, &body);
    assert_eq!((reply.status, &reply.json()["runners"][0]), (200, &entry));
    let late = put(&[json_type, &tagged], RUNNERS, &body);
    assert_eq!(
        (late.status, &late.json()["code"]),
        (412, &json!("precondition_failed"))
    );
    let run = daemon.execute("bash", &json!({"code": "sleep 30"}))["run"].clone();
    assert_eq!(run["status"], "TO", "{run}");
    assert!(run["wall_time_ms"].as_u64() < Some(2000), "{run}");
    assert_eq!(
        wall_limit(&daemon),
        "`limits.run.wall_time_ms` is 60 s, the most for this runtime is 700 ms"
    );
    // The released Piston's API holds to the same.
    let v2 = json!({"language": "bash", "version": "*", "files": [{"content": "sleep 30"}],
                    "run_timeout": 60_000});
    let refused = daemon.send("POST", "/api/v2/execute", &v2).json();
    assert_eq!(
        refused["message"],
        "run_timeout cannot exceed the configured limit of 700"
    );
    let runtimes = daemon.get("/api/v3/runtimes").json();
    assert_eq!(
        runtimes[0]["limits"]["run"]["wall_time_ms"], 700,
        "{runtimes}"
    );

    // As text, from the command line, comments kept; it survives a restart.
    let file = daemon.folder().join("new.toml");
    let text = "# ours\n[[runner]]\nlanguage = \"bash\"\nrun.wall_time = \"900ms\"\n";
    fs::write(&file, text).expect("written");
    let name = file.to_str().expect("UTF-8");
    let output = daemon.cli(&["runners", "check", name], b"");
    assert!(output.status.success(), "{output:?}");
    assert!(
        wall_limit(&daemon)
            .as_str()
            .expect("text")
            .ends_with("700 ms")
    );
    let output = daemon.cli(&["runners", "set", name], b"");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1 entry, in force\n"
    );
    let output = daemon.cli(&["runners", "show"], b"");
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
    let mut daemon = daemon;
    daemon.stop(Signal::SIGTERM);
    daemon.restart();
    assert!(
        wall_limit(&daemon)
            .as_str()
            .expect("text")
            .ends_with("900 ms")
    );

    // What is wrong is told with its place and changes nothing.
    let output = daemon.cli(
        &["runners", "set", "-"],
        b"[[runner]]\nlanguage = \"bash\"\nrun.wall_time = \"2m\"\n",
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("line 3, column 17: runner[0].run.wall_time: 120 s is above limits.max"),
        "{said}"
    );
    assert_eq!(daemon.get(RUNNERS).json()["text"], text);
}

fn a_file_is_read_again_on_a_signal_and_a_bad_one_is_told_of_and_not_taken(who: Who) {
    let mut daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let file = daemon.data().join("runners.toml");
    let until = |daemon: &Daemon, seen: &dyn Fn(&Value) -> bool| {
        kill(daemon.pid(), Signal::SIGHUP).expect("a signal");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let info = daemon.get("/api/v3/info").json()["runners"].clone();
            if seen(&info) {
                return info;
            }
            assert!(Instant::now() < deadline, "{info}\n{}", daemon.log());
            std::thread::yield_now();
        }
    };
    let good = "[[runner]]\nlanguage = \"bash\"\nrun.wall_time = \"800ms\"\n";
    fs::write(&file, good).expect("written");
    until(&daemon, &|info| info["entries"] == 1);
    assert!(
        wall_limit(&daemon)
            .as_str()
            .expect("text")
            .ends_with("800 ms")
    );

    fs::write(&file, "[[runner]]\nlanguage = \"bash\"\nrun.wall = 1\n").expect("written");
    let info = until(&daemon, &|info| !info["error"].is_null());
    let error = info["error"].as_str().expect("text").to_owned();
    assert!(
        error.contains("line 3, column 5: unknown field `wall`"),
        "{error}"
    );
    assert!(
        wall_limit(&daemon)
            .as_str()
            .expect("text")
            .ends_with("800 ms")
    );
    assert_eq!(daemon.log().matches("unknown field").count(), 1);
    let status = daemon.cli(&["status"], b"");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("not in force"), "{status}");

    // A start does not go on without the limits that somebody relies on.
    daemon.stop(Signal::SIGTERM);
    let refused = daemon.start_second();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("runners.toml: line 3, column 5"), "{said}");
    fs::write(&file, good).expect("written");
    daemon.restart();
}
