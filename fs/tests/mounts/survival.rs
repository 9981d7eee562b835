//! What a server lives through: hostile images, its own death, and clients that don't let go.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::command::Running;
use crate::support::{Mount, Scratch, image, is_mounted, noise, require_fuse, run, shell};

/// Memory that a server of a small image may take, in KiB, whatever the image says.
const MEMORY: u64 = 256 << 10;

fn small_tree(scratch: &Scratch) {
    for number in 0..10 {
        scratch.write(&format!("tree/d/e/{number}"), noise(number, 60));
    }
    scratch.write("tree/large", noise(7, 40_000));
    scratch.write("tree/text", "text ".repeat(8000));
    scratch.write("tree/zeros", vec![0; 50_000]);
    let tree = scratch.path("tree");
    shell(&format!(
        "cd {} && ln text same && ln -s text link && mkfifo pipe",
        tree.display()
    ));
}

/// Reads whatever there is to read; an error of a file is that file's.
fn visit(folder: &Path) -> usize {
    let mut seen = 0;
    let Ok(entries) = fs::read_dir(folder) else {
        return seen;
    };
    for entry in entries.flatten() {
        seen += 1;
        let Ok(meta) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        if meta.is_dir() {
            seen += visit(&entry.path());
        } else if meta.is_symlink() {
            fs::read_link(entry.path()).map(drop).unwrap_or_default();
        } else if meta.is_file()
            && let Ok(mut file) = fs::File::open(entry.path())
        {
            // A hole may claim terabytes.
            let mut start = Vec::new();
            let read = file.by_ref().take(1 << 20).read_to_end(&mut start);
            if read.is_ok() {
                assert_eq!(u64::try_from(start.len()), Ok(meta.len().min(1 << 20)));
            }
            let mut end = [0; 4096];
            let at = meta.len().saturating_sub(4096);
            file.read_at(&mut end, at).map(drop).unwrap_or_default();
        }
    }
    seen
}

#[test]
fn damaged_images_are_refused_or_served_and_listed_without_harm() {
    require_fuse();
    let scratch = Scratch::new();
    small_tree(&scratch);
    let (mut refused, mut served) = (0, 0);
    for options in [&["-b", "8192", "-noI"][..], &["-b", "4096", "-noD"]] {
        let sound = scratch.squash(scratch.path("tree"), "sound", options);
        let sound = fs::read(sound).unwrap();
        let tables = u64::from_le_bytes(sound[64..72].try_into().unwrap());
        let tables = usize::try_from(tables).unwrap();
        for case in 0..25 {
            let mut bytes = sound.clone();
            let dice = noise(5000 + case, 40);
            // Most changes to data, some to the tables: those are seldom accepted.
            let from = if case % 5 == 0 { tables } else { 96 };
            for change in dice.chunks_exact(8).take(1 + usize::from(dice[39] % 4)) {
                let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
                let at = from + place % (bytes.len() - from);
                bytes[at] = change[2];
            }
            let image = scratch.write("changed", &bytes);
            let at = scratch.path("mount");
            let Some(mut server) = Running::try_start(&[], &[&image], &at) else {
                refused += 1;
                continue;
            };
            served += 1;
            assert!(visit(&at) > 0, "case {case}: nothing is there");
            assert_eq!(visit(&at), visit(&at), "case {case}: it changes");
            let peak = server.peak();
            assert!(peak < MEMORY, "case {case}: {peak} KiB");
            assert!(server.signal(Signal::SIGTERM).success(), "case {case}");
        }
    }
    assert!(
        refused > 3 && served > 3,
        "{refused} refused, {served} served"
    );
}

#[test]
fn a_server_killed_under_load_leaves_no_obstacle_to_the_next() {
    require_fuse();
    let scratch = Scratch::new();
    for number in 0..40 {
        scratch.write(&format!("tree/{number}"), noise(number, 300_000));
    }
    let image = scratch.squash(scratch.path("tree"), "image", &[]);
    let at = scratch.path("mount");
    for _ in 0..5 {
        let mut server = Running::start(&[&image], &at);
        let (stop, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for reader in 0..4 {
                let (at, stop, reads) = (&at, &stop, &reads);
                scope.spawn(move || {
                    for turn in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                        let path = at.join(((turn * 7 + reader * 11) % 40).to_string());
                        match fs::read(&path) {
                            Ok(bytes) => assert_eq!(bytes.len(), 300_000),
                            // Its server is dead: an error, and no wait.
                            Err(error) => assert!(matches!(
                                error.raw_os_error().map(Errno::from_raw),
                                Some(Errno::ENOTCONN | Errno::ECONNABORTED | Errno::EIO)
                            )),
                        }
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while reads.load(Ordering::Relaxed) < 20 {
                thread::yield_now();
            }
            server.signal(Signal::SIGKILL);
            stop.store(true, Ordering::Relaxed);
        });
        assert!(is_mounted(&at), "a killed server leaves its mount behind");
    }
    let mut server = Running::start(&[&image], &at);
    for number in 0..40 {
        let bytes = fs::read(at.join(number.to_string())).unwrap();
        assert!(bytes == noise(number, 300_000), "file {number}");
    }
    assert!(server.signal(Signal::SIGTERM).success());
    assert!(!is_mounted(&at), "nothing of the dead ones is left");
}

/// What one client does to the server leaves others their answers, however long it goes on.
#[test]
fn clients_that_hammer_leave_others_their_answers() {
    let mount = Mount::new();
    for number in 0..20 {
        let bytes = noise(number, 400_000);
        mount.scratch.write(&format!("tree/{number}"), bytes);
    }
    let packed = mount.scratch.image(mount.scratch.path("tree"), &[]);
    mount.publish("v", &[image(&packed)]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for hammer in 0..4 {
            let (mount, stop) = (&mount, &stop);
            scope.spawn(move || {
                for turn in (0_u32..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    if hammer % 2 == 0 {
                        assert!(!mount.path(&format!("v/none-{hammer}-{turn}")).exists());
                    } else {
                        let dropped = format!(
                            "dd if={} of=/dev/null bs=1M iflag=direct status=none",
                            mount.path(&format!("v/{}", turn % 10)).display()
                        );
                        shell(&dropped);
                    }
                }
            });
        }
        for number in 10..20 {
            let bytes = fs::read(mount.path(&format!("v/{number}"))).unwrap();
            assert!(bytes == noise(number, 400_000), "file {number}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(mount.server.stats().errors, 0);
    run(std::process::Command::new("ls")
        .arg("-lR")
        .arg(mount.server.path()));
}
