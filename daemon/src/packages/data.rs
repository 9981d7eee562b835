//! The data directory: where things are, who owns it, temporary places in it.
//!
//! Layout (everything 0700): `lock`, `state.redb`, `images/<sha256>.{squashfs,index,hot}`,
//! `records/<package>` (a copy of its row, for a database that is lost),
//! `downloads/<checksum>.{part,note}`, `staging/`; `cache.redb` and `cache/` are [`crate::cache`]'s. Invariants: one daemon holds the lock for life; `staging`
//! holds nothing worth keeping once that daemon is gone, `downloads` nothing that is missed. Owns no package state.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use piston_client::ids::{Digest, PackageRef};

use super::files::{self, AtPath as _, PathError};
use super::index::Checksum;
use crate::store::StoreError;
use crate::store::records::{self, PackageRecord};

/// How the file of an unfinished download ends.
const PART: &str = ".part";
/// How long an unfinished download is kept that nobody goes on with.
const KEEP_PARTS: Duration = Duration::from_hours(7 * 24);
/// How long a lock is waited for: children of a daemon that was killed have what it had open until
/// they are another program.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// Longest row that is read.
const MAX_ROW_BYTES: u64 = 64 << 20;

/// Where things are in the data directory.
#[derive(Debug, Clone)]
pub struct DataDirectory {
    /// The root of it.
    pub root: PathBuf,
}

/// The data directory is ours while this lives.
#[derive(Debug)]
pub struct DataLock {
    /// The kernel drops the lock with the descriptor, however the process ends.
    _file: File,
}

/// Why the data directory can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon works on it.
    #[error(
        "the data directory {root} is in use by another daemon (pid {pid}): stop it, or start this one with another --data"
    )]
    Taken {
        /// Which directory.
        root: PathBuf,
        /// The other's process id, as it wrote it down.
        pid: String,
    },
    /// It can't be created or opened.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl DataDirectory {
    /// Creates the directory with its parents (0700) and takes its lock.
    ///
    /// Called once at startup, before [`super::Packages::open`]; the lock is to be kept until
    /// the process ends.
    pub fn lock(&self) -> Result<DataLock, LockError> {
        files::private_directory(&self.root)?;
        let path = self.root.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .at("open", &path)?;
        let asked = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if asked.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(self.taken(&mut file)),
                Err(TryLockError::Error(error)) => return Err(error).at("lock", &path)?,
            }
        }
        file.set_len(0).at("write", &path)?;
        file.rewind().at("write", &path)?;
        writeln!(file, "{}", std::process::id()).at("write", &path)?;
        Ok(DataLock { _file: file })
    }

    fn taken(&self, file: &mut File) -> LockError {
        let mut pid = String::new();
        // Without its pid the message is still right.
        let read = file.take(20).read_to_string(&mut pid);
        let pid = match (read, pid.trim()) {
            (Ok(_), pid) if !pid.is_empty() => pid.to_owned(),
            _ => "unknown".to_owned(),
        };
        LockError::Taken {
            root: self.root.clone(),
            pid,
        }
    }

    /// Creates what is missing and empties what a crash left.
    pub(crate) fn prepare(&self) -> Result<(), PathError> {
        for directory in [
            self.images(),
            self.records(),
            self.downloads(),
            self.staging(),
        ] {
            files::private_directory(&directory)?;
        }
        self.sweep_downloads()?;
        empty(&self.staging())
    }

    /// Removes of the unfinished downloads what nobody has gone on with for long, and whatever is
    /// no download.
    pub(crate) fn sweep_downloads(&self) -> Result<(), PathError> {
        let folder = self.downloads();
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path();
            let file = fs::symlink_metadata(&path).at("inspect", &path)?;
            if file.is_dir() {
                remove_tree(&path).at("remove", &path)?;
                continue;
            }
            // A time in the future is one of a clock that was set back.
            let age = file.modified().ok().and_then(|at| at.elapsed().ok());
            if !is_part(&path) || age.is_some_and(|age| age > KEEP_PARTS) {
                files::remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the downloads of packages that are installed: what a crash leaves after the last step.
    pub(crate) fn drop_downloads_of(&self, rows: &[PackageRecord]) -> Result<(), PathError> {
        rows.iter()
            .try_for_each(|row| files::remove_if_there(&self.part(&Checksum::Sha256(row.file))))
    }

    /// A package file on its way here: it is called as it has to hash.
    pub(crate) fn part(&self, checksum: &Checksum) -> PathBuf {
        self.downloads().join(format!("{}{PART}", checksum.hex()))
    }

    /// The state database.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("state.redb")
    }

    /// Installed images and their indexes.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// An installed image.
    pub(crate) fn image(&self, digest: &Digest) -> PathBuf {
        self.images().join(format!("{digest}.squashfs"))
    }

    /// The index of an installed image.
    pub(crate) fn index(&self, digest: &Digest) -> PathBuf {
        self.images().join(format!("{digest}.index"))
    }

    /// What the first reads of an installed image touched, to have it ready at the next start.
    pub(crate) fn hot_list(&self, digest: &Digest) -> PathBuf {
        self.images().join(format!("{digest}.hot"))
    }

    /// All that is kept of an installed image.
    pub(crate) fn files_of(&self, digest: &Digest) -> [PathBuf; 3] {
        [
            self.image(digest),
            self.index(digest),
            self.hot_list(digest),
        ]
    }

    /// Copies of the rows of installed packages.
    pub(crate) fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    /// The copy of a package's row. Neither a name nor a version has a slash or begins with a dot.
    pub(crate) fn record(&self, package: &PackageRef) -> PathBuf {
        self.records().join(package.to_string())
    }

    /// Reads the copy of a row; the error is why that is not possible.
    pub(crate) fn read_copy(path: &Path) -> Result<PackageRecord, String> {
        let row = files::read_bounded(path, MAX_ROW_BYTES);
        let row = row.map_err(|error| crate::error::chain(&error))?;
        records::package_of_row(&row).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Makes the copies those of `rows`: what a crash, or an older version, left undone.
    pub(crate) fn keep_copies(&self, rows: &[PackageRecord]) -> Result<(), PathError> {
        let named: BTreeSet<PathBuf> = rows.iter().map(|row| self.record(&row.package)).collect();
        let folder = self.records();
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path();
            if !named.contains(&path) {
                files::remove_if_there(&path)?;
            }
        }
        for record in rows {
            let (path, row) = (
                self.record(&record.package),
                records::row_of_package(record),
            );
            if fs::read(&path).ok().as_ref() != Some(&row) {
                files::write_atomic(&path, &row)?;
            }
        }
        Ok(())
    }

    /// Refuses to begin anew where packages are installed whose database is gone.
    pub(crate) fn refuse_lost_database(&self) -> Result<(), StoreError> {
        let (path, records) = (self.database(), self.records());
        let any = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut list| list.next().is_some());
        if matches!(path.try_exists(), Ok(false)) && any(&records) {
            return Err(StoreError::Missing { path, records });
        }
        Ok(())
    }

    /// Package files while they are downloaded.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// Packages while they are unpacked, checked, uploaded or made.
    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }
}

