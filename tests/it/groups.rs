//! Jobs in control groups of version 1, of root's and of a user's to whom they were delegated.
//! Version 2 is tried in the guest of `contrib/guest`.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::User;
use piston_tests::{Daemon, Who, packages, require};
use serde_json::{Value, json};

const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpuacct"];
const MIB: u64 = 1 << 20;

/// Groups of version 1 in which a test's daemon is started and which its user owns; removed with all
/// that is below when the test ends.
struct Delegated {
    name: String,
}

impl Delegated {
    fn to(who: Who) -> Self {
        let name = format!("piston-test-{}", std::process::id());
        let delegated = Self { name };
        for group in delegated.groups() {
            fs::create_dir(&group).expect("a group");
            who.own(&group);
            // What delegation is: the user may move processes in, not change the limits.
            who.own(&group.join("tasks"));
            who.own(&group.join("cgroup.procs"));
        }
        delegated
    }

    fn groups(&self) -> impl Iterator<Item = PathBuf> {
        CONTROLLERS
            .map(|name| PathBuf::from(format!("/sys/fs/cgroup/{name}/{}", self.name)))
            .into_iter()
    }

    fn daemon(&self, who: Who) -> Daemon {
        let enter = format!(
            "for c in {}; do echo $$ > /sys/fs/cgroup/$c/{}/tasks || exit 1; done; exec \"$@\"",
            CONTROLLERS.join(" "),
            self.name
        );
        Daemon::start_through(who, &["/bin/sh", "-c", &enter, "sh"])
    }

    /// The groups of the daemon's jobs for memory.
    fn jobs(&self) -> Vec<PathBuf> {
        let below = |group: PathBuf| -> Vec<PathBuf> {
            let entries = fs::read_dir(group).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.path())
                .filter(|path| path.is_dir())
                .collect()
        };
        let parents = self.groups().take(1).flat_map(below);
        parents.flat_map(below).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in self.groups() {
            let is_removed = || {
                let removed = Command::new("find")
                    .arg(&group)
                    .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
                    .output();
                removed.is_ok_and(|output| output.status.success())
            };
            within(Duration::from_secs(5), is_removed);
        }
    }
}

/// Whether something comes true in time.
fn within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn mechanism(daemon: &Daemon, name: &str) -> Value {
    let info = daemon.get("/api/v3/info").json();
    let all = info["mechanisms"].as_array().expect("a list");
    all.iter()
        .find(|found| found["name"] == name)
        .expect("it is told")
        .clone()
}

fn python(daemon: &Daemon, code: &str, run: &Value) -> Value {
    daemon.execute("python", &json!({"code": code, "limits": {"run": run}}))["run"].clone()
}

/// The number in a file of a group.
fn number(file: PathBuf) -> u64 {
    let text = fs::read_to_string(file).expect("a file of the group");
    text.trim().parse().expect("a number")
}

#[test]
fn a_roots_jobs_are_held_by_the_kernel() {
    if require::legacy_groups() {
        the_kernel_holds_jobs(Who::Root);
    }
}

#[test]
fn a_users_jobs_are_held_by_the_kernel_where_groups_are_delegated() {
    if require::legacy_groups() {
        the_kernel_holds_jobs(Who::User);
    }
}

fn the_kernel_holds_jobs(who: Who) {
    let delegated = Delegated::to(who);
    let daemon = delegated.daemon(who);
    packages::install(&daemon, &["python"]);
    let group = mechanism(&daemon, "cgroup");
    assert_eq!(group["available"], true, "{group}");
    assert!(
        group["detail"]
            .as_str()
            .expect("text")
            .starts_with("version 1"),
        "{group}"
    );

    // From its first instruction on; and it can't tell where it is.
    let own = python(
        &daemon,
        "print(open('/proc/self/cgroup').read())",
        &json!({}),
    );
    let own = own["stdout"].as_str().expect("text");
    for name in CONTROLLERS {
        let line = own
            .lines()
            .find(|line| line.split(':').nth(1) == Some(name));
        assert!(
            line.is_some_and(|line| line.ends_with(":/")),
            "{name}: {own}"
        );
    }

    let limits = json!({"memory_bytes": 64 * MIB, "processes": 7});
    let asked = "import time\nheld = bytearray(b'x') * (20 << 20)\ntime.sleep(1.5)\n";
    std::thread::scope(|scope| {
        let job = scope.spawn(|| python(&daemon, asked, &limits));
        let limit = "memory.limit_in_bytes";
        let is_there = || {
            let busy = |group: &PathBuf| {
                fs::read_to_string(group.join("tasks")).is_ok_and(|all| !all.is_empty())
            };
            delegated
                .jobs()
                .into_iter()
                .filter(busy)
                .any(|group| number(group.join(limit)) == 64 * MIB)
        };
        assert!(
            within(Duration::from_secs(5), is_there),
            "no group has the limit"
        );
        assert_eq!(job.join().expect("a reply")["status"], Value::Null);
    });

    memory_is_the_kernels_to_limit(&daemon);
    figures_are_those_of_the_whole_job(&daemon);
    drop(daemon);
    assert_eq!(delegated.jobs(), Vec::<PathBuf>::new(), "groups are left");
}

