//! A package file of a JavaScript registry: a gzipped tar, unpacked into numbered files.
//!
//! Invariants: names are relative, plain, UTF-8 and there once as a file; entries are files or
//! directories; all packages together are bounded in length and number; no name is ever a path of
//! the host. Whatever is not like this is an error that names the file. Nothing of it is run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::{EntryType, PaxExtensions};

use super::super::super::super::files::AtPath as _;
use super::super::super::plan::Plan;
use super::super::super::work::Spool;
use super::super::ExtendError;
use super::super::entry::check_name;

/// Longest header that is read into memory.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// Bytes that all packages together unpack to.
const MAX_UNPACKED_BYTES: u64 = 8 << 30;
/// Entries of all packages together.
const MAX_ENTRIES: u64 = 2_000_000;
/// The time of everything, as packers of the registry write it: 26 October 1985.
const TIME: u32 = 499_162_500;

/// Where packages are unpacked.
pub(super) struct Layout<'a> {
    /// What goes into the image.
    pub(super) plan: &'a mut Plan,
    /// Where contents go.
    pub(super) spool: Spool,
    entries: u64,
    bytes: u64,
}

impl<'a> Layout<'a> {
    /// Nothing is there yet.
    pub(super) fn new(plan: &'a mut Plan, spool: Spool) -> Self {
        Self {
            plan,
            spool,
            entries: 0,
            bytes: 0,
        }
    }

    /// Unpacks `path` into the folder `to`; `file` is what messages call it.
    pub(super) fn unpack(&mut self, path: &Path, file: &str, to: &str) -> Result<(), ExtendError> {
        let open = BufReader::new(File::open(path).at("open", path)?);
        let left = MAX_UNPACKED_BYTES - self.bytes;
        let mut archive = tar::Archive::new(MultiGzDecoder::new(open).take(left));
        let damaged = |error: io::Error| damaged(file, &error);
        let mut seen = BTreeSet::new();
        let mut long = None;
        // `raw`: the crate would read headers of any length into memory.
        for entry in archive.entries().map_err(damaged)?.raw(true) {
            let mut entry = entry.map_err(damaged)?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ExtendError::TooMuch {
                    what: format!("with {file} the libraries have more files"),
                    most: MAX_ENTRIES.to_string(),
                });
            }
            match entry.header().entry_type() {
                EntryType::XHeader => long = long_name(&header(&mut entry, file)?, file)?.or(long),
                EntryType::GNULongName => {
                    let mut bytes = header(&mut entry, file)?;
                    bytes.truncate(
                        bytes
                            .iter()
                            .position(|byte| *byte == 0)
                            .unwrap_or(bytes.len()),
                    );
                    long = Some(bytes);
                }
                EntryType::XGlobalHeader | EntryType::GNULongLink => {}
                kind => {
                    let name = long
                        .take()
                        .unwrap_or_else(|| entry.path_bytes().into_owned());
                    self.entry(kind, &name, &mut entry, (file, to), &mut seen)?;
                }
            }
        }
        // A cut or damaged tail is found here.
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
        if rest.limit() == 0 {
            return Err(ExtendError::TooMuch {
                what: format!("with {file} the libraries unpack to more"),
                most: "8 GiB".to_owned(),
            });
        }
        self.bytes = MAX_UNPACKED_BYTES - rest.limit();
        Ok(())
    }

    fn entry(
        &mut self,
        kind: EntryType,
        name: &[u8],
        entry: &mut tar::Entry<'_, impl Read>,
        (file, to): (&str, &str),
        seen: &mut BTreeSet<String>,
    ) -> Result<(), ExtendError> {
        let shown: String = String::from_utf8_lossy(name).chars().take(120).collect();
        let wrong = |reason: &str| {
            Err(ExtendError::file(
                file,
                format!("its entry `{shown}` {reason}"),
            ))
        };
        let Ok(name) = std::str::from_utf8(name) else {
            return wrong("has a name that is not UTF-8");
        };
        let name = name.strip_prefix("./").unwrap_or(name);
        if matches!(name, "" | ".") {
            return Ok(());
        }
        if let Err(reason) = check_name(name) {
            return wrong(reason);
        }
        match kind {
            EntryType::Directory => return Ok(()),
            EntryType::Regular | EntryType::Continuous => {}
            _ => return wrong("is a link, a device or a pipe"),
        }
        // Everything is in one folder, mostly `package`, whose name says nothing.
        let Some((_, inside)) = name.split_once('/') else {
            return wrong("lies beside the folder of the package");
        };
        let path = format!("{to}/{inside}");
        if !seen.insert(path.clone()) {
            return wrong("is there twice");
        }
        if self.plan.lies_in_file(&path) || self.plan.contains(&path) {
            return wrong("would lie in a file, or be one and a directory");
        }
        let mode = entry
            .header()
            .mode()
            .map_err(|error| damaged(file, &error))?;
        let kept = self
            .spool
            .keep(entry)
            .map_err(|error| damaged(file, &error))?;
        self.plan.host_file(&path, kept, mode & 0o111 != 0, TIME);
        Ok(())
    }
}

