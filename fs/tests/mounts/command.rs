//! The `piston-fs` program.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Scratch, is_mounted, machine_root, mount, noise, require_fuse, run, shell};

const PROGRAM: &str = env!("CARGO_BIN_EXE_piston-fs");

/// A `piston-fs mount` that is up; killed at the latest when the test ends.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(images: &[&Path], at: &Path) -> Self {
        Self::start_with(&[], images, at)
    }

    fn start_with(options: &[&str], images: &[&Path], at: &Path) -> Self {
        Self::try_start(options, images, at).expect("the program mounts")
    }

    /// None when it ends instead of mounting, which it does with a reason and by itself.
    pub(crate) fn try_start(options: &[&str], images: &[&Path], at: &Path) -> Option<Self> {
        let mut command = Command::new(PROGRAM);
        command
            .arg("mount")
            .args(options)
            .args(images)
            .arg(at)
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        if line.is_empty() {
            let ended = child.wait().expect("it ends");
            assert!(ended.code().is_some_and(|code| code != 0), "{ended}");
            return None;
        }
        assert!(line.starts_with("mounted on "), "{line:?}");
        Some(Self(child))
    }

    /// The most memory that it ever took, in KiB.
    pub(crate) fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let figure = line.and_then(|line| line.split_whitespace().next());
        figure.expect("a figure").parse().expect("a number")
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> std::process::ExitStatus {
        let pid = i32::try_from(self.0.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it runs");
        self.0.wait().expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::SIGTERM);
        }
    }
}

fn two_images(scratch: &Scratch) -> [PathBuf; 2] {
    scratch.write("low/etc/motd", "low");
    scratch.write("low/etc/only-low", "low");
    scratch.write("high/etc/motd", "high");
    [
        scratch.squash(scratch.path("low"), "low.squashfs", &[]),
        scratch.squash(scratch.path("high"), "high.squashfs", &[]),
    ]
}

#[test]
fn several_images_are_mounted_as_one_tree_until_a_signal() {
    require_fuse();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let scratch = Scratch::new();
        let [low, high] = two_images(&scratch);
        let at = scratch.path("mount");
        let mut running = Running::start(&[&low, &high], &at);
        assert_eq!(fs::read(at.join("etc/motd")).unwrap(), b"high");
        assert_eq!(fs::read(at.join("etc/only-low")).unwrap(), b"low");
        assert!(running.signal(signal).success());
        assert!(!is_mounted(&at));
    }
}

#[test]
fn hot_lists_are_kept_in_the_directory_that_is_named() {
    require_fuse();
    let scratch = Scratch::new();
    let [low, high] = two_images(&scratch);
    let lists = scratch.path("lists");
    fs::create_dir(&lists).unwrap();
    let option = format!("--hot-lists={}", lists.display());
    let at = scratch.path("mount");
    let mut running = Running::start_with(&[&option], &[&low, &high], &at);
    assert_eq!(fs::read(at.join("etc/only-low")).unwrap(), b"low");
    assert!(running.signal(Signal::SIGTERM).success());
    let kept: Vec<_> = fs::read_dir(&lists)
        .unwrap()
        .map(|list| list.unwrap())
        .collect();
    assert_eq!(kept.len(), 1, "nothing was read of the upper image");
    let digest = shell(&format!("sha256sum < {}", low.display()));
    let name = format!("{}.hot", digest.split(' ').next().unwrap());
    assert_eq!(kept[0].file_name().to_str().unwrap(), name);
    assert_eq!(kept[0].metadata().unwrap().len(), 48 + 8);
}

#[test]
fn it_ends_when_somebody_unmounts() {
    require_fuse();
    let scratch = Scratch::new();
    let [low, _] = two_images(&scratch);
    let at = scratch.path("mount");
    let mut running = Running::start(&[&low], &at);
    run(Command::new("umount").arg(&at));
    assert!(running.0.wait().unwrap().success());
}

#[test]
fn the_mount_of_a_killed_server_is_cleared_away_by_the_next() {
    require_fuse();
    let scratch = Scratch::new();
    let [low, _] = two_images(&scratch);
    let at = scratch.path("mount");
    let mut running = Running::start(&[&low], &at);
    // The kernel remembers these, dead server or not.
    assert_eq!(fs::read(at.join("etc/motd")).unwrap(), b"low");
    running.signal(Signal::SIGKILL);
    assert!(is_mounted(&at), "a killed server leaves its mount behind");
    let server = mount(&at).expect("the stale mount is no obstacle");
    drop(server);
    assert!(!is_mounted(&at));
}

