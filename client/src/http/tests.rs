//! Tests of the client against real peers on a Unix socket and on TCP: what it makes of replies
//! that are good, late, broken, hostile or too long.
//!
//! The peers are small servers of these tests; the daemon itself is tested with the whole.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::api::{Code, ExecuteRequest, MakeRequest, Problem};
use crate::ids::Language;
use crate::units::Bytes as Size;
use crate::{Client, Error, Host, Settings, TransportError};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::oneshot;

/// A socket in a directory of its own, which goes with it.
pub(crate) struct Socket {
    directory: TempDir,
    host: Host,
}

impl Socket {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let host = Host::Unix(directory.path().join("s"));
        Self { directory, host }
    }

    fn bind(&self) -> UnixListener {
        UnixListener::bind(self.host.socket().expect("a path")).expect("a free path")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A peer that does with each connection what `behave` says.
fn peer<F>(behave: impl Fn(UnixStream) -> F + Send + 'static) -> Socket
where
    F: Future<Output = ()> + Send + 'static,
{
    let socket = Socket::new();
    let listener = socket.bind();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(stream));
        }
    });
    socket
}

/// A peer that reads one request head and answers with these bytes, then closes.
fn answers(reply: impl Into<Vec<u8>>) -> Socket {
    let reply = Arc::new(reply.into());
    peer(move |mut stream| {
        let reply = Arc::clone(&reply);
        async move {
            let mut request = [0; 4096];
            drop(stream.read(&mut request).await);
            drop(stream.write_all(&reply).await);
        }
    })
}

/// What a well-behaved peer saw: `METHOD target`, headers as text, body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A well-behaved server that answers everything alike and keeps the last request.
pub(crate) fn server(status: u16, body: impl Into<Bytes>) -> (Socket, Arc<Mutex<Seen>>) {
    let (seen, body) = (Arc::new(Mutex::new(Seen::default())), body.into());
    let kept = Arc::clone(&seen);
    let socket = peer(move |stream| {
        let (kept, body) = (Arc::clone(&kept), body.clone());
        let answer = move |request: Request<Incoming>| {
            let (kept, body) = (Arc::clone(&kept), body.clone());
            async move {
                let (head, incoming) = request.into_parts();
                let text = |value: &hyper::header::HeaderValue| {
                    value.to_str().expect("plain headers").to_owned()
                };
                let entry = Seen {
                    line: format!("{} {}", head.method, head.uri),
                    headers: head
                        .headers
                        .iter()
                        .map(|(n, v)| (n.to_string(), text(v)))
                        .collect(),
                    body: incoming
                        .collect()
                        .await
                        .expect("a whole body")
                        .to_bytes()
                        .to_vec(),
                };
                *kept.lock().expect("not poisoned") = entry;
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = status.try_into().expect("a status");
                Ok::<_, Infallible>(response)
            }
        };
        async move {
            let service = service_fn(answer);
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // The client may close whenever it likes.
            drop(connection.await);
        }
    });
    (socket, seen)
}

pub(crate) fn client(socket: &Socket) -> Client {
    Client::new(socket.host.clone())
}

fn with(socket: &Socket, settings: Settings) -> Client {
    Client::with_settings(socket.host.clone(), settings)
}

pub(crate) fn python() -> Language {
    "python".parse().expect("a name")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[tokio::test]
async fn a_request_is_json_and_its_host_no_path() {
    let (socket, seen) = server(200, "null");
    let mut request = MakeRequest::host(python());
    request.install = false;
    drop(client(&socket).make(&request).await);
    let seen = seen.lock().expect("not poisoned").clone();
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("host"), Some("localhost"));
    // `make` installs, whatever the request says.
    let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
    assert_eq!(
        body,
        serde_json::json!({"from": "host", "name": "python", "install": true})
    );
}

#[tokio::test]
async fn an_upload_is_streamed_with_its_length() {
    let (socket, seen) = server(
        201,
        r#"{"package":{"language":"a","version":"1.0.0"},"state":"installed","dependencies":[]}"#,
    );
    let file = socket.path().join("a-1.0.0.pkg.tar.gz");
    let content: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    std::fs::write(&file, &content).expect("a file");
    let reply = client(&socket).upload(&file).await.expect("installed");
    assert_eq!(reply.package.to_string(), "a-1.0.0");
    let seen = seen.lock().expect("not poisoned").clone();
    assert_eq!(seen.line, "POST /api/v3/packages");
    assert_eq!(seen.header("content-length"), Some("1000000"));
    assert_eq!(
        seen.header("content-type"),
        Some("application/octet-stream")
    );
    assert!(seen.body == content);
}

