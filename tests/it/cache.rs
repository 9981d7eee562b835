//! What is kept of jobs: never a wrong answer, whatever happens to the disk or the daemon.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use piston_tests::{Daemon, Who, http, packages};
use serde_json::{Value, json};

as_root_and_user!(
    an_equal_compile_is_restored_and_the_run_is_done_afresh,
    a_result_is_repeated_only_where_it_was_asked_for,
    equal_compiles_at_once_are_done_once_also_when_the_first_client_goes_away,
    entries_survive_a_restart_and_a_kill_and_end_with_purge_and_package,
    damage_on_disk_never_gives_a_wrong_answer,
    a_hit_is_quicker_than_a_miss,
    what_an_operator_sets_for_a_package_holds_until_it_is_taken_back,
    how_output_is_encoded_is_no_part_of_what_is_kept,
    a_request_that_comes_again_is_answered_by_what_holds_now,
    a_request_of_the_released_api_that_comes_again_is_too,
    a_request_that_differs_in_how_it_is_to_be_answered_is_another_one,
    jobs_that_wait_for_another_ones_compile_hold_no_slot,
);

const C: &str = "#include <stdio.h>\n#include <stdlib.h>\n\
    int main(int n, char **v) { printf(\"%s %s\\n\", v[1], getenv(\"X\")); return 3; }\n";

fn c(argument: &str) -> Value {
    json!({
        "language": "c", "files": [{"name": "main.c", "content": C}], "args": [argument],
        "env": {"X": "x"},
    })
}

fn with(mut body: Value, more: Value) -> Value {
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}

fn usage(daemon: &Daemon, path: &str) -> Value {
    let reply = daemon.get(&format!("/api/v3{path}"));
    assert_eq!(reply.status, 200);
    reply.json()
}

fn an_equal_compile_is_restored_and_the_run_is_done_afresh(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc"]);
    let first = daemon.execute("gcc", &c("one"));
    assert_eq!(first["cache"], "miss", "{first}");
    // Arguments are the run's alone.
    let second = daemon.execute("gcc", &c("two"));
    assert_eq!(second["cache"], "binary", "{second}");
    assert_eq!(second["compile"], first["compile"]);
    assert_eq!(second["run"]["stdout"], "two x\n");
    assert_eq!(second["run"]["code"], 3);
    for (what, body) in [
        ("no cache", with(c("one"), json!({"cache": "none"}))),
        ("env", with(c("one"), json!({"env": {"X": "y"}}))),
        ("language", with(c("one"), json!({"language": "c++"}))),
        (
            "limits",
            with(
                c("one"),
                json!({"limits": {"compile": {"wall_time_ms": 9000}}}),
            ),
        ),
    ] {
        assert_eq!(daemon.execute("gcc", &body)["cache"], "miss", "{what}");
    }
    // A compile error is a result; one that ran out of time is not.
    let bad = json!({"language": "c", "code": "int main( {"});
    let error = daemon.execute("gcc", &bad);
    let again = daemon.execute("gcc", &bad);
    assert_eq!(
        (&error["cache"], &again["cache"]),
        (&json!("miss"), &json!("binary"))
    );
    assert_eq!(again["compile"], error["compile"]);
    assert!(again.get("run").is_none(), "{again}");
    let short = with(
        c("one"),
        json!({"limits": {"compile": {"wall_time_ms": 1}}}),
    );
    for _ in 0..2 {
        let reply = daemon.execute("gcc", &short);
        assert_eq!(reply["compile"]["status"], "TO", "{reply}");
        assert_eq!(reply["cache"], "miss");
    }
}

