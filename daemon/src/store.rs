//! The databases: [`Store`] (which packages are installed, which repositories are configured, who
//! holds a token) and
//! [`cache`] (what is kept of jobs).
//!
//! Owns `state.redb` and `cache.redb`; the only room that knows redb. Invariants: a change is one
//! transaction, so
//! a crash leaves the state before or after it; every row carries a version and a checksum and is
//! refused when either is wrong; a panic inside redb (a damaged page) becomes an error. Knows
//! nothing of files besides its own: images are the business of `packages`.

pub mod cache;
#[cfg(test)]
pub(crate) mod faulty;
pub mod records;
mod tables;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use piston_client::ids::{PackageRef, TokenId};
use redb::{Database, ReadableDatabase as _};

use records::{PackageRecord, RepositoryRecord, RowError, TokenRecord};

/// Memory that redb may use for pages; the state is small.
const CACHE_BYTES: usize = 8 << 20;

/// Why the state can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be created or opened.
    #[error("cannot open the state database {path}: {reason}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file, or a row of it, is not what was written.
    #[error(
        "the state database {path} is damaged ({reason}); stop the daemon: `pistond repair` rebuilds \
         it from the packages on disk"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is gone, and packages are there.
    #[error(
        "the state database {path} is gone, while packages are installed: `pistond repair` rebuilds \
         it from them (to begin without them, remove {records})"
    )]
    Missing {
        /// Which file.
        path: PathBuf,
        /// Where the packages' own records are.
        records: PathBuf,
    },
    /// A transaction failed; nothing of it is in the database.
    #[error("cannot change the state database {path}: {reason}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
        /// Whether the file system is full.
        no_space: bool,
    },
}

/// The open state database. Calls block on the disk: async callers use a blocking thread.
#[derive(Debug)]
pub struct Store(Guarded);

/// A database whose failures and panics become errors.
#[derive(Debug)]
struct Guarded {
    database: Database,
    path: PathBuf,
}

/// Creates the tables of a new database.
type CreateTables = fn(&redb::WriteTransaction) -> Result<(), redb::Error>;

/// What one transaction changes.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// Packages to add or replace.
    pub put: Vec<&'a PackageRecord>,
    /// Packages to remove; one that is not there is fine.
    pub remove: Vec<&'a PackageRef>,
}

/// What is worth keeping of a damaged database besides packages, of which there are copies.
#[derive(Debug, Default)]
pub struct Salvage {
    /// Repositories, in their order.
    pub repositories: Vec<RepositoryRecord>,
    /// Tokens.
    pub tokens: Vec<TokenRecord>,
}

fn readable<T: serde::de::DeserializeOwned>(rows: &[(String, Vec<u8>)]) -> Vec<T> {
    rows.iter()
        .filter_map(|(_, row)| records::decode(row).ok())
        .collect()
}

impl StoreError {
    /// What is wrong, without what to do about the state.
    pub fn reason(&self) -> &str {
        match self {
            Self::Open { reason, .. }
            | Self::Damaged { reason, .. }
            | Self::Write { reason, .. } => reason,
            Self::Missing { .. } => "it is gone",
        }
    }
}

impl Store {
    /// Opens the database, or creates an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Guarded::open(path, CACHE_BYTES, tables::create).map(Self)
    }

    /// Every installed package, by name, then version.
    pub fn packages(&self) -> Result<Vec<PackageRecord>, StoreError> {
        let rows = self.0.read(tables::all_packages)?;
        let mut records = rows
            .iter()
            .map(|(key, row)| self.checked(key, records::decode::<PackageRecord>(row)))
            .collect::<Result<Vec<_>, _>>()?;
        records.sort_by(|a, b| a.package.cmp(&b.package));
        Ok(records)
    }

    /// Applies changes in one durable transaction.
    pub fn apply(&self, changes: &Changes<'_>) -> Result<(), StoreError> {
        let puts: Vec<(String, Vec<u8>)> = changes
            .put
            .iter()
            .map(|record| (record.package.to_string(), records::encode(*record)))
            .collect();
        let removes: Vec<String> = changes.remove.iter().map(ToString::to_string).collect();
        self.0
            .write(|txn| tables::change_packages(txn, &puts, &removes))
    }

    /// Configured repositories, in their order.
    pub fn repositories(&self) -> Result<Vec<RepositoryRecord>, StoreError> {
        let rows = self.0.read(tables::all_repositories)?;
        let mut records = rows
            .iter()
            .map(|(key, row)| self.checked(key, records::decode::<RepositoryRecord>(row)))
            .collect::<Result<Vec<_>, _>>()?;
        records.sort_by_key(|record| record.position);
        Ok(records)
    }

    /// Adds or replaces a repository and, when given, its stored index.
    pub fn put_repository(
        &self,
        record: &RepositoryRecord,
        index: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let row = records::encode(record);
        let index = index.map(records::frame);
        self.0
            .write(|txn| tables::put_repository(txn, &record.name, &row, index.as_deref()))
    }

    /// Removes a repository with its stored index.
    pub fn remove_repository(&self, name: &str) -> Result<(), StoreError> {
        self.0.write(|txn| tables::remove_repository(txn, name))
    }

    /// The stored index of a repository; none when it was never downloaded, or is damaged: it
    /// can be downloaded again.
    pub fn index(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.0.read(|txn| tables::index(txn, name))?;
        Ok(row.and_then(|row| match records::unframe(&row) {
            Ok(bytes) => Some(bytes.to_vec()),
            Err(error) => {
                tracing::warn!(repository = name, %error, "stored index dropped");
                None
            }
        }))
    }

    /// Every token, by id.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        let rows = self.0.read(tables::all_tokens)?;
        let checked = |(key, row): &(String, Vec<u8>)| self.checked(key, records::decode(row));
        rows.iter().map(checked).collect()
    }

    /// Adds a token.
    pub fn put_token(&self, record: &TokenRecord) -> Result<(), StoreError> {
        let (id, row) = (record.token.id.to_string(), records::encode(record));
        self.0.write(|txn| tables::put_token(txn, &id, &row))
    }

    /// Removes a token; one that is not there is fine.
    pub fn remove_token(&self, id: &TokenId) -> Result<(), StoreError> {
        let id = id.to_string();
        self.0.write(|txn| tables::remove_token(txn, &id))
    }

    /// What can still be read of a damaged database; a panic or error costs the rows that it hides.
    pub fn salvage(path: &Path) -> Salvage {
        let Ok(true) = path.try_exists() else {
            return Salvage::default();
        };
        let Ok(store) = Self::open(path) else {
            return Salvage::default();
        };
        let repositories = store.0.read(tables::all_repositories).unwrap_or_default();
        let tokens = store.0.read(tables::all_tokens).unwrap_or_default();
        let mut repositories: Vec<RepositoryRecord> = readable(&repositories);
        repositories.sort_by_key(|record| record.position);
        Salvage {
            repositories,
            tokens: readable(&tokens),
        }
    }

    fn checked<T>(&self, key: &str, row: Result<T, RowError>) -> Result<T, StoreError> {
        row.map_err(|error| StoreError::Damaged {
            path: self.0.path.clone(),
            reason: format!("row `{key}`: {error}"),
        })
    }
}

