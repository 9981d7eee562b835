//! Starting, ending, and being killed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use pistond::sandbox::{Ended, SandboxError, Window};

use crate::bench::{command, everywhere, processes_with, shell};

#[test]
fn a_program_runs_with_its_streams() {
    everywhere("life::a_program_runs_with_its_streams", async |bench| {
        let outcome = bench.sh("cat; echo hello; echo oops >&2").await;
        assert_eq!(outcome.exit.ended, Ended::Exited(0), "{outcome:?}");
        assert_eq!(outcome.out, "from stdin\nhello\n");
        assert_eq!(outcome.err, "oops\n");
    });
}

#[test]
fn the_way_a_program_ended_is_told_exactly() {
    everywhere(
        "life::the_way_a_program_ended_is_told_exactly",
        async |bench| {
            for (script, ended) in [
                ("exit 0", Ended::Exited(0)),
                ("exit 3", Ended::Exited(3)),
                ("exit 300", Ended::Exited(300 % 256)),
                ("exit 137", Ended::Exited(137)),
                ("kill -ABRT $$", Ended::Signalled(libc::SIGABRT)),
                ("kill -TERM $$", Ended::Signalled(libc::SIGTERM)),
                ("kill -INT $$", Ended::Signalled(libc::SIGINT)),
                ("kill -PIPE $$", Ended::Signalled(libc::SIGPIPE)),
                ("kill -KILL $$", Ended::Signalled(libc::SIGKILL)),
                ("kill -RTMIN $$", Ended::Signalled(34)),
            ] {
                let outcome = bench.sh(script).await;
                assert_eq!(outcome.exit.ended, ended, "{script}: {outcome:?}");
            }
        },
    );
}

