//! A small HTTP server on loopback that answers with whatever bytes a test wants.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as far as the tests look at it.
#[derive(Debug, Clone)]
pub(in super::super) struct Request {
    /// Path with query.
    pub(in super::super) path: String,
    /// Header lines, lower case.
    pub(in super::super) headers: Vec<String>,
}

/// What is sent: the bytes, then a pause, then the end of the connection.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Reply {
    pub(in super::super) bytes: Vec<u8>,
    pub(in super::super) pause: Duration,
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// Serves until it is dropped.
pub(in super::super) struct Server {
    pub(in super::super) url: String,
    pub(in super::super) seen: Arc<Mutex<Vec<Request>>>,
    address: std::net::SocketAddr,
    stop: Arc<Mutex<bool>>,
}

impl Server {
    pub(in super::super) fn start(
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(Mutex::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let (log, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if *stopped.lock().unwrap() {
                    return;
                }
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                if let Ok(stream) = stream {
                    std::thread::spawn(move || answer(stream, &*handler, &log));
                }
            }
        });
        Self {
            url: format!("http://{address}"),
            seen,
            address,
            stop,
        }
    }

    pub(in super::super) fn requests(&self, path: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.path == path).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        // Wakes the thread, which closes the listener.
        drop(TcpStream::connect(self.address));
    }
}

fn answer(mut stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .map(|line| line.to_lowercase())
        .collect();
    let request = Request {
        path: first.split(' ').nth(1).unwrap_or_default().to_owned(),
        headers,
    };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    // A client that had enough hangs up.
    drop(stream.write_all(&reply.bytes));
    drop(stream.flush());
    std::thread::sleep(reply.pause);
}

/// 200 with its length.
pub(in super::super) fn ok(body: &[u8]) -> Reply {
    with_headers("", body)
}

pub(in super::super) fn with_headers(headers: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    raw([head.as_bytes(), body].concat())
}

pub(in super::super) fn status(line: &str) -> Reply {
    raw(format!("HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

pub(in super::super) fn redirect(to: &str) -> Reply {
    status(&format!("302 Found\r\nLocation: {to}"))
}

pub(in super::super) fn raw(bytes: Vec<u8>) -> Reply {
    Reply {
        bytes,
        ..Reply::default()
    }
}
