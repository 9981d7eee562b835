//! Whose request it is: from what the kernel says of the thread that asks.
//!
//! The kernel names the user and the thread. Which job a thread is of is told by its PID
//! namespace, which a job can't leave; in the server's own namespace each process is a requester.
//! Finding that out costs some microseconds, so it is kept for a moment. A thread that is gone, or
//! is not seen from here, is told by its user alone. A wrong answer (the number of a thread is used
//! again within the moment) costs fairness and nothing else.

use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::crew::{Group, Requester};

/// How long an answer is kept.
const MOMENT: Duration = Duration::from_secs(1);

/// Answers kept at most.
const KNOWN: usize = 4096;

/// What is known of the threads that asked lately.
#[derive(Debug)]
pub(super) struct Requesters {
    /// The server's own PID namespace.
    own: Option<u64>,
    groups: Mutex<HashMap<u32, (Instant, Group)>>,
}

impl Requesters {
    /// None known yet.
    pub(super) fn new() -> Self {
        Self {
            own: space_of(std::process::id()),
            groups: Mutex::default(),
        }
    }

    /// Whom a thread asks for.
    pub(super) fn of(&self, uid: u32, thread: u32) -> Requester {
        let now = Instant::now();
        let known = || self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |(since, group): &(Instant, Group)| {
            (now.duration_since(*since) < MOMENT).then_some(*group)
        };
        if let Some(group) = known().get(&thread).and_then(fresh) {
            return Requester { uid, group };
        }
        let group = self.group_of(thread).unwrap_or(Group::Unknown);
        let mut known = known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(thread, (now, group));
        Requester { uid, group }
    }

    fn group_of(&self, thread: u32) -> Option<Group> {
        let space = space_of(thread)?;
        if Some(space) == self.own {
            process_of(thread).map(Group::Process)
        } else {
            Some(Group::Space(space))
        }
    }
}

/// The number of a thread's PID namespace.
fn space_of(thread: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{thread}/ns/pid")).ok()?;
    let name = link.to_str()?;
    name.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// The process that a thread is of.
fn process_of(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn threads_of_a_process_are_one_requester_and_users_are_told_apart() {
        let requesters = Requesters::new();
        let this = requesters.of(7, std::process::id());
        assert_eq!(this.group, Group::Process(std::process::id()));
        let thread = u32::try_from(nix::unistd::gettid().as_raw()).unwrap();
        assert_ne!(thread, std::process::id());
        assert_eq!(requesters.of(7, thread), this);
        assert_ne!(requesters.of(8, thread), this);
        // Kept, though there is no such thread.
        let gone = requesters.of(7, u32::MAX);
        assert_eq!(gone.group, Group::Unknown);
        assert_eq!(requesters.of(7, u32::MAX), gone);
    }

    #[test]
    fn processes_of_another_pid_namespace_are_one_requester() {
        let script = "sleep 60 & sleep 60 & echo started; wait";
        let mut unshare = Command::new("unshare")
            .args([
                "--user",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                script,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = unshare.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let children = |process: u32| {
            let path = format!("/proc/{process}/task/{process}/children");
            let text = fs::read_to_string(path).unwrap();
            let numbers = text
                .split_whitespace()
                .map(|number| number.parse().unwrap());
            numbers.collect::<Vec<u32>>()
        };
        let init = children(unshare.id())[0];
        let sleepers = children(init);
        let requesters = Requesters::new();
        let groups: Vec<_> = [init, sleepers[0], sleepers[1]]
            .map(|process| requesters.of(7, process).group)
            .into();
        unshare.kill().unwrap();
        unshare.wait().unwrap();
        assert!(matches!(groups[0], Group::Space(_)), "{groups:?}");
        assert!(groups.iter().all(|group| *group == groups[0]), "{groups:?}");
    }
}
