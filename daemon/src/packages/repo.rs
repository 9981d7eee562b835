//! Configured repositories and their indexes.
//!
//! Owns adding, removing, ordering and syncing. Invariants: the stored index (in the database) is
//! always one that could be read; a download that fails is recorded and leaves it as it was; one
//! download of an index at a time; an index that is older than one that was seen is refused. Does not
//! resolve or install.

mod builtin;
mod shown;
mod signed;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use piston_client::api;
use piston_client::ids::Language;

use super::error::PackagesError;
use super::fetch::{Fetcher, IndexReply, Location, Validators};
use super::flights::Flights;
use super::index::Index;
use super::install::now;
use super::resolve::{Shelf, Trust};
use super::signature::Keys;
use super::state::State;
use crate::store::records::RepositoryRecord;

pub(crate) use builtin::BUILTIN;
pub use builtin::Builtin;
use builtin::Copy;
pub(crate) use shown::{listed, shown};

/// Names every configured repository together.
pub(crate) const ALL: &str = "all";
/// Names that can't be given to a repository.
const RESERVED: [&str; 2] = [ALL, BUILTIN];

/// A repository with its index, as of one moment.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its name.
    pub(crate) name: String,
    /// Its packages.
    pub(crate) index: Index,
    /// The same for the resolver.
    pub(crate) shelf: Shelf,
    /// Who has to have signed its packages; none where nobody has to.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Where relative downloads start; none where nothing is downloaded.
    base: Option<Location>,
}

impl Loaded {
    fn new(record: &RepositoryRecord, index: Index) -> Result<Self, PackagesError> {
        let invalid = |reason| PackagesError::Fetch {
            repository: record.name.clone(),
            reason: super::fetch::FetchError::Location(reason),
        };
        let base = if record.name == BUILTIN {
            None
        } else {
            let found_at = record.found_at.as_ref().unwrap_or(&record.url);
            let found_at = Location::of_index(found_at).map_err(invalid)?;
            Some(match &index.baseurl {
                Some(base) => found_at.join(base).map_err(invalid)?,
                None => found_at,
            })
        };
        let keys = record.keys.as_deref().map(Keys::parse).transpose();
        let keys = keys.map_err(|reason| PackagesError::RepositoryKeys {
            repository: record.name.clone(),
            reason,
        })?;
        let trust = match (&keys, record.name.as_str()) {
            (Some(_), _) => Trust::Signed,
            (None, BUILTIN) => Trust::Ours,
            (None, _) => Trust::Unsigned,
        };
        Ok(Self {
            name: record.name.clone(),
            keys: keys.map(Arc::new),
            shelf: index.shelf(trust),
            index,
            base,
        })
    }

    /// Where a package file is.
    pub(crate) fn location(&self, download: &str) -> Result<Location, PackagesError> {
        let Some(base) = &self.base else {
            let text = format!("`{download}` of repository `{}` is made here", self.name);
            return Err(PackagesError::Internal(text));
        };
        base.join(download).map_err(|reason| PackagesError::Fetch {
            repository: self.name.clone(),
            reason: super::fetch::FetchError::Location(reason),
        })
    }
}

/// The repositories of a daemon.
#[derive(Debug)]
pub(crate) struct Repositories {
    state: Arc<State>,
    fetcher: Arc<Fetcher>,
    builtin: Builtin,
    loaded: Mutex<BTreeMap<String, Arc<Loaded>>>,
    flights: Flights<String>,
}

impl Repositories {
    /// Nothing is loaded yet.
    pub(crate) fn new(state: Arc<State>, fetcher: Arc<Fetcher>, builtin: Builtin) -> Self {
        Self {
            state,
            fetcher,
            builtin,
            loaded: Mutex::default(),
            flights: Flights::default(),
        }
    }

    /// As configured, in their order; `builtin` is the last.
    pub(crate) fn records(&self) -> Result<Vec<RepositoryRecord>, PackagesError> {
        let mut records = self.state.store.repositories()?;
        let ours = records.iter().position(|record| record.name == BUILTIN);
        let ours = ours.map(|at| records.remove(at));
        records.extend(self.builtin_record(ours));
        Ok(records)
    }

    fn record(&self, name: &str) -> Result<RepositoryRecord, PackagesError> {
        let records = self.records()?;
        let there = records.iter().map(|record| record.name.clone()).collect();
        let found = records.into_iter().find(|record| record.name == name);
        found.ok_or_else(|| PackagesError::RepositoryNotFound {
            name: name.to_owned(),
            there,
        })
    }

