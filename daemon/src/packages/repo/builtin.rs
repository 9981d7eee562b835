//! The repository `builtin`: the recipes that ship with the daemon, made on the spot.
//!
//! Its index is what the recipes would give by apt's lists of this machine, found out by a limited
//! child; it is stored like any other and made anew when the lists have changed. It is the last in
//! the order and can't be changed or removed but by the configuration.

use std::sync::Arc;
use std::time::Duration;

use super::super::error::PackagesError;
use super::super::index::Index;
use super::super::install::now;
use super::super::{make, making};
use super::{Loaded, Repositories};
use crate::store::records::RepositoryRecord;

/// Its name.
pub(crate) const BUILTIN: &str = "builtin";
/// What is shown as its URL.
const URL: &str = "builtin:recipes";

/// Whether the repository is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builtin {
    /// It is; making may take so long.
    Offered(Duration),
    /// The operator wants none.
    Absent,
}

/// Which copy of the index will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// The stored one, where apt's lists are as they were.
    Stored,
    /// One that is made now.
    Fresh,
}

impl Repositories {
    /// How long making may take, where the repository is there.
    pub(crate) fn builtin(&self) -> Option<Duration> {
        match self.builtin {
            Builtin::Offered(time) => Some(time),
            Builtin::Absent => None,
        }
    }

    /// Its record: as stored, in the last place; none when it is not there.
    pub(super) fn builtin_record(
        &self,
        stored: Option<RepositoryRecord>,
    ) -> Option<RepositoryRecord> {
        self.builtin()?;
        Some(RepositoryRecord {
            position: u64::MAX,
            ..stored.unwrap_or_else(|| RepositoryRecord::new(BUILTIN, URL, u64::MAX))
        })
    }

    /// Its index.
    pub(super) async fn load_builtin(
        &self,
        record: RepositoryRecord,
        copy: Copy,
    ) -> Result<Arc<Loaded>, PackagesError> {
        let version = make::offer_version();
        let stored = self.stored(&record).await?;
        if let (Some(stored), Copy::Stored) = (&stored, copy)
            && record.etag.as_ref() == Some(&version)
        {
            return Ok(Arc::clone(stored));
        }
        let time = self.builtin().unwrap_or_default();
        let made = making::offer(time).await.and_then(|text| {
            let index = Index::of_recipes(&text).map_err(|reason| PackagesError::Index {
                repository: record.name.clone(),
                reason,
            })?;
            Ok((text, index))
        });
        let (record, text, loaded) = match made {
            Ok((text, index)) => {
                let record = RepositoryRecord {
                    last_sync: Some(now()),
                    last_error: None,
                    etag: Some(version),
                    packages: u64::try_from(index.entries.len()).unwrap_or(u64::MAX),
                    ..record
                };
                let loaded = Arc::new(Loaded::new(&record, index)?);
                (record, Some(text), Ok(loaded))
            }
            Err(error) => {
                let record = RepositoryRecord {
                    last_error: Some(error.to_string()),
                    ..record
                };
                (record, None, stored.ok_or(error))
            }
        };
        let state = Arc::clone(&self.state);
        super::super::blocking(move || {
            let bytes = text.as_deref().map(str::as_bytes);
            Ok(state.store.put_repository(&record, bytes)?)
        })
        .await?;
        let loaded = loaded?;
        self.keep(&loaded);
        Ok(loaded)
    }
}