fn a_result_is_repeated_only_where_it_was_asked_for(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    // Differs each time it really runs.
    let code = "cat; cat /proc/sys/kernel/random/uuid; echo err >&2; echo f > f.txt; exit 4";
    let plain = json!({"code": code, "stdin": "in\n", "outputs": ["*.txt"]});
    let output = with(plain.clone(), json!({"cache": "output"}));
    assert_eq!(daemon.execute("bash", &plain)["cache"], "miss");
    let mut first = daemon.execute("bash", &output);
    assert_eq!(
        first["cache"], "miss",
        "interpreted languages keep nothing unasked"
    );
    let mut hit = daemon.execute("bash", &output);
    assert_eq!(hit["cache"], "output");
    for reply in [&mut first, &mut hit] {
        let reply = reply.as_object_mut().expect("an object");
        for field in ["id", "cache", "timings"] {
            assert!(reply.remove(field).is_some(), "{field}");
        }
    }
    assert_eq!(first, hit);
    assert_eq!(daemon.execute("bash", &plain)["cache"], "miss");
    for (what, more) in [
        ("args", json!({"args": ["x"]})),
        ("stdin", json!({"stdin": "other"})),
        ("env", json!({"env": {"A": "b"}})),
        ("limits", json!({"limits": {"run": {"wall_time_ms": 2900}}})),
        ("outputs", json!({"outputs": []})),
    ] {
        let reply = daemon.execute("bash", &with(output.clone(), more));
        assert_eq!(reply["cache"], "miss", "{what}");
    }
    for (code, status) in [
        ("sleep 9", "TO"),
        ("while :; do echo y; done", "OL"),
        ("kill -9 $$", "SG"),
    ] {
        let limits = json!({"run": {"wall_time_ms": 500, "output_bytes": 1000}});
        let body = json!({"code": code, "cache": "output", "limits": limits});
        for _ in 0..2 {
            let reply = daemon.execute("bash", &body);
            assert_eq!(
                (&reply["run"]["status"], &reply["cache"]),
                (&json!(status), &json!("miss"))
            );
        }
    }
}

