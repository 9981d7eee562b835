//! An installation watched on terminals of every kind, and left with Ctrl-C.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use piston_tests::{Daemon, Terminal, Who, binary, packages, wait_until};

/// A web server that stops in the middle of each package file until it is told to go on.
struct Server {
    address: SocketAddr,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl Server {
    fn of(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let held = Arc::new((Mutex::new(true), Condvar::new()));
        let kept = Arc::clone(&held);
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (folder, held) = (folder.clone(), Arc::clone(&kept));
                let stream = stream.expect("a client");
                // It may leave whenever it likes.
                std::thread::spawn(move || drop(answer(stream, &folder, &held)));
            }
        });
        Self { address, held }
    }

    fn hold(&self, whether: bool) {
        *self.held.0.lock().expect("not poisoned") = whether;
        self.held.1.notify_all();
    }
}

fn answer(
    mut stream: TcpStream,
    folder: &Path,
    (held, changed): &(Mutex<bool>, Condvar),
) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let length = stream.read(&mut head)?;
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    let name = head.split(' ').nth(1).unwrap_or("/")[1..].to_owned();
    let body = fs::read(folder.join(&name))?;
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )?;
    let (first, rest) = body.split_at(length / 2);
    stream.write_all(first)?;
    if name.ends_with(".tar.gz") {
        let held = held.lock().expect("not poisoned");
        drop(
            changed
                .wait_while(held, |held| *held)
                .expect("not poisoned"),
        );
    }
    stream.write_all(rest)
}

/// A daemon with a repository of `base` and `bash`, behind a server that holds.
fn repository() -> (Daemon, Server) {
    let daemon = Daemon::start_with(Who::User, "[packages]\nbuiltin = false\n", &[]);
    let folder = daemon.folder().join("repo");
    fs::create_dir(&folder).expect("a folder");
    for name in ["base", "bash"] {
        let file = packages::file(name);
        fs::copy(&file, folder.join(file.file_name().expect("a name"))).expect("a copy");
    }
    daemon.who().own(&folder);
    let path = folder.to_string_lossy().into_owned();
    assert!(daemon.cli(&["repo", "index", &path], b"").status.success());
    let server = Server::of(folder);
    let url = format!("http://{}/index.yaml", server.address);
    let added = daemon.cli(&["repo", "add", "web", &url], b"");
    assert!(
        added.status.success(),
        "{}",
        String::from_utf8_lossy(&added.stderr)
    );
    (daemon, server)
}

/// `piston package install bash` on a terminal, with this environment.
fn install(daemon: &Daemon, columns: u16, environment: &[(&str, &str)]) -> Terminal {
    let mut command = daemon.who().command(&binary("piston"));
    command
        .args(["package", "install", "bash"])
        .env("PISTON_HOST", daemon.socket())
        .env("TERM", "xterm")
        .envs(environment.iter().copied());
    Terminal::start(&command, columns)
}

fn remove(daemon: &Daemon) {
    for words in [&["package", "remove", "bash"][..], &["package", "gc"]] {
        assert!(daemon.cli(words, b"").status.success());
    }
}

/// What a first escape sequence would begin with, and one that moves the cursor up.
const ESCAPE: char = '\u{1b}';
const UP: &str = "\u{1b}[1A";
const YELLOW: &str = "\u{1b}[33m";

#[test]
fn an_installation_is_shown_as_the_terminal_can_show_it() {
    let (daemon, server) = repository();
    let check = |columns, environment: &[(&str, &str)], half_way: &str| {
        server.hold(true);
        let mut terminal = install(&daemon, columns, environment);
        terminal.until(half_way);
        server.hold(false);
        let (shown, code) = terminal.end();
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown.contains("installed bash-"), "{shown}");
        assert!(shown.is_ascii(), "no terminal needs UTF-8: {shown}");
        remove(&daemon);
        shown
    };
    // Half of a bar where there is room, a percentage where there is little.
    let wide = check(80, &[], " [===");
    assert!(wide.contains(UP) && wide.contains(YELLOW), "{wide:?}");
    let narrow = check(40, &[], "% ba");
    assert!(narrow.contains(UP) && !narrow.contains("[="), "{narrow:?}");
    let plain = check(80, &[("NO_COLOR", "1")], " [===");
    assert!(plain.contains(UP) && !plain.contains(YELLOW), "{plain:?}");
    let dumb = check(80, &[("TERM", "dumb")], "piston: downloading ba");
    assert!(!dumb.contains(ESCAPE), "{dumb:?}");
}

#[test]
fn who_leaves_an_installation_is_told_that_it_goes_on() {
    let (daemon, server) = repository();
    let mut terminal = install(&daemon, 80, &[]);
    terminal.until("downloading");
    terminal.write("\u{3}");
    let (shown, code) = terminal.end();
    assert_eq!(code, Some(130), "{shown}");
    assert!(
        shown.contains("the daemon goes on installing bash"),
        "{shown}"
    );
    server.hold(false);
    wait_until("it is installed all the same", || {
        let reply = daemon.get("/api/v3/packages/bash");
        reply.status == 200
    });
}
