//! What a network sees of the daemon: tokens, rates, jobs at once, origins, proxies, slow clients.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use piston_tests::http::{self, Address, Reply};
use piston_tests::{Daemon, Who, free_port, packages, wait_until};
use serde_json::{Value, json};

const EXECUTE: &str = "/api/v3/packages/bash/*/execute";

/// A daemon with a further listener on TCP, of which `settings` are lines.
fn with_listener(http: &str, settings: &str) -> (Daemon, SocketAddr) {
    let port = free_port();
    let listener = format!("[[http.listeners]]\naddress = \"{port}\"\n{settings}\n");
    let limits = "[limits.run]\nwall_time = \"1m\"\n";
    let config = format!("[http]\n{http}\n{listener}{limits}");
    (Daemon::start_with(Who::User, &config, &[]), port)
}

/// A token's id and secret, made by the command line.
fn token(daemon: &Daemon, flags: &[&str]) -> (String, String) {
    let made = daemon.cli(&[&["--json", "token", "create"], flags].concat(), b"");
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let text = |field: &str| made[field].as_str().expect(field).to_owned();
    (text("id"), text("secret"))
}

fn bearer(secret: &str) -> String {
    format!("Authorization: Bearer {secret}")
}

fn ask(port: SocketAddr, line: (&str, &str), headers: &[&str], body: &Value) -> Reply {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    http::request(
        &Address::Tcp(port),
        line.0,
        line.1,
        headers,
        body.as_bytes(),
    )
}

fn get(port: SocketAddr, path: &str, headers: &[&str]) -> Reply {
    ask(port, ("GET", path), headers, &Value::Null)
}

fn code(reply: &Reply) -> (u16, String) {
    let body = reply.json();
    (
        reply.status,
        body["code"].as_str().unwrap_or_default().to_owned(),
    )
}

#[test]
fn a_listener_with_tokens_lets_in_who_holds_one_until_it_is_revoked() {
    let (mut daemon, port) = with_listener("", "role = \"admin\"\ntokens = true");
    packages::install(&daemon, &["bash"]);
    let (id, runs) = token(&daemon, &["--name", "judge"]);
    let (_, manages) = token(&daemon, &["--role", "admin"]);
    let (runs, manages) = (bearer(&runs), bearer(&manages));

    for headers in [
        &[][..],
        &["Authorization: Bearer pst_1_2"],
        &["Authorization: key"],
    ] {
        let reply = get(port, "/api/v3/runtimes", headers);
        assert_eq!(code(&reply), (401, "unauthorized".to_owned()));
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        let reply = get(port, "/api/v2/runtimes", headers);
        assert_eq!(reply.status, 401);
        assert!(reply.json()["message"].is_string());
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(port, path, &[]).status, 200, "{path}");
    }
    // A body that nobody reads does not keep the answer from its client.
    let large = json!({"code": "x".repeat(12 << 20)});
    assert_eq!(ask(port, ("POST", EXECUTE), &[], &large).status, 401);

    let hello = json!({"code": "echo hello"});
    let reply = ask(port, ("POST", EXECUTE), &[&runs], &hello);
    assert_eq!(reply.json()["run"]["stdout"], "hello\n");
    let v2 = json!({"language": "bash", "version": "*", "files": [{"content": "echo v2"}]});
    let bare = runs.replace("Bearer ", "");
    let reply = ask(port, ("POST", "/api/v2/execute"), &[&bare], &v2);
    assert_eq!(reply.json()["run"]["stdout"], "v2\n");
    for path in ["/api/v3/packages", "/api/v3/tokens", "/metrics"] {
        assert_eq!(
            code(&get(port, path, &[&runs])),
            (403, "forbidden".to_owned())
        );
        assert_eq!(get(port, path, &[&manages]).status, 200, "{path}");
    }

    daemon.stop(nix::sys::signal::Signal::SIGTERM);
    daemon.restart();
    assert_eq!(get(port, "/api/v3/runtimes", &[&runs]).status, 200);
    let listed = daemon.cli(&["token", "list"], b"");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(&id) && listed.contains("judge"), "{listed}");
    let revoked = daemon.cli(&["token", "revoke", &id], b"");
    assert!(revoked.status.success(), "{revoked:?}");
    assert_eq!(get(port, "/api/v3/runtimes", &[&runs]).status, 401);
    assert_eq!(get(port, "/api/v3/runtimes", &[&manages]).status, 200);
    let again = daemon.cli(&["token", "revoke", &id], b"");
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && text.contains("no token"),
        "{text}"
    );
}

#[test]
fn a_listeners_role_bounds_that_of_a_token() {
    let (daemon, port) = with_listener("", "tokens = true");
    let (_, manages) = token(&daemon, &["--role", "admin"]);
    let manages = bearer(&manages);
    assert_eq!(get(port, "/api/v3/runtimes", &[&manages]).status, 200);
    assert_eq!(code(&get(port, "/api/v3/packages", &[&manages])).0, 403);
}

