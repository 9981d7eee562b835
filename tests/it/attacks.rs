//! What a job may try against the machine, its sandbox and other jobs, as real programs, each while
//! another job is measured. One row for each attack of the threat model: its name, the program, and
//! what has to come of it. After each of them nothing is left within a second: no process, no
//! descriptor or mount that the daemon would hold for it, no control group, no file, no memory.
//!
//! What the system calls of a job answer one by one is in `isolation` and `grants`; what a package
//! may try before it is installed is the filesystem's to test.

mod daemon;
mod programs;

use std::time::{Duration, Instant};

use piston_tests::{Daemon, Who, packages};
use serde_json::{Value, json};

use daemon::Traces;

as_root_and_user!(
    processes_and_threads,
    memory,
    files_and_descriptors,
    streams_and_signals,
    ways_out_of_the_sandbox,
    ways_to_another_job,
    the_daemon_from_a_job,
    what_a_package_brings,
);

/// One attack.
struct Attack {
    name: &'static str,
    package: &'static str,
    code: &'static str,
    /// Of the run stage.
    limits: Value,
    /// Files that are asked for.
    outputs: Value,
    expected: Expected,
}

/// What has to come of an attack.
enum Expected {
    /// One of these statuses; `-` is a program that ended well.
    Status(&'static [&'static str]),
    /// The program ended well and printed this.
    Prints(&'static str),
}

use Expected::{Prints, Status};

/// An attack with the usual limits but for its time.
fn attack(
    name: &'static str,
    package: &'static str,
    code: &'static str,
    expected: Expected,
) -> Attack {
    Attack {
        name,
        package,
        code,
        limits: json!({"wall_time_ms": 1000, "memory_bytes": 128 << 20}),
        outputs: json!([]),
        expected,
    }
}

impl Attack {
    /// With these limits, and time to do what takes some.
    fn with(self, limits: &Value) -> Self {
        let mut all = json!({"wall_time_ms": 10_000, "cpu_time_ms": 3000});
        for (name, limit) in limits.as_object().into_iter().flatten() {
            all[name] = limit.clone();
        }
        Self {
            limits: all,
            ..self
        }
    }

    fn asking_for(self, outputs: Value) -> Self {
        Self { outputs, ..self }
    }

    /// Runs it, while other jobs run one after the other; how long each of those took.
    fn run(&self, daemon: &Daemon) -> (Value, Vec<Duration>) {
        let body = json!({
            "code": self.code, "limits": {"run": self.limits}, "outputs": self.outputs,
        });
        std::thread::scope(|scope| {
            let attack = scope.spawn(|| daemon.execute(self.package, &body));
            let mut others = Vec::new();
            loop {
                let begun = Instant::now();
                let other = daemon.execute("bash", &json!({"code": "echo alive"}));
                assert_eq!(other["run"]["stdout"], "alive\n", "{}: {other}", self.name);
                others.push(begun.elapsed());
                if attack.is_finished() {
                    return (attack.join().expect("a reply"), others);
                }
            }
        })
    }

    fn check(&self, reply: &Value) {
        let run = &reply["run"];
        for file in reply["files"].as_array().into_iter().flatten() {
            // What /etc/passwd and /etc/shadow begin with, in base64.
            let content = file["content"].as_str().unwrap_or_default();
            assert!(!content.starts_with("cm9vd"), "{}: {file}", self.name);
        }
        match self.expected {
            Status(all) => {
                let status = run["status"].as_str().unwrap_or("-");
                assert!(all.contains(&status), "{}: {reply}", self.name);
            }
            Prints(text) => assert_eq!(run["stdout"], text, "{}: {reply}", self.name),
        }
    }
}

/// More than jobs have otherwise, for those that take their time.
const ROOMY: &str = "[limits.run]\ndisk = \"128M\"\nwall_time = \"20s\"\ncpu_time = \"20s\"\n";

/// Other jobs are quick whatever one of them does.
const QUICK: Duration = Duration::from_secs(1);

/// Carries out all of them.
fn survive(daemon: &Daemon, attacks: &[Attack]) {
    packages::install(daemon, &["bash", "python", "gcc"]);
    for package in ["bash", "python", "gcc"] {
        let code = if package == "gcc" {
            "int main(void) { return 0; }"
        } else {
            ""
        };
        daemon.execute(package, &json!({"code": code}));
    }
    let before = Traces::settled(daemon);
    let mut others = Vec::new();
    for attack in attacks {
        let (reply, times) = attack.run(daemon);
        attack.check(&reply);
        before.are_all(daemon, attack.name);
        others.extend(times);
    }
    others.sort_unstable();
    let p99 = others[(others.len() - 1) * 99 / 100];
    assert!(p99 < QUICK, "another job took {p99:?}");
}

