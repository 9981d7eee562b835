//! Hosts made of plain directories: what is found where.

use super::*;

/// A directory that looks like the mount of a hierarchy.
struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// A group with these files.
    fn group(&self, below: &str, text: &[(&str, &str)]) {
        fs::create_dir_all(self.path(below)).unwrap();
        for (name, text) in text {
            fs::write(self.path(below).join(name), text).unwrap();
        }
    }

    /// A group of version 2: what it has, what it hands on, and who is in it.
    fn unified(&self, below: &str, [has, hands_on, inside]: [&str; 3]) {
        let files = [
            ("cgroup.controllers", has),
            ("cgroup.subtree_control", hands_on),
            ("cgroup.procs", inside),
            ("cgroup.type", "domain\n"),
        ];
        self.group(below, &files);
    }

    fn mount(&self, below: &str, kind: &str) -> String {
        let top = self.path(below);
        format!("41 31 0:38 / {} rw shared:4 - {kind}\n", top.display())
    }

    fn find(&self, mounts: &[(&str, &str)], groups: &str) -> Result<Place, Missing> {
        let mounts: String = mounts
            .iter()
            .map(|(below, kind)| self.mount(below, kind))
            .collect();
        Place::find(Own {
            mounts: &mounts,
            groups,
            pid: 77,
        })
    }

    /// Where version 2 groups go, below the top.
    fn unified_base(&self, own: &str) -> (String, Leave, Controllers) {
        match self.find(&[("", V2)], &format!("0::{own}\n")) {
            Ok(Place::Unified(place)) => {
                let below = place.base.strip_prefix(self.folder.path()).unwrap();
                (below.display().to_string(), place.leave, place.controllers)
            }
            other => panic!("{other:?}"),
        }
    }
}

const V2: &str = "cgroup2 cgroup2 rw,nsdelegate";
const ALL: &str = "cpuset cpu io memory pids\n";

const BOTH: Controllers = Controllers {
    memory: true,
    pids: true,
    cpu: true,
};

#[test]
fn a_service_that_is_alone_in_its_group_makes_room_in_it() {
    let host = Host::new();
    host.unified("", [ALL, ALL, ""]);
    host.unified("system.slice", [ALL, "", ""]);
    host.unified("system.slice/piston.service", [ALL, "", "77\n"]);
    let found = host.unified_base("/system.slice/piston.service");
    assert_eq!(
        found,
        ("system.slice/piston.service".into(), Leave::Below, BOTH)
    );
}

#[test]
fn a_group_with_others_in_it_is_passed_over_for_one_above_that_hands_on() {
    let host = Host::new();
    host.unified("", [ALL, ALL, ""]);
    host.unified("user.slice", [ALL, "memory pids", ""]);
    host.unified(
        "user.slice/session-1.scope",
        ["memory pids", "", "12\n77\n"],
    );
    let found = host.unified_base("/user.slice/session-1.scope");
    assert_eq!(found, ("user.slice".into(), Leave::Stay, BOTH));
}

#[test]
fn the_top_of_all_may_have_processes() {
    let host = Host::new();
    host.unified("", [ALL, "", "1\n77\n"]);
    fs::remove_file(host.path("cgroup.type")).unwrap();
    assert_eq!(host.unified_base("/"), (String::new(), Leave::Stay, BOTH));
}

#[test]
fn a_group_with_both_controllers_is_better_than_a_nearer_one_with_one() {
    let host = Host::new();
    host.unified("", [ALL, ALL, ""]);
    host.unified("near", ["pids", "pids", ""]);
    let (base, ..) = host.unified_base("/near");
    assert_eq!(base, "");
    host.unified("", ["pids", "", "12\n"]);
    let (base, _, controllers) = host.unified_base("/near");
    assert_eq!(base, "near");
    assert!(controllers.pids && !controllers.memory);
}

#[test]
fn each_version_1_controller_has_its_own_place_and_comes_before_an_empty_version_2() {
    let host = Host::new();
    host.unified("unified", ["", "", "77\n"]);
    host.group("memory/own", &[]);
    host.group("pids/piston", &[]);
    host.group("cpu,cpuacct", &[]);
    let mounts = [
        ("memory", "cgroup cgroup rw,memory"),
        ("pids", "cgroup cgroup rw,pids"),
        ("cpu,cpuacct", "cgroup cgroup rw,cpu,cpuacct"),
        ("unified", V2),
    ];
    let groups = "4:memory:/own\n3:pids:/gone\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n";
    let Ok(Place::Legacy(found)) = host.find(&mounts, groups) else {
        panic!("version 1 is there");
    };
    assert_eq!(found.memory, Some(host.path("memory/own")));
    // The own one is not there; the one that an administrator made is.
    assert_eq!(found.pids, Some(host.path("pids/piston")));
    assert_eq!(found.cpu, Some(host.path("cpu,cpuacct")));
}

#[test]
fn a_mount_of_a_part_of_a_hierarchy_starts_there() {
    let host = Host::new();
    host.group("memory/below", &[]);
    let top = host.path("memory");
    let mounts = format!(
        "1 2 0:3 /box {} rw - cgroup cgroup rw,memory\n",
        top.display()
    );
    let find = |groups| {
        Place::find(Own {
            mounts: &mounts,
            groups,
            pid: 77,
        })
    };
    let Ok(Place::Legacy(found)) = find("4:memory:/box/below\n") else {
        panic!("it is there");
    };
    assert_eq!(found.memory, Some(host.path("memory/below")));
    assert!(find("4:memory:/elsewhere\n").is_err());
}

#[test]
fn what_is_missing_is_said_with_exact_commands() {
    let host = Host::new();
    let none = host.find(&[], "").unwrap_err();
    assert_eq!(none.reason, "none are mounted");
    host.unified("", [ALL, "", "1\n77\n"]);
    let shared = host.find(&[("", V2)], "0::/\n").unwrap_err();
    assert!(shared.reason.contains("other processes"), "{shared}");
    assert!(shared.remedy.contains("-p Delegate=yes"), "{shared:?}");
    let garbage = Place::find(Own {
        mounts: "garbage - \n - cgroup2\n1 2 3 / /x - cgroup",
        groups: "::\nx",
        pid: 77,
    });
    assert_eq!(garbage.unwrap_err().reason, "none are mounted");
}