#[tokio::test]
async fn an_upload_of_no_file_never_reaches_the_daemon() {
    let (socket, seen) = server(200, "null");
    for path in [socket.path().join("none"), socket.path().to_owned()] {
        let error = client(&socket)
            .upload(&path)
            .await
            .expect_err("nothing to read");
        assert!(
            chain(&error).starts_with("can't read /"),
            "{}",
            chain(&error)
        );
    }
    assert_eq!(seen.lock().expect("not poisoned").line, "");
}

/// A daemon that refuses an upload early answers before it has read everything.
#[tokio::test]
async fn a_refusal_in_the_middle_of_an_upload_is_heard() {
    let problem = serde_json::to_vec(&Problem::new(Code::BodyTooLarge, "at most 1 MiB")).unwrap();
    let head = format!(
        "HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        problem.len()
    );
    let reply = Arc::new([head.into_bytes(), problem].concat());
    let socket = peer(move |mut stream| {
        let reply = Arc::clone(&reply);
        async move {
            let mut request = [0; 1024];
            drop(stream.read(&mut request).await);
            drop(stream.write_all(&reply).await);
            drop(stream.shutdown().await);
            // Like a careful server: what is on its way is read, or the reply would be lost.
            let mut rest = vec![0; 1 << 16];
            while matches!(stream.read(&mut rest).await, Ok(1..)) {}
        }
    });
    let file = socket.path().join("big");
    std::fs::write(&file, vec![0; 8 << 20]).expect("a file");
    let error = client(&socket).upload(&file).await.expect_err("refused");
    assert_eq!(error.code(), Some(Code::BodyTooLarge), "{}", chain(&error));
}