fn a_request_that_comes_again_is_answered_by_what_holds_now(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let body = json!({"code": "cat /proc/sys/kernel/random/uuid", "cache": "output"});
    let run = || daemon.execute("bash", &body);
    // Once for the result, once for the request, and then twice from both.
    let all = || {
        let replies = [(); 4].map(|()| run());
        assert_eq!(replies[0]["cache"], "miss");
        let hits = replies[1..].iter().map(|reply| {
            let mut reply = reply.clone();
            reply["id"].take();
            reply
        });
        let hits: Vec<Value> = hits.collect();
        assert_eq!(hits[0]["cache"], "output");
        assert!(hits.iter().all(|hit| *hit == hits[0]), "{hits:?}");
        assert_eq!(hits[0]["run"], replies[0]["run"]);
        let mut ids: Vec<&str> = replies.iter().filter_map(|r| r["id"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4, "every job has an id of its own");
        hits[0]["run"]["stdout"].clone()
    };
    let first = all();
    assert_eq!(usage(&daemon, "/cache")["output_hits"], 3);
    let purged = daemon.send("DELETE", "/api/v3/cache", &Value::Null);
    assert!(purged.status < 300, "{purged:?}");
    let second = all();
    assert_ne!(first, second, "what was purged is gone");
    let rules = json!({"runners": [
        {"language": "bash", "limits": {"run": {"wall_time_ms": 2000}}},
    ]});
    assert_eq!(daemon.send("PUT", "/api/v3/runners", &rules).status, 200);
    let third = all();
    assert_ne!(
        second, third,
        "the operator's rules are part of what a request means"
    );
    let found = daemon.get("/api/v3/packages/bash").json();
    let version = found[0]["version"].as_str().expect("text");
    let path = format!("/api/v3/packages/bash/{version}");
    assert!(daemon.send("DELETE", &path, &Value::Null).status < 300);
    let reply = daemon.send("POST", "/api/v3/packages/bash/*/execute", &body);
    assert_eq!(reply.status, 404);
}

fn a_request_of_the_released_api_that_comes_again_is_too(who: Who) {
    let config = "[cache.override.bash]\nlevel = \"output\"\n";
    let daemon = Daemon::start_with(who, config, &[]);
    packages::install(&daemon, &["bash"]);
    let files = json!([{"content": "cat /proc/sys/kernel/random/uuid"}]);
    let body = json!({"language": "bash", "version": "*", "files": files});
    let all = |path: &str| {
        let replies = [(); 4].map(|()| daemon.send("POST", path, &body).json());
        assert!(replies.iter().all(|reply| *reply == replies[0]));
        replies[0]["run"]["stdout"].clone()
    };
    let first = all("/api/v2/execute");
    assert_eq!(first.as_str().map(str::len), Some(37), "{first}");
    assert_eq!(usage(&daemon, "/cache")["output_hits"], 3);
    assert_eq!(all("/api/v2/piston/execute"), first);
    let purged = daemon.send("DELETE", "/api/v3/cache", &Value::Null);
    assert!(purged.status < 300, "{purged:?}");
    assert_ne!(all("/api/v2/execute"), first);
}

fn a_request_that_differs_in_how_it_is_to_be_answered_is_another_one(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let path = "/api/v3/packages/bash/*/execute";
    let body = json!({"code": "echo hi", "cache": "output"}).to_string();
    let ask =
        |headers: &[&str]| http::request(&daemon.address(), "POST", path, headers, body.as_bytes());
    for _ in 0..3 {
        assert_eq!(ask(&[]).status, 200);
    }
    let streamed = ask(&["Accept: application/x-ndjson"]);
    assert_eq!(
        streamed.header("content-type"),
        Some("application/x-ndjson")
    );
    assert_eq!(ask(&["Content-Type: text/plain"]).status, 415);
    let named = ask(&["X-Request-Id: mine"]);
    assert_eq!(named.header("x-request-id"), Some("mine"));
    assert_eq!(named.json()["cache"], "output");
}

fn equal_compiles_at_once_are_done_once_also_when_the_first_client_goes_away(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc"]);
    // A client whose compile is under way and who goes away.
    let body = with(c("gone"), json!({"env": {"X": "shared"}})).to_string();
    let mut stream = UnixStream::connect(daemon.socket()).expect("connect");
    let head = "POST /api/v3/packages/gcc/*/execute HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("send");
    while daemon.get("/api/v3/jobs").json()[0]["state"] != "compile" {}
    let replies: Vec<Value> = std::thread::scope(|scope| {
        let run = |number: usize| {
            let body = with(c(&number.to_string()), json!({"env": {"X": "shared"}}));
            daemon.execute("gcc", &body)
        };
        let handles: Vec<_> = (0..16).map(|n| scope.spawn(move || run(n))).collect();
        drop(stream);
        let joined = handles
            .into_iter()
            .map(|handle| handle.join().expect("a reply"));
        joined.collect()
    });
    for (number, reply) in replies.iter().enumerate() {
        assert_eq!(
            reply["run"]["stdout"],
            format!("{number} shared\n"),
            "{reply}"
        );
        assert_eq!(reply["compile"], replies[0]["compile"]);
    }
    let misses = replies
        .iter()
        .filter(|reply| reply["cache"] == "miss")
        .count();
    assert!(misses <= 1, "{misses} compiles");
}

fn entries_survive_a_restart_and_a_kill_and_end_with_purge_and_package(who: Who) {
    let mut daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc", "bash"]);
    let gcc = packages::file("gcc");
    let output = |number: usize| json!({"code": format!("echo {number}"), "cache": "output"});
    let first = daemon.execute("gcc", &c("one"));
    daemon.stop(Signal::SIGTERM);
    daemon.restart();
    let second = daemon.execute("gcc", &c("one"));
    assert_eq!(
        (&second["cache"], &second["compile"]),
        (&json!("binary"), &first["compile"])
    );
    // Killed while it writes: what is there afterwards is right.
    for round in 0..3 {
        for number in 0..20 {
            let reply = daemon.execute("bash", &output(number));
            assert_eq!(
                reply["run"]["stdout"],
                format!("{number}\n"),
                "round {round}"
            );
        }
        daemon.stop(Signal::SIGKILL);
        daemon.restart();
    }
    assert_eq!(usage(&daemon, "/cache")["set_aside"], 0);
    let purged = |path: &str| {
        let reply = daemon.send("DELETE", &format!("/api/v3{path}"), &Value::Null);
        assert_eq!(
            reply.status,
            200,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        reply.json()["entries"].as_u64().expect("a number")
    };
    daemon.execute("bash", &output(0));
    let version = |name: &str| {
        let found = daemon.get(&format!("/api/v3/packages/{name}")).json();
        let version = found[0]["version"].as_str().expect("text").to_owned();
        format!("/packages/{name}/{version}")
    };
    let (gcc_path, bash_path) = (version("gcc"), version("bash"));
    let of_bash = usage(&daemon, &format!("{bash_path}/cache"));
    assert_eq!(of_bash["level"], "none");
    assert_ne!(of_bash["entries"], 0);
    assert!(purged(&format!("{bash_path}/cache")) > 0);
    assert_eq!(daemon.execute("bash", &output(0))["cache"], "miss");
    assert_eq!(daemon.execute("gcc", &c("one"))["cache"], "binary");
    // With its package: the same one again starts with nothing.
    let reply = daemon.send("DELETE", &format!("/api/v3{gcc_path}"), &Value::Null);
    assert_eq!(reply.status, 200);
    assert_eq!(daemon.upload(&gcc).status, 201);
    assert_eq!(daemon.execute("gcc", &c("one"))["cache"], "miss");
    let shown = daemon.cli(&["cache", "show"], b"");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("entries"), "{text}");
    let done = daemon.cli(&["cache", "purge"], b"");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.starts_with("removed 2 entries"), "{text}");
    assert_eq!(usage(&daemon, "/cache")["entries"], 0);
    assert_eq!(daemon.get("/api/v3/packages/gcc/9.9.9/cache").status, 404);
}