fn processes_and_threads(who: Who) {
    survive(
        &Daemon::start(who),
        &[
            attack(
                "fork bomb",
                "bash",
                "b() { b | b & }; b; sleep 60",
                Status(&["TO"]),
            ),
            attack("fork bomb", "gcc", programs::FORK_BOMB, Status(&["TO"])),
            attack(
                "fork bomb of sessions",
                "python",
                programs::SESSION_BOMB,
                // As many as are allowed have about as much memory as is.
                Status(&["TO", "ML"]),
            ),
            attack("thread bomb", "gcc", programs::THREAD_BOMB, Status(&["TO"])),
            attack(
                "daemonised child",
                "python",
                programs::DAEMON,
                Prints("gone\n"),
            ),
            attack(
                "child that holds stdout open",
                "bash",
                "sleep 60 & echo gone",
                Prints("gone\n"),
            ),
            attack(
                "child that is stopped",
                "bash",
                "sleep 60 & kill -STOP $!; echo gone",
                Prints("gone\n"),
            ),
            attack(
                "child that is traced",
                "gcc",
                programs::TRACED_CHILD,
                Prints("gone\n"),
            ),
        ],
    );
}

fn memory(who: Who) {
    // Without a memory controller what is mapped is looked at, and what is not has other bounds.
    const OVER: Expected = Status(&["ML"]);
    const BOUNDED: Expected = Status(&["ML", "TO", "-"]);
    let small = || json!({"wall_time_ms": 2000, "memory_bytes": 96 << 20});
    survive(
        &Daemon::start(who),
        &[
            attack(
                "memory of several children",
                "python",
                programs::CHILDREN,
                OVER,
            )
            .with(&small()),
            attack(
                "memory that children share",
                "python",
                programs::SHARED,
                OVER,
            )
            .with(&small()),
            attack("files in /dev/shm", "python", programs::SHM_FILES, BOUNDED).with(&small()),
            attack(
                "files in memory (memfd)",
                "python",
                programs::MEMFDS,
                BOUNDED,
            )
            .with(&small()),
            attack("full pipes", "python", programs::PIPES, BOUNDED).with(&small()),
            attack("full sockets", "python", programs::SOCKETS, BOUNDED).with(&small()),
            attack(
                "descriptors in flight",
                "python",
                programs::IN_FLIGHT,
                BOUNDED,
            )
            .with(&small()),
            attack(
                "segments of System V",
                "gcc",
                programs::SYSV,
                Prints("shm 1\nsem 1\nmsg 1\n"),
            ),
            attack("locked memory", "gcc", programs::LOCKED, Prints("12\n")),
        ],
    );
}

fn files_and_descriptors(who: Who) {
    survive(
        &Daemon::start_with(who, ROOMY, &[]),
        &[
            attack("disk full", "python", programs::FILL_DISK, Prints("28\n"))
                .with(&json!({"disk_bytes": 8 << 20})),
            attack(
                "no inode left",
                "python",
                programs::FILL_NAMES,
                Prints("28\n"),
            )
            .with(&json!({"disk_bytes": 8 << 20})),
            attack(
                "no descriptor left",
                "python",
                programs::DESCRIPTORS,
                Prints("24\n"),
            ),
            attack(
                "20,000 levels of folders",
                "bash",
                programs::DEEP,
                Prints("20000\n"),
            )
            .with(&json!({
                "disk_bytes": 128 << 20, "wall_time_ms": 20_000, "cpu_time_ms": 20_000,
            }))
            .asking_for(json!(["**"])),
            attack(
                "a sparse giant",
                "python",
                programs::GIANT,
                Status(&["RE", "-"]),
            )
            .with(&json!({"disk_bytes": 16 << 20}))
            .asking_for(json!(["**"])),
            attack(
                "links as results",
                "bash",
                programs::LINKS,
                Prints("done\n"),
            )
            .asking_for(json!(["**"])),
            attack(
                "links that change",
                "python",
                programs::RACING_LINKS,
                Status(&["TO"]),
            )
            .asking_for(json!(["**"])),
            attack(
                "what was submitted, replaced",
                "bash",
                programs::REPLACED,
                Prints("done\n"),
            )
            .asking_for(json!(["**"])),
        ],
    );
}

