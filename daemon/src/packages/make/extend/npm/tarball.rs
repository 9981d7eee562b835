//! A package file of a JavaScript registry: a gzipped tar, unpacked into numbered files.
//!
//! Invariants: those of `tar_reader`; names are there once as a file; entries are files or directories;
//! all packages together are bounded in length and number; no name is ever a path of the host. Whatever is not like this is an error that names the file. Nothing of it is run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::super::super::super::files::AtPath as _;
use super::super::super::plan::Plan;
use super::super::super::tar_reader::{self, Budget, Entry, Refused};
use super::super::super::work::Spool;
use super::super::ExtendError;

/// Bytes that all packages together unpack to.
const MAX_UNPACKED_BYTES: u64 = 4 << 30;
/// Entries of all packages together.
const MAX_ENTRIES: usize = 2_000_000;
/// The time of everything, as packers of the registry write it: 26 October 1985.
const TIME: u32 = 499_162_500;

/// Where packages are unpacked.
pub(super) struct Layout<'a> {
    /// What goes into the image.
    plan: &'a mut Plan,
    /// Where contents go.
    spool: Spool,
    budget: Budget,
}

impl<'a> Layout<'a> {
    /// Nothing is there yet.
    pub(super) fn new(plan: &'a mut Plan, spool: Spool) -> Self {
        Self {
            plan,
            spool,
            budget: Budget::new(MAX_UNPACKED_BYTES, MAX_ENTRIES),
        }
    }

    /// Unpacks `path` into the folder `to`; `file` is what messages call it.
    pub(super) fn unpack(&mut self, path: &Path, file: &str, to: &str) -> Result<(), ExtendError> {
        let open = BufReader::new(File::open(path).at("open", path)?);
        let mut seen = BTreeSet::new();
        let (plan, spool) = (&mut *self.plan, &mut self.spool);
        let read = tar_reader::each(MultiGzDecoder::new(open), &mut self.budget, &mut |entry| {
            plan_entry(entry, to, &mut seen, plan, spool)
        });
        read.map_err(|error| ExtendError::tar(file, error))
    }
}

fn plan_entry(
    mut entry: Entry<'_>,
    to: &str,
    seen: &mut BTreeSet<String>,
    plan: &mut Plan,
    spool: &mut Spool,
) -> Result<(), Refused> {
    let path = entry.path()?;
    match entry.kind {
        EntryType::Directory => return Ok(()),
        EntryType::Regular | EntryType::Continuous => {}
        _ => return Err("is a link, a device or a pipe".into()),
    }
    // Everything is in one folder, mostly `package`, whose name says nothing.
    let inside = path.match_indices('/').nth(1).map(|(at, _)| &path[at..]);
    let inside = inside.ok_or("lies beside the folder of the package")?;
    let path = format!("{to}{inside}");
    if !seen.insert(path.clone()) {
        return Err("is there twice".into());
    }
    if plan.lies_in_file(&path) || plan.contains(&path) {
        return Err("would lie in a file, or be one and a directory".into());
    }
    let kept = entry.keep(spool)?;
    plan.host_file(&path, kept, entry.executable, TIME);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tar::{Builder, Header};

    use super::*;

    const FILE: &str = "odd-1.0.0.tgz";
    /// Bytes that a package may unpack to here.
    const LEFT: u64 = 1 << 20;

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
        let mut layout = Layout::new(&mut plan, Spool::new(spool));
        layout.budget = Budget::new(LEFT, 100);
        let done = layout.unpack(&path, FILE, "/node_modules/odd");
        done.map(|()| plan).map_err(|error| error.to_string())
    }

    #[test]
    fn a_package_is_unpacked_below_its_folder() {
        let long = format!("package/{}x.js", "deep/".repeat(40));
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
            (EntryType::Regular, "package/../../x", "leads out"),
            (EntryType::Regular, "/etc/passwd", "absolute"),
            (EntryType::Regular, "x.js", "beside"),
            (EntryType::Regular, "./", "beside"),
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

    #[test]
    fn a_bomb_is_given_up_where_the_bound_is() {
        let zeros = vec![0; 2 << 20];
        for (fill, reason) in [
            (EntryType::Regular, "more than 1 MiB"),
            (EntryType::XGlobalHeader, "more than 1 MiB"),
            (EntryType::XHeader, "header of over 1 MiB"),
            (EntryType::GNULongName, "header of over 1 MiB"),
        ] {
            let bytes = packed(|tar| entry(tar, fill, "package/a", &zeros));
            assert!(bytes.len() < 32 << 10, "it is a bomb");
            let error = unpacked(&bytes).expect_err("too much");
            assert!(error.contains(FILE) && error.contains(reason), "{error}");
        }
        let many = packed(|tar| {
            for number in 0..101 {
                entry(tar, EntryType::Regular, &format!("package/{number}"), b"");
            }
        });
        let error = unpacked(&many).expect_err("too many");
        assert!(error.contains("more than 100 entries"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_nothing_is_planned_elsewhere(
            mut bytes in vec(any::<u8>(), 0..2000),
            name in "[a-c./\\\\é-]{1,40}",
            damage in 0..2000usize,
        ) {
            drop(unpacked(&bytes));
            let packed = packed(|tar| entry(tar, EntryType::Regular, &name, b"1"));
            if let Ok(plan) = unpacked(&packed) {
                let inside = |path: &str| "/node_modules/odd".starts_with(path)
                    || path.starts_with("/node_modules/odd/");
                prop_assert!(plan.items().all(|(path, _)| inside(path)));
            }
            // The same with a byte of it changed.
            bytes = packed;
            let at = damage % bytes.len();
            bytes[at] ^= 0x5a;
            drop(unpacked(&bytes));
        }
    }
}
