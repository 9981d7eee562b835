//! Where on this host groups for jobs can be made; nothing is changed here.
//!
//! Version 2 first: the daemon's own group when it is alone in it (as a service with
//! `Delegate=yes` is), else the nearest group above that it may write to and whose groups have
//! the controllers already. A process can be moved only below a group that both ends share, and a
//! group with processes in it can't hand controllers on; that rules everything else out. Version 1:
//! for each controller the daemon's own group, else the group `piston` at the top, which an
//! administrator can make for a user.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::super::spec::Controllers;
use super::files;

/// Name of the group at the top of a version 1 hierarchy that an administrator makes for a user.
const GIVEN: &str = "piston";

/// What the kernel tells of the groups of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    /// `/proc/self/mountinfo`.
    pub(super) mounts: &'a str,
    /// `/proc/self/cgroup`.
    pub(super) groups: &'a str,
    /// This process.
    pub(super) pid: u32,
}

/// Where groups can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Version 2.
    Unified(Unified),
    /// Version 1.
    Legacy(Legacy),
}

/// A place in the one hierarchy of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unified {
    /// The group below which the parent of all jobs goes.
    pub(super) base: PathBuf,
    /// Controllers that its groups can have.
    pub(super) controllers: Controllers,
    /// Whether this process has to leave it first, since it is in it.
    pub(super) leave: Leave,
}

/// What this process has to do before its group can hand controllers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Nothing.
    Stay,
    /// Go to a group of its own below.
    Below,
}

/// Places in the hierarchies of version 1, by controller; some may be one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Legacy {
    /// For memory.
    pub(super) memory: Option<PathBuf>,
    /// For pids.
    pub(super) pids: Option<PathBuf>,
    /// For cpuacct.
    pub(super) cpu: Option<PathBuf>,
}

impl Legacy {
    /// What can be limited and counted here.
    pub(super) fn controllers(&self) -> Controllers {
        Controllers {
            memory: self.memory.is_some(),
            pids: self.pids.is_some(),
            cpu: self.cpu.is_some(),
        }
    }
}

/// Why there are no groups for jobs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Missing {
    /// What stands in the way.
    pub reason: String,
    /// What the operator can do, exact commands.
    pub remedy: String,
}

impl Place {
    /// The best place for this process.
    pub(super) fn find(own: Own<'_>) -> Result<Self, Missing> {
        let hierarchies = hierarchies(own);
        let unified = hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.is_none());
        let found = unified.map(|hierarchy| unified_place(hierarchy, own.pid));
        let legacy = legacy_place(&hierarchies);
        match (found, legacy) {
            (Some(Ok(place)), Legacy { memory: None, .. }) => Ok(Self::Unified(place)),
            (_, legacy) if legacy != Legacy::default() => Ok(Self::Legacy(legacy)),
            (Some(Ok(place)), _) => Ok(Self::Unified(place)),
            (found, _) => Err(missing(&hierarchies, found.and_then(Result::err))),
        }
    }
}

/// A mounted hierarchy and where this process is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// Controllers of a version 1 hierarchy; none for version 2.
    controllers: Option<Vec<String>>,
    /// Where its top, as far as it is visible here, is mounted.
    top: PathBuf,
    /// This process's group.
    own: PathBuf,
}

impl Hierarchy {
    /// Whether it is one of version 1 that limits need.
    fn limits_in_version_1(&self) -> bool {
        let controllers = self.controllers.as_deref().unwrap_or_default();
        controllers
            .iter()
            .any(|name| name == "memory" || name == "pids")
    }
}

/// Every hierarchy that is mounted where the group of this process can be seen.
fn hierarchies(own: Own<'_>) -> Vec<Hierarchy> {
    let one = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, top) = (unescaped(mount.next()?), unescaped(mount.next()?));
        let mut kind = kind.split(' ');
        let controllers = match kind.next()? {
            "cgroup" => Some(kind.next_back()?.split(',').map(str::to_owned).collect()),
            "cgroup2" => None,
            _ => return None,
        };
        let path = own_path(own.groups, controllers.as_deref())?;
        let below = Path::new(path).strip_prefix(&root).ok()?;
        let top = PathBuf::from(top);
        Some(Hierarchy {
            controllers,
            own: if below == Path::new("") {
                top.clone()
            } else {
                top.join(below)
            },
            top,
        })
    };
    own.mounts.lines().filter_map(one).collect()
}

