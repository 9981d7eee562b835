//! What the daemon says about this host.
#![expect(clippy::unwrap_used, reason = "whatever fails here fails the test")]

use std::path::Path;

use pistond::sandbox::cgroup::Groups;
use pistond::sandbox::host;

use crate::bench::{NOBODY, everywhere, open_to_all, pistond, share};

#[test]
fn a_host_on_which_sandboxes_work_is_said_to_be_one() {
    everywhere(
        "host::a_host_on_which_sandboxes_work_is_said_to_be_one",
        async |_| {
            let mechanisms = host::examine_with(&pistond(), Groups::survey(75).as_ref());
            for name in [
                "kernel",
                "user_namespaces",
                "namespaces",
                "mount_api",
                "proc",
                "job_user",
                "seccomp",
            ] {
                let found = mechanisms.iter().find(|mechanism| mechanism.name == name);
                assert!(
                    found.is_some_and(|mechanism| mechanism.available),
                    "{name}: {mechanisms:#?}"
                );
            }
            assert!(mechanisms.iter().all(|mechanism| {
                mechanism.available || !mechanism.required || mechanism.remedy.is_some()
            }));
        },
    );
}

#[test]
fn a_probe_that_is_none_is_said_and_not_believed() {
    let mechanisms = host::examine_with(
        Path::new("/nonexistent/pistond"),
        Groups::survey(75).as_ref(),
    );
    let probe = mechanisms
        .iter()
        .find(|mechanism| mechanism.name == "sandbox")
        .unwrap();
    assert!(!probe.available && probe.required, "{probe:?}");
}

/// Runs the probe after `command`.
fn probe_after(command: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    open_to_all(directory.path());
    let program = share(&pistond(), directory.path());
    let mut process = std::process::Command::new(command[0]);
    let output = process
        .args(&command[1..])
        .arg(program)
        .arg("probe-host")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_unprivileged_user_enters_a_user_namespace() {
    let nobody = [
        "setpriv",
        "--reuid",
        NOBODY,
        "--regid",
        NOBODY,
        "--clear-groups",
        "--",
    ];
    let itself = ["env"];
    let root = rustix::process::geteuid().is_root();
    let found = probe_after(if root { nobody.as_slice() } else { &itself });
    assert!(
        found.contains(r#"{"name":"seccomp","failure":null"#),
        "{found}"
    );
    // Whether a user has subordinate ids is the host's affair; jobs run without.
    let others = found.replace(r#""job_ids","failure":""#, "");
    assert!(!others.contains(r#""failure":""#), "{found}");
}

#[test]
fn forbidden_user_namespaces_are_named_with_the_remedy() {
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces; \
                  exec setpriv --bounding-set=-all -- \"$@\"";
    let namespace = ["unshare", "--user", "--map-root-user", "--"];
    let found = probe_after(&[&namespace[..], &["bash", "-c", forbid, "bash"]].concat());
    assert!(found.contains("user.max_user_namespaces is 0"), "{found}");
    assert!(
        found.contains("sysctl user.max_user_namespaces=10000"),
        "{found}"
    );
}

/// As in a container: parts of proc are covered, and what covers them can't be taken away.
#[test]
fn a_masked_proc_is_named_with_the_remedy() {
    let mask = "mount -t proc proc /proc && mount --bind /dev/null /proc/interrupts && \
                exec unshare --user --map-root-user --mount -- \"$@\"";
    let namespace = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--fork",
    ];
    let found = probe_after(&[&namespace[..], &["bash", "-c", mask, "bash"]].concat());
    assert!(
        found.contains(r#"{"name":"proc","failure":"mount a fresh proc: "#),
        "{found}"
    );
    assert!(found.contains("systempaths=unconfined"), "{found}");
}