    /// Adds a repository at the end, or changes the URL of one where it is.
    pub(crate) async fn set(
        &self,
        name: &str,
        settings: &api::RepositorySettings,
    ) -> Result<RepositoryRecord, PackagesError> {
        let invalid = |field, reason| PackagesError::InvalidRepository { field, reason };
        if RESERVED.contains(&name) {
            let reason = format!("`{name}` has a meaning of its own; choose another name");
            return Err(invalid("name", reason));
        }
        let checked: Result<Language, _> = name.parse();
        checked.map_err(|_| {
            let reason = "1 to 64 characters of a-z 0-9 . _ + # - are meant";
            invalid("name", reason.to_owned())
        })?;
        let location = Location::of_index(&settings.url);
        location.map_err(|error| invalid("url", error.to_string()))?;
        let keys = settings.keys.as_deref().map(Keys::parse).transpose();
        keys.map_err(|error| invalid("keys", error.to_string()))?;
        let _flight = self.flights.take(name.to_owned()).await;
        let mut records = self.records()?;
        records.retain(|record| record.name != BUILTIN);
        let there = records.iter().find(|record| record.name == name);
        let next = records.iter().map(|record| record.position + 1).max();
        let position = match there {
            Some(record) if record.url == settings.url && record.keys == settings.keys => {
                return Ok(record.clone());
            }
            Some(record) => record.position,
            None => next.unwrap_or(0),
        };
        let record = RepositoryRecord {
            keys: settings.keys.clone(),
            ..RepositoryRecord::new(name, &settings.url, position)
        };
        // What was stored is of another place, or vouched for by others.
        self.forget(name);
        let (state, stored) = (Arc::clone(&self.state), record.clone());
        super::blocking(move || {
            state.store.remove_repository(&stored.name)?;
            Ok(state.store.put_repository(&stored, None)?)
        })
        .await?;
        Ok(record)
    }

