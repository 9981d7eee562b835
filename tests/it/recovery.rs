//! Crashes, restarts, shutdown: nothing is lost, half done or in the way.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use piston_tests::{Daemon, Who, binary, packages};
use serde_json::json;

as_root_and_user!(
    a_killed_daemon_takes_its_jobs_along_and_starts_again_on_the_same_data,
    a_second_daemon_on_the_same_data_is_refused,
    a_client_that_goes_away_ends_its_job,
    shutdown_lets_a_running_job_finish,
    a_launcher_that_dies_is_replaced,
);

/// Whether a process with these words in its command line is alive, within `patience`.
fn gone(words: &str, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let found = Command::new("pgrep")
            .args(["-f", words])
            .output()
            .expect("pgrep");
        if found.stdout.is_empty() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
}

fn wait_for(words: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Command::new("pgrep")
        .args(["-f", words])
        .output()
        .expect("pgrep")
        .stdout
        .is_empty()
    {
        assert!(Instant::now() < deadline, "no process {words:?}");
    }
}

/// Sends a job without waiting for its answer.
fn submit(daemon: &Daemon, code: &str) -> UnixStream {
    let body = json!({"code": code}).to_string();
    let mut stream = UnixStream::connect(daemon.socket()).expect("connect");
    let head = "POST /api/v3/packages/bash/*/execute HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("send");
    stream
}

fn a_killed_daemon_takes_its_jobs_along_and_starts_again_on_the_same_data(who: Who) {
    let mut daemon = Daemon::start_with(who, "", &[]);
    packages::install(&daemon, &["bash"]);
    let before = daemon.get("/api/v3/packages").json();
    let _job = submit(&daemon, "exec sleep 87651");
    wait_for("^sleep 87651");
    daemon.stop(Signal::SIGKILL);
    assert!(
        gone("^sleep 87651", Duration::from_secs(2)),
        "the job outlived the daemon"
    );
    // The socket and, for root, the mount are still there: the next start clears them.
    assert!(daemon.socket().exists());
    daemon.restart();
    assert_eq!(daemon.get("/api/v3/packages").json(), before);
    let run = &daemon.execute("bash", &json!({"code": "echo again"}))["run"];
    assert_eq!(run["stdout"], "again\n");
}

fn a_second_daemon_on_the_same_data_is_refused(who: Who) {
    let daemon = Daemon::start(who);
    let output = daemon.start_second();
    assert!(!output.status.success());
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(
        text.contains(&daemon.pid().to_string()),
        "names the other's pid: {text}"
    );
    assert!(
        text.contains(&*daemon.data().to_string_lossy()),
        "names the data directory: {text}"
    );
    assert_eq!(daemon.get("/readyz").status, 200, "the first goes on");
}

fn a_client_that_goes_away_ends_its_job(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let job = submit(&daemon, "exec sleep 87652");
    wait_for("^sleep 87652");
    drop(job);
    assert!(
        gone("^sleep 87652", Duration::from_secs(1)),
        "the job outlived its client"
    );
}

fn shutdown_lets_a_running_job_finish(who: Who) {
    let mut daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let mut job = submit(&daemon, "sleep 1.087653; echo finished");
    wait_for("^sleep 1.087653");
    daemon.stop(Signal::SIGTERM);
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut job, &mut answer).expect("the answer");
    assert!(answer.contains("finished"), "{answer}");
    assert!(!daemon.socket().exists(), "the socket is removed");
}

fn a_launcher_that_dies_is_replaced(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["bash"]);
    let words = ["-P".to_owned(), daemon.pid().to_string()];
    let children = Command::new("pgrep").args(&words).output().expect("pgrep");
    let children = String::from_utf8_lossy(&children.stdout);
    let launcher: i32 = children
        .lines()
        .next()
        .expect("a launcher")
        .parse()
        .expect("a pid");
    kill(nix::unistd::Pid::from_raw(launcher), Signal::SIGKILL).expect("kill");
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        // A job in the moment of the death may be answered with the daemon's own fault.
        let run = daemon.execute("bash", &json!({"code": "echo again"}))["run"].clone();
        if run["stdout"] == "again\n" {
            break;
        }
        assert!(Instant::now() < deadline, "{run}");
    }
}

