//! The tree in a tar archive, unpacked without a tool: of Debian's packages, of layers of images, of
//! the released Piston's packages.
//!
//! Invariants: those of `tar_reader`; no name of an archive is ever used as a path of the host, because
//! contents go to numbered files; set-id bits, owners, extended attributes and devices are not taken
//! over. What the entries become is `assemble`'s and `merge`'s.

use std::io::Read;
use std::path::PathBuf;

use tar::EntryType;

use super::tar_reader::{self, Budget, MAX_FILE_BYTES, Refused, TarError};
use super::work::Spool;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File {
        /// Where its bytes are on this host.
        content: PathBuf,
        executable: bool,
        mtime: u32,
    },
    Symlink(String),
    /// Another name of the file at this path.
    Hardlink(String),
}

/// An entry: its path from the root (`/usr/bin/lua`), and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// Who writes such archives, and what they may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// dpkg: plain trees. What is special is refused.
    Debian,
    /// Anybody: devices, pipes and names that are no text are left out.
    Any,
}

/// What is not taken of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Devices, pipes.
    pub(super) special: usize,
    /// Entries with a name, or a target, that is no text.
    pub(super) names: usize,
}

impl LeftOut {
    /// What is not in the package, a sentence each.
    pub(super) fn notes(self, of: &str) -> Vec<String> {
        let mut notes = Vec::new();
        for (count, what) in [
            (self.special, "devices and pipes"),
            (self.names, "entries with names that are no text"),
        ] {
            if count > 0 {
                notes.push(format!("{count} {what} of {of} are left out"));
            }
        }
        notes
    }
}

/// Unpacks trees.
pub(super) struct Unpacker<'a> {
    /// Where contents go.
    pub(super) spool: &'a mut Spool,
    /// What may be taken.
    pub(super) budget: &'a mut Budget,
    /// Whose archives they are.
    pub(super) manner: Manner,
    /// Which paths are taken.
    pub(super) wanted: &'a dyn Fn(&str) -> bool,
}

impl Unpacker<'_> {
    /// Unpacks a tar to its end.
    pub(super) fn tree(&mut self, tar: impl Read) -> Result<(Vec<Entry>, LeftOut), TarError> {
        let (mut entries, mut left_out) = (Vec::new(), LeftOut::default());
        let Self {
            spool,
            budget,
            manner,
            wanted,
        } = self;
        tar_reader::each(tar, budget, &mut |entry| {
            if *manner == Manner::Any && !entry.is_text() {
                left_out.names += 1;
                return Ok(());
            }
            let path = entry.path()?;
            if path.is_empty() || !wanted(&path) {
                return Ok(());
            }
            match kind(entry, spool)? {
                Some(kind) => entries.push(Entry { path, kind }),
                None if *manner == Manner::Any => left_out.special += 1,
                None => return Err("is a device or a pipe".into()),
            }
            Ok(())
        })?;
        Ok((entries, left_out))
    }
}

/// What an entry is, its contents kept; none of what no tree of ours has.
fn kind(mut entry: tar_reader::Entry<'_>, spool: &mut Spool) -> Result<Option<Kind>, Refused> {
    Ok(Some(match entry.kind {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(entry.target()?.to_owned()),
        EntryType::Link => Kind::Hardlink(entry.linked()?),
        EntryType::Regular | EntryType::Continuous if entry.size > MAX_FILE_BYTES => {
            return Err("is over 8 GiB long".into());
        }
        EntryType::Regular | EntryType::Continuous => Kind::File {
            content: entry.keep(spool)?,
            executable: entry.executable,
            mtime: entry.mtime,
        },
        EntryType::Block | EntryType::Char | EntryType::Fifo => return Ok(None),
        _ => return Err("is of an unknown kind".into()),
    }))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Unpacks what `write` puts into a tar.
    fn unpacked(
        write: impl FnOnce(&mut tar::Builder<Vec<u8>>),
    ) -> Result<(Vec<Entry>, LeftOut), String> {
        let folder = tempfile::tempdir().expect("a directory");
        let mut spool = Spool::new(folder.path().to_owned());
        let mut tar = tar::Builder::new(Vec::new());
        write(&mut tar);
        let tar = tar.into_inner().expect("written");
        let mut unpacker = Unpacker {
            spool: &mut spool,
            budget: &mut Budget::default(),
            manner: Manner::Any,
            wanted: &|_| true,
        };
        unpacker.tree(&tar[..]).map_err(|error| match error {
            TarError::Entry { entry, reason } => format!("{entry} {reason}"),
            other => format!("{other:?}"),
        })
    }

    fn header(kind: EntryType, path: &[u8], link: &str) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_size(0);
        header.set_mtime(1);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        header
    }

    #[test]
    fn extended_headers_name_what_follows_them() {
        let long = format!("usr/{}/x", "n".repeat(200));
        let (entries, left_out) = unpacked(|tar| {
            let records = [
                ("path", long.as_bytes()),
                ("SCHILY.xattr.security.capability", b"\x01\xff".as_slice()),
            ];
            tar.append_pax_extensions(records).expect("a header");
            let short = header(EntryType::Regular, b"cut", "");
            tar.append(&short, io::empty()).expect("an entry");
            tar.append_pax_extensions([("linkpath", b"../there".as_slice())])
                .expect("a header");
            let link = header(EntryType::Symlink, b"link", "cut");
            tar.append(&link, io::empty()).expect("an entry");
        })
        .expect("a tree");
        let paths: Vec<&str> = entries.iter().map(|entry| &*entry.path).collect();
        assert_eq!(paths, [format!("/{long}").as_str(), "/link"]);
        assert_eq!(entries[1].kind, Kind::Symlink("../there".to_owned()));
        assert_eq!(left_out, LeftOut::default());
    }

    #[test]
    fn devices_and_names_that_are_no_text_are_left_out_and_counted() {
        let (entries, left_out) = unpacked(|tar| {
            for (kind, path) in [
                (EntryType::Char, b"dev/null".as_slice()),
                (EntryType::Block, b"dev/sda"),
                (EntryType::Fifo, b"pipe"),
                (EntryType::Regular, b"caf\xe9"),
                (EntryType::Regular, b"good"),
            ] {
                tar.append(&header(kind, path, ""), io::empty())
                    .expect("an entry");
            }
        })
        .expect("a tree");
        assert_eq!(entries.len(), 1);
        let expected = LeftOut {
            special: 3,
            names: 1,
        };
        assert_eq!(left_out, expected);
    }

    #[test]
    fn a_sparse_file_and_another_size_than_the_headers_are_refused() {
        for (key, value, reason) in [
            ("GNU.sparse.major", "1", "sparse"),
            ("size", "9999999999999", "over 8 GiB"),
            ("size", "-1", "no size"),
            ("size", "5", "in two places"),
            ("path", "../../etc/passwd", "leads out of its tree"),
            ("path", "/etc/passwd", "absolute"),
            ("path", "a\0b", "NUL"),
        ] {
            let text = unpacked(|tar| {
                tar.append_pax_extensions([(key, value.as_bytes())])
                    .expect("a header");
                tar.append(&header(EntryType::Regular, b"x", ""), io::empty())
                    .expect("an entry");
            });
            let text = text.expect_err(value);
            assert!(text.contains(reason), "{key}={value}: {text}");
        }
    }
}
