//! One daemon under test: start, talk, kill, restart on the same data.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use serde_json::Value;

use crate::http::{self, Address, Reply};
use crate::{binary, require};

/// The unprivileged user that a root test run creates and uses.
const USER: &str = "piston-test";

/// As whom a daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Root.
    Root,
    /// A user without any privilege: the test's own user, or one that a root run creates.
    User,
}

impl Who {
    /// Whether this run can test it; see [`require`].
    #[must_use]
    pub fn possible(self) -> bool {
        match self {
            Self::Root => require::root(),
            Self::User => true,
        }
    }

    /// A command that runs `program` as this one, in a clean environment.
    ///
    /// # Panics
    /// When the user can't be created.
    pub fn command(self, program: &Path) -> Command {
        let mut command = if self == Self::User && geteuid().is_root() {
            let user = test_user();
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={}", user.uid))
                .arg(format!("--regid={}", user.gid))
                .args(["--clear-groups", "--"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir("/");
        command
    }

    /// Gives a path to this one.
    ///
    /// # Panics
    /// When that fails.
    pub fn own(self, path: &Path) {
        if self == Self::User && geteuid().is_root() {
            let user = test_user();
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
        }
    }
}

/// The unprivileged user, created once; `/dev/fuse` opened up as udev does elsewhere.
fn test_user() -> &'static User {
    static USER_ONCE: OnceLock<User> = OnceLock::new();
    USER_ONCE.get_or_init(|| {
        let known = || User::from_name(USER).expect("the user database");
        if known().is_none() {
            // Two tests may race to create it: whoever loses finds it there.
            let made = Command::new("useradd")
                .args(["--system", "--no-create-home", USER])
                .output();
            assert!(known().is_some(), "useradd {USER}: {made:?}");
        }
        fs::set_permissions("/dev/fuse", fs::Permissions::from_mode(0o666)).expect("/dev/fuse");
        known().expect("just created")
    })
}

/// A running `pistond serve`.
#[derive(Debug)]
pub struct Daemon {
    who: Who,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    /// A program with arguments that executes the daemon.
    through: Vec<String>,
    child: Option<Child>,
}

impl Daemon {
    /// Starts one with an empty data directory and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready; its log is printed.
    pub fn start(who: Who) -> Self {
        Self::start_with(who, "", &[])
    }

    /// The same with the text of a `piston.toml` and further arguments of `pistond serve`.
    ///
    /// # Panics
    /// When it does not get ready; its log is printed.
    pub fn start_with(who: Who, config: &str, arguments: &[&str]) -> Self {
        let mut daemon = Self::prepare(who, config, arguments);
        daemon.restart();
        daemon
    }

    /// The same, executed by a program that is given the daemon's command line after its own
    /// arguments, as the test's own user.
    ///
    /// # Panics
    /// When it does not get ready; its log is printed.
    pub fn start_through(who: Who, through: &[&str]) -> Self {
        let mut daemon = Self::prepare(who, "", &[]);
        daemon.through = through.iter().map(|&word| word.to_owned()).collect();
        daemon.restart();
        daemon
    }

    /// Everything but the start.
    fn prepare(who: Who, config: &str, arguments: &[&str]) -> Self {
        // Short: a socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new()
            .prefix("piston-")
            .tempdir()
            .expect("temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let file = folder.path().join("piston.toml");
        let mount = folder.path().join("run/fs");
        fs::write(
            &file,
            format!("{config}\n[filesystem]\nmount = \"{}\"\n", mount.display()),
        )
        .expect("configuration");
        for name in ["run", "home"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
            who.own(&folder.path().join(name));
        }
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        Self {
            who,
            folder,
            arguments,
            through: Vec::new(),
            child: None,
        }
    }

    /// The command that starts it.
    fn command(&self) -> Command {
        let mut command = self.who.command(&binary("pistond"));
        command
            .arg("serve")
            .arg("--config")
            .arg(self.folder.path().join("piston.toml"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--data")
            .arg(self.data())
            .args(&self.arguments)
            .env("HOME", self.folder.path().join("home"))
            .env("XDG_RUNTIME_DIR", self.folder.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    /// Starts it (again) on the same data and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn restart(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).expect("log");
        let child = through(&self.through, self.command())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("pistond starts");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while http::raw(&self.address(), READY).map_or(true, |reply| reply.status != 200) {
            let child = self.child.as_mut().expect("just set");
            if let Some(status) = child.try_wait().expect("wait") {
                panic!("pistond ended with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "pistond is not ready:\n{}",
                self.log()
            );
            pause();
        }
    }

    /// Runs a second `pistond serve` with this one's arguments to its end.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_second(&self) -> Output {
        self.command().output().expect("pistond starts")
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/piston.sock")
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("home/data")
    }

    /// Where its filesystem is mounted.
    pub fn mount(&self) -> PathBuf {
        self.folder.path().join("run/fs")
    }

    /// A folder that it can read and that is removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// As whom it runs.
    pub fn who(&self) -> Who {
        self.who
    }

    /// Its address.
    pub fn address(&self) -> Address {
        Address::Unix(self.socket())
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn pid(&self) -> Pid {
        let id = self.child.as_ref().expect("running").id();
        Pid::from_raw(i32::try_from(id).expect("a pid"))
    }

    /// Memory that it has of its own or shares, in bytes.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = kib.and_then(|kib| kib.parse().ok()).expect("a number");
        kib << 10
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `GET` of a path.
    pub fn get(&self, path: &str) -> Reply {
        http::request(&self.address(), "GET", path, &[], b"")
    }

    /// Whether no job runs or waits.
    pub fn has_no_jobs(&self) -> bool {
        self.get("/api/v3/jobs").json() == Value::Array(Vec::new())
    }

    /// A request with a JSON body.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let bytes = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        http::request(&self.address(), method, path, &[], bytes.as_bytes())
    }

    /// Uploads a package file, as `POST /packages`.
    ///
    /// # Panics
    /// When the file can't be read.
    pub fn upload(&self, file: &Path) -> Reply {
        let bytes = fs::read(file).expect("package file");
        let headers = ["Content-Type: application/gzip"];
        http::request(
            &self.address(),
            "POST",
            "/api/v3/packages",
            &headers,
            &bytes,
        )
    }

    /// Runs a job and gives the reply, which must be 200.
    ///
    /// # Panics
    /// When it is not.
    pub fn execute(&self, package: &str, body: &Value) -> Value {
        let reply = self.send(
            "POST",
            &format!("/api/v3/packages/{package}/*/execute"),
            body,
        );
        assert_eq!(
            reply.status,
            200,
            "{}\n{}",
            String::from_utf8_lossy(&reply.body),
            self.log()
        );
        reply.json()
    }

    /// Runs the CLI against this daemon, as whom it runs itself.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn cli(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut child = self
            .who
            .command(&binary("piston"))
            .args(arguments)
            .env("PISTON_HOST", format!("unix://{}", self.socket().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("piston starts");
        let mut pipe = child.stdin.take().expect("piped");
        // A program that does not read its input closes the pipe: not a fault.
        if let Err(error) = pipe.write_all(stdin) {
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        }
        drop(pipe);
        child.wait_with_output().expect("piston ends")
    }

    /// Ends it with a signal and waits.
    ///
    /// # Panics
    /// When it does not end within its time.
    pub fn stop(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, signal).expect("kill");
        let deadline = Instant::now() + Duration::from_secs(20);
        while child.try_wait().expect("wait").is_none() {
            if Instant::now() > deadline {
                child.kill().expect("kill");
                child.wait().expect("wait");
                panic!("pistond did not end at {signal}:\n{}", self.log());
            }
            pause();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(
                clippy::print_stdout,
                reason = "shown by the test runner for a failed test"
            )]
            let () = println!("log of pistond ({:?}):\n{}", self.who, self.log());
            if let Some(mut child) = self.child.take() {
                drop(child.kill());
                drop(child.wait());
            }
        } else {
            self.stop(Signal::SIGTERM);
        }
        // Nothing may be left; a test that failed must not disturb the next one.
        drop(Command::new("umount").arg("-l").arg(self.mount()).output());
    }
}

/// A command that has `program` with `arguments` execute another.
fn through(words: &[String], command: Command) -> Command {
    let Some((program, arguments)) = words.split_first() else {
        return command;
    };
    let mut outer = Command::new(program);
    outer
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    outer
}

const READY: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Lets another process go on while a test polls for what it waits for.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// A TCP port of 127.0.0.1 that is free now.
///
/// # Panics
/// When there is none.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}
