//! Mounts: the launcher's own small root, and the root of a job.
//!
//! The launcher's root is a tmpfs that holds the filesystem (`/fs`), a finished `/dev`, an
//! unmasked `/proc` (the kernel lets a user namespace mount a fresh proc only where it can see
//! a whole one), and mount points. Every init starts from a copy of it, builds the job's root
//! on `/root` and throws the rest away.
//!
//! Invariant: mount targets inside a view are resolved beneath the view and without symlinks, so
//! an image can't redirect a mount. Not here: who writes into the workspace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use piston_client::api::Network;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::error::{Failure, Step as _};
use super::network;
use super::sys::{Recursive, add_mount_attributes};

const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

/// Directories of the workspace and where the job sees them.
const WORKSPACE_MOUNTS: [(&str, &str); 3] =
    [("job", "piston/job"), ("tmp", "tmp"), ("shm", "dev/shm")];

/// Device nodes of a job: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    // Whichever terminal the process has; most have none.
    ("tty", 5, 0),
];

/// Links of a job's `/dev`.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Files of proc that tell of the host or its user: they read as empty.
const MASKED_FILES: [&str; 9] = [
    "interrupts",
    "kcore",
    "key-users",
    "keys",
    "latency_stats",
    "sched_debug",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
];

/// Directories of proc that tell of the host: they are empty.
const MASKED_DIRECTORIES: [&str; 3] = ["acpi", "asound", "scsi"];

/// What the launcher's root offers to every init.
#[derive(Debug)]
pub(super) struct Template {
    /// Files of proc to mask, of [`MASKED_FILES`].
    masked_files: Vec<&'static str>,
    /// Directories of proc to mask, of [`MASKED_DIRECTORIES`].
    masked_directories: Vec<&'static str>,
}

impl Template {
    /// Moves this process into a mount namespace of its own, whose root is the launcher's.
    pub(super) fn build(fs: &Path) -> Result<Self, Failure> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).step("mount namespace")?;
        keep_mounts_private().step("private mounts")?;
        let fs_tree = clone_tree(CWD, fs, Recursive::Yes).step("bind the filesystem")?;
        let proc_tree = clone_tree(CWD, "/proc", Recursive::Yes).step("bind /proc")?;
        let root =
            new_tmpfs(&[("mode", "755"), ("size", "64k")], NOSUID).step("launcher's root")?;
        for directory in ["fs", "proc", "dev", "root", "workspace", "empty"] {
            rustix::fs::mkdirat(&root, directory, Mode::from_raw_mode(0o755))
                .step("launcher's root")?;
        }
        // Anywhere will do: nobody else sees this mount namespace.
        rustix::mount::move_mount(&root, "", CWD, fs, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .step("launcher's root")?;
        attach(&proc_tree, &open_beneath(&root, "proc").step("bind /proc")?).step("bind /proc")?;
        attach(
            &fs_tree,
            &open_beneath(&root, "fs").step("bind the filesystem")?,
        )
        .step("bind the filesystem")?;
        build_devices(&open_beneath(&root, "dev").step("/dev")?).step("/dev")?;
        pivot_into(&root)?;
        Ok(Self {
            masked_files: MASKED_FILES
                .into_iter()
                .filter(|name| others_can_use(name))
                .collect(),
            masked_directories: MASKED_DIRECTORIES
                .into_iter()
                .filter(|name| others_can_use(name))
                .collect(),
        })
    }

    /// Makes the view named `view` with the writable directories of `workspace` the root of this
    /// process, which is in a mount namespace of its own and the first of its PID namespace.
    pub(super) fn enter(
        &self,
        view: &str,
        workspace: &OwnedFd,
        network: Network,
    ) -> Result<(), Failure> {
        let root = Self::bind_view(view)?;
        rustix::mount::mount_move("/dev", "/root/dev").step("mount /dev")?;
        let empty_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(workspace, "", CWD, "/workspace", empty_path)
            .step("mount the workspace")?;
        for (source, target) in WORKSPACE_MOUNTS {
            let tree = clone_tree(workspace, source, Recursive::No).step("bind the workspace")?;
            let step = format!("mount /{target}");
            attach(&tree, &open_beneath(&root, target).step(&step)?).step(&step)?;
        }
        if network == Network::Host {
            bind_network_files(&root, workspace).step("mount the network's files")?;
        }
        self.mount_proc(&root)?;
        pivot_into(&root)
    }

    /// Binds the view on `/root`, read-only.
    fn bind_view(view: &str) -> Result<OwnedFd, Failure> {
        // By name: a descriptor from before would be of the launcher's mounts, not of this copy.
        let fs = open_beneath(CWD, "fs").step("open the view")?;
        let directory = open_beneath(&fs, view).step("open the view")?;
        let root = clone_tree(&directory, "", Recursive::No).step("bind the view")?;
        add_mount_attributes(&root, RDONLY | NOSUID | NODEV, Recursive::No)
            .step("bind the view")?;
        let empty_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&root, "", CWD, "/root", empty_path).step("bind the view")?;
        // `/dev` is moved by name; a symlink there is refused here.
        open_beneath(&root, "dev").step("mount /dev")?;
        Ok(root)
    }

    /// Mounts a proc of this PID namespace, masked.
    fn mount_proc(&self, root: &OwnedFd) -> Result<(), Failure> {
        let target = open_beneath(root, "proc").step("mount /proc")?;
        let proc = new_mount("proc", &[], NOSUID | NODEV | NOEXEC).step("mount /proc")?;
        attach(&proc, &target).step("mount /proc")?;
        let sys = clone_tree(&proc, "sys", Recursive::No).step("mask /proc")?;
        add_mount_attributes(&sys, RDONLY, Recursive::No).step("mask /proc")?;
        attach(&sys, &open_beneath(&proc, "sys").step("mask /proc")?).step("mask /proc")?;
        let masks = [
            ("/root/dev/null", &self.masked_files),
            ("/empty", &self.masked_directories),
        ];
        for (mask, names) in masks {
            for name in names {
                let tree = clone_tree(CWD, mask, Recursive::No).step("mask /proc")?;
                add_mount_attributes(&tree, RDONLY, Recursive::No).step("mask /proc")?;
                attach(&tree, &open_path(&proc, name).step("mask /proc")?).step("mask /proc")?;
            }
        }
        Ok(())
    }
}

