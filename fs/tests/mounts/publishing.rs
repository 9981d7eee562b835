//! Views that come and go under the eyes of the kernel, which remembers everything for years.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::errno::Errno;
use piston_fs::layer::Placed;

use crate::support::{Mount, errno, files, image, names, noise, run};

#[test]
fn a_listing_shows_what_was_published_since_the_last_one() {
    let mount = Mount::new();
    assert_eq!(names(&mount.path("")), [""; 0]);
    mount.publish("views/a/1.0.0", &[files(&[("f", "1")])]);
    assert_eq!(names(&mount.path("")), ["views"]);
    assert_eq!(names(&mount.path("views")), ["a"]);
    mount.publish("views/b/1.0.0", &[files(&[("f", "1")])]);
    mount.publish("views/a/2.0.0", &[files(&[("f", "1")])]);
    assert_eq!(names(&mount.path("views")), ["a", "b"]);
    assert_eq!(names(&mount.path("views/a")), ["1.0.0", "2.0.0"]);
    assert_eq!(fs::metadata(mount.path("views")).unwrap().nlink(), 4);
    mount.server.unpublish("views/a/1.0.0").unwrap();
    assert_eq!(names(&mount.path("views/a")), ["2.0.0"]);
    mount.server.unpublish("views/a/2.0.0").unwrap();
    assert_eq!(names(&mount.path("views")), ["b"]);
}

#[test]
fn a_name_that_was_missing_appears_when_it_is_published() {
    let mount = Mount::new();
    for path in ["a", "deep/down/there"] {
        for parent in ["", "deep", "deep/down"] {
            // Whatever is there of it by now; the kernel is to remember it.
            drop(fs::read_dir(mount.path(parent)).map(Iterator::count));
        }
        assert!(!mount.path(path).exists());
        mount.publish(path, &[files(&[("f", "1")])]);
        assert_eq!(fs::read(mount.path(path).join("f")).unwrap(), b"1");
    }
}

#[test]
fn what_is_unpublished_is_gone_for_names_and_for_open_directories() {
    let mount = Mount::new();
    mount.publish("v/1", &[files(&[("f", "1"), ("d/g", "2")])]);
    let root = mount.path("v/1");
    assert_eq!(fs::read(root.join("f")).unwrap(), b"1");
    let held = File::open(root.join("d")).unwrap();
    mount.server.unpublish("v/1").unwrap();
    assert_eq!(errno(fs::metadata(&root)), Errno::ENOENT);
    assert_eq!(errno(fs::read(root.join("f"))), Errno::ENOENT);
    let below = format!(
        "/proc/self/fd/{}/none",
        std::os::fd::AsRawFd::as_raw_fd(&held)
    );
    assert_eq!(errno(fs::metadata(below)), Errno::ENOENT);
    mount.publish("v/1", &[files(&[("f", "new")])]);
    assert_eq!(fs::read(root.join("f")).unwrap(), b"new");
    assert!(!root.join("d").exists());
}

#[test]
fn paths_that_clash_or_make_no_sense_are_refused() {
    let mount = Mount::new();
    let layers = [files(&[("f", "1")])];
    mount.publish("views/a/1", &layers);
    for path in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "views",
        "views/a",
        "views/a/1",
        "views/a/1/f",
        "views/a/1/x/y",
        "a\0b",
    ] {
        mount.server.publish(path, &layers).expect_err(path);
    }
    mount
        .server
        .publish(&"x".repeat(256), &layers)
        .expect_err("too long");
    for path in [
        "",
        "views",
        "views/a",
        "views/a/2",
        "views/a/1/f",
        "nothing",
    ] {
        mount.server.unpublish(path).expect_err(path);
    }
    for at in ["", "x", "/x/", "/../x", "/x//y"] {
        let placed = Placed {
            at: at.to_owned(),
            ..layers[0].clone()
        };
        mount.server.publish("b", &[placed]).expect_err(at);
    }
    mount
        .server
        .publish_root(&layers)
        .expect_err("it is not empty");
    assert_eq!(names(&mount.path("")), ["views"]);
}

#[test]
fn a_file_is_one_inode_with_one_page_cache_in_all_views() {
    let mount = Mount::new();
    let bytes = noise(1, 500_000);
    mount.scratch.write("base/lib/file", &bytes);
    mount.scratch.write("top/lib/other", "x");
    let base = mount.scratch.image(mount.scratch.path("base"), &[]);
    let top = mount.scratch.image(mount.scratch.path("top"), &[]);
    mount.publish("packages/base/1", &[image(&base)]);
    mount.publish("views/a/1", &[files(&[("proc/x", "")]), image(&base)]);
    mount.publish("views/b/1", &[image(&base), image(&top)]);

    let file = |view: &str| mount.path(view).join("lib/file");
    assert!(fs::read(file("packages/base/1")).unwrap() == bytes);
    let before = mount.server.stats();
    let ino = fs::metadata(file("packages/base/1")).unwrap().ino();
    for view in ["views/a/1", "views/b/1"] {
        assert!(fs::read(file(view)).unwrap() == bytes);
        assert_eq!(fs::metadata(file(view)).unwrap().ino(), ino);
    }
    let after = mount.server.stats();
    assert_eq!(after.blocks, before.blocks);
    assert_eq!(after.read_bytes, before.read_bytes);
    // Directories are not shared: the kernel allows them one parent.
    let dir = |view: &str| fs::metadata(mount.path(view).join("lib")).unwrap().ino();
    assert_ne!(dir("views/a/1"), dir("views/b/1"));
    assert_eq!(names(&mount.path("views/b/1/lib")), ["file", "other"]);

    // What other views still show survives.
    mount.server.unpublish("packages/base/1").unwrap();
    assert_eq!(fs::metadata(file("views/a/1")).unwrap().ino(), ino);
}

