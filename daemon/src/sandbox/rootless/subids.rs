//! Subordinate ids: an administrator gives them to a user in `/etc/subuid` and `/etc/subgid`, and
//! the set-id tools `newuidmap` and `newgidmap` map them into the user's namespace.
//!
//! The tools have to run outside the namespace, after it was entered: a shell that waits for its
//! standard input to close is started before and does it then.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

/// Which host ids the slots have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotIds {
    /// One each, from this one on.
    From(u32),
    /// The daemon's, all of them.
    Shared(WhyShared),
}

/// Why all slots share the daemon's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WhyShared {
    /// No entry in `/etc/subuid` or `/etc/subgid`.
    #[error("the user has no subordinate ids (/etc/subuid and /etc/subgid)")]
    NoRange,
    /// The tools are not there.
    #[error("newuidmap and newgidmap are not installed")]
    NoTools,
    /// The tools failed.
    #[error("newuidmap or newgidmap refused")]
    Refused,
    /// What there is is not enough for all slots.
    #[error("fewer than 4096 ids are free in this user namespace")]
    FewIds,
}

impl WhyShared {
    /// What the operator can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoRange | Self::FewIds => {
                "as root: `usermod --add-subuids 524288-589823 --add-subgids 524288-589823 USER`, \
                 with ids that nobody else has; a container needs at least 4096 ids of its own"
            }
            Self::NoTools => "install them: `apt-get install uidmap` (other systems: shadow-utils)",
            Self::Refused => {
                "make them set-id root again: `chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap`; \
                 a service must not have NoNewPrivileges=yes"
            }
        }
    }
}

/// A range of `/etc/subuid` or `/etc/subgid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// A process that waits to map the ids of this one.
pub(super) struct Mapper {
    shell: Child,
}

/// Waits for the end of its input, then maps `$1`: root is the user ($2, $5), the rest the ranges.
const SCRIPT: &str = "read -r _; newuidmap \"$1\" 0 \"$2\" 1 1 \"$3\" \"$4\" && \
                      exec newgidmap \"$1\" 0 \"$5\" 1 1 \"$6\" \"$7\"";

impl Mapper {
    /// Starts it, where the user has ids to map.
    pub(super) fn prepare(uid: u32, gid: u32) -> Result<Self, WhyShared> {
        let name = nix::unistd::User::from_uid(uid.into())
            .ok()
            .flatten()
            .map(|user| user.name);
        let range = |file: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            largest(&text, name.as_deref(), uid).ok_or(WhyShared::NoRange)
        };
        let (uids, gids) = (range("/etc/subuid")?, range("/etc/subgid")?);
        let numbers = [
            std::process::id(),
            uid,
            uids.first,
            uids.count,
            gid,
            gids.first,
            gids.count,
        ];
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "sh"])
            .args(numbers.map(|number| number.to_string()))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        shell
            .map(|shell| Self { shell })
            .map_err(|_| WhyShared::NoTools)
    }

    /// Maps, after this process has entered its user namespace.
    pub(super) fn map(mut self) -> Result<(), WhyShared> {
        drop(self.shell.stdin.take());
        let mut said = String::new();
        if let Some(mut stderr) = self.shell.stderr.take() {
            // What it says only helps to tell the reason.
            stderr.read_to_string(&mut said).ok();
        }
        match self.shell.wait() {
            Ok(status) if status.success() => Ok(()),
            // The shell found no program of that name.
            Ok(status) if status.code() == Some(127) => Err(WhyShared::NoTools),
            _ => {
                tracing::debug!(said, "the tools for subordinate ids failed");
                Err(WhyShared::Refused)
            }
        }
    }
}

/// The largest range of a user, who may be named by number.
fn largest(text: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let who = fields.next()?;
            let is_ours = who == number || Some(who) == name;
            let (first, count) = (
                fields.next()?.parse().ok()?,
                fields.next()?.trim().parse().ok()?,
            );
            is_ours.then_some(Range { first, count })
        })
        .max_by_key(|range| range.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let text = "alice:100000:65536\n1001:165536:10\nbob:200000:65536\nbroken\n1001:1:x\n";
        let check = |name, uid, expected: Option<u32>| {
            assert_eq!(largest(text, name, uid).map(|range| range.first), expected);
        };
        check(Some("alice"), 1000, Some(100_000));
        check(Some("carol"), 1001, Some(165_536));
        // By both: the larger one.
        check(Some("bob"), 1001, Some(200_000));
        check(Some("carol"), 1002, None);
        check(None, 1000, None);
    }
}
