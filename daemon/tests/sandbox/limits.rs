//! What a program can't have more of.

use std::time::{Duration, Instant};

use piston_client::units::Bytes;
use pistond::sandbox::{Ended, SandboxError, Slot, Workspace};

use crate::bench::{everywhere, shell};

#[test]
fn the_limits_of_the_spec_are_in_force() {
    everywhere(
        "limits::the_limits_of_the_spec_are_in_force",
        async |bench| {
            let limits = bench.prints("cat /proc/self/limits").await;
            let value = |name: &str| {
                let line = limits
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap();
                line.split_ascii_whitespace()
                    .take(2)
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            assert_eq!(value("Max cpu time"), "10 11");
            assert_eq!(value("Max data size"), format!("{0} {0}", 256 << 20));
            assert_eq!(value("Max processes"), "64 64");
            assert_eq!(value("Max open files"), "256 256");
            assert_eq!(value("Max file size"), format!("{0} {0}", 4 << 20));
            assert_eq!(value("Max core file size"), "0 0");
            assert_eq!(value("Max msgqueue size"), "0 0");
            assert_eq!(value("Max realtime priority"), "0 0");
        },
    );
}

#[test]
fn job_directory_tmp_and_shm_have_one_bound() {
    everywhere(
        "limits::job_directory_tmp_and_shm_have_one_bound",
        async |bench| {
            let fill = "for n in 1 2 3; do for d in . /tmp /dev/shm; do
                        dd if=/dev/zero of=$d/f$n bs=1M count=1 status=none || echo full at $n $d
                    done; done";
            let outcome = bench.sh(fill).await;
            assert_eq!(outcome.out, "full at 3 /dev/shm\n", "{outcome:?}");
            assert!(
                outcome.err.contains("No space left on device"),
                "{outcome:?}"
            );
            // And one on names.
            let outcome = bench
                .sh("i=0; while > n$i; do ((i++)); done 2>/dev/null; echo $i")
                .await;
            let names: u32 = outcome.out.trim().parse().unwrap();
            assert!((1000..2048).contains(&names), "{names}");
        },
    );
}

#[test]
fn a_file_over_its_limit_is_sigxfsz() {
    everywhere("limits::a_file_over_its_limit_is_sigxfsz", async |bench| {
        let outcome = bench
            .sh("exec dd if=/dev/zero of=f bs=1M count=5 status=none")
            .await;
        assert_eq!(
            outcome.exit.ended,
            Ended::Signalled(libc::SIGXFSZ),
            "{outcome:?}"
        );
    });
}

#[test]
fn processor_time_over_its_limit_is_sigxcpu() {
    everywhere(
        "limits::processor_time_over_its_limit_is_sigxcpu",
        async |bench| {
            let mut spec = shell("while :; do :; done");
            spec.rlimits.cpu_seconds = 1;
            let outcome = bench.run(spec).await.unwrap();
            assert_eq!(outcome.exit.ended, Ended::Signalled(libc::SIGXCPU));
            assert!(
                outcome.exit.cpu_time >= Duration::from_millis(500),
                "{outcome:?}"
            );
        },
    );
}

#[test]
fn processes_are_counted_for_each_job_alone() {
    everywhere(
        "limits::processes_are_counted_for_each_job_alone",
        async |bench| {
            let crowd = "for ((i = 0; i < 70; i++)); do sleep 98771 & done 2>/dev/null; echo up; sleep 98771";
            let mut spec = shell(crowd);
            spec.rlimits.processes = 40;
            let live = bench.launch(spec, &bench.workspace()).await.unwrap();
            // bash tries again for a while and gives up; another job of the same user goes on.
            let other = bench
                .prints("for ((i = 0; i < 30; i++)); do true & done; wait; echo fine")
                .await;
            assert_eq!(other, "fine\n");
            live.running.kill();
            let exit = live.running.wait().await.unwrap();
            assert!(matches!(exit.ended, Ended::Signalled(_) | Ended::Exited(_)));
            drop(live);
        },
    );
}

#[test]
fn what_a_job_left_is_collected_and_nothing_but_files() {
    everywhere(
        "limits::what_a_job_left_is_collected_and_nothing_but_files",
        async |bench| {
            let workspace = bench.workspace();
            workspace
                .write(&"in/main.c".parse().unwrap(), 0o644, b"int main;")
                .unwrap();
            let script = "mkdir -p out/deep; echo 1 > out/deep/a; echo 2 > out/b; chmod 755 out/b
                      mkfifo pipe; ln -s /etc/passwd link; ln -s . loop; > /tmp/not-here
                      chmod 0 out/deep/a; echo 3 >> in/main.c; echo 4 > $'bad\\xff'";
            let live = bench.launch(shell(script), &workspace).await.unwrap();
            assert_eq!(live.finish().await.unwrap().err, "");
            let files = workspace.collect(&|_| true, Bytes::mib(1)).unwrap();
            let seen: Vec<_> = files
                .iter()
                .map(|f| (f.path.as_str(), f.mode, f.bytes.as_slice()))
                .collect();
            assert_eq!(
                seen,
                [
                    ("in/main.c", 0o644, b"int main;3\n".as_slice()),
                    ("out/b", 0o755, b"2\n"),
                    ("out/deep/a", 0, b"1\n"),
                ]
            );
            let some = workspace
                .collect(&|path| path.as_str() == "out/b", Bytes(2))
                .unwrap();
            assert_eq!(some.len(), 1);
            let over = workspace.collect(&|_| true, Bytes(3));
            assert!(
                matches!(over, Err(SandboxError::TooMuch { bound: 3, .. })),
                "{over:?}"
            );
        },
    );
}

#[test]
fn a_hostile_tree_is_refused_quickly_and_gone_quickly() {
    everywhere(
        "limits::a_hostile_tree_is_refused_quickly_and_gone_quickly",
        async |bench| {
            let workspace = Workspace::new(Bytes::mib(128), Slot(1), bench.ids).unwrap();
            // A path names at most 4095 bytes: deeper trees are made by moving one into the next.
            let script = "p=$(printf 'd/%.0s' {1..1000}); mkdir d0
                      for i in {1..20}; do
                          mkdir -p d$i/$p && mv d$((i - 1)) d$i/$p || break; echo $i
                      done";
            let live = bench.launch(shell(script), &workspace).await.unwrap();
            let outcome = live.finish().await.unwrap();
            assert!(outcome.out.ends_with("20\n"), "20,000 levels: {outcome:?}");
            let start = Instant::now();
            let deep = workspace.collect(&|_| true, Bytes::mib(1));
            assert!(
                matches!(deep, Err(SandboxError::TooMuch { .. })),
                "{deep:?}"
            );
            drop(workspace);
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{:?}",
                start.elapsed()
            );
        },
    );
}