#[test]
fn the_command_line_takes_its_token_from_the_environment() {
    let (daemon, port) = with_listener("", "tokens = true");
    packages::install(&daemon, &["bash"]);
    let (_, secret) = token(&daemon, &[]);
    let status = |token: Option<&str>| {
        let mut command = daemon.who().command(&piston_tests::binary("piston"));
        command.env("PISTON_HOST", format!("http://{port}"));
        if let Some(token) = token {
            command.env("PISTON_TOKEN", token);
        }
        let file = daemon.folder().join("hello.sh");
        std::fs::write(&file, "echo hello").expect("a file");
        command
            .args(["run", "bash"])
            .arg(file)
            .stdin(std::process::Stdio::null());
        command.output().expect("piston")
    };
    assert_eq!(status(Some(&secret)).stdout, b"hello\n");
    let refused = status(None);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        text.contains("PISTON_TOKEN") && refused.stdout.is_empty(),
        "{text}"
    );
}

#[test]
fn a_rate_is_told_in_headers_and_what_is_over_it_is_refused() {
    let (daemon, port) = with_listener("", "tokens = true");
    let (_, first) = token(&daemon, &["--rate", "3/h"]);
    let (_, second) = token(&daemon, &["--rate", "3/h"]);
    let (first, second) = (bearer(&first), bearer(&second));
    for remaining in ["2", "1", "0"] {
        let reply = get(port, "/api/v3/version", &[&first]);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("ratelimit-limit"), Some("3"));
        assert_eq!(reply.header("ratelimit-remaining"), Some(remaining));
        assert_eq!(reply.header("ratelimit-policy"), Some("3;w=3600"));
    }
    let refused = get(port, "/api/v3/version", &[&first]);
    assert_eq!(code(&refused), (429, "rate_limited".to_owned()));
    let after = refused.header("retry-after").map(str::parse::<u64>);
    assert!(matches!(after, Some(Ok(1..=1200))), "{after:?}");
    let refused = get(port, "/api/v2/runtimes", &[&first]);
    assert_eq!(refused.status, 429);
    assert!(refused.json()["message"].is_string());
    assert_eq!(get(port, "/api/v3/version", &[&second]).status, 200);
    // Those who watch cost nothing, nor does the operator's own socket.
    for _ in 0..4 {
        assert_eq!(get(port, "/healthz", &[&first]).status, 200);
    }
    assert_eq!(
        daemon.get("/api/v3/version").header("ratelimit-limit"),
        None
    );
}

