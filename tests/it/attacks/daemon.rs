//! What there is of a daemon and its jobs on the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use piston_tests::Daemon;

/// How soon nothing of a job may be left.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much more memory the daemon may have than before: what an allocator keeps for later.
const MEMORY: u64 = 48 << 20;

/// What jobs could leave traces in.
#[derive(Debug, Clone)]
pub(super) struct Traces {
    /// Processes below the daemon, by name; those of sandboxes that wait are alike. Without a
    /// process a control group is empty.
    processes: BTreeSet<String>,
    /// Descriptors of the daemon: pipes, workspaces, sockets, processes.
    descriptors: usize,
    /// Mounts in its folder: the host's are those of others too.
    mounts: usize,
    /// Files in the data directory.
    files: BTreeSet<PathBuf>,
    /// Bytes of memory that the daemon has.
    memory: u64,
}

impl Traces {
    /// Those of a daemon that has nothing to do.
    pub(super) fn settled(daemon: &Daemon) -> Self {
        let mut last = Self::of(daemon);
        let deadline = Instant::now() + 5 * PATIENCE;
        loop {
            std::thread::sleep(PATIENCE / 4);
            let now = Self::of(daemon);
            if last.explains(&now) || Instant::now() > deadline {
                return now;
            }
            last = now;
        }
    }

    fn of(daemon: &Daemon) -> Self {
        let proc = PathBuf::from(format!("/proc/{}", daemon.pid()));
        let read = |name: &str| fs::read_to_string(proc.join(name)).expect("a daemon that lives");
        let own = daemon.folder().to_string_lossy();
        let resident = read("statm");
        let pages = resident.split(' ').nth(1).expect("a field");
        let mut files = BTreeSet::new();
        collect(&daemon.data(), &mut files);
        Self {
            processes: below(daemon.pid().as_raw()),
            descriptors: descriptors(&proc.join("fd")),
            mounts: read("mountinfo").matches(&*own).count(),
            files,
            memory: pages.parse::<u64>().expect("a number") * 4096,
        }
    }

    /// Whether there is no more now than there was.
    fn explains(&self, now: &Self) -> bool {
        now.processes.is_subset(&self.processes)
            && now.descriptors <= self.descriptors
            && now.mounts <= self.mounts
            && now.files.is_subset(&self.files)
            && now.memory <= self.memory + MEMORY
    }

    /// Checks that nothing came to them that stays.
    pub(super) fn are_all(&self, daemon: &Daemon, attack: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::of(daemon);
            if self.explains(&now) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{attack} left something\nbefore: {self:#?}\nafter: {now:#?}"
            );
            std::thread::sleep(PATIENCE / 50);
        }
    }
}

/// How many there are besides those of control groups, which wait for other jobs.
fn descriptors(folder: &Path) -> usize {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    let links = all.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter(|link| !link.starts_with("/sys/fs/cgroup"))
        .count()
}

/// Names of all processes below one, each with the names above it.
fn below(root: i32) -> BTreeSet<String> {
    let all: Vec<(i32, i32, String)> = fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (head, tail) = stat.rsplit_once(") ")?;
            let parent = tail.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent, head.split_once('(')?.1.to_owned()))
        })
        .collect();
    let mut names = BTreeSet::new();
    let mut open = vec![(root, String::new())];
    while let Some((parent, path)) = open.pop() {
        for (pid, _, name) in all.iter().filter(|(_, of, _)| *of == parent) {
            let path = format!("{path}/{name}");
            names.insert(path.clone());
            open.push((*pid, path));
        }
    }
    names
}

fn collect(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_none_or(|kind| kind != "hot") {
            files.insert(path);
        }
    }
}
