//! The measured packages: trees unpacked by `contrib/bench/fs`, packed and verified here, once.
//!
//! The merged tree of the first three is also laid out in a plain directory, on an ext4: that of
//! the host, or one in a file where the host's is another.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::{EXT4_SUPER_MAGIC, statfs};
use piston_fs::image::verify::{Bounds, verify};

use crate::subject::run;

/// One package of the set.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name and that of its tree.
    pub(crate) name: &'static str,
    /// Its image.
    pub(crate) image: PathBuf,
    /// The index of its image.
    pub(crate) index: PathBuf,
}

/// A regular file of the merged tree.
#[derive(Debug)]
pub(crate) struct RegularFile {
    /// Its path below the root.
    pub(crate) path: CString,
    /// Its length in bytes.
    pub(crate) size: u64,
}

/// The package set.
#[derive(Debug)]
pub(crate) struct Set {
    packages: Vec<Package>,
    /// The folder for mount points.
    pub(crate) scratch: PathBuf,
    /// The merged tree in a plain directory.
    pub(crate) plain: PathBuf,
    /// Where an ext4 had to be mounted for it.
    ext4: Option<PathBuf>,
    /// Every path of the merged tree, sorted.
    pub(crate) paths: Vec<CString>,
    /// Its regular files, sorted.
    pub(crate) files: Vec<RegularFile>,
}

impl Set {
    /// Prepares the set in the folder that holds its trees.
    pub(crate) fn prepare(folder: &Path) -> Self {
        let trees = folder.join("trees");
        let scratch = folder.join("mounts");
        fs::create_dir_all(&scratch).expect("a folder for mounts");
        unmount_below(folder);
        let packages = ["base", "python", "gcc", "node"].map(|name| {
            let image = folder.join(format!("{name}.squashfs"));
            pack(&trees.join(name), &image);
            let index = folder.join(format!("{name}.index"));
            // The format of indexes may have changed since the last run.
            fs::remove_file(&index).unwrap_or_default();
            verify(&image, &index, &Bounds::default()).expect("a sound image");
            Package { name, image, index }
        });
        let (plain, ext4) = plain_directory(folder, &trees);
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        walk(&plain, &mut |path, meta| {
            let below = path.strip_prefix(&plain).expect("below");
            let path = CString::new(below.as_os_str().as_bytes()).expect("no NUL in a path");
            if meta.is_file() {
                let size = meta.len();
                files.push(RegularFile {
                    path: path.clone(),
                    size,
                });
            }
            paths.push(path);
        });
        Self {
            packages: packages.into(),
            scratch,
            plain,
            ext4,
            paths,
            files,
        }
    }

    /// All packages, the base first.
    pub(crate) fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The largest package: over 300 MB unpacked.
    pub(crate) fn largest(&self) -> &Package {
        &self.packages[1]
    }

    /// Removes what earlier servers noted of first reads.
    pub(crate) fn forget_hot_lists(&self) {
        for package in &self.packages {
            fs::remove_file(crate::server::hot_list(&package.image)).unwrap_or_default();
        }
    }

    /// The packages of the view that is measured, the lowest first.
    pub(crate) fn merged(&self) -> &[Package] {
        &self.packages[..3]
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        if let Some(at) = &self.ext4 {
            umount2(at, MntFlags::MNT_DETACH).unwrap_or_default();
        }
    }
}

/// Clears away what an interrupted run has left mounted.
fn unmount_below(folder: &Path) {
    let table = fs::read_to_string("/proc/self/mounts").expect("proc");
    let points = table.lines().filter_map(|line| line.split(' ').nth(1));
    let below: Vec<_> = points
        .filter(|at| Path::new(at).starts_with(folder))
        .collect();
    for at in below.iter().rev() {
        umount2(*at, MntFlags::MNT_DETACH).unwrap_or_default();
    }
}

/// Packs a tree as anybody would, in zstd blocks of 128 KiB.
fn pack(tree: &Path, image: &Path) {
    if image.exists() {
        return;
    }
    let part = image.with_extension("part");
    let mut command = Command::new("mksquashfs");
    command.arg(tree).arg(&part);
    let options = [
        "-noappend",
        "-no-progress",
        "-quiet",
        "-comp",
        "zstd",
        "-b",
        "128K",
    ];
    run(command.args(options), &[]);
    fs::rename(part, image).expect("a name in the same folder");
}

/// The merged tree in a plain directory; the mount point of its ext4, if one was made for it.
fn plain_directory(folder: &Path, trees: &Path) -> (PathBuf, Option<PathBuf>) {
    let plain = folder.join("plain");
    if !plain.exists() {
        let part = folder.join("plain.part");
        fs::create_dir_all(&part).expect("a folder");
        for name in ["base", "python", "gcc"] {
            run(
                Command::new("cp").arg("-a"),
                &[&trees.join(name).join("."), &part],
            );
        }
        fs::rename(part, &plain).expect("a name in the same folder");
    }
    if statfs(&plain).expect("a folder").filesystem_type() == EXT4_SUPER_MAGIC {
        return (plain, None);
    }
    let file = folder.join("plain.ext4");
    if !file.exists() {
        let mut make = Command::new("mke2fs");
        run(
            make.args(["-q", "-t", "ext4", "-d"]),
            &[&plain, &file, Path::new("3G")],
        );
    }
    let at = folder.join("mounts/ext4");
    fs::create_dir_all(&at).expect("a mount point");
    run(Command::new("mount").args(["-o", "loop"]), &[&file, &at]);
    (at.clone(), Some(at))
}

/// Visits what is below a folder, sorted.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path, &fs::Metadata)) {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    for path in paths {
        let meta = fs::symlink_metadata(&path).expect("an entry");
        visit(&path, &meta);
        if meta.is_dir() {
            walk(&path, visit);
        }
    }
}
