//! Where the bytes of entries are, and the one thread that writes them.
//!
//! Small entries are rows of `cache.redb`, larger ones files `cache/<sha256>`. Writing is the
//! business of a thread of its own, so that no reply waits for a disk; what came in while it
//! committed goes into the next transaction. Until an entry is written its bytes are in memory,
//! bounded. Invariants: bytes that were read are given out only when their sha256 is the one in
//! the index; a file is written before the row that names it and removed after; a database that
//! can't be read or written is set aside with everything in it, and an empty one takes its place;
//! nothing here ever fails a job.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use piston_client::ids::Digest;
use sha2::{Digest as _, Sha256};

use super::evict::{Index, Meta, Place};
use super::key::Key;
use crate::store::StoreError;
use crate::store::cache::{CacheChange, CacheRow, CacheStore};

/// Larger entries are files of their own.
pub(super) const LARGEST_ROW: u64 = 64 << 10;
/// Most changes of one transaction.
const MAX_BATCH: usize = 1024;

/// What went wrong since the start.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Entries dropped because they were not what was written.
    pub(super) damaged: AtomicU64,
    /// Databases set aside.
    pub(super) set_aside: AtomicU64,
    /// Entries that could not be written.
    pub(super) unwritten: AtomicU64,
}

/// What becomes of a database that can't go on.
#[derive(Debug, Clone, Copy)]
enum Old {
    /// It is kept under another name, for whoever wants to know.
    Kept,
    /// It goes.
    Removed,
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Work {
    /// Write this entry of so many bytes, if it still is in the index.
    Put(Key, Digest, u64),
    /// Remove this entry.
    Remove(Key, Meta),
    /// Note last uses.
    Used(Vec<(Key, u64)>),
    /// The database can't be read, for this reason.
    Unreadable(String),
    /// Say when everything before this is done.
    Flush(tokio::sync::oneshot::Sender<()>),
}

/// How a database is come by; tests put faults between it and its file.
pub(super) type Open = Box<dyn Fn(&Path) -> Result<CacheStore, StoreError> + Send + Sync>;

/// What the disk is trusted with.
pub(super) struct Disk {
    /// Opens or creates a database.
    pub(super) open: Open,
    /// How long to do without one that could not be opened before the next attempt.
    pub(super) patience: Duration,
    /// Bytes in memory that may wait to be written; what comes on top of them is not kept.
    pub(super) max_waiting: u64,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

/// Index, database and files.
#[derive(Debug)]
pub(super) struct Shelf {
    index: Mutex<Index>,
    disk: Disk,
    /// None while there is no writing: the disk is full or broken.
    database: RwLock<Option<CacheStore>>,
    /// When it was last tried in vain to open it.
    failed: Mutex<Option<Instant>>,
    database_path: PathBuf,
    files: PathBuf,
    /// Whether it was said that files can't be written, since one could.
    file_trouble_told: AtomicBool,
    waiting: AtomicU64,
    pub(super) faults: Faults,
}

impl Shelf {
    /// Opens what is in the data directory `root`, and sweeps what nothing refers to.
    pub(super) fn open(root: &Path, disk: Disk) -> Self {
        let shelf = Self {
            index: Mutex::default(),
            disk,
            database: RwLock::default(),
            failed: Mutex::default(),
            database_path: root.join("cache.redb"),
            files: root.join("cache"),
            file_trouble_told: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            faults: Faults::default(),
        };
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&shelf.files);
        if let Err(error) = made {
            tracing::warn!(path = %shelf.files.display(), %error, "no folder for cached files");
        }
        if let Err(error) = shelf.load() {
            shelf.set_aside(error.reason(), Old::Kept);
        }
        shelf.sweep_files();
        shelf
    }

    /// The index.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Result<(), StoreError> {
        let store = (self.disk.open)(&self.database_path)?;
        let (rows, damaged) = store.rows()?;
        if !damaged.is_empty() {
            tracing::warn!(
                rows = damaged.len(),
                "damaged rows of the cache were dropped"
            );
            let count = u64::try_from(damaged.len()).unwrap_or(u64::MAX);
            self.faults.damaged.fetch_add(count, Ordering::Relaxed);
            let changes: Vec<_> = damaged.into_iter().map(CacheChange::Remove).collect();
            store.apply(&changes)?;
        }
        let mut index = self.index();
        for row in rows {
            let meta = Meta {
                package: index.number(&row.package),
                digest: row.digest,
                length: row.length,
                created: row.created,
                used: row.used,
                place: if row.is_file { Place::File } else { Place::Row },
            };
            index.insert(Key(row.key), meta, None);
        }
        drop(index);
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *database = Some(store);
        Ok(())
    }

