//! Reads that hang: the image lies on a filesystem whose server is stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use piston_fs::image::Image;
use piston_fs::image::verify::{Bounds, verify};
use piston_fs::mount::{MountOptions, Server};

use crate::support::{Scratch, errno, files, image, is_mounted, noise, require_fuse};

/// A disk that can be stopped: a `piston-fs mount` of its own.
struct Disk {
    server: Child,
    at: PathBuf,
}

impl Disk {
    fn start(image: &Path, at: PathBuf) -> Self {
        let server = Command::new(env!("CARGO_BIN_EXE_piston-fs"))
            .arg("mount")
            .arg(image)
            .arg(&at)
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        while !is_mounted(&at) {
            thread::sleep(Duration::from_millis(5));
        }
        // Nothing is there before the image is published.
        while fs::read_dir(&at).expect("it is mounted").next().is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { server, at }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.server.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        self.signal(Signal::SIGTERM);
        self.server.wait().expect("it ends");
    }
}

/// An image on a disk of its own that can be stopped, of files that take a block each.
fn image_on_a_disk(scratch: &Scratch, names: &[&str]) -> (Disk, Arc<Image>) {
    for (seed, name) in (0..).zip(names) {
        scratch.write(&format!("tree/{name}"), noise(seed, 131_072));
    }
    let inner = scratch.squash(scratch.path("tree"), "disk/image", &[]);
    let index = scratch.path("index");
    verify(&inner, &index, &Bounds::default()).expect("a sound image");
    let outer = scratch.squash(scratch.path("disk"), "outer", &[]);
    let disk = Disk::start(&outer, scratch.path("outer-mount"));
    let image = Image::open(&disk.at.join("image"), &index).expect("it is there");
    (disk, Arc::new(image))
}

fn impatient(path: &Path) -> Server {
    let options = MountOptions {
        path: path.to_owned(),
        threads: 3,
        cache_bytes: 8 << 20,
        deadline: Duration::from_millis(200),
    };
    Server::mount(&options).expect("a mount")
}

#[test]
fn a_read_that_hangs_fails_in_time_and_everything_else_goes_on() {
    require_fuse();
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("disk")).unwrap();
    let names = ["a", "b", "c", "d", "e", "f"];
    let (disk, on_disk) = image_on_a_disk(&scratch, &names);
    scratch.write("other/x", noise(9, 200_000));
    let other = scratch.image(scratch.path("other"), &[]);
    let server = impatient(&scratch.path("mount"));
    server.publish("disk", &[image(&on_disk)]).unwrap();
    server.publish("other", &[image(&other)]).unwrap();
    server.publish("memory", &[files(&[("m", "1")])]).unwrap();
    let path = |name: &str| server.path().join(name);

    disk.signal(Signal::SIGSTOP);
    thread::scope(|scope| {
        for name in names {
            let file = path("disk").join(name);
            scope.spawn(move || assert_eq!(errno(fs::read(file)), Errno::EIO));
        }
    });
    assert!(server.stats().late > 0);
    // Both threads that read requests could hang by now. Others take their place.
    assert_eq!(fs::read(path("memory/m")).unwrap(), b"1");
    assert!(fs::read(path("other/x")).unwrap() == noise(9, 200_000));
    assert_eq!(errno(fs::metadata(path("disk/none"))), Errno::ENOENT);

    disk.signal(Signal::SIGCONT);
    for (seed, name) in (0..).zip(names) {
        let file = path("disk").join(name);
        // The threads that hung come back one after the other.
        while fs::read(&file).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(fs::read(&file).unwrap() == noise(seed, 131_072));
    }
}
