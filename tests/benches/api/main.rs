//! The figures of the API, each beside its anchor in the same run: a request that does nothing
//! against hyper's hello world, v2 against v3, a large submission against a small one, memory of
//! idle connections, and how long one request takes while others attack.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "../cache/hello.rs"]
mod hello;
#[path = "../cache/load.rs"]
mod load;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hello::Hello;
use load::{Connection, Times, rate};
use piston_tests::{Daemon, Who, free_port, packages};
use serde_json::{Value, json};

const VERSION: &[u8] = b"GET /api/v3/version HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Connections of the idle row.
const IDLE: usize = 10_000;

fn post(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

fn main() {
    hello::serve_if_asked();
    let arguments = std::env::args().skip(1);
    let parts: Vec<String> = arguments.filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|given| given == part);
    let port = free_port();
    let daemon = Daemon::start_with(Who::Root, "", &["--listen", &port.to_string()]);
    packages::install(&daemon, &["bash"]);
    if wanted("version") {
        version(&daemon);
    }
    if wanted("v2") {
        v2(&daemon);
    }
    if wanted("large") {
        large(&daemon);
    }
    if wanted("idle") {
        idle(&daemon);
    }
    if wanted("canary") {
        canary(port);
    }
}

fn version(daemon: &Daemon) {
    let hello = Hello::start(daemon.folder());
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    let mut to_us = Connection::open(&daemon.socket());
    let mut to_them = Connection::open(hello.socket());
    for _ in 0..20 {
        for _ in 0..1000 {
            theirs.measure(|| to_them.exchange(hello::REQUEST).len());
        }
        for _ in 0..1000 {
            ours.measure(|| to_us.exchange(VERSION).len());
        }
    }
    println!("GET /version, one at a time");
    println!("  hyper's hello world  {}", theirs.show());
    println!("  /version             {}", ours.show());
    let (asked, hellos) = (vec![VERSION.to_vec()], vec![hello::REQUEST.to_vec()]);
    let time = Duration::from_millis(1500);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        theirs.push(rate(hello.socket(), &hellos, 16, time));
        ours.push(rate(&daemon.socket(), &asked, 16, time));
    }
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    println!("16 connections");
    println!("  hyper's hello world  {:8.0} a second", theirs[2]);
    println!("  /version             {:8.0} a second", ours[2]);
    println!(
        "  {:.2} of it (promised: at least 0.70)\n",
        ours[2] / theirs[2]
    );
}

fn v2(daemon: &Daemon) {
    let third = post("/api/v3/packages/bash/*/execute", &json!({"code": "true"}));
    let files = json!([{"content": "true"}]);
    let body = json!({"language": "bash", "version": "*", "files": files});
    let second = post("/api/v2/execute", &body);
    let mut connection = Connection::open(&daemon.socket());
    let (mut old, mut new) = (Times::default(), Times::default());
    for round in 0..600 {
        if round == 20 {
            (old, new) = (Times::default(), Times::default());
        }
        new.measure(|| connection.exchange(&third).len());
        old.measure(|| connection.exchange(&second).len());
    }
    println!("a job that does nothing");
    println!("  v3  {}", new.show());
    println!("  v2  {}", old.show());
    let over = (old.median() - new.median()) / 1000.0;
    println!("  v2 takes {over:.3} ms more at the median (promised: at most 0.2)\n");
}

/// A line as programs have them: of some length, and with what JSON has to escape.
const LINE: &str = "    printf(\"%d of %d\\n\", done, all);\n# ";

/// Answered from the cache, so that reading, checking and hashing it is all there is.
fn large(daemon: &Daemon) {
    let job = |size: usize| {
        let code = format!("echo hi\n# {}", LINE.repeat(size / LINE.len()));
        post(
            "/api/v3/packages/bash/*/execute",
            &json!({"code": code, "cache": "output"}),
        )
    };
    let (large, small) = (job(1 << 20), job(0));
    let mut connection = Connection::open(&daemon.socket());
    let (mut long, mut short) = (Times::default(), Times::default());
    for round in 0..300 {
        if round == 20 {
            (long, short) = (Times::default(), Times::default());
        }
        long.measure(|| connection.exchange(&large).len());
        short.measure(|| connection.exchange(&small).len());
    }
    println!("a submission of 1 MB, read, checked and answered from the cache");
    println!("  small  {}", short.show());
    println!("  1 MB   {}", long.show());
    let over = (long.median() - short.median()) / 1000.0;
    println!("  {over:.2} ms more at the median (promised: at most 5)\n");
}

fn idle(daemon: &Daemon) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("raised");
    let before = daemon.resident() >> 20;
    let open = |_| {
        let mut stream = UnixStream::connect(daemon.socket()).expect("connected");
        stream.write_all(VERSION).expect("sent");
        let read = stream.read(&mut [0; 4096]).expect("an answer");
        assert!(read > 0);
        stream
    };
    let connections: Vec<UnixStream> = (0..IDLE).map(open).collect();
    let after = daemon.resident() >> 20;
    println!(
        "{} connections, each idle after a request",
        connections.len()
    );
    println!(
        "  the daemon has {before} MiB before and {after} MiB with them (promised: under 200)\n"
    );
}

/// One request after the other over TCP, while others attack or not.
fn canary(port: SocketAddr) {
    let ask = |times: &mut Times, rounds: usize| {
        let mut stream = TcpStream::connect(port).expect("connected");
        stream.set_nodelay(true).expect("set");
        for _ in 0..rounds {
            times.measure(|| {
                stream.write_all(VERSION).expect("sent");
                assert!(stream.read(&mut [0; 4096]).expect("an answer") > 0);
            });
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let over = AtomicBool::new(false);
    let (mut quiet, mut attacked) = (Times::default(), Times::default());
    ask(&mut quiet, 1000);
    std::thread::scope(|scope| {
        scope.spawn(|| slowly(port, &over));
        for _ in 0..4 {
            scope.spawn(|| too_much(port, &over));
        }
        std::thread::sleep(Duration::from_millis(500));
        ask(&mut attacked, 3000);
        over.store(true, Ordering::Relaxed);
    });
    println!("GET /version over TCP");
    println!(
        "  quiet                                         {}",
        quiet.show()
    );
    println!(
        "  2000 slow heads and 4 senders of 20 MB bodies {}",
        attacked.show()
    );
    println!("  promised: p99 under 50 ms\n");
}

/// Heads that come byte by byte and never end.
fn slowly(port: SocketAddr, over: &AtomicBool) {
    let connect = || TcpStream::connect(port).expect("connected");
    let mut crowd: Vec<TcpStream> = (0..2000).map(|_| connect()).collect();
    while !over.load(Ordering::Relaxed) {
        for stream in &mut crowd {
            // Who was hung up on comes again.
            if stream.write_all(b"G").is_err() {
                *stream = connect();
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Bodies over the bound, one after the other.
fn too_much(port: SocketAddr, over: &AtomicBool) {
    let head = b"POST /api/v3/packages/bash/*/execute HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 1 << 16], b"\r\n".to_vec()].concat();
    while !over.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(port).expect("connected");
        stream.write_all(head).expect("sent");
        for _ in 0..320 {
            // The daemon may have had enough.
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
    }
}
