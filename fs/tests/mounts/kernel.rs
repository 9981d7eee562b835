//! What the kernel's squashfs shows of an image is what we show of it: path by path, byte by byte,
//! for images of every compressor, of several writers, with all that squashfs can hold.
//!
//! Left out: inode numbers themselves (ours are of the whole mount; which names are one file is
//! compared), the counts of `statfs` (a mount of ours holds many images), and character devices
//! 0:0, which are whiteouts in a view.

#[path = "kernel/archive.rs"]
mod archive;
#[path = "kernel/compare.rs"]
mod compare;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archive::{Archive, META, Meta};
use compare::compare;

use nix::libc::SIGSEGV;
use piston_fs::image::pack::{self, Compressor, Source, Tree};

use crate::support::{Mount, machine_root, open, run};

/// Paths in the archive of everything, with its root.
const EVERYTHING: usize = 830;

/// Feeds an archive to a program that writes an image of it; whether it lived to do so.
fn feed(command: &mut Command, archive: &[u8]) -> bool {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: it is needed by this test"));
    let mut input = child.stdin.take().expect("a pipe");
    // A program that ends early says why.
    let fed = input.write_all(archive);
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    if output.status.signal() == Some(SIGSEGV) {
        return false;
    }
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    fed.expect("it reads all of it");
    true
}

/// Packs an archive with squashfs-tools.
fn mksquashfs(mount: &Mount, archive: &[u8], options: &[&str]) -> PathBuf {
    // On a busy machine its threads now and then trip over each other (4.5.1): once in some
    // hundred images, more often the busier it is, it dies of a null pointer, which says nothing of
    // ours.
    for _ in 0..10 {
        let image = fresh(mount);
        let mut command = Command::new("mksquashfs");
        command.arg("-").arg(&image);
        command
            .args(["-tar", "-quiet", "-no-progress"])
            .args(options);
        if feed(&mut command, archive) {
            return image;
        }
    }
    panic!("mksquashfs died ten times of {options:?}")
}

/// Packs an archive with squashfs-tools-ng.
fn tar2sqfs(mount: &Mount, archive: &[u8], options: &[&str]) -> PathBuf {
    let image = fresh(mount);
    let mut command = Command::new("tar2sqfs");
    command.args(["--quiet", "--no-skip"]).args(options);
    assert!(feed(command.arg(&image), archive), "tar2sqfs died");
    image
}

/// A name for the next image.
fn fresh(mount: &Mount) -> PathBuf {
    for name in ["image.squashfs", "image.index"] {
        let path = mount.scratch.path(name);
        if path.exists() {
            std::fs::remove_file(path).expect("the image before goes");
        }
    }
    mount.scratch.path("image.squashfs")
}

/// Compares images of one compressor, of three block sizes and all options of both writers; options
/// of the compressor with the usual block size.
fn matrix(compressor: &str, of_its_own: &[&[&str]]) {
    if !machine_root() {
        return;
    }
    let mount = Mount::new();
    let archive = archive::everything();
    for size in ["4096", "131072", "1048576"] {
        let first = ["-comp", compressor, "-b", size];
        let common: [&[&str]; 6] = [
            &[],
            &["-no-fragments"],
            &["-always-use-fragments"],
            &["-noI", "-noD", "-noF", "-noX"],
            &["-noId", "-no-duplicates", "-no-exports"],
            &["-all-root", "-no-sparse", "-no-xattrs"],
        ];
        let own = if size == "131072" { of_its_own } else { &[] };
        for options in common.iter().chain(own) {
            let options = [&first[..], options].concat();
            let image = mksquashfs(&mount, &archive, &options);
            check(&mount, &image, &format!("mksquashfs {options:?}"));
        }
        let first = ["-c", compressor, "-b", size];
        for options in [
            &[][..],
            &["--exportable", "--no-tail-packing"],
            &["--no-xattr"],
        ] {
            let options = [&first[..], options].concat();
            let image = tar2sqfs(&mount, &archive, &options);
            check(&mount, &image, &format!("tar2sqfs {options:?}"));
        }
    }
}

fn check(mount: &Mount, image: &Path, what: &str) {
    assert_eq!(compare(mount, image, what), EVERYTHING, "{what}");
}

#[test]
fn gzip_images_look_as_through_the_kernel() {
    matrix("gzip", &[&["-Xcompression-level", "1"]]);
}

#[test]
fn xz_images_look_as_through_the_kernel() {
    matrix("xz", &[&["-Xbcj", "x86,arm"], &["-Xdict-size", "8192"]]);
}

#[test]
fn lzo_images_look_as_through_the_kernel() {
    matrix(
        "lzo",
        &[
            &["-Xalgorithm", "lzo1x_1"],
            &["-Xalgorithm", "lzo1x_999", "-Xcompression-level", "1"],
        ],
    );
}

#[test]
fn lz4_images_look_as_through_the_kernel() {
    matrix("lz4", &[&["-Xhc"]]);
}

#[test]
fn zstd_images_look_as_through_the_kernel() {
    matrix("zstd", &[&["-Xcompression-level", "22"]]);
}

