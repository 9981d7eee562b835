//! Whether an index may be believed, where its repository has keys.
//!
//! The signature is a file beside the index. Invariant: what a repository once signed it goes on
//! signing, and never with an earlier time.

use std::sync::Arc;

use super::super::error::PackagesError;
use super::super::fetch::Location;
use super::super::signature::{Keys, SIGNATURE, SignatureError};
use super::Repositories;
use crate::store::records::RepositoryRecord;

impl Repositories {
    /// When an index was signed, where its repository has keys; 0 for one that never was. One that
    /// is signed by nobody who is trusted, earlier than the last, or not any more, is refused.
    pub(super) async fn signed_at(
        &self,
        record: &RepositoryRecord,
        found_at: &str,
        bytes: &Arc<Vec<u8>>,
    ) -> Result<u64, PackagesError> {
        let Some(keys) = &record.keys else {
            return Ok(0);
        };
        let refused = |reason| PackagesError::Signature {
            what: "the index".to_owned(),
            repository: record.name.clone(),
            reason,
        };
        let failed = |reason| PackagesError::Fetch {
            repository: record.name.clone(),
            reason,
        };
        let keys = Keys::parse(keys).map_err(refused)?;
        let place = Location::of_index(found_at).map_err(|error| failed(error.into()))?;
        let signature = self
            .fetcher
            .beside(&place, SIGNATURE)
            .await
            .map_err(failed)?;
        let Some(signature) = signature else {
            return match record.signed_at {
                0 => Ok(0),
                _ => Err(refused(SignatureError::NoMore)),
            };
        };
        let bytes = Arc::clone(bytes);
        let checked = super::super::blocking(move || {
            let signature = String::from_utf8_lossy(&signature);
            Ok(keys.check(&signature, || Ok(bytes.as_slice())))
        });
        let signed = checked.await?.map_err(refused)?;
        if signed.at < record.signed_at {
            return Err(refused(SignatureError::Older {
                at: signed.at,
                seen: record.signed_at,
            }));
        }
        Ok(signed.at)
    }
}
