//! A folder of somebody's files, as a tar: laid out where its owner wants it in the view.
//!
//! Invariants: symlinks lead nowhere but to what is in the folder; nothing hides a directory of the
//! package below, nor lies where a sandbox has something of its own. Whether a file can be executed
//! is kept; everybody can read it, because programs run as nobody in particular. Pipes, devices and
//! sockets are refused.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use piston_fs::tree::ViewTree;
use tar::EntryType;

use super::super::super::files::AtPath as _;
use super::super::compressed;
use super::super::plan::{Item, Plan};
use super::super::tar_reader::{self, Budget, Entry, Refused};
use super::super::work::{Spool, Work};
use super::entry::check_name;
use super::{Added, ExtendError};

/// Bytes and entries of a folder.
const MAX_BYTES: u64 = 16 << 30;
const MAX_ENTRIES: usize = 2_000_000;
/// What messages call the archive.
const SHOWN: &str = "the archive of the files";
/// What a sandbox has of its own, or puts something over.
const TAKEN: [&str; 6] = [
    "/dev",
    "/proc",
    "/sys",
    "/tmp",
    "/piston/job",
    "/etc/resolv.conf",
];

/// A folder, and where it goes.
#[derive(Debug, Clone)]
pub struct Folder {
    /// A tar of what is in it, packed or not.
    pub archive: PathBuf,
    /// The directory in the view; the extension's own where none is named.
    pub at: Option<String>,
}

/// Plans the files of a folder; `home` is the extension's own directory.
pub(super) fn add(
    folder: &Folder,
    home: &str,
    tree: &ViewTree,
    plan: &mut Plan,
    work: &Work,
) -> Result<Added, ExtendError> {
    let at = folder.at.as_deref().unwrap_or(home);
    let at = directory(at).map_err(|reason| ExtendError::requirement(at, reason))?;
    let path = &folder.archive;
    let open = BufReader::new(File::open(path).at("open", path)?);
    let tar = compressed::unpacking(open).at("read", path)?;
    let mut layout = Layout {
        at: &at,
        tree,
        plan,
        spool: Spool::new(work.folder("files")?),
        files: 0,
    };
    let mut budget = Budget::new(MAX_BYTES, MAX_ENTRIES);
    let read = tar_reader::each(tar, &mut budget, &mut |entry| layout.entry(entry));
    read.map_err(|error| ExtendError::tar(SHOWN, error))?;
    let told = match layout.files {
        0 => return Err(ExtendError::file(SHOWN, "there is no file in it")),
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    };
    let shown = if at.is_empty() { "/" } else { &at };
    Ok(Added {
        libraries: Vec::new(),
        notes: vec![format!("added {told} to {shown}")],
    })
}

/// A directory of the view by its path, without a slash at the end; empty for the root.
fn directory(path: &str) -> Result<String, &'static str> {
    let names = path
        .strip_prefix('/')
        .ok_or("it is no absolute path in the package")?;
    let names = names.trim_end_matches('/');
    if names.is_empty() {
        return Ok(String::new());
    }
    check_name(names).map_err(|_| "it has `..`, `.`, nothing or an overlong name in it")?;
    Ok(format!("/{names}"))
}

struct Layout<'a> {
    at: &'a str,
    tree: &'a ViewTree,
    plan: &'a mut Plan,
    spool: Spool,
    files: usize,
}

