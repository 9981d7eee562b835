//! A file for a database that fails or freezes at its n-th change, as a broken, full or slow disk
//! does. For tests.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use super::{CreateTables, Guarded, StoreError};

/// What happens at the chosen change, counted from 0; and at those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// This one fails, the next ones do not.
    FailsOnce(usize, io::ErrorKind),
    /// This one and all after it fail.
    FailsFrom(usize, io::ErrorKind),
    /// This one does not return before [`Faults::thaw`].
    Freezes(usize),
}

/// The troubles of one or more files, and how many changes they have seen.
#[derive(Debug, Clone)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    trouble: Trouble,
    changes: usize,
    is_frozen: bool,
    /// Files in use.
    open: usize,
}

impl Faults {
    pub(crate) fn new(trouble: Trouble) -> Self {
        let state = State {
            trouble,
            changes: 0,
            is_frozen: false,
            open: 0,
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes so far.
    pub(crate) fn changes(&self) -> usize {
        self.state().changes
    }

    /// From now on this, counted from now.
    pub(crate) fn set(&self, trouble: Trouble) {
        let mut state = self.state();
        state.trouble = trouble;
        state.changes = 0;
    }

    /// Waits until a change is frozen.
    pub(crate) fn wait_for_frost(&self) {
        let state = self
            .0
            .changed
            .wait_while(self.state(), |state| !state.is_frozen);
        drop(state.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until no database uses its file any more.
    pub(crate) fn wait_for_close(&self) {
        let state = self
            .0
            .changed
            .wait_while(self.state(), |state| state.open > 0);
        drop(state.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets what is frozen go on.
    pub(crate) fn thaw(&self) {
        self.state().trouble = Trouble::None;
        self.0.changed.notify_all();
    }

    /// Called before each change.
    fn change(&self) -> io::Result<()> {
        let mut state = self.state();
        let number = state.changes;
        state.changes += 1;
        match state.trouble {
            Trouble::FailsOnce(at, kind) if number == at => Err(kind.into()),
            Trouble::FailsFrom(at, kind) if number >= at => Err(kind.into()),
            Trouble::Freezes(at) if number == at => {
                state.is_frozen = true;
                self.0.changed.notify_all();
                let frozen = |state: &mut State| state.trouble != Trouble::None;
                let thawed = self.0.changed.wait_while(state, frozen);
                thawed.unwrap_or_else(PoisonError::into_inner).is_frozen = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Opens or creates a database behind these troubles.
    pub(super) fn open(
        &self,
        path: &Path,
        page_bytes: usize,
        tables: CreateTables,
    ) -> Result<Guarded, StoreError> {
        let failed = |reason: String| StoreError::Open {
            path: path.to_owned(),
            reason,
        };
        if !path.exists() {
            // As a full or broken disk fails the creation of a file.
            self.change().map_err(|error| failed(error.to_string()))?;
            super::create(path, tables).map_err(failed)?;
        }
        let file = File::options().read(true).write(true).open(path);
        let file = file.map_err(|error| failed(error.to_string()))?;
        let file = FileBackend::new(file).map_err(|error| failed(error.to_string()))?;
        let faults = self.clone();
        self.state().open += 1;
        Guarded::opened(path, || {
            Database::builder()
                .set_cache_size(page_bytes)
                .create_with_backend(Faulty { file, faults })
        })
    }
}

/// A file with troubles.
#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    faults: Faults,
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.change()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.change()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.change()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        let closed = self.file.close();
        self.faults.state().open -= 1;
        self.faults.0.changed.notify_all();
        closed
    }
}
