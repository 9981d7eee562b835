//! Figures that are free of timing noise, over real packages: this machine's own files.

use std::fs;
use std::path::Path;
use std::process::Command;

use piston_fs::mount::Stats;

use crate::support::{Mount, image, run, shell};

/// Directories that every machine with a compiler has: many small files, some large ones, links.
const TREES: [&str; 3] = ["usr/include", "usr/sbin", "usr/share/perl"];

/// A mount with an image of some of this machine's files in two views, and the copied tree.
fn real() -> (Mount, std::path::PathBuf) {
    let mount = Mount::new();
    let tree = mount.scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    for from in TREES
        .iter()
        .filter(|from| Path::new("/").join(from).exists())
    {
        let mut copy = Command::new("cp");
        copy.current_dir("/").args(["-a", "--parents", from]);
        run(copy.arg(&tree));
    }
    let packed = mount
        .scratch
        .image(&tree, &["-Xcompression-level", "3", "-b", "128K"]);
    for view in ["one", "other"] {
        mount.publish(view, &[image(&packed)]);
    }
    (mount, tree)
}

/// sha256 of every file of a tree.
fn sums(root: &Path) -> String {
    let line = "find . -type f -print0 | sort -z | xargs -0 sha256sum";
    shell(&format!("cd {} && {line}", root.display()))
}

fn find(root: &Path) -> usize {
    shell(&format!("cd {} && find . -ls", root.display()))
        .lines()
        .count()
}

fn directories(root: &Path) -> u64 {
    let found = shell(&format!("find {} -type d | wc -l", root.display()));
    found.trim().parse().unwrap()
}

/// The least of some runs, of which none follows one that is already nothing.
fn min(mut runs: impl Iterator<Item = u64>) -> u64 {
    let mut least = u64::MAX;
    while least > 0
        && let Some(run) = runs.next()
    {
        least = least.min(run);
    }
    least
}

#[test]
fn what_is_served_of_real_files_is_what_they_hold_and_costs_what_it_should() {
    let (mount, tree) = real();
    let (one, other) = (mount.path("one"), mount.path("other"));
    let stats = || mount.server.stats();
    let asked = |stats: Stats| stats.lookups + stats.opens + stats.reads + stats.listings;

    let before = stats();
    let seen = find(&one);
    assert_eq!(seen, find(&tree));
    let after = stats();
    let lookups = after.lookups - before.lookups;
    let listings = after.listings - before.listings;
    let directories = directories(&tree);
    // The name of the view; for each directory its entries and their end, which is all the kernel
    // can do with; and more for one that is longer than the kernel's buffer of 32 KiB.
    let parts = u64::try_from(seen).unwrap() / 100;
    assert_eq!(lookups, 1);
    assert!(
        listings <= 2 * directories + parts,
        "{listings} listings of {directories} directories: {after:?}"
    );

    assert_eq!(sums(&one), sums(&tree), "every byte of every file");
    let read = stats();
    let (bytes, decoded) = (read.read_bytes, read.block_bytes);
    assert!(
        decoded <= bytes + bytes / 20,
        "{decoded} bytes decoded for {bytes} read"
    );

    // Again: the kernel knows it all. Once more where it had to make room for something else.
    let runs = (0..5).map(|_| {
        let before = asked(stats());
        assert_eq!((find(&one), sums(&one)), (seen, sums(&tree)));
        asked(stats()) - before
    });
    assert_eq!(min(runs), 0, "requests of a warm run");

    // Through another view it has to find the names, and has the bytes.
    let runs = (0..5).map(|_| {
        let before = stats().reads;
        assert_eq!(sums(&other), sums(&tree));
        stats().reads - before
    });
    assert_eq!(min(runs), 0, "reads of the same files in another view");
    assert_eq!(stats().errors, 0);
}
