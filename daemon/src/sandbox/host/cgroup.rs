//! Which control groups this host has. They are not used for limits yet; this says what there is.

use piston_client::api::Mechanism;

/// Controllers that limits can use.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// What there is of control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    /// Version 2 alone, with these controllers available to this process's group.
    Unified(Vec<String>),
    /// Version 1, with these controllers; version 2 may be there without controllers.
    Legacy(Vec<String>),
    /// None.
    Absent,
}

/// As `/info` shows it.
pub(super) fn mechanism() -> Mechanism {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let detail = match layout(&mounts, &own, &controllers_of) {
        Layout::Unified(controllers) => format!(
            "version 2, delegated here: {}; not used for limits yet",
            listed(&controllers)
        ),
        Layout::Legacy(controllers) => {
            format!(
                "version 1 with {}; not used for limits yet",
                listed(&controllers)
            )
        }
        Layout::Absent => "none are mounted".to_owned(),
    };
    Mechanism {
        name: "cgroup".to_owned(),
        available: false,
        required: false,
        detail,
        remedy: None,
    }
}

fn listed(controllers: &[String]) -> String {
    if controllers.is_empty() {
        "no controllers".to_owned()
    } else {
        controllers.join(", ")
    }
}

/// Controllers that the version 2 group at `path` has, if this process may make groups there.
fn controllers_of(path: &str) -> Vec<String> {
    if rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_err() {
        return Vec::new();
    }
    let text = std::fs::read_to_string(format!("{path}/cgroup.controllers")).unwrap_or_default();
    useful(text.split_ascii_whitespace())
}

fn useful<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names
        .filter(|name| CONTROLLERS.contains(name))
        .map(str::to_owned)
        .collect()
}

/// Reads the layout off `mountinfo` and `/proc/self/cgroup`.
fn layout(mounts: &str, own: &str, controllers_of: &dyn Fn(&str) -> Vec<String>) -> Layout {
    let mut legacy = Vec::new();
    let mut unified = None;
    for line in mounts.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else {
            continue;
        };
        let mut kind = kind.split(' ');
        match kind.next() {
            Some("cgroup") => legacy.extend(useful(kind.next_back().unwrap_or("").split(','))),
            Some("cgroup2") => unified = mount.split(' ').nth(4),
            _ => {}
        }
    }
    match unified {
        _ if !legacy.is_empty() => Layout::Legacy(legacy),
        Some(root) => {
            let group = own
                .lines()
                .find_map(|line| line.strip_prefix("0::"))
                .unwrap_or("/");
            Layout::Unified(controllers_of(&format!("{root}{group}")))
        }
        None => Layout::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_told_apart() {
        let check = |mounts: &str, expected: Layout| {
            let controllers = |path: &str| vec![path.to_owned()];
            assert_eq!(
                layout(mounts, "3:cpuset:/\n0::/user.slice\n", &controllers),
                expected
            );
        };
        let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        let v2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        check(v1, Layout::Legacy(vec!["memory".to_owned()]));
        check(
            &format!("{v1}{v2}"),
            Layout::Legacy(vec!["memory".to_owned()]),
        );
        check(
            v2,
            Layout::Unified(vec!["/sys/fs/cgroup/user.slice".to_owned()]),
        );
        check("", Layout::Absent);
        check("garbage - \n - cgroup2", Layout::Absent);
    }
}
