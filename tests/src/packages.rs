//! Real packages made from this machine by `pistond make`, once for each build of the daemon.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::{Daemon, binary};

/// The package file of `name` (`base`, `bash`, `python`, `gcc`), made when it is not there yet.
///
/// # Panics
/// When it can't be made.
pub fn file(name: &str) -> PathBuf {
    let daemon = binary("pistond");
    let facts = fs::metadata(&daemon).expect("pistond");
    let build = format!("{}-{}-{}", facts.len(), facts.mtime(), facts.mtime_nsec());
    let folder = daemon
        .parent()
        .expect("a folder")
        .join("test-packages")
        .join(build);
    fs::create_dir_all(&folder).expect("folder for packages");
    let lock = fs::File::create(folder.join(format!("{name}.lock"))).expect("lock");
    let _held = Flock::lock(lock, FlockArg::LockExclusive).expect("lock");
    if let Some(made) = find(&folder, name) {
        return made;
    }
    let making = folder.join(format!("{name}.making"));
    fs::create_dir_all(&making).expect("folder");
    let mut command = Command::new(&daemon);
    command.args(["make", "host", name, "-o"]).arg(&making);
    if name == "python" {
        // The distribution's own, wherever the PATH of the tests may lead.
        command.args(["--program", "/usr/bin/python3"]);
    }
    let output = command.output().expect("pistond starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let made = find(&making, name).expect("a package file");
    let file = folder.join(made.file_name().expect("a name"));
    fs::rename(&made, &file).expect("rename");
    fs::remove_dir_all(&making).expect("clean");
    file
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let prefix = format!("{name}-");
    let entries = fs::read_dir(folder).ok()?;
    let fits = |path: &PathBuf| {
        let file = path
            .file_name()
            .map(|file| file.to_string_lossy().into_owned());
        file.is_some_and(|file| file.starts_with(&prefix) && file.ends_with(".pkg.tar.gz"))
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(fits)
}

/// Installs packages by upload, `base` first.
///
/// # Panics
/// When the daemon refuses one.
pub fn install(daemon: &Daemon, names: &[&str]) {
    for name in std::iter::once(&"base").chain(names) {
        let reply = daemon.upload(&file(name));
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            matches!(reply.status, 200 | 201),
            "{name}: {text}\n{}",
            daemon.log()
        );
    }
}

/// A small package file written by mksquashfs and tar: nothing of ours has touched it.
#[derive(Debug, Clone)]
pub struct Crafted<'a> {
    /// Its `pkg-info.json`.
    pub info: serde_json::Value,
    /// Files of the image: path and contents.
    pub files: &'a [(&'a str, &'a str)],
    /// Members of the package file beside the image: name and contents (mode 0755).
    pub scripts: &'a [(&'a str, &'a str)],
    /// Compressor for mksquashfs: `gzip`, `zstd`.
    pub compressor: &'a str,
}

impl Crafted<'_> {
    /// Writes it into `folder` and returns its path.
    ///
    /// # Panics
    /// When a tool is missing or fails.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let name = |key: &str| self.info[key].as_str().expect("a string").to_owned();
        let stem = format!("{}-{}", name("language"), name("version"));
        let work = folder.join(format!("{stem}.work"));
        let tree = work.join("tree");
        fs::create_dir_all(&tree).expect("folder");
        for (path, text) in self.files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
            fs::write(path, text).expect("file");
        }
        run(Command::new("mksquashfs")
            .arg(&tree)
            .arg(work.join("package.squashfs"))
            .args([
                "-comp",
                self.compressor,
                "-all-root",
                "-no-progress",
                "-quiet",
            ]));
        fs::write(work.join("pkg-info.json"), self.info.to_string()).expect("file");
        let mut members = vec!["pkg-info.json", "package.squashfs"];
        for (script, text) in self.scripts {
            let path = work.join(script);
            fs::write(&path, text).expect("file");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&path, mode).expect("mode");
            members.push(script);
        }
        let file = folder.join(format!("{stem}.pkg.tar.gz"));
        run(Command::new("tar")
            .arg("-czf")
            .arg(&file)
            .arg("-C")
            .arg(&work)
            .args(members));
        fs::remove_dir_all(&work).expect("clean");
        file
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
