//! The example programs of the client library, as they stand there, against a real daemon.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use piston_tests::{Daemon, Who, binary, packages};

/// A daemon with a repository of bash and its base, and nothing installed.
fn daemon() -> Daemon {
    let daemon = Daemon::start_with(Who::User, "[packages]\nbuiltin = false\n", &[]);
    let folder = daemon.folder().join("repo");
    std::fs::create_dir(&folder).expect("a folder");
    for name in ["base", "bash"] {
        let file = packages::file(name);
        std::fs::copy(&file, folder.join(file.file_name().expect("a name"))).expect("a copy");
    }
    daemon.who().own(&folder);
    let path = folder.to_string_lossy();
    for words in [
        ["repo", "index", &path].as_slice(),
        &["repo", "add", "local", &path],
    ] {
        let output = daemon.cli(words, b"");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    daemon
}

/// What an example prints.
fn example(daemon: &Daemon, name: &str, words: &[&str]) -> String {
    let output = Command::new(binary(&format!("examples/{name}")))
        .args(words)
        .env("PISTON_HOST", daemon.socket())
        .output()
        .expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_example_of_the_client_library_runs() {
    let daemon = daemon();
    let program = daemon.folder().join("program.sh");
    std::fs::write(&program, "read -r x; echo $((x + 1))").expect("written");
    let program = program.to_string_lossy();

    let followed = example(&daemon, "follow", &["bash", &program]);
    let lines: Vec<&str> = followed.lines().collect();
    assert!(
        lines.iter().any(|line| line.ends_with("Publish")),
        "{followed}"
    );
    let [.., there, "1", "ended with Some(0)"] = lines[..] else {
        panic!("{followed}")
    };
    assert!(
        there.starts_with("bash-") && there.ends_with(" is there"),
        "{followed}"
    );

    let ran = example(&daemon, "run", &["bash", &program]);
    assert!(ran.starts_with("1\n\nexit code Some(0) after "), "{ran}");
    let talked = example(&daemon, "talk", &[]);
    assert!(
        talked.starts_with("Hello, Ada\nHello, Grace\nover\nused "),
        "{talked}"
    );
    let judged = example(&daemon, "judge", &["bash", &program, "1=2", "2=4"]);
    assert_eq!(judged, "0 AC \"2\\n\"\n1 WA \"3\\n\"\nWA\n");

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/examples");
    let there = std::fs::read_dir(folder).expect("the examples");
    let there: BTreeSet<String> = there
        .map(|file| {
            let path = file.expect("an example").path();
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let run = ["follow", "judge", "run", "talk"].map(str::to_owned);
    assert_eq!(there, BTreeSet::from(run), "each is run above");
}
