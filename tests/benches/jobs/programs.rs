//! What is run: a static program, a root directory and a package of it, and bare spawns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str =
    "#include <unistd.h>\nint main(void) { return write(1, \"hi\\n\", 3) != 3; }\n";

/// A folder with `bin/hi` and the mount points of a sandbox.
pub(crate) fn root(folder: &Path) -> PathBuf {
    let root = folder.join("native");
    for name in ["bin", "proc", "dev", "tmp", "piston/job"] {
        fs::create_dir_all(root.join(name)).expect("folder");
    }
    let source = folder.join("hi.c");
    fs::write(&source, SOURCE).expect("source");
    succeed(
        Command::new("cc")
            .args(["-static", "-Os", "-o"])
            .args([&root.join("bin/hi"), &source]),
    );
    root
}

/// A package file of that root, whose run entry is the program itself.
pub(crate) fn package(folder: &Path, root: &Path) -> PathBuf {
    let parts = folder.join("parts");
    fs::create_dir_all(&parts).expect("folder");
    succeed(
        Command::new("mksquashfs")
            .args([root, &parts.join("package.squashfs")])
            .args(["-all-root", "-no-progress", "-quiet"]),
    );
    let info = r#"{"language": "native", "version": "1.0.0", "mount": "/", "run": {"command": ["/bin/hi"]}}"#;
    fs::write(parts.join("pkg-info.json"), info).expect("file");
    let file = folder.join("native-1.0.0.pkg.tar.gz");
    succeed(
        Command::new("tar")
            .arg("-czf")
            .arg(&file)
            .arg("-C")
            .arg(&parts)
            .args(["pkg-info.json", "package.squashfs"]),
    );
    file
}

fn succeed(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{command:?} failed"
    );
}

/// Whether a program is installed here.
pub(crate) fn installed(program: &str) -> bool {
    let found = Command::new("which").arg(program).output();
    found.is_ok_and(|output| output.status.success())
}

/// Spawns a command without an environment and takes its output, which has to be `expected`.
pub(crate) fn spawn(command: &[&str], expected: &str) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("spawn");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The command that runs `bin/hi` of `root` in a sandbox of bubblewrap.
pub(crate) fn bubblewrap(root: &str) -> Vec<&str> {
    let mut command = vec!["bwrap", "--unshare-all", "--die-with-parent", "--clearenv"];
    command.extend(["--ro-bind", root, "/", "--dev", "/dev", "--proc", "/proc"]);
    command.extend(["--tmpfs", "/tmp", "--tmpfs", "/piston/job", "/bin/hi"]);
    command
}

/// The same with nsjail.
pub(crate) fn nsjail(root: &str) -> Vec<&str> {
    vec!["nsjail", "-Mo", "-Q", "--chroot", root, "--", "/bin/hi"]
}