fn damage_on_disk_never_gives_a_wrong_answer(who: Who) {
    let mut daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    // One whose result is a row, one whose result is a file.
    let small = json!({"code": "echo small", "cache": "output"});
    let large = json!({"code": "printf 'x%.0s' {1..90000}", "cache": "output"});
    let expected = "x".repeat(90_000);
    let check = |daemon: &Daemon| {
        for _ in 0..2 {
            assert_eq!(daemon.execute("bash", &small)["run"]["stdout"], "small\n");
            let reply = daemon.execute("bash", &large);
            assert!(
                reply["run"]["stdout"] == expected.as_str(),
                "another result"
            );
        }
    };
    check(&daemon);
    let files = |daemon: &Daemon| -> Vec<PathBuf> {
        let entries = fs::read_dir(daemon.data().join("cache")).expect("the folder");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    // It is written behind the reply's back, and on a busy disk not each time.
    let file = loop {
        if let [file] = &files(&daemon)[..] {
            break file.clone();
        }
        std::thread::sleep(Duration::from_millis(50));
        check(&daemon);
    };
    daemon.stop(Signal::SIGTERM);
    let mut bytes = fs::read(&file).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("written");
    daemon.restart();
    check(&daemon);
    assert_eq!(usage(&daemon, "/cache")["damaged"], 1);
    daemon.stop(Signal::SIGTERM);
    let path = daemon.data().join("cache.redb");
    let good = fs::read(&path).expect("the database");
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    for at in used.iter().step_by(used.len() / 8 + 1) {
        let mut bytes = good.clone();
        bytes[*at] ^= 0x55;
        fs::write(&path, bytes).expect("written");
        daemon.restart();
        check(&daemon);
        daemon.stop(Signal::SIGKILL);
    }
    for bytes in [&b"foreign"[..], &good[..good.len() / 2]] {
        fs::write(&path, bytes).expect("written");
        daemon.restart();
        check(&daemon);
        assert_eq!(usage(&daemon, "/cache")["set_aside"], 1);
        daemon.stop(Signal::SIGTERM);
    }
    daemon.restart();
}

/// What the cache saves, for whoever asks with `--no-capture`.
fn a_hit_is_quicker_than_a_miss(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["gcc", "bash"]);
    let cpp = "#include <iostream>\nint main() { std::cout << \"hello\\n\"; }\n";
    let body = json!({"language": "c++", "files": [{"name": "main.cpp", "content": cpp}]});
    let time = |package: &str, body: &Value, count: u32| {
        let mut times: Vec<_> = (0..count)
            .map(|_| {
                let begun = Instant::now();
                let reply = daemon.execute(package, body);
                (begun.elapsed(), reply["cache"].clone())
            })
            .collect();
        times.sort_by_key(|(time, _)| *time);
        times.swap_remove(times.len() / 2)
    };
    let (miss, level) = time("gcc", &body, 1);
    assert_eq!(level, "miss");
    let (hit, level) = time("gcc", &body, 21);
    assert_eq!(level, "binary");
    let output = json!({"code": "echo hello", "cache": "output"});
    daemon.execute("bash", &output);
    let (repeated, level) = time("bash", &output, 201);
    assert_eq!(level, "output");
    #[expect(clippy::print_stdout, reason = "shown for a person who asks")]
    let () =
        println!("C++ hello: miss {miss:?}, binary hit {hit:?}; bash: output hit {repeated:?}");
    assert!(hit < miss / 3, "miss {miss:?}, hit {hit:?}");
}

