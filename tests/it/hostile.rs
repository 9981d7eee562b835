//! Bad input over the real sockets: each gets a clear 4xx or close code, and the daemon goes on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use piston_tests::{Daemon, Who, free_port, http, packages};
use serde_json::{Value, json};

const EXECUTE: &str = "/api/v3/packages/bash/*/execute";

fn start() -> (Daemon, SocketAddr) {
    let port = free_port();
    // Who says nothing more is hung up on soon, which ends what a test reads.
    let config = "[http]\nidle_timeout = \"1s\"\nheader_timeout = \"1s\"\n";
    let daemon = Daemon::start_with(Who::User, config, &["--listen", &port.to_string()]);
    packages::install(&daemon, &["bash"]);
    (daemon, port)
}

/// Everything that comes back for these bytes until the other side closes.
fn exchange(port: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(port).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("set");
    // The other side may have had enough before the end.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("closed")
}

fn still_runs(daemon: &Daemon) {
    let run = &daemon.execute("bash", &json!({"code": "echo still here"}))["run"];
    assert_eq!(run["stdout"], "still here\n");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn bodies_that_are_no_submission_are_refused_in_both_apis() {
    let (daemon, port) = start();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_object = format!("{}1{}", "{\"code\":".repeat(50_000), "}".repeat(50_000));
    let bodies: Vec<Vec<u8>> = [
        "",
        "{",
        "null",
        "[]",
        "\"\"",
        "1e999",
        "-",
        "{\"code\":1}",
        "{\"code\":null,\"files\":{}}",
        "{\"code\":\"a\",\"code\":\"b\"}",
        "{\"code\":\"a\",\"limits\":{\"run\":{\"wall_time_ms\":1e400}}}",
        "{\"code\":\"a\",\"limits\":{\"run\":{\"wall_time_ms\":-1}}}",
        "{\"code\":\"a\",\"limits\":{\"run\":{\"wall_time_ms\":18446744073709551616}}}",
        "{\"code\":\"\\ud800\"}",
        "{\"code\":\"a\u{0}b\"}",
        "{\"code\":\"a\"} {}",
        "\u{feff}{}",
        &deep,
        &deep_object,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        b"{\"code\":\"\xff\"}".to_vec(),
        b"\x00".to_vec(),
        vec![0xff; 1000],
    ])
    .collect();
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        for path in [EXECUTE, "/api/v3/packages/bash/*/batch", "/api/v2/execute"] {
            let address = http::Address::Tcp(port);
            let reply = http::request(
                &address,
                "POST",
                path,
                &["Content-Type: application/json"],
                &body,
            );
            assert!(
                (400..500).contains(&reply.status),
                "{path} {shown}: {}",
                reply.status
            );
            let told = reply.json();
            let told = if path.contains("v2") {
                &told["message"]
            } else {
                &told["detail"]
            };
            assert!(told.is_string(), "{path} {shown}: {told}");
        }
    }
    still_runs(&daemon);
}

#[test]
fn requests_that_two_readers_could_read_in_two_ways_are_refused_or_end_the_connection() {
    let (daemon, port) = start();
    let post = format!("POST {EXECUTE} HTTP/1.1\r\nHost: localhost\r\n");
    let hidden = "GET /api/v3/version HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "X: a\r\n continued: yes\r\n",
        "X\0: a\r\n",
    ] {
        let answer = exchange(port, format!("{post}{headers}\r\nhello{hidden}").as_bytes());
        assert_eq!(status(&answer), "400", "{headers:?}: {answer}");
        assert!(!answer.contains("\"product\""), "{headers:?}: {answer}");
    }
    // Both lengths: one reader sees a body and one sees a second request, so there is no second.
    for both in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        let answer = exchange(
            port,
            format!("{post}{both}\r\n0\r\n\r\n{hidden}").as_bytes(),
        );
        assert!(!answer.contains("\"product\""), "{answer}");
        assert!(
            answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
    }
    for chunks in [
        "zz\r\n",
        "-1\r\n",
        "ffffffffffffffffff\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
    ] {
        let head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
        let answer = exchange(port, format!("{post}{head}\r\n{chunks}").as_bytes());
        assert!(
            ["400", "closed"].contains(&status(&answer)),
            "{chunks:?}: {answer}"
        );
    }
    still_runs(&daemon);
}