#[test]
fn an_image_that_is_none_is_refused_by_name() {
    let scratch = Scratch::new();
    let image = scratch.write("x.squashfs", "not an image".repeat(1000));
    let mut command = Command::new(PROGRAM);
    let output = command
        .arg("mount")
        .arg(&image)
        .arg(scratch.path("mount"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("x.squashfs: not a squashfs image"), "{text}");
    assert!(!scratch.path("mount").exists());
}

/// The program where other users can reach it, and a device that they may open.
fn for_everybody(scratch: &Scratch) -> PathBuf {
    let program = scratch.path("piston-fs");
    fs::copy(PROGRAM, &program).expect("a copy");
    let everybody = fs::Permissions::from_mode(0o666);
    fs::set_permissions("/dev/fuse", everybody).expect("it is ours");
    program
}

/// Mounts as user 65534 (`nobody`: fusermount3 wants its users to have a name), `prefix` before the program.
fn mount_as_a_user(prefix: &str, look: &str) -> String {
    require_fuse();
    let scratch = Scratch::new();
    let program = for_everybody(&scratch);
    scratch.write("tree/file", "content");
    let tree = scratch.path("tree");
    std::os::unix::fs::chown(tree.join("file"), Some(77), Some(88)).expect("it is ours");
    let image = scratch.squash(&tree, "i.squashfs", &[]);
    let at = scratch.path("at");
    fs::create_dir(&at).expect("a directory");
    std::os::unix::fs::chown(&at, Some(65_534), Some(65_534)).expect("it is ours");
    let script = scratch.write(
        "script",
        format!(
            "set -eu
             mkfifo {at}.up; {program} mount {image} {at} > {at}.up &
             read line < {at}.up
             cd {at}; {look}; cd /
             kill $!; wait $! || exit 9",
            at = at.display(),
            program = program.display(),
            image = image.display(),
        ),
    );
    let writable = fs::Permissions::from_mode(0o777);
    fs::set_permissions(scratch.path(""), writable).expect("it is ours");
    let printed = shell(&format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups {prefix} sh {}",
        script.display()
    ));
    assert!(!is_mounted(&at));
    printed
}

#[test]
fn an_ordinary_user_mounts_in_a_user_namespace_of_his_own() {
    if !machine_root() {
        return;
    }
    let printed = mount_as_a_user(
        "unshare --user --map-root-user --mount",
        "cat file; stat -c ' %u %g' file; grep -o \"$PWD fuse.piston\" /proc/self/mounts | cut -d' ' -f2
         unshare --user --map-user=1000 --mount sh -c 'cat file; id -u'",
    );
    // Owners that the namespace does not know are shown as the mounting user's, and a sandbox in
    // a namespace below sees the files as well.
    assert_eq!(printed, "content 0 0\nfuse.piston\ncontent1000\n");
}

#[test]
fn an_ordinary_user_mounts_with_the_set_user_id_helper() {
    if !machine_root() {
        return;
    }
    let printed = mount_as_a_user("", "cat file; stat -c ' %u %g' file");
    assert_eq!(printed, "content 77 88\n");
}

#[test]
fn a_packed_directory_mounts_as_the_same_tree() {
    if !machine_root() {
        return;
    }
    require_fuse();
    let scratch = Scratch::new();
    scratch.write("tree/dir/text", "text\n".repeat(100_000));
    scratch.write("tree/dir/noise", noise(1, 300_000));
    scratch.write("tree/empty", "");
    let tree = scratch.path("tree");
    shell(&format!(
        "cd {} && ln -s dir/text link && chmod 750 dir && chown 3:4 empty && touch -d @99 empty",
        tree.display()
    ));
    let image = scratch.path("packed.squashfs");
    run(Command::new(PROGRAM).arg("pack").arg(&tree).arg(&image));
    let at = scratch.path("mount");
    let running = Running::start(&[&image], &at);
    run(Command::new("diff")
        .args(["-r", "--no-dereference"])
        .arg(&tree)
        .arg(&at));
    let listing = "find . -printf '%p %y %m %U %G %T@ %l\\n' | sed 's/[.][0-9]\\{10\\} / /' | sort";
    let of = |root: &Path| shell(&format!("cd {} && {listing}", root.display()));
    assert_eq!(of(&at), of(&tree));
    drop(running);
}