#[tokio::test]
async fn a_made_package_goes_to_the_writer_whatever_its_length() {
    let content = vec![7; 3 << 20];
    let (socket, seen) = server(200, content.clone());
    let small = Settings {
        max_reply: Size::kib(1),
        ..Settings::default()
    };
    let mut file = Vec::new();
    let made = with(&socket, small)
        .make_file(&MakeRequest::host(python()), &mut file)
        .await
        .expect("a file");
    assert_eq!((made.length, made.name), (Size::mib(3), None));
    assert!(file == content);
    assert!(seen.lock().unwrap().body.ends_with(br#""install":false}"#));
}

#[tokio::test]
async fn a_package_that_can_not_be_made_leaves_the_writer_alone() {
    let problem = Problem::new(Code::CannotMake, "no python on this host");
    let (socket, _) = server(422, serde_json::to_vec(&problem).unwrap());
    let mut file = Vec::new();
    let error = client(&socket)
        .make_file(&MakeRequest::host(python()), &mut file)
        .await
        .expect_err("refused");
    assert_eq!(error.to_string(), "no python on this host");
    assert!(file.is_empty());
}

#[tokio::test]
async fn a_problem_keeps_what_the_daemon_said() {
    let mut problem = Problem::new(Code::LimitTooHigh, "run.wall_time_ms: at most 3000");
    problem.request_id = Some("r1".into());
    let (socket, _) = server(422, serde_json::to_vec(&problem).unwrap());
    let error = client(&socket)
        .execute(&python(), "*", &ExecuteRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(error.to_string(), "run.wall_time_ms: at most 3000");
    assert_eq!(error.problem(), Some(&problem));
}

#[tokio::test]
async fn an_empty_success_is_enough_for_a_command() {
    let (socket, _) = server(204, "");
    client(&socket)
        .remove_repository("r")
        .await
        .expect("removed");
}

#[tokio::test]
async fn a_reply_of_something_else_is_shown() {
    let (socket, _) = server(502, "<html>\n<h1>Bad Gateway</h1>");
    let error = client(&socket).version().await.expect_err("not Piston");
    let text = error.to_string();
    assert!(
        text.contains("HTTP 502") && text.contains("`<html> <h1>Bad Gateway</h1>`"),
        "{text}"
    );
    let (socket, _) = server(200, r#"{"product":"Piston"}"#);
    let error = client(&socket).version().await.expect_err("not a version");
    assert!(
        error.to_string().contains("missing field `version`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_daemon_without_v3_is_refused_at_once() {
    let (socket, _) = server(200, r#"{"product":"Piston","version":"9","api":["v4"]}"#);
    let error = Client::connect(socket.host.clone())
        .await
        .expect_err("no v3");
    assert!(
        error.to_string().contains("Piston 9 has no API v3"),
        "{error}"
    );
    let (socket, _) = server(
        200,
        r#"{"product":"Piston","version":"9","api":["v3","v4"]}"#,
    );
    Client::connect(socket.host.clone()).await.expect("v3");
}

#[tokio::test]
async fn no_socket_a_dead_socket_and_a_forbidden_one_are_told_apart() {
    let socket = Socket::new();
    let remedy = |error: Error| error.remedy().expect("something to do");
    let error = client(&socket).version().await.expect_err("no socket");
    assert!(
        chain(&error).ends_with("No such file or directory (os error 2)"),
        "{}",
        chain(&error)
    );
    assert!(remedy(error).contains("pistond serve"));
    drop(socket.bind());
    let error = client(&socket).version().await.expect_err("nobody accepts");
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
    assert!(remedy(error).contains("gone"));
}

#[tokio::test]
async fn a_peer_that_closes_early_is_an_error_and_not_a_hang() {
    for reply in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let error = client(&answers(reply))
            .version()
            .await
            .expect_err("cut off");
        assert!(
            matches!(error, Error::Transport(TransportError::Broken { .. })),
            "{error:?}"
        );
        assert!(error.remedy().expect("a remedy").contains("log"));
    }
}

#[tokio::test]
async fn garbage_is_an_error() {
    let endless_head = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(100_000));
    for reply in [
        "SSH-2.0-OpenSSH\r\n",
        "\0\0\0\0",
        "HTTP/1.1 999999 \r\n\r\n",
        &endless_head,
    ] {
        let error = client(&answers(reply))
            .version()
            .await
            .expect_err("garbage");
        assert!(
            matches!(error, Error::Transport(TransportError::Broken { .. })),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_body_over_the_bound_is_not_taken() {
    let endless = peer(|mut stream| async move {
        let mut request = [0; 4096];
        drop(stream.read(&mut request).await);
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
        while stream.write_all(&[b' '; 4096]).await.is_ok() {}
    });
    let small = Settings {
        max_reply: Size::kib(64),
        ..Settings::default()
    };
    let error = with(&endless, small).version().await.expect_err("endless");
    assert!(error.to_string().ends_with("is over 64 KiB"), "{error}");
}

#[tokio::test]
async fn a_slow_reply_ends_at_the_time_limit() {
    let silent = peer(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let dripping = peer(|mut stream| async move {
        let mut request = [0; 4096];
        drop(stream.read(&mut request).await);
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let hasty = Settings {
        request_timeout: Duration::from_millis(50),
        ..Settings::default()
    };
    for socket in [silent, dripping] {
        let error = with(&socket, hasty.clone())
            .version()
            .await
            .expect_err("late");
        assert!(error.to_string().ends_with("within 50 ms"), "{error}");
    }
}

/// This is what kills a job whose caller has lost interest.
#[tokio::test]
async fn dropping_a_request_closes_its_connection() {
    let (began, begins) = oneshot::channel();
    let (ended, ends) = oneshot::channel();
    let signals = Arc::new(Mutex::new(Some((began, ended))));
    let socket = peer(move |mut stream| {
        let signals = signals.lock().expect("not poisoned").take();
        async move {
            let Some((began, ended)) = signals else {
                return;
            };
            let mut request = [0; 4096];
            drop(stream.read(&mut request).await);
            let _ = began.send(());
            while matches!(stream.read(&mut request).await, Ok(1..)) {}
            let _ = ended.send(());
        }
    });
    let client = client(&socket);
    let job = tokio::spawn(async move {
        client
            .execute(&python(), "*", &ExecuteRequest::default())
            .await
    });
    begins.await.expect("a request");
    job.abort();
    tokio::time::timeout(Duration::from_secs(10), ends)
        .await
        .expect("in time")
        .expect("closed");
}

/// A restarted daemon has closed the connection that the client kept.
#[tokio::test]
async fn a_connection_that_the_daemon_closed_is_opened_again() {
    let reply = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n\
                 {\"product\":\"Piston\",\"version\":\"1\",\"api\":[\"v3\"]}   ";
    let socket = answers(reply);
    let client = client(&socket);
    for _ in 0..20 {
        client.version().await.expect("a version");
    }
}

#[tokio::test]
async fn many_at_once_share_one_client() {
    let (socket, _) = server(200, r#"{"product":"Piston","version":"1","api":["v3"]}"#);
    let client = client(&socket);
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.version().await })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic").expect("a version");
    }
}

#[tokio::test]
async fn tcp_works_with_a_prefix_and_says_when_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let host: Host = format!("http://127.0.0.1:{port}/code")
        .parse()
        .expect("an address");
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut request = [0; 4096];
        let length = stream.read(&mut request).await.expect("a request");
        let body = "{\"product\":\"Piston\",\"version\":\"1\",\"api\":[\"v3\"]}";
        let reply = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(reply.as_bytes()).await.expect("a reply");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    Client::new(host.clone())
        .version()
        .await
        .expect("a version");
    let request = peer.await.expect("no panic");
    assert!(
        request.starts_with("GET /code/api/v3/version HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains(&format!("host: 127.0.0.1:{port}\r\n")),
        "{request}"
    );
    let error = Client::new(host)
        .version()
        .await
        .expect_err("the listener is gone");
    let remedy = error.remedy().expect("a remedy");
    assert!(remedy.contains("nothing listens there"), "{remedy}");
}