#[test]
fn a_lost_database_is_refused_and_repaired_and_a_damaged_image_is_found() {
    let mut daemon = Daemon::start(Who::User);
    packages::install(&daemon, &["bash"]);
    let before = daemon.get("/api/v3/packages").json();
    let all = daemon.cli(&["package", "verify"], b"");
    let text = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(
        all.status.success() && text.matches("ok ").count() == 2,
        "{text}"
    );
    daemon.stop(Signal::SIGTERM);
    std::fs::remove_file(daemon.data().join("state.redb")).expect("the database");
    let refused = daemon.start_second();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && text.contains("pistond repair"),
        "{text}"
    );
    let repair = daemon
        .who()
        .command(&binary("pistond"))
        .args(["repair", "--data"])
        .arg(daemon.data())
        .output()
        .expect("pistond");
    let text = String::from_utf8_lossy(&repair.stdout).into_owned();
    assert!(
        repair.status.success() && text.contains("rebuilt with 2 packages"),
        "{text}{}",
        String::from_utf8_lossy(&repair.stderr)
    );
    daemon.restart();
    assert_eq!(daemon.get("/api/v3/packages").json(), before);
    let run = &daemon.execute("bash", &json!({"code": "echo again"}))["run"];
    assert_eq!(run["stdout"], "again\n");

    let image = before[1]["image"].as_str().expect("a digest");
    let path = daemon.data().join(format!("images/{image}.squashfs"));
    let mut bytes = std::fs::read(&path).expect("an image");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("an image");
    let found = daemon.cli(&["package", "verify", "bash"], b"");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.status.code(), Some(1), "{text}");
    assert!(text.contains("damaged bash-"), "{text}");
}

#[test]
fn an_install_killed_at_any_moment_leaves_the_old_state_or_the_new() {
    let mut daemon = Daemon::start(Who::User);
    let file = packages::file("base");
    let bytes = std::fs::read(&file).expect("package");
    let mut installed = 0;
    for round in 0..12_u64 {
        let socket = daemon.socket();
        let upload = std::thread::spawn({
            let bytes = bytes.clone();
            move || {
                let mut stream = UnixStream::connect(socket).expect("connect");
                let head = format!(
                    "POST /api/v3/packages HTTP/1.1\r\nHost: localhost\r\n\
                     Content-Type: application/gzip\r\nContent-Length: {}\r\n\r\n",
                    bytes.len()
                );
                // The daemon dies in the middle: the error is the point.
                drop(
                    stream
                        .write_all(head.as_bytes())
                        .and_then(|()| stream.write_all(&bytes)),
                );
                let mut answer = [0; 64];
                drop(std::io::Read::read(&mut stream, &mut answer));
            }
        });
        std::thread::sleep(Duration::from_millis(15 * round * round / 2));
        daemon.stop(Signal::SIGKILL);
        upload.join().expect("the upload");
        daemon.restart();
        let packages = daemon.get("/api/v3/packages").json();
        let count = packages.as_array().expect("a list").len();
        assert!(count <= 1, "{packages}");
        let images = std::fs::read_dir(daemon.data().join("images"))
            .expect("images")
            .count();
        assert_eq!(
            images,
            count * 2,
            "an image and its index for each package, nothing else"
        );
        for folder in ["staging", "downloads"] {
            let left = std::fs::read_dir(daemon.data().join(folder)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{folder} holds garbage");
        }
        if count == 1 {
            installed += 1;
            let gone = daemon.send("DELETE", packages_path(&packages).as_str(), &json!(null));
            assert_eq!(gone.status, 200, "{}", String::from_utf8_lossy(&gone.body));
        }
    }
    assert!(installed < 12, "no kill came before the end");
}

fn packages_path(packages: &serde_json::Value) -> String {
    format!(
        "/api/v3/packages/base/{}",
        packages[0]["version"].as_str().expect("a version")
    )
}
