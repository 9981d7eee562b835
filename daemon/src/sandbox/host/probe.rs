//! The process that tries the steps of a sandbox, and the question to it.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use piston_client::api::Mechanism;
use rustix::mount::MountAttrFlags;
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::super::confine::{self, InForce};
use super::super::error::{Failure, Step as _};
use super::super::rootless::SlotIds;
use super::super::seccomp::Filter;
use super::super::spec::Grants;
use super::super::sys::{self, Forked, OneThread, Recursive};
use super::super::{idmap, init, message, mounts, network, rootless};
use super::{PROBE_SUBCOMMAND, SCOPES, missing, present};

/// Name of the mechanism of rules for files.
const LANDLOCK: &str = "landlock";

/// What came of one mechanism.
#[derive(Debug, Serialize, Deserialize)]
struct Finding {
    name: String,
    /// Why it does not work.
    failure: Option<String>,
    remedy: Option<String>,
}

impl Finding {
    fn new(name: &str, result: Result<(), Failure>, remedy: &str) -> Self {
        let failure = result.err().map(|Failure { step, errno }| {
            format!("{step}: {}", io::Error::from_raw_os_error(errno))
        });
        let remedy = failure.is_some().then(|| remedy.to_owned());
        Self {
            name: name.to_owned(),
            failure,
            remedy,
        }
    }
}

/// Asks a process of `program` what works.
pub(super) fn ask(program: &Path) -> Vec<Mechanism> {
    let output = Command::new(program)
        .arg(PROBE_SUBCOMMAND)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let findings = output.and_then(|output| Ok(serde_json::from_slice(&output.stdout)?));
    let findings: Vec<Finding> = match findings {
        Ok(findings) => findings,
        Err(error) => {
            let detail = format!("the probe could not be run: {error}");
            return vec![missing(
                "sandbox",
                detail,
                "report this as a defect of pistond",
            )];
        }
    };
    findings.into_iter().map(mechanism).collect()
}

/// Without it jobs share a user; they are as isolated, but what the kernel counts by user (descriptors
/// in flight, pages of pipes) is counted for all together.
const JOB_IDS: &str = "job_ids";

fn mechanism(finding: Finding) -> Mechanism {
    let required = ![JOB_IDS, LANDLOCK, SCOPES].contains(&finding.name.as_str());
    match finding.failure {
        None => Mechanism {
            required,
            ..present(&finding.name, detail(&finding.name))
        },
        Some(failure) => Mechanism {
            required,
            remedy: finding.remedy,
            ..missing(&finding.name, failure, String::new())
        },
    }
}

/// What a mechanism that works is used for.
fn detail(name: &str) -> &'static str {
    match name {
        "user_namespaces" => "the daemon may make namespaces",
        "namespaces" => "mount, PID, network, IPC, UTS and cgroup namespaces; loopback is up",
        "mount_api" => "workspaces are detached tmpfs mounts (fsopen, mount_setattr)",
        "proc" => "a job has a proc of its own PID namespace",
        JOB_IDS => "each slot has a user and group id of its own",
        "job_user" => "a job is in a user namespace of its own, without capabilities",
        LANDLOCK => "a job writes only in its own places, whatever its mounts are",
        SCOPES => "a job reaches no abstract socket and no process outside its sandbox",
        "seccomp" => "a filter allows what programs need",
        _ => "works",
    }
}

/// Runs the probe: prints what it found. Has to be called before the process has a second thread.
pub(in crate::sandbox) fn run() -> ExitCode {
    let done = try_everything().and_then(|findings| {
        let mut text = serde_json::to_vec(&findings)?;
        text.push(b'\n');
        io::stdout().write_all(&text)
    });
    ExitCode::from(u8::from(done.is_err()))
}