fn streams_and_signals(who: Who) {
    survive(
        &Daemon::start(who),
        &[
            attack(
                "flood of stdout",
                "bash",
                "while :; do echo y; done",
                Status(&["OL", "TO"]),
            ),
            attack("flood of stdout", "gcc", programs::FLOOD, Status(&["OL"])),
            attack(
                "flood of stderr",
                "python",
                programs::ERRORS,
                Status(&["EL"]),
            ),
            attack(
                "flood of both by children",
                "python",
                programs::FLOODS,
                Status(&["OL", "EL"]),
            ),
            attack("ignored signals", "python", programs::DEAF, Status(&["TO"])),
            attack(
                "SIGSTOP to itself",
                "bash",
                "kill -STOP $$",
                Status(&["TO"]),
            ),
            attack(
                "SIGSTOP to all",
                "bash",
                "sleep 60 & kill -STOP -1; sleep 60",
                Status(&["TO", "SG", "-"]),
            ),
            attack(
                "SIGKILL to all",
                "bash",
                "sleep 60 & kill -KILL -1; sleep 60",
                Status(&["TO", "SG", "-", "RE"]),
            ),
            attack(
                "signals without end",
                "python",
                programs::SIGNALS,
                Status(&["TO"]),
            ),
        ],
    );
}

fn ways_out_of_the_sandbox(who: Who) {
    survive(
        &Daemon::start(who),
        &[
            attack(
                "init traced and read",
                "gcc",
                programs::INIT,
                Prints("nothing\n"),
            ),
            attack(
                "proc of init",
                "python",
                programs::PROC_OF_INIT,
                Prints("[]\n"),
            ),
            attack(
                "nested namespaces",
                "gcc",
                programs::NAMESPACES,
                Prints("nothing\n"),
            ),
            attack(
                "calls that are forbidden",
                "gcc",
                programs::FORBIDDEN,
                Prints("nothing\n"),
            ),
            attack(
                "calls of the 32-bit ABI",
                "gcc",
                programs::INT80,
                Status(&["SG"]),
            ),
            attack(
                "calls of the x32 ABI",
                "gcc",
                programs::X32,
                Status(&["SG"]),
            ),
            attack("keyrings", "gcc", programs::KEYS, Prints("nothing\n")),
            attack(
                "families of sockets",
                "python",
                programs::FAMILIES,
                Prints("[]\n"),
            ),
            attack(
                "the view written",
                "python",
                programs::WRITE_VIEW,
                Prints("[]\n"),
            ),
            attack(
                "files of the host",
                "python",
                programs::HOST_FILES,
                Prints("[]\n"),
            ),
        ],
    );
}

/// What one job leaves or holds, and what another finds of it.
fn ways_to_another_job(who: Who) {
    let daemon = Daemon::start_with(who, ROOMY, &[]);
    packages::install(&daemon, &["python"]);
    let body = json!({"code": programs::SIGNPOSTS, "limits": {"run": {"wall_time_ms": 10_000}}});
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| daemon.execute("python", &body));
        piston_tests::wait_until("the job holds everything", || {
            let jobs = daemon.get("/api/v3/jobs").json();
            jobs[0]["state"] == "run"
        });
        std::thread::sleep(Duration::from_millis(700));
        let seeker = daemon.execute("python", &json!({"code": programs::SEEKER}));
        assert_eq!(seeker["run"]["stdout"], "[]\n", "{seeker}");
        let held = holder.join().expect("a reply");
        assert_eq!(held["run"]["stdout"], "held\n", "{held}");
    });
    let after = daemon.execute("python", &json!({"code": programs::SEEKER}));
    assert_eq!(after["run"]["stdout"], "[]\n", "{after}");
}

/// Over its socket and over TCP.
fn the_daemon_from_a_job(who: Who) {
    let address = piston_tests::free_port();
    let daemon = Daemon::start_with(who, "", &["--listen", &address.to_string()]);
    packages::install(&daemon, &["python"]);
    let code = format!(
        "import os, socket\nreached = []\n\
         try: socket.create_connection(('127.0.0.1', {}), 1); reached.append('tcp')\n\
         except OSError: pass\n\
         for path in ('{}', '/run/piston/piston.sock', '/var/run/docker.sock'):\n\
         \x20   try:\n\
         \x20       with socket.socket(socket.AF_UNIX) as s: s.connect(path); reached.append(path)\n\
         \x20   except OSError: pass\n\
         print(reached)\n",
        address.port(),
        daemon.socket().display()
    );
    let run = daemon.execute("python", &json!({"code": code}))["run"].clone();
    assert_eq!(run["stdout"], "[]\n", "{run}");
}

/// A package with a program that has set-id bits, and with device nodes.
fn what_a_package_brings(who: Who) {
    let daemon = Daemon::start(who);
    packages::install(&daemon, &["python"]);
    let file = programs::package_with_devices(daemon.folder());
    let reply = daemon.upload(&file);
    assert!(matches!(reply.status, 200 | 201), "{reply:?}");
    let run = daemon.execute("devices", &json!({"code": ""}))["run"].clone();
    assert_eq!(
        run["stdout"], "1000 1000\nnull 13\nmem 13\ndisk 13\n",
        "{run}"
    );
}
