//! A folder as a tar, as the daemon takes it: sorted, without owners.
//!
//! Files, directories and symlinks as they are, none of which is followed; anything else is refused by
//! name. Whether a symlink leads out of the folder is the daemon's to judge.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;

use super::failure::Failure;

/// Packs what is in a folder into a temporary file.
pub(super) fn pack(folder: &Path) -> Result<NamedTempFile, Failure> {
    if !folder.is_dir() {
        return Err(Failure::new(format!("{} is no folder", folder.display())));
    }
    let unwritable = |error| Failure::new("can't write a temporary file").because(error);
    let file = NamedTempFile::new().map_err(unwritable)?;
    let mut builder = Builder::new(BufWriter::new(file));
    let mut pending = vec![PathBuf::new()];
    while let Some(inside) = pending.pop() {
        let path = folder.join(&inside);
        let failed = |error| Failure::new(format!("can't pack {}", path.display())).because(error);
        let facts = fs::symlink_metadata(&path).map_err(failed)?;
        if facts.is_dir() {
            let below = names(&path).map_err(failed)?;
            pending.extend(below.into_iter().rev().map(|name| inside.join(name)));
            if inside.as_os_str().is_empty() {
                continue;
            }
        } else if !facts.is_file() && !facts.is_symlink() {
            let text = format!("{} is a pipe, a device or a socket", path.display());
            return Err(
                Failure::new(text).next("a package can't hold it; move it out of the folder")
            );
        }
        append(&mut builder, &path, &inside, &facts).map_err(failed)?;
    }
    let file = builder.into_inner().map_err(unwritable)?;
    let mut file = file
        .into_inner()
        .map_err(|error| unwritable(error.into_error()))?;
    file.flush().map_err(unwritable)?;
    Ok(file)
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(PathBuf::from(entry?.file_name())));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

fn append(
    builder: &mut Builder<impl io::Write>,
    path: &Path,
    inside: &Path,
    facts: &Metadata,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(facts.mode() & 0o777);
    header.set_mtime(u64::try_from(facts.mtime()).unwrap_or_default());
    header.set_size(0);
    if facts.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return builder.append_data(&mut header, inside, io::empty());
    }
    if facts.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return builder.append_link(&mut header, inside, fs::read_link(path)?);
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    header.set_size(length);
    // A file that grows meanwhile is as long as it was; one that shrinks is found by who reads this.
    builder.append_data(&mut header, inside, file.take(length))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_folder_is_packed_sorted_with_its_modes_and_symlinks() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let long = "long-".repeat(40);
        fs::create_dir_all(at("b/empty")).unwrap();
        fs::write(at("b/tool"), "tool").unwrap();
        fs::set_permissions(at("b/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at(&long), "x").unwrap();
        symlink("b/tool", at("a")).unwrap();
        let packed = pack(folder.path()).unwrap();
        let mut archive = tar::Archive::new(packed.reopen().unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let name = entry.path().unwrap().display().to_string();
            let target = entry
                .link_name()
                .unwrap()
                .map(|to| to.display().to_string());
            let executable = entry.header().mode().unwrap() & 0o100 != 0;
            (
                name,
                target,
                executable && entry.header().entry_type().is_file(),
                text,
            )
        });
        let row = |name: &str, target: Option<&str>, executable, text: &str| {
            let target = target.map(ToOwned::to_owned);
            (name.to_owned(), target, executable, text.to_owned())
        };
        assert_eq!(
            entries.collect::<Vec<_>>(),
            [
                row("a", Some("b/tool"), false, ""),
                row("b", None, false, ""),
                row("b/empty", None, false, ""),
                row("b/tool", None, true, "tool"),
                row(&long, None, false, "x"),
            ]
        );
    }

    #[test]
    fn what_a_package_can_t_hold_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = pack(folder.path()).unwrap_err().to_string();
        assert!(error.contains("/socket is a pipe"), "{error}");
        let error = pack(&socket).unwrap_err().to_string();
        assert!(error.contains("is no folder"), "{error}");
    }
}