#[test]
fn numbers_are_never_used_again() {
    let mount = Mount::new();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        mount.publish("v/x", &[files(&[("f", "1")])]);
        for path in ["v", "v/x", "v/x/f"] {
            assert!(seen.insert(fs::metadata(mount.path(path)).unwrap().ino()));
        }
        mount.server.unpublish("v/x").unwrap();
    }
}

#[test]
fn layers_placed_below_the_root_get_the_directories_on_the_way() {
    let mount = Mount::new();
    let mut placed = files(&[("run", "#!")]);
    placed.at = "/piston/packages/x/1.0.0".to_owned();
    let base = files(&[("piston/readme", "hello")]);
    let overlaps = mount.server.publish("v", &[base, placed]).unwrap();
    assert_eq!(overlaps, [""; 0]);
    assert_eq!(names(&mount.path("v/piston")), ["packages", "readme"]);
    assert_eq!(
        fs::read(mount.path("v/piston/packages/x/1.0.0/run")).unwrap(),
        b"#!"
    );
}

#[test]
fn overlapping_files_of_images_are_told() {
    let mount = Mount::new();
    mount.scratch.write("a/bin/x", "a");
    mount.scratch.write("b/bin/x", "b");
    mount.scratch.write("b/bin/y", "b");
    let a = mount.scratch.image(mount.scratch.path("a"), &[]);
    let b = mount.scratch.image(mount.scratch.path("b"), &[]);
    let overlaps = mount.server.publish("v", &[image(&a), image(&b)]).unwrap();
    assert_eq!(overlaps, ["/bin/x"]);
    assert_eq!(fs::read(mount.path("v/bin/x")).unwrap(), b"b");
}

#[test]
fn readers_and_publishers_do_not_disturb_each_other() {
    let mount = Mount::new();
    mount.publish("views/kept", &[files(&[("f", "1")])]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(names(&mount.path("views")).contains(&"kept".to_owned()));
                    assert_eq!(fs::read(mount.path("views/kept/f")).unwrap(), b"1");
                    // Comes and goes; must not hang or break anything.
                    drop(fs::read(mount.path("views/new/f")));
                }
            });
        }
        for turn in 0..300 {
            let text = turn.to_string();
            mount.publish("views/new", &[files(&[("f", &text)])]);
            assert_eq!(fs::read_to_string(mount.path("views/new/f")).unwrap(), text);
            assert_eq!(names(&mount.path("views")), ["kept", "new"]);
            mount.server.unpublish("views/new").unwrap();
            assert!(!mount.path("views/new").exists());
            assert_eq!(names(&mount.path("views")), ["kept"]);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(mount.server.stats().errors, 0);
}

#[test]
fn views_come_and_go_under_load_and_everybody_sees_what_is_there() {
    let mount = Mount::new();
    let bytes = noise(3, 300_000);
    mount.scratch.write("tree/lib/big", &bytes);
    mount.scratch.write("tree/etc/small", "small");
    let packed = mount.scratch.image(mount.scratch.path("tree"), &[]);
    mount.publish("kept/x", &[image(&packed)]);
    let done = AtomicBool::new(false);
    let visit = |view: &Path| {
        names(view) == ["etc", "lib"]
            && fs::read(view.join("lib/big")).unwrap() == bytes
            && fs::read(view.join("etc/small")).unwrap() == b"small"
            && !view.join("etc/none").exists()
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(visit(&mount.path("kept/x")));
                    assert!(names(&mount.path("")).contains(&"kept".to_owned()));
                    for other in ["0", "1", "2"] {
                        // Half gone or just come: fails or not, but never hangs or lies.
                        let view = mount.path(other).join("x");
                        if let Ok(read) = fs::read(view.join("lib/big")) {
                            assert!(read == bytes);
                        }
                        drop(fs::read_dir(&view).map(Iterator::count));
                    }
                }
            });
        }
        let publishers: Vec<_> = (0..3)
            .map(|number| {
                let (mount, packed, visit) = (&mount, &packed, &visit);
                scope.spawn(move || {
                    for _ in 0..40 {
                        let path = format!("{number}/x");
                        let view = mount.path(&path);
                        mount.publish(&path, &[image(packed)]);
                        assert!(visit(&view));
                        assert_eq!(names(view.parent().unwrap()), ["x"]);
                        mount.server.unpublish(&path).unwrap();
                        assert_eq!(errno(fs::metadata(&view)), Errno::ENOENT);
                        assert!(!names(&mount.path("")).contains(&number.to_string()));
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(mount.server.stats().errors, 0);
    assert_eq!(names(&mount.path("")), ["kept"]);
}

#[test]
fn a_lock_on_a_file_is_not_seen_by_others() {
    let mount = Mount::new();
    mount.publish("v", &[files(&[("f", "1")])]);
    let file = mount.path("v/f");
    let file = file.to_str().unwrap();
    let script = "import fcntl, subprocess, sys
f = open(sys.argv[1])
fcntl.flock(f, fcntl.LOCK_EX)
fcntl.lockf(f, fcntl.LOCK_SH)
subprocess.run(['flock', '--nonblock', '--exclusive', sys.argv[1], 'true'], check=True)
fcntl.flock(f, fcntl.LOCK_UN)";
    run(Command::new("python3").args(["-c", script, file]));
}
