//! The cache on disks that fill up, and under a daemon that is killed at every step of a write.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use piston_tests::{Daemon, Who, http, packages, require};
use serde_json::{Value, json};

/// Kills of each of the four daemons.
const KILLS: usize = 50;

/// A job whose result is a row of the database, and one whose result is a file.
fn jobs(round: usize) -> [(Value, String); 2] {
    let large = format!("printf '{round}%.0s' {{1..40000}}");
    [
        (
            json!({"code": format!("echo {round}"), "cache": "output"}),
            format!("{round}\n"),
        ),
        (
            json!({"code": large, "cache": "output"}),
            round.to_string().repeat(40_000),
        ),
    ]
}

fn run(daemon: &Daemon, body: &Value) -> io::Result<Value> {
    let body = body.to_string();
    let head = "POST /api/v3/packages/bash/*/execute HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\nConnection: close\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let reply = http::raw(&daemon.address(), request.as_bytes())?;
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    Ok(reply.json())
}

fn check(daemon: &Daemon, round: usize) {
    for (body, expected) in jobs(round) {
        let reply = run(daemon, &body).expect("a reply");
        assert!(
            reply["run"]["stdout"] == expected.as_str(),
            "round {round}: {reply}"
        );
    }
}

/// Purges one package, which returns when everything that was kept so far, of whatever package, is
/// on the disk.
fn purge(daemon: &Daemon, package: &str) -> io::Result<()> {
    let file = packages::file(package);
    let name = file.file_name().expect("a name").to_string_lossy();
    let version = name
        .strip_prefix(package)
        .and_then(|rest| rest.split(".pkg").next());
    let version = version
        .expect("NAME-VERSION.pkg.tar.gz")
        .trim_start_matches('-');
    let request = format!(
        "DELETE /api/v3/packages/{package}/{version}/cache HTTP/1.1\r\nHost: localhost\r\n\
         Connection: close\r\n\r\n"
    );
    let reply = http::raw(&daemon.address(), request.as_bytes())?;
    assert_eq!(reply.status, 200);
    Ok(())
}

/// The thread that writes the cache.
fn writer(pid: Pid) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("tasks");
    let named = |task: &String| {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{task}/comm"));
        name.is_ok_and(|name| name == "cache-writer\n")
    };
    let mut tasks = tasks.map(|task| {
        task.expect("a task")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    tasks.find(named).expect("a writer")
}

/// Kills the daemon at the n-th system call with which its writer changes something.
fn kill_at(daemon: &Daemon, number: usize) -> Child {
    let pid = daemon.pid();
    let task = writer(pid);
    let child = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-p", &task, "-e"])
        .arg(format!(
            "inject=pwrite64,fdatasync,ftruncate,fallocate,openat,write,rename,unlink:\
             signal=SIGKILL:when={number}"
        ))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace");
    let status = format!("/proc/{pid}/task/{task}/status");
    let is_traced = || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("TracerPid:"));
        line.is_some_and(|line| !line.ends_with("\t0"))
    };
    while !is_traced() {
        std::thread::yield_now();
    }
    child
}

/// What the daemon is killed at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Keeping a small and a large entry.
    Keep,
    /// The same, and purging all of them.
    KeepAndPurge,
}

fn killed_at_every_step(who: Who, work: Work) {
    if !require::root() {
        return;
    }
    let mut daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let flushed = match work {
        Work::Keep => "base",
        Work::KeepAndPurge => "bash",
    };
    let (mut kills, mut number, mut round) = (0, 0, 0);
    while kills < KILLS {
        (number, round) = (number + 1, round + 1);
        let mut tracer = kill_at(&daemon, number);
        let work = || {
            for (body, expected) in jobs(round) {
                assert!(run(&daemon, &body)?["run"]["stdout"] == expected.as_str());
            }
            purge(&daemon, flushed)
        };
        match work() {
            Err(_) => kills += 1,
            // That was more calls than a round makes.
            Ok(()) => number = 0,
        }
        daemon.stop(Signal::SIGKILL);
        tracer.wait().expect("strace ends");
        daemon.restart();
        check(&daemon, round);
        check(&daemon, round.saturating_sub(number / 2));
        let usage = daemon.get("/api/v3/cache").json();
        assert_eq!(usage["set_aside"], 0, "call {number}: {usage}");
        assert_eq!(usage["damaged"], 0, "call {number}: {usage}");
    }
    assert!(round > kills, "the steps were not gone through to the last");
}

