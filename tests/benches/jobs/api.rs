//! Jobs through the API, over connections that stay open.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The bytes of a request that runs `code` with a package.
pub(crate) fn request(package: &str, code: &str) -> Vec<u8> {
    post(package, "execute", &json!({"code": code}))
}

/// The bytes of a request that runs a program of a package against many cases, so many at a time.
pub(crate) fn batch(package: &str, cases: usize, expected: &str, parallel: usize) -> Vec<u8> {
    let cases = vec![json!({"expected_stdout": expected}); cases];
    let body = json!({"code": "", "cases": cases, "parallel": parallel});
    post(package, "batch", &body)
}

fn post(package: &str, operation: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST /api/v3/packages/{package}/*/{operation} HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A connection to a daemon.
pub(crate) struct Connection(UnixStream);

impl Connection {
    /// Connects.
    pub(crate) fn open(socket: &Path) -> Self {
        // A burst fills the listener's backlog: that is what a client sees.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Self(stream),
                Err(error) => assert!(Instant::now() < deadline, "connect: {error}"),
            }
        }
    }

    /// Sends a request and reads its reply: status and body.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> (u16, Value) {
        self.0.write_all(request).expect("send");
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let count = self.0.read(&mut chunk).expect("receive");
            assert!(count > 0, "closed");
            answer.extend_from_slice(&chunk[..count]);
            if let Some(reply) = whole(&answer) {
                return reply;
            }
        }
    }

    /// Runs a job that has to print `expected`.
    pub(crate) fn run(&mut self, request: &[u8], expected: &str) {
        let (status, reply) = self.exchange(request);
        assert_eq!(
            (status, &reply["run"]["stdout"]),
            (200, &json!(expected)),
            "{reply}"
        );
    }
}

/// A reply of known length that has come whole.
fn whole(answer: &[u8]) -> Option<(u16, Value)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| line.strip_prefix("content-length: "))?;
    let length: usize = length.parse().expect("a number");
    let body = answer.get(end + 4..end + 4 + length)?;
    Some((status, serde_json::from_slice(body).unwrap_or_default()))
}
