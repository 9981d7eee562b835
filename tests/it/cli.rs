//! The command line as a person uses it.

use std::process::{Command, Output};

use piston_tests::{Daemon, Terminal, Who, binary, packages, wait_until};

as_root_and_user!(
    a_program_runs_with_its_input_and_exit_code,
    a_watched_program_runs_again_when_its_file_changes,
    output_that_is_no_text_stays_off_the_terminal,
    packages_are_made_listed_and_removed,
);

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn a_program_runs_with_its_input_and_exit_code(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let script = daemon.folder().join("program.sh");
    std::fs::write(&script, "cat; echo \"$@\"; echo oops >&2; exit 9").expect("script");
    let path = script.to_string_lossy();
    let output = daemon.cli(&["run", "bash", &path, "--", "one", "--two"], b"input\n");
    assert_eq!(out(&output), "input\none --two\n");
    assert_eq!(err(&output), "oops\n");
    assert_eq!(output.status.code(), Some(9));
    let output = daemon.cli(&["run", "bash", "-"], b"printf '\\xff\\x01'; kill -TERM $$");
    assert_eq!(output.stdout, b"\xff\x01");
    assert_eq!(output.status.code(), Some(128 + 15), "{}", err(&output));
    // What is wrong and what to do.
    let output = daemon.cli(&["run", "bsh", &path], b"");
    assert!(err(&output).contains("bash"), "{}", err(&output));
    let output = daemon.cli(&["run", "python", &path], b"");
    assert!(
        err(&output).contains("from-host python"),
        "{}",
        err(&output)
    );
    assert_eq!(output.status.code(), Some(125));
    let output = daemon.cli(&["run", "bash", "/nowhere/x.sh"], b"");
    assert!(err(&output).contains("/nowhere/x.sh"), "{}", err(&output));
    let output = daemon.cli(&["status"], b"");
    assert!(
        output.status.success() && out(&output).contains("bash"),
        "{}{}",
        out(&output),
        err(&output)
    );
}

fn a_watched_program_runs_again_when_its_file_changes(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let script = daemon.folder().join("program.sh");
    let write = |text: &str| std::fs::write(&script, text).expect("script");
    write("echo first; cat lib");
    let lib = daemon.folder().join("lib");
    std::fs::write(&lib, "of its library").expect("file");
    let words = [script.to_string_lossy(), lib.to_string_lossy()];
    let mut command = daemon.who().command(&binary("piston"));
    command
        .args(["run", "--watch", &*words[0], &*words[1]])
        .env("PISTON_HOST", daemon.socket());
    let mut terminal = Terminal::start(&command, 80);
    terminal.until("of its library");
    terminal.until("exit code 0; waiting for a file to change");
    std::fs::write(&lib, "of another library").expect("file");
    terminal.until("of another library");
    // A program that still runs gives way.
    write("echo second; sleep 1000");
    terminal.until("second");
    write("echo third; exit 3");
    terminal.until("third");
    terminal.until("exit code 3");
    // What can't be run is told, and mended by the next change.
    std::fs::remove_file(&script).expect("removed");
    terminal.until("there is no file ");
    write("echo fourth");
    terminal.until("fourth");
    drop(terminal);
    wait_until("nothing runs any more", || daemon.has_no_jobs());
}

fn output_that_is_no_text_stays_off_the_terminal(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let script = daemon.folder().join("program.sh");
    std::fs::write(&script, "echo text; sleep 0.1; printf 'a\\0b'; exit 4").expect("script");
    let path = script.to_string_lossy().into_owned();
    let mut command = daemon.who().command(&binary("piston"));
    command
        .args(["run", &path])
        .env("PISTON_HOST", daemon.socket());
    let (shown, code) = Terminal::start(&command, 80).end();
    assert!(shown.starts_with("text\r\n"), "{shown:?}");
    assert!(
        shown.contains("is not text and not shown") && !shown.contains('\0'),
        "{shown:?}"
    );
    assert_eq!(code, Some(4));
    // Where it goes to a file it is whole.
    assert_eq!(daemon.cli(&["run", &path], b"").stdout, b"text\na\0b");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let output = command.stdout(full.expect("a full disk")).output();
    let output = output.expect("piston starts");
    assert_eq!(output.status.code(), Some(125));
    let text = err(&output);
    assert!(
        text.contains("can't write to standard output: No space left"),
        "{text}"
    );
}

