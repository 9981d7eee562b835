//! The workloads: what is done to a mounted tree, and how long it takes.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};

use crate::set::Set;
use crate::subject::Mounted;

/// How this program is told to start another inside a root.
pub(crate) const COMMAND: &str = "chroot";

/// How many paths the rows of single calls take.
const CALLS: usize = 15_000;

/// How many names that are not there are asked for.
pub(crate) const ABSENT: u32 = 5000;

/// One workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// `find -ls` over the tree.
    Find,
    /// `lstat` of 15,000 paths.
    Lstat,
    /// `open`, `fstat` and `close` of 15,000 regular files, some more than once.
    Open,
    /// `lstat` of names that are not there.
    Absent,
    /// All regular files from end to end, shared among so many readers.
    ReadAll(usize),
    /// 4 KiB at 1000 places, spread over all bytes of all files.
    RandomReads,
    /// `python3 -c pass`.
    Python,
    /// Compiling a hello world that includes `<iostream>`.
    Compile,
}

impl Work {
    /// Whether its program needs a `/tmp` that it can write.
    pub(crate) fn needs_tmp(self) -> bool {
        self == Self::Compile
    }

    /// Whether it is a program's start, which reads the same whenever it is made: then our server
    /// has noted at an earlier one what that is, as the daemon lets it.
    pub(crate) fn is_start(self) -> bool {
        matches!(self, Self::Python | Self::Compile)
    }

    /// Does it once, and tells how long that took.
    pub(crate) fn measure(self, set: &Set, mounted: &Mounted) -> Duration {
        let root = File::open(&mounted.root).expect("a mounted tree");
        let root = OwnedFd::from(root);
        if self == Self::Compile {
            let source = "#include <iostream>\nint main() { std::cout << \"hello\\n\"; }\n";
            fs::write(mounted.root.join("tmp/hello.cpp"), source).expect("a tmpfs");
        }
        let start = Instant::now();
        match self {
            Self::Find => find(&mounted.root),
            Self::Lstat => lstat(set, &root),
            Self::Absent => absent(&root),
            Self::Open => open_all(set, &root),
            Self::ReadAll(readers) => read_all(set, &root, readers),
            Self::RandomReads => read_at_random(set, &root),
            Self::Python => inside(&mounted.root, &["/usr/bin/python3", "-c", "pass"]),
            Self::Compile => {
                let line = ["/usr/bin/g++", "/tmp/hello.cpp", "-o", "/tmp/hello"];
                inside(&mounted.root, &line);
            }
        }
        start.elapsed()
    }
}

/// Makes everything cold but the programs that measure.
pub(crate) fn cool(set: &Set) {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").expect("root may drop caches");
    let nothing = set.scratch.join("nothing");
    fs::create_dir_all(&nothing).expect("a folder");
    find(&nothing);
    inside(Path::new("/"), &["/bin/true"]);
}

fn find(root: &Path) {
    // No success is asked for: fuse-overlayfs gives files of different layers one inode number,
    // in which find sees loops.
    let status = Command::new("find")
        .args([".", "-ls"])
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("find runs");
}

/// Runs a program inside a root, through this program started anew: what starts it is never cold.
fn inside(root: &Path, line: &[&str]) {
    let this = std::env::current_exe().expect("this program");
    let status = Command::new(this)
        .arg(COMMAND)
        .arg(root)
        .args(line)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{line:?} in {}",
        root.display()
    );
}

/// The child's part of [`inside`].
pub(crate) fn enter(arguments: &[String]) {
    let [root, program, rest @ ..] = arguments else {
        panic!("chroot ROOT PROGRAM ARGUMENT...");
    };
    nix::unistd::chroot(root.as_str()).expect("root may do that");
    std::env::set_current_dir("/").expect("the new root");
    let error = Command::new(program).args(rest).exec();
    panic!("{program}: {error}");
}

fn lstat(set: &Set, root: &OwnedFd) {
    for path in set.paths.iter().cycle().take(CALLS) {
        fstatat(root, path.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).expect("it is there");
    }
}

