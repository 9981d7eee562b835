//! The beginning and the end of a mount.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::support::{Mount, Scratch, errno, files, is_mounted, mount, require_fuse, run};

#[test]
fn dropping_the_server_unmounts() {
    let Mount { server, scratch } = Mount::new();
    let path = scratch.path("mount");
    server.publish("v", &[files(&[("f", "1")])]).unwrap();
    assert_eq!(fs::read(path.join("v/f")).unwrap(), b"1");
    assert!(is_mounted(&path));
    drop(server);
    assert!(!is_mounted(&path));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn dropping_the_server_does_not_wait_for_those_who_keep_files_open() {
    let Mount { server, scratch } = Mount::new();
    let path = scratch.path("mount");
    server.publish("v", &[files(&[("f", "1")])]).unwrap();
    let held = File::open(path.join("v/f")).unwrap();
    let inside = File::open(path.join("v")).unwrap();
    let started = Instant::now();
    drop(server);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(!is_mounted(&path));
    drop((held, inside));
}

#[test]
fn an_unmount_by_somebody_else_is_noticed_and_survived() {
    let Mount { server, scratch } = Mount::new();
    let path = scratch.path("mount");
    run(Command::new("umount").arg(&path));
    server.wait();
    server.publish("v", &[files(&[("f", "1")])]).unwrap();
    drop(server);
    assert!(!is_mounted(&path));
}

#[test]
fn what_somebody_else_mounted_over_it_later_is_left_alone() {
    let Mount { server, scratch } = Mount::new();
    let path = scratch.path("mount");
    run(Command::new("umount").arg(&path));
    server.wait();
    let other = mount(&path).unwrap();
    drop(server);
    assert!(is_mounted(&path));
    drop(other);
    assert!(!is_mounted(&path));
}

#[test]
fn a_live_server_is_not_mounted_over() {
    let first = Mount::new();
    let refused = mount(first.server.path())
        .expect_err("it is in use")
        .to_string();
    assert!(
        refused.contains("another server is mounted there"),
        "{refused}"
    );
}

#[test]
fn missing_directories_on_the_way_to_the_mount_point_are_made() {
    require_fuse();
    let scratch = Scratch::new();
    let server = mount(&scratch.path("a/b/c")).unwrap();
    assert!(is_mounted(&scratch.path("a/b/c")));
    drop(server);
}

#[test]
fn a_mount_point_that_is_no_directory_is_refused_with_the_reason() {
    require_fuse();
    let scratch = Scratch::new();
    let file = scratch.write("file", "x");
    let refused = mount(&file).expect_err("a file").to_string();
    assert!(refused.ends_with("it is not a directory"), "{refused}");
}

#[test]
fn the_mount_is_read_only_and_its_devices_and_set_id_bits_are_inert() {
    let mount = Mount::new();
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let path = mount.server.path().to_str().unwrap();
    let line = table.lines().find(|line| line.contains(path)).unwrap();
    for option in [
        "fuse.piston",
        "ro",
        "nosuid",
        "nodev",
        "default_permissions",
        "allow_other",
    ] {
        assert!(
            line.split([' ', ',']).any(|word| word == option),
            "{option} in {line}"
        );
    }
}

#[test]
fn a_request_of_a_dead_connection_fails_and_does_not_hang() {
    let Mount { server, scratch } = Mount::new();
    let path = scratch.path("mount");
    let root = File::open(&path).unwrap();
    drop(server);
    let below = format!("/proc/self/fd/{}/x", std::os::fd::AsRawFd::as_raw_fd(&root));
    assert_eq!(errno(fs::metadata(Path::new(&below))), Errno::ENOTCONN);
}