/// A temporary directory below the data directory, removed on drop and at the next start.
#[derive(Debug)]
pub struct Staging {
    /// Where it is.
    pub path: PathBuf,
    /// A file elsewhere that goes with it, but not at the next start.
    along: Option<PathBuf>,
}

impl Staging {
    /// A new directory in `parent`, which one process works in.
    pub(crate) fn new(parent: &Path) -> Result<Self, PathError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{}-{name}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .at("create", &path)?;
        Ok(Self { path, along: None })
    }

    /// Takes a file along when it is dropped.
    pub(crate) fn take_along(&mut self, file: PathBuf) {
        self.along = Some(file);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(file) = &self.along
            && let Err(error) = files::remove_if_there(file)
        {
            tracing::warn!(error = %crate::error::chain(&error), "a download stays");
        }
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "temporary directory stays");
        }
    }
}

/// Whether a file is an unfinished download, or a note of what it is of.
fn is_part(path: &Path) -> bool {
    let ends = |end: &str| path.extension().is_some_and(|extension| extension == end);
    let stem = path.file_stem().unwrap_or_default().as_encoded_bytes();
    let hex = matches!(stem.len(), 64 | 128) && stem.iter().all(u8::is_ascii_hexdigit);
    let has_part = || path.with_extension("part").exists();
    hex && (ends("part") || (ends("note") && has_part()))
}

fn empty(directory: &Path) -> Result<(), PathError> {
    for entry in fs::read_dir(directory).at("list", directory)? {
        let path = entry.at("list", directory)?.path();
        let kind = fs::symlink_metadata(&path).at("inspect", &path)?;
        if kind.is_dir() {
            remove_tree(&path).at("remove", &path)?;
        } else {
            fs::remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(())
}

/// Removes a directory that the image check of a killed daemon may just be writing its one file
/// to: the second attempt finds what came during the first.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    for _ in 0..3 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            other => return other,
        }
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    use super::*;

    fn data(root: &Path) -> DataDirectory {
        DataDirectory {
            root: root.join("state/piston"),
        }
    }

    #[test]
    fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let data = data(dir.path());
        let lock = data.lock().unwrap();
        let text = data.lock().unwrap_err().to_string();
        assert!(
            text.contains(&format!("pid {}", std::process::id())),
            "{text}"
        );
        drop(lock);
        drop(data.lock().unwrap());
    }

    #[test]
    fn the_directory_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = data(dir.path());
        drop(data.lock().unwrap());
        let mode = fs::metadata(&data.root).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn preparing_sweeps_what_a_crash_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let data = data(dir.path());
        data.prepare().unwrap();
        fs::create_dir(data.staging().join("1-1")).unwrap();
        fs::write(data.staging().join("1-1/image"), b"x").unwrap();
        let part = data.part(&Checksum::Sha256(Digest::from_bytes([7; 32])));
        let old = data.part(&Checksum::Sha512(Box::new([7; 64])));
        for path in [&part, &part.with_extension("note"), &old] {
            fs::write(path, b"x").unwrap();
        }
        for name in ["x.part", "y"] {
            fs::write(data.downloads().join(name), b"x").unwrap();
        }
        let long_ago = SystemTime::now() - KEEP_PARTS - Duration::from_mins(1);
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        fs::write(
            data.downloads().join(format!("{}.note", "0".repeat(64))),
            b"x",
        )
        .unwrap();
        fs::write(data.images().join("kept"), b"x").unwrap();
        data.prepare().unwrap();
        let count = |path: PathBuf| fs::read_dir(path).unwrap().count();
        assert_eq!(count(data.staging()), 0);
        assert_eq!(count(data.downloads()), 2, "the part and its note");
        assert!(part.exists());
        assert_eq!(count(data.images()), 1);
    }

    #[test]
    fn a_staging_directory_goes_with_its_value() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::new(dir.path()).unwrap();
        fs::write(staging.path.join("f"), b"x").unwrap();
        let other = Staging::new(dir.path()).unwrap();
        assert_ne!(staging.path, other.path);
        drop(staging);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