#[test]
fn jobs_at_once_are_bounded_and_seen_by_their_own_token_alone() {
    let (daemon, port) = with_listener("", "tokens = true");
    packages::install(&daemon, &["bash"]);
    let (id, first) = token(&daemon, &["--concurrency", "1"]);
    let (_, second) = token(&daemon, &[]);
    let (first, second) = (bearer(&first), bearer(&second));
    let long = json!({"code": "sleep 60"});
    let body = long.to_string();
    let headers = [&*first, "Accept: application/x-ndjson"];
    let address = Address::Tcp(port);
    let running = http::begin(&address, "POST", EXECUTE, &headers, body.as_bytes());
    let jobs = |token: &str| get(port, "/api/v3/jobs", &[token]).json();
    wait_until("the job is listed", || jobs(&first)[0]["id"].is_string());
    let job = jobs(&first)[0].clone();
    assert_eq!(job["requester"], format!("token {id}"));
    let path = format!("/api/v3/jobs/{}", job["id"].as_str().expect("an id"));

    let refused = ask(port, ("POST", EXECUTE), &[&first], &long);
    assert_eq!(code(&refused), (429, "quota_exceeded".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let v2 = json!({"language": "bash", "version": "*", "files": [{"content": ""}]});
    let refused = ask(port, ("POST", "/api/v2/execute"), &[&first], &v2);
    assert_eq!(refused.status, 429);

    assert_eq!(jobs(&second), json!([]));
    for method in ["GET", "DELETE"] {
        let none = ask(port, (method, &path), &[&second], &Value::Null);
        assert_eq!(code(&none), (404, "not_found".to_owned()), "{method}");
    }
    let killed = ask(port, ("DELETE", &path), &[&first], &Value::Null);
    assert_eq!(killed.status, 204);
    wait_until("the place is free", || {
        let hello = json!({"code": "echo hello"});
        ask(port, ("POST", EXECUTE), &[&first], &hello).status == 200
    });
    drop(running);
}

#[test]
fn clients_without_tokens_are_told_apart_by_address_and_believed_nothing() {
    let settings = "rate = \"2/h\"\nconcurrency = 1";
    let (_daemon, port) = with_listener("", settings);
    let from = |client: &str| {
        let header = format!("X-Forwarded-For: {client}");
        get(port, "/api/v3/version", &[&header]).status
    };
    assert_eq!(
        [from("192.0.2.1"), from("192.0.2.2"), from("192.0.2.3")],
        [200, 200, 429]
    );

    let proxies = "trusted_proxies = [\"127.0.0.1\", \"unix\"]";
    let (daemon, port) = with_listener(proxies, settings);
    let from = |client: &str| {
        let header = format!("X-Forwarded-For: {client}");
        get(port, "/api/v3/version", &[&header]).status
    };
    let twice = [from("192.0.2.1"), from("192.0.2.1")];
    assert_eq!([twice[0], twice[1], from("192.0.2.1")], [200, 200, 429]);
    assert_eq!(from("192.0.2.2"), 200);
    // What a client says of itself comes before what the proxy says of it.
    assert_eq!(from("192.0.2.9, 192.0.2.1"), 429);
    // The operator's socket is nobody's proxy.
    let headers = ["X-Forwarded-For: 192.0.2.1", "Host: evil.example"];
    let own = http::request(&daemon.address(), "GET", "/api/v3/packages", &headers, b"");
    assert_eq!(own.status, 200);
}

#[test]
fn a_unix_socket_for_others_only_executes_and_is_a_proxys_where_it_is_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    Who::User.own(folder.path());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).expect("mode");
    let socket = folder.path().join("web.sock");
    let listener = format!(
        "[[http.listeners]]\naddress = \"{}\"\nsocket_mode = \"0666\"\n",
        socket.display()
    );
    let ask = |headers: &[&str], path: &str| {
        http::request(&Address::Unix(socket.clone()), "GET", path, headers, b"").status
    };
    let foreign = ["Host: evil.example"];
    let daemon = Daemon::start_with(Who::User, &listener, &[]);
    assert_eq!(
        (ask(&[], "/api/v3/version"), ask(&[], "/api/v3/packages")),
        (200, 403)
    );
    assert_eq!(ask(&foreign, "/api/v3/version"), 200);
    drop(daemon);
    let config =
        format!("[http]\ntrusted_proxies = [\"unix\"]\nhosts = [\"piston.example\"]\n{listener}");
    let _daemon = Daemon::start_with(Who::User, &config, &[]);
    assert_eq!(ask(&foreign, "/api/v3/version"), 403);
    assert_eq!(ask(&["Host: piston.example"], "/api/v3/version"), 200);
}

#[test]
fn pages_of_other_origins_are_let_in_by_the_operator_alone() {
    let allowed = "cors_origins = [\"https://school.example\"]";
    let (daemon, port) = with_listener(allowed, "tokens = true");
    packages::install(&daemon, &["bash"]);
    let (_, secret) = token(&daemon, &[]);
    let secret = bearer(&secret);
    let preflight = |origin: &str| {
        let headers = [
            &*format!("Origin: {origin}"),
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,content-type",
        ];
        ask(port, ("OPTIONS", EXECUTE), &headers, &Value::Null)
    };
    let reply = preflight("https://school.example");
    let allow = |reply: &Reply| {
        let value = reply.header("access-control-allow-origin");
        value.map(str::to_owned)
    };
    assert_eq!(reply.status, 200);
    assert_eq!(allow(&reply).as_deref(), Some("https://school.example"));
    let headers = reply
        .header("access-control-allow-headers")
        .unwrap_or_default();
    assert!(headers.contains("authorization"), "{headers}");
    assert_eq!(allow(&preflight("https://evil.example")), None);

    let hello = json!({"code": "echo hello"});
    let from = |origin: &str| {
        let origin = format!("Origin: {origin}");
        ask(port, ("POST", EXECUTE), &[&origin, &secret], &hello)
    };
    let reply = from("https://school.example");
    assert_eq!(reply.json()["run"]["stdout"], "hello\n");
    assert!(allow(&reply).is_some());
    // The page gets to see why it was refused, too.
    let reply = ask(
        port,
        ("POST", EXECUTE),
        &["Origin: https://school.example"],
        &hello,
    );
    assert_eq!((reply.status, allow(&reply).is_some()), (401, true));
    assert_eq!(
        code(&from("https://evil.example")),
        (403, "forbidden".to_owned())
    );
    let own = format!("http://localhost:{}", port.port());
    let host = format!("Host: localhost:{}", port.port());
    let origin = format!("Origin: {own}");
    let reply = ask(port, ("POST", EXECUTE), &[&origin, &host, &secret], &hello);
    assert_eq!(reply.status, 200);
    // Without an allowed origin no browser is told anything.
    let (_other, port) = with_listener("", "");
    let reply = get(port, "/api/v3/version", &["Origin: https://school.example"]);
    assert_eq!((reply.status, allow(&reply)), (200, None));
}

