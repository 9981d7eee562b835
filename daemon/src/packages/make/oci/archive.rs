//! Archives of images: a tar of an image layout, or what `docker save` writes.
//!
//! Invariants: no name of an archive is a path of the host; a link of it leads to another member of
//! it, if anywhere; the archive is read where it lies, unless it is packed. Knows nothing of images.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use piston_client::ids::Digest;
use tar::EntryType;

use super::super::super::files::{AtPath as _, Hashing, PathError};
use super::super::compressed::Kind;
use super::super::tar_reader::{self, Bounded, Budget, MAX_FILE_BYTES, TarError, normal};

/// Most members that are looked at.
const MOST_MEMBERS: usize = 20_000;
/// Links that lead to links.
const MOST_LINKS: usize = 8;
/// What is read at once.
const PIECE: usize = 256 << 10;

/// Bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) file: PathBuf,
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Section {
    /// A whole regular file; none where there is none.
    pub(super) fn of_file(file: &Path) -> Option<Self> {
        let facts = std::fs::symlink_metadata(file).ok()?;
        facts.is_file().then(|| Self {
            file: file.to_owned(),
            start: 0,
            length: facts.len(),
        })
    }

    /// Opens it at its first byte; reading ends behind its last.
    pub(super) fn open(&self) -> Result<BufReader<io::Take<File>>, PathError> {
        let mut file = File::open(&self.file).at("open", &self.file)?;
        file.seek(SeekFrom::Start(self.start))
            .at("read", &self.file)?;
        Ok(BufReader::with_capacity(PIECE, file.take(self.length)))
    }

    /// All of it.
    pub(super) fn read(&self) -> Result<Vec<u8>, PathError> {
        let mut bytes = Vec::new();
        self.open()?
            .read_to_end(&mut bytes)
            .at("read", &self.file)?;
        Ok(bytes)
    }

    /// Its sha256.
    pub(super) fn digest(&self) -> Result<Digest, PathError> {
        let mut hashing = Hashing::new(self.open()?);
        io::copy(&mut hashing, &mut io::sink()).at("read", &self.file)?;
        Ok(hashing.finish().0)
    }
}

/// What is at a name of an archive.
#[derive(Debug)]
enum Member {
    Bytes { start: u64, length: u64 },
    Link(String),
}

/// An archive, with the places of its members.
#[derive(Debug)]
pub(super) struct Archive {
    file: PathBuf,
    members: BTreeMap<String, Member>,
}

impl Archive {
    /// Looks through an archive; a packed one is unpacked into the file `unpacked` first. The error is
    /// what is wrong with it.
    pub(super) fn open(file: &Path, unpacked: &Path) -> Result<Self, TarError> {
        let open = File::open(file).at("open", file)?;
        let mut packed = BufReader::with_capacity(PIECE, open);
        let kind = Kind::of_magic(packed.fill_buf().at("read", file)?);
        if kind == Kind::Plain {
            return Self::index(file);
        }
        let unpacking = kind.reader(packed)?;
        let mut bounded = Bounded::new(unpacking, MAX_FILE_BYTES);
        let mut out = File::create_new(unpacked).at("create", unpacked)?;
        io::copy(&mut bounded, &mut out)?;
        Self::index(unpacked)
    }

    fn index(file: &Path) -> Result<Self, TarError> {
        let open = File::open(file).at("open", file)?;
        let mut members = BTreeMap::new();
        let mut budget = Budget::new(0, MOST_MEMBERS);
        tar_reader::each_in_place(open, &mut budget, &mut |entry| {
            let name = entry.path()?;
            let member = match entry.kind {
                EntryType::Regular | EntryType::Continuous => Member::Bytes {
                    start: entry.start,
                    length: entry.size,
                },
                EntryType::Link => Member::Link(entry.linked()?),
                EntryType::Symlink => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    Member::Link(joined(folder, entry.target()?).ok_or("leads out of it")?)
                }
                EntryType::Directory => return Ok(()),
                _ => return Err("is of a kind that no image's archive has".into()),
            };
            // Of two members of one name readers would differ in which counts.
            if members.insert(name, member).is_some() {
                return Err("is there twice".into());
            }
            Ok(())
        })?;
        Ok(Self {
            file: file.to_owned(),
            members,
        })
    }

    /// Where the member of that name is; links are followed.
    pub(super) fn section(&self, name: &str) -> Option<Section> {
        let mut name = normal(name.as_bytes()).ok()?;
        for _ in 0..MOST_LINKS {
            match self.members.get(&name)? {
                Member::Bytes { start, length } => {
                    return Some(Section {
                        file: self.file.clone(),
                        start: *start,
                        length: *length,
                    });
                }
                Member::Link(to) => name.clone_from(to),
            }
        }
        None
    }
}

