//! What a program sees around it.

use crate::bench::{everywhere, shell};

#[test]
fn a_program_is_an_unprivileged_user_without_any_way_up() {
    everywhere(
        "world::a_program_is_an_unprivileged_user_without_any_way_up",
        async |bench| {
            assert_eq!(bench.prints("id -u; id -g").await, "1000\n1000\n");
            let status = bench.prints("cat /proc/self/status").await;
            let field = |name: &str| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.unwrap_or_default().trim().to_owned()
            };
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(field(set), "0000000000000000", "{set}");
            }
            assert_eq!(field("NoNewPrivs"), "1");
            assert_eq!(field("Seccomp"), "2");
            // Groups of the daemon's user that it may not give up show as nobody's.
            let groups = field("Groups");
            assert!(
                groups
                    .split_ascii_whitespace()
                    .all(|group| ["65534", "1000"].contains(&group)),
                "{groups}"
            );
            assert!(bench.ids.is_none() || groups.is_empty(), "{groups}");
            for set in ["SigBlk", "SigIgn"] {
                assert_eq!(field(set), "0000000000000000", "{set}");
            }
            let maps = bench
                .prints("cat /proc/self/uid_map /proc/self/gid_map")
                .await;
            let inside: Vec<_> = maps.split_ascii_whitespace().collect();
            assert_eq!(
                (inside.len(), inside[0], inside[2], inside[5]),
                (6, "1000", "1", "1")
            );
        },
    );
}

#[test]
fn a_program_is_not_the_first_process_and_leads_a_session() {
    everywhere(
        "world::a_program_is_not_the_first_process_and_leads_a_session",
        async |bench| {
            let script = "read -r _ _ _ parent group session _ < /proc/self/stat; \
                      echo $$ $parent $group $session; cd /proc; echo [0-9]*";
            let words = bench.prints(script).await;
            assert_eq!(words, "2 1 2 2\n2\n");
        },
    );
}

#[test]
fn a_program_has_its_streams_and_no_other_descriptor() {
    everywhere(
        "world::a_program_has_its_streams_and_no_other_descriptor",
        async |bench| {
            // The fourth is the listing's own.
            assert_eq!(bench.prints("ls /proc/self/fd").await, "0\n1\n2\n3\n");
            let script = "cd /proc/$$/fd; for fd in *; do if [ -e $fd ]; then echo $fd; fi; done";
            assert_eq!(bench.prints(script).await, "0\n1\n2\n");
            assert_eq!(
                bench.prints("echo to stdout > /dev/stdout").await,
                "to stdout\n"
            );
            assert_eq!(bench.prints("cat /dev/stdin").await, "from stdin\n");
        },
    );
}

#[test]
fn a_program_starts_in_its_directory_with_the_usual_umask() {
    everywhere(
        "world::a_program_starts_in_its_directory_with_the_usual_umask",
        async |bench| {
            assert_eq!(bench.prints("pwd; umask").await, "/piston/job\n0022\n");
        },
    );
}

#[test]
fn the_host_has_a_name_of_its_own_and_nothing_else_is_told() {
    everywhere(
        "world::the_host_has_a_name_of_its_own_and_nothing_else_is_told",
        async |bench| {
            assert_eq!(bench.prints("uname -n").await, "piston\n");
            let roots = bench.prints("ls /; ls -A /tmp /dev/shm").await;
            assert_eq!(
                roots,
                "bin\ndev\netc\nlib\nlib64\npiston\nproc\ntmp\n/dev/shm:\n\n/tmp:\n"
            );
            let mounts = bench
                .prints("while read -r _ _ _ _ at _; do echo $at; done < /proc/self/mountinfo")
                .await;
            for mount in mounts.lines() {
                let known = ["/", "/dev", "/proc", "/tmp", "/piston/job"].contains(&mount)
                    || mount.starts_with("/dev/")
                    || mount.starts_with("/proc/");
                assert!(known, "{mount}");
            }
        },
    );
}

#[test]
fn devices_are_the_harmless_ones() {
    everywhere("world::devices_are_the_harmless_ones", async |bench| {
        let names = bench.prints("cd /dev; echo *").await;
        assert_eq!(
            names,
            "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero\n"
        );
        let script = "head -c 3 /dev/zero | wc() { :; }; head -c 2 /dev/urandom > /tmp/r
                      echo x > /dev/null; [ -s /tmp/r ] && ! (echo x > /dev/full) 2>/dev/null
                      echo $?; exec 5> /dev/shm/a; echo shm";
        assert_eq!(bench.sh(script).await.out, "0\nshm\n");
    });
}

#[test]
fn proc_is_its_own_and_masked() {
    everywhere("world::proc_is_its_own_and_masked", async |bench| {
        let refused = bench.sh("echo 1 > /proc/sys/kernel/hostname").await;
        assert!(refused.err.contains("Read-only file system"), "{refused:?}");
        let refused = bench.sh("echo 1 > /proc/sys/net/ipv4/ip_forward").await;
        assert!(refused.err.contains("Read-only file system"), "{refused:?}");
        assert_eq!(
            bench
                .prints("cat /proc/keys /proc/key-users /proc/interrupts")
                .await,
            ""
        );
        for file in ["kcore", "timer_list", "kpagecount"] {
            let outcome = bench.sh(&format!("head -c 1 /proc/{file}")).await;
            assert_eq!(outcome.out, "", "{file}");
        }
        let outcome = bench.sh("echo b > /proc/sysrq-trigger").await;
        assert!(outcome.err.contains("sysrq-trigger"), "{outcome:?}");
        // What runtimes ask for is there.
        for file in [
            "meminfo",
            "cpuinfo",
            "stat",
            "self/maps",
            "sys/vm/overcommit_memory",
        ] {
            let outcome = bench.sh(&format!("head -n 1 /proc/{file}")).await;
            assert_ne!(outcome.out, "", "{file}");
        }
    });
}

