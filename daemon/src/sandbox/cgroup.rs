//! Control groups: the kernel's own limits and counts for a whole job.
//!
//! [`Groups`] finds at start what this host offers (`place`: version 2 delegated by a service
//! manager or owned by root, version 1, or nothing) and keeps a pool of empty groups there, so that
//! making one is not a job's time. A `Group` holds the program of one stage and everything it
//! starts; init stays outside, so that what kills a group never kills the report of how it ended. The
//! program's process is born in its group or enters it before anything else (`Entry`).
//!
//! All groups are below one parent, which holds the memory of all jobs together.
//!
//! Invariants: a group is used by one stage at a time, and again only when it is empty and what
//! is left in it could be reclaimed at once; else it is removed. Nobody's process is moved but the
//! daemon's own. Where a controller is missing, the `sandbox::tally` does its part.

mod files;
mod place;
mod pool;
mod v1;
mod v2;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub use files::FileError;
pub use place::Missing;
pub(super) use pool::Group;
pub use pool::{Groups, Offer, Settings, memory_for_jobs};

use rustix::fs::{Mode, OFlags};

use super::sys::{self, OneThread, Stack};

/// What a process takes to get into its group, whatever the version: nothing where there is none.
#[derive(Debug)]
pub(super) struct Entry<Fd> {
    /// Directory of the group that it is born in (version 2).
    pub(super) birth: Option<Fd>,
    /// Files that it writes itself into, one for each hierarchy (version 1).
    pub(super) files: Vec<Fd>,
}

impl<Fd> Entry<Fd> {
    /// The most descriptors: a directory, and memory, pids and cpuacct.
    pub(super) const MAX_FDS: usize = 4;

    /// Into no group.
    pub(super) fn none() -> Self {
        Self {
            birth: None,
            files: Vec::new(),
        }
    }
}

impl Entry<OwnedFd> {
    /// Starts a process that belongs to the group and borrows this one's memory ([`sys::start`]);
    /// it has to [`Entry::join`] first of all.
    pub(super) fn start(
        &mut self,
        thread: &OneThread,
        stack: &Stack,
        child: &mut dyn FnMut(&Self) -> u8,
    ) -> io::Result<i32> {
        if let Some(group) = self.birth.take() {
            match sys::start_in_group(thread, stack, &group, &mut || child(self)) {
                // Filters of container engines refuse clone3, which nothing else can do.
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                    let file = rustix::fs::openat(&group, "cgroup.procs", flags, Mode::empty())?;
                    self.files.push(file);
                }
                result => return result,
            }
        }
        sys::start(thread, stack, &mut || child(self))
    }

    /// Puts this process, which has one thread, where it could not be born.
    pub(super) fn join(&self) -> io::Result<()> {
        for file in &self.files {
            // "0" is whoever writes. The file `tasks` moves one thread, for which the kernel need
            // not wait for all others as it does for `cgroup.procs`: 0.05 ms instead of 10.
            rustix::io::write(file, b"0")?;
        }
        Ok(())
    }
}

/// What the processes of a group have used and met since it was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    /// User and system time of everything that ever was in it.
    pub(super) cpu: Option<Duration>,
    /// What of that was in the kernel, where the kernel tells.
    pub(super) system: Option<Duration>,
    /// Bytes at the peak.
    pub(super) memory: Option<u64>,
    /// What the kernel killed for.
    pub(super) killed: OutOfMemory,
}

/// Whether the kernel has killed processes of a group for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OutOfMemory {
    /// It has not.
    #[default]
    No,
    /// The group was at its own limit.
    OwnLimit,
    /// All jobs together were at theirs, or the host was.
    Elsewhere,
}

/// What a group is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Bytes of memory, files in tmpfs included.
    pub(super) memory: u64,
    /// Processes and threads.
    pub(super) processes: u64,
}
