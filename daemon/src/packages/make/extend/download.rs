//! What an extension downloads: pages of an index, and files with checksums.
//!
//! Invariant: everything together is bounded in number and bytes; a file is only there when its
//! checksum is right. Knows nothing of what it downloads.

use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use super::super::super::fetch::{
    self, FetchError, Fetcher, IndexReply, Location, Patience, Wanted,
};
use super::super::super::files;
use super::super::super::index::Checksum;
use super::ExtendError;

/// Bytes of all files together; the largest sets of libraries have some 3 GiB.
const MOST_BYTES: u64 = 8 << 30;
/// Pages and files at most; large sets of JavaScript libraries have some 1500 of each.
const MOST_REQUESTS: u64 = 6000;

/// Downloads one after the other, into a folder.
#[derive(Debug)]
pub(super) struct Downloads {
    runtime: Runtime,
    fetcher: Fetcher,
    folder: PathBuf,
    requests: u64,
    bytes: u64,
}

impl Downloads {
    /// Into an empty folder.
    pub(super) fn new(folder: &Path) -> Result<Self, ExtendError> {
        let runtime = fetch::runtime(folder)?;
        Ok(Self {
            runtime,
            fetcher: Fetcher::new(Patience::default()),
            folder: folder.to_owned(),
            requests: 0,
            bytes: 0,
        })
    }

    /// A page in one of the forms that are named, as text, and where it was in the end; none where
    /// there is none.
    pub(super) fn page(
        &mut self,
        from: &Location,
        forms: &'static str,
    ) -> Result<Option<(String, Location)>, ExtendError> {
        self.count()?;
        let reply = self.runtime.block_on(self.fetcher.page(from, forms));
        match reply {
            Ok(IndexReply::Changed {
                bytes, found_at, ..
            }) => {
                let found_at = match from {
                    Location::File(_) => from.clone(),
                    Location::Web(_) => from.join(&found_at).map_err(FetchError::from)?,
                };
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Ok(Some((text, found_at)))
            }
            Ok(IndexReply::Unchanged)
            | Err(FetchError::Status {
                code: 404 | 410, ..
            }) => Ok(None),
            Err(FetchError::Path(error)) if error.source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Downloads a file that has to have a checksum.
    pub(super) fn file(
        &mut self,
        from: &Location,
        checksum: &Checksum,
    ) -> Result<PathBuf, ExtendError> {
        self.count()?;
        let to = self.folder.join(self.requests.to_string());
        let wanted = Wanted {
            from,
            limit: MOST_BYTES - self.bytes,
            checksum,
            told: &|_| (),
        };
        self.runtime.block_on(self.fetcher.package(&wanted, &to))?;
        self.bytes = (self.bytes + files::length(&to)?).min(MOST_BYTES);
        Ok(to)
    }

    fn count(&mut self) -> Result<(), ExtendError> {
        self.requests += 1;
        if self.requests > MOST_REQUESTS {
            return Err(ExtendError::TooMuch {
                what: "it takes more downloads".to_owned(),
                most: MOST_REQUESTS.to_string(),
            });
        }
        Ok(())
    }
}
