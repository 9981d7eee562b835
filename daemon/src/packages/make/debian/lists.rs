//! Apt's lists of packages as this machine has them: found, checked, read into memory.
//!
//! Invariant: a list is the one that its release names (sha256); that the release is signed apt
//! has checked when it downloaded it, and only root writes where it keeps the two. Nothing is
//! downloaded here.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::super::super::fetch::Location;
use super::super::super::files::{self, AtPath as _, Hashing};
use super::super::compressed;
use super::control::{Stanza, stanzas};
use super::error::DebianError;
use super::sources::{self, Source};

/// Longest release that is read; Debian's has 150 KiB.
const MAX_RELEASE_BYTES: u64 = 16 << 20;
/// Longest list, unpacked; Debian's has 60 MiB.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// Where apt keeps its configuration and its lists.
#[derive(Debug, Clone)]
pub(super) struct Apt {
    /// Usually `/etc/apt`.
    pub(super) configuration: PathBuf,
    /// Usually `/var/lib/apt/lists`.
    pub(super) lists: PathBuf,
}

/// The distribution that lists are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    /// Its name, e.g. `Debian`.
    pub(super) origin: String,
    /// Its version, e.g. `12.11`; one that rolls has none.
    pub(super) version: Option<String>,
    /// Its code name, e.g. `bookworm`.
    pub(super) codename: String,
    /// The day it was made, e.g. 20250911.
    pub(super) day: u64,
    /// Whether its packages are only taken when they are asked for (backports).
    pub(super) aside: bool,
}

/// One list of packages.
#[derive(Debug)]
pub(super) struct List {
    /// Its text.
    pub(super) text: String,
    /// Where its archive is; packages are named from there.
    pub(super) archive: Location,
    /// What it is of.
    pub(super) release: Release,
}

impl Default for Apt {
    fn default() -> Self {
        Self {
            configuration: PathBuf::from("/etc/apt"),
            lists: PathBuf::from("/var/lib/apt/lists"),
        }
    }
}

impl Apt {
    /// Reads every list of this machine's architecture, in the order of the sources.
    pub(super) fn read(&self) -> Result<Vec<List>, DebianError> {
        let mut lists = Vec::new();
        for source in sources::read(&self.configuration)? {
            lists.extend(self.lists_of(&source)?);
        }
        lists.retain(|list| !list.release.aside);
        if lists.is_empty() {
            let looked = format!(
                "{} for the sources in {}",
                self.lists.display(),
                self.configuration.display()
            );
            return Err(DebianError::NoLists { looked });
        }
        Ok(lists)
    }

    fn lists_of(&self, source: &Source) -> Result<Vec<List>, DebianError> {
        let stem = source.file_stem();
        let place = |end: &str| self.lists.join(format!("{stem}_{end}"));
        let release = ["InRelease", "Release"].map(place);
        let Some(release) = release.into_iter().find(|file| file.is_file()) else {
            return Ok(Vec::new());
        };
        let bytes = files::read_bounded(&release, MAX_RELEASE_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let stanza = stanzas(signed_text(&text)).next();
        let stanza = stanza.ok_or_else(|| damaged(&release, &"it is empty"))?;
        let archive = archive_of(source)?;
        let mut lists = Vec::new();
        for component in &source.components {
            let name = format!("{component}/binary-{}/Packages", architecture());
            let Some((file, kind)) = compressed::find(&place(&name.replace('/', "_"))) else {
                continue;
            };
            let (text, sha256) = read(&file, kind)?;
            if listed(stanza, &name).is_some_and(|listed| listed != sha256) {
                return Err(DebianError::Altered {
                    list: file,
                    release,
                });
            }
            lists.push(List {
                text,
                archive: archive.clone(),
                release: Release::of(stanza),
            });
        }
        Ok(lists)
    }
}

impl Release {
    fn of(stanza: Stanza<'_>) -> Self {
        let field = |name| stanza.field(name).unwrap_or_default().to_owned();
        Self {
            origin: field("Origin"),
            version: stanza.field("Version").map(ToOwned::to_owned),
            codename: field("Codename"),
            day: day(stanza.field("Date").unwrap_or_default()).unwrap_or(0),
            aside: stanza.field("NotAutomatic") == Some("yes"),
        }
    }
}

/// What Debian calls this machine's architecture.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "powerpc64" => "ppc64el",
        "arm" => "armhf",
        other => other,
    }
}

fn archive_of(source: &Source) -> Result<Location, DebianError> {
    let uri = source.uri.replacen("file:/", "file:///", 1);
    let uri = uri.replacen("file://///", "file:///", 1);
    // A file in the archive: what is named from there is looked for beside it.
    Location::of_index(&format!("{uri}Packages")).map_err(|error| DebianError::Damaged {
        what: format!("apt's source {}", source.uri),
        reason: error.to_string(),
    })
}

/// The text inside a clear signature; a release with a signature of its own is its text.
fn signed_text(text: &str) -> &str {
    const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
    let Some(rest) = text.strip_prefix(BEGIN) else {
        return text;
    };
    let body = rest.split_once("\n\n").map_or("", |(_, body)| body);
    body.split("\n-----BEGIN PGP SIGNATURE-----")
        .next()
        .unwrap_or_default()
}