#[test]
fn who_calls_the_daemon_by_another_name_is_told_where_names_are_set() {
    let (_daemon, port) = with_listener("hosts = [\"piston.example\"]", "");
    let named = |name: &str| {
        let host = format!("Host: {name}:{}", port.port());
        code(&get(port, "/api/v3/runtimes", &[&host]))
    };
    for name in ["other.example", "piston.example.evil"] {
        assert_eq!(named(name), (403, "host_not_known".to_owned()), "{name}");
    }
    let host = format!("Host: piston.example:{}", port.port());
    assert_eq!(get(port, "/api/v3/runtimes", &[&host]).status, 200);
}

#[test]
fn a_prefix_may_stand_before_every_path() {
    let (daemon, port) = with_listener("prefix = \"/code\"", "");
    packages::install(&daemon, &["bash"]);
    for path in [
        "/code/api/v3/version",
        "/api/v3/version",
        "/code/api/v2/runtimes",
        "/code/",
    ] {
        assert_eq!(get(port, path, &[]).status, 200, "{path}");
    }
    assert_eq!(get(port, "/codex/api/v3/version", &[]).status, 404);
    // Which API was spoken to decides what an error looks like, whatever stands before it.
    let reply = get(port, "/code/api/v2/nothing", &[]);
    assert_eq!(reply.json(), json!({"message": "Not Found"}));
    assert_eq!(
        get(port, "/code/api/v3/packages", &[]).json()["code"],
        "forbidden"
    );
}

/// What comes back on a connection until the other side closes it.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    drop(stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn who_begins_a_head_and_does_not_end_it_is_hung_up_on_and_who_says_nothing_may_stay() {
    let http = "header_timeout = \"1s\"\nidle_timeout = \"1h\"\nmax_head = \"8K\"";
    let (_daemon, port) = with_listener(http, "");
    let connect = || {
        let stream = TcpStream::connect(port).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("set");
        stream
    };
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = |stream: &mut TcpStream| {
        stream.write_all(request).expect("sent");
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).expect("an answer");
        String::from_utf8_lossy(&head[..read]).into_owned()
    };
    let mut idle = connect();
    assert!(answer(&mut idle).starts_with("HTTP/1.1 200"));
    let mut slow = connect();
    assert!(answer(&mut slow).starts_with("HTTP/1.1 200"));
    slow.write_all(b"GET / HTTP/1.1\r\nHo").expect("sent");
    assert_eq!(rest(&mut slow), "");
    let mut silent = connect();
    assert_eq!(
        rest(&mut silent),
        "",
        "whoever connects has something to say"
    );
    assert!(
        answer(&mut idle).starts_with("HTTP/1.1 200"),
        "it was idle for longer"
    );
    let mut large = connect();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(9000)
    );
    large.write_all(head.as_bytes()).expect("sent");
    let refused = rest(&mut large);
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
}

#[test]
fn a_crowd_on_one_listener_leaves_room_on_the_operators() {
    let (daemon, port) = with_listener("max_connections = 4", "");
    let _crowd: Vec<_> = (0..8)
        .map(|_| TcpStream::connect(port).expect("queued"))
        .collect();
    assert_eq!(daemon.get("/api/v3/version").status, 200);
}

#[test]
fn a_browsers_websocket_carries_its_token_as_a_subprotocol() {
    let (daemon, port) = with_listener("", "tokens = true");
    packages::install(&daemon, &["bash"]);
    let (_, secret) = token(&daemon, &[]);
    let open = |protocols: &str| {
        let stream = TcpStream::connect(port).expect("a connection");
        let request = tungstenite::http::Request::builder()
            .uri(format!("ws://{port}{EXECUTE}"))
            .header("Host", port.to_string())
            .header("Origin", format!("http://{port}"))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Sec-WebSocket-Protocol", protocols)
            .body(())
            .expect("a request");
        tungstenite::client(request, stream).map_err(|error| error.to_string())
    };
    let (mut socket, reply) = open(&format!("piston, piston.token.{secret}")).expect("let in");
    assert_eq!(reply.headers()["sec-websocket-protocol"], "piston");
    let start = json!({"type": "start", "request": {"code": "echo hello"}});
    socket
        .send(tungstenite::Message::text(start.to_string()))
        .expect("sent");
    let mut heard = String::new();
    while let Ok(tungstenite::Message::Text(text)) = socket.read() {
        heard.push_str(&text);
    }
    assert!(heard.contains("hello"), "{heard}");
    let refused = open("piston, piston.token.pst_0000000000000000_0").expect_err("refused");
    assert!(refused.contains("401"), "{refused}");
}