/// The path of this process's group in the hierarchy that has one of `controllers`.
fn own_path<'a>(groups: &'a str, controllers: Option<&[String]>) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let matches = match controllers {
            None => names.is_empty(),
            Some(controllers) => names
                .split(',')
                .any(|name| controllers.iter().any(|controller| controller == name)),
        };
        matches.then_some(path)
    })
}

/// A path of mountinfo, where space, tab, newline and backslash are octal.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// Whether groups may be made in `group`.
fn may_write(group: &Path) -> bool {
    rustix::fs::access(group, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// For each controller the first place that can be written to.
fn legacy_place(hierarchies: &[Hierarchy]) -> Legacy {
    let find = |name: &str| {
        hierarchies
            .iter()
            .filter(|hierarchy| {
                let controllers = hierarchy.controllers.as_deref().unwrap_or_default();
                controllers.iter().any(|controller| controller == name)
            })
            .flat_map(|hierarchy| [hierarchy.own.clone(), hierarchy.top.join(GIVEN)])
            .find(|group| may_write(group))
    };
    Legacy {
        memory: find("memory"),
        pids: find("pids"),
        cpu: find("cpuacct"),
    }
}

/// The nearest group, from the own one upwards, that can hold groups of jobs: one with both
/// controllers, else one with any.
fn unified_place(hierarchy: &Hierarchy, pid: u32) -> Result<Unified, Obstacle> {
    let mut best: Result<Unified, Obstacle> = Err(Obstacle::NotDelegated);
    let above = hierarchy.own.ancestors();
    for group in above.take_while(|group| group.starts_with(&hierarchy.top)) {
        match usable(group, hierarchy, pid) {
            Ok(place) if place.controllers.memory && place.controllers.pids => return Ok(place),
            Ok(place) if best.is_err() => best = Ok(place),
            Err(obstacle) if best == Err(Obstacle::NotDelegated) => best = Err(obstacle),
            _ => {}
        }
    }
    best
}

/// What stands in the way of groups in version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// No group that is writable here.
    NotDelegated,
    /// The own group is, and has controllers, but other processes are in it.
    Shared,
    /// It is writable, and has no controllers.
    NoControllers,
}

/// Whether groups of jobs can be in `group`.
fn usable(group: &Path, hierarchy: &Hierarchy, pid: u32) -> Result<Unified, Obstacle> {
    if !may_write(group) || !may_write_file(&group.join("cgroup.procs")) {
        return Err(Obstacle::NotDelegated);
    }
    let offered = controllers(group, "cgroup.controllers");
    let handed_on = controllers(group, "cgroup.subtree_control");
    if !offered.memory && !offered.pids {
        return Err(Obstacle::NoControllers);
    }
    let place = |controllers, leave| Unified {
        base: group.to_owned(),
        controllers,
        leave,
    };
    if handed_on == offered {
        return Ok(place(offered, Leave::Stay));
    }
    // The top of the whole hierarchy alone has no type, and may have processes.
    let inside = files::read(group, "cgroup.procs").unwrap_or_default();
    let is_top = !group.join("cgroup.type").exists();
    if is_top || inside.trim().is_empty() {
        return Ok(place(offered, Leave::Stay));
    }
    if group == hierarchy.own && inside.trim() == pid.to_string() {
        return Ok(place(offered, Leave::Below));
    }
    if handed_on.memory || handed_on.pids {
        return Ok(place(handed_on, Leave::Stay));
    }
    Err(Obstacle::Shared)
}

/// What a file of version 2 lists. Processor time is counted in every group.
fn controllers(group: &Path, name: &str) -> Controllers {
    let text = files::read(group, name).unwrap_or_default();
    let has = |name: &str| text.split_ascii_whitespace().any(|word| word == name);
    Controllers {
        memory: has("memory"),
        pids: has("pids"),
        cpu: true,
    }
}

fn may_write_file(file: &Path) -> bool {
    rustix::fs::access(file, Access::WRITE_OK).is_ok()
}

/// What to say when there is no place.
fn missing(hierarchies: &[Hierarchy], obstacle: Option<Obstacle>) -> Missing {
    let is_root = is_root_of_host();
    let one = |reason: &str, remedy: &str| Missing {
        reason: reason.to_owned(),
        remedy: remedy.to_owned(),
    };
    match obstacle {
        Some(_)
            if hierarchies
                .iter()
                .any(|hierarchy| is_read_only(&hierarchy.top)) =>
        {
            one(
                "control groups are read-only here, as in most containers",
                "give the container its own: `--cgroupns=private` with a writable /sys/fs/cgroup \
             (podman: `--security-opt unmask=/sys/fs/cgroup`)",
            )
        }
        _ if hierarchies.iter().any(Hierarchy::limits_in_version_1) => {
            one("no version 1 group can be written to", GIVE_LEGACY)
        }
        Some(Obstacle::Shared) => one(
            "the daemon's control group holds other processes too, and can't hand controllers on",
            START_ALONE,
        ),
        Some(Obstacle::NotDelegated) if !is_root => one(
            "no control group is delegated to this user here",
            START_ALONE_AS_USER,
        ),
        Some(Obstacle::NoControllers | Obstacle::NotDelegated) => one(
            "no control group with the memory or pids controller can be written to",
            "let the service manager delegate them: `systemctl set-property user@.service \
             Delegate=\"memory pids cpu\"`, or for a service `Delegate=yes`",
        ),
        None => one(
            "none that limits memory or processes is mounted",
            "mount them: `mount -t cgroup2 none /sys/fs/cgroup`",
        ),
    }
}

const START_ALONE: &str = "start the daemon alone in a delegated group: `systemd-run --scope -p \
    Delegate=yes pistond serve` (as a user: `systemd-run --user --scope -p Delegate=yes ...`), or \
    as a service with `Delegate=yes`";

const START_ALONE_AS_USER: &str = "start the daemon below the user's service manager: `systemd-run \
    --user --scope -p Delegate=yes pistond serve`, or as a user service with `Delegate=yes`; \
    `loginctl enable-linger` keeps it after logout";

const GIVE_LEGACY: &str = "as root: `for c in memory pids cpuacct; do mkdir \
    /sys/fs/cgroup/$c/piston && chown -R USER /sys/fs/cgroup/$c/piston; done`";

/// Whether this process is the host's root, and not just that of a user namespace.
fn is_root_of_host() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outside = map.split_ascii_whitespace().nth(1);
    rustix::process::geteuid().is_root() && outside == Some("0")
}