/// The name in an extended header.
fn long_name(header: &[u8], file: &str) -> Result<Option<Vec<u8>>, ExtendError> {
    let mut found = None;
    for extension in PaxExtensions::new(header) {
        let extension = extension.map_err(|error| damaged(file, &error))?;
        match extension.key_bytes() {
            b"path" => found = Some(extension.value_bytes().to_owned()),
            // Whoever believes it and whoever does not would see different files.
            b"size" => {
                return Err(ExtendError::file(
                    file,
                    "it says the size of an entry in two places",
                ));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn header(entry: &mut tar::Entry<'_, impl Read>, file: &str) -> Result<Vec<u8>, ExtendError> {
    if entry.size() > MAX_HEADER_BYTES {
        return Err(ExtendError::file(file, "it has a header of over 1 MiB"));
    }
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(file, &error))?;
    Ok(bytes)
}

fn damaged(file: &str, error: &io::Error) -> ExtendError {
    ExtendError::file(
        file,
        format!("it can't be read: {}", crate::error::chain(error)),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tar::{Builder, Header};

    use super::*;

    const FILE: &str = "odd-1.0.0.tgz";

    fn entry(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, bytes: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(u64::try_from(bytes.len()).expect("a length"));
        // As attackers write it: the crate's own way refuses `..`.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, bytes).expect("appended");
    }

    fn packed(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        fill(&mut builder);
        let tar = builder.into_inner().expect("a tar");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).expect("written");
        gzip.finish().expect("a gzip")
    }

    fn unpacked(bytes: &[u8]) -> Result<Plan, String> {
        let folder = tempfile::tempdir().expect("a directory");
        let (path, spool) = (folder.path().join("tgz"), folder.path().join("spool"));
        std::fs::write(&path, bytes).expect("written");
        std::fs::create_dir(&spool).expect("a directory");
        let mut plan = Plan::default();
        let done =
            Layout::new(&mut plan, Spool::new(spool)).unpack(&path, FILE, "/node_modules/odd");
        done.map(|()| plan).map_err(|error| error.to_string())
    }

    #[test]
    fn a_package_is_unpacked_below_its_folder() {
        let long = format!("package/{}/x.js", "deep/".repeat(40));
        let bytes = packed(|tar| {
            let record = format!("path={long}\n");
            let length = record.len() + 4;
            entry(tar, EntryType::XGlobalHeader, "pax_global_header", b"");
            entry(tar, EntryType::Directory, "package/", b"");
            entry(tar, EntryType::Regular, "package/index.js", b"1");
            entry(
                tar,
                EntryType::XHeader,
                "x",
                format!("{length} {record}").as_bytes(),
            );
            entry(tar, EntryType::Regular, "package/short.js", b"2");
        });
        let plan = unpacked(&bytes).expect("a good package");
        assert!(plan.contains("/node_modules/odd/index.js"));
        assert!(plan.contains(&format!("/node_modules/odd/{}", &long["package/".len()..])));
        assert!(!plan.contains("/node_modules/odd/short.js"));
    }

    #[test]
    fn what_would_leave_its_place_is_refused_by_name() {
        for (kind, name, reason) in [
            (EntryType::Regular, "package/../../x", ".."),
            (EntryType::Regular, "/etc/passwd", "absolute"),
            (EntryType::Regular, "x.js", "beside"),
            (EntryType::Symlink, "package/link", "link"),
            (EntryType::Link, "package/hard", "link"),
            (EntryType::Char, "package/null", "device"),
            (EntryType::Regular, "package/a/b", "in a file"),
            (EntryType::Regular, "package/a", "twice"),
        ] {
            let bytes = packed(|tar| {
                entry(tar, EntryType::Regular, "package/a", b"1");
                entry(tar, kind, name, b"");
            });
            let error = unpacked(&bytes).expect_err(name);
            assert!(
                error.contains(FILE) && error.contains(name) && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_cut_off_or_lies_about_itself_is_refused() {
        let good = packed(|tar| entry(tar, EntryType::Regular, "package/a", &[7; 5000]));
        for bytes in [&good[..good.len() / 2], b"no gzip", b""] {
            let error = unpacked(bytes).expect_err("cut off");
            assert!(error.contains(FILE), "{error}");
        }
        let two_sizes = packed(|tar| {
            entry(tar, EntryType::XHeader, "x", b"9 size=5\n");
            entry(tar, EntryType::Regular, "package/a", b"1");
        });
        let error = unpacked(&two_sizes).expect_err("two sizes");
        assert!(error.contains("two places"), "{error}");
    }
}