#[test]
fn arguments_and_environment_are_exactly_those_given() {
    everywhere(
        "life::arguments_and_environment_are_exactly_those_given",
        async |bench| {
            let mut spec = command(&["/bin/env", "-0"]);
            spec.env = [("B", "1"), ("A", "a=b\n"), ("EMPTY", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec();
            let outcome = bench.run(spec).await.unwrap();
            assert_eq!(outcome.out, "B=1\0A=a=b\n\0EMPTY=\0");

            let argv = [
                "/bin/bash",
                "-c",
                r#"printf '[%s]' "$0" "$@""#,
                "",
                "a b",
                "*",
                "-n",
                "ü\n",
            ];
            let outcome = bench.run(command(&argv)).await.unwrap();
            assert_eq!(outcome.out, "[][a b][*][-n][ü\n]");
        },
    );
}

#[test]
fn a_program_that_cannot_be_executed_is_an_error_of_its_own() {
    everywhere(
        "life::a_program_that_cannot_be_executed_is_an_error_of_its_own",
        async |bench| {
            for (program, kind) in [
                ("/bin/nothing", ErrorKind::NotFound),
                ("nothing", ErrorKind::NotFound),
                ("/bin", ErrorKind::PermissionDenied),
                ("", ErrorKind::NotFound),
            ] {
                match bench.run(command(&[program])).await {
                    Err(SandboxError::Exec {
                        program: named,
                        source,
                    }) => {
                        assert_eq!((named.as_str(), source.kind()), (program, kind));
                    }
                    other => panic!("{program}: {other:?}"),
                }
            }
            assert!(matches!(
                bench.run(command(&[])).await,
                Err(SandboxError::Exec { .. })
            ));
        },
    );
}

#[test]
fn a_file_of_the_job_is_a_program_by_its_relative_name() {
    everywhere(
        "life::a_file_of_the_job_is_a_program_by_its_relative_name",
        async |bench| {
            let workspace = bench.workspace();
            let script = b"#!/bin/bash\necho $0 $1";
            workspace
                .write(&"bin/run".parse().unwrap(), 0o755, script)
                .unwrap();
            let live = bench
                .launch(command(&["bin/run", "x"]), &workspace)
                .await
                .unwrap();
            assert_eq!(live.finish().await.unwrap().out, "bin/run x\n");
        },
    );
}

#[test]
fn a_nul_in_an_argument_or_a_view_that_is_none_is_a_named_step() {
    everywhere(
        "life::a_nul_in_an_argument_or_a_view_that_is_none_is_a_named_step",
        async |bench| {
            let step = async |spec| match bench.run(spec).await {
                Err(SandboxError::Step { step, .. }) => step,
                other => panic!("{other:?}"),
            };
            assert_eq!(
                step(command(&["/bin/true", "a\0b"])).await,
                "arguments and environment"
            );
            for view in ["nothing", "../view", "/", "/etc", "", "view/bin/bash"] {
                let mut spec = command(&["/bin/true"]);
                view.clone_into(&mut spec.view);
                assert_eq!(step(spec).await, "open the view", "{view}");
            }
        },
    );
}

#[test]
fn a_view_cannot_redirect_a_mount_with_a_symlink() {
    everywhere(
        "life::a_view_cannot_redirect_a_mount_with_a_symlink",
        async |bench| {
            let view = bench.fs.path().join("view");
            for name in ["tmp", "proc", "dev", "piston/job"] {
                let (place, aside) = (view.join(name), view.join("aside"));
                std::fs::rename(&place, &aside).unwrap();
                std::os::unix::fs::symlink("/bin", &place).unwrap();
                match bench.run(command(&["/bin/true"])).await {
                    Err(SandboxError::Step { step, source }) => {
                        assert_eq!(step, format!("mount /{name}"));
                        assert_eq!(source.raw_os_error(), Some(libc::ELOOP));
                    }
                    other => panic!("{name}: {other:?}"),
                }
                std::fs::remove_file(&place).unwrap();
                std::fs::rename(&aside, &place).unwrap();
            }
        },
    );
}

#[test]
fn no_process_survives_the_program() {
    everywhere("life::no_process_survives_the_program", async |bench| {
        let outcome = bench
            .sh("trap '' TERM HUP INT
                 setsid sleep 98761 </dev/null >/dev/null 2>&1 &
                 ( ( trap '' TERM HUP; exec sleep 98761 >/dev/null 2>&1 ) & )
                 (exec setsid bash -c 'trap \"\" TERM; while :; do sleep 98761; done' >/dev/null 2>&1) &
                 sleep 0.1; echo done")
            .await;
        assert_eq!(outcome.out, "done\n", "{outcome:?}");
        assert_eq!(processes_with("98761"), [""; 0]);
    });
}

#[test]
fn kill_ends_a_fork_bomb_at_once_and_tells_its_figures() {
    everywhere(
        "life::kill_ends_a_fork_bomb_at_once_and_tells_its_figures",
        async |bench| {
            let bomb =
                shell("echo up; bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 98762; wait");
            let mut live = bench.launch(bomb, &bench.workspace()).await.unwrap();
            assert_eq!(live.line(), "up");
            tokio::time::sleep(Duration::from_millis(300)).await;
            let start = Instant::now();
            live.running.kill();
            let exit = live.running.wait().await.unwrap();
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{:?}",
                start.elapsed()
            );
            assert_eq!(exit.ended, Ended::Signalled(libc::SIGKILL));
            assert!(exit.cpu_time > Duration::ZERO && exit.wall_time > Duration::from_millis(250));
            assert_eq!(live.running.wait().await.unwrap(), exit, "asked again");
            assert_eq!(processes_with("98762"), [""; 0]);
        },
    );
}

#[test]
fn dropping_a_stage_kills_its_tree() {
    everywhere("life::dropping_a_stage_kills_its_tree", async |bench| {
        let script = shell("setsid sleep 98763 & echo up; sleep 98763");
        let mut live = bench.launch(script, &bench.workspace()).await.unwrap();
        assert_eq!(live.line(), "up");
        drop(live);
        gone("98763").await;
    });
}

#[test]
fn the_end_of_the_launcher_ends_its_jobs_and_the_next_job_has_another() {
    let name = "life::the_end_of_the_launcher_ends_its_jobs_and_the_next_job_has_another";
    everywhere(name, async |bench| {
        let script = shell("setsid sleep 98764 & echo up; sleep 98764");
        let mut live = bench.launch(script, &bench.workspace()).await.unwrap();
        assert_eq!(live.line(), "up");
        let launcher = bench.launcher.process_id().unwrap();
        signal(launcher, nix::sys::signal::Signal::SIGKILL);
        let lost = live.finish().await;
        assert!(matches!(lost, Err(SandboxError::Lost)), "{lost:?}");
        gone("98764").await;
        assert_eq!(bench.prints("echo again").await, "again\n");
        assert_ne!(bench.launcher.process_id(), Some(launcher));
    });
}

/// Sends a signal to a process by its number.
fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    nix::sys::signal::kill(pid, signal).expect("kill");
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("a process");
    let children = children.split_ascii_whitespace();
    children.map(|pid| pid.parse().expect("a pid")).collect()
}

#[test]
fn a_launcher_that_is_stopped_is_replaced() {
    let name = "life::a_launcher_that_is_stopped_is_replaced";
    everywhere(name, async |bench| {
        bench.prints("true").await;
        let launcher = bench.launcher.process_id().unwrap();
        signal(launcher, nix::sys::signal::Signal::SIGSTOP);
        // More than wait already.
        for n in 0..8 {
            let script = format!("echo {n}");
            assert_eq!(bench.prints(&script).await, format!("{n}\n"));
        }
        assert_ne!(bench.launcher.process_id(), Some(launcher));
    });
}

#[test]
fn a_sandbox_that_died_while_it_waited_is_nobodys_fault() {
    let name = "life::a_sandbox_that_died_while_it_waited_is_nobodys_fault";
    everywhere(name, async |bench| {
        bench.prints("true").await;
        let launcher = bench.launcher.process_id().unwrap();
        for init in children(launcher) {
            signal(init, nix::sys::signal::Signal::SIGKILL);
        }
        assert_eq!(bench.prints("echo all the same").await, "all the same\n");
        assert_eq!(bench.launcher.process_id(), Some(launcher));
    });
}

#[test]
fn an_init_that_is_stopped_is_killed_with_its_tree() {
    let name = "life::an_init_that_is_stopped_is_killed_with_its_tree";
    everywhere(name, async |bench| {
        let script = shell("setsid sleep 98766 & echo up; sleep 98766");
        let mut live = bench.launch(script, &bench.workspace()).await.unwrap();
        assert_eq!(live.line(), "up");
        let inits = children(bench.launcher.process_id().unwrap());
        let init = inits.into_iter().find(|init| !children(*init).is_empty());
        signal(init.unwrap(), nix::sys::signal::Signal::SIGSTOP);
        live.running.kill();
        let lost = live.finish().await;
        assert!(matches!(lost, Err(SandboxError::Lost)), "{lost:?}");
        assert_eq!(processes_with("98766"), [""; 0]);
    });
}

#[test]
fn a_terminal_or_a_service_manager_does_not_end_the_launcher() {
    everywhere(
        "life::a_terminal_or_a_service_manager_does_not_end_the_launcher",
        async |bench| {
            let launcher = bench.launcher.process_id().unwrap();
            for name in ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] {
                signal(launcher, name.parse().unwrap());
            }
            assert_eq!(bench.prints("echo still there").await, "still there\n");
            assert_eq!(bench.launcher.process_id(), Some(launcher));
        },
    );
}

