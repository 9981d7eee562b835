//! The figures of the first job, measured in alternation in one run: a warm Python start inside
//! the view against a plain directory, and a bash job through the API against a bare spawn.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use piston_tests::{Daemon, Who, packages};

/// Times of one subject, in the order measured.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn measure(&mut self, action: impl FnOnce()) {
        let start = Instant::now();
        action();
        self.0.push(start.elapsed());
    }

    /// The value below which `percent` of the times lie, in microseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e6
    }

    fn report(&self, name: &str) {
        let [p10, p50, p90] = [10, 50, 90].map(|percent| self.percentile(percent));
        println!("{name:<44} p10 {p10:8.0} us   p50 {p50:8.0} us   p90 {p90:8.0} us");
    }
}

fn chroot(root: &Path, program: &[&str]) {
    let status = Command::new("/usr/sbin/chroot")
        .arg(root)
        .args(program)
        .env_clear()
        .stdout(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{program:?} in {}",
        root.display()
    );
}

/// The only folder in a folder.
fn only(folder: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder).expect("a folder");
    entries.next().expect("an entry").expect("an entry").path()
}

/// Sends `request` over a connection that stays open and reads one reply of known length.
fn exchange(stream: &mut UnixStream, request: &[u8]) {
    stream.write_all(request).expect("send");
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).expect("receive");
        assert!(count > 0, "closed");
        answer.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).expect("a length");
        let length: usize = length
            .lines()
            .next()
            .expect("a line")
            .parse()
            .expect("a number");
        if body.len() >= length {
            assert!(body.contains("\"stdout\":\"hi\\n\""), "{text}");
            return;
        }
    }
}

fn main() {
    let rounds: usize = std::env::var("PISTON_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200);
    let daemon = Daemon::start(Who::Root);
    packages::install(&daemon, &["bash", "python"]);
    let view = only(&daemon.mount().join("views/python"));
    let plain = daemon.folder().join("plain");
    let copied = Command::new("cp").arg("-a").args([&view, &plain]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "copying the view"
    );

    let python = ["/usr/bin/python3.11", "-c", "pass"];
    let program = if plain.join("usr/bin/python3.11").exists() {
        python
    } else {
        ["/usr/bin/python3", "-c", "pass"]
    };
    let (mut inside, mut outside) = (Times::default(), Times::default());
    for round in 0..rounds / 4 + 5 {
        if round == 5 {
            (inside, outside) = (Times::default(), Times::default());
        }
        inside.measure(|| chroot(&view, &program));
        outside.measure(|| chroot(&plain, &program));
    }
    println!("python3 -c pass, {} rounds", inside.0.len());
    inside.report("  in the view");
    outside.report("  in a plain directory");
    println!(
        "  ratio of the medians: {:.3} (promised: at most 1.10)\n",
        inside.percentile(50) / outside.percentile(50)
    );

    let body = "{\"code\": \"echo hi\"}";
    let request = format!(
        "POST /api/v3/packages/bash/*/execute HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let script = daemon.folder().join("hi.sh");
    std::fs::write(&script, "echo hi").expect("script");
    let mut stream = UnixStream::connect(daemon.socket()).expect("connect");
    let (mut job, mut bare) = (Times::default(), Times::default());
    for round in 0..rounds + 10 {
        if round == 10 {
            (job, bare) = (Times::default(), Times::default());
        }
        job.measure(|| exchange(&mut stream, request.as_bytes()));
        bare.measure(|| {
            let output = Command::new("/bin/bash")
                .arg(&script)
                .env_clear()
                .output()
                .expect("bash");
            assert_eq!(output.stdout, b"hi\n");
        });
    }
    println!("echo hi in bash, {rounds} rounds");
    job.report("  job through the API");
    bare.report("  bare spawn");
    println!(
        "  overhead at the median: {:.2} ms (promised: at most 5)",
        (job.percentile(50) - bare.percentile(50)) / 1000.0
    );
}
