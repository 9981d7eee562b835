//! What reaches the server, and what that costs: counted, not timed, so never noisy. The tree is a
//! real one, the host's Python.

use std::fs;
use std::path::{Path, PathBuf};

use piston_fs::mount::Stats;

use crate::support::{Mount, image, shell};

/// The host's Python library: some thousand files, most of them small.
fn python() -> PathBuf {
    let list = fs::read_dir("/usr/lib").expect("a Linux system");
    let mut found: Vec<_> = list
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("python3."))
        })
        .collect();
    found.sort();
    found.pop().expect("these tests need Python")
}

/// A mount that shows the tree as a package and in two views.
fn shown() -> Mount {
    let mount = Mount::new();
    let packed = mount
        .scratch
        .image(python(), &["-Xcompression-level", "1", "-no-xattrs"]);
    for path in ["packages/python", "views/a", "views/b"] {
        mount.publish(path, &[image(&packed)]);
    }
    mount
}

/// What was asked for in the course of something.
fn asked(mount: &Mount, work: impl FnOnce()) -> Stats {
    let before = mount.server.stats();
    work();
    let after = mount.server.stats();
    Stats {
        requests: after.requests - before.requests,
        lookups: after.lookups - before.lookups,
        opens: after.opens - before.opens,
        reads: after.reads - before.reads,
        listings: after.listings - before.listings,
        read_bytes: after.read_bytes - before.read_bytes,
        blocks: after.blocks - before.blocks,
        block_bytes: after.block_bytes - before.block_bytes,
        ..after
    }
}

/// Nothing is asked for when something is done again, but what the kernel never keeps (statfs,
/// absent attributes).
///
/// A kernel that is short of memory drops a page or a name here and there and then has to ask for
/// it: one of a few times is silent, or the kernel was not told to keep what it has.
fn assert_silent_again(mount: &Mount, work: impl Fn()) {
    let mut warm = Vec::new();
    for _ in 0..8 {
        let stats = asked(mount, &work);
        if (stats.lookups, stats.opens, stats.reads, stats.listings) == (0, 0, 0, 0) {
            return;
        }
        warm.push(stats);
    }
    panic!("{warm:#?}");
}

/// Names everything and looks at its attributes; gives the number of directories and of all.
fn find(root: &Path) -> (u64, u64) {
    let kinds = shell(&format!(
        "find {} -printf '%y %s %m %T@\\n'",
        root.display()
    ));
    let count = |lines: &mut dyn Iterator<Item = &str>| u64::try_from(lines.count()).expect("few");
    let directories = count(&mut kinds.lines().filter(|line| line.starts_with('d')));
    (directories, count(&mut kinds.lines()))
}

/// sha256 of every file of a tree.
fn sums(root: &Path) -> String {
    let line = "find . -type f -print0 | sort -z | xargs -0 sha256sum";
    shell(&format!("cd {} && {line}", root.display()))
}

#[test]
fn a_cold_find_costs_two_requests_a_directory_and_a_warm_one_none() {
    let mount = shown();
    let root = mount.path("views/a");
    let mut seen = (0, 0);
    let cold = asked(&mount, || seen = find(&root));
    let (directories, all) = seen;
    assert_eq!(seen, find(&python()));
    assert!(directories > 50, "{directories}");
    // The way to the tree and the questions that the kernel asks once for ever.
    let once = 16;
    assert!(
        cold.requests <= 2 * directories + all / 100 + once,
        "{directories}: {cold:?}"
    );
    assert!(cold.lookups <= 4, "{cold:?}");
    assert_silent_again(&mount, || assert_eq!(find(&root), seen));
}

#[test]
fn what_is_served_of_real_files_is_what_they_hold_and_costs_what_it_should() {
    let mount = shown();
    let held = sums(&python());
    let cold = asked(&mount, || assert_eq!(sums(&mount.path("views/a")), held));
    assert!(cold.read_bytes > 10 << 20, "{cold:?}");
    assert!(cold.block_bytes * 100 <= cold.read_bytes * 105, "{cold:?}");
    for view in ["views/a", "views/b"] {
        let again = || assert_eq!(sums(&mount.path(view)), held);
        let warm = asked(&mount, again);
        // The pages of one view are those of the other, less what the kernel took back meanwhile.
        assert!(warm.reads * 2 <= cold.reads, "{view}: {warm:?} {cold:?}");
        assert_eq!(warm.opens, 0, "{view}: {warm:?}");
        assert_silent_again(&mount, again);
    }
    assert_eq!(mount.server.stats().errors, 0);
}

#[test]
fn a_second_run_of_a_program_asks_for_nothing() {
    let mount = shown();
    let line = format!(
        "PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={} python3 -S -c 'import json, email.mime.text, asyncio'",
        mount.path("views/a").display()
    );
    let cold = asked(&mount, || drop(shell(&line)));
    assert!(cold.reads > 0, "{cold:?}");
    assert_silent_again(&mount, || drop(shell(&line)));
}

#[test]
fn a_node_of_an_image_in_a_view_takes_at_most_120_bytes_of_memory() {
    let mount = Mount::new();
    let packed = mount
        .scratch
        .image(python(), &["-Xcompression-level", "1", "-no-xattrs"]);
    mount.publish("views/a", &[image(&packed)]);
    let stats = mount.server.stats();
    assert!(stats.nodes > 1000, "{stats:?}");
    let each = stats.table_bytes / stats.nodes;
    assert!(each <= 120, "{each} bytes a node: {stats:?}");
}