#[test]
fn heads_that_are_none_are_refused() {
    let (daemon, port) = start();
    let many = "X: a\r\n".repeat(200);
    let long = "a".repeat(70_000);
    for (head, expected) in [
        ("\0\0\0\0\r\n\r\n".to_owned(), &["400"][..]),
        ("GET\r\n\r\n".to_owned(), &["400"]),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), &["400"]),
        ("G\u{e9}T / HTTP/1.1\r\n\r\n".to_owned(), &["400"]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &["400", "closed"]),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}".to_owned(), &["400"]),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), &["431", "414"]),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), &["431", "414"]),
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), &["431", "414"]),
        ("GET /api/v3/packages/%00/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), &["403"]),
        ("GET /api/v3/jobs/%ff%fe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), &["422"]),
        ("CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), &["403"]),
        ("GET http://evil.example/api/v3/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(), &["403"]),
    ] {
        let answer = exchange(port, head.as_bytes());
        let shown: String = head.chars().take(60).collect();
        assert!(expected.contains(&status(&answer)), "{shown:?}: {answer}");
    }
    still_runs(&daemon);
}

/// A handshake with some of its headers, and what comes back.
fn handshake(port: SocketAddr, path: &str, headers: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    exchange(port, head.as_bytes())
}

#[test]
fn wrong_handshakes_are_refused_with_what_is_wrong() {
    let (daemon, port) = start();
    let (up, ver) = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Sec-WebSocket-Version: 13\r\n",
    );
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (headers, expected) in [
        ("Connection: close\r\n".to_owned(), "426"),
        (
            format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{ver}{key}"),
            "426",
        ),
        (
            format!("Upgrade: websocket\r\nConnection: close\r\n{ver}{key}"),
            "426",
        ),
        (format!("{up}{ver}"), "400"),
        (format!("{up}Sec-WebSocket-Version: 12\r\n{key}"), "400"),
        (format!("{up}{key}"), "400"),
        (
            format!("{up}{ver}{key}Origin: http://evil.example\r\n"),
            "403",
        ),
    ] {
        let answer = handshake(port, EXECUTE, &headers);
        assert_eq!(status(&answer), expected, "{headers:?}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let answer = handshake(port, "/api/v2/connect", "Connection: close\r\n");
    assert_eq!(status(&answer), "404", "{answer}");
    assert!(answer.contains("Not Found"), "{answer}");
    still_runs(&daemon);
}

#[test]
fn a_flood_of_messages_is_read_no_faster_than_it_is_used() {
    let (daemon, port) = start();
    let open = |path: &str| {
        let stream = TcpStream::connect(port).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("set");
        let (socket, _) = tungstenite::client(format!("ws://{port}{path}"), stream).expect("opens");
        socket
    };
    let say = |message: Value| tungstenite::Message::text(message.to_string());
    let before = daemon.resident();
    let mut socket = open(EXECUTE);
    let start = json!({"type": "start", "request": {"code": "sleep 60"}});
    socket.send(say(start)).expect("sent");
    // The program reads nothing: at some time nothing more goes out.
    let stream = socket.get_ref().try_clone().expect("a second handle");
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .expect("set");
    let input = say(json!({"type": "stdin", "data": "x".repeat(1 << 20)}));
    let sent = (0..200)
        .take_while(|_| socket.send(input.clone()).is_ok())
        .count();
    assert!(sent < 200, "all of it was taken");
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    drop(socket);

    let mut socket = open("/api/v2/connect");
    let files = json!([{"content": "cat > /dev/null"}]);
    let init = json!({"type": "init", "language": "bash", "version": "*", "files": files});
    socket.send(say(init)).expect("sent");
    for _ in 0..5000 {
        socket
            .send(say(json!({"type": "unknown"})))
            .expect("ignored");
    }
    socket.send(say(json!({"type": "eof"}))).expect("sent");
    let mut code = None;
    while let Ok(message) = socket.read() {
        if let tungstenite::Message::Close(Some(frame)) = message {
            code = Some(u16::from(frame.code));
        }
    }
    assert_eq!(code, Some(4999));
    still_runs(&daemon);
}
