//! Mounts: the launcher's own small root, the ground of a sandbox, and the root of a job.
//!
//! The launcher's root is a tmpfs that holds the filesystem (`/fs`) and an unmasked `/proc` (the
//! kernel lets a user namespace mount a fresh proc only where it can see a whole one). The
//! **ground** is another mount namespace, with nothing but a finished `/dev` and mount points. An
//! init starts from a copy of the ground and adds its own proc to it before it knows its job.
//! Then it fetches the view out of the launcher's mount namespace, lays it over the ground, and
//! moves the rest onto it. Nothing has to be unmounted on the way: each time that would cost a
//! wait for all processors.
//!
//! Invariant: mount targets inside a view are resolved beneath the view and without symlinks, so
//! an image can't redirect a mount; beneath a job's root there are only empty directories, and its
//! own workspace. Not here: who writes into the workspace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use piston_client::api::Network;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::error::{Failure, Step as _};
use super::network;
use super::sys::{Recursive, add_mount_attributes};
use super::view::Turns;

const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

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

/// A job sees its own processes and not its init. Where all jobs share the daemon's user, that one's
/// files would be the job's to list, and its `oom_score_adj` to change.
const PROC: [(&str, &str); 1] = [("hidepid", "ptraceable")];

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

/// What the launcher offers to every init.
#[derive(Debug)]
pub(super) struct Template {
    /// The launcher's mount namespace.
    launcher: OwnedFd,
    /// The mount namespace that every sandbox's is a copy of.
    ground: OwnedFd,
    /// Who may look a view up.
    turns: Turns,
    /// Files of proc to mask, of [`MASKED_FILES`].
    masked_files: Vec<&'static str>,
    /// Directories of proc to mask, of [`MASKED_DIRECTORIES`].
    masked_directories: Vec<&'static str>,
}

/// The mount namespace of a sandbox that waits for its job; this process is in it.
#[derive(Debug)]
pub(super) struct Ground {
    /// The namespace itself.
    namespace: OwnedFd,
    /// Its root.
    root: OwnedFd,
}

impl Template {
    /// Moves this process into a mount namespace of its own, whose root is the launcher's.
    pub(super) fn build(fs: &Path, turns: Turns) -> Result<Self, Failure> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).step("mount namespace")?;
        keep_mounts_private().step("private mounts")?;
        build_root(fs)?;
        let launcher = mount_namespace().step("launcher's root")?;
        let ground = build_ground(&launcher)?;
        let usable = |names: &[&'static str]| {
            let names = names.iter().copied();
            names.filter(|name| others_can_use(name)).collect()
        };
        Ok(Self {
            launcher,
            ground,
            turns,
            masked_files: usable(&MASKED_FILES),
            masked_directories: usable(&MASKED_DIRECTORIES),
        })
    }

    /// Moves this process, the first of its PID namespace, into a copy of the ground with a proc
    /// of that namespace.
    pub(super) fn prepare(&self) -> Result<Ground, Failure> {
        // Asked for where a whole proc is to be seen.
        let proc = new_mount("proc", &PROC, NOSUID | NODEV | NOEXEC).step("mount /proc")?;
        enter_namespace(&self.ground).step("mount namespace")?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).step("mount namespace")?;
        let root = open_beneath(CWD, ".").step("mount /proc")?;
        attach(&proc, &open_beneath(&root, "proc").step("mount /proc")?).step("mount /proc")?;
        self.mask(&proc).step("mask /proc")?;
        let namespace = mount_namespace().step("mount namespace")?;
        Ok(Ground { namespace, root })
    }

    /// Hides in `proc` what tells of the host.
    fn mask(&self, proc: &OwnedFd) -> io::Result<()> {
        let sys = clone_tree(proc, "sys", Recursive::No)?;
        add_mount_attributes(&sys, RDONLY, Recursive::No)?;
        attach(&sys, &open_beneath(proc, "sys")?)?;
        let masks = [
            ("/dev/null", &self.masked_files),
            ("/empty", &self.masked_directories),
        ];
        for (mask, names) in masks {
            for name in names {
                let tree = clone_tree(CWD, mask, Recursive::No)?;
                add_mount_attributes(&tree, RDONLY, Recursive::No)?;
                attach(&tree, &open_path(proc, name)?)?;
            }
        }
        Ok(())
    }

    /// Makes the view named `view` with the writable directories of `workspace` the root of this
    /// process, which is on `ground`.
    pub(super) fn enter(
        &self,
        ground: Ground,
        view: &str,
        workspace: &OwnedFd,
        network: Network,
    ) -> Result<(), Failure> {
        let Ground { namespace, root } = ground;
        enter_namespace(&self.launcher).step("open the view")?;
        let view = self.turns.find(view)?;
        enter_namespace(&namespace).step("mount namespace")?;
        attach(&view.root, &root).step("bind the view")?;
        // These names are of the ground: this process's root is still that, beneath the view.
        move_to("/dev", &view.dev).step("mount /dev")?;
        move_to("/proc", &view.proc).step("mount /proc")?;
        let shm = open_beneath(&view.root, "dev/shm").step("mount /dev/shm")?;
        let workspace_point = open_beneath(&root, "workspace").step("mount the workspace")?;
        attach(workspace, &workspace_point).step("mount the workspace")?;
        for (source, target) in [("job", &view.job), ("tmp", &view.tmp), ("shm", &shm)] {
            let tree = clone_tree(workspace, source, Recursive::No).step("bind the workspace")?;
            attach(&tree, target).step("mount the workspace")?;
        }
        if network == Network::Host {
            bind_network_files(&view.root, workspace).step("mount the network's files")?;
        }
        rustix::process::fchdir(&view.root).step("change root")?;
        rustix::process::chroot(".").step("change root")
    }
}