    /// Removes a repository; packages that came from it stay.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), PackagesError> {
        let _flight = self.flights.take(name.to_owned()).await;
        self.record(name)?;
        if name == BUILTIN {
            let reason = "`builtin` is the daemon's own: `builtin = false` in [packages] of its \
                          configuration takes it away";
            return Err(PackagesError::InvalidRepository {
                field: "name",
                reason: reason.to_owned(),
            });
        }
        self.forget(name);
        let (state, name) = (Arc::clone(&self.state), name.to_owned());
        super::blocking(move || Ok(state.store.remove_repository(&name)?)).await
    }

    fn forget(&self, name: &str) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.remove(name);
    }

    /// The index of a repository: in memory, else stored, else downloaded.
    pub(crate) async fn load(&self, name: &str) -> Result<Arc<Loaded>, PackagesError> {
        let _flight = self.flights.take(name.to_owned()).await;
        let record = self.record(name)?;
        if name == BUILTIN {
            return self.load_builtin(record, Copy::Stored).await;
        }
        match self.stored(&record).await? {
            Some(loaded) => Ok(loaded),
            None => self.download(record).await,
        }
    }

    /// Downloads the index; the stored one serves when that fails.
    pub(crate) async fn sync(&self, name: &str) -> Result<Arc<Loaded>, PackagesError> {
        let _flight = self.flights.take(name.to_owned()).await;
        let record = self.record(name)?;
        if name == BUILTIN {
            return self.load_builtin(record, Copy::Fresh).await;
        }
        let stored = self.stored(&record).await?;
        match (self.download(record).await, stored) {
            (Err(error), Some(stored)) => {
                tracing::warn!(repository = name, %error, "the stored index serves");
                Ok(stored)
            }
            (outcome, _) => outcome,
        }
    }

    /// The index of one repository, or of each for `all`; one that fails does not hide the others.
    pub(crate) async fn select(
        &self,
        name: &str,
        sync: bool,
    ) -> Result<Vec<Arc<Loaded>>, PackagesError> {
        let one = async |name: &str| {
            if sync {
                self.sync(name).await
            } else {
                self.load(name).await
            }
        };
        if name != ALL {
            return Ok(vec![one(name).await?]);
        }
        let mut loaded = Vec::new();
        let mut first_error = None;
        for record in self.records()? {
            match one(&record.name).await {
                Ok(repository) => loaded.push(repository),
                Err(error) => {
                    tracing::warn!(repository = record.name, %error, "repository left out");
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if loaded.is_empty() => Err(error),
            _ => Ok(loaded),
        }
    }

    /// The indexes of all but `builtin`, and why the first of those that can't be had can't be.
    pub(crate) async fn configured(
        &self,
    ) -> Result<(Vec<Arc<Loaded>>, Option<PackagesError>), PackagesError> {
        let (mut loaded, mut first_error) = (Vec::new(), None);
        for record in self.records()? {
            if record.name == BUILTIN {
                continue;
            }
            match self.load(&record.name).await {
                Ok(repository) => loaded.push(repository),
                Err(error) => {
                    tracing::warn!(repository = record.name, %error, "repository left out");
                    first_error.get_or_insert(error);
                }
            }
        }
        Ok((loaded, first_error))
    }

    fn keep(&self, repository: &Arc<Loaded>) {
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(repository.name.clone(), Arc::clone(repository));
    }

    async fn stored(
        &self,
        record: &RepositoryRecord,
    ) -> Result<Option<Arc<Loaded>>, PackagesError> {
        let there = {
            let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.get(&record.name).cloned()
        };
        if there.is_some() {
            return Ok(there);
        }
        let (state, record) = (Arc::clone(&self.state), record.clone());
        let loaded = super::blocking(move || {
            let Some(bytes) = state.store.index(&record.name)? else {
                return Ok(None);
            };
            let index = if record.name == BUILTIN {
                Index::of_recipes(&String::from_utf8_lossy(&bytes))
            } else {
                Index::parse(&bytes)
            };
            // One that an older version accepted and this one does not is downloaded again.
            let loaded = index.ok().map(|index| Loaded::new(&record, index));
            loaded.transpose()
        });
        let loaded = loaded.await?.map(Arc::new);
        if let Some(loaded) = &loaded {
            self.keep(loaded);
        }
        Ok(loaded)
    }

    async fn download(&self, record: RepositoryRecord) -> Result<Arc<Loaded>, PackagesError> {
        let outcome = self.try_download(&record).await;
        let (record, bytes, outcome) = match outcome {
            Ok((record, bytes, loaded)) => (record, bytes, Ok(loaded)),
            Err(error) => {
                let record = RepositoryRecord {
                    last_error: Some(error.to_string()),
                    ..record
                };
                (record, None, Err(error))
            }
        };
        let state = Arc::clone(&self.state);
        super::blocking(move || {
            let bytes = bytes.as_ref().map(|bytes| bytes.as_slice());
            Ok(state.store.put_repository(&record, bytes)?)
        })
        .await?;
        let loaded = outcome?;
        self.keep(&loaded);
        Ok(loaded)
    }

    /// The record to be, the bytes to store when they are new, and what they mean.
    async fn try_download(
        &self,
        record: &RepositoryRecord,
    ) -> Result<(RepositoryRecord, Option<Arc<Vec<u8>>>, Arc<Loaded>), PackagesError> {
        let failed = |reason| PackagesError::Fetch {
            repository: record.name.clone(),
            reason,
        };
        let location = Location::of_index(&record.url).map_err(|error| failed(error.into()))?;
        let stored = self.stored(record).await?;
        let validators = match &stored {
            Some(_) => Validators {
                etag: record.etag.clone(),
                last_modified: record.last_modified.clone(),
            },
            None => Validators::default(),
        };
        let reply = self.fetcher.index(&location, &validators).await;
        let mut record = RepositoryRecord {
            last_sync: Some(now()),
            last_error: None,
            ..record.clone()
        };
        match (reply.map_err(failed)?, stored) {
            (IndexReply::Unchanged, Some(stored)) => Ok((record, None, stored)),
            (IndexReply::Unchanged, None) => Err(PackagesError::Internal(
                "a server answered `not modified` to an unconditional request".to_owned(),
            )),
            (
                IndexReply::Changed {
                    bytes,
                    validators,
                    found_at,
                },
                _,
            ) => {
                // Who wrote it comes before what it says.
                let bytes = Arc::new(bytes);
                record.signed_at = self.signed_at(&record, &found_at, &bytes).await?;
                let text = Arc::clone(&bytes);
                let parsed = super::blocking(move || Ok(Index::parse(&text))).await?;
                let index = parsed.map_err(|reason| PackagesError::Index {
                    repository: record.name.clone(),
                    reason,
                })?;
                if index.serial < record.serial {
                    return Err(PackagesError::OlderIndex {
                        repository: record.name,
                        serial: index.serial,
                        seen: record.serial,
                    });
                }
                record.serial = index.serial;
                for warning in &index.warnings {
                    tracing::warn!(repository = record.name, warning, "index entry");
                }
                record.etag = validators.etag;
                record.last_modified = validators.last_modified;
                record.found_at = Some(found_at);
                record.packages = u64::try_from(index.entries.len()).unwrap_or(u64::MAX);
                let loaded = Arc::new(Loaded::new(&record, index)?);
                Ok((record, Some(bytes), loaded))
            }
        }
    }
}
