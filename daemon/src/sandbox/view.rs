//! A view in the filesystem's mount, looked up by one sandbox at a time.
//!
//! Since Linux 6.16 a name of FUSE can be seen a moment before it is marked as current. Whoever
//! looks it up in that moment takes it for outdated and drops it from the kernel's names, together
//! with what is mounted on it by then. So the names that a sandbox mounts on, and those above them,
//! are looked up in turns.
//!
//! Invariant: nobody else looks these names up for the first time. The daemon never goes through
//! its own mount, and a program lives beneath names that its init has found and that its mounts
//! keep in the kernel's memory.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{CWD, FlockOperation, MemfdFlags, fcntl_lock, memfd_create};
use rustix::mount::MountAttrFlags;

use super::error::{Failure, Step as _};
use super::mounts::{clone_tree, open_beneath};
use super::sys::{Recursive, add_mount_attributes};

/// A read-only copy of a view, mounted nowhere yet, and the places in it that are mounted on.
#[derive(Debug)]
pub(super) struct View {
    pub(super) root: OwnedFd,
    pub(super) dev: OwnedFd,
    pub(super) proc: OwnedFd,
    pub(super) job: OwnedFd,
    pub(super) tmp: OwnedFd,
}

/// Whose turn it is: a file that is locked by whoever looks a view up. A daemon has one, which all
/// its launchers and their inits share.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<OwnedFd>);

impl Turns {
    /// For a daemon.
    pub(super) fn new() -> std::io::Result<Self> {
        let file = memfd_create("turns", MemfdFlags::CLOEXEC)?;
        Ok(Self::of(file))
    }

    /// The daemon's, which it sent.
    pub(super) fn of(file: OwnedFd) -> Self {
        Self(Arc::new(file))
    }

    /// The file, to be sent.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Finds the view named `view`; this process is in the launcher's mount namespace.
    pub(super) fn find(&self, view: &str) -> Result<View, Failure> {
        const STEP: &str = "wait for a turn";
        // A lock of this process: it ends with it, whatever becomes of it.
        fcntl_lock(&self.0, FlockOperation::LockExclusive).step(STEP)?;
        let found = find(view);
        fcntl_lock(&self.0, FlockOperation::Unlock).step(STEP)?;
        found
    }
}

fn find(view: &str) -> Result<View, Failure> {
    const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY
        .union(MountAttrFlags::MOUNT_ATTR_NOSUID)
        .union(MountAttrFlags::MOUNT_ATTR_NODEV);
    // By name: a descriptor from before would be of another copy of the launcher's mounts.
    let fs = open_beneath(CWD, "fs").step("open the view")?;
    let directory = open_beneath(&fs, view).step("open the view")?;
    let root = clone_tree(&directory, "", Recursive::No).step("bind the view")?;
    add_mount_attributes(&root, RDONLY, Recursive::No).step("bind the view")?;
    let place = |name: &str| open_beneath(&root, name).step(&format!("mount /{name}"));
    Ok(View {
        dev: place("dev")?,
        proc: place("proc")?,
        job: place("piston/job")?,
        tmp: place("tmp")?,
        root,
    })
}
