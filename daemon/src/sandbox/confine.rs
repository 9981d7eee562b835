//! Landlock, a layer beside mounts and namespaces: should one of those fail, a job still writes
//! only in its own places, and reaches neither abstract sockets nor processes outside.
//!
//! What a kernel lacks of it is left out, save for what a job of the host's network depends on:
//! there the names of abstract sockets are everybody's. Among the processes of a job nothing is
//! forbidden: all are in one domain, so that debuggers and sanitizers work.

use std::error::Error as StdError;
use std::io;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};
use piston_client::api::Network;

use super::error::{Failure, Step as _};
use super::spec::{Grants, Relaxation};

/// Which rights are known here; those that the kernel does not know are left out.
const KNOWN: ABI = ABI::V6;

/// The places that a job may write to.
const WRITABLE: [&str; 3] = ["/piston/job", "/tmp", "/dev/shm"];

/// Places whose files may be written to, as far as they are otherwise, and nothing else.
const SPECIAL: [&str; 2] = ["/dev", "/proc"];

/// What is in force of Landlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InForce {
    /// Nothing: the kernel has none.
    Nothing,
    /// Rules for files.
    Files,
    /// Those, and no way to abstract sockets and processes outside.
    FilesAndScopes,
}

/// Confines this process and all it becomes. Its root is the job's, and it has no new privileges.
pub(super) fn apply(grants: &Grants) -> Result<InForce, Failure> {
    confine(grants)
        .map_err(|error| errno(&error))
        .step("landlock")
}

fn confine(grants: &Grants) -> Result<InForce, RulesetError> {
    let scopes = match grants.network {
        Network::None => CompatLevel::BestEffort,
        Network::Host => CompatLevel::HardRequirement,
    };
    // In a domain with rules for files nobody can mount, which nested namespaces are for.
    let files = if grants.calls.contains(&Relaxation::UserNamespaces) {
        BitFlags::EMPTY
    } else {
        AccessFs::from_all(KNOWN)
    };
    let mut ruleset = Ruleset::default();
    if !files.is_empty() {
        ruleset = ruleset
            // Where this right is unknown no file may change its directory: better no rules.
            .set_compatibility(CompatLevel::SoftRequirement)
            .handle_access(AccessFs::Refer)?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(files)?;
    }
    let mut ruleset = ruleset
        .set_compatibility(scopes)
        .scope(Scope::from_all(KNOWN))?
        .set_compatibility(CompatLevel::BestEffort)
        .create()?;
    if !files.is_empty() {
        let write = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
        let read = std::iter::once(("/", AccessFs::from_read(KNOWN)));
        let special = SPECIAL.map(|path| (path, write));
        let own = WRITABLE.map(|path| (path, files));
        for (path, access) in read.chain(special).chain(own) {
            if let Ok(place) = PathFd::new(path) {
                ruleset = ruleset.add_rule(PathBeneath::new(place, access))?;
            }
        }
    }
    let status = ruleset.restrict_self()?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V6 => {
            InForce::FilesAndScopes
        }
        LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V2 => {
            InForce::Files
        }
        _ => InForce::Nothing,
    })
}

/// The kernel's reason; a right that it does not know has none.
fn errno(error: &RulesetError) -> io::Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let reason = error.downcast_ref::<io::Error>();
        if let Some(number) = reason.and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(number);
        }
        cause = error.source();
    }
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}