fn memory_is_the_kernels_to_limit(daemon: &Daemon) {
    // A file in memory is memory.
    let fill = "for n in range(8):\n\
        \x20   with open(f'/dev/shm/{n}', 'wb') as f: f.write(b'x' * (8 << 20))\n";
    let run = python(daemon, fill, &json!({"memory_bytes": 32 * MIB}));
    assert_eq!(
        (&run["status"], &run["signal"]),
        (&json!("ML"), &json!("SIGKILL")),
        "{run}"
    );
    // Less than any program needs, down to what no group could be entered with.
    let hi = |limit: u64| python(daemon, "print('hi')", &json!({"memory_bytes": limit}));
    for limit in [4 << 10, 100 << 10, 512 << 10, MIB, 2 * MIB] {
        let run = hi(limit);
        assert_eq!(run["status"], "ML", "{limit}: {run}");
    }
    // Enough for what it holds, and not for the pages of its own program besides.
    let run = hi(4 * MIB);
    assert_eq!(run["stdout"], "hi\n", "{run}");
    // One child is killed by the kernel, the program would go on: the job is over all the same.
    let child = "import os, time\n\
        if os.fork() == 0:\n held = bytearray(b'x') * (200 << 20)\n\
        os.wait()\ntime.sleep(2)\nprint('went on')\n";
    let run = python(daemon, child, &json!({"memory_bytes": 64 * MIB}));
    assert_eq!(
        (&run["status"], &run["stdout"]),
        (&json!("ML"), &json!("")),
        "{run}"
    );
}

fn figures_are_those_of_the_whole_job(daemon: &Daemon) {
    // Children that nobody waits for are counted.
    let discarded = "import os, signal, time\n\
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
        if os.fork() == 0:\n end = time.process_time() + 0.4\n while time.process_time() < end: pass\n os._exit(0)\n\
        try: os.wait()\n\
        except ChildProcessError: pass\n";
    let run = python(daemon, discarded, &json!({}));
    assert!(run["cpu_time_ms"].as_u64() >= Some(400), "{run}");
    // Small ones too: what the page cache holds of the view is nobody's peak.
    let small = || {
        python(daemon, "held = bytearray(b'x') * (30 << 20)", &json!({}))["memory_bytes"]
            .as_u64()
            .expect("a number")
    };
    let (first, second) = (small(), small());
    assert!(first.abs_diff(second) * 20 < first, "{first} {second}");
    assert!((30 * MIB..48 * MIB).contains(&first), "{first}");
}

#[test]
fn what_a_killed_daemon_left_in_its_groups_is_gone_at_the_next_start() {
    if !require::legacy_groups() {
        return;
    }
    let delegated = Delegated::to(Who::Root);
    let mut daemon = delegated.daemon(Who::Root);
    let parent = delegated.jobs()[0]
        .parent()
        .expect("the group of all jobs")
        .to_owned();
    daemon.stop(Signal::SIGKILL);
    let stale = parent.join("stale");
    fs::create_dir(&stale).expect("a group");
    let mut sleeper = Command::new("sleep").arg("97531").spawn().expect("sleep");
    fs::write(stale.join("cgroup.procs"), sleeper.id().to_string()).expect("it is moved");
    daemon.restart();
    assert!(!stale.exists());
    assert!(!sleeper.wait().expect("it ended").success());
    packages::install(&daemon, &["bash"]);
    assert_eq!(
        daemon.execute("bash", &json!({"code": "echo fine"}))["run"]["stdout"],
        "fine\n"
    );
}

/// Another user than the other tests', which are to have no ids.
const NAME: &str = "piston-test-ids";

#[test]
fn a_user_with_subordinate_ids_has_another_one_for_each_slot() {
    if !require::root() {
        return;
    }
    let made = Command::new("useradd")
        .args(["--system", "--no-create-home", NAME])
        .output();
    let user = User::from_name(NAME).expect("the user database");
    let user = user.unwrap_or_else(|| panic!("useradd {NAME}: {made:?}"));
    for file in ["/etc/subuid", "/etc/subgid"] {
        add_line(file, &format!("{NAME}:1879114752:65536")).expect("a range of ids");
    }
    let [uid, gid] = [user.uid.as_raw(), user.gid.as_raw()];
    let folder = tempfile::tempdir().expect("a folder");
    chown(folder.path(), Some(uid), Some(gid)).expect("chown");
    let probe = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={gid}")])
        .args(["--clear-groups", "--"])
        .arg(piston_tests::binary("pistond"))
        .args(["check", "--json"])
        .env_clear()
        .env("HOME", folder.path())
        .output()
        .expect("pistond");
    let all: Value = serde_json::from_slice(&probe.stdout).expect("JSON");
    let all = all.as_array().expect("a list");
    let ids = all
        .iter()
        .find(|found| found["name"] == "job_ids")
        .expect("it is told");
    assert_eq!(ids["available"], true, "{ids}");
    assert!(
        all.iter()
            .all(|found| found["required"] == false || found["available"] == true),
        "{all:#?}"
    );
}

/// Adds a line to a file that does not have it.
fn add_line(file: &str, line: &str) -> io::Result<()> {
    let text = fs::read_to_string(file).unwrap_or_default();
    if text.lines().any(|known| known == line) {
        return Ok(());
    }
    fs::write(file, format!("{text}{line}\n"))
}
