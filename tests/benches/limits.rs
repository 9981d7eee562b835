//! How late the wall limit is noticed, by the wall time of the replies.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::process::{Command, ExitCode, Stdio};

use piston_tests::{Daemon, Who, packages};
use serde_json::json;

/// The limit of every job, in milliseconds.
const LIMIT: u64 = 100;

/// What is promised, in milliseconds, on a machine that has nothing else to do.
const PROMISED: u64 = 10;

/// How late each of `rounds` jobs was ended, sorted.
fn lateness(daemon: &Daemon, rounds: usize) -> Vec<u64> {
    let body = json!({"code": "exec sleep 60", "limits": {"run": {"wall_time_ms": LIMIT}}});
    let late = || {
        let run = daemon.execute("bash", &body)["run"].clone();
        assert_eq!(run["status"], "TO", "{run}");
        run["wall_time_ms"].as_u64().expect("a number") - LIMIT
    };
    let mut all: Vec<u64> = (0..rounds).map(|_| late()).collect();
    all.sort_unstable();
    all
}

fn report(name: &str, all: &[u64]) -> u64 {
    let [p50, p99] = [50, 99].map(|percent| all[(all.len() - 1) * percent / 100]);
    println!("{name:<24} p50 {p50:4} ms late   p99 {p99:4} ms late");
    p99
}

fn main() -> ExitCode {
    let rounds: usize = std::env::var("PISTON_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100);
    let daemon = Daemon::start(Who::Root);
    packages::install(&daemon, &["bash"]);
    let alone = report("alone", &lateness(&daemon, rounds));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = || {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null());
        command.spawn().expect("a shell")
    };
    let mut others: Vec<_> = (0..processors).map(|_| busy()).collect();
    let beside = lateness(&daemon, rounds);
    for other in &mut others {
        other.kill().expect("killed");
        other.wait().expect("waited for");
    }
    report("beside busy programs", &beside);
    if alone <= PROMISED {
        ExitCode::SUCCESS
    } else {
        println!("promised: at most {PROMISED} ms");
        ExitCode::FAILURE
    }
}
