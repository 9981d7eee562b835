//! Resource limits of a program, set in its process just before exec.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::{Failure, Step as _};
use super::spec::Rlimits;

/// Memory that a job may lock: enough for a program that guards a key.
const LOCKED_BYTES: u64 = 64 << 10;

/// The usual stack of a main thread; a program may raise it up to its memory limit.
const STACK_BYTES: u64 = 8 << 20;

/// Signals that may be queued.
const QUEUED_SIGNALS: u64 = 1024;

/// Sets all limits. The process has to be in the job's own user namespace already: `NPROC` is
/// then counted there, for this job alone.
pub(super) fn apply(limits: &Rlimits) -> Result<(), Failure> {
    for (resource, soft, hard) in table(limits) {
        let ceiling = getrlimit(resource).maximum;
        let within = |value: u64| Some(ceiling.map_or(value, |ceiling| value.min(ceiling)));
        let limit = Rlimit {
            current: within(soft),
            maximum: within(hard),
        };
        setrlimit(resource, limit).step("rlimits")?;
    }
    Ok(())
}

/// Every limit with its soft and hard value.
fn table(limits: &Rlimits) -> [(Resource, u64, u64); 11] {
    let same = |resource, value| (resource, value, value);
    [
        // The soft limit sends SIGXCPU, the hard one SIGKILL.
        (
            Resource::Cpu,
            limits.cpu_seconds,
            limits.cpu_seconds.saturating_add(1),
        ),
        // Not AS: runtimes reserve far more address space than they use.
        same(Resource::Data, limits.data_bytes),
        same(Resource::Nproc, limits.processes),
        same(Resource::Nofile, limits.open_files),
        same(Resource::Fsize, limits.file_size),
        same(Resource::Core, 0),
        same(Resource::Memlock, LOCKED_BYTES),
        same(Resource::Msgqueue, 0),
        same(Resource::Rtprio, 0),
        same(Resource::Sigpending, QUEUED_SIGNALS),
        (
            Resource::Stack,
            STACK_BYTES,
            limits.data_bytes.max(STACK_BYTES),
        ),
    ]
}