fn what_an_operator_sets_for_a_package_holds_until_it_is_taken_back(who: Who) {
    let config = "[cache.override.python]\nlevel = \"output\"\nttl = \"2h\"\n";
    let mut daemon = Daemon::start_with(who, config, &[]);
    packages::install(&daemon, &["bash", "python"]);
    let version = |name: &str| {
        let found = daemon.get(&format!("/api/v3/packages/{name}")).json();
        found[0]["version"].as_str().expect("text").to_owned()
    };
    let path = format!("/api/v3/packages/bash/{}", version("bash"));
    let of_python = format!("/packages/python/{}/cache", version("python"));
    let python = usage(&daemon, &of_python);
    assert_eq!(
        (&python["level"], &python["ttl_ms"]),
        (&json!("output"), &json!(7_200_000))
    );
    let job = json!({"code": "echo hi"});
    let twice = |daemon: &Daemon| {
        daemon.execute("bash", &job);
        daemon.execute("bash", &job)["cache"].clone()
    };
    assert_eq!(twice(&daemon), "miss");
    let patch = |daemon: &Daemon, change: Value| daemon.send("PATCH", &path, &change);
    let set = patch(
        &daemon,
        json!({"cache": "output", "cache_ttl_ms": 3_600_000}),
    );
    assert_eq!((set.status, &set.json()["cache"]), (200, &json!("output")));
    assert_eq!(twice(&daemon), "output");
    let own = with(job.clone(), json!({"cache": "none"}));
    assert_eq!(
        daemon.execute("bash", &own)["cache"],
        "miss",
        "a job's own word"
    );
    let metrics = daemon.get("/metrics");
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|kind| kind.contains("openmetrics"))
    );
    let hits = |line: &&str| line.starts_with("piston_cache_hits_total{package=\"bash\"");
    let hits: Vec<_> = text.lines().filter(hits).collect();
    assert!(hits[1].ends_with("level=\"output\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    daemon.stop(Signal::SIGKILL);
    daemon.restart();
    let shown = daemon.get(&path).json();
    assert_eq!(
        (&shown["cache"], &shown["cache_ttl_ms"]),
        (&json!("output"), &json!(3_600_000))
    );
    for (change, status) in [
        (json!({"cache_ttl_ms": 1}), 422),
        (json!({"cache": "all"}), 400),
        (json!({"level": "none"}), 400),
    ] {
        assert_eq!(patch(&daemon, change.clone()).status, status, "{change}");
    }
    let nowhere = daemon.send("PATCH", "/api/v3/packages/bash/9.9.9", &json!({}));
    assert_eq!(nowhere.status, 404);
    // Only what is named changes; null takes it back.
    let back = patch(&daemon, json!({"cache": null})).json();
    assert_eq!(
        (&back["cache"], &back["cache_ttl_ms"]),
        (&json!("none"), &json!(3_600_000))
    );
    let cli = daemon.cli(
        &[
            "cache", "set", "bash", "--level", "output", "--ttl", "default",
        ],
        b"",
    );
    let text = String::from_utf8_lossy(&cli.stdout).into_owned();
    assert!(cli.status.success() && text.contains("output"), "{text}");
    let shown = daemon.get(&path).json();
    assert_eq!(
        (&shown["cache"], shown.get("cache_ttl_ms")),
        (&json!("output"), None)
    );
}

/// What is kept are the program's bytes; each reply encodes them as its request asks. So the
/// encoding is no part of the key, and a hit serves both.
fn how_output_is_encoded_is_no_part_of_what_is_kept(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let code = "printf 'a\\377'; cat /proc/sys/kernel/random/uuid >&2";
    let text = json!({"code": code, "cache": "output"});
    let base64 = with(text.clone(), json!({"encoding": "base64"}));
    let first = daemon.execute("bash", &text);
    let second = daemon.execute("bash", &base64);
    assert_eq!(second["cache"], "output", "{second}");
    assert_eq!(
        (&first["run"]["stdout"], &first["run"]["lossy"]),
        (&json!("a\u{fffd}"), &json!(true))
    );
    assert_eq!(second["run"]["stdout"], "Yf8=");
    assert_eq!(second["run"].get("lossy"), None, "{second}");
    assert_eq!(daemon.execute("bash", &text)["run"], first["run"]);
}

fn jobs_that_wait_for_another_ones_compile_hold_no_slot(who: Who) {
    // The compile takes a second or two, on a busy machine ten times as long.
    let config = "[jobs]\nmax_concurrent = 2\n\
        [limits.compile]\nwall_time = \"1m\"\ncpu_time = \"1m\"\n";
    let daemon = Daemon::start_with(who, config, &[]);
    packages::install(&daemon, &["gcc", "bash"]);
    let cpp = "#include <regex>\n#include <iostream>\n#include <map>\n\
        int main() { std::cout << std::regex_match(\"a\", std::regex(\"[a-z]\")); }\n";
    let body = json!({"language": "c++", "files": [{"name": "main.cpp", "content": cpp}]});
    std::thread::scope(|scope| {
        let equal: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| daemon.execute("gcc", &body)))
            .collect();
        let states = || -> Vec<Value> {
            let jobs = daemon.get("/api/v3/jobs").json();
            let jobs = jobs.as_array().expect("a list").iter();
            jobs.map(|job| job["state"].clone()).collect()
        };
        while states().len() < 5 || !states().contains(&json!("compile")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let other = daemon.execute("bash", &json!({"code": "echo free"}));
        assert_eq!(other["run"]["stdout"], "free\n");
        let states = states();
        assert!(
            states.contains(&json!("compile")),
            "the compile was over too soon: {states:?}"
        );
        assert_eq!(
            states.iter().filter(|state| **state == "queued").count(),
            4,
            "{states:?}"
        );
        let replies: Vec<_> = equal
            .into_iter()
            .map(|job| job.join().expect("a reply"))
            .collect();
        let misses = replies
            .iter()
            .filter(|reply| reply["cache"] == "miss")
            .count();
        assert_eq!(misses, 1, "{replies:?}");
        assert!(
            replies.iter().all(|reply| reply["run"]["stdout"] == "1"),
            "{replies:?}"
        );
    });
}