#[test]
fn a_filesystem_that_is_not_there_is_an_error_of_the_start() {
    everywhere(
        "life::a_filesystem_that_is_not_there_is_an_error_of_the_start",
        async |bench| {
            let nowhere = std::path::Path::new("/nonexistent/fs");
            let program = crate::bench::pistond();
            let launcher =
                pistond::sandbox::Launcher::start_program(&program, nowhere, bench.ids, None);
            match launcher.await {
                Err(SandboxError::Step { step, source }) => {
                    assert_eq!(
                        (&*step, source.kind()),
                        ("bind the filesystem", ErrorKind::NotFound)
                    );
                }
                other => panic!("{other:?}"),
            }
        },
    );
}

#[test]
fn many_jobs_at_once_do_not_mix() {
    everywhere("life::many_jobs_at_once_do_not_mix", async |bench| {
        let mut lives = Vec::new();
        for n in 0..24 {
            let script = format!("echo {n} > /tmp/n; sleep 0.2; cat /tmp/n; exit {n}");
            lives.push((
                n,
                bench
                    .launch(shell(&script), &bench.workspace())
                    .await
                    .unwrap(),
            ));
        }
        for (n, live) in lives {
            let outcome = live.finish().await.unwrap();
            assert_eq!(outcome.out, format!("{n}\n"));
            assert_eq!(outcome.exit.ended, Ended::Exited(n));
        }
    });
}

#[test]
fn times_are_those_of_the_whole_tree() {
    everywhere("life::times_are_those_of_the_whole_tree", async |bench| {
        let spin = "spin() { for ((i = 0; i < 150000; i++)); do :; done; }; spin & (spin & wait); \
                    wait; sleep 0.3";
        let exit = bench.sh(spin).await.exit;
        assert!(exit.wall_time >= Duration::from_millis(300), "{exit:?}");
        assert!(exit.cpu_time >= Duration::from_millis(100), "{exit:?}");
        let idle = bench.sh("sleep 0.3").await.exit;
        assert!(idle.wall_time >= Duration::from_millis(300), "{idle:?}");
        assert!(idle.cpu_time < Duration::from_millis(100), "{idle:?}");
        assert!(idle.memory.0 > 1 << 20, "{idle:?}");
    });
}

