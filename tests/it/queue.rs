//! Admission: who waits, who is told so, and that nobody is lost.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use piston_tests::{Daemon, Who, free_port, http, packages, wait_until};
use serde_json::json;

const EXECUTE: &str = "/api/v3/packages/bash/*/execute";

#[test]
fn a_thousand_submissions_at_once_are_all_answered() {
    let config = "[jobs]\nmax_concurrent = 8\nmax_queued = 600\n";
    let daemon = Daemon::start_with(Who::User, config, &[]);
    packages::install(&daemon, &["bash"]);
    let (address, body) = (daemon.address(), json!({"code": "echo hi"}).to_string());
    let ask = |_| {
        let (address, body) = (address.clone(), body.clone());
        thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || http::request(&address, "POST", EXECUTE, &[], body.as_bytes()))
            .expect("a thread")
    };
    let asked: Vec<_> = (0..1000).map(ask).collect();
    let mut count = [0, 0];
    for reply in asked {
        let reply = reply.join().expect("a reply");
        match reply.status {
            200 => assert_eq!(reply.json()["run"]["stdout"], "hi\n"),
            429 => {
                assert_eq!(reply.json()["code"], "queue_full");
                assert!(reply.header("retry-after").is_some());
            }
            other => panic!("{other}: {}", String::from_utf8_lossy(&reply.body)),
        }
        count[usize::from(reply.status == 429)] += 1;
    }
    assert!(count[0] >= 608, "{count:?}");
    wait_until("nothing is left", || {
        daemon.get("/api/v3/jobs").json() == json!([])
    });
}

#[test]
fn memory_does_not_grow_with_the_number_of_jobs() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let run = |jobs: usize| {
        let client = || {
            for number in 0..jobs / 8 {
                let code = format!("echo {number}");
                let reply = daemon.execute("bash", &json!({"code": code, "cache": "none"}));
                assert_eq!(reply["run"]["stdout"], format!("{number}\n"));
            }
        };
        thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(client))));
        daemon.resident()
    };
    // What is promised is ten times as many: `contrib/bench/jobs lasting`.
    let (before, after) = (run(200), run(2000));
    assert!(after < before * 6 / 5, "{before} and {after} bytes");
}

#[test]
fn requesters_take_turns_and_the_list_says_who_waits() {
    let port = free_port();
    let config = "[jobs]\nmax_concurrent = 1\n";
    let daemon = Daemon::start_with(Who::User, config, &["--listen", &port.to_string()]);
    packages::install(&daemon, &["bash"]);
    let submit = |address: http::Address, code: &'static str| {
        let body = json!({ "code": code }).to_string();
        thread::spawn(move || {
            let reply = http::request(&address, "POST", EXECUTE, &[], body.as_bytes());
            assert_eq!(reply.status, 200);
            Instant::now()
        })
    };
    let queued = |count: usize| {
        let jobs = daemon.get("/api/v3/jobs").json();
        let jobs = jobs.as_array().expect("a list");
        jobs.iter().filter(|job| job["state"] == "queued").count() == count
    };
    let running = submit(daemon.address(), "sleep 2");
    wait_until("it runs", || {
        daemon.get("/api/v3/jobs").json()[0]["state"] == "run"
    });
    let mut waiting = Vec::new();
    for count in 1..=4 {
        waiting.push(submit(daemon.address(), "sleep 0.2"));
        wait_until("it waits", || queued(count));
    }
    let other = submit(http::Address::Tcp(port), ":");
    wait_until("the other waits", || queued(5));
    let jobs = daemon.get("/api/v3/jobs").json();
    let jobs = jobs.as_array().expect("a list");
    let by = |name: &str| {
        let fits = jobs.iter().filter(|job| job["requester"] == name);
        fits.count()
    };
    assert_eq!(by("127.0.0.1"), 1, "{jobs:?}");
    let own = jobs[0]["requester"].as_str().expect("a requester");
    assert!(own.starts_with("uid ") || own == "127.0.0.1", "{jobs:?}");

    running.join().expect("ended");
    let other = other.join().expect("ended");
    let ends: Vec<_> = waiting
        .into_iter()
        .map(|job| job.join().expect("ended"))
        .collect();
    assert!(other < ends[1], "it waited for a line that is not its own");
}

#[test]
fn who_leaves_the_line_is_not_run() {
    let config = "[jobs]\nmax_concurrent = 1\n";
    let daemon = Daemon::start_with(Who::User, config, &[]);
    packages::install(&daemon, &["bash"]);
    let begin = |code: &str| {
        let body = json!({ "code": code }).to_string();
        http::begin(&daemon.address(), "POST", EXECUTE, &[], body.as_bytes())
    };
    let count = |count: usize| {
        let jobs = daemon.get("/api/v3/jobs").json();
        jobs.as_array().is_some_and(|jobs| jobs.len() == count)
    };
    let running = begin("sleep 30");
    wait_until("it runs", || count(1));
    let waits = begin("echo never");
    wait_until("it waits", || count(2));
    drop(waits);
    wait_until("it has left", || count(1));
    drop(running);
    wait_until("all have left", || count(0));
    let still_there = UnixStream::connect(daemon.socket());
    still_there.expect("it still listens");
}

#[test]
fn without_a_group_above_them_jobs_wait_for_their_memory() {
    // A hundredth of the memory of most machines is less than one job may need.
    let config = "[jobs]\nmemory_percent = 1\n";
    let daemon = Daemon::start_with(Who::User, config, &[]);
    packages::install(&daemon, &["bash"]);
    let info = daemon.get("/api/v3/info").json();
    let mechanisms = info["mechanisms"].as_array().expect("mechanisms");
    let memory = mechanisms
        .iter()
        .find(|mechanism| mechanism["name"] == "memory_limit")
        .and_then(|mechanism| mechanism["detail"].as_str())
        .expect("how memory is limited");
    let is_shared = memory.starts_with("the kernel's");
    let listed = |count: usize| {
        let list = daemon.get("/api/v3/jobs").json();
        list.as_array().is_some_and(|list| list.len() == count)
    };
    let mut jobs = Vec::new();
    for number in 0..=fit_in_a_hundredth() {
        let body = json!({"code": "sleep 30"}).to_string();
        let address = daemon.address();
        jobs.push(http::begin(&address, "POST", EXECUTE, &[], body.as_bytes()));
        wait_until("it is there", || listed(number + 1));
    }
    let states = |running: usize, queued: usize| {
        let list = daemon.get("/api/v3/jobs").json();
        let count = |state: &str| {
            let list = list.as_array().expect("a list");
            list.iter().filter(|job| job["state"] == state).count()
        };
        (count("run"), count("queued")) == (running, queued)
    };
    let waits = usize::from(!is_shared);
    wait_until("all but one run", || states(jobs.len() - waits, waits));
    drop(jobs.remove(0));
    wait_until("the last one runs", || states(jobs.len(), 0));
}

/// How many jobs of the default limits (memory and disk) fit in a hundredth of the memory; one runs
/// always.
fn fit_in_a_hundredth() -> usize {
    const NEEDS: u64 = (512 + 64) << 10;
    let host = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let total = host.split_ascii_whitespace().nth(1).expect("MemTotal");
    let total: u64 = total.parse().expect("a number");
    usize::try_from(total / 100 / NEEDS)
        .expect("it fits")
        .max(1)
}
