//! What is seen of files, directories and everything else.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use piston_fs::image::ImageNode;
use piston_fs::layer::Layer;
use piston_fs::layer::memory::MemoryTree;

use crate::support::{
    Mount, errno, files, image, machine_root, names, noise, open, run, shell, whole,
};

#[test]
fn a_tree_in_memory_is_seen_as_it_was_described() {
    let mount = Mount::new();
    let mut tree = MemoryTree::default();
    tree.file("/bin/tool", 0o755, b"#!/bin/sh\necho it runs\n".to_vec());
    tree.directory("/proc");
    tree.symlink("/sbin", "bin");
    mount.publish("views/x/1.0.0", &[whole(Layer::Memory(tree.into()))]);

    let root = mount.path("views/x/1.0.0");
    assert_eq!(names(&root), ["bin", "proc", "sbin"]);
    assert_eq!(fs::read_link(root.join("sbin")).unwrap(), Path::new("bin"));
    let meta = fs::metadata(root.join("sbin/tool")).unwrap();
    assert_eq!((meta.mode(), meta.uid(), meta.nlink()), (0o100_755, 0, 1));
    assert_eq!(fs::metadata(&root).unwrap().nlink(), 4);
    assert_eq!(shell(&format!("{}/bin/tool", root.display())), "it runs\n");
    assert_eq!(errno(fs::metadata(root.join("none"))), Errno::ENOENT);
    assert_eq!(errno(fs::read_dir(root.join("bin/tool"))), Errno::ENOTDIR);
}

#[test]
fn a_directory_of_ten_thousand_entries_is_listed_whole_and_once() {
    let mount = Mount::new();
    let mut tree = MemoryTree::default();
    for number in 0..10_000 {
        tree.file(&format!("d/file-{number:05}"), 0o644, Vec::new());
    }
    mount.publish("big", &[whole(Layer::Memory(tree.into()))]);
    let listed = names(&mount.path("big/d"));
    let expected: Vec<_> = (0..10_000)
        .map(|number| format!("file-{number:05}"))
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn whatever_writes_is_refused_as_on_a_read_only_disk() {
    let mount = Mount::new();
    mount.publish("v", &[files(&[("file", "text")])]);
    let root = mount.path("v");
    let file = root.join("file");
    for refused in [
        fs::write(&file, "x"),
        fs::write(root.join("new"), "x"),
        fs::create_dir(root.join("new")),
        fs::remove_file(&file),
        fs::remove_dir(&root),
        fs::rename(&file, root.join("other")),
        fs::hard_link(&file, root.join("other")),
        std::os::unix::fs::symlink("x", root.join("other")),
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)),
        std::os::unix::fs::chown(&file, Some(1), Some(1)),
    ] {
        assert_eq!(errno(refused), Errno::EROFS);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
}

#[test]
fn a_mount_that_somebody_makes_writable_still_refuses_to_be_written() {
    let mount = Mount::new();
    mount.publish("v", &[files(&[("file", "text")])]);
    let remount = ["-i", "-o", "remount,rw"];
    run(Command::new("mount").args(remount).arg(mount.server.path()));
    let root = mount.path("v");
    let file = root.join("file");
    for refused in [
        fs::write(root.join("new"), "x"),
        fs::create_dir(root.join("new")),
        fs::remove_file(&file),
        fs::rename(&file, root.join("other")),
        fs::hard_link(&file, root.join("other")),
        std::os::unix::fs::symlink("x", root.join("other")),
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)),
        File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_len(1)),
    ] {
        assert_eq!(errno(refused), Errno::EROFS);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
}

/// A tree with everything that mksquashfs can take from a directory.
fn make_zoo(mount: &Mount) -> std::path::PathBuf {
    let scratch = &mount.scratch;
    for (number, length) in [0, 1, 4095, 4096, 131_071, 131_072, 131_073, 700_000]
        .into_iter()
        .enumerate()
    {
        let seed = u32::try_from(number).expect("a few");
        scratch.write(&format!("zoo/sizes/{length}"), noise(seed, length));
    }
    scratch.write("zoo/text", "all the same\n".repeat(30_000));
    let zoo = scratch.path("zoo");
    shell(&format!(
        "cd {}
         ln text hard; ln -s text link; ln -s /nowhere dangling; mkfifo fifo; mknod null c 1 3
         mkdir -p a/b/c empty; chmod 1777 empty; chmod 4755 text; chown 12:34 sizes/1
         truncate -s 3M sparse; printf end >> sparse
         touch -d @1234567890 text
         setfattr -n user.color -v blue text 2>/dev/null || true
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'",
        zoo.display()
    ));
    zoo
}

