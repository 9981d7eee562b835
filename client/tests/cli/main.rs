//! The binary `piston` against a daemon of this test: what a person or a script sees of it.
//!
//! The daemon here answers from a table; that the real one answers alike is tested with the whole.

mod address;
mod daemon;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use piston_client::api::{Code, ExecuteRequest};
use serde_json::{Value, json};

use daemon::{Daemon, Route, ok, piston, problem};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

const EXECUTE: &str = "POST /api/v3/packages/python/%2A/execute";

fn runtimes() -> Route {
    let runtime = |language: &str, version: &str, aliases: &[&str], package: &str| {
        json!({"language": language, "version": version, "aliases": aliases,
               "package": package, "compiled": false})
    };
    ok(
        "GET /api/v3/runtimes",
        &json!([
            runtime("python", "3.11.2", &["py"], "python"),
            runtime("c", "12.2.0", &[], "gcc")
        ]),
    )
}

fn stage(stdout: &str, stderr: &str, code: Option<i32>, more: &Value) -> Value {
    let mut stage = json!({"stdout": stdout, "stderr": stderr, "output": stdout, "code": code,
        "signal": null, "status": null, "message": null, "wall_time_ms": 12, "cpu_time_ms": 8, "system_time_ms": 3,
        "memory_bytes": 1_048_576, "truncated": false});
    let more = more.as_object().expect("fields").clone();
    stage.as_object_mut().expect("fields").extend(more);
    stage
}

fn job(stages: Value) -> Value {
    let mut job = json!({"id": "00000000000000000000000000000001", "language": "python",
        "version": "3.11.2", "cache": "miss",
        "timings": {"queue_us": 1, "sandbox_us": 2, "collect_us": 3}});
    let Value::Object(stages) = stages else {
        panic!("fields")
    };
    job.as_object_mut().expect("fields").extend(stages);
    job
}

#[test]
fn run_passes_bytes_and_the_exit_code_through() {
    // Base64 of "a\0\xff" and "\xfe".
    let run = stage("YQD/", "/g==", Some(7), &json!({"status": "RE"}));
    let daemon = Daemon::new(vec![runtimes(), ok(EXECUTE, &job(json!({ "run": run })))]);
    let file = daemon.file("hello.py", b"print(1)");
    let output = daemon.piston_with(&["run", "py", &file, "--", "-x", "--json"], b"in\xff");
    assert_eq!(output.stdout, b"a\0\xff");
    assert_eq!(output.stderr, b"\xfe");
    assert_eq!(output.status.code(), Some(7));
    let request: ExecuteRequest = serde_json::from_slice(&daemon.sent(EXECUTE)).expect("a request");
    assert_eq!(request.language, Some("python".parse().unwrap()));
    assert_eq!(request.files[0].name.as_deref(), Some("hello.py"));
    assert_eq!(request.args, ["-x", "--json"]);
    assert_eq!(request.stdin, Some((&b"in\xff"[..]).into()));
}

