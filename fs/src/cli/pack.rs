//! Packing a directory with everything that squashfs can hold of it: modes, owners and times, links,
//! devices, pipes and sockets, extended attributes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use piston_fs::image::pack::{Compressor, Meta, Source, Special, Tree};
use rustix::io::Errno;

/// Packs `directory` as `image`.
pub(super) fn run(directory: &Path, image: &Path, with: Compressor) -> anyhow::Result<()> {
    let mut walk = Walk::default();
    let mut pending = vec![(directory.to_owned(), b"/".to_vec())];
    while let Some((path, name)) = pending.pop() {
        pending.extend(walk.add(&path, &name)?);
    }
    write(walk.tree, image, with)
}

/// Writes a tree to a file that must not exist.
pub(super) fn write(tree: Tree, image: &Path, with: Compressor) -> anyhow::Result<()> {
    let file =
        File::create_new(image).with_context(|| format!("cannot create {}", image.display()))?;
    let written = tree.write(file, with);
    if written.is_err() {
        fs::remove_file(image).unwrap_or_default();
    }
    written?;
    Ok(())
}

#[derive(Default)]
struct Walk {
    tree: Tree,
    /// The first name of what has several, by device and inode number.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl Walk {
    /// Adds one path, and gives what is in it.
    fn add(&mut self, path: &Path, name: &[u8]) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
        let context = || format!("cannot read {}", path.display());
        let meta = fs::symlink_metadata(path).with_context(context)?;
        if meta.is_dir() {
            self.tree.directory(name, pack_meta(&meta))?;
            self.attributes(path, name)?;
            return entries(path, name);
        }
        if meta.nlink() > 1 {
            let file = (meta.dev(), meta.ino());
            if let Some(first) = self.linked.get(&file) {
                self.tree.link(name, first)?;
                return Ok(Vec::new());
            }
            self.linked.insert(file, name.to_vec());
        }
        self.leaf(path, name, &meta)?;
        self.attributes(path, name)?;
        Ok(Vec::new())
    }

    fn leaf(&mut self, path: &Path, name: &[u8], meta: &Metadata) -> anyhow::Result<()> {
        let kind = meta.file_type();
        let packed = pack_meta(meta);
        if kind.is_file() {
            let source = Source::Path(path.to_owned());
            self.tree.file(name, packed, source)?;
            return Ok(());
        }
        if kind.is_symlink() {
            let target = fs::read_link(path);
            let target = target.with_context(|| format!("cannot read {}", path.display()))?;
            self.tree
                .symlink(name, packed, target.as_os_str().as_bytes())?;
            return Ok(());
        }
        let device = || {
            u32::try_from(meta.rdev())
                .with_context(|| format!("{}: its device number is too large", path.display()))
        };
        let special = if kind.is_block_device() {
            Special::BlockDevice(device()?)
        } else if kind.is_char_device() {
            Special::CharDevice(device()?)
        } else if kind.is_fifo() {
            Special::Fifo
        } else if kind.is_socket() {
            Special::Socket
        } else {
            bail!("{}: squashfs has no such kind of file", path.display());
        };
        Ok(self.tree.special(name, packed, special)?)
    }

    /// Takes over the extended attributes that squashfs has a place for; POSIX ACLs it has not.
    fn attributes(&mut self, path: &Path, name: &[u8]) -> anyhow::Result<()> {
        let context = || format!("cannot read extended attributes of {}", path.display());
        // The longest list and the longest value that Linux allows.
        let mut names = vec![0; 64 << 10];
        let count = match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
            count => count.with_context(context)?,
        };
        let mut value = vec![0; 64 << 10];
        for attribute in names[..count].split(|byte| *byte == 0) {
            if attribute.is_empty() || attribute.starts_with(b"system.") {
                continue;
            }
            let read = rustix::fs::lgetxattr(path, OsStr::from_bytes(attribute), &mut value[..]);
            let count = read.with_context(context)?;
            self.tree.attribute(name, attribute, &value[..count])?;
        }
        Ok(())
    }
}

fn entries(path: &Path, name: &[u8]) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let context = || format!("cannot read {}", path.display());
    let parent = name.strip_suffix(b"/").unwrap_or(name);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).with_context(context)? {
        let entry = entry.with_context(context)?;
        let below = [parent, b"/", entry.file_name().as_bytes()].concat();
        entries.push((entry.path(), below));
    }
    // Which of several names is the first must not depend on the order of the directory.
    entries.sort();
    Ok(entries)
}

fn pack_meta(meta: &Metadata) -> Meta {
    Meta {
        mode: u16::try_from(meta.mode() & 0o7777).unwrap_or(0),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: u32::try_from(meta.mtime().max(0)).unwrap_or(u32::MAX),
    }
}