fn try_everything() -> io::Result<Vec<Finding>> {
    let thread = OneThread::check()?;
    let privilege = match rootless::enter() {
        Ok(privilege) => privilege,
        Err(error) => {
            return Ok(vec![Finding {
                name: "user_namespaces".to_owned(),
                failure: Some(format!("{}: {}", error.cause, error.source)),
                remedy: Some(error.cause.remedy().to_owned()),
            }]);
        }
    };
    let mut findings = vec![Finding::new("user_namespaces", Ok(()), "")];
    findings.push(job_ids(privilege.slot_ids()));
    let (ours, theirs) = message::pair()?;
    match sys::fork_into_pid_namespace(&thread) {
        Ok(Forked::Child) => {
            drop(ours);
            try_sandbox(&theirs).ok();
            sys::leave(0);
        }
        Ok(Forked::Parent(_)) => drop(theirs),
        Err(error) => {
            let failed = Failure::new("PID namespace", error);
            findings.push(Finding::new("namespaces", Err(failed), NAMESPACE_REMEDY));
            return Ok(findings);
        }
    }
    while let Some((text, _)) = message::receive_bytes(&ours, RecvFlags::empty())? {
        findings.push(serde_json::from_slice(&text)?);
    }
    Ok(findings)
}

/// Whether each slot has ids of its own.
fn job_ids(ids: SlotIds) -> Finding {
    let why = match ids {
        SlotIds::From(_) => None,
        SlotIds::Shared(why) => Some(why),
    };
    Finding {
        name: JOB_IDS.to_owned(),
        failure: why.map(|why| format!("all jobs share one user id: {why}")),
        remedy: why.map(|why| why.remedy().to_owned()),
    }
}

const NAMESPACE_REMEDY: &str = "raise the limits in /proc/sys/user; start a container without its seccomp profile \
     (`--security-opt seccomp=unconfined`)";

/// The steps of a sandbox, in PID 1 of a new namespace; tells of each as it goes.
fn try_sandbox(report: &OwnedFd) -> io::Result<()> {
    let tell =
        |finding: Finding| message::send_bytes(report.as_fd(), &serde_json::to_vec(&finding)?, &[]);
    tell(Finding::new(
        "namespaces",
        try_namespaces(),
        NAMESPACE_REMEDY,
    ))?;
    tell(Finding::new(
        "mount_api",
        try_mounts(),
        "use a newer kernel, or allow fsopen and mount_setattr",
    ))?;
    tell(Finding::new(
        "proc",
        mounts::try_proc(),
        "this process sees a masked /proc: start the container with \
         `--security-opt systempaths=unconfined` (Kubernetes: `procMount: Unmasked`)",
    ))?;
    tell(Finding::new(
        "job_user",
        try_job_user(),
        "allow nested user namespaces (user.max_user_namespaces)",
    ))?;
    for finding in try_landlock() {
        tell(finding)?;
    }
    let filter = Filter::for_jobs()
        .and_then(|filter| sys::install_filter(&filter))
        .step("install a filter");
    tell(Finding::new(
        "seccomp",
        filter,
        "use a kernel with CONFIG_SECCOMP_FILTER",
    ))
}

/// A layer that sandboxes do without where it is not there.
fn try_landlock() -> [Finding; 2] {
    const REMEDY: &str = "boot a kernel with CONFIG_SECURITY_LANDLOCK and `landlock` among the `lsm=`; \
         scopes came with Linux 6.12";
    let absent = || {
        Err(Failure::new(
            "landlock",
            io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        ))
    };
    let (files, scopes) = match confine::apply(&Grants::default()) {
        Ok(InForce::FilesAndScopes) => (Ok(()), Ok(())),
        Ok(InForce::Files) => (Ok(()), absent()),
        Ok(InForce::Nothing) => (absent(), absent()),
        Err(failure) => (Err(failure.clone()), Err(failure)),
    };
    [
        Finding::new(LANDLOCK, files, REMEDY),
        Finding::new(SCOPES, scopes, REMEDY),
    ]
}

fn try_namespaces() -> Result<(), Failure> {
    let mounts = nix::sched::CloneFlags::CLONE_NEWNS;
    nix::sched::unshare(init::NAMESPACES | mounts).step("unshare")?;
    network::make().step("network with a loopback")
}

fn try_mounts() -> Result<(), Failure> {
    let mount = mounts::new_tmpfs(&[("size", "4k")], MountAttrFlags::MOUNT_ATTR_NODEV)
        .step("mount a tmpfs")?;
    sys::add_mount_attributes(&mount, MountAttrFlags::MOUNT_ATTR_RDONLY, Recursive::No)
        .step("mount_setattr")
}

fn try_job_user() -> Result<(), Failure> {
    // The maps are written through proc, which here is still the one of another PID namespace.
    mounts::mount_proc_over_host()?;
    idmap::enter_last_namespaces()?;
    idmap::drop_capabilities()
}
