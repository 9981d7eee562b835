//! Groups of version 1: one directory in each hierarchy, and processes write themselves into them.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::files::{self, FileError};
use super::place::Legacy;
use super::{Bounds, Entry, OutOfMemory, Usage};

/// A group that came so near to its limit was at it: memory is charged in batches. (`failcnt`
/// does not count on every kernel.)
const NEAR: u64 = 1 << 20;

/// The groups above all jobs, one in each hierarchy.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) places: Legacy,
}

/// One job's groups.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) places: Legacy,
    /// Where a process writes itself into them.
    tasks: Vec<OwnedFd>,
    /// What is set.
    bounds: Option<Bounds>,
    /// Counters when the group was given out.
    before: Counters,
}

/// What can't be set back to zero.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    /// Processes killed for want of memory.
    killed: u64,
    /// Bytes of the kernel's own that earlier programs left, directory entries for the most part.
    kernel: u64,
    /// Nanoseconds.
    cpu: u64,
    /// Those of them in the kernel; none where that is not told (before Linux 4.7).
    system: Option<u64>,
}

impl Legacy {
    /// Every directory once: hierarchies may have several controllers.
    pub(super) fn directories(&self) -> Vec<&PathBuf> {
        let mut all: Vec<_> = [&self.memory, &self.pids, &self.cpu]
            .into_iter()
            .flatten()
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The groups `name` below these.
    fn below(&self, name: &str) -> Self {
        let below = |place: &Option<PathBuf>| place.as_ref().map(|path| path.join(name));
        Self {
            memory: below(&self.memory),
            pids: below(&self.pids),
            cpu: below(&self.cpu),
        }
    }
}

impl Parent {
    /// Makes the groups `name` at `places`, which hold all jobs to `memory` bytes.
    pub(super) fn open(places: &Legacy, name: &str, memory: u64) -> Result<Self, FileError> {
        let places = places.below(name);
        for place in places.directories() {
            files::make(place)?;
        }
        if let Some(group) = &places.memory {
            // Inherited by the groups below.
            files::write(group, "memory.swappiness", "0")?;
            limit_memory(group, memory)?;
        }
        Ok(Self { places })
    }

    /// Makes groups below.
    pub(super) fn make(&self, name: &str) -> Result<Group, FileError> {
        let places = self.places.below(name);
        let mut tasks = Vec::new();
        for place in places.directories() {
            files::make(place)?;
            let path = place.join("tasks");
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(&path, flags, Mode::empty())
                .map_err(|error| FileError::new("open", &path, error))?;
            tasks.push(file);
        }
        let mut group = Group {
            places,
            tasks,
            bounds: None,
            before: Counters::default(),
        };
        group.begin()?;
        Ok(group)
    }
}

/// Limits memory, and memory with swap to the same. The second may never be below the first, so
/// the order depends on the direction.
fn limit_memory(group: &Path, bytes: u64) -> Result<(), FileError> {
    const MEMORY: &str = "memory.limit_in_bytes";
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    let text = bytes.to_string();
    if !group.join(WITH_SWAP).exists() {
        return files::write(group, MEMORY, &text);
    }
    let both = files::number(&files::read(group, WITH_SWAP)?).unwrap_or(u64::MAX);
    let order = if bytes > both {
        [WITH_SWAP, MEMORY]
    } else {
        [MEMORY, WITH_SWAP]
    };
    for name in order {
        files::write(group, name, &text)?;
    }
    Ok(())
}

impl Group {
    /// How a program gets in.
    pub(super) fn entry(&self) -> Entry<BorrowedFd<'_>> {
        Entry {
            birth: None,
            files: self.tasks.iter().map(|file| file.as_fd()).collect(),
        }
    }

    /// Sets what they are to hold.
    pub(super) fn bound(&mut self, bounds: Bounds) -> Result<(), FileError> {
        if self.bounds == Some(bounds) {
            return Ok(());
        }
        self.bounds = None;
        if let Some(group) = &self.places.memory {
            limit_memory(group, bounds.memory)?;
        }
        if let Some(group) = &self.places.pids {
            files::write(group, "pids.max", &bounds.processes.to_string())?;
        }
        self.bounds = Some(bounds);
        Ok(())
    }

