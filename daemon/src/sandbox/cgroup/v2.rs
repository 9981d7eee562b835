//! Groups of version 2: one directory has everything, and processes are born in it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::super::spec::Controllers;
use super::files::{self, FileError};
use super::place::{Leave, Unified};
use super::{Bounds, Entry, OutOfMemory, Usage};

/// Where the daemon itself goes when it has to leave its group.
const DAEMON: &str = "daemon";

/// The group above all jobs.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) path: PathBuf,
    controllers: Controllers,
}

/// One job's group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) path: PathBuf,
    /// Where processes are born.
    directory: OwnedFd,
    controllers: Controllers,
    /// The highest use of memory; the file counts from when it was last told to.
    peak: Option<File>,
    /// What is set.
    bounds: Option<Bounds>,
    /// Counters when the group was given out.
    before: Counters,
}

/// Counters that only ever grow.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    /// Microseconds.
    cpu: u64,
    /// Those of them in the kernel.
    system: u64,
    /// How often the group was at its limit and nothing could be reclaimed.
    at_limit: u64,
    /// Processes killed for want of memory.
    killed: u64,
}

/// Whether a group can be used once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It counts from the beginning.
    Ready,
    /// This kernel (before 6.12) can't forget the peak.
    Never,
}

impl Parent {
    /// Makes the group `name` at `place`, which holds all jobs to `memory` bytes.
    pub(super) fn open(place: &Unified, name: &str, memory: u64) -> Result<Self, FileError> {
        let Unified {
            base,
            controllers,
            leave,
        } = place;
        if *leave == Leave::Below {
            let below = base.join(DAEMON);
            files::make(&below)?;
            files::write(&below, "cgroup.procs", "0")?;
        }
        hand_on(base, *controllers)?;
        let path = base.join(name);
        files::make(&path)?;
        hand_on(&path, *controllers)?;
        if controllers.memory {
            files::write(&path, "memory.max", &memory.to_string())?;
            no_swap(&path)?;
        }
        Ok(Self {
            path,
            controllers: *controllers,
        })
    }

    /// Makes a group below.
    pub(super) fn make(&self, name: &str) -> Result<Group, FileError> {
        let path = self.path.join(name);
        files::make(&path)?;
        if self.controllers.memory {
            // All processes of a job die together.
            files::write(&path, "memory.oom.group", "1")?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| FileError::new("open", &path, error))?;
        let mut group = Group {
            directory,
            controllers: self.controllers,
            peak: open_peak(&path),
            path,
            bounds: None,
            before: Counters::default(),
        };
        group.begin()?;
        Ok(group)
    }
}

/// Lets the groups below `group` have `controllers`.
fn hand_on(group: &Path, controllers: Controllers) -> Result<(), FileError> {
    let names = [(controllers.memory, "+memory"), (controllers.pids, "+pids")];
    for (_, name) in names.into_iter().filter(|(there, _)| *there) {
        let handed_on = files::read(group, "cgroup.subtree_control")?;
        if handed_on
            .split_ascii_whitespace()
            .any(|word| word == &name[1..])
        {
            continue;
        }
        files::write(group, "cgroup.subtree_control", name)?;
    }
    Ok(())
}

