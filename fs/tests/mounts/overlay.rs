//! Views against the kernel's own: overlayfs over squashfs mounts of the same layers.
//!
//! The layers are made up from seeds. Where the kernel has one way to hide a lower entry, images
//! have two (packages may come from OCI layers), so every layer is written twice: as a package
//! may hold it, and as overlayfs wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use piston_fs::layer::{Layer, Placed};

use crate::support::{KernelMount, Mount, Scratch, machine_root, noise, open, run};

/// What a directory of a layer holds.
#[derive(Debug)]
struct Directory {
    mode: u32,
    time: i64,
    /// Whether it hides all that lower layers have in it.
    opaque: bool,
    entries: BTreeMap<&'static str, Item>,
}

#[derive(Debug)]
enum Item {
    Directory(Directory),
    File(String),
    Symlink(String),
    Whiteout(Whiteout),
}

/// How a package says that a lower entry is hidden.
#[derive(Debug, Clone, Copy)]
enum Whiteout {
    /// A character device 0:0, as overlayfs has it.
    Device,
    /// A file named `.wh.` and the hidden name, as OCI layers have it.
    Named,
}

/// Whom a layer is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Ours,
    Overlayfs,
}

#[derive(Debug)]
struct Given {
    root: Directory,
    /// Where the layer sits, without leading slash.
    at: &'static str,
}

/// Decides by bytes that a seed gives.
struct Dice(std::vec::IntoIter<u8>);

impl Dice {
    fn below(&mut self, bound: u8) -> u8 {
        self.0.next().expect("more bytes than any layer needs") % bound
    }

    fn directory(&mut self, depth: u8) -> Directory {
        let mut entries = BTreeMap::new();
        for name in ["a", "b", "c", "d", "e"] {
            let item = match self.below(12) {
                0..=2 => Item::File("x".repeat(self.below(100).into())),
                3..=5 if depth < 3 => Item::Directory(self.directory(depth + 1)),
                6 => Item::Symlink("t".repeat(1 + usize::from(self.below(60)))),
                7 => Item::Whiteout(Whiteout::Device),
                8 => Item::Whiteout(Whiteout::Named),
                _ => continue,
            };
            entries.insert(name, item);
        }
        Directory {
            mode: [0o755, 0o700, 0o1777][usize::from(self.below(3))],
            time: 1_000_000_000 + i64::from(self.below(200)),
            opaque: depth > 0 && self.below(6) == 0,
            entries,
        }
    }

    fn stack(&mut self) -> Vec<Given> {
        let layers = 2 + self.below(3);
        let layer = |_| Given {
            root: self.directory(0),
            at: ["", "", "a", "b/c"][usize::from(self.below(4))],
        };
        (0..layers).map(layer).collect()
    }
}

/// How much a layer says of what is not to be seen.
fn whiteouts(directory: &Directory) -> usize {
    let items = directory.entries.values().map(|item| match item {
        Item::Directory(below) => usize::from(below.opaque) + whiteouts(below),
        Item::Whiteout(_) => 1,
        Item::File(_) | Item::Symlink(_) => 0,
    });
    items.sum()
}

