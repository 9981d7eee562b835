//! Repositories and what they list in the form of the API.
//!
//! Pure conversions.

use std::collections::BTreeMap;

use piston_client::api;
use piston_client::ids::Digest;
use piston_client::units::Bytes;

use super::super::index::{Entry, RECIPE, Source};
use super::super::signature::Keys;
use super::Loaded;
use crate::store::records::RepositoryRecord;

/// A record in the form of the API.
pub(crate) fn shown(record: RepositoryRecord) -> api::Repository {
    api::Repository {
        keys: record
            .keys
            .as_deref()
            .and_then(|keys| Some(Keys::parse(keys).ok()?.fingerprints()))
            .unwrap_or_default(),
        name: record.name,
        url: record.url,
        state: api::RepoState {
            last_sync: record.last_sync,
            last_error: record.last_error,
            packages: record.packages,
        },
    }
}

/// An index in the form of the API; `installed` tells the sha256 of the file that it was installed
/// from, where that very package is installed.
pub(crate) fn listed(
    repository: &Loaded,
    installed: impl Fn(&Entry) -> Option<Digest>,
) -> Vec<api::AvailablePackage> {
    let entries = repository.index.entries.values();
    entries
        .map(|entry| (entry, installed(entry)))
        .map(|(entry, installed)| api::AvailablePackage {
            repository: repository.name.clone(),
            language: entry.package.language.clone(),
            version: entry.package.version.clone(),
            author: entry.author.clone(),
            aliases: entry.aliases.clone(),
            size: Bytes(entry.size),
            checksums: match (&entry.source, installed) {
                (Source::Recipe(_), Some(made)) => {
                    BTreeMap::from([("sha256".to_owned(), made.to_string())])
                }
                _ => entry.checksums.clone(),
            },
            dependencies: entry.dependency_texts.clone(),
            download: match &entry.source {
                Source::File { download, .. } => repository
                    .location(download)
                    .map_or_else(|_| download.clone(), |location| location.to_string()),
                Source::Recipe(recipe) => format!("{RECIPE}{recipe}"),
            },
            built_from: entry.built_from.clone(),
            buildfile: entry.buildfile.clone(),
            installed: installed.is_some(),
        })
        .collect()
}