/// Where a link in a folder leads; none when that is outside.
fn joined(folder: &str, link: &str) -> Option<String> {
    if link.starts_with('/') || link.is_empty() {
        return None;
    }
    let mut at: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
    for name in link.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(at.pop()?),
            name => at.push(name),
        }
    }
    Some(format!("/{}", at.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, name, link, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(bytes.len().try_into().expect("a length"));
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(name.as_bytes());
            old.linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).expect("written");
        }
        tar.into_inner().expect("written")
    }

    fn opened(bytes: &[u8]) -> (Result<Archive, TarError>, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("image.tar");
        std::fs::write(&file, bytes).expect("written");
        let archive = Archive::open(&file, &folder.path().join("unpacked"));
        (archive, folder)
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn members_are_found_packed_or_not_and_through_links() {
        let plain = archive(&[
            (FILE, "manifest.json", "", b"[]"),
            (FILE, "./aa/layer.tar", "", b"layer"),
            (EntryType::Symlink, "bb/layer.tar", "../aa/layer.tar", b""),
            (EntryType::Link, "cc", "bb/layer.tar", b""),
            (EntryType::Symlink, "ring", "ring", b""),
        ]);
        let packed = zstd::stream::encode_all(&plain[..], 1).expect("packed");
        for bytes in [plain, packed] {
            let (archive, _folder) = opened(&bytes);
            let archive = archive.expect("an archive");
            for name in ["aa/layer.tar", "bb/layer.tar", "cc"] {
                let section = archive.section(name).expect(name);
                assert_eq!(section.read().expect("read"), b"layer", "{name}");
            }
            for name in ["ring", "dd", "../manifest.json", "/manifest.json"] {
                assert_eq!(archive.section(name), None, "{name}");
            }
        }
    }

    #[test]
    fn members_that_lead_out_or_come_twice_are_refused() {
        for (members, reason) in [
            (&[(FILE, "../x", "", b"".as_slice())][..], "leads out"),
            (&[(FILE, "/etc/x", "", b"")], "absolute"),
            (
                &[(EntryType::Symlink, "a", "../../etc/shadow", b"")],
                "leads out",
            ),
            (
                &[(EntryType::Symlink, "a", "/etc/shadow", b"")],
                "leads out",
            ),
            (&[(EntryType::Link, "a", "/etc/shadow", b"")], "absolute"),
            (&[(FILE, "a", "", b"1"), (FILE, "./a", "", b"2")], "twice"),
            (&[(EntryType::Char, "a", "", b"")], "no image's archive"),
        ] {
            let (archive, _folder) = opened(&archive(members));
            match archive {
                Err(TarError::Entry { reason: text, .. }) => {
                    assert!(text.contains(reason), "{text}");
                }
                other => panic!("{reason}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_archive_is_an_error() {
        let good = archive(&[(FILE, "a", "", &[7; 5000])]);
        let packed = zstd::stream::encode_all(&good[..], 1).expect("packed");
        for bytes in [
            &b"no tar at all"[..],
            &good[..1000],
            &packed[..packed.len() - 5],
        ] {
            let (archive, _folder) = opened(bytes);
            // What is cut off in a member's bytes is found when they are read.
            if let Ok(archive) = archive {
                let section = archive.section("a").expect("a member");
                let read = section.read().expect("read");
                assert!(read.len() < 5000);
            }
        }
    }
}