/// Makes the launcher's root, with the place of the ground in it, the root of this process.
fn build_root(fs: &Path) -> Result<(), Failure> {
    const STEP: &str = "launcher's root";
    let fs_tree = clone_tree(CWD, fs, Recursive::Yes).step("bind the filesystem")?;
    let proc_tree = clone_tree(CWD, "/proc", Recursive::Yes).step("bind /proc")?;
    let root = new_root(&["fs", "proc", "ground"]).step(STEP)?;
    // Anywhere will do: nobody else sees this mount namespace.
    let empty_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", CWD, fs, empty_path).step(STEP)?;
    attach(&proc_tree, &open_beneath(&root, "proc").step(STEP)?).step("bind /proc")?;
    attach(&fs_tree, &open_beneath(&root, "fs").step(STEP)?).step("bind the filesystem")?;
    let ground = new_root(&["dev", "proc", "workspace", "empty"]).step(STEP)?;
    attach(&ground, &open_beneath(&root, "ground").step(STEP)?).step(STEP)?;
    // Now, as it may need the host's.
    build_devices(&open_beneath(&ground, "dev").step("/dev")?).step("/dev")?;
    pivot_into(&root)
}

/// A mount namespace with nothing but the ground, made out of `launcher`, in which this process
/// is and stays.
fn build_ground(launcher: &OwnedFd) -> Result<OwnedFd, Failure> {
    const STEP: &str = "ground of sandboxes";
    let proc = open_beneath(CWD, "proc").step(STEP)?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).step(STEP)?;
    pivot_into(&open_beneath(CWD, "ground").step(STEP)?)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let ground = rustix::fs::openat(&proc, "self/ns/mnt", flags, Mode::empty()).step(STEP)?;
    enter_namespace(launcher).step(STEP)?;
    rustix::mount::unmount("/ground", UnmountFlags::DETACH).step(STEP)?;
    Ok(ground)
}

/// The mount namespace of this process.
fn mount_namespace() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty())?)
}

/// Enters a mount namespace; root and working directory are its root then.
fn enter_namespace(namespace: &OwnedFd) -> io::Result<()> {
    Ok(nix::sched::setns(namespace, CloneFlags::CLONE_NEWNS)?)
}

/// A detached tmpfs with empty directories, to be a root.
fn new_root(directories: &[&str]) -> io::Result<OwnedFd> {
    let root = new_tmpfs(&[("mode", "755"), ("size", "64k")], NOSUID)?;
    for directory in directories {
        rustix::fs::mkdirat(&root, *directory, Mode::from_raw_mode(0o755))?;
    }
    Ok(root)
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

/// Moves the mount at `source` on the directory `target`.
fn move_to(source: &str, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(CWD, source, target, "", flags)?)
}

/// Opens a directory beneath another, without following any link.
pub(super) fn open_beneath(directory: impl AsFd, path: &str) -> io::Result<OwnedFd> {
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
pub(super) fn clone_tree(
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
    new_mount("proc", &PROC, NOSUID | NODEV | NOEXEC)
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