impl Layout<'_> {
    fn entry(&mut self, mut entry: Entry<'_>) -> Result<(), Refused> {
        let name = entry.path()?;
        match entry.kind {
            EntryType::Directory => return self.directory(&name),
            _ if name.is_empty() => return Err("has no name".into()),
            _ => {}
        }
        let path = self.place(&name)?;
        if self.tree.has_directory(&path) {
            return Err("would hide a directory of the package".into());
        }
        if self.plan.lies_in_file(&path) || self.plan.contains(&path) {
            return Err("is there twice, or would lie in a file".into());
        }
        match entry.kind {
            EntryType::Regular | EntryType::Continuous => {
                let kept = entry.keep(&mut self.spool)?;
                let (executable, mtime) = (entry.executable, entry.mtime);
                self.plan.host_file(&path, kept, executable, mtime);
            }
            EntryType::Symlink => {
                let target = entry.target()?;
                if !stays(&name, target) {
                    return Err("is a symlink that leads out of the folder".into());
                }
                self.plan.symlink(&path, target);
            }
            EntryType::Link => {
                let first = entry.linked();
                let first = first.map_err(|_| "is a link that leads out of the folder")?;
                let first = self.plan.item(&self.place(&first)?).cloned();
                let Some(item @ Item::File { .. }) = first else {
                    return Err("is a link to a file that is not before it".into());
                };
                self.plan.add(&path, item);
            }
            _ => return Err("is neither file nor directory nor symlink".into()),
        }
        self.files += 1;
        Ok(())
    }

    /// One that nothing may be in.
    fn directory(&mut self, name: &str) -> Result<(), Refused> {
        if name.is_empty() {
            return Ok(());
        }
        let inside = self.place(&format!("{name}/_"))?;
        if self.plan.lies_in_file(&inside) {
            return Err("would lie in a file".into());
        }
        if let Some((path, _)) = inside.rsplit_once('/').filter(|(path, _)| !path.is_empty()) {
            self.plan.directory(path);
        }
        Ok(())
    }

    /// Where an entry of the folder lies in the view.
    fn place(&self, name: &str) -> Result<String, Refused> {
        let place = self.tree.place(&format!("{}{name}", self.at));
        let place = place.ok_or("would lie in a file of the package")?;
        let inside = |taken: &str| {
            let rest = place.strip_prefix(taken);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if TAKEN.iter().any(|taken| inside(taken)) {
            return Err("would lie where a sandbox has something of its own".into());
        }
        Ok(place)
    }
}

