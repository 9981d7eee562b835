//! The job's identity: which host uid it has, and its own user namespace.
//!
//! A root daemon gives each slot a host uid of its own; otherwise all jobs share the daemon's.
//! Either way the program sees uid and gid 1000 in a user namespace that maps nothing else, and
//! holds no capability there by the time it is executed.

use std::io;

use nix::sched::CloneFlags;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::error::{Failure, Step as _};

/// Uid and gid of the program in its own user namespace.
const JOB_ID: u32 = 1000;

/// Becomes the slot's user: `id` as uid and gid, no supplementary groups.
///
/// Capabilities are kept over the change, because where a distribution forbids user namespaces to
/// the unprivileged, only they allow the next step.
pub(super) fn become_user(id: u32) -> Result<(), Failure> {
    const STEP: &str = "change user";
    rustix::thread::set_keep_capabilities(true).step(STEP)?;
    rustix::thread::set_thread_groups(&[]).step(STEP)?;
    let gid = Gid::from_raw(id);
    rustix::thread::set_thread_res_gid(gid, gid, gid).step(STEP)?;
    let uid = Uid::from_raw(id);
    rustix::thread::set_thread_res_uid(uid, uid, uid).step(STEP)?;
    let kept = rustix::thread::capabilities(None).step(STEP)?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept.permitted,
            ..kept
        },
    )
    .step(STEP)
}

/// Enters a new user namespace that knows only this user, as 1000, and a cgroup namespace whose
/// root is the group of this process: a program sees nothing of the host's groups.
pub(super) fn enter_last_namespaces() -> Result<(), Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWCGROUP;
    nix::sched::unshare(namespaces).step("user namespace")?;
    // A change of user made the process not dumpable, and then its maps belong to root.
    set_dumpable_behavior(DumpableBehavior::Dumpable).step("dumpable")?;
    write_maps(
        "/proc/self",
        &format!("{JOB_ID} {uid} 1"),
        &format!("{JOB_ID} {gid} 1"),
    )
    .step("id maps")
}

/// Writes the maps of the user namespace of the process whose proc directory is `process`.
pub(super) fn write_maps(process: &str, uid_map: &str, gid_map: &str) -> io::Result<()> {
    // Without this an unprivileged gid map is refused.
    std::fs::write(format!("{process}/setgroups"), "deny")?;
    std::fs::write(format!("{process}/uid_map"), uid_map)?;
    std::fs::write(format!("{process}/gid_map"), gid_map)
}

/// Gives up every capability in the user namespace, and every way to one.
pub(super) fn drop_capabilities() -> Result<(), Failure> {
    const STEP: &str = "drop capabilities";
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that this kernel does not know.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error).step(STEP),
        }
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets).step(STEP)?;
    rustix::thread::set_no_new_privs(true).step("no_new_privs")
}