fn absent(root: &OwnedFd) {
    for number in 0..ABSENT {
        let name = CString::new(format!("none-{number}")).expect("no NUL");
        fstatat(root, name.as_c_str(), AtFlags::empty()).expect_err("it is not there");
    }
}

fn open(root: &OwnedFd, path: &CStr) -> OwnedFd {
    openat(
        root,
        path,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .expect("it is there")
}

fn open_all(set: &Set, root: &OwnedFd) {
    for file in set.files.iter().cycle().take(CALLS) {
        let opened = open(root, &file.path);
        fstat(opened.as_fd()).expect("it is open");
    }
}

fn read_all(set: &Set, root: &OwnedFd, readers: usize) {
    let next = AtomicUsize::new(0);
    let read = || {
        let mut buffer = vec![0; 128 << 10];
        while let Some(file) = set.files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let opened = open(root, &file.path);
            while nix::unistd::read(&opened, &mut buffer).expect("a sound file") > 0 {}
        }
    };
    if readers == 1 {
        return read();
    }
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(read);
        }
    });
}

/// A sequence that looks random and is the same in every run (Knuth's MMIX generator).
pub(crate) fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |bound| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 20) % bound
    }
}

fn read_at_random(set: &Set, root: &OwnedFd) {
    let ends: Vec<u64> = set
        .files
        .iter()
        .scan(0, |end, file| {
            *end += file.size;
            Some(*end)
        })
        .collect();
    let total = *ends.last().expect("files");
    let mut below = random(1);
    let mut buffer = [0; 4096];
    for _ in 0..1000 {
        let at = below(total);
        let number = ends.partition_point(|end| *end <= at);
        let file = &set.files[number];
        let within = at - (ends[number] - file.size);
        let opened = File::from(open(root, &file.path));
        let count = opened
            .read_at(&mut buffer, within / 4096 * 4096)
            .expect("a sound file");
        assert!(count > 0, "an empty read of {:?}", file.path);
    }
}

/// Ways of keeping our server, or only a processor, busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hammer {
    /// Nobody does.
    Nobody,
    /// Names that are not there, each another.
    Lookups,
    /// Reads past the page cache.
    Reads,
    /// Computing.
    Computing,
}

impl Hammer {
    /// Hammers from as many threads as there are processors until told to stop.
    pub(crate) fn until(self, set: &Set, mounted: &Mounted, stop: impl Fn() -> bool + Sync) {
        if self == Self::Nobody {
            return;
        }
        let root = OwnedFd::from(File::open(&mounted.root).expect("a mounted tree"));
        let threads = thread::available_parallelism().map_or(2, std::num::NonZero::get);
        thread::scope(|scope| {
            for number in 0..threads {
                let (root, stop) = (&root, &stop);
                scope.spawn(move || self.strike(set, root, number, stop));
            }
        });
    }

    fn strike(self, set: &Set, root: &OwnedFd, number: usize, stop: impl Fn() -> bool) {
        let mut below = random(7 + u64::try_from(number).expect("few threads"));
        let mut buffer = vec![0; 1 << 20];
        let large: Vec<_> = set
            .files
            .iter()
            .filter(|file| file.size > 1 << 20)
            .collect();
        let mut turn = 0_u64;
        while !stop() {
            turn += 1;
            match self {
                Self::Nobody => return,
                Self::Lookups => {
                    let name = CString::new(format!("usr/none-{number}-{turn}")).expect("no NUL");
                    fstatat(root, name.as_c_str(), AtFlags::empty()).expect_err("it is not there");
                }
                Self::Reads => {
                    let count = u64::try_from(large.len()).expect("few files");
                    let file = large[usize::try_from(below(count)).expect("an index")];
                    let flags = OFlag::O_RDONLY | OFlag::O_DIRECT | OFlag::O_CLOEXEC;
                    let opened = openat(root, file.path.as_c_str(), flags, Mode::empty());
                    let opened = File::from(opened.expect("it is there"));
                    let at = below(file.size) / 4096 * 4096;
                    opened.read_at(&mut buffer, at).expect("a sound file");
                }
                Self::Computing => {
                    for _ in 0..1000 {
                        std::hint::black_box(below(1 << 40));
                    }
                }
            }
        }
    }
}