impl Guarded {
    /// Opens the database, or creates an empty one.
    fn open(path: &Path, page_bytes: usize, tables: CreateTables) -> Result<Self, StoreError> {
        let open_error = |reason: String| StoreError::Open {
            path: path.to_owned(),
            reason,
        };
        if !path.try_exists().map_err(|e| open_error(e.to_string()))? {
            create(path, tables).map_err(open_error)?;
        }
        Self::opened(path, || {
            Database::builder().set_cache_size(page_bytes).open(path)
        })
    }

    /// The same for what `open` opens.
    fn opened(
        path: &Path,
        open: impl FnOnce() -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, StoreError> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            open().map_err(|error| classify(path, error))
        }));
        let database = opened.unwrap_or_else(|_| {
            Err(StoreError::Damaged {
                path: path.to_owned(),
                reason: "it can't be opened".to_owned(),
            })
        })?;
        Ok(Self {
            database,
            path: path.to_owned(),
        })
    }

    fn read<T>(
        &self,
        body: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let damaged = |reason: String| StoreError::Damaged {
            path: self.path.clone(),
            reason,
        };
        catch_unwind(AssertUnwindSafe(|| {
            body(&self.database.begin_read().map_err(redb::Error::from)?)
        }))
        .map_err(|_| damaged("a page can't be read".to_owned()))?
        .map_err(|error| damaged(error.to_string()))
    }

    fn write(
        &self,
        body: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let txn = self.database.begin_write().map_err(redb::Error::from)?;
            body(&txn)?;
            txn.commit().map_err(redb::Error::from)
        }));
        let (reason, no_space) = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => (error.to_string(), is_no_space(&error)),
            Err(_) => ("a page can't be read or written".to_owned(), false),
        };
        Err(StoreError::Write {
            path: self.path.clone(),
            reason,
            no_space,
        })
    }
}

/// Creates an empty database under another name first, so that a crash leaves none or a whole one.
fn create(path: &Path, tables: CreateTables) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let new = path.with_extension("redb.new");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(text)?;
    let database = Database::builder()
        .create_with_backend(redb::backends::FileBackend::new(file).map_err(|e| e.to_string())?)
        .map_err(|error| error.to_string())?;
    let txn = database.begin_write().map_err(|e| e.to_string())?;
    tables(&txn).map_err(|error| error.to_string())?;
    txn.commit().map_err(|error| error.to_string())?;
    drop(database);
    fs::rename(&new, path).map_err(text)?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(text)
}

fn classify(path: &Path, error: redb::DatabaseError) -> StoreError {
    let reason = error.to_string();
    let io_kind = match &error {
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) => Some(error.kind()),
        _ => None,
    };
    let path = path.to_owned();
    match (error, io_kind) {
        // redb reports a file without its magic number, or cut short, as invalid data.
        (_, Some(std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof))
        | (redb::DatabaseError::Storage(redb::StorageError::Corrupted(_)), _) => {
            StoreError::Damaged { path, reason }
        }
        (redb::DatabaseError::UpgradeRequired(_), _) => StoreError::Open {
            path,
            reason: format!("it is of another version of Piston ({reason})"),
        },
        _ => StoreError::Open { path, reason },
    }
}

fn is_no_space(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(io) if matches!(
        io.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    ))
}

#[cfg(test)]
mod tests;
