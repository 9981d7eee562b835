//! A load generator that costs little: requests that were written before, replies whose end is
//! found by their length, all connections of one thread.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One connection, with what has come of its reply so far.
pub(crate) struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> Self {
        Self {
            stream: UnixStream::connect(socket).expect("connect"),
            buffer: vec![0; 64 << 10],
            filled: 0,
        }
    }

    /// Sends a request and waits for its whole reply.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> &[u8] {
        self.stream.write_all(request).expect("send");
        self.filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[self.filled..]);
            self.add(count.expect("receive"));
            if self.is_whole() {
                return &self.buffer[..self.filled];
            }
        }
    }

    fn add(&mut self, count: usize) {
        assert!(count > 0, "closed");
        self.filled += count;
    }

    fn is_whole(&self) -> bool {
        let text = &self.buffer[..self.filled];
        let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
            return false;
        };
        assert!(text.starts_with(b"HTTP/1.1 200"), "{}", show(text));
        let field = b"content-length: ";
        let at = text[..head]
            .windows(field.len())
            .position(|w| w == field)
            .expect("a length");
        let digits = &text[at + field.len()..head + 2];
        let digits = digits.split(|byte| *byte == b'\r').next().expect("a line");
        let length: usize = show(digits).parse().expect("a number");
        self.filled >= head + 4 + length
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Replies in a second over so many connections, each with one request under way.
pub(crate) fn rate(socket: &Path, requests: &[Vec<u8>], connections: usize, time: Duration) -> f64 {
    let mut connections: Vec<Connection> =
        (0..connections).map(|_| Connection::open(socket)).collect();
    // A stride without a common factor: every request has its turn, none follows its neighbour.
    let mut turn = 0_usize;
    let mut next = || {
        turn = (turn + 7919) % requests.len();
        &requests[turn]
    };
    for connection in &mut connections {
        connection
            .stream
            .set_nonblocking(true)
            .expect("non-blocking");
        connection.stream.write_all(next()).expect("send");
    }
    let (begun, mut replies) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        for index in ready(&connections) {
            let connection = &mut connections[index];
            match connection
                .stream
                .read(&mut connection.buffer[connection.filled..])
            {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                count => connection.add(count.expect("receive")),
            }
            if connection.is_whole() {
                replies += 1;
                connection.filled = 0;
                connection.stream.write_all(next()).expect("send");
            }
        }
    }
    f64::from(replies) / begun.elapsed().as_secs_f64()
}

fn ready(connections: &[Connection]) -> Vec<usize> {
    let mut fds: Vec<PollFd<'_>> = connections
        .iter()
        .map(|connection| PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN))
        .collect();
    poll(&mut fds, PollTimeout::NONE).expect("poll");
    let ready = fds
        .iter()
        .enumerate()
        .filter(|(_, fd)| fd.any() == Some(true));
    ready.map(|(index, _)| index).collect()
}

/// Times of one subject, in the order measured.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn measure<T>(&mut self, action: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = action();
        self.0.push(start.elapsed());
        done
    }

    /// The value below which `percent` of the times lie, in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e6
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    pub(crate) fn show(&self) -> String {
        let [p10, p50, p99] = [10, 50, 99].map(|percent| self.percentile(percent));
        format!("p10 {p10:9.1} us   p50 {p50:9.1} us   p99 {p99:9.1} us")
    }
}