#[test]
fn a_daemon_that_is_killed_takes_its_launcher_and_jobs_with_it() {
    const VICTIM: &str = "PISTON_TEST_VICTIM";
    let name = "life::a_daemon_that_is_killed_takes_its_launcher_and_jobs_with_it";
    everywhere(name, async |bench| {
        if std::env::var_os(VICTIM).is_some() {
            let script = shell("setsid sleep 98765 & echo up; sleep 98765");
            let mut live = bench.launch(script, &bench.workspace()).await.unwrap();
            assert_eq!(live.line(), "up");
            assert!(!processes_with("98765").is_empty());
            println!("the launcher is {}.", bench.launcher.process_id().unwrap());
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        let victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(VICTIM, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&victim.stdout);
        let (_, launcher) = said.split_once("the launcher is ").expect("the job ran");
        let (launcher, _) = launcher.split_once('.').unwrap();
        gone("98765").await;
        let start = Instant::now();
        while std::path::Path::new("/proc")
            .join(launcher)
            .join("exe")
            .exists()
        {
            assert!(start.elapsed() < Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn neither_daemon_nor_launcher_keeps_anything_of_a_job() {
    everywhere(
        "life::neither_daemon_nor_launcher_keeps_anything_of_a_job",
        async |bench| {
            let launcher = bench.launcher.process_id().unwrap();
            let count = |path: String| std::fs::read_dir(path).map_or(0, Iterator::count);
            let held = || {
                (
                    count("/proc/self/fd".to_owned()),
                    // Not readable without root, as the launcher is not dumpable.
                    count(format!("/proc/{launcher}/fd")),
                    // Those that wait for the next jobs.
                    children(launcher).len(),
                )
            };
            bench.prints("true").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = held();
            for _ in 0..30 {
                bench.sh("sleep 60 & exit 1").await;
                bench.run(command(&["/missing"])).await.unwrap_err();
            }
            let start = Instant::now();
            // A network that a failed start kept is not used again.
            let is_kept = |held: (usize, usize, usize)| {
                held.0 == before.0 && held.1 <= before.1 && held.2 == before.2
            };
            while !is_kept(held()) {
                assert!(
                    start.elapsed() < Duration::from_secs(5),
                    "{:?} and not {before:?}",
                    held()
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        },
    );
}

/// Waits until no process has `marker` among its arguments.
async fn gone(marker: &str) {
    let start = Instant::now();
    while !processes_with(marker).is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            processes_with(marker)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_signal_goes_to_the_group_of_the_program_and_not_to_init() {
    everywhere(
        "life::a_signal_goes_to_the_group_of_the_program_and_not_to_init",
        async |bench| {
            let script = "trap 'wait $child; echo got; exit 5' USR1
                (trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.01; done) & child=$!
                while :; do sleep 0.01; done";
            let mut live = bench
                .launch(shell(script), &bench.workspace())
                .await
                .unwrap();
            assert_eq!(live.line(), "ready");
            live.running.signal(libc::SIGUSR1).await.unwrap();
            let outcome = live.finish().await.unwrap();
            assert_eq!(outcome.exit.ended, Ended::Exited(5), "{outcome:?}");
            assert!(outcome.out.ends_with("child\ngot\n"), "{outcome:?}");

            let script = "echo ready; while :; do sleep 0.01; done";
            let mut live = bench
                .launch(shell(script), &bench.workspace())
                .await
                .unwrap();
            assert_eq!(live.line(), "ready");
            live.running.signal(libc::SIGTERM).await.unwrap();
            let outcome = live.finish().await.unwrap();
            let ended = Ended::Signalled(libc::SIGTERM);
            assert_eq!(outcome.exit.ended, ended, "{outcome:?}");
        },
    );
}

#[test]
fn a_program_can_have_a_terminal_of_its_own() {
    everywhere(
        "life::a_program_can_have_a_terminal_of_its_own",
        async |bench| {
            let script = "trap 'stty size' WINCH; trap 'echo interrupted; exit 7' INT
                tty; stty size; echo ready; read -r line </dev/tty
                echo \"read $line\" >/dev/stdout; sleep 20";
            let mut spec = shell(script);
            spec.terminal = Some(Window {
                columns: 91,
                rows: 17,
            });
            let live = bench.launch(spec, &bench.workspace()).await.unwrap();
            let terminal = live.running.terminal().unwrap();
            let mut screen = terminal.stream().unwrap();
            let mut seen = String::new();
            let mut until = |what: &str| {
                while !seen.contains(what) {
                    let mut bytes = [0; 64];
                    let length = screen.read(&mut bytes).unwrap();
                    seen.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
                }
            };
            until("/dev/pts/0\r\n17 91\r\nready\r\n");
            let window = Window {
                columns: 40,
                rows: 10,
            };
            terminal.resize(window).unwrap();
            let mut keys = terminal.stream().unwrap();
            keys.write_all(b"hello\n").unwrap();
            // Echoed first, as a terminal does.
            until("hello\r\n");
            until("10 40\r\n");
            until("read hello\r\n");
            // Ctrl-C.
            keys.write_all(b"\x03").unwrap();
            until("interrupted\r\n");
            let exit = live.running.wait().await.unwrap();
            assert_eq!(exit.ended, Ended::Exited(7));
        },
    );
}