fn packages_are_made_listed_and_removed(who: Who) {
    let daemon = Daemon::start(who);
    let output = daemon.cli(&["package", "from-host", "bash", "--install"], b"");
    assert!(
        output.status.success(),
        "{}\n{}",
        err(&output),
        daemon.log()
    );
    let listed = out(&daemon.cli(&["package", "list"], b""));
    assert!(
        listed.contains("bash") && listed.contains("base"),
        "{listed}"
    );
    let json = daemon.cli(&["package", "list", "--json"], b"");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(2), "{json}");
    let output = daemon.cli(&["package", "remove", "base"], b"");
    assert!(!output.status.success());
    assert!(err(&output).contains("bash-"), "{}", err(&output));
    let output = daemon.cli(&["package", "remove", "bash"], b"");
    assert!(output.status.success(), "{}", err(&output));
    // A repository of a folder, through the CLI alone.
    let folder = daemon.folder().join("repo");
    std::fs::create_dir(&folder).expect("folder");
    for name in ["base", "bash"] {
        let file = packages::file(name);
        std::fs::copy(&file, folder.join(file.file_name().expect("a name"))).expect("copy");
    }
    daemon.who().own(&folder);
    let path = folder.to_string_lossy().into_owned();
    let output = daemon.cli(&["repo", "index", &path], b"");
    assert!(output.status.success(), "{}", err(&output));
    let output = daemon.cli(
        &["repo", "add", "local", &format!("{path}/index.yaml")],
        b"",
    );
    assert!(output.status.success(), "{}", err(&output));
    let output = daemon.cli(&["package", "install", "bash@5.x"], b"");
    assert!(output.status.success(), "{}", err(&output));
    let lines = err(&output);
    assert!(
        lines.contains("piston: installing bash-") && !lines.contains('\x1b'),
        "lines where no terminal is: {lines}"
    );
    let output = daemon.cli(&["run", "bash", "-"], b"echo installed");
    assert_eq!(out(&output), "installed\n", "{}", err(&output));
}

#[test]
fn a_socket_that_keeps_a_person_out_says_for_whom_it_is() {
    if !Who::Root.possible() {
        return;
    }
    let daemon = Daemon::start(Who::Root);
    let piston = |words: &[&str]| {
        let mut command = Who::User.command(&binary("piston"));
        let command = command.args(words).env("PISTON_HOST", daemon.socket());
        let output = command.output().expect("piston starts");
        assert_eq!(output.status.code(), Some(125));
        err(&output)
    };
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(daemon.socket(), mode).expect("ours");
    };
    mode(0o600);
    for words in [&["status"][..], &["run", "-y", "bash", "-"]] {
        let text = piston(words);
        assert!(
            text.contains("Permission denied") && text.contains("only root may use this socket"),
            "{text}"
        );
    }
    mode(0o660);
    nix::unistd::chown(&daemon.socket(), None, Some(nix::unistd::Gid::from_raw(1))).expect("ours");
    let text = piston(&["status"]);
    assert!(text.contains("usermod -aG daemon $USER"), "{text}");
}

#[test]
fn a_token_that_is_not_known_says_where_one_comes_from() {
    let tcp = piston_tests::free_port();
    let listener = format!("[[http.listeners]]\naddress = \"{tcp}\"\ntokens = true\n");
    let _daemon = Daemon::start_with(Who::User, &listener, &[]);
    for token in ["", "wrong", "pst_0123456789abcdef_00"] {
        let output = Command::new(binary("piston"))
            .arg(format!("--host=http://{tcp}"))
            .arg("status")
            .env("PISTON_TOKEN", token)
            .output()
            .expect("piston starts");
        assert_eq!(output.status.code(), Some(125));
        let text = err(&output);
        assert!(text.contains("piston token create"), "{token}: {text}");
    }
}

#[test]
fn a_file_that_is_no_package_is_named() {
    let daemon = Daemon::start(Who::User);
    let file = daemon.folder().join("notes.txt");
    std::fs::write(&file, "not a package").expect("written");
    let path = file.to_string_lossy();
    let output = daemon.cli(&["package", "upload", &path], b"");
    assert_eq!(output.status.code(), Some(125));
    let text = err(&output);
    assert!(
        text.starts_with(&format!(
            "error: can't install {path}: the file is refused: "
        )),
        "{text}"
    );
    assert!(text.contains(" next: a package file is what "), "{text}");
}

#[test]
fn a_program_that_finds_no_input_on_a_terminal_gets_a_hint_and_text_needs_no_utf8() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let script = daemon.folder().join("program.sh");
    let run = |text: &str| {
        std::fs::write(&script, text).expect("script");
        let mut command = daemon.who().command(&binary("piston"));
        command
            .arg("run")
            .arg(&script)
            .env("PISTON_HOST", daemon.socket())
            .env("LC_ALL", "C");
        Terminal::start(&command, 80).end()
    };
    let (shown, code) = run("read -r line || { echo 'EOF on input' >&2; exit 3; }");
    assert!(shown.contains("it was given no input: `-i`"), "{shown}");
    assert_eq!(code, Some(3));
    let (shown, code) = run("echo 'na\u{ef}ve \u{2603}'; exit 3");
    assert!(
        shown.contains("na\u{ef}ve \u{2603}") && !shown.contains("no input"),
        "{shown}"
    );
    assert_eq!(code, Some(3));
}

