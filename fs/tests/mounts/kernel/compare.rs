//! Two mounts of one image, the kernel's and ours, compared path by path.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirEntryExt as _, FileExt as _, MetadataExt};
use std::path::{Path, PathBuf};

use crate::support::{KernelMount, Mount, image, open};

/// Files are read whole up to this length; of larger ones the ends and the middle.
const WHOLE: u64 = 64 << 20;

/// Of a directory of more entries than this only so many are looked at; their names all are.
const CROWD: usize = 1000;

/// Mounts an image both ways and compares everything that can be seen; the answer is how many
/// paths that were.
pub(super) fn compare(mount: &Mount, path: &Path, what: &str) -> usize {
    let kernel = KernelMount::new(path, mount.scratch.path("kernel"));
    mount.publish("image", &[image(&open(path))]);
    let ours = mount.path("image");
    let mut comparison = Comparison {
        what,
        inodes: HashMap::new(),
        paths: 0,
    };
    comparison.tree(kernel.path(), &ours);
    comparison.statistics(kernel.path(), &ours);
    mount.server.unpublish("image").expect("it was published");
    drop(kernel);
    fs::remove_dir(mount.scratch.path("kernel")).expect("nothing is mounted there any more");
    comparison.paths
}

struct Comparison<'a> {
    /// What kind of image it is, for messages.
    what: &'a str,
    /// Our inode number for each of the kernel's: which paths are one file.
    inodes: HashMap<u64, u64>,
    paths: usize,
}

impl Comparison<'_> {
    fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        part: &str,
        path: &Path,
        (kernel, ours): (T, T),
    ) {
        assert!(
            kernel == ours,
            "{}: {part} of {}: the kernel says {kernel:?}, we say {ours:?}",
            self.what,
            path.display()
        );
    }

    fn tree(&mut self, kernel: &Path, ours: &Path) {
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let (theirs, mine) = (kernel.join(&path), ours.join(&path));
            self.paths += 1;
            let meta = self.metadata(&path, &theirs, &mine);
            let attributes = (attributes(&theirs), attributes(&mine));
            self.same("extended attributes", &path, attributes);
            if meta.is_symlink() {
                let read = |path| fs::read_link(path).expect("a link");
                self.same("target", &path, (read(&theirs), read(&mine)));
            } else if meta.is_file() && meta.len() > 0 {
                assert!(
                    same_contents(&theirs, &mine),
                    "{}: bytes of {}",
                    self.what,
                    path.display()
                );
            } else if meta.is_dir() {
                let names = listing(&theirs);
                self.same("listing", &path, (&names, &listing(&mine)));
                let every = names.len() / CROWD + 1;
                let some = names.iter().step_by(every);
                pending.extend(some.map(|(name, _)| path.join(name)));
            }
        }
    }

    fn metadata(&mut self, path: &Path, kernel: &Path, ours: &Path) -> fs::Metadata {
        let read = |path: &Path| fs::symlink_metadata(path).expect("it is there");
        let (kernel, ours) = (read(kernel), read(ours));
        for (part, get) in [
            ("mode", (|m| m.mode().into()) as fn(&fs::Metadata) -> u64),
            ("owner", |m| m.uid().into()),
            ("group", |m| m.gid().into()),
            ("size", MetadataExt::size),
            ("links", MetadataExt::nlink),
            ("blocks", MetadataExt::blocks),
            ("device", MetadataExt::rdev),
            ("mtime", |m| m.mtime().cast_unsigned()),
            ("mtime's fraction", |m| m.mtime_nsec().cast_unsigned()),
            ("atime", |m| m.atime().cast_unsigned()),
            ("ctime", |m| m.ctime().cast_unsigned()),
        ] {
            self.same(part, path, (get(&kernel), get(&ours)));
        }
        let known = *self.inodes.entry(kernel.ino()).or_insert(ours.ino());
        assert_eq!(
            known,
            ours.ino(),
            "{}: which file {} is",
            self.what,
            path.display()
        );
        kernel
    }

    /// What `statfs` says that does not depend on there being one image or many in a mount. (The
    /// kernel says that names have up to 256 bytes, and refuses those of 256.)
    fn statistics(&self, kernel: &Path, ours: &Path) {
        let read = |path| {
            let stat = nix::sys::statfs::statfs(path).expect("a filesystem");
            (
                stat.blocks_free(),
                stat.blocks_available(),
                stat.files_free(),
            )
        };
        self.same("statistics", Path::new(""), (read(kernel), read(ours)));
    }
}

/// Names in the order in which they are told, with their kinds; the inode numbers that are told with
/// the first of them are checked to be their own.
fn listing(path: &Path) -> Vec<(OsString, fs::FileType)> {
    let entries = fs::read_dir(path).expect("a directory");
    let entry = |(number, entry): (usize, std::io::Result<fs::DirEntry>)| {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a kind");
        if number < CROWD {
            let meta = entry.metadata().expect("it is there");
            let told = (entry.ino(), kind);
            assert_eq!(told, (meta.ino(), meta.file_type()), "{entry:?}");
        }
        (entry.file_name(), kind)
    };
    entries.enumerate().map(entry).collect()
}

/// Names and values of extended attributes, in the order in which they are told.
fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let count = match rustix::fs::llistxattr(path, &mut names[..]) {
        // So says the kernel of every path of an image that has none at all.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        count => count.expect("a list"),
    };
    let mut found = Vec::new();
    for name in names[..count].split_inclusive(|byte| *byte == 0) {
        let name = &name[..name.len() - 1];
        let mut value = vec![0; 64 << 10];
        let count = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..]);
        value.truncate(count.expect("a value"));
        found.push((name.to_vec(), value));
    }
    found
}

fn same_contents(kernel: &Path, ours: &Path) -> bool {
    let (mut kernel, mut ours) = (
        File::open(kernel).expect("it can be read"),
        File::open(ours).expect("it can be read"),
    );
    let length = kernel.metadata().expect("it can be read").len();
    if length <= WHOLE {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        kernel.read_to_end(&mut one).expect("it can be read");
        ours.read_to_end(&mut other).expect("it can be read");
        return one == other;
    }
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    [0, (1 << 32) - 512, length / 2, length - (1 << 20)]
        .into_iter()
        .map(|at| at.min(length - (1 << 20)))
        .all(|at| {
            kernel.read_exact_at(&mut one, at).expect("it can be read");
            ours.read_exact_at(&mut other, at).expect("it can be read");
            one == other
        })
}