#[test]
fn an_image_of_mksquashfs_reads_like_the_tree_it_was_made_from() {
    if !machine_root() {
        return;
    }
    let mount = Mount::new();
    let zoo = make_zoo(&mount);
    let listing = "find . ! -name . -printf '%P %y %m %U %G %n %T@ %l ' \\( -type d -printf '-\\n' \
                   -o -printf '%s\\n' \\) | sed 's/[.][0-9]\\{10\\} / /' | sort";
    let of = |root: &Path| shell(&format!("cd {} && {listing}", root.display()));
    let expected = of(&zoo);
    for options in [
        &["-b", "4096"][..],
        &[],
        &["-no-fragments"],
        &["-b", "1M"],
        &["-noD", "-noF"],
    ] {
        let packed = mount.scratch.image(&zoo, options);
        mount.publish("zoo", &[image(&packed)]);
        let root = mount.path("zoo");
        assert_eq!(of(&root), expected, "{options:?}");
        run(Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args(["-x", "fifo", "-x", "socket", "-x", "null"])
            .arg(&zoo)
            .arg(&root));
        assert!(
            fs::metadata(root.join("fifo"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        let null = fs::metadata(root.join("null")).unwrap();
        assert!(null.file_type().is_char_device());
        assert_eq!(null.rdev(), fs::metadata(zoo.join("null")).unwrap().rdev());
        // Inert: there, but not to be opened.
        assert_eq!(errno(File::open(root.join("null"))), Errno::EACCES);
        mount.server.unpublish("zoo").unwrap();
    }
}

#[test]
fn reads_at_odd_places_give_the_bytes_of_those_places() {
    let mount = Mount::new();
    let bytes = noise(7, 700_001);
    mount.scratch.write("tree/file", &bytes);
    for options in [
        &["-b", "64K"][..],
        &["-b", "1M"],
        &["-always-use-fragments"],
    ] {
        let packed = mount.scratch.image(mount.scratch.path("tree"), options);
        mount.publish("v", &[image(&packed)]);
        // Direct reads reach the filesystem as they are, not page by page.
        let path = mount.path("v/file");
        let script = format!(
            "import os, sys
expected = open('{}', 'rb').read()
fd = os.open('{}', os.O_RDONLY | os.O_DIRECT)
for offset in (0, 1, 511, 65535, 65536, 131072, 262143, 700000, 700001, 800000):
    for length in (1, 2, 4096, 65536, 131072, 500000, 1000000):
        got = os.pread(fd, length, offset)
        assert got == expected[offset:offset + length][:len(got)] and (
            len(got) == len(expected[offset:offset + length])), (offset, length, len(got))",
            mount.scratch.path("tree/file").display(),
            path.display()
        );
        run(Command::new("python3").args(["-c", &script]));
        mount.server.unpublish("v").unwrap();
    }
}

#[test]
fn a_program_runs_and_maps_its_libraries_from_the_mount() {
    let mount = Mount::new();
    mount.scratch.write("tree/empty", "");
    let tree = mount.scratch.path("tree");
    run(Command::new("cp").arg("/bin/bash").arg(&tree));
    let packed = mount.scratch.image(&tree, &[]);
    mount.publish("v", &[image(&packed)]);
    let output = run(Command::new(mount.path("v/bash")).args(["-c", "echo $((6 * 7))"]));
    assert_eq!(output.stdout, b"42\n");
    let script = format!(
        "import mmap; f = open('{}', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
assert m[:] == open('/bin/bash', 'rb').read()",
        mount.path("v/bash").display()
    );
    run(Command::new("python3").args(["-c", &script]));
}

#[test]
fn many_readers_at_once_all_read_what_is_there() {
    let mount = Mount::new();
    let wanted: Vec<_> = (0..40)
        .map(|seed| noise(seed, 10_000 + 9_973 * seed as usize))
        .collect();
    for (number, bytes) in wanted.iter().enumerate() {
        mount.scratch.write(&format!("tree/{number}"), bytes);
    }
    let packed = mount
        .scratch
        .image(mount.scratch.path("tree"), &["-b", "32K"]);
    mount.publish("v", &[image(&packed)]);
    thread::scope(|scope| {
        for reader in 0..8 {
            let (mount, wanted) = (&mount, &wanted);
            scope.spawn(move || {
                for turn in 0..wanted.len() {
                    let number = (turn * 7 + reader * 5) % wanted.len();
                    let got = fs::read(mount.path(&format!("v/{number}"))).unwrap();
                    assert!(got == wanted[number], "file {number}");
                }
            });
        }
    });
    assert_eq!(mount.server.stats().errors, 0);
}

#[test]
fn attributes_that_a_file_lacks_are_missing_and_not_unsupported() {
    let mount = Mount::new();
    let file = mount.scratch.write("tree/file", "x");
    mount.scratch.write("tree/plain", "x");
    let xattr =
        |command: &str, path: &Path| shell(&format!("{command} {} 2>&1 || true", path.display()));
    let set = xattr(
        "python3 -c 'import os, sys; os.setxattr(sys.argv[1], \"user.color\", b\"blue\")'",
        &file,
    );
    assert_eq!(
        set, "",
        "the temporary directory must support user attributes"
    );
    let packed = mount
        .scratch
        .image(mount.scratch.path("tree"), &["-xattrs"]);
    mount.publish("v", &[image(&packed)]);
    let script = "import errno, os, sys
root = sys.argv[1]
assert os.getxattr(root + '/file', 'user.color') == b'blue'
assert os.listxattr(root + '/file') == ['user.color']
assert os.listxattr(root + '/plain') == []
for path in ('/plain', '', '/..'):
    try:
        os.getxattr(root + path, 'user.color')
        raise SystemExit('it has one')
    except OSError as error:
        assert error.errno == errno.ENODATA, error";
    run(Command::new("python3")
        .args(["-c", script])
        .arg(mount.path("v")));
}

#[test]
fn a_damaged_block_spoils_its_file_and_no_other() {
    let mount = Mount::new();
    let text = b"line of text\n".repeat(20_000);
    mount.scratch.write("tree/bad", &text);
    mount.scratch.write("tree/good", noise(3, 200_000));
    let tree = mount.scratch.path("tree");
    let path = mount
        .scratch
        .squash(tree, "image.squashfs", &["-no-fragments", "-b", "128K"]);
    let packed = open(&path);
    let (_, bad) = packed
        .entries(ImageNode(0))
        .find(|(name, _)| *name == b"bad")
        .unwrap();
    let block = packed.extent(bad, 0).unwrap().block;
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xAA; 16], block.start).unwrap();

    mount.publish("v", &[image(&packed)]);
    assert_eq!(errno(fs::read(mount.path("v/bad"))), Errno::EIO);
    assert!(mount.server.stats().errors > 0);
    let good = fs::read(mount.path("v/good")).unwrap();
    assert!(good == noise(3, 200_000), "another file is still good");
    let bad = File::open(mount.path("v/bad")).unwrap();
    let mut end = vec![0; text.len() - 131_072];
    bad.read_exact_at(&mut end, 131_072).unwrap();
    assert!(end == text[131_072..], "its other blocks are still good");
}

#[test]
fn the_size_of_the_filesystem_is_that_of_its_files() {
    let mount = Mount::new();
    mount.publish("a", &[files(&[("x", &"x".repeat(8192))])]);
    let stat = nix::sys::statfs::statfs(&mount.path("a")).unwrap();
    assert_eq!(stat.blocks() * 4096, 8192);
    assert_eq!(stat.blocks_free(), 0);
    assert_eq!(stat.maximum_name_length(), 255);
    // The root, the view's root, its file, and the layer's own root.
    assert_eq!(stat.files(), 4);
}

#[test]
fn what_was_read_once_costs_no_request_any_more() {
    let mount = Mount::new();
    mount.scratch.write("tree/dir/file", noise(1, 300_000));
    mount.scratch.write("tree/other", "small");
    std::os::unix::fs::symlink("dir/file", mount.scratch.path("tree/link")).unwrap();
    let packed = mount.scratch.image(mount.scratch.path("tree"), &[]);
    mount.publish("v", &[image(&packed)]);
    let visit = || {
        assert_eq!(names(&mount.path("v")), ["dir", "link", "other"]);
        assert_eq!(fs::read(mount.path("v/link")).unwrap().len(), 300_000);
        assert_eq!(fs::read(mount.path("v/other")).unwrap(), b"small");
        assert!(!mount.path("v/dir/none").exists());
    };
    visit();
    let before = mount.server.stats().requests;
    visit();
    assert_eq!(mount.server.stats().requests, before);
}