#[test]
fn a_judge_says_what_is_wrong_with_each_case() {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let file = |name: &str, text: &str| {
        let path = daemon.folder().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let program = file(
        "sum.sh",
        "read -r a b; [ \"$b\" ] || { echo no b >&2; exit 1; }; [ \"$1\" ] && sleep 30; \
         echo $((a + b))",
    );
    let cases = file(
        "cases.json",
        r#"[
        {"stdin": "1 2", "expected_stdout": "3\n"},
        {"stdin": "1 2", "expected_stdout": "4\n"},
        {"stdin": "1"},
        {"stdin": "1 2", "args": ["slow"], "limits": {"wall_time_ms": 300}}]"#,
    );
    let output = daemon.cli(&["judge", &program, &cases], b"");
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let table = out(&output);
    let ends: Vec<&str> = table
        .lines()
        .skip(1)
        .map(|line| line.split_once("iB").map_or(line, |found| found.1).trim())
        .collect();
    assert_eq!(
        ends,
        [
            "",
            r#"line 1 is "3", expected "4""#,
            "no b",
            "killed: time limit 300 ms"
        ],
        "{table}"
    );
    assert_eq!(err(&output), "piston: WA: 1 of 4 accepted\n");
}

#[test]
fn a_full_disk_is_told_with_what_to_do() {
    if !Who::Root.possible() {
        return;
    }
    let daemon = Daemon::start(Who::Root);
    let small = |folder: &std::path::Path| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
        assert!(command.arg(folder).status().expect("mount").success());
    };
    let gone = |folder: &std::path::Path| {
        let done = Command::new("umount").arg("-l").arg(folder).status();
        assert!(done.expect("umount").success());
    };
    // Where the daemon makes packages, and where they are to be written.
    let staging = daemon.data().join("staging");
    small(&staging);
    let made = daemon.cli(&["package", "from-host", "bash"], b"");
    gone(&staging);
    let here = daemon.folder().join("here");
    std::fs::create_dir(&here).expect("a folder");
    small(&here);
    let path = here.to_string_lossy();
    let written = daemon.cli(&["package", "from-host", "python", "-o", &path], b"");
    let left = std::fs::read_dir(&here).expect("the folder").count();
    gone(&here);
    for output in [made, written] {
        let text = err(&output);
        assert_eq!(output.status.code(), Some(125), "{text}");
        assert!(
            text.contains("No space left on device") && text.contains("\n next: make room on "),
            "{text}"
        );
    }
    assert_eq!(left, 0, "half a package is none");
}

#[test]
fn a_missing_daemon_is_named_with_the_way_to_start_one() {
    let output = Command::new(binary("piston"))
        .args(["--host", "unix:///nowhere/piston.sock", "status"])
        .output()
        .expect("piston");
    assert_eq!(output.status.code(), Some(125), "{}", err(&output));
    let text = err(&output);
    assert!(
        text.contains("/nowhere/piston.sock") && text.contains("piston daemon start"),
        "{text}"
    );
}

#[test]
fn the_configuration_is_checked_by_line() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("piston.toml");
    let pistond = |arguments: &[&str]| {
        Command::new(binary("pistond"))
            .args(arguments)
            .output()
            .expect("pistond")
    };
    let path = file.to_string_lossy().into_owned();
    let default = pistond(&["config", "default"]);
    assert!(default.status.success());
    std::fs::write(&file, &default.stdout).expect("file");
    let checked = pistond(&["config", "check", "--config", &path]);
    assert!(checked.status.success(), "{}", err(&checked));
    std::fs::write(&file, "# comment\n[http]\nmax_bodyy = 1\n").expect("file");
    let checked = pistond(&["config", "check", "--config", &path]);
    assert!(!checked.status.success());
    let text = err(&checked);
    assert!(
        text.contains("line 3") && text.contains("max_bodyy"),
        "{text}"
    );
}

#[test]
fn check_says_what_the_host_offers() {
    let output = Command::new(binary("pistond"))
        .arg("check")
        .output()
        .expect("pistond");
    let text = out(&output);
    assert!(output.status.success(), "{text}{}", err(&output));
    for word in ["fuse", "user", "seccomp", "cgroup"] {
        assert!(text.to_lowercase().contains(word), "no {word}: {text}");
    }
    // Where the terminal is narrow it breaks lines itself, but for commands.
    for columns in [30, 60] {
        let mut command = Command::new(binary("pistond"));
        let (shown, code) = Terminal::start(command.arg("check"), columns).end();
        assert_eq!(code, Some(0), "{shown}");
        let is_wide =
            |line: &&str| line.chars().count() > usize::from(columns) && !line.contains('`');
        let wide: Vec<&str> = shown.lines().filter(is_wide).collect();
        assert_eq!(wide, [""; 0], "{shown}");
    }
}