    /// Counts from now on.
    pub(super) fn begin(&mut self) -> Result<(), FileError> {
        if let Some(group) = &self.places.memory {
            files::write(group, "memory.max_usage_in_bytes", "0")?;
            self.before.killed = killed(group)?;
            self.before.kernel = kernel_memory(group);
        }
        if let Some(group) = &self.places.cpu {
            self.before.cpu = cpu(group)?;
            self.before.system = system(group);
        }
        Ok(())
    }

    /// Processor time only: cheap.
    pub(super) fn cpu(&self) -> Result<Option<Duration>, FileError> {
        let Some(group) = &self.places.cpu else {
            return Ok(None);
        };
        Ok(Some(Duration::from_nanos(
            cpu(group)?.saturating_sub(self.before.cpu),
        )))
    }

    /// What of it was in the kernel.
    fn system(&self) -> Option<Duration> {
        let now = system(self.places.cpu.as_ref()?)?;
        let used = now.saturating_sub(self.before.system?);
        Some(Duration::from_nanos(used))
    }

    /// Whether the kernel has killed one of its processes for want of memory.
    pub(super) fn out_of_memory(&self) -> Result<OutOfMemory, FileError> {
        let Some(group) = &self.places.memory else {
            return Ok(OutOfMemory::No);
        };
        if killed(group)? == self.before.killed {
            return Ok(OutOfMemory::No);
        }
        let limit = self.bounds.map_or(u64::MAX, |bounds| bounds.memory);
        Ok(if peak(group)?.saturating_add(NEAR) >= limit {
            OutOfMemory::OwnLimit
        } else {
            OutOfMemory::Elsewhere
        })
    }

    /// What its processes have used.
    pub(super) fn usage(&self) -> Result<Usage, FileError> {
        let memory = match &self.places.memory {
            Some(group) => Some(self.memory(group)?),
            None => None,
        };
        Ok(Usage {
            cpu: self.cpu()?,
            system: self.system(),
            memory,
            killed: self.out_of_memory()?,
        })
    }

    /// The peak less the page cache, and less what was there before.
    fn memory(&self, group: &Path) -> Result<u64, FileError> {
        let stat = files::read(group, "memory.stat")?;
        let [cache, shmem, rss] = ["cache", "shmem", "rss"].map(|key| files::value(&stat, key));
        let foreign = cache
            .saturating_sub(shmem)
            .saturating_add(self.before.kernel);
        Ok(peak(group)?
            .saturating_sub(foreign)
            .max(rss.saturating_add(shmem)))
    }

    /// Whether no process is in any of them.
    pub(super) fn is_empty(&self) -> bool {
        let empty = |place: &&PathBuf| files::read(place, "tasks").is_ok_and(|all| all.is_empty());
        self.places.directories().iter().all(empty)
    }

    /// Bytes in it that nothing can reclaim.
    pub(super) fn held(&self) -> u64 {
        let Some(group) = &self.places.memory else {
            return 0;
        };
        let stat = files::read(group, "memory.stat").unwrap_or_default();
        files::value(&stat, "rss").saturating_add(files::value(&stat, "shmem"))
    }
}

/// Processes killed for want of memory, so far.
fn killed(group: &Path) -> Result<u64, FileError> {
    let control = files::read(group, "memory.oom_control")?;
    Ok(files::value(&control, "oom_kill"))
}

/// Bytes at the peak.
fn peak(group: &Path) -> Result<u64, FileError> {
    let text = files::read(group, "memory.max_usage_in_bytes")?;
    Ok(files::number(&text).unwrap_or(0))
}

/// Bytes of the kernel's own; 0 where they are not counted.
fn kernel_memory(group: &Path) -> u64 {
    let text = files::read(group, "memory.kmem.usage_in_bytes").unwrap_or_default();
    files::number(&text).unwrap_or(0)
}

/// Nanoseconds of processor time, so far.
fn cpu(group: &Path) -> Result<u64, FileError> {
    Ok(files::number(&files::read(group, "cpuacct.usage")?).unwrap_or(0))
}

/// Nanoseconds of it in the kernel, so far.
fn system(group: &Path) -> Option<u64> {
    files::number(&files::read(group, "cpuacct.usage_sys").ok()?)
}

/// Kills all in a group. One that forks meanwhile is caught the next time.
pub(super) fn kill(group: &Path) {
    let tasks = files::read(group, "cgroup.procs").unwrap_or_default();
    let pids = tasks.lines().filter_map(|line| line.parse().ok());
    for pid in pids.filter_map(rustix::process::Pid::from_raw) {
        // It may be dead by now.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}
