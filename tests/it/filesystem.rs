//! The filesystem of a running daemon: packages and views come and go while it is mounted.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use piston_tests::packages::{Crafted, install};
use piston_tests::{Daemon, Who, require};
use serde_json::json;

#[test]
fn views_appear_and_share_files_while_the_filesystem_is_mounted() {
    if !require::root() {
        return;
    }
    let daemon = Daemon::start(Who::Root);
    let views = daemon.mount().join("views");
    assert!(
        !views.join("bash").exists(),
        "asked before it is there, so the kernel remembers"
    );
    install(&daemon, &["bash"]);
    let version = fs::read_dir(views.join("bash"))
        .expect("a view")
        .next()
        .expect("one")
        .expect("entry");
    let view = version.path();
    let base = fs::read_dir(daemon.mount().join("packages/base"))
        .expect("a package")
        .next();
    let base = base.expect("one").expect("entry").path();
    let (in_view, in_package) = (
        fs::metadata(view.join("usr/bin/cat")).expect("cat"),
        fs::metadata(base.join("usr/bin/cat")).expect("cat"),
    );
    assert_eq!(
        in_view.ino(),
        in_package.ino(),
        "one file is one node wherever it appears"
    );
    for folder in ["proc", "dev", "tmp", "piston/job"] {
        assert!(view.join(folder).is_dir(), "a sandbox needs {folder}");
    }
    let written = fs::write(view.join("usr/bin/cat"), "x").expect_err("read-only");
    assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let path = format!(
        "/api/v3/packages/bash/{}",
        version.file_name().to_string_lossy()
    );
    assert_eq!(daemon.send("DELETE", &path, &json!(null)).status, 200);
    assert!(
        !view.exists() && !views.join("bash").exists(),
        "gone at once"
    );
}

#[test]
fn images_of_mksquashfs_are_served_byte_by_byte() {
    if !require::root() {
        return;
    }
    let daemon = Daemon::start(Who::Root);
    let long = "a line of text that compresses well\n".repeat(40_000);
    for (version, compressor) in [("1.0.0", "gzip"), ("1.0.1", "zstd")] {
        let file = Crafted {
            info: json!({
                "language": "tree", "version": version, "mount": "/",
                "build_platform": format!("test-{}", std::env::consts::ARCH),
            }),
            files: &[("a/small", "small\n"), ("a/b/long", &long), ("empty", "")],
            scripts: &[],
            compressor,
        }
        .write(daemon.folder());
        let reply = daemon.upload(&file);
        assert_eq!(
            reply.status,
            201,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
        let root = daemon.mount().join("packages/tree").join(version);
        assert_eq!(
            fs::read_to_string(root.join("a/b/long")).expect("long"),
            long
        );
        assert_eq!(
            fs::read_to_string(root.join("a/small")).expect("small"),
            "small\n"
        );
        assert_eq!(fs::read(root.join("empty")).expect("empty"), b"");
    }
}

#[test]
fn one_image_can_be_mounted_without_a_daemon() {
    if !require::root() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("sub")).expect("folder");
    fs::write(tree.join("sub/file"), "content").expect("file");
    let image = folder.path().join("image");
    let made = Command::new("mksquashfs")
        .arg(&tree)
        .arg(&image)
        .arg("-quiet")
        .output();
    assert!(
        made.is_ok_and(|output| output.status.success()),
        "mksquashfs"
    );
    let point = folder.path().join("mnt");
    fs::create_dir(&point).expect("folder");
    let mut server = Command::new(piston_tests::binary("piston-fs"))
        .arg("mount")
        .args([&image, &point])
        .spawn()
        .expect("piston-fs");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !point.join("sub").exists() {
        assert!(
            server.try_wait().expect("wait").is_none(),
            "piston-fs ended"
        );
        assert!(std::time::Instant::now() < deadline, "not mounted");
    }
    assert_eq!(
        fs::read_to_string(point.join("sub/file")).expect("file"),
        "content"
    );
    let pid = nix::unistd::Pid::from_raw(i32::try_from(server.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    assert!(server.wait().expect("wait").success());
    assert!(!point.join("sub").exists(), "unmounted");
}