/// The sha256 of a file, by its release.
fn listed<'a>(release: Stanza<'a>, name: &str) -> Option<&'a str> {
    release.rows("SHA256").find_map(|row| {
        let mut words = row.split_whitespace();
        let (sha256, _size, file) = (words.next()?, words.next()?, words.next()?);
        (file == name).then_some(sha256)
    })
}

fn read(file: &Path, kind: compressed::Kind) -> Result<(String, String), DebianError> {
    let open = std::fs::File::open(file).at("open", file)?;
    let mut hashing = Hashing::new(kind.reader(open).map_err(|error| damaged(file, &error))?);
    let mut bytes = Vec::new();
    (&mut hashing)
        .take(MAX_LIST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(file, &error))?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > MAX_LIST_BYTES) {
        return Err(damaged(file, &"it is too long"));
    }
    let text = String::from_utf8(bytes).map_err(|_| damaged(file, &"it is not UTF-8"))?;
    Ok((text, hashing.finish().0.to_string()))
}

/// The day of a date as releases have it (`Sat, 11 Jul 2026 10:16:37 UTC`), as 20260711.
fn day(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = date.split_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS
        .iter()
        .zip(1_u64..)
        .find(|(name, _)| **name == month)?
        .1;
    let year: u64 = words.next()?.parse().ok()?;
    ((1..=31).contains(&day) && (1990..10_000).contains(&year))
        .then_some(year * 10_000 + month * 100 + day)
}

fn damaged(file: &Path, reason: &dyn std::fmt::Display) -> DebianError {
    DebianError::Damaged {
        what: file.display().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A machine with one source whose list is `text`, packed as `end` says.
    fn machine(text: &str, end: &str, sha256: &str) -> (tempfile::TempDir, Apt) {
        let root = tempfile::tempdir().expect("a directory");
        let apt = Apt {
            configuration: root.path().join("etc"),
            lists: root.path().join("lists"),
        };
        std::fs::create_dir_all(&apt.configuration).expect("a directory");
        std::fs::create_dir_all(&apt.lists).expect("a directory");
        let source = "deb http://m.org/debian bookworm main contrib\n";
        std::fs::write(apt.configuration.join("sources.list"), source).expect("written");
        let name = format!("main/binary-{}/Packages", architecture());
        let release = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Debian\nVersion: 12.11\n\
             Codename: bookworm\nDate: Sat, 06 Sep 2025 09:00:00 UTC\nSHA256:\n {sha256} 1 {name}\n\
             -----BEGIN PGP SIGNATURE-----\n\nxx\n-----END PGP SIGNATURE-----\n"
        );
        let place = |end: &str| apt.lists.join(format!("m.org_debian_dists_bookworm_{end}"));
        std::fs::write(place("InRelease"), release).expect("written");
        let list = place(&format!("{}{end}", name.replace('/', "_")));
        let mut file = std::fs::File::create(list).expect("created");
        match end {
            ".gz" => {
                let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
                gzip.write_all(text.as_bytes()).expect("written");
                gzip.finish().expect("written");
            }
            ".lz4" => {
                let mut lz4 = lz4_flex::frame::FrameEncoder::new(file);
                lz4.write_all(text.as_bytes()).expect("written");
                lz4.finish().expect("written");
            }
            _ => file.write_all(text.as_bytes()).expect("written"),
        }
        (root, apt)
    }

    const TEXT: &str = "Package: lua\nVersion: 1\n";

    #[test]
    fn a_list_is_read_however_apt_packed_it() {
        let sha256 = hex::encode(Sha256::digest(TEXT));
        for end in ["", ".gz", ".lz4"] {
            let (_root, apt) = machine(TEXT, end, &sha256);
            let lists = apt.read().expect(end);
            assert_eq!(lists.len(), 1, "contrib has no list");
            assert_eq!(lists[0].text, TEXT);
            let expected = Release {
                origin: "Debian".to_owned(),
                version: Some("12.11".to_owned()),
                codename: "bookworm".to_owned(),
                day: 20_250_906,
                aside: false,
            };
            assert_eq!(lists[0].release, expected);
            let deb = lists[0]
                .archive
                .join("pool/main/l/lua.deb")
                .expect("joined");
            assert_eq!(deb.to_string(), "http://m.org/debian/pool/main/l/lua.deb");
        }
    }

    #[test]
    fn a_list_that_is_not_its_releases_is_refused() {
        let (_root, apt) = machine(TEXT, ".gz", &hex::encode(Sha256::digest("another")));
        let text = apt.read().expect_err("another list").to_string();
        assert!(
            text.contains("Packages.gz") && text.contains("InRelease"),
            "{text}"
        );
    }

    #[test]
    fn a_machine_without_lists_is_told_to_get_them() {
        let (_root, apt) = machine(TEXT, "", "");
        std::fs::remove_dir_all(&apt.lists).expect("removed");
        let text = apt.read().expect_err("no lists").to_string();
        assert!(text.contains("apt-get update"), "{text}");
    }

    #[test]
    fn a_date_is_a_day() {
        assert_eq!(day("Sat, 11 Jul 2026 10:16:37 UTC"), Some(20_260_711));
        for bad in [
            "",
            "Sat, 11 Foo 2026",
            "Sat, 32 Jul 2026",
            "Sat, 1 Jul 20260711",
        ] {
            assert_eq!(day(bad), None, "{bad}");
        }
    }
}