#[test]
fn the_root_is_read_only_and_the_workspace_is_not() {
    everywhere(
        "world::the_root_is_read_only_and_the_workspace_is_not",
        async |bench| {
            for place in ["/x", "/bin/x", "/etc/x", "/piston/x", "/dev/x"] {
                let outcome = bench.sh(&format!("> {place}")).await;
                assert!(
                    outcome.err.contains("Read-only file system"),
                    "{place}: {outcome:?}"
                );
            }
            let script = "for d in . /tmp /dev/shm; do echo $d > $d/f && cat $d/f; done
                      mkdir -p a/b && ln -s b a/l && mkfifo p && ls -A";
            assert_eq!(bench.prints(script).await, ".\n/tmp\n/dev/shm\na\nf\np\n");
        },
    );
}

#[test]
fn there_is_a_loopback_and_no_other_network() {
    everywhere(
        "world::there_is_a_loopback_and_no_other_network",
        async |bench| {
            let devices = "while read -r name _; do case $name in *:) echo $name;; esac; done < /proc/net/dev";
            assert_eq!(bench.prints(devices).await, "lo:\n");
            let refused = bench.sh("exec 3<>/dev/tcp/127.0.0.1/9").await;
            assert!(refused.err.contains("Connection refused"), "{refused:?}");
            let unreachable = bench.sh("exec 3<>/dev/tcp/1.1.1.1/53").await;
            assert!(
                unreachable.err.contains("Network is unreachable"),
                "{unreachable:?}"
            );
        },
    );
}

#[test]
fn a_network_is_used_again_only_when_nobody_used_it() {
    let name = "world::a_network_is_used_again_only_when_nobody_used_it";
    everywhere(name, async |bench| {
        let look = "cd /proc/net; cat dev snmp netstat unix";
        let new = bench.prints(look).await;
        let launcher = bench.launcher.process_id().unwrap();
        // Not readable without root, as the launcher is not dumpable.
        let held = |network: &str| {
            let fds = std::fs::read_dir(format!("/proc/{launcher}/fd")).ok()?;
            let links = fds.map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
            Some(links.flatten().any(|link| link.to_str() == Some(network)))
        };
        for (script, is_used) in [
            ("", false),
            ("exec 3<>/dev/tcp/127.0.0.1/9", true),
            ("exec 3<>/dev/tcp/1.1.1.1/53", true),
            ("exec 3>/dev/udp/127.0.0.1/9; echo x >&3", true),
        ] {
            let script = format!("readlink /proc/self/ns/net; {script}");
            let network = bench.sh(&script).await.out;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            let held = held(network.trim());
            let mut is_seen_again = false;
            for _ in 0..6 {
                let told = format!("readlink /proc/self/ns/net; {look}");
                let told = bench.prints(&told).await;
                let (its, told) = told.split_once('\n').unwrap();
                assert_eq!(told, new, "{script}");
                is_seen_again |= its == network.trim();
            }
            match held {
                Some(held) if is_used => assert!(!held, "{script}"),
                // It may have been lent to a sandbox that is prepared.
                Some(held) => assert!(held || is_seen_again, "{script}"),
                None => {}
            }
        }
    });
}

#[test]
fn two_jobs_of_a_slot_share_no_namespace() {
    everywhere(
        "world::two_jobs_of_a_slot_share_no_namespace",
        async |bench| {
            let kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];
            let script = format!("cd /proc/self/ns; readlink {}", kinds.join(" "));
            let waits = shell(&format!("{script}; echo; exec sleep 60"));
            let mut live = bench.launch(waits, &bench.workspace()).await.unwrap();
            let host = |kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            let mut seen: Vec<_> = kinds
                .iter()
                .map(|kind| host(kind).to_string_lossy().into_owned())
                .collect();
            seen.extend(kinds.iter().map(|_| live.line()));
            let other = bench.prints(&script).await;
            for namespace in other.lines() {
                assert!(!seen.iter().any(|other| other == namespace), "{namespace}");
            }
            drop(live);
        },
    );
}

#[test]
fn init_is_not_to_be_seen() {
    everywhere("world::init_is_not_to_be_seen", async |bench| {
        let script = "cd /proc; echo [0-9]*; ls 1; cat 1/comm 1/cmdline 1/environ
                      echo 0 > 1/oom_score_adj; kill -STOP 1; kill -KILL 1; echo alive";
        let outcome = bench.sh(script).await;
        assert_eq!(outcome.out, "2\nalive\n", "{outcome:?}");
        assert_eq!(outcome.err.matches(" 1/").count(), 4, "{outcome:?}");
    });
}