#[test]
fn a_directory_of_a_hundred_thousand_entries_looks_as_through_the_kernel() {
    if !machine_root() {
        return;
    }
    let mount = Mount::new();
    // The writers of others take minutes for one directory of so many.
    let mut tree = Tree::new();
    let meta = pack::Meta {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 1,
    };
    for number in 0..100_000 {
        let path = format!("/crowd/entry-{number}");
        tree.file(path, meta, Source::Bytes(Vec::new()))
            .expect("a new name");
    }
    let path = fresh(&mount);
    let out = File::create(&path).expect("a file");
    tree.write(out, Compressor::Lz4).expect("an image");
    assert_eq!(
        compare(&mount, &path, "our own"),
        2 + 100_000_usize.div_ceil(101)
    );
}

#[test]
fn more_than_four_thousand_owners_look_as_through_the_kernel() {
    if !machine_root() {
        return;
    }
    let mount = Mount::new();
    let mut tar = Archive::new();
    for number in 0..2500 {
        let owner = (number * 7 + 1, number * 11 + 100_000);
        tar.file(&format!("file-{number}"), Meta { owner, ..META }, b"");
    }
    let archive = tar.finish();
    let image = mksquashfs(&mount, &archive, &["-comp", "lzo"]);
    assert_eq!(
        compare(&mount, &image, "mksquashfs"),
        1 + 2500_usize.div_ceil(3)
    );
    let image = tar2sqfs(&mount, &archive, &["-c", "xz"]);
    assert_eq!(
        compare(&mount, &image, "tar2sqfs"),
        1 + 2500_usize.div_ceil(3)
    );
}

#[test]
fn a_file_of_more_than_four_gigabytes_looks_as_through_the_kernel() {
    if !machine_root() {
        return;
    }
    let mount = Mount::new();
    let tree = mount.scratch.path("tree");
    std::fs::create_dir(&tree).expect("a directory");
    for (name, zeros, end) in [
        ("large", (4_u64 << 30) + 12_345, &b"end"[..]),
        ("across", (4 << 30) - 100, &[b'e'; 5000]),
    ] {
        let file = File::create(tree.join(name)).expect("a file");
        file.write_all_at(end, zeros).expect("a sparse file");
    }
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sparse", "--format=gnu", "--directory"]);
    let archive = run(tar.arg(&tree).args(["large", "across"])).stdout;
    let image = tar2sqfs(&mount, &archive, &["-c", "lz4", "-b", "1048576"]);
    assert_eq!(compare(&mount, &image, "tar2sqfs"), 3);
}

#[test]
fn images_of_our_own_look_as_through_the_kernel() {
    if !machine_root() {
        return;
    }
    let mount = Mount::new();
    let archive = archive::everything();
    let first = mksquashfs(&mount, &archive, &["-comp", "xz"]);
    let (theirs, ours) = (
        mount.scratch.path("theirs"),
        mount.scratch.path("image.squashfs"),
    );
    std::fs::rename(first, &theirs).expect("another name");
    let theirs = open(&theirs);
    for with in [Compressor::Zstd(3), Compressor::Gzip(6), Compressor::Lz4] {
        fresh(&mount);
        let out = File::create(&ours).expect("a file");
        let tree = Tree::of_image(&theirs).expect("an image can be written anew");
        tree.write(out, with).expect("an image");
        check(&mount, &ours, &format!("our own with {with:?}"));
    }
}

#[test]
fn directories_packed_as_they_are_look_as_through_the_kernel() {
    if !machine_root() {
        return;
    }
    let mount = Mount::new();
    let tree = mount.scratch.path("tree");
    std::fs::create_dir(&tree).expect("a directory");
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--same-owner", "--preserve-permissions"]);
    let unpacked = feed(unpack.arg("--directory").arg(&tree), &archive::everything());
    assert!(unpacked, "tar died");
    // Before 1970 and after 2106: what becomes of that is the writer's affair.
    for (name, seconds) in [("time-0", "@-86400"), ("time-1", "@4400000000")] {
        run(Command::new("touch")
            .args(["-d", seconds])
            .arg(tree.join(name)));
    }
    std::os::unix::net::UnixListener::bind(tree.join("socket")).expect("a socket");

    let image = fresh(&mount);
    let mut mksquashfs = Command::new("mksquashfs");
    mksquashfs.arg(&tree).arg(&image);
    mksquashfs.args(["-noappend", "-quiet", "-no-progress"]);
    run(mksquashfs.args(["-comp", "lz4", "-b", "1M"]));
    assert_eq!(compare(&mount, &image, "mksquashfs"), EVERYTHING + 1);

    let image = fresh(&mount);
    let mut gensquashfs = Command::new("gensquashfs");
    gensquashfs.args(["--quiet", "--keep-time", "--compressor", "zstd"]);
    gensquashfs.arg("--pack-dir").arg(&tree);
    run(gensquashfs.args(["--block-size", "1048576"]).arg(&image));
    assert_eq!(compare(&mount, &image, "gensquashfs"), EVERYTHING + 1);
}