#[test]
fn run_tells_limits_and_signals_on_standard_error() {
    let run = stage(
        "",
        "",
        None,
        &json!({"signal": "SIGKILL", "status": "TO", "wall_time_ms": 3002}),
    );
    let daemon = Daemon::new(vec![runtimes(), ok(EXECUTE, &job(json!({ "run": run })))]);
    let file = daemon.file("hello.py", b"while True: pass");
    let output = daemon.piston(&["run", "--timeout", "3s", "--stats", &file]);
    assert_eq!(output.status.code(), Some(137));
    insta::assert_snapshot!(text(&output.stderr), @"
    piston: killed: time limit 3 s
    piston: run: 3 s on the clock, 8 ms of processor, 1 MiB of memory
    ");
}

#[test]
fn a_limit_that_nobody_asked_for_is_told_too() {
    let mut runtime = json!({"language": "python", "version": "3.11.2", "aliases": [],
        "package": "python", "compiled": false});
    runtime["limits"] = json!({"run": {"wall_time_ms": 3000, "output_bytes": 1_048_576}});
    let killed = |more: &Value| {
        let run = stage("", "", None, more);
        let daemon = Daemon::new(vec![
            ok("GET /api/v3/runtimes", &json!([runtime])),
            ok(EXECUTE, &job(json!({ "run": run }))),
        ]);
        let output = daemon.piston_with(&["run", "python", "-"], b"while True: pass");
        assert_eq!(output.status.code(), Some(137));
        text(&output.stderr).to_owned()
    };
    let late = json!({"signal": "SIGKILL", "status": "TO", "wall_time_ms": 3002});
    assert_eq!(killed(&late), "piston: killed: time limit 3 s\n");
    let wordy = json!({"signal": "SIGKILL", "status": "OL"});
    assert_eq!(
        killed(&wordy),
        "piston: killed: it wrote more than 1 MiB to standard output\n"
    );
}

#[test]
fn a_program_that_does_not_compile_shows_the_compiler_on_standard_error() {
    let line = "POST /api/v3/packages/gcc/12.x/execute";
    // Base64 of "main.c:1: no\n".
    let compile = stage(
        "bWFpbi5jOjE6IG5vCg==",
        "",
        Some(1),
        &json!({"status": "RE"}),
    );
    let daemon = Daemon::new(vec![
        runtimes(),
        ok(line, &job(json!({ "compile": compile }))),
    ]);
    let output = daemon.piston_with(&["run", "c@12.x", "-"], b"int main");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "main.c:1: no\npiston: the program does not compile\n"
    );
}

#[test]
fn run_in_json_is_the_reply_and_still_the_exit_code() {
    let run = stage("hi\n", "", Some(3), &json!({"status": "RE"}));
    let daemon = Daemon::new(vec![runtimes(), ok(EXECUTE, &job(json!({ "run": run })))]);
    let output = daemon.piston_with(&["--json", "run", "python", "-"], b"print(1)");
    assert_eq!(output.status.code(), Some(3));
    let reply: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(reply["run"]["stdout"], "hi\n");
}

