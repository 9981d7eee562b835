//! The anchor: hyper's hello world over a Unix socket, nothing around it, in a process of its own
//! as the daemon is.

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// The argument that makes this program the server.
const FLAG: &str = "--hello-server";

/// What it is asked.
pub(crate) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A running server.
pub(crate) struct Hello {
    child: Child,
    socket: PathBuf,
}

impl Hello {
    pub(crate) fn start(folder: &Path) -> Self {
        let socket = folder.join("hello.sock");
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .arg(FLAG)
            .arg(&socket)
            .spawn()
            .expect("starts");
        while UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
        Self { child, socket }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Hello {
    fn drop(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("dead");
    }
}

/// Serves for ever, when this process was started for that.
pub(crate) fn serve_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(FLAG) {
        return;
    }
    let socket = arguments.next().expect("a socket");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).expect("bound");
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            tokio::spawn(async move {
                let service = service_fn(|_: Request<hyper::body::Incoming>| async {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("Hello, World!"))))
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // A client that is done closes its connection.
                drop(connection.await);
            });
        }
    });
}
