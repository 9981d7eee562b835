//! Repositories and what they list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Language, Version};
use crate::units::Bytes;

/// Body of `PUT /repos/{repo}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// `https://`, `http://` or `file://` URL of the index.
    pub url: String,
    /// ASCII-armored OpenPGP public keys, one or more blocks: a package of the repository has to be
    /// signed by one of them. Absent: packages need no signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
}

impl RepositorySettings {
    /// A repository whose packages need no signature.
    pub fn unsigned(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            keys: None,
        }
    }
}

/// One configured repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// URL of its index.
    pub url: String,
    /// Fingerprints of the keys that its packages have to be signed by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// What is known of the last download of its index.
    #[serde(flatten)]
    pub state: RepoState,
}

/// The last download of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RepoState {
    /// Unix time in seconds, absent when it was never downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<u64>,
    /// Why the last download failed; the stored copy serves meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Packages in the stored index.
    pub packages: u64,
}

/// One package of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AvailablePackage {
    /// Repository that lists it.
    pub repository: String,
    /// Its name.
    pub language: Language,
    /// Its version.
    pub version: Version,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Other names of its language.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Bytes uncompressed, 0 when the index does not say.
    pub size: Bytes,
    /// Checksums of the package file by algorithm; of what is made here they are known once it is made.
    pub checksums: BTreeMap<String, String>,
    /// Name -> range of what it needs.
    pub dependencies: BTreeMap<String, String>,
    /// Where the package file is; `recipe:NAME` where it is made when it is installed.
    pub download: String,
    /// What it is made of, where it is made when it is installed: Debian's packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub built_from: Vec<String>,
    /// Where the recipe is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildfile: Option<String>,
    /// Whether this very package is installed.
    pub installed: bool,
}
