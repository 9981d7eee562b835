//! Checking an installed package again: is what is on the disk what was installed?
//!
//! The image's sha256 first, then the walk in the limited child, as when it was installed. An index
//! that is not the one that the walk gives is replaced; the daemon goes on with what it has in
//! memory. Changes nothing else: what to do about a damaged image is the operator's.

use std::path::Path;
use std::sync::Arc;

use piston_client::api::VerifyReply;
use piston_client::ids::PackageRef;
use piston_client::units::Bytes;

use super::data::Staging;
use super::error::PackagesError;
use super::files::{self, AtPath as _};
use super::state::State;
use super::verify::{Verifier, VerifyError};
use super::{Hold, Packages, VersionRange, blocking};
use crate::error::chain;
use crate::store::records::PackageRecord;

/// What a check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What is wrong.
    pub(super) problems: Vec<String>,
    /// What was wrong.
    pub(super) notes: Vec<String>,
}

impl Packages {
    /// Checks an installed package again.
    pub async fn verify(&self, package: &PackageRef) -> Result<VerifyReply, PackagesError> {
        let exact = package.version.to_string().parse();
        let exact = exact.unwrap_or_else(|_| VersionRange::any());
        let slot = self
            .state
            .registry
            .lease(|installed| installed.get(package).cloned());
        let slot = slot.ok_or_else(|| self.not_installed(package.language.as_str(), &exact))?;
        // Its files stay while they are read.
        let _hold = Hold {
            state: Arc::clone(&self.state),
            package: package.clone(),
        };
        let mut found = check(&self.state, &self.verifier, &slot.record).await?;
        if let Err(reason) = &slot.published {
            found.problems.push(format!("it is not usable: {reason}"));
        }
        Ok(VerifyReply {
            package: package.clone(),
            image: slot.record.image,
            image_bytes: Bytes(slot.record.image_bytes),
            problems: found.problems,
            notes: found.notes,
        })
    }
}

/// Checks the files of a record.
async fn check(
    state: &State,
    verifier: &Verifier,
    record: &PackageRecord,
) -> Result<Found, PackagesError> {
    let staging = Staging::new(&state.data.staging())?;
    let (image, index) = (
        state.data.image(&record.image),
        state.data.index(&record.image),
    );
    let mut found = Found::default();
    match check_image(verifier, record, &image, &staging).await? {
        Ok(fresh) => {
            let renewed = blocking(move || Ok(renew(&fresh, &index))).await?;
            found.notes.extend(renewed);
        }
        Err(problem) => found.problems.push(problem),
    }
    Ok(found)
}

/// Checks an image against its record; its fresh index in the staging directory, or what is wrong.
pub(super) async fn check_image(
    verifier: &Verifier,
    record: &PackageRecord,
    image: &Path,
    staging: &Staging,
) -> Result<Result<std::path::PathBuf, String>, PackagesError> {
    let file = image.to_owned();
    let digest = blocking(move || Ok(files::digest(&file))).await?;
    match digest {
        Ok((digest, _)) if digest == record.image => {}
        Ok((digest, length)) => {
            let (want, expected) = (record.image, record.image_bytes);
            return Ok(Err(format!(
                "its image has sha256 {digest} and {length} bytes, it was installed with {want} and {expected}"
            )));
        }
        Err(error) => return Ok(Err(chain(&error))),
    }
    let fresh = staging.path.join("package.index");
    match verifier.verify(image, &fresh).await {
        Ok(_) => Ok(Ok(fresh)),
        Err(VerifyError::Refused(reason)) => Ok(Err(format!("its image is refused: {reason}"))),
        Err(VerifyError::Child(reason)) => Err(PackagesError::Internal(reason)),
    }
}

/// Puts a fresh index in the place of one that is another; a sentence where it was.
fn renew(fresh: &Path, index: &Path) -> Option<String> {
    let same = std::fs::read(fresh)
        .and_then(|fresh| Ok(fresh == std::fs::read(index)?))
        .unwrap_or(false);
    if same {
        return None;
    }
    let synced = std::fs::File::open(fresh).and_then(|file| file.sync_all());
    let renewed = synced
        .at("sync", fresh)
        .and_then(|()| files::rename_durably(fresh, index));
    Some(match renewed {
        Ok(()) => "the index of its image was damaged, and is written anew".to_owned(),
        Err(error) => format!(
            "the index of its image is damaged, and can't be written anew: {}",
            chain(&error)
        ),
    })
}
