//! What the daemon says about this host.

use crate::bench::{everywhere, pistond};

#[test]
fn a_host_on_which_sandboxes_work_is_said_to_be_one() {
    everywhere(
        "host::a_host_on_which_sandboxes_work_is_said_to_be_one",
        async |_| {
            let mechanisms = pistond::sandbox::host::examine_with(&pistond());
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
    let mechanisms =
        pistond::sandbox::host::examine_with(std::path::Path::new("/nonexistent/pistond"));
    let probe = mechanisms
        .iter()
        .find(|mechanism| mechanism.name == "sandbox")
        .unwrap();
    assert!(!probe.available && probe.required, "{probe:?}");
}
