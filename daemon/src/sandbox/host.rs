//! What this host offers for jobs, for `pistond check` and `/info`.
//!
//! Namespaces, mounts and filters are really tried, in a process of their own (a hidden
//! subcommand) that takes the same steps as a sandbox; looking at settings
//! alone has misled others. Nothing is changed.

mod cgroup;
mod probe;

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use piston_client::api::Mechanism;

pub(super) use probe::run as run_probe;

/// Name of the hidden subcommand that tries things out.
pub(super) const PROBE_SUBCOMMAND: &str = "probe-host";

/// Name of the mechanism that keeps jobs from abstract sockets and processes outside.
pub const SCOPES: &str = "landlock_scopes";

/// First kernel with all system calls that sandboxes are made with (`mount_setattr`).
const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// What this host offers. Starts a short process and waits for it.
pub fn examine() -> Vec<Mechanism> {
    examine_with(Path::new("/proc/self/exe"))
}

/// The same with another program for the probe, for callers that are not `pistond` themselves.
pub fn examine_with(program: &Path) -> Vec<Mechanism> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut mechanisms = vec![kernel(&release), fuse(Path::new("/dev/fuse"))];
    mechanisms.extend(probe::ask(program));
    mechanisms.push(cgroup::mechanism());
    mechanisms.push(memory_limit());
    mechanisms.push(process_limit());
    mechanisms
}

/// A mechanism that is there.
fn present(name: &str, detail: impl Into<String>) -> Mechanism {
    Mechanism {
        name: name.to_owned(),
        available: true,
        required: true,
        detail: detail.into(),
        remedy: None,
    }
}

/// A mechanism that is missing and without which no job runs.
fn missing(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Mechanism {
    Mechanism {
        name: name.to_owned(),
        available: false,
        required: true,
        detail: detail.into(),
        remedy: Some(remedy.into()),
    }
}

fn kernel(release: &str) -> Mechanism {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().ok());
    let version = (
        numbers.next().flatten().unwrap_or(0),
        numbers.next().flatten().unwrap_or(0),
    );
    if version >= OLDEST_KERNEL {
        return present("kernel", format!("Linux {release}"));
    }
    let (major, minor) = OLDEST_KERNEL;
    let detail = format!("Linux {release} lacks system calls that sandboxes are made with");
    missing(
        "kernel",
        detail,
        format!("use Linux {major}.{minor} or newer"),
    )
}

fn fuse(device: &Path) -> Mechanism {
    let shown = device.display();
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => present("fuse", format!("{shown} can be opened")),
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => {
                    "run `modprobe fuse` as root; a container has to be given the device \
                     (`--device /dev/fuse`)"
                        .to_owned()
                }
                io::ErrorKind::PermissionDenied => {
                    format!("run `chmod 0666 {shown}` as root, which is its usual mode")
                }
                _ => "use a kernel with FUSE (CONFIG_FUSE_FS)".to_owned(),
            };
            missing("fuse", format!("cannot open {shown}: {error}"), remedy)
        }
    }
}

fn memory_limit() -> Mechanism {
    Mechanism {
        name: "memory_limit".to_owned(),
        available: true,
        required: false,
        detail:
            "each process by RLIMIT_DATA, the sum over a job's processes by looking at it every \
                 20 ms, files by the size of the workspace; memory that no process has mapped is \
                 not counted"
                .to_owned(),
        remedy: None,
    }
}

fn process_limit() -> Mechanism {
    Mechanism {
        name: "process_limit".to_owned(),
        available: true,
        required: false,
        detail: "RLIMIT_NPROC, counted in the job's own user namespace".to_owned(),
        remedy: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_named() {
        let check = |release: &str, good: bool| assert_eq!(kernel(release).available, good);
        check("6.18.44-fc", true);
        check("5.12.0", true);
        check("5.11.22-generic", false);
        check("4.19", false);
        check("unreadable", false);
    }

    #[test]
    fn a_missing_device_and_a_closed_one_have_different_remedies() {
        let absent = fuse(Path::new("/nonexistent/fuse"));
        assert!(!absent.available);
        assert!(absent.remedy.unwrap().contains("modprobe"));
        let directory = fuse(Path::new("/"));
        assert!(!directory.available && directory.remedy.is_some());
    }
}