#[test]
fn a_root_daemon_killed_at_every_step_of_a_cache_write_never_answers_wrongly() {
    killed_at_every_step(Who::Root, Work::Keep);
}

#[test]
fn a_root_daemon_killed_at_every_step_of_a_purge_never_answers_wrongly() {
    killed_at_every_step(Who::Root, Work::KeepAndPurge);
}

#[test]
fn a_users_daemon_killed_at_every_step_of_a_cache_write_never_answers_wrongly() {
    killed_at_every_step(Who::User, Work::Keep);
}

#[test]
fn a_users_daemon_killed_at_every_step_of_a_purge_never_answers_wrongly() {
    killed_at_every_step(Who::User, Work::KeepAndPurge);
}

/// A tmpfs over a folder, gone with this.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn over(folder: &'a Path) -> Self {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=200m", "tmpfs"])
            .arg(folder)
            .status();
        assert!(done.is_ok_and(|status| status.success()));
        Self(folder)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

/// Takes all space of a file system but so many bytes.
fn fill(folder: &Path, left: u64) {
    let file = folder.join("filler");
    drop(fs::remove_file(&file));
    let free = nix::sys::statvfs::statvfs(folder).expect("statvfs");
    let free = free.blocks_available() * free.fragment_size();
    fs::write(
        &file,
        vec![1; usize::try_from(free.saturating_sub(left)).expect("fits")],
    )
    .expect("filled");
}

#[test]
fn a_full_disk_costs_entries_and_no_job() {
    if !require::root() {
        return;
    }
    let mut daemon = Daemon::start(Who::Root);
    daemon.stop(Signal::SIGTERM);
    let data = daemon.data();
    let tmpfs = Tmpfs::over(&data);
    daemon.restart();
    packages::install(&daemon, &["bash"]);
    let mut troubles = 0;
    // From nothing left to enough for a row and not for a file.
    for (step, left) in [0, 4, 16, 64, 128, 256, 1024].into_iter().enumerate() {
        let (first, second) = (10 * step + 1, 10 * step + 2);
        check(&daemon, first);
        purge(&daemon, "base").expect("a reply");
        fill(&data, left << 10);
        for _ in 0..2 {
            check(&daemon, second);
            check(&daemon, first);
        }
        purge(&daemon, "base").expect("a reply");
        let usage = daemon.get("/api/v3/cache").json();
        let count = |what: &str| usage[what].as_u64().expect("a number");
        troubles += count("unwritten");
        assert_eq!(count("damaged"), 0, "{left} KiB left: {usage}");
        let said = daemon
            .log()
            .lines()
            .filter(|line| line.contains("WARN"))
            .count();
        assert!(said <= 4, "{left} KiB left: {}", daemon.log());
        daemon.stop(if step.is_multiple_of(2) {
            Signal::SIGKILL
        } else {
            Signal::SIGTERM
        });
        fs::remove_file(data.join("filler")).expect("removed");
        daemon.restart();
        check(&daemon, second);
        purge(&daemon, "base").expect("a reply");
        assert_eq!(
            run(&daemon, &jobs(second)[0].0).expect("a reply")["cache"],
            "output"
        );
    }
    assert!(troubles > 0, "the disk was never full");
    daemon.stop(Signal::SIGTERM);
    drop(tmpfs);
    daemon.restart();
}
