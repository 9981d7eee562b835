//! What the tests share: a view made of the host's shell, and running programs in it.
#![expect(clippy::unwrap_used, reason = "whatever fails here fails the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use piston_client::units::Bytes;
use pistond::sandbox::{
    Ended, Exit, Grants, Launcher, Rlimits, Running, SandboxError, Slot, Spec, Stdio, TreeLimits,
    Workspace,
};

/// Programs of the view.
const PROGRAMS: [&str; 26] = [
    "bash", "cat", "chmod", "chroot", "cp", "dd", "env", "find", "head", "id", "ln", "ls", "mkdir",
    "mkfifo", "mount", "mv", "readlink", "rm", "seq", "setsid", "sleep", "stty", "true", "tty",
    "uname", "unshare",
];

/// Set in the process that runs a test's body without root.
const ROOTLESS: &str = "PISTON_TEST_ROOTLESS";

/// An unprivileged user that no host has.
pub(crate) const NOBODY: &str = "61234";

/// Runs `body` as root and without root. `name` is the test's whole name.
pub(crate) fn everywhere(name: &str, body: impl AsyncFnOnce(&Bench)) {
    let root = rustix::process::geteuid().is_root();
    if root {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { body(&Bench::start().await).await });
    }
    if std::env::var_os(ROOTLESS).is_none() {
        again_without_root(name, root);
    }
}

/// Runs the same test in a process that became what the rootless daemon is.
fn again_without_root(name: &str, root: bool) {
    let directory = tempfile::tempdir().unwrap();
    open_to_all(directory.path());
    // The build directory may be closed to other users.
    let test = share(&std::env::current_exe().unwrap(), directory.path());
    let mut command = if root {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "--",
            "unshare",
        ]);
        command
    } else {
        Command::new("unshare")
    };
    let output = command
        .args(["--user", "--map-root-user", "--mount"])
        .arg(test)
        .args([name, "--exact", "--nocapture"])
        .env(ROOTLESS, "1")
        .env(
            "PISTON_TEST_PROGRAM",
            share(Path::new(PISTOND), directory.path()),
        )
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "without root:\n{out}\n{err}");
    assert!(
        out.contains("1 passed"),
        "no test is named {name}:\n{out}\n{err}"
    );
}

const PISTOND: &str = env!("CARGO_BIN_EXE_pistond");

/// The daemon's program, which is the launcher's.
pub(crate) fn pistond() -> PathBuf {
    std::env::var_os("PISTON_TEST_PROGRAM").map_or_else(|| PISTOND.into(), PathBuf::from)
}

/// Links or copies a program to where everybody can execute it.
pub(crate) fn share(program: &Path, directory: &Path) -> PathBuf {
    let shared = directory.join(program.file_name().unwrap());
    if std::fs::hard_link(program, &shared).is_err() {
        std::fs::copy(program, &shared).unwrap();
    }
    shared
}

/// Lets everybody use a directory.
pub(crate) fn open_to_all(directory: &Path) {
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory, mode).unwrap();
}

/// A launcher over a view.
pub(crate) struct Bench {
    pub(crate) launcher: Launcher,
    pub(crate) ids: Option<u32>,
    /// The filesystem's root; the view is `view` in it.
    pub(crate) fs: tempfile::TempDir,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A program that runs, with the other ends of its streams.
pub(crate) struct Live {
    pub(crate) running: Running,
    out: std::io::PipeReader,
    err: std::io::PipeReader,
}

impl Live {
    /// Waits for its end and reads what it printed (which has to fit the pipes).
    pub(crate) async fn finish(mut self) -> Result<Outcome, SandboxError> {
        let exit = tokio::time::timeout(Duration::from_secs(20), self.running.wait())
            .await
            .expect("a sandbox ends in time")?;
        drop(self.running);
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.err.read_to_string(&mut err).unwrap();
        Ok(Outcome { exit, out, err })
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.out.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

impl Bench {
    async fn start() -> Self {
        let fs = tempfile::tempdir().unwrap();
        open_to_all(fs.path());
        build_view(&fs.path().join("view"));
        // Root by now, be it in a user namespace: only the ids are asked for.
        let ids = pistond::sandbox::rootless::enter().unwrap().ids();
        let launcher = Launcher::start_program(&pistond(), fs.path(), ids, None)
            .await
            .unwrap();
        Self { launcher, ids, fs }
    }

    pub(crate) fn workspace(&self) -> Workspace {
        Workspace::new(Bytes::mib(8), Slot(1), self.ids).unwrap()
    }

    /// Runs a shell script to its end.
    pub(crate) async fn sh(&self, script: &str) -> Outcome {
        self.run(shell(script)).await.unwrap()
    }

    /// What a script prints, which has to end well and say nothing else.
    pub(crate) async fn prints(&self, script: &str) -> String {
        let outcome = self.sh(script).await;
        assert_eq!(
            outcome.exit.ended,
            Ended::Exited(0),
            "{script}: {outcome:?}"
        );
        assert_eq!(outcome.err, "", "{script}");
        outcome.out
    }

    pub(crate) async fn run(&self, spec: Spec) -> Result<Outcome, SandboxError> {
        self.launch(spec, &self.workspace()).await?.finish().await
    }

    pub(crate) async fn launch(
        &self,
        spec: Spec,
        workspace: &Workspace,
    ) -> Result<Live, SandboxError> {
        let (stdin, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"from stdin\n").unwrap();
        let (out, stdout) = std::io::pipe().unwrap();
        let (err, stderr) = std::io::pipe().unwrap();
        let stdio = Stdio {
            stdin: stdin.into(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let running = self.launcher.spawn(&spec, workspace, stdio).await?;
        Ok(Live { running, out, err })
    }
}

/// A script in the view's shell.
pub(crate) fn shell(script: &str) -> Spec {
    command(&["/bin/bash", "-c", script])
}

pub(crate) fn command(argv: &[&str]) -> Spec {
    Spec {
        view: "view".to_owned(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        rlimits: Rlimits {
            cpu_seconds: 10,
            data_bytes: 256 << 20,
            processes: 64,
            open_files: 256,
            file_size: 4 << 20,
        },
        tree: TreeLimits {
            memory: 256 << 20,
            cpu: 10_000_000_000,
            wall: 600_000_000_000,
        },
        slot: 1,
        grants: Grants::default(),
        terminal: None,
    }
}

/// Mount points, programs, and the libraries that they need, copied from the host.
fn build_view(view: &Path) {
    for directory in ["bin", "lib64", "proc", "dev", "tmp", "piston/job", "etc"] {
        std::fs::create_dir_all(view.join(directory)).unwrap();
    }
    let script = r#"set -e; cd "$0"; cp -L $(type -P "$@") bin/
    for library in $(ldd bin/* | grep -oE '\s/\S+' | sort -u); do
        mkdir -p ".${library%/*}"; cp -L "$library" ".$library"
    done"#;
    let status = Command::new("bash")
        .args(["-c", script])
        .arg(view)
        .args(PROGRAMS)
        .status()
        .unwrap();
    assert!(status.success(), "the view could not be built");
}

/// Names of processes on the host that have `marker` among their arguments.
pub(crate) fn processes_with(marker: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| {
            let command = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            (command.contains(marker) && !command.contains("--exact")).then_some(command)
        })
        .collect()
}
