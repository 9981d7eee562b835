//! The figures of the cache, each beside its anchor in the same run: output hits against hyper's
//! hello world, binary hits against misses and against jobs without a compile stage, misses against
//! misses with a slow disk, a million entries against a thousand.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod hello;
mod load;
mod million;

use std::process::Command;
use std::time::Duration;

use hello::Hello;
use load::{Connection, Times, rate};
use piston_tests::{Daemon, Who, packages};
use serde_json::{Value, json};

/// Entries that the load is spread over.
const ENTRIES: usize = 10_000;

fn request(package: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST /api/v3/packages/{package}/*/execute HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn output(number: usize) -> Vec<u8> {
    request(
        "bash",
        &json!({"code": format!("echo {number}"), "cache": "output"}),
    )
}

fn has(reply: &[u8], text: &str) -> bool {
    reply
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn main() {
    hello::serve_if_asked();
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|given| given == part);
    let daemon = Daemon::start(Who::Root);
    packages::install(&daemon, &["bash", "gcc"]);
    let hello = Hello::start(daemon.folder());
    if wanted("latency") {
        latency(&daemon, &hello);
    }
    if wanted("rate") {
        throughput(&daemon, &hello);
    }
    if wanted("binary") {
        binary(&daemon);
    }
    if wanted("blocked") {
        blocked(&daemon);
    }
    drop((hello, daemon));
    if wanted("million") {
        million::million();
    }
}

fn latency(daemon: &Daemon, hello: &Hello) {
    let mut ours = Connection::open(&daemon.socket());
    let mut theirs = Connection::open(hello.socket());
    let hit = output(0);
    ours.exchange(&hit);
    let (mut hits, mut hellos) = (Times::default(), Times::default());
    for round in 0..20 {
        for _ in 0..1000 {
            let reply = hits.measure(|| ours.exchange(&hit).len());
            assert!(reply > 0);
        }
        for _ in 0..1000 {
            hellos.measure(|| theirs.exchange(hello::REQUEST).len());
        }
        if round == 0 {
            (hits, hellos) = (Times::default(), Times::default());
        }
    }
    assert!(has(ours.exchange(&hit), "\"cache\":\"output\""));
    println!("one at a time");
    println!("  hyper's hello world  {}", hellos.show());
    println!("  output hit           {}", hits.show());
    println!("  promised: output hit p50 at most 30 us\n");
}

fn throughput(daemon: &Daemon, hello: &Hello) {
    let requests: Vec<Vec<u8>> = (0..ENTRIES).map(output).collect();
    let connections = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for part in requests.chunks(ENTRIES.div_ceil(connections)) {
            let socket = daemon.socket();
            scope.spawn(move || {
                let mut connection = Connection::open(&socket);
                for request in part {
                    connection.exchange(request);
                }
            });
        }
    });
    let hellos = vec![hello::REQUEST.to_vec()];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let time = Duration::from_millis(1500);
    for _ in 0..4 {
        theirs.push(rate(hello.socket(), &hellos, 16, time));
        ours.push(rate(&daemon.socket(), &requests, 16, time));
    }
    let middle = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        f64::midpoint(rates[1], rates[2])
    };
    let (ours, theirs) = (middle(&mut ours), middle(&mut theirs));
    println!("16 connections, {ENTRIES} entries");
    println!("  hyper's hello world  {theirs:8.0} a second");
    println!(
        "  output hits          {ours:8.0} a second, {:.0} %",
        100.0 * ours / theirs
    );
    println!("  promised: at least 50 %, and 40000 a second on 2 cores\n");
}

fn binary(daemon: &Daemon) {
    let source = "#include <iostream>\nint main() { std::cout << \"hello\\n\"; }\n";
    let files = json!([{"name": "main.cpp", "content": source}]);
    let job = |number: usize| {
        let env = json!({"N": number.to_string()});
        request(
            "gcc",
            &json!({"language": "c++", "files": files, "env": env}),
        )
    };
    let built = daemon.execute(
        "gcc",
        &json!({
            "language": "c++", "files": files, "outputs": ["a.out"],
        }),
    );
    install_prebuilt(daemon);
    let program =
        json!([{"name": "a.out", "content": built["files"][0]["content"], "encoding": "base64"}]);
    let plain_job = request("prebuilt", &json!({"files": program}));
    let mut connection = Connection::open(&daemon.socket());
    let (mut misses, mut hits, mut plain) = (Times::default(), Times::default(), Times::default());
    for number in 0..9 {
        let reply = misses.measure(|| show(connection.exchange(&job(number))));
        assert!(reply.contains("\"cache\":\"miss\""), "{reply}");
    }
    for round in 0..420 {
        if round == 20 {
            (hits, plain) = (Times::default(), Times::default());
        }
        let reply = hits.measure(|| show(connection.exchange(&job(0))));
        assert!(
            reply.contains("\"cache\":\"binary\"") && reply.contains("hello"),
            "{reply}"
        );
        let reply = plain.measure(|| show(connection.exchange(&plain_job)));
        assert!(reply.contains("hello"), "{reply}");
    }
    println!("C++ hello");
    println!("  miss                              {}", misses.show());
    println!("  binary hit                        {}", hits.show());
    println!("  handed in built, no compile stage {}", plain.show());
    println!(
        "  a hit is {:.0} times faster (promised: 30), {:.0} us over no compile stage (promised: 300)\n",
        misses.median() / hits.median(),
        hits.median() - plain.median()
    );
}

fn show(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).into_owned()
}

/// The gcc package without its compiling, for programs that come built. They come without
/// permission to be executed, so the loader starts them.
fn install_prebuilt(daemon: &Daemon) {
    let folder = daemon.folder().join("prebuilt");
    std::fs::create_dir(&folder).expect("folder");
    let tar = |arguments: &[&std::ffi::OsStr]| {
        let done = Command::new("tar")
            .args(arguments)
            .current_dir(&folder)
            .status();
        assert!(done.is_ok_and(|status| status.success()));
    };
    tar(&["xzf".as_ref(), packages::file("gcc").as_os_str()]);
    let info = folder.join("pkg-info.json");
    let text = std::fs::read(&info).expect("metadata");
    let mut known: Value = serde_json::from_slice(&text).expect("JSON");
    let fields = known.as_object_mut().expect("an object");
    fields.remove("provides");
    fields.remove("artifacts");
    fields.insert("language".to_owned(), json!("prebuilt"));
    let loader = "/lib64/ld-linux-x86-64.so.2";
    fields.insert(
        "run".to_owned(),
        json!({"command": [loader, "/piston/job/{main}"]}),
    );
    std::fs::write(&info, known.to_string()).expect("metadata");
    std::fs::remove_file(folder.join("compile")).expect("no compile");
    let file = daemon.folder().join("prebuilt.pkg.tar.gz");
    tar(&[
        "czf".as_ref(),
        file.as_os_str(),
        "pkg-info.json".as_ref(),
        "package.squashfs".as_ref(),
    ]);
    let reply = daemon.upload(&file);
    assert_eq!(reply.status, 201, "{}", show(&reply.body));
}

/// Misses are answered before they are written: a slower disk changes nothing.
fn blocked(daemon: &Daemon) {
    let mut connection = Connection::open(&daemon.socket());
    let mut number = 1_000_000;
    let mut misses = |times: &mut Times| {
        for _ in 0..100 {
            number += 1;
            times.measure(|| connection.exchange(&output(number)).len());
        }
    };
    let (mut free, mut slow) = (Times::default(), Times::default());
    for _ in 0..3 {
        misses(&mut free);
        let mut tracer = slow_down(daemon);
        misses(&mut slow);
        tracer.kill().expect("killed");
        tracer.wait().expect("dead");
    }
    println!("misses of bash, kept as whole results");
    println!("  disk as it is             {}", free.show());
    println!("  each commit 50 ms longer  {}", slow.show());
    println!(
        "  ratio of the medians: {:.2} (promised: about 1)\n",
        slow.median() / free.median()
    );
}

/// Makes the thread that writes the cache wait at each commit.
fn slow_down(daemon: &Daemon) -> std::process::Child {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("tasks");
    let writer = tasks.map(|task| task.expect("a task").path()).find(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "cache-writer\n")
    });
    let writer = writer.expect("a writer");
    let tracer = Command::new("strace")
        .args([
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=fdatasync:delay_enter=50000",
            "-p",
        ])
        .arg(writer.file_name().expect("a number"))
        .spawn()
        .expect("strace");
    let is_traced = || {
        let status = std::fs::read_to_string(writer.join("status")).expect("status");
        !status.contains("TracerPid:\t0\n")
    };
    while !is_traced() {
        std::thread::yield_now();
    }
    tracer
}
