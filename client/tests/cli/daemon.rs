//! A daemon that answers from a table, and the binary `piston` run against it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use piston_client::api::{Code, Problem};
use serde_json::Value;
use tempfile::TempDir;

/// `METHOD path` with the status and body of its reply.
pub(crate) type Route = (&'static str, u16, Vec<u8>);

/// `METHOD path` with the body of each request.
pub(crate) type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A daemon that answers from a table, and keeps what it was sent.
pub(crate) struct Daemon {
    pub(crate) directory: TempDir,
    requests: Requests,
}

impl Daemon {
    pub(crate) fn new(routes: Vec<Route>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let requests = Requests::default();
        let listener = UnixListener::bind(directory.path().join("s")).expect("a free path");
        let kept = Arc::clone(&requests);
        // It ends with the process of the test.
        thread::spawn(move || {
            for stream in listener.incoming() {
                // The client may close whenever it likes.
                drop(answer(stream.expect("a client"), &routes, &kept));
            }
        });
        Self {
            directory,
            requests,
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}/s", self.directory.path().display())
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn piston(&self, words: &[&str]) -> Output {
        self.piston_with(words, b"")
    }

    pub(crate) fn piston_with(&self, words: &[&str], stdin: &[u8]) -> Output {
        piston(&self.address(), words, stdin)
    }

    /// The last request to a path that ends so.
    pub(crate) fn sent(&self, line: &str) -> Vec<u8> {
        let requests = self.requests.lock().expect("not poisoned");
        let found = requests.iter().rev().find(|(sent, _)| sent == line);
        found
            .unwrap_or_else(|| panic!("no {line} in {requests:?}"))
            .1
            .clone()
    }
}

/// Answers one request and closes: as much of HTTP as the client has a right to expect.
fn answer(stream: UnixStream, routes: &[Route], requests: &Requests) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::new());
    reader.read_line(&mut first)?;
    let mut body = Vec::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some(length) = line.strip_prefix("content-length: ") {
            body.resize(length.trim_end().parse().expect("a length"), 0);
        }
        line.clear();
    }
    reader.read_exact(&mut body)?;
    let line = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let route = routes.iter().find(|(known, ..)| *known == line);
    let (status, reply) = match route {
        Some((_, status, reply)) => (*status, reply.clone()),
        None => problem(Code::NotFound, &line),
    };
    requests.lock().expect("not poisoned").push((line, body));
    let mut stream = reader.into_inner();
    let length = reply.len();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )?;
    stream.write_all(&reply)
}

pub(crate) fn problem(code: Code, detail: &str) -> (u16, Vec<u8>) {
    (
        code.status(),
        serde_json::to_vec(&Problem::new(code, detail)).expect("plain data"),
    )
}

pub(crate) fn ok(line: &'static str, reply: &Value) -> Route {
    (line, 200, reply.to_string().into_bytes())
}

pub(crate) fn piston(address: &str, words: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_piston"))
        .args(words)
        .env("PISTON_HOST", address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("piston starts");
    // A command that does not read its input may be gone already.
    drop(child.stdin.take().expect("piped").write_all(stdin));
    child.wait_with_output().expect("piston ends")
}
