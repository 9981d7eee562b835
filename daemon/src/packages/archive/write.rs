//! Writing package files: deterministic, replaced as a whole.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use tar::EntryType;

use super::{
    ArchiveError, COMPILE, ENVIRONMENT, IMAGE, INFO, MAX_SCRIPT_BYTES, RUN, length, refused,
};
use crate::packages::files::{self, AtPath as _, Hashing};
use crate::packages::info::PackageInfo;

/// Writes a package file to `out` (replaced when it is there): metadata, scripts, image.
///
/// `scripts` are `(name, mode, bytes)` of `run`, `compile` and `environment`. The same input
/// gives the same bytes: times, owners and the gzip header are zero.
pub fn write(
    out: &Path,
    info_json: &[u8],
    image: &Path,
    scripts: &[(&str, u32, &[u8])],
) -> Result<(), ArchiveError> {
    PackageInfo::parse(info_json)?;
    let temporary = files::sibling(out);
    let written = write_members(&temporary, info_json, image, scripts)
        .and_then(|()| Ok(files::rename_durably(&temporary, out)?));
    if written.is_err() {
        // Best effort: the first error is the one to report.
        drop(std::fs::remove_file(&temporary));
    }
    written
}

fn write_members(
    out: &Path,
    info_json: &[u8],
    image: &Path,
    scripts: &[(&str, u32, &[u8])],
) -> Result<(), ArchiveError> {
    let file = File::create(out).at("create", out)?;
    // The image is compressed already: a faster level would save under one percent.
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(BufWriter::new(file), Compression::none());
    let mut tar = tar::Builder::new(gzip);
    append(&mut tar, INFO, 0o644, length(info_json), info_json).at("write", out)?;
    let mut sorted = scripts.to_vec();
    sorted.sort_unstable_by_key(|script| script.0);
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(refused(twice[0].0, "is given twice"));
    }
    for (name, mode, bytes) in sorted {
        if !matches!(name, RUN | COMPILE | ENVIRONMENT) {
            return Err(refused(name, "is not run, compile or environment"));
        }
        if length(bytes) > MAX_SCRIPT_BYTES {
            return Err(refused(name, format!("is over {MAX_SCRIPT_BYTES} bytes")));
        }
        append(&mut tar, name, mode & 0o777, length(bytes), bytes).at("write", out)?;
    }
    let source = File::open(image).at("open", image)?;
    let image_bytes = source.metadata().at("inspect", image)?.len();
    append(&mut tar, IMAGE, 0o644, image_bytes, source).at("copy", image)?;
    let file = tar
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .and_then(|buffered| {
            buffered
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
        })
        .at("write", out)?;
    file.sync_all().at("sync", out)?;
    Ok(())
}

pub(super) fn append<W: Write, R: Read>(
    tar: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    size: u64,
    bytes: R,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    // A file that shrinks or grows while it is packed must not give a torn archive.
    let mut counted = Hashing::new(bytes);
    tar.append(&header, (&mut counted).take(size.saturating_add(1)))?;
    if counted.finish().1 == size {
        Ok(())
    } else {
        Err(io::Error::other("the file changed while it was packed"))
    }
}