/// Whether nobody can write there.
fn is_read_only(top: &Path) -> bool {
    use rustix::fs::StatVfsMountFlags;
    rustix::fs::statvfs(top).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Bytes that processes in the groups of `place` can have at most, as far as the groups above say,
/// and no more than the host's memory.
pub(super) fn memory_above(place: &Place) -> u64 {
    match place {
        Place::Unified(Unified { base, .. }) => memory(Some(base), None),
        Place::Legacy(Legacy { memory: group, .. }) => memory(None, group.as_deref()),
    }
}

/// The same of this process's own groups, where none can be made for jobs.
pub(super) fn memory_of_process(own: Own<'_>) -> u64 {
    let hierarchies = hierarchies(own);
    let group = |is_it: &dyn Fn(Option<&[String]>) -> bool| {
        let found = hierarchies
            .iter()
            .find(|hierarchy| is_it(hierarchy.controllers.as_deref()));
        found.map(|hierarchy| &*hierarchy.own)
    };
    memory(
        group(&|controllers| controllers.is_none()),
        group(&|controllers| {
            controllers.is_some_and(|names| names.iter().any(|name| name == "memory"))
        }),
    )
}

/// What a group of version 2 and one of version 1 may use, and the host has.
fn memory(unified: Option<&Path>, legacy: Option<&Path>) -> u64 {
    let host = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = host
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
        .and_then(files::number)
        .map(|kibibytes| kibibytes.saturating_mul(1024));
    let above = unified.into_iter().flat_map(Path::ancestors);
    let in_version_2 =
        above.filter_map(|group| files::number(&files::read(group, "memory.max").ok()?));
    let in_version_1 = legacy.and_then(|group| {
        let stat = files::read(group, "memory.stat").ok()?;
        Some(files::value(&stat, "hierarchical_memory_limit")).filter(|limit| *limit > 0)
    });
    let bounds = in_version_2.chain(in_version_1).chain(total);
    bounds.min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