/// Writes a layer's directory; the ones that overlayfs is to take for opaque are told.
fn write(from: &Directory, to: &Path, reader: Reader, opaque: &mut Vec<PathBuf>) {
    fs::create_dir_all(to).unwrap();
    for (name, item) in &from.entries {
        let path = to.join(name);
        match item {
            Item::Directory(below) => {
                write(below, &path, reader, opaque);
                continue;
            }
            Item::File(text) => fs::write(&path, text).unwrap(),
            Item::Symlink(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            Item::Whiteout(Whiteout::Named) if reader == Reader::Ours => {
                fs::write(to.join(format!(".wh.{name}")), "").unwrap();
                continue;
            }
            Item::Whiteout(_) => mknod(&path, SFlag::S_IFCHR, Mode::empty(), 0).unwrap(),
        }
        set_time(&path, from.time + 7);
    }
    if from.opaque && reader == Reader::Ours {
        fs::write(to.join(".wh..wh..opq"), "").unwrap();
    } else if from.opaque {
        opaque.push(to.to_owned());
    }
    fs::set_permissions(to, fs::Permissions::from_mode(from.mode)).unwrap();
    set_time(to, from.time);
}

fn set_time(path: &Path, seconds: i64) {
    let time = TimeSpec::new(seconds, 0);
    let here = AT_FDCWD;
    utimensat(here, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Sets the attribute that makes a directory opaque to overlayfs.
fn make_opaque(paths: &[PathBuf]) {
    let script = "import os, sys
for path in sys.argv[1:]:
    time = os.stat(path).st_mtime_ns
    os.setxattr(path, 'trusted.overlay.opaque', b'y')
    os.utime(path, ns=(time, time))";
    run(Command::new("python3").args(["-c", script]).args(paths));
}

/// Every path of a tree with what is seen of it.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        let path = root.join(&below);
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            // Where only one layer has a directory, overlayfs lists whiteouts that are not there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let contents = if meta.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                pending.push(below.join(entry.unwrap().file_name()));
            }
            String::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            format!("{} {}", meta.nlink(), fs::read_to_string(&path).unwrap())
        };
        let attributes = format!("{:o} {} {contents}", meta.mode(), meta.mtime());
        seen.insert(below, attributes);
    }
    seen
}

/// Packs a stack for a reader, the lowest layer first.
fn pack(stack: &[Given], scratch: &Scratch, reader: Reader) -> Vec<PathBuf> {
    let pack = |(number, given): (usize, &Given)| {
        let name = format!("{number}-{reader:?}");
        let tree = scratch.path(&name);
        let root = match reader {
            Reader::Ours => tree.clone(),
            Reader::Overlayfs => tree.join(given.at),
        };
        let mut opaque = Vec::new();
        write(&given.root, &root, reader, &mut opaque);
        make_opaque(&opaque);
        scratch.squash(&tree, &format!("{name}.squashfs"), &[])
    };
    stack.iter().enumerate().map(pack).collect()
}

/// The directories on the way to where layers sit: overlayfs needs real ones there, which have
/// attributes, and a view makes them up.
fn made_up(stack: &[Given]) -> BTreeSet<PathBuf> {
    let on_the_way = |given: &Given| {
        let ancestors = Path::new(given.at).ancestors().skip(1);
        ancestors.map(Path::to_owned).collect::<Vec<_>>()
    };
    stack.iter().flat_map(on_the_way).collect()
}

#[test]
fn a_view_looks_like_the_kernels_overlayfs_over_the_same_layers() {
    if !machine_root() {
        return;
    }
    let mut hidden = 0;
    for seed in 0..8 {
        let stack = Dice(noise(1000 + seed, 20_000).into_iter()).stack();
        let mount = Mount::new();
        let scratch = &mount.scratch;

        let ours = pack(&stack, scratch, Reader::Ours);
        let placed = ours.iter().zip(&stack).map(|(image, given)| Placed {
            layer: Layer::Image(open(image)),
            at: format!("/{}", given.at),
        });
        mount.publish("v", &placed.collect::<Vec<_>>());

        let layers: Vec<_> = pack(&stack, scratch, Reader::Overlayfs)
            .iter()
            .map(|image| KernelMount::new(image, image.with_extension("mounted")))
            .collect();
        let overlay = KernelMount::overlay(&layers, scratch.path("overlay"));

        let mut expected = seen(overlay.path());
        let mut found = seen(&mount.path("v"));
        for path in made_up(&stack) {
            expected.insert(path.clone(), String::new());
            found.insert(path, String::new());
        }
        assert_eq!(found, expected, "seed {seed}: {stack:#?}");
        let whiteouts = stack.iter().map(|given| whiteouts(&given.root));
        hidden += whiteouts.sum::<usize>();
        drop(overlay);
    }
    assert!(hidden > 50, "only {hidden} whiteouts show nothing");
}
