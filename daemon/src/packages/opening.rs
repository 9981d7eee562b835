//! Opening the data directory: sweep, renew what can be renewed, publish.
//!
//! Invariant: one package that can't be used any more does not keep the others from being used.

use std::sync::Arc;

use piston_fs::image::ImageError;

use super::blocking;
use super::data::{DataDirectory, Staging};
use super::error::PackagesError;
use super::files;
use super::state::{Shown, State};
use super::verify::Verifier;
use super::view::Part;
use crate::store::records::PackageRecord;

/// Opens the state, sweeps, renews indexes of images that can't be read, publishes.
pub(super) async fn open(
    data: DataDirectory,
    shown: Shown,
    verifier: &Verifier,
) -> Result<Arc<State>, PackagesError> {
    let (state, records) = blocking(move || {
        files::private_directory(&data.root)?;
        data.prepare()?;
        let state = State::open(data, shown)?;
        let records = state.store.packages()?;
        state.sweep(&records)?;
        state.data.keep_copies(&records)?;
        state.data.drop_downloads_of(&records)?;
        Ok((Arc::new(state), records))
    })
    .await?;
    let (unusable, records, parts) = open_images(Arc::clone(&state), records).await?;
    renew_indexes(&state, &records, &unusable, verifier).await;
    let restored = Arc::clone(&state);
    blocking(move || {
        restored.restore(records);
        // The views hold the images now.
        drop(parts);
        Ok(())
    })
    .await?;
    Ok(state)
}

/// Opens every image once; says of each record whether only its index is at fault.
async fn open_images(
    state: Arc<State>,
    records: Vec<PackageRecord>,
) -> Result<(Vec<bool>, Vec<PackageRecord>, Vec<Part>), PackagesError> {
    blocking(move || {
        let mut parts = Vec::new();
        let mut unusable = Vec::with_capacity(records.len());
        for record in &records {
            let opened = state.open_part(record);
            unusable.push(match &opened {
                Err(ImageError::Index { .. }) => true,
                Err(ImageError::Io { path, .. }) => *path == state.data.index(&record.image),
                _ => false,
            });
            parts.extend(opened.ok());
        }
        Ok((unusable, records, parts))
    })
    .await
}

/// Checks images again whose index is gone, damaged or of another version.
async fn renew_indexes(
    state: &State,
    records: &[PackageRecord],
    unusable: &[bool],
    verifier: &Verifier,
) {
    let at_fault = records
        .iter()
        .zip(unusable)
        .filter(|(_, unusable)| **unusable);
    for (record, _) in at_fault {
        let renewed = renew_index(state, record, verifier).await;
        match renewed {
            Ok(()) => tracing::info!(pkg = %record.package, "index of the image renewed"),
            Err(error) => tracing::error!(pkg = %record.package, %error, "image not usable"),
        }
    }
}

async fn renew_index(
    state: &State,
    record: &PackageRecord,
    verifier: &Verifier,
) -> Result<(), PackagesError> {
    let staging = Staging::new(&state.data.staging())?;
    let index = staging.path.join("package.index");
    let image = state.data.image(&record.image);
    let verified = verifier.verify(&image, &index).await;
    let verified =
        verified.map_err(|error| PackagesError::refused(&record.package, error.to_string()))?;
    if verified.digest != *record.image.as_bytes() {
        let reason = "its image is not the one that was installed; uninstall it";
        return Err(PackagesError::refused(&record.package, reason));
    }
    Ok(files::rename_durably(
        &index,
        &state.data.index(&record.image),
    )?)
}