/// Whether a symlink at this path leads to something in its folder, as it is written.
fn stays(path: &str, target: &str) -> bool {
    let mut depth = path.matches('/').skip(1).count();
    let mut names = target.split('/').filter(|part| !matches!(*part, "" | "."));
    !target.is_empty()
        && !target.starts_with('/')
        && names.all(|part| {
            if part != ".." {
                depth += 1;
                return true;
            }
            depth = depth.checked_sub(1).unwrap_or(usize::MAX);
            depth != usize::MAX
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use piston_fs::layer::memory::MemoryTree;
    use piston_fs::layer::{Layer, Placed};
    use tar::{Builder, Header};

    use super::*;

    /// What the archive of a test is made of: kind, name, target, mode.
    type Row<'a> = (EntryType, &'a str, &'a str, u32);

    const FILE: EntryType = EntryType::Regular;

    fn below() -> ViewTree {
        let mut tree = MemoryTree::default();
        tree.file("/usr/lib/libc.so", 0o755, Vec::new());
        tree.symlink("/lib", "usr/lib");
        tree.symlink("/usr/temporary", "/tmp");
        let layer = Layer::Memory(Arc::new(tree));
        let at = "/".to_owned();
        ViewTree::merge(&[Placed { layer, at }]).expect("a tree")
    }

    fn added(rows: &[Row<'_>], at: Option<&str>) -> Result<Vec<String>, String> {
        let mut builder = Builder::new(Vec::new());
        for (kind, name, target, mode) in rows {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_size(0);
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(name.as_bytes());
            old.linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            builder.append(&header, &[][..]).expect("appended");
        }
        let folder = tempfile::tempdir().expect("a directory");
        let archive = folder.path().join("tar");
        std::fs::write(&archive, builder.into_inner().expect("a tar")).expect("written");
        let at = at.map(ToOwned::to_owned);
        let work = Work::new(folder.path()).expect("a place to work");
        let mut plan = Plan::default();
        let what = Folder { archive, at };
        let done = add(
            &what,
            "/piston/packages/x/1.0.0",
            &below(),
            &mut plan,
            &work,
        );
        done.map_err(|error| error.to_string())?;
        let shown = |(path, item): (&str, &Item)| match item {
            Item::Directory => None,
            Item::Symlink(target) => Some(format!("{path} -> {target}")),
            Item::File { executable, .. } if *executable => Some(format!("{path}*")),
            Item::File { .. } => Some(path.to_owned()),
        };
        Ok(plan.items().filter_map(shown).collect())
    }

    #[test]
    fn files_go_to_the_extension_s_own_directory_or_where_they_are_wanted() {
        let rows = [
            (EntryType::Directory, "./", "", 0o755),
            (FILE, "./data.csv", "", 0o600),
            (FILE, "bin/tool", "", 0o700),
            (EntryType::Symlink, "bin/t", "../bin/./tool", 0o777),
            (EntryType::Link, "bin/again", "bin/tool", 0o755),
        ];
        let home = "/piston/packages/x/1.0.0";
        let expected = [
            "bin/again*",
            "bin/t -> ../bin/./tool",
            "bin/tool*",
            "data.csv",
        ];
        let found = added(&rows, None).expect("good files");
        assert_eq!(found, expected.map(|name| format!("{home}/{name}")));
        let found = added(&rows, Some("/opt/data/")).expect("good files");
        assert_eq!(found, expected.map(|name| format!("/opt/data/{name}")));
    }

    #[test]
    fn directories_that_the_package_has_as_symlinks_stay_so() {
        let rows = [
            (EntryType::Directory, "lib", "", 0o755),
            (FILE, "lib/x", "", 0o644),
        ];
        assert_eq!(added(&rows, Some("/")).expect("good files"), ["/usr/lib/x"]);
        let rows = [(FILE, "x", "", 0o644)];
        assert_eq!(
            added(&rows, Some("/lib")).expect("good files"),
            ["/usr/lib/x"]
        );
    }

    #[test]
    fn what_is_special_or_leads_elsewhere_is_refused_by_name() {
        let rows: [(Row<'_>, &str); 14] = [
            ((EntryType::Fifo, "pipe", "", 0o644), "neither"),
            ((EntryType::Char, "null", "", 0o666), "neither"),
            ((EntryType::Block, "disk", "", 0o600), "neither"),
            ((EntryType::GNUSparse, "holes", "", 0o600), "neither"),
            (
                (EntryType::Symlink, "up", "../x", 0o777),
                "out of the folder",
            ),
            (
                (EntryType::Symlink, "a/up", "b/../../../x", 0o777),
                "out of the folder",
            ),
            (
                (EntryType::Symlink, "root", "/etc", 0o777),
                "out of the folder",
            ),
            ((EntryType::Symlink, "none", "", 0o777), "leads nowhere"),
            (
                (EntryType::Link, "hard", "/etc/passwd", 0o644),
                "out of the folder",
            ),
            ((EntryType::Link, "hard", "later", 0o644), "not before it"),
            ((FILE, "../x", "", 0o644), "out of its tree"),
            ((FILE, "/x", "", 0o644), "absolute"),
            ((FILE, "there", "", 0o644), "twice"),
            ((FILE, "there/x", "", 0o644), "in a file"),
        ];
        for (row, reason) in rows {
            let error = added(&[(FILE, "there", "", 0o644), row], None).expect_err(row.1);
            assert!(error.contains(row.1) && error.contains(reason), "{error}");
        }
        let error = added(&[(EntryType::Directory, "x", "", 0o755)], None).expect_err("nothing");
        assert!(error.contains("no file"), "{error}");
    }

    #[test]
    fn nothing_of_the_package_is_hidden_and_nothing_lies_where_a_job_can_t_see_it() {
        for (at, name, reason) in [
            ("/", "usr", "hide a directory"),
            ("/", "tmp/x", "of its own"),
            ("/usr", "temporary/x", "of its own"),
            ("/proc", "x", "of its own"),
            ("/usr/lib/libc.so", "x", "in a file of the package"),
            ("usr", "x", "no absolute path"),
            ("/usr/../x", "x", "`..`"),
            ("", "x", "no absolute path"),
        ] {
            let error = added(&[(FILE, name, "", 0o644)], Some(at)).expect_err(at);
            assert!(error.contains(reason), "{at}: {error}");
        }
    }
}
