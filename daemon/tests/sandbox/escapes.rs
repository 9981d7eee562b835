//! Ways out that have to be closed.

use pistond::sandbox::Ended;

use crate::bench::everywhere;

#[test]
fn nothing_can_be_mounted_and_no_namespace_be_made() {
    everywhere(
        "escapes::nothing_can_be_mounted_and_no_namespace_be_made",
        async |bench| {
            for script in [
                "mount -t tmpfs x /tmp",
                "mount --bind / /tmp",
                "mount -t proc x /tmp",
                "mount -o remount,rw /",
                "unshare --user true",
                "unshare --map-root-user true",
                "unshare --mount true",
                "unshare --net true",
                "unshare --pid --fork true",
                "chroot / true",
            ] {
                let outcome = bench.sh(script).await;
                assert!(
                    matches!(outcome.exit.ended, Ended::Exited(code) if code != 0),
                    "{script}"
                );
                let refused = ["not permitted", "must be superuser", "permission denied"];
                assert!(
                    refused.iter().any(|text| outcome.err.contains(text)),
                    "{script}: {outcome:?}"
                );
            }
        },
    );
}

#[test]
fn init_can_be_neither_read_nor_killed() {
    everywhere(
        "escapes::init_can_be_neither_read_nor_killed",
        async |bench| {
            for file in ["environ", "maps", "mem", "auxv", "stack", "syscall", "io"] {
                let outcome = bench.sh(&format!("head -c 1 /proc/1/{file}")).await;
                assert_eq!(outcome.out, "", "{file}");
                assert!(!outcome.err.is_empty(), "{file}");
            }
            for link in ["root", "cwd", "exe", "fd/0", "ns/user", "ns/mnt"] {
                let outcome = bench
                    .sh(&format!("readlink /proc/1/{link}; ls /proc/1/{link}/"))
                    .await;
                assert_eq!(outcome.out, "", "{link}: {outcome:?}");
            }
            let outcome = bench
                .sh("kill -KILL 1; kill -TERM 1; kill -STOP 1; sleep 0.05; echo on")
                .await;
            assert_eq!(outcome.out, "on\n", "{outcome:?}");
        },
    );
}

#[test]
fn a_directory_above_the_root_is_the_root() {
    everywhere(
        "escapes::a_directory_above_the_root_is_the_root",
        async |bench| {
            let script = "cd /; cd ../../..; pwd; [ /.. -ef / ] && [ /proc/self/root/.. -ef / ] && echo same";
            assert_eq!(bench.prints(script).await, "/\nsame\n");
            let script = "cd /piston/job; cd ../..; ls | head -n 1";
            assert_eq!(bench.prints(script).await, "bin\n");
        },
    );
}

#[test]
fn set_id_files_have_no_effect() {
    everywhere("escapes::set_id_files_have_no_effect", async |bench| {
        use std::os::unix::fs::PermissionsExt as _;
        let program = bench.fs.path().join("view/bin/id");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o6755)).unwrap();
        assert_eq!(
            bench.prints("id -u; id -ru; id -g").await,
            "1000\n1000\n1000\n"
        );
    });
}

#[test]
fn maps_and_scores_cannot_be_rewritten() {
    everywhere(
        "escapes::maps_and_scores_cannot_be_rewritten",
        async |bench| {
            for script in [
                "echo '0 0 1' > /proc/self/uid_map",
                "echo allow > /proc/self/setgroups",
            ] {
                let outcome = bench.sh(script).await;
                assert_ne!(
                    outcome.exit.ended,
                    Ended::Exited(0),
                    "{script}: {outcome:?}"
                );
            }
            assert_eq!(bench.prints("cat /proc/self/oom_score_adj").await, "1000\n");
        },
    );
}
