//! The Python client, by its own tests, against a real daemon over both of its transports.

use std::path::Path;
use std::process::Command;

use piston_tests::{Daemon, Who, free_port, packages};

#[test]
fn the_python_client_passes_its_tests_over_the_socket_and_over_tcp() {
    let (tcp, asks) = (free_port().to_string(), free_port());
    let listener = format!("[[http.listeners]]\naddress = \"{asks}\"\ntokens = true\n");
    let daemon = Daemon::start_with(Who::User, &listener, &["--listen", &tcp]);
    packages::install(&daemon, &["bash"]);
    check(&format!("unix://{}", daemon.socket().display()), "", &[]);
    // Over TCP jobs can be executed, but not managed.
    let executes = [
        "-k",
        "a_program",
        "-k",
        "bytes",
        "-k",
        "events",
        "-k",
        "threads",
        "-k",
        "talked_with",
        "-k",
        "terminal",
    ];
    check(&format!("http://{tcp}"), "", &executes);
    let token = daemon.cli(&["token", "create"], b"").stdout;
    let token = String::from_utf8(token).expect("text");
    check(&format!("http://{asks}"), token.trim(), &executes);
}

fn check(host: &str, token: &str, which: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/python");
    let output = Command::new("python3")
        .args(["-B", "-W", "error", "-m", "unittest", "discover"])
        .args(["-s", "tests"])
        .args(which)
        .current_dir(folder)
        .env("PISTON_HOST", host)
        .env("PISTON_TOKEN", token)
        .env("PISTON_TEST_PACKAGE", packages::file("python"))
        .output()
        .expect("python3 starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{host}: {text}");
    assert!(text.ends_with("\nOK\n"), "none is skipped: {text}");
}
