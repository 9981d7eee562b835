//! Configured repositories and their indexes.
//!
//! Owns adding, removing, ordering and syncing. Invariants: the stored index (in the database) is
//! always one that could be read; a download that fails is recorded and leaves it as it was; one
//! download of an index at a time. Does not resolve or install.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use piston_client::api;
use piston_client::ids::Language;
use piston_client::units::Bytes;

use super::error::PackagesError;
use super::fetch::{Fetcher, IndexReply, Location, Validators};
use super::flights::Flights;
use super::index::{Entry, Index};
use super::install::now;
use super::resolve::Shelf;
use super::state::State;
use crate::store::records::RepositoryRecord;

/// Names every configured repository together.
pub(crate) const ALL: &str = "all";
/// Names that can't be given to a repository.
const RESERVED: [&str; 2] = [ALL, "builtin"];

/// A repository with its index, as of one moment.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its name.
    pub(crate) name: String,
    /// Its packages.
    pub(crate) index: Index,
    /// The same for the resolver.
    pub(crate) shelf: Shelf,
    /// Where relative downloads start.
    base: Location,
}

impl Loaded {
    fn new(record: &RepositoryRecord, index: Index) -> Result<Self, PackagesError> {
        let invalid = |reason| PackagesError::Fetch {
            repository: record.name.clone(),
            reason: super::fetch::FetchError::Location(reason),
        };
        let found_at = record.found_at.as_ref().unwrap_or(&record.url);
        let found_at = Location::of_index(found_at).map_err(invalid)?;
        let base = match &index.baseurl {
            Some(base) => found_at.join(base).map_err(invalid)?,
            None => found_at,
        };
        Ok(Self {
            name: record.name.clone(),
            shelf: index.shelf(),
            index,
            base,
        })
    }

    /// Where a package file is.
    pub(crate) fn location(&self, entry: &Entry) -> Result<Location, PackagesError> {
        let joined = self.base.join(&entry.download);
        joined.map_err(|reason| PackagesError::Fetch {
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
    loaded: Mutex<BTreeMap<String, Arc<Loaded>>>,
    flights: Flights<String>,
}

impl Repositories {
    /// Nothing is loaded yet.
    pub(crate) fn new(state: Arc<State>, fetcher: Arc<Fetcher>) -> Self {
        Self {
            state,
            fetcher,
            loaded: Mutex::default(),
            flights: Flights::default(),
        }
    }

    /// As configured, in their order.
    pub(crate) fn records(&self) -> Result<Vec<RepositoryRecord>, PackagesError> {
        Ok(self.state.store.repositories()?)
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
        let _flight = self.flights.take(name.to_owned()).await;
        let records = self.records()?;
        let there = records.iter().find(|record| record.name == name);
        let next = records.iter().map(|record| record.position + 1).max();
        let record = match there {
            Some(record) if record.url == settings.url => return Ok(record.clone()),
            Some(record) => RepositoryRecord::new(name, &settings.url, record.position),
            None => RepositoryRecord::new(name, &settings.url, next.unwrap_or(0)),
        };
        // What was stored is of another place.
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
        match self.stored(&record)? {
            Some(loaded) => Ok(loaded),
            None => self.download(record).await,
        }
    }

    /// Downloads the index; the stored one serves when that fails.
    pub(crate) async fn sync(&self, name: &str) -> Result<Arc<Loaded>, PackagesError> {
        let _flight = self.flights.take(name.to_owned()).await;
        let record = self.record(name)?;
        let stored = self.stored(&record)?;
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

    fn stored(&self, record: &RepositoryRecord) -> Result<Option<Arc<Loaded>>, PackagesError> {
        let lock = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = lock().get(&record.name) {
            return Ok(Some(Arc::clone(loaded)));
        }
        let Some(bytes) = self.state.store.index(&record.name)? else {
            return Ok(None);
        };
        // One that an older version accepted and this one does not is downloaded again.
        let Ok(index) = Index::parse(&bytes) else {
            return Ok(None);
        };
        let loaded = Arc::new(Loaded::new(record, index)?);
        lock().insert(record.name.clone(), Arc::clone(&loaded));
        Ok(Some(loaded))
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
        let name = record.name.clone();
        super::blocking(move || Ok(state.store.put_repository(&record, bytes.as_deref())?)).await?;
        let loaded = outcome?;
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The record to be, the bytes to store when they are new, and what they mean.
    async fn try_download(
        &self,
        record: &RepositoryRecord,
    ) -> Result<(RepositoryRecord, Option<Vec<u8>>, Arc<Loaded>), PackagesError> {
        let failed = |reason| PackagesError::Fetch {
            repository: record.name.clone(),
            reason,
        };
        let location = Location::of_index(&record.url).map_err(|error| failed(error.into()))?;
        let stored = self.stored(record)?;
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
                let index = Index::parse(&bytes).map_err(|reason| PackagesError::Index {
                    repository: record.name.clone(),
                    reason,
                })?;
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

/// A record in the form of the API.
pub(crate) fn shown(record: RepositoryRecord) -> api::Repository {
    api::Repository {
        name: record.name,
        url: record.url,
        state: api::RepoState {
            last_sync: record.last_sync,
            last_error: record.last_error,
            packages: record.packages,
        },
    }
}

/// An index in the form of the API; `installed` tells whether that very package is installed.
pub(crate) fn listed(
    repository: &Loaded,
    installed: impl Fn(&Entry) -> bool,
) -> Vec<api::AvailablePackage> {
    let entries = repository.index.entries.values();
    entries
        .map(|entry| api::AvailablePackage {
            repository: repository.name.clone(),
            language: entry.package.language.clone(),
            version: entry.package.version.clone(),
            author: entry.author.clone(),
            aliases: entry.aliases.clone(),
            size: Bytes(entry.size),
            checksums: entry.checksums.clone(),
            dependencies: entry.dependency_texts.clone(),
            download: repository
                .location(entry)
                .map_or_else(|_| entry.download.clone(), |location| location.to_string()),
            buildfile: entry.buildfile.clone(),
            installed: installed(entry),
        })
        .collect()
}
