//! Packages that the daemon makes of Debian's: recipes of contrib/packages, and Debian's by name.
//!
//! Needs apt's lists (`apt-get update`) and the servers that they name.

use std::path::{Path, PathBuf};

use piston_tests::{Daemon, Who, require};
use serde_json::{Value, json};

as_root_and_user!(
    a_recipe_is_built_with_its_base_and_runs_its_test_program,
    a_package_of_debian_is_made_by_its_name,
);

/// A file of a recipe.
fn recipe(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/packages");
    root.join(path)
}

/// Runs a command of the CLI that has to work; what it prints.
fn cli(daemon: &Daemon, words: &[&str], input: &[u8]) -> String {
    let output = daemon.cli(words, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{words:?}: {out}{err}\n{}",
        daemon.log()
    );
    out
}

fn a_recipe_is_built_with_its_base_and_runs_its_test_program(who: Who) {
    if !require::apt_lists() {
        return;
    }
    let daemon = Daemon::start(who);
    let path = |path: &str| recipe(path).display().to_string();
    let made = cli(&daemon, &["package", "build", &path("lua")], b"");
    assert!(
        made.contains("debian-base-") && made.contains("lua-"),
        "{made}"
    );
    // The second one finds the base, and keeps to it.
    let made = cli(&daemon, &["package", "from-debian", "perl"], b"");
    assert!(
        !made.contains("debian-base-") && made.contains("perl-"),
        "{made}"
    );
    for (language, program) in [("lua", "lua/test.lua"), ("perl", "perl/test.pl")] {
        let printed = cli(&daemon, &["run", language, &path(program)], b"7\n");
        assert_eq!(printed, "OK\n", "{language}");
    }
    let lua = &daemon.get("/api/v3/packages/lua").json()[0];
    assert_eq!(lua["layers"][0]["language"], "debian-base", "{lua}");
    let left: Vec<_> = std::fs::read_dir(daemon.data().join("staging"))
        .expect("staging")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn a_package_of_debian_is_made_by_its_name(who: Who) {
    if !require::apt_lists() {
        return;
    }
    let daemon = Daemon::start(who);
    let run = "/usr/bin/mawk -f {main} {args}";
    let request = json!({"from": "debian", "packages": ["mawk"], "name": "awk", "run": run});
    let made = daemon.send("POST", "/api/v3/make", &request);
    assert_eq!(made.status, 200, "{}\n{}", made.json(), daemon.log());
    assert_eq!(made.json()["package"]["language"], "awk");
    let job = json!({"code": "{ sum += $1 } END { print sum }", "stdin": "1\n2\n3\n"});
    let run = &daemon.execute("awk", &job)["run"];
    assert_eq!(run["stdout"], "6\n", "{run}");
    // What does not exist is named, with what is meant.
    let request = json!({"from": "debian", "packages": ["mawkk"]});
    let reply = daemon.send("POST", "/api/v3/make", &request);
    let body: Value = reply.json();
    assert_eq!(
        (reply.status, &body["code"]),
        (422, &json!("cannot_make")),
        "{body}"
    );
    let detail = body["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("`mawkk`") && detail.contains("is it mawk"),
        "{detail}"
    );
}
