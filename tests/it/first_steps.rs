//! What a newcomer meets: no daemon, no language, a terminal.

use std::path::Path;
use std::process::Output;

use piston_tests::{Newcomer, Terminal, binary};

/// A newcomer whose daemon makes nothing of Debian's: whether the host has apt's lists is no
/// matter here.
fn newcomer() -> Newcomer {
    Newcomer::with("[packages]\nbuiltin = false\n")
}

fn file(newcomer: &Newcomer, text: &str) -> String {
    let path = newcomer.path("home/hello.sh");
    std::fs::write(&path, text).expect("written");
    path.to_string_lossy().into_owned()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_first_job_brings_its_daemon_and_its_language_where_that_is_agreed_to() {
    let newcomer = newcomer();
    let program = file(&newcomer, "echo hello from $0");
    let refused = newcomer.piston(&["run", &program]);
    assert_eq!(refused.status.code(), Some(125));
    assert!(
        err(&refused).contains("piston daemon start"),
        "{}",
        err(&refused)
    );
    let agreed = newcomer.piston(&["run", "-y", &program]);
    assert_eq!(
        out(&agreed),
        "hello from hello.sh\n",
        "{}{}",
        err(&agreed),
        newcomer.log()
    );
    assert_eq!(agreed.status.code(), Some(0));
    // It is all there now, and nobody is asked or told anything.
    let again = newcomer.piston(&["run", &program]);
    assert_eq!(
        (out(&again).as_str(), err(&again).as_str()),
        ("hello from hello.sh\n", "")
    );
    let started = newcomer.piston(&["daemon", "start"]);
    assert!(
        out(&started).starts_with("one runs already, as process "),
        "{}",
        out(&started)
    );
    let stopped = newcomer.piston(&["daemon", "stop"]);
    assert!(
        out(&stopped).starts_with("stopped process "),
        "{}{}",
        out(&stopped),
        err(&stopped)
    );
    let none = newcomer.piston(&["daemon", "stop"]);
    assert!(
        out(&none).starts_with("no daemon runs at "),
        "{}",
        out(&none)
    );
    assert_eq!(none.status.code(), Some(0));
    assert_eq!(newcomer.piston(&["status"]).status.code(), Some(125));
}

#[test]
fn a_person_at_a_terminal_is_asked_before_anything_is_started_or_installed() {
    let newcomer = newcomer();
    let program = file(&newcomer, "echo hello");
    let mut command = newcomer.command(&binary("piston"));
    command.args(["run", &program]);
    let mut terminal = Terminal::start(&command, 80);
    terminal.until("no daemon runs; start one? (`piston daemon stop` ends it) [Y/n] ");
    terminal.write("n\n");
    let (shown, code) = terminal.end();
    assert!(shown.contains("can't reach"), "{shown}");
    assert_eq!(code, Some(125));

    let mut terminal = Terminal::start(&command, 80);
    terminal.until("[Y/n] ");
    terminal.write("\n");
    terminal.until("make bash of what the daemon's machine has? [Y/n] ");
    assert!(
        terminal.shown().contains("pistond.log"),
        "{}",
        terminal.shown()
    );
    // Ctrl-D is no answer, so it is none that agrees.
    terminal.write("\u{4}");
    let (shown, code) = terminal.end();
    assert!(
        shown.contains("language `bash` is not installed"),
        "{shown}"
    );
    assert_eq!(code, Some(125));

    let mut terminal = Terminal::start(&command, 80);
    terminal.until("[Y/n] ");
    terminal.write("y\n");
    let (shown, code) = terminal.end();
    assert!(shown.ends_with("hello\r\n"), "{shown}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_daemon_that_can_not_start_says_why_and_where_its_log_is() {
    let newcomer = newcomer();
    newcomer.configure("[jobs]\nmax_concurrrent = 1\n");
    let output = newcomer.piston(&["daemon", "start"]);
    assert_eq!(output.status.code(), Some(125));
    let text = err(&output);
    for word in [
        "the daemon did not start: ",
        "max_concurrrent",
        "line 2",
        "piston check",
    ] {
        assert!(text.contains(word), "no {word}: {text}");
    }
    assert!(
        newcomer.log().contains("max_concurrrent"),
        "{}",
        newcomer.log()
    );
    assert!(
        text.contains("/home/.local/state/piston/pistond.log"),
        "{text}"
    );
}

#[test]
fn a_daemon_elsewhere_is_not_started_or_ended_from_here() {
    let newcomer = newcomer();
    for words in [["daemon", "start"], ["daemon", "stop"]] {
        let host = "--host=http://127.0.0.1:9";
        let output = newcomer.piston(&[host, words[0], words[1]]);
        assert_eq!(output.status.code(), Some(125));
        assert!(
            err(&output).contains("no daemon of this machine"),
            "{}",
            err(&output)
        );
    }
    // Nor is anything ended that merely listens where a daemon would.
    let socket = newcomer.path("run/other.sock");
    let _other = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&socket, mode).expect("mode");
    let output = newcomer.piston(&["daemon", "stop", "--host", &socket.to_string_lossy()]);
    let text = err(&output);
    assert!(text.contains("is no pistond"), "{text}");
    assert!(Path::new(&socket).exists());
}
