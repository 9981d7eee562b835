//! Which owners a mount can show.
//!
//! Files are shown with the owners that their image has. In a user namespace not every number
//! has a meaning; the kernel would show such a file as nobody's and refuse more than it should.
//! So numbers that the mounting process has no mapping for become its own.

use std::fs;
use std::str::FromStr as _;

/// The numbers of one kind, users or groups, that have a meaning here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IdMap {
    /// First number and how many, as in `/proc/self/uid_map`.
    ranges: Vec<(u32, u32)>,
    /// Shown in place of all others.
    own: u32,
}

impl IdMap {
    fn load(path: &str, own: u32) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        Self::parse(&text, own)
    }

    fn parse(text: &str, own: u32) -> Self {
        let range = |line: &str| {
            let mut fields = line.split_ascii_whitespace();
            let first = u32::from_str(fields.next()?).ok()?;
            let length = u32::from_str(fields.nth(1)?).ok()?;
            Some((first, length))
        };
        Self {
            ranges: text.lines().filter_map(range).collect(),
            own,
        }
    }

    fn shown(&self, id: u32) -> u32 {
        let known = |&(first, length): &(u32, u32)| id >= first && id - first < length;
        if self.ranges.iter().any(known) {
            id
        } else {
            self.own
        }
    }
}

/// The owners that a mount can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owners {
    users: IdMap,
    groups: IdMap,
}

impl Owners {
    /// As this process may show them, in the user namespace it is in now.
    pub(crate) fn of_this_process() -> Self {
        Self {
            users: IdMap::load("/proc/self/uid_map", nix::unistd::geteuid().as_raw()),
            groups: IdMap::load("/proc/self/gid_map", nix::unistd::getegid().as_raw()),
        }
    }

    /// The user to show for what an image says.
    pub(crate) fn user(&self, id: u32) -> u32 {
        self.users.shown(id)
    }

    /// The group to show for what an image says.
    pub(crate) fn group(&self, id: u32) -> u32 {
        self.groups.shown(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_a_mapping_become_the_mounting_users() {
        let whole = "         0          0 4294967295\n";
        let rootless = "0 1000 1\n";
        let two = "0 1000 1\n1 100000 65536\n";
        for (map, own, id, shown) in [
            (whole, 0, 4_294_967_294, 4_294_967_294),
            (whole, 0, 4_294_967_295, 0),
            (rootless, 0, 0, 0),
            (rootless, 0, 1, 0),
            (rootless, 0, 1000, 0),
            (two, 0, 65_536, 65_536),
            (two, 0, 65_537, 0),
            ("", 1000, 0, 1000),
        ] {
            assert_eq!(IdMap::parse(map, own).shown(id), shown, "{id} in {map:?}");
        }
    }
}
