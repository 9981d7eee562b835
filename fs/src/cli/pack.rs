//! Packing a directory: its files, directories and symlinks, with their modes, owners and times.

use std::fs::{self, File, Metadata};
use std::io::BufWriter;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use piston_fs::image::pack::{Compressor, Meta, Source, Tree};

/// Packs `directory` as `image`.
pub(super) fn run(directory: &Path, image: &Path, level: i32) -> anyhow::Result<()> {
    let mut tree = Tree::new();
    let mut pending = vec![(directory.to_owned(), "/".to_owned())];
    while let Some((path, name)) = pending.pop() {
        pending.extend(add(&mut tree, path, &name)?);
    }
    let file =
        File::create_new(image).with_context(|| format!("cannot create {}", image.display()))?;
    let written = tree.write(BufWriter::new(file), Compressor::Zstd(level));
    if written.is_err() {
        fs::remove_file(image).unwrap_or_default();
    }
    written?;
    Ok(())
}

/// Adds one path, and gives what is in it.
fn add(tree: &mut Tree, path: PathBuf, name: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let context = || format!("cannot read {}", path.display());
    let meta = fs::symlink_metadata(&path).with_context(context)?;
    let kind = meta.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(&path).with_context(context)?;
        let Some(target) = target.to_str() else {
            bail!("{}: its target is not UTF-8", path.display());
        };
        tree.symlink(name, pack_meta(&meta), target)?;
    } else if kind.is_file() {
        tree.file(name, pack_meta(&meta), Source::Path(path))?;
    } else if kind.is_dir() {
        tree.directory(name, pack_meta(&meta))?;
        return entries(&path, name);
    } else {
        bail!(
            "{}: only files, directories and symlinks can be packed",
            path.display()
        );
    }
    Ok(Vec::new())
}

fn entries(path: &Path, name: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let context = || format!("cannot read {}", path.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let Some(last) = path.file_name().and_then(|last| last.to_str()) else {
            bail!("{}: its name is not UTF-8", path.display());
        };
        let below = format!("{}/{last}", name.trim_end_matches('/'));
        entries.push((path, below));
    }
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
