//! Jobs that are talked with: over a WebSocket of either API, `piston run -i`, terminals.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use nix::pty::openpty;
use piston_tests::{Daemon, Who, binary, http, packages, wait_until};
use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

const V3: &str = "/api/v3/packages/bash/*/execute";
const V2: &str = "/api/v2/connect";

fn daemon() -> Daemon {
    let daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    daemon
}

/// An open WebSocket.
struct Talk(WebSocket<UnixStream>);

impl Talk {
    fn open(daemon: &Daemon, path: &str) -> Self {
        let stream = UnixStream::connect(daemon.socket()).expect("connected");
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).expect("a timeout");
        let url = format!("ws://localhost{path}");
        let (socket, _) = tungstenite::client(url, stream).expect("a WebSocket");
        Self(socket)
    }

    fn start(daemon: &Daemon, request: &Value) -> Self {
        let mut talk = Self::open(daemon, V3);
        talk.say(&json!({"type": "start", "request": request}));
        talk
    }

    fn init(daemon: &Daemon, code: &str) -> Self {
        let mut talk = Self::open(daemon, V2);
        talk.say(
            &json!({"type": "init", "language": "bash", "version": "*", "stdin": "ignored",
            "files": [{"content": code}]}),
        );
        talk
    }

    fn say(&mut self, message: &Value) {
        let message = Message::text(message.to_string());
        self.0.send(message).expect("sent");
    }

    /// The next message; the close frame's code and reason when it is the end.
    fn hear(&mut self) -> Result<Value, (u16, String)> {
        loop {
            match self.0.read().expect("a message") {
                Message::Text(text) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Message::Close(Some(CloseFrame { code, reason })) => {
                    return Err((code.into(), reason.to_string()));
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Hears until what was printed to standard output ends with this.
    fn until(&mut self, end: &str) -> String {
        let mut printed = String::new();
        while !printed.ends_with(end) {
            let message = self
                .hear()
                .unwrap_or_else(|end| panic!("{printed:?} {end:?}"));
            let is_stdout = message["event"] == "stdout" || message["stream"] == "stdout";
            if is_stdout {
                printed.push_str(message["data"].as_str().expect("text"));
            }
        }
        printed
    }

    /// All that is left to hear, with the end.
    fn rest(&mut self) -> (Vec<Value>, (u16, String)) {
        let mut messages = Vec::new();
        loop {
            match self.hear() {
                Ok(message) => messages.push(message),
                Err(end) => return (messages, end),
            }
        }
    }
}

as_root_and_user!(
    a_program_is_talked_with_over_the_websocket_of_v3,
    a_program_on_a_terminal_knows_its_size_and_its_keys,
);

/// What API.md shows of a talk, `> ` what is said and `< ` what is told.
#[test]
fn a_talk_goes_as_the_guide_shows_it() {
    let guide = include_str!("../../contrib/docs/API.md");
    let lines = guide.lines().filter_map(|line| line.split_at_checked(2));
    let talked = lines.filter(|(who, text)| ["> ", "< "].contains(who) && text.starts_with('{'));
    let daemon = daemon();
    let mut talk = Talk::open(&daemon, V3);
    let mut told = 0;
    for (who, shown) in talked {
        if who == "> " {
            talk.0.send(Message::text(shown)).expect("sent");
            continue;
        }
        let message = talk.0.read().expect("a message");
        let text = message.into_text().expect("text");
        assert!(
            super::docs::line_fits(&text, shown),
            "{text} is shown as {shown}"
        );
        told += 1;
    }
    assert_eq!(told, 4);
}

fn a_program_is_talked_with_over_the_websocket_of_v3(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let code = "read -r first; echo \"1 $first\"; read -r next; echo \"2 $next\" >&2
            trap 'echo stopped' INT; echo ready; cat; echo \"end\"; exit 3";
    let mut talk = Talk::start(&daemon, &json!({"code": code, "stdin": "given\n"}));
    assert_eq!(talk.hear(), Ok(json!({"event": "stage", "stage": "run"})));
    assert_eq!(talk.until("\n"), "1 given\n");
    talk.say(&json!({"type": "stdin", "data": "typed\n"}));
    // Two streams are told in the order in which they are read.
    let told = [talk.hear(), talk.hear()];
    for (stream, data) in [("stderr", "2 typed\n"), ("stdout", "ready\n")] {
        let event = json!({"event": stream, "stage": "run", "data": data});
        assert!(told.contains(&Ok(event)), "{told:?}");
    }
    let bytes = Message::binary("\u{e9}\n".as_bytes().to_vec());
    talk.0.send(bytes).expect("sent");
    assert_eq!(talk.until("\n"), "\u{e9}\n");
    talk.say(&json!({"type": "eof"}));
    assert_eq!(talk.until("end\n"), "end\n");
    let (last, end) = talk.rest();
    assert_eq!(end, (1000, "Job completed".to_owned()));
    assert_eq!(
        (&last[0]["event"], &last[0]["code"]),
        (&json!("exit"), &json!(3))
    );
    let result = &last[1]["result"];
    assert_eq!(result["run"]["status"], "RE");
    assert_eq!(result["run"]["stdout"], "", "it was told already");
}

#[test]
fn a_signal_reaches_the_program_and_a_limit_holds() {
    let daemon = daemon();
    let code = "trap 'echo stopped; exit 4' INT; echo ready; while :; do sleep 0.01; done";
    let mut talk = Talk::start(&daemon, &json!({"code": code}));
    talk.until("ready\n");
    talk.say(&json!({"type": "signal", "signal": "SIGINT"}));
    talk.until("stopped\n");
    let (last, _) = talk.rest();
    assert_eq!(last[0]["code"], 4);

    let limits = json!({"run": {"output_bytes": 100_000}});
    let code = "while :; do echo 0123456789; done";
    let mut talk = Talk::start(&daemon, &json!({"code": code, "limits": limits}));
    let (told, _) = talk.rest();
    let printed = told.iter().filter_map(|event| event["data"].as_str());
    assert_eq!(printed.map(str::len).sum::<usize>(), 100_000);
    assert_eq!(
        told.last().expect("a result")["result"]["run"]["status"],
        "OL"
    );
}

fn a_program_on_a_terminal_knows_its_size_and_its_keys(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let code = "trap 'echo interrupted; exit 5' INT; [[ -t 0 && -t 1 && -t 2 ]] && stty size
        until [[ $(stty size) == '9 30' ]]; do sleep 0.01; done; echo resized
        read -r line </dev/tty; echo \"<$line>\"; sleep 20";
    let mut talk = Talk::open(&daemon, V3);
    talk.say(&json!({"type": "start", "request": {"code": code},
        "terminal": {"columns": 70, "rows": 20}}));
    assert_eq!(talk.until("20 70\r\n"), "20 70\r\n");
    talk.say(&json!({"type": "resize", "terminal": {"columns": 30, "rows": 9}}));
    assert_eq!(talk.until("resized\r\n"), "resized\r\n");
    talk.say(&json!({"type": "stdin", "data": "hi\n"}));
    assert_eq!(
        talk.until("<hi>\r\n"),
        "hi\r\n<hi>\r\n",
        "echoed, then read"
    );
    talk.say(&json!({"type": "stdin", "data": "\u{3}"}));
    talk.until("interrupted\r\n");
    let (last, _) = talk.rest();
    assert_eq!(last[0]["code"], 5);
}

#[test]
fn input_waits_for_a_program_that_does_not_read_and_a_client_that_leaves_ends_it() {
    let daemon = daemon();
    let mut talk = Talk::start(&daemon, &json!({"code": "echo ready; sleep 30"}));
    talk.until("ready\n");
    let piece = Message::binary(vec![b'x'; 256 << 10]);
    talk.0.get_mut().set_nonblocking(true).expect("set");
    let mut sent = 0;
    // Far more than may wait, until the socket takes no more.
    while sent < 64 && talk.0.send(piece.clone()).is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "nothing held it back");
    assert!(!daemon.has_no_jobs());
    drop(talk);
    wait_until("the job of a client that left is over", || {
        daemon.has_no_jobs()
    });

    let mut talk = Talk::start(&daemon, &json!({"code": "echo ready; sleep 30"}));
    talk.until("ready\n");
    talk.0.close(None).expect("closed");
    wait_until("the job of a closed WebSocket is over", || {
        daemon.has_no_jobs()
    });
}

#[test]
fn all_of_a_long_input_arrives() {
    let daemon = daemon();
    let mut talk = Talk::start(&daemon, &json!({"code": "wc -c"}));
    for _ in 0..20 {
        let piece = Message::binary(vec![b'x'; 300_000]);
        talk.0.send(piece).expect("sent");
    }
    talk.say(&json!({"type": "eof"}));
    assert_eq!(talk.until("\n").trim(), "6000000");
}

#[test]
fn what_can_not_be_started_says_why() {
    let daemon = daemon();
    let refused = |first: &Value| {
        let mut talk = Talk::open(&daemon, V3);
        talk.say(first);
        let (messages, (code, _)) = talk.rest();
        assert_eq!(messages.len(), 1, "{messages:?}");
        (messages[0]["problem"]["code"].clone(), code)
    };
    for (first, code) in [
        (json!({"type": "eof"}), "malformed_request"),
        (json!({"type": "start", "request": {}}), "invalid_field"),
        (
            json!({"type": "start", "request": {"code": "", "limits": {"run": {"cpu_time_ms": 1_000_000_000}}}}),
            "limit_too_high",
        ),
        (
            json!({"type": "start", "request": {"kode": ""}}),
            "malformed_request",
        ),
    ] {
        let (said, close) = refused(&first);
        assert_eq!((said, close), (json!(code), 1008), "{first}");
    }

    // Before the handshake a reply says it.
    let get = |path: &str, headers: &[&str]| {
        http::request(&daemon.address(), "GET", path, headers, b"").status
    };
    let upgrade = [
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    assert_eq!(get(V3, &[]), 426);
    assert_eq!(get(V3, &upgrade), 426, "`Connection: close` is no upgrade");
    assert_eq!(get(V2, &[]), 404);
    let raw = |path: &str, version: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: {version}\r\n{}\r\n\r\n",
            upgrade[1]
        );
        // Asked for with a last word, as the connection stays open.
        let mut stream = UnixStream::connect(daemon.socket()).expect("connected");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("a reply");
        String::from_utf8_lossy(&head[9..]).into_owned()
    };
    assert_eq!(raw(V3, "13"), "101");
    assert_eq!(raw(V3, "8"), "400");
    assert_eq!(raw("/api/v3/packages/nothing/*/execute", "13"), "404");
    wait_until("nothing was started", || daemon.has_no_jobs());
}

#[test]
fn a_message_over_the_bound_ends_the_talk() {
    let daemon = Daemon::start_with(Who::User, "[http]\nmax_body = \"64K\"\n", &[]);
    packages::install(&daemon, &["bash"]);
    let mut talk = Talk::start(&daemon, &json!({"code": "echo ready; sleep 30"}));
    talk.until("ready\n");
    let large = Message::binary(vec![b'x'; 100_000]);
    talk.0.send(large).expect("sent");
    assert_eq!(talk.rest().1, (1009, "Message too big".to_owned()));
    wait_until("the job is over", || daemon.has_no_jobs());
}

#[test]
fn v2_connect_speaks_as_the_original() {
    let daemon = daemon();
    let mut talk = Talk::init(&daemon, "read -r line; echo \"<$line>\"; cat; exit 2");
    let runtime = talk.hear().expect("a message");
    assert_eq!(
        (&runtime["type"], &runtime["language"]),
        (&json!("runtime"), &json!("bash"))
    );
    assert!(runtime["version"].is_string());
    assert_eq!(talk.hear(), Ok(json!({"type": "stage", "stage": "run"})));
    talk.say(&json!({"type": "data", "stream": "stdin", "data": "typed\n"}));
    assert_eq!(
        talk.hear(),
        Ok(json!({"type": "data", "stream": "stdout", "data": "<typed>\n"}))
    );
    talk.say(&json!({"type": "eof"}));
    let exit = json!({"type": "exit", "stage": "run", "code": 2, "signal": null});
    assert_eq!(talk.hear(), Ok(exit));
    assert_eq!(talk.hear(), Err((4999, "Job Completed".to_owned())));

    // More than the bound of a plain request.
    let mut talk = Talk::init(&daemon, "printf '%050000d\\n' 0");
    assert_eq!(talk.until("\n").len(), 50_001);

    let mut talk = Talk::init(&daemon, "echo ready; while :; do sleep 0.01; done");
    talk.until("ready\n");
    talk.say(&json!({"type": "signal", "signal": "SIGTERM"}));
    let exit = json!({"type": "exit", "stage": "run", "code": null, "signal": "SIGTERM"});
    assert_eq!(talk.hear(), Ok(exit));
}

#[test]
fn v2_connect_closes_with_the_codes_of_the_original() {
    let daemon = daemon();
    let said = |message: &Value| {
        let mut talk = Talk::open(&daemon, "/api/v2/piston/connect");
        talk.say(message);
        talk.rest()
    };
    let data = json!({"type": "data", "stream": "stdin", "data": "x"});
    assert_eq!(said(&data).1, (4003, "Not yet initialized".to_owned()));
    assert_eq!(
        said(&json!({"type": "nothing"})).1,
        (4001, "Initialization Timeout".to_owned())
    );
    for (init, message) in [
        (json!({"type": "init"}), "language is required as a string"),
        (
            json!({"type": "init", "language": "x", "version": "1", "files": []}),
            "x-1 runtime is unknown",
        ),
    ] {
        let (messages, end) = said(&init);
        assert_eq!(messages, [json!({"type": "error", "message": message})]);
        assert_eq!(end, (4002, "Notified Error".to_owned()));
    }
    for (message, end) in [
        (json!({"type": "init"}), (4000, "Already Initialized")),
        (
            json!({"type": "data", "stream": "stderr", "data": "x"}),
            (4004, "Can only write to stdin"),
        ),
        (
            json!({"type": "signal", "signal": "SIGNIL"}),
            (4005, "Invalid signal"),
        ),
    ] {
        let mut talk = Talk::init(&daemon, "echo ready; sleep 30");
        talk.until("ready\n");
        talk.say(&message);
        let (_, (code, reason)) = talk.rest();
        assert_eq!((code, &*reason), end, "{message}");
        wait_until("the job is over", || daemon.has_no_jobs());
    }
}

#[test]
fn piston_run_i_passes_on_what_is_typed_and_interrupts() {
    let daemon = daemon();
    let script = daemon.folder().join("talk.sh");
    let text = "trap 'echo interrupted; exit 6' INT; while read -r line; do echo \"<$line>\"; done
        echo waits; while :; do sleep 0.01; done";
    std::fs::write(&script, text).expect("script");
    let host = format!("unix://{}", daemon.socket().display());
    let mut command = daemon.who().command(&binary("piston"));
    command
        .args(["run", "-i", "bash"])
        .arg(&script)
        .env("PISTON_HOST", &host);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("piston starts");
    let mut keys = child.stdin.take().expect("piped");
    let mut output = child.stdout.take().expect("piped");
    let mut until = |end: &str| {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            let mut byte = [0];
            assert_eq!(output.read(&mut byte).expect("read"), 1, "{seen:?}");
            seen.push(byte[0]);
        }
    };
    for line in ["one", "two"] {
        writeln!(keys, "{line}").expect("typed");
        until(&format!("<{line}>\n"));
    }
    drop(keys);
    until("waits\n");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("kill");
    until("interrupted\n");
    assert_eq!(child.wait().expect("its end").code(), Some(6));

    // On a terminal.
    let terminal = openpty(None, None).expect("a terminal");
    let before = nix::sys::termios::tcgetattr(&terminal.slave).expect("its settings");
    let stream = || Stdio::from(terminal.slave.try_clone().expect("a descriptor"));
    let code = "[[ -t 0 ]] && echo on a terminal; read -r x; echo \"<$x>\"; exit 8";
    std::fs::write(&script, code).expect("script");
    let mut command = daemon.who().command(&binary("piston"));
    let mut child = command
        .args(["run", "-i", "bash"])
        .arg(&script)
        .env("PISTON_HOST", &host)
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .expect("piston starts");
    let mut screen = std::fs::File::from(terminal.master);
    let mut seen = String::new();
    let mut until = |screen: &mut std::fs::File, what: &str| {
        while !seen.contains(what) {
            let mut bytes = [0; 256];
            let length = screen.read(&mut bytes).expect("read");
            seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    };
    until(&mut screen, "on a terminal\r\n");
    screen.write_all(b"word\r").expect("typed");
    until(&mut screen, "word\r\n<word>\r\n");
    assert_eq!(child.wait().expect("its end").code(), Some(8));
    let after = nix::sys::termios::tcgetattr(&terminal.slave).expect("its settings");
    assert_eq!(after, before, "the terminal was not put back");
}

#[test]
fn a_client_that_said_its_last_word_gets_its_reply() {
    let daemon = daemon();
    let body = json!({"code": "sleep 0.5; echo late"}).to_string();
    let request = format!(
        "POST {V3} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = UnixStream::connect(daemon.socket()).expect("connected");
    stream.write_all(request.as_bytes()).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("shut");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    assert!(
        reply.starts_with("HTTP/1.1 200 ") && reply.contains("late\\n"),
        "{reply}"
    );
}