/// Shows the host's files that the daemon put into the workspace, read-only, where the view has a
/// file of that name; it is no place that a job could write to.
fn bind_network_files(root: &OwnedFd, workspace: &OwnedFd) -> io::Result<()> {
    for (index, file) in network::FILES.iter().enumerate() {
        let Ok(target) = open_path(root, file.trim_start_matches('/')) else {
            continue;
        };
        let tree = clone_tree(workspace, network_file(index), Recursive::No)?;
        add_mount_attributes(&tree, RDONLY | NOEXEC, Recursive::No)?;
        attach(&tree, &target)?;
    }
    Ok(())
}

/// Where in a workspace the file of [`network::FILES`] with this index lies.
pub(super) fn network_file(index: usize) -> String {
    format!("network-{index}")
}

/// Whether a user who is nobody in particular could use this entry of proc. Those of root alone
/// need no mask: no job is root, and a mount less is quicker.
fn others_can_use(name: &str) -> bool {
    rustix::fs::stat(format!("/proc/{name}")).is_ok_and(|stat| stat.st_mode & 0o007 != 0)
}

/// Makes `root`, which is mounted, the root and working directory of this process, and throws
/// away all else.
fn pivot_into(root: &OwnedFd) -> Result<(), Failure> {
    rustix::process::fchdir(root).step("pivot_root")?;
    rustix::process::pivot_root(".", ".").step("pivot_root")?;
    // The old root now lies over the new one.
    rustix::mount::unmount(".", UnmountFlags::DETACH).step("detach the old root")?;
    rustix::process::chdir("/").step("pivot_root")
}

/// A job's `/dev`, on the directory `target`.
fn build_devices(target: &OwnedFd) -> io::Result<()> {
    let dev = new_tmpfs(&[("mode", "755"), ("size", "64k")], NOSUID | NOEXEC)?;
    for (name, link) in DEVICE_LINKS {
        rustix::fs::symlinkat(link, &dev, name)?;
    }
    for directory in ["shm", "pts"] {
        rustix::fs::mkdirat(&dev, directory, Mode::from_raw_mode(0o755))?;
    }
    attach(&dev, target)?;
    for (name, major, minor) in DEVICES {
        make_device(&dev, name, rustix::fs::makedev(major, minor))?;
    }
    add_mount_attributes(&dev, RDONLY, Recursive::No)
}

/// Makes a device node, or where that is not allowed binds the host's. The host's `/dev` is still
/// at its place.
fn make_device(dev: &OwnedFd, name: &str, device: rustix::fs::Dev) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, device) {
        Ok(()) => Ok(rustix::fs::chmodat(
            dev,
            name,
            mode,
            rustix::fs::AtFlags::empty(),
        )?),
        Err(rustix::io::Errno::PERM) => {
            rustix::fs::mknodat(dev, name, FileType::RegularFile, mode, 0)?;
            let node = clone_tree(CWD, format!("/dev/{name}"), Recursive::No)?;
            add_mount_attributes(&node, NOSUID | NOEXEC, Recursive::No)?;
            attach(&node, &open_path(dev, name)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory beneath another, without following any link.
fn open_beneath(directory: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat2(
        directory,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?)
}

/// Opens whatever is at `path` beneath a directory, without following any link.
fn open_path(directory: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat2(
        directory,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?)
}

/// A detached copy of a mount, from `path` down.
fn clone_tree(
    directory: impl AsFd,
    path: impl rustix::path::Arg,
    recursive: Recursive,
) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive == Recursive::Yes {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(directory, path, flags)?)
}

/// Mounts a detached mount on the directory or file `target`.
fn attach(mount: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// Lets no mount of this mount namespace show in another, nor the other way round.
pub(super) fn keep_mounts_private() -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
}

/// Mounts terminals of its own on `/dev/pts` of this process's root, which has to be a job's.
pub(super) fn mount_terminals(options: &[(&str, &str)]) -> io::Result<()> {
    let terminals = new_mount("devpts", options, NOSUID | NOEXEC)?;
    attach(&terminals, &open_beneath(CWD, "dev/pts")?)
}

/// A detached tmpfs.
pub(super) fn new_tmpfs(
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    new_mount("tmpfs", options, attributes)
}

/// A new filesystem on a detached mount.
fn new_mount(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", kind)?;
    for (name, value) in options {
        rustix::mount::fsconfig_set_string(&context, *name, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// Tries whether a fresh proc may be mounted here, without mounting it anywhere.
pub(super) fn try_proc() -> Result<(), Failure> {
    new_mount("proc", &[], NOSUID | NODEV | NOEXEC)
        .step("mount a fresh proc")
        .map(drop)
}

/// Mounts a fresh proc over `/proc`, in a mount namespace of this process alone.
pub(super) fn mount_proc_over_host() -> Result<(), Failure> {
    keep_mounts_private().step("private mounts")?;
    let proc = new_mount("proc", &[], NOSUID | NODEV | NOEXEC).step("mount a fresh proc")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&proc, "", CWD, "/proc", flags).step("mount a fresh proc")
}
