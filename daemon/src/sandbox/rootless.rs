//! Running without root: the daemon enters a user and mount namespace of its own.
//!
//! There it is root over what it makes itself (mounts, the namespaces of jobs) and nothing else.
//! Where the user has subordinate ids, the set-id tools `newuidmap` and `newgidmap` map them in, so
//! that each slot has ids of its own; without them all jobs share the user's. A daemon that has
//! the rights already stays where it is. Called once, before any thread exists.

use std::fmt;
use std::io;

use nix::sched::CloneFlags;
use rustix::thread::CapabilitySet;

use super::{idmap, mounts};

mod subids;

use subids::Mapper;
pub use subids::{SlotIds, WhyShared};

/// First host id of the slots, out of the way of people, services and subordinate ranges.
const FIRST_SLOT_ID: u32 = 0x7000_0000;

/// Ids that slots take.
const SLOT_IDS: u32 = 4096;

/// With which rights the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// As root, in the namespaces that it was started in.
    Root {
        /// Ids of the slots.
        ids: SlotIds,
    },
    /// In a user namespace of its own.
    Rootless {
        /// The user outside.
        uid: u32,
        /// The group outside.
        gid: u32,
        /// Ids of the slots.
        ids: SlotIds,
    },
}

impl Privilege {
    /// First host uid and gid for slots, as [`super::Launcher::start`] and
    /// [`super::Workspace::new`] take it.
    pub fn ids(self) -> Option<u32> {
        match self.slot_ids() {
            SlotIds::From(first) => Some(first),
            SlotIds::Shared(_) => None,
        }
    }

    /// The same, with the reason when there are none.
    pub fn slot_ids(self) -> SlotIds {
        match self {
            Self::Root { ids } | Self::Rootless { ids, .. } => ids,
        }
    }
}

/// Why the daemon can't run here: without root and without a user namespace.
#[derive(Debug, thiserror::Error)]
#[error("without root, a user namespace is needed, and {cause}; {}", .cause.remedy())]
pub struct NoUserNamespace {
    /// What stands in the way.
    pub cause: Cause,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// What stands in the way of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// `user.max_user_namespaces` is 0.
    Forbidden,
    /// `kernel.unprivileged_userns_clone` is 0.
    RootOnly,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmor,
    /// A seccomp filter is on this process: a container's, or a service manager's.
    Filtered,
    /// The process has threads already.
    Threads,
    /// None of the known ones.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forbidden => "this host forbids them (user.max_user_namespaces is 0)",
            Self::RootOnly => {
                "this host allows them to root only (kernel.unprivileged_userns_clone is 0)"
            }
            Self::AppArmor => {
                "AppArmor gives them no rights (kernel.apparmor_restrict_unprivileged_userns is 1)"
            }
            Self::Filtered => "a seccomp filter of the container or service forbids them",
            Self::Threads => "this process has threads already",
            Self::Unknown => "the kernel refused one",
        })
    }
}

impl Cause {
    /// What the operator can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Forbidden => "run `sysctl user.max_user_namespaces=10000` as root",
            Self::RootOnly => "run `sysctl kernel.unprivileged_userns_clone=1` as root",
            Self::AppArmor => "run `sysctl kernel.apparmor_restrict_unprivileged_userns=0` as root",
            Self::Filtered => {
                "start the container without its seccomp profile \
                 (`--security-opt seccomp=unconfined`), the service without its filter"
            }
            Self::Threads => "report this as a defect of pistond",
            Self::Unknown => "run as root, or on a kernel with CONFIG_USER_NS",
        }
    }

    /// Looks for what stands in the way, after `error`.
    fn find(error: &io::Error) -> Self {
        let sysctl = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}"));
        let is = |name, value: &str| sysctl(name).is_ok_and(|text| text.trim() == value);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if is("user/max_user_namespaces", "0") {
            Self::Forbidden
        } else if is("kernel/unprivileged_userns_clone", "0") {
            Self::RootOnly
        } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
            Self::AppArmor
        } else if status.lines().any(|line| line == "Seccomp:\t2") {
            Self::Filtered
        } else if error.raw_os_error() == Some(libc::EINVAL) && !status.contains("Threads:\t1\n") {
            Self::Threads
        } else {
            Self::Unknown
        }
    }
}