    /// Puts the database out of the way and begins an empty one.
    fn set_aside(&self, reason: &str, old: Old) {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        self.index().clear();
        let aside = self.database_path.with_extension("redb.damaged");
        tracing::warn!(reason, aside = %aside.display(), "the cache is begun anew");
        self.faults.set_aside.fetch_add(1, Ordering::Relaxed);
        let moved = match old {
            Old::Kept => fs::rename(&self.database_path, &aside),
            Old::Removed => fs::remove_file(&self.database_path),
        };
        if let Err(error) = moved
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the cache database can't be moved away");
        }
        match (self.disk.open)(&self.database_path) {
            Ok(store) => *database = Some(store),
            Err(error) => {
                tracing::warn!(
                    reason = error.reason(),
                    "nothing is kept until there is a disk"
                );
                *self.failed() = Some(Instant::now());
            }
        }
        drop(database);
        self.sweep_files();
    }

    fn failed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries again to open a database that could not be, from time to time.
    fn reopen(&self) {
        {
            let mut failed = self.failed();
            if failed.is_none_or(|at| at.elapsed() < self.disk.patience) {
                return;
            }
            *failed = Some(Instant::now());
        }
        // What is in it, if anything, is not in the index any more.
        drop(fs::remove_file(&self.database_path));
        if let Ok(store) = (self.disk.open)(&self.database_path) {
            tracing::info!("the cache has a disk again");
            *self.failed() = None;
            let mut database = self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *database = Some(store);
        }
    }

    /// Removes files that no entry has.
    fn sweep_files(&self) {
        let Ok(entries) = fs::read_dir(&self.files) else {
            return;
        };
        let index = self.index();
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let digest = name.and_then(|name| name.parse::<Digest>().ok());
            if !digest.is_some_and(|digest| index.has_file(&digest)) {
                remove_file(&path);
            }
        }
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.files.join(digest.to_string())
    }

    /// Takes room for bytes that wait to be written, if there is some.
    pub(super) fn reserve(&self, length: u64) -> bool {
        let reserved = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                let sum = waiting.checked_add(length)?;
                (waiting == 0 || sum <= self.disk.max_waiting).then_some(sum)
            });
        reserved.is_ok()
    }

    /// The bytes of an entry; none when they are not what was written. Blocks on the disk, for a
    /// row on a few pages only.
    pub(super) fn read(&self, key: &Key, meta: &Meta, writer: &Sender<Work>) -> Option<Vec<u8>> {
        let bytes = match meta.place {
            Place::Row => {
                let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
                match database.as_ref()?.value(&key.0) {
                    Ok(bytes) => bytes?,
                    Err(error) => {
                        let unreadable = Work::Unreadable(error.reason().to_owned());
                        // Without a writer the daemon is ending.
                        drop(writer.send(unreadable));
                        return None;
                    }
                }
            }
            Place::File => read_file(&self.file(&meta.digest), meta.length).ok()?,
        };
        (digest_of(&bytes) == meta.digest).then_some(bytes)
    }

    /// Writes until nobody can tell it anything any more.
    pub(super) fn write(&self, work: &Receiver<Work>) {
        while let Ok(first) = work.recv() {
            let mut batch = vec![first];
            batch.extend(work.try_iter().take(MAX_BATCH));
            let unreadable = batch.iter().find_map(|work| match work {
                Work::Unreadable(reason) => Some(reason),
                Work::Put(..) | Work::Remove(..) | Work::Used(_) | Work::Flush(_) => None,
            });
            match unreadable {
                // What the batch would write goes with the rest.
                Some(reason) => self.set_aside(reason, Old::Kept),
                None => self.commit(&batch),
            }
            for work in batch {
                match work {
                    Work::Put(_, _, length) => {
                        self.waiting.fetch_sub(length, Ordering::Relaxed);
                    }
                    // Who asked may have gone.
                    Work::Flush(done) => drop(done.send(())),
                    Work::Remove(..) | Work::Used(_) | Work::Unreadable(_) => {}
                }
            }
        }
    }

    fn commit(&self, batch: &[Work]) {
        self.reopen();
        let puts: Vec<Option<Put>> = batch.iter().map(|work| self.put(work)).collect();
        let mut changes = Vec::new();
        for (work, put) in batch.iter().zip(&puts) {
            match work {
                Work::Put(..) => changes.extend(put.as_ref().map(Put::change)),
                Work::Remove(key, _) => changes.push(CacheChange::Remove(key.0)),
                Work::Used(used) => {
                    let index = self.index();
                    let used = used.iter().filter(|(key, _)| index.get(key).is_some());
                    changes.extend(used.map(|(key, at)| CacheChange::Used(key.0, *at)));
                }
                Work::Unreadable(_) | Work::Flush(_) => {}
            }
        }
        let applied = self.apply(&changes);
        let puts: Vec<Put> = puts.into_iter().flatten().collect();
        if applied.is_err() {
            let count = u64::try_from(puts.len()).unwrap_or(u64::MAX);
            self.faults.unwritten.fetch_add(count, Ordering::Relaxed);
        }
        match applied {
            Ok(()) => self.settle(&puts, batch),
            Err(Unapplied::NoDatabase) => {
                let mut index = self.index();
                for Put { row, .. } in &puts {
                    index.remove(&Key(row.key));
                }
                drop(index);
                self.sweep_files();
            }
            Err(Unapplied::Failed(reason, old)) => self.set_aside(&reason, old),
        }
    }

    fn apply(&self, changes: &[CacheChange<'_>]) -> Result<(), Unapplied> {
        if changes.is_empty() {
            return Ok(());
        }
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(Unapplied::NoDatabase)?;
        database.apply(changes).map_err(|error| {
            let old = match error {
                // Of a full disk the cache is the first to give something back.
                StoreError::Write { no_space: true, .. } => Old::Removed,
                _ => Old::Kept,
            };
            Unapplied::Failed(error.reason().to_owned(), old)
        })
    }

    /// What there is to write of a put: nothing when its entry has gone or has been replaced.
    fn put(&self, work: &Work) -> Option<Put> {
        let Work::Put(key, digest, _) = work else {
            return None;
        };
        let (row, bytes) = {
            let index = self.index();
            let meta = index.get(key).filter(|meta| meta.digest == *digest)?;
            let row = CacheRow {
                key: key.0,
                package: Arc::clone(index.package(meta.package)),
                digest: *digest,
                length: meta.length,
                created: meta.created,
                used: meta.used,
                is_file: meta.place == Place::File,
            };
            (row, Arc::clone(index.waiting(key)?))
        };
        if row.is_file {
            let written = self.write_file(digest, &bytes);
            let had_trouble = self
                .file_trouble_told
                .swap(written.is_err(), Ordering::Relaxed);
            if let Err(error) = written {
                if !had_trouble {
                    tracing::warn!(%error, "files of the cache can't be written");
                }
                self.faults.unwritten.fetch_add(1, Ordering::Relaxed);
                self.index().remove(key);
                return None;
            }
        }
        Some(Put { row, bytes })
    }

    /// Under another name first: a file of its digest's name is whole, or not what the digest says.
    fn write_file(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.file(digest);
        let new = path.with_extension("new");
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            remove_file(&new);
        }
        written
    }

    /// After a commit: who was written needs no memory any more, files of the removed can go.
    fn settle(&self, puts: &[Put], batch: &[Work]) {
        let mut index = self.index();
        for Put { row, .. } in puts {
            index.settle(&Key(row.key), &row.digest);
        }
        for work in batch {
            if let Work::Remove(_, meta) = work
                && meta.place == Place::File
                && !index.has_file(&meta.digest)
            {
                remove_file(&self.file(&meta.digest));
            }
        }
    }
}

/// Why a batch is not in the database.
enum Unapplied {
    /// There is none, which was said when it came to that.
    NoDatabase,
    /// It can't be written, for this reason; and what to do with it.
    Failed(String, Old),
}

/// An entry about to be written.
struct Put {
    row: CacheRow,
    bytes: Arc<[u8]>,
}

impl Put {
    fn change(&self) -> CacheChange<'_> {
        CacheChange::Put(&self.row, (!self.row.is_file).then_some(&*self.bytes))
    }
}

/// The sha256 of bytes.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// A file of exactly that length.
fn read_file(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() != length {
        return Err(io::ErrorKind::InvalidData.into());
    }
    fs::read(path)
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file of the cache is left over");
    }
}