#[test]
fn a_language_that_is_missing_gets_advice() {
    let daemon = Daemon::new(vec![runtimes()]);
    let output = daemon.piston_with(&["run", "pyhton", "-"], b"print(1)");
    assert_eq!(output.status.code(), Some(125));
    insta::assert_snapshot!(text(&output.stderr), @"
    error: language `pyhton` is not installed
     next: did you mean `python`?
           see what can be installed: `piston repo packages --sync`
           installed are: c, python
    ");
}

#[test]
fn a_language_that_is_not_ours_to_install_is_asked_for() {
    let (status, body) = problem(Code::Forbidden, "not for the role `execute`");
    let daemon = Daemon::new(vec![
        runtimes(),
        ("GET /api/v3/repos/all/packages", status, body),
    ]);
    let output = daemon.piston_with(&["run", "-y", "bash", "-"], b"echo");
    assert_eq!(output.status.code(), Some(125));
    insta::assert_snapshot!(text(&output.stderr), @"
    error: language `bash` is not installed
     next: ask whoever runs the daemon to install it
           installed are: c, python
    ");
}

#[test]
fn a_refused_job_is_our_failure_with_the_daemons_words() {
    let (status, body) = problem(Code::LimitTooHigh, "limits.run.wall_time_ms: at most 3000");
    let daemon = Daemon::new(vec![runtimes(), (EXECUTE, status, body)]);
    let output = daemon.piston_with(&["run", "-t", "9s", "python", "-"], b"");
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        text(&output.stderr),
        "error: limits.run.wall_time_ms: at most 3000\n next: ask for less; who runs the daemon raises it for all below `[limits.run]` in its piston.toml (`piston daemon start --help` says where that is), for one language with `piston runners set`, whose --help shows how\n"
    );
    let output = daemon.piston_with(&["run", "--json", "python", "-"], b"");
    let account: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(account["problem"]["code"], "limit_too_high");
}

#[test]
fn a_version_that_is_missing_says_what_is_asked_for() {
    let line = "POST /api/v3/packages/python/4.x/execute";
    let (status, body) = problem(Code::PackageNotFound, "python: installed is 3.11.2");
    let daemon = Daemon::new(vec![runtimes(), (line, status, body)]);
    let output = daemon.piston_with(&["run", "python@4.x", "-"], b"");
    assert_eq!(output.status.code(), Some(125));
    insta::assert_snapshot!(text(&output.stderr), @"
    error: python 4.x is not installed, but 3.11.2
     next: see what is installed with `piston package list`
    ");
    let offers = ok(
        "GET /api/v3/repos/all/packages",
        &json!([offer("python", "4.0.1")]),
    );
    let (status, body) = problem(Code::PackageNotFound, "python: installed is 3.11.2");
    let daemon = Daemon::new(vec![runtimes(), (line, status, body), offers]);
    let output = daemon.piston_with(&["run", "python@4.x", "-"], b"");
    insta::assert_snapshot!(text(&output.stderr), @"
    error: python 4.x is not installed, but 3.11.2
     next: install it: `piston package install 'python@4.x'`
           or see what is installed with `piston package list`
    ");
}

fn offer(package: &str, version: &str) -> Value {
    json!({"repository": "mine", "language": package, "version": version, "size": 0,
        "checksums": {}, "dependencies": {}, "download": "x", "installed": false})
}

#[test]
fn a_package_that_is_misspelt_gets_the_right_word() {
    let missing = |code| problem(code, "there is no pyhton");
    let (status, body) = missing(Code::PackageNotAvailable);
    let install = "POST /api/v3/repos/all/packages/pyhton/%2A/install";
    let versions = "POST /api/v3/repos/all/packages/python/9.x/install";
    let (absent, nothing) = missing(Code::PackageNotFound);
    let daemon = Daemon::new(vec![
        (install, status, body.clone()),
        (versions, status, body),
        ok(
            "GET /api/v3/repos/all/packages",
            &json!([offer("python", "4.0.1")]),
        ),
        ("GET /api/v3/packages/pyhton", absent, nothing.clone()),
        ("GET /api/v3/repos/all/packages/pyhton", absent, nothing),
        ok("GET /api/v3/packages", &installed(true)),
    ]);
    insta::assert_snapshot!(text(&daemon.piston(&["package", "install", "pyhton"]).stderr), @"
    error: there is no pyhton
     next: did you mean `piston package install python`?
           see what there is with `piston repo packages`
    ");
    let output = daemon.piston(&["package", "install", "python@9.x"]);
    insta::assert_snapshot!(text(&output.stderr), @"
    error: there is no pyhton
     next: see the versions with `piston package info python`
    ");
    for group in [
        &["package", "remove"][..],
        &["package", "verify"],
        &["cache", "show"],
    ] {
        let words = [group, &["pyhton"]].concat();
        insta::allow_duplicates!(
            insta::assert_snapshot!(text(&daemon.piston(&words).stderr), @"
        error: no package pyhton is installed
         next: did you mean `python`?
               see what is installed with `piston package list`
        ")
        );
    }
    let output = daemon.piston(&["package", "info", "pyhton"]);
    assert!(text(&output.stderr).contains("did you mean `python`?"));
}

#[test]
fn mistakes_on_the_command_line_are_our_failures_and_help_is_none() {
    let code = |words: &[&str]| piston("unix:///nowhere/s", words, b"").status.code();
    for help in [
        &["--help"][..],
        &["run", "--help"],
        &["--version"],
        &["help", "repo", "add"],
    ] {
        assert_eq!(code(help), Some(0), "{help:?}");
    }
    for mistake in [
        &[][..],
        &["frobnicate"],
        &["run"],
        &["run", "--bogus", "x.py"],
        &["run", "no-such-file.py"],
    ] {
        assert_eq!(code(mistake), Some(125), "{mistake:?}");
    }
}

/// `piston ... | head` ends without a word when `head` has enough.
#[test]
fn a_closed_pipe_is_quiet() {
    let daemon = Daemon::new(vec![runtimes(), ok("GET /api/v3/packages", &json!([]))]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_piston"))
        .args(["package", "list"])
        .env("PISTON_HOST", daemon.address())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("piston starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("piston ends");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

fn installed(requested: bool) -> Value {
    json!([{
        "language": "python", "version": "3.11.2", "image": "ab".repeat(32),
        "image_bytes": 94_371_840, "repository": "mine", "requested": requested, "mount": "/",
        "view": "views/python/3.11.2",
        "layers": [{"language": "base", "version": "12.0.0"},
                   {"language": "python", "version": "3.11.2"}],
        "dependents": [], "runtimes": ["python"], "cache": "none", "installed_at": 1
    }])
}

#[test]
fn packages_are_listed_shown_and_removed() {
    let removed = json!({"removed": [{"language": "python", "version": "3.11.2"}]});
    let daemon = Daemon::new(vec![
        ok("GET /api/v3/packages", &installed(false)),
        ok("GET /api/v3/packages/python", &installed(true)),
        ok("DELETE /api/v3/packages/python/3.11.2", &removed),
    ]);
    insta::assert_snapshot!(text(&daemon.piston(&["package", "list"]).stdout), @"
    PACKAGE  VERSION  RUNS    SIZE    FROM
    python   3.11.2   python  90 MiB  mine, as a dependency
    ");
    insta::assert_snapshot!(text(&daemon.piston(&["package", "info", "python"]).stdout), @"
    python 3.11.2
    runs        python
    image       90 MiB, sha256 abababababababababababababababababababababababababababababababab
    from        mine
    mounted at  /
    view        views/python/3.11.2
    layers      base-12.0.0, python-3.11.2
    needed by   no other package
    ");
    let output = daemon.piston(&["package", "remove", "python"]);
    assert_eq!(text(&output.stdout), "removed python-3.11.2\n");
    let output = daemon.piston(&["package", "remove", "python@3"]);
    assert!(text(&output.stderr).starts_with("error: `3` is not an exact version\n"));
    let output = daemon.piston(&["package", "list", "--json"]);
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON"),
        installed(false)
    );
}

#[test]
fn a_package_is_installed_by_range_from_a_repository() {
    let line = "POST /api/v3/repos/mine/packages/python/%3E%3D3%20%3C4/install";
    let reply = json!({"package": {"language": "python", "version": "3.11.2"},
        "state": "installed", "dependencies": [{"language": "base", "version": "12.0.0"}]});
    let daemon = Daemon::new(vec![ok(line, &reply)]);
    for words in [
        &["package", "install", "python", ">=3 <4", "--repo", "mine"][..],
        &["package", "install", "python@>=3 <4", "--repo", "mine"],
    ] {
        let output = daemon.piston(words);
        assert_eq!(text(&output.stderr), "");
        assert_eq!(
            text(&output.stdout),
            "installed python-3.11.2, with base-12.0.0\n"
        );
    }
}

#[test]
fn a_package_from_the_host_goes_to_a_file_whole_or_not_at_all() {
    let daemon = Daemon::new(vec![("POST /api/v3/make", 200, b"package".to_vec())]);
    let target = daemon.directory.path().join("out/python.pkg.tar.gz");
    let folder = format!("{}/", target.parent().expect("a folder").display());
    let words = ["package", "from-host", "python", "-o"];
    let output = daemon.piston(&[&words[..], &[&folder]].concat());
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&output.stdout),
        format!("wrote {} (7 B)\n", target.display())
    );
    assert_eq!(std::fs::read(&target).expect("a file"), b"package");

    let (status, body) = problem(Code::CannotMake, "this host has no python");
    let daemon = Daemon::new(vec![("POST /api/v3/make", status, body)]);
    let target = daemon.directory.path().join("p");
    let output = daemon.piston(&[&words[..], &[target.to_str().expect("UTF-8")]].concat());
    assert_eq!(text(&output.stderr), "error: this host has no python\n");
    assert_eq!(output.status.code(), Some(125));
    let left: Vec<_> = std::fs::read_dir(daemon.directory.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["s"]);
}

#[test]
fn a_recipe_is_sent_with_its_scripts_and_what_was_left_out_is_told() {
    let made = json!({"package": {"language": "lua", "version": "5.4.4"},
        "installed": [{"language": "debian-base", "version": "12.11.0"}, {"language": "lua", "version": "5.4.4"}],
        "notes": ["lua5.4: something is not taken"]});
    let daemon = Daemon::new(vec![ok("POST /api/v3/make", &made)]);
    daemon.file("recipe.toml", b"language = \"lua\"");
    daemon.file("run", b"#!/bin/sh");
    daemon.file("notes.txt", b"not sent");
    let folder = daemon.directory.path().to_str().expect("UTF-8");
    let output = daemon.piston(&["package", "build", folder]);
    assert_eq!(text(&output.stderr), "");
    insta::assert_snapshot!(text(&output.stdout), @"
    note: lua5.4: something is not taken
    made and installed debian-base-12.11.0, lua-5.4.4
    ");
    let sent: Value = serde_json::from_slice(&daemon.sent("POST /api/v3/make")).unwrap();
    let files = json!({"recipe.toml": "language = \"lua\"", "run": "#!/bin/sh"});
    assert_eq!(
        sent,
        json!({"from": "recipe", "files": files, "install": true})
    );
    let output = daemon.piston(&["package", "build", "/nowhere"]);
    let complaint = text(&output.stderr);
    assert!(
        complaint.contains("/nowhere") && complaint.contains("recipe.toml"),
        "{complaint}"
    );
}

#[test]
fn debian_packages_are_asked_for_by_their_names() {
    let made = json!({"package": {"language": "lua", "version": "5.4.4"},
        "installed": [{"language": "lua", "version": "5.4.4"}]});
    let daemon = Daemon::new(vec![ok("POST /api/v3/make", &made)]);
    let output = daemon.piston(&[
        "package",
        "from-debian",
        "lua5.4",
        "lua-lpeg",
        "--name",
        "lua",
        "--run",
        "/usr/bin/lua {main}",
    ]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), "made and installed lua-5.4.4\n");
    let sent: Value = serde_json::from_slice(&daemon.sent("POST /api/v3/make")).unwrap();
    let expected = json!({"from": "debian", "packages": ["lua5.4", "lua-lpeg"], "name": "lua",
        "run": "/usr/bin/lua {main}", "install": true});
    assert_eq!(sent, expected);
}

#[test]
fn a_repository_is_added_by_its_folder_and_looked_into() {
    let keys = [format!("{}0123456789ABCDEF", "7".repeat(24))];
    let state = json!({"name": "local", "url": "file:///x", "keys": keys, "packages": 2});
    let daemon = Daemon::new(vec![
        ok("PUT /api/v3/repos/local", &state),
        ok("GET /api/v3/repos/local", &state),
        ok("GET /api/v3/repos/local/packages?sync=true", &json!([])),
    ]);
    let index = daemon.file("index.yaml", b"");
    let folder = daemon.directory.path().to_str().expect("UTF-8");
    let output = daemon.piston(&["repo", "add", "local", folder]);
    assert_eq!(text(&output.stderr), "");
    insta::assert_snapshot!(text(&output.stdout), @"
    REPOSITORY  PACKAGES  SYNCED  KEYS              URL        PROBLEM
    local       2         never   0123456789ABCDEF  file:///x
    ");
    let sent: Value = serde_json::from_slice(&daemon.sent("PUT /api/v3/repos/local")).unwrap();
    let real = std::fs::canonicalize(index).expect("a path");
    assert_eq!(sent["url"], format!("file://{}", real.display()));
    assert_eq!(sent["keys"], Value::Null);
    let (one, two) = (
        daemon.file("one.asc", b"ONE"),
        daemon.file("two.asc", b"TWO"),
    );
    let words = ["repo", "add", "local", folder, "--key", &one, "--key", &two];
    assert_eq!(text(&daemon.piston(&words).stderr), "");
    let sent: Value = serde_json::from_slice(&daemon.sent("PUT /api/v3/repos/local")).unwrap();
    assert_eq!(sent["keys"], "ONE\nTWO");
    let missing = daemon.piston(&["repo", "add", "local", folder, "--key", "/nowhere.asc"]);
    assert!(text(&missing.stderr).contains("gpg --armor --export"));
}

#[test]
fn index_becomes_pistond_found_on_the_path() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    // A copy, so that no `pistond` of the build lies beside it.
    let own = folder.path().join("bin/piston");
    let other = folder.path().join("path/pistond");
    for path in [&own, &other] {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a directory");
    }
    std::fs::copy(env!("CARGO_BIN_EXE_piston"), &own).expect("a copy");
    let piston = |path: PathBuf| {
        let words = ["repo", "index", "DIR", "--key", "K"];
        Command::new(&own)
            .args(words)
            .env("PATH", path)
            .output()
            .expect("piston runs")
    };
    let output = piston(folder.path().join("empty"));
    assert!(text(&output.stderr).contains("install `pistond` beside `piston`"));
    std::fs::write(&other, "#!/bin/sh\necho \"$@\"\nexit 3\n").expect("a script");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let output = piston(folder.path().join("path"));
    assert_eq!(text(&output.stdout), "index DIR --key K\n");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn shells_get_completions_and_man_its_pages() {
    let nowhere = "unix:///nowhere/s";
    for shell in ["bash", "fish", "zsh"] {
        let output = piston(nowhere, &["completions", shell], b"");
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("judge"), "{shell}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("man1");
    let path = directory.to_str().expect("UTF-8");
    let output = piston(nowhere, &["man", path], b"");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(directory.join("piston-run.1")).expect("a page");
    for section in [".SH \"EXIT STATUS\"", ".SH EXAMPLES", ".SH NOTES"] {
        assert!(page.contains(section), "no {section}: {page}");
    }
    assert!(!page.contains("EXTRA"), "{page}");
    let output = piston(nowhere, &["man", "/proc/none"], b"");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("next: name a directory"));
}

#[test]
fn what_a_program_leaves_is_written_where_it_is_asked_for() {
    let run = stage("", "", Some(0), &json!({}));
    let files = json!([
        {"name": "out/plot.svg", "content": "PHN2Zz4=", "size": 5},
        {"name": "hello.py", "content": "cHJpbnQoMSk=", "size": 8}
    ]);
    let reply = job(json!({ "run": run, "files": files }));
    let daemon = Daemon::new(vec![runtimes(), ok(EXECUTE, &reply)]);
    let file = daemon.file("hello.py", b"print(1)");
    let here = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_piston"))
        .args(["run", &file, "--out", "**"])
        .env("PISTON_HOST", daemon.address())
        .current_dir(here.path())
        .stdin(Stdio::null())
        .output()
        .expect("piston starts");
    assert_eq!(text(&output.stderr), "piston: wrote out/plot.svg\n");
    let plot = std::fs::read(here.path().join("out/plot.svg")).expect("written");
    assert_eq!(plot, b"<svg>");
    assert!(!here.path().join("hello.py").exists(), "it was sent so");
}