/// Forbids swap; a kernel without it has no such file.
fn no_swap(group: &Path) -> Result<(), FileError> {
    match files::write(group, "memory.swap.max", "0") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Opens the peak so that it can be set back, or where the kernel can't at least to read it.
fn open_peak(group: &Path) -> Option<File> {
    let path = group.join("memory.peak");
    let both = OpenOptions::new().read(true).write(true).open(&path);
    both.or_else(|_| File::open(&path)).ok()
}

impl Group {
    /// How a program gets in.
    pub(super) fn entry(&self) -> Entry<BorrowedFd<'_>> {
        Entry {
            birth: Some(self.directory.as_fd()),
            files: Vec::new(),
        }
    }

    /// Sets what it is to hold.
    pub(super) fn bound(&mut self, bounds: Bounds) -> Result<(), FileError> {
        if self.bounds == Some(bounds) {
            return Ok(());
        }
        self.bounds = None;
        if self.controllers.memory {
            files::write(&self.path, "memory.max", &bounds.memory.to_string())?;
        }
        if self.controllers.pids {
            files::write(&self.path, "pids.max", &bounds.processes.to_string())?;
        }
        self.bounds = Some(bounds);
        Ok(())
    }

    /// Counts from now on.
    pub(super) fn begin(&mut self) -> Result<Again, FileError> {
        self.before = self.counters()?;
        let forgotten = self.peak.as_mut().map(|peak| peak.write_all(b"reset\n"));
        match forgotten {
            Some(Err(_)) => Ok(Again::Never),
            Some(Ok(())) | None => Ok(Again::Ready),
        }
    }

    fn counters(&self) -> Result<Counters, FileError> {
        let cpu = files::read(&self.path, "cpu.stat")?;
        let events = if self.controllers.memory {
            files::read(&self.path, "memory.events")?
        } else {
            String::new()
        };
        Ok(Counters {
            cpu: files::value(&cpu, "usage_usec"),
            system: files::value(&cpu, "system_usec"),
            at_limit: files::value(&events, "oom"),
            killed: files::value(&events, "oom_kill"),
        })
    }

    /// Processor time only: cheap.
    pub(super) fn cpu(&self) -> Result<Option<Duration>, FileError> {
        let cpu = files::value(&files::read(&self.path, "cpu.stat")?, "usage_usec");
        Ok(Some(Duration::from_micros(
            cpu.saturating_sub(self.before.cpu),
        )))
    }

    /// What its processes have used.
    pub(super) fn usage(&self) -> Result<Usage, FileError> {
        let now = self.counters()?;
        let killed = match () {
            () if now.killed == self.before.killed => OutOfMemory::No,
            () if now.at_limit > self.before.at_limit => OutOfMemory::OwnLimit,
            () => OutOfMemory::Elsewhere,
        };
        let memory = if self.controllers.memory {
            self.memory()?
        } else {
            None
        };
        Ok(Usage {
            cpu: Some(Duration::from_micros(
                now.cpu.saturating_sub(self.before.cpu),
            )),
            system: Some(Duration::from_micros(
                now.system.saturating_sub(self.before.system),
            )),
            memory,
            killed,
        })
    }

    /// The peak less what is the page cache's and could be reclaimed; none before Linux 5.19.
    fn memory(&self) -> Result<Option<u64>, FileError> {
        let mut text = [0; 32];
        let peak = self.peak.as_ref().and_then(|peak| {
            let length = peak.read_at(&mut text, 0).ok()?;
            files::number(std::str::from_utf8(text.get(..length)?).ok()?)
        });
        let stat = files::read(&self.path, "memory.stat")?;
        let [file, shmem, anon, caches] =
            ["file", "shmem", "anon", "slab_reclaimable"].map(|key| files::value(&stat, key));
        let cached = file.saturating_sub(shmem).saturating_add(caches);
        let held = anon.saturating_add(shmem);
        Ok(peak.map(|peak| peak.saturating_sub(cached).max(held)))
    }

    /// Whether no process is in it.
    pub(super) fn is_empty(&self) -> bool {
        files::read(&self.path, "cgroup.events").is_ok_and(|events| events.contains("populated 0"))
    }

    /// Bytes in it that nothing can reclaim.
    pub(super) fn held(&self) -> u64 {
        if !self.controllers.memory {
            return 0;
        }
        let stat = files::read(&self.path, "memory.stat").unwrap_or_default();
        files::value(&stat, "anon").saturating_add(files::value(&stat, "shmem"))
    }
}

/// Kills all in a group and in those below it. A kernel before 5.14 can't.
pub(super) fn kill(group: &Path) {
    // What can't be killed can't be removed, which is noticed.
    files::write(group, "cgroup.kill", "1").ok();
}
