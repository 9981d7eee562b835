//! A small HTTP server on loopback, for what the daemon downloads: it answers as a test wants.
//!
//! One reply for each connection, then it is closed. Threads end when their clients hang up, and the
//! listener's when the server is dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// 200 with this body.
    Body(Vec<u8>),
    /// This status, e.g. `404 Not Found`, and no body.
    Status(&'static str),
    /// 302 to this place.
    Moved(String),
    /// 200 with a body that has no end.
    Endless,
}

impl Reply {
    /// 200 with this text.
    #[must_use]
    pub fn ok(text: &str) -> Self {
        Self::Body(text.as_bytes().to_vec())
    }

    /// 302 to this place.
    #[must_use]
    pub fn moved(to: &str) -> Self {
        Self::Moved(to.to_owned())
    }
}

/// A server, until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Starts one; the handler gets a request's path.
    ///
    /// # Panics
    /// When loopback can't be listened at.
    pub fn start(handler: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let (handler, stop) = (Arc::new(handler), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let handler = Arc::clone(&handler);
                if let Ok(stream) = stream {
                    // A client that had enough hangs up.
                    std::thread::spawn(move || drop(answer(stream, &*handler)));
                }
            }
        });
        Self { address, stopped }
    }

    /// Where it is, e.g. `http://127.0.0.1:4711`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread, which closes the listener.
        drop(TcpStream::connect(self.address));
    }
}

fn answer(mut stream: TcpStream, handler: &dyn Fn(&str) -> Reply) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let head =
        |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{rest}\r\n");
    match handler(path) {
        Reply::Body(body) => {
            let length = format!("Content-Length: {}\r\n", body.len());
            stream.write_all(head("200 OK", &length).as_bytes())?;
            stream.write_all(&body)
        }
        Reply::Status(status) => stream.write_all(head(status, "Content-Length: 0\r\n").as_bytes()),
        Reply::Moved(to) => {
            let rest = format!("Location: {to}\r\nContent-Length: 0\r\n");
            stream.write_all(head("302 Found", &rest).as_bytes())
        }
        Reply::Endless => {
            stream.write_all(head("200 OK", "").as_bytes())?;
            let spaces = [b' '; 8 << 10];
            loop {
                stream.write_all(&spaces)?;
            }
        }
    }
}
