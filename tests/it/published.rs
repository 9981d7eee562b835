//! Clients that others published for the released Piston, from the indexes that they are published
//! in, told another host and nothing else. What each is told to do: `published/`.
//!
//! The crate `piston_rs` is under test through `piston-rspy`, which is that crate for Python.

use std::path::Path;
use std::process::{Command, Output};

use piston_tests::{Daemon, Who, free_port, packages, require};
use serde_json::{Value, json};

/// Clients on the index of Python libraries, with what pip is told. `pistonpy` is taken without what
/// it depends on: a `typing` that breaks every Python since 3.7.
const PYTHON: [(&str, &[&str]); 5] = [
    ("ultra-piston", &["ultra-piston"]),
    ("aiopyston", &["aiopyston"]),
    ("piston-rspy", &["piston-rspy"]),
    ("pistonapi", &["pistonapi"]),
    ("pistonpy", &["--no-deps", "pistonpy"]),
];

/// Runs a command to its end, in a folder.
fn done(command: &mut Command, folder: &Path) -> Output {
    let output = command.current_dir(folder).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

/// What a client printed of a daemon with Bash and Python, which said "hi there".
fn is_right(name: &str, output: &Output) {
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(printed["languages"], json!(["bash", "python"]), "{name}");
    // Executing over this one fails with the released service too: it sends a form.
    if name != "pistonapi" {
        assert_eq!(printed["output"], "hi there\n", "{name}");
    }
}

#[test]
fn published_clients_of_the_released_piston_are_told_another_host_and_nothing_else() {
    if !require::python_index() {
        return;
    }
    let port = free_port();
    let daemon = Daemon::start_with(Who::Root, "", &["--listen", &port.to_string()]);
    packages::install(&daemon, &["bash", "python"]);
    let host = format!("http://{port}");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/published");
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();

    let pip = |into: &Path, what: &[&str]| {
        let mut command = Command::new("python3");
        let quietly = ["-m", "pip", "install", "--quiet", "--target"];
        done(command.args(quietly).arg(into).args(what), folder);
    };
    for (name, what) in PYTHON {
        let libraries = folder.join(name);
        if what.contains(&"--no-deps") {
            pip(&libraries, &["requests"]);
        }
        pip(&libraries, what);
        let mut command = Command::new("python3");
        command.arg(scripts.join("clients.py")).args([name, &host]);
        is_right(name, &done(command.env("PYTHONPATH", &libraries), folder));
    }

    let script = folder.join("client.mjs");
    std::fs::copy(scripts.join("client.mjs"), &script).expect("a copy");
    let quietly = [
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "piston-client",
    ];
    done(Command::new("npm").args(quietly), folder);
    let output = done(Command::new("node").arg(&script).arg(&host), folder);
    is_right("piston-client", &output);
}