/// Makes sure that this process may make sandboxes: as root it stays where it is, else it enters
/// a user and mount namespace. Has to be called before the process has a second thread.
pub fn enter() -> Result<Privilege, NoUserNamespace> {
    if may_make_namespaces() {
        return Ok(Privilege::Root {
            ids: slot_ids(WhyShared::FewIds),
        });
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let shared = enter_namespaces(uid, gid).map_err(|source| NoUserNamespace {
        cause: Cause::find(&source),
        source,
    })?;
    Ok(Privilege::Rootless {
        uid,
        gid,
        ids: slot_ids(shared),
    })
}

/// Whether this process is root with the rights that make one.
fn may_make_namespaces() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID;
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Enters the namespaces; says why there would be no ids for slots, should there be none.
fn enter_namespaces(uid: u32, gid: u32) -> io::Result<WhyShared> {
    let mapper = Mapper::prepare(uid, gid);
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    let why = match mapper.and_then(Mapper::map) {
        Ok(()) => WhyShared::FewIds,
        Err(why) => {
            idmap::write_own_maps(uid, gid)?;
            why
        }
    };
    mounts::keep_mounts_private()?;
    Ok(why)
}

/// Where the slots' ids can start in this user namespace.
fn slot_ids(otherwise: WhyShared) -> SlotIds {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
    let uids = read("uid_map").unwrap_or_default();
    let gids = read("gid_map").unwrap_or_default();
    first_slot_id(&parse_map(&uids), &parse_map(&gids))
        .map_or(SlotIds::Shared(otherwise), SlotIds::From)
}

/// Ids that a user namespace knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IdRange {
    first: u32,
    count: u32,
}

impl IdRange {
    /// Whether all ids of the slots are in it when they start at `first`.
    fn holds_slots_at(self, first: u32) -> bool {
        first
            .checked_sub(self.first)
            .and_then(|before| before.checked_add(SLOT_IDS))
            .is_some_and(|needed| needed <= self.count)
    }
}

/// The ranges of a `uid_map` or `gid_map`.
fn parse_map(map: &str) -> Vec<IdRange> {
    map.lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            let (first, _outside, count) = (
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
            );
            Some(IdRange { first, count })
        })
        .collect()
}

/// The usual place where it is known, else the end of the highest range with enough room above
/// the ids that the namespace itself uses.
fn first_slot_id(uids: &[IdRange], gids: &[IdRange]) -> Option<u32> {
    let ends = uids.iter().filter_map(|range| {
        range
            .first
            .checked_add(range.count.checked_sub(SLOT_IDS)?)
            .filter(|first| *first > 1000)
    });
    let mut candidates: Vec<u32> = ends.collect();
    candidates.sort_unstable();
    candidates.push(FIRST_SLOT_ID);
    let fits = |first: u32| {
        let holds = |range: &IdRange| range.holds_slots_at(first);
        uids.iter().any(holds) && gids.iter().any(holds)
    };
    candidates.into_iter().rev().find(|first| fits(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_ids_wherever_the_namespace_knows_enough_of_them() {
        let check = |uids: &str, gids: &str, expected: Option<u32>| {
            assert_eq!(
                first_slot_id(&parse_map(uids), &parse_map(gids)),
                expected,
                "{uids}"
            );
        };
        let host = "         0          0 4294967295\n";
        check(host, host, Some(FIRST_SLOT_ID));
        let container = "0 1000 1\n1 100000 65536\n";
        check(container, container, Some(65537 - 4096));
        check(container, "0 1000 1\n", None);
        check("0 1000 1\n", "0 1000 1\n", None);
        check("0 100000 4096\n", "0 100000 4096\n", None);
        check("", "", None);
        check("garbage\n1 2\n", "0 0 4294967295", None);
    }

    #[test]
    fn a_refusal_names_the_cause_and_the_remedy() {
        let error = NoUserNamespace {
            cause: Cause::RootOnly,
            source: io::Error::from_raw_os_error(libc::EPERM),
        };
        assert_eq!(
            error.to_string(),
            "without root, a user namespace is needed, and this host allows them to root only \
             (kernel.unprivileged_userns_clone is 0); run `sysctl \
             kernel.unprivileged_userns_clone=1` as root"
        );
    }
}
