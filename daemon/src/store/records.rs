//! Rows of the state database.
//!
//! A row is a version byte, the sha256 of what follows, and the value (JSON, or the bytes of an
//! index). Invariant: a row that decodes is exactly a row that was written. A change of a
//! record's meaning raises `VERSION` and adds a decoder for the one before.

use piston_client::api::{CacheLevel, Token};
use piston_client::ids::{Digest, PackageRef};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Version of the rows that are written.
const VERSION: u8 = 1;
/// Version byte and checksum.
const HEADER: usize = 1 + 32;

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRecord {
    /// Name and version.
    pub package: PackageRef,
    /// `pkg-info.json` as the package has it.
    pub info: String,
    /// sha256 of the image, which is its file name.
    pub image: Digest,
    /// sha256 of the image as the package has it, where it was written anew here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Digest>,
    /// Length of the image file.
    pub image_bytes: u64,
    /// Sum of the lengths of the files in the image.
    pub content_bytes: u64,
    /// sha256 of the package file that it was installed from.
    pub file: Digest,
    /// Repository it came from; none for uploads and packages made here.
    pub repository: Option<String>,
    /// Fingerprint of the key that signed it, where that had to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Whether it was asked for by name.
    pub requested: bool,
    /// The script that runs a program.
    #[serde(with = "base64_bytes")]
    pub run: Option<Vec<u8>>,
    /// The script that compiles.
    #[serde(with = "base64_bytes")]
    pub compile: Option<Vec<u8>>,
    /// Variables of its own `environment`.
    pub own_environment: Vec<(String, String)>,
    /// Variables of a job: its own and its dependencies'.
    pub environment: Vec<(String, String)>,
    /// What it depends on by name, as resolved at install time.
    pub dependencies: Vec<PackageRef>,
    /// Packages of its view, lowest first, itself last.
    pub layers: Vec<PackageRef>,
    /// Things worth knowing.
    pub notes: Vec<String>,
    /// Unix time of the installation.
    pub installed_at: u64,
    /// What the operator set for it; rows of before there was such a thing hold nothing.
    #[serde(default)]
    pub settings: PackageSettings,
}

/// What an operator set for one package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSettings {
    /// Cache level of jobs that say none.
    pub cache: Option<CacheLevel>,
    /// How long entries of its jobs last.
    pub cache_ttl_ms: Option<u64>,
}

/// A configured repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryRecord {
    /// Its name.
    pub name: String,
    /// URL of its index, as configured.
    pub url: String,
    /// Its place in the order.
    pub position: u64,
    /// Unix time of the last good download.
    pub last_sync: Option<u64>,
    /// Why the last download failed.
    pub last_error: Option<String>,
    /// For conditional requests.
    pub etag: Option<String>,
    /// For conditional requests.
    pub last_modified: Option<String>,
    /// Where the index was found after redirects; relative downloads start there.
    pub found_at: Option<String>,
    /// Packages in the stored index.
    pub packages: u64,
    /// Serial of the newest index that was seen.
    #[serde(default)]
    pub serial: u64,
    /// Keys that its packages have to be signed by, ASCII-armored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// Unix time of the newest signature of an index that was seen; 0 before there was one.
    #[serde(default)]
    pub signed_at: u64,
}

impl RepositoryRecord {
    /// A repository that was never downloaded.
    pub fn new(name: &str, url: &str, position: u64) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            position,
            last_sync: None,
            last_error: None,
            etag: None,
            last_modified: None,
            found_at: None,
            packages: 0,
            serial: 0,
            keys: None,
            signed_at: 0,
        }
    }
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What is told of it.
    pub token: Token,
    /// sha256 of its secret, which has as many random bits.
    pub secret: Digest,
}

/// Why a row is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// It is shorter than its header, or its checksum is another.
    #[error("the checksum is wrong")]
    Checksum,
    /// It was written by a newer Piston.
    #[error("it is of version {0}, this is Piston with version {VERSION} rows")]
    Version(u8),
    /// It is whole but can't be read: a bug.
    #[error("it can't be read: {0}")]
    Json(String),
}

/// A package's row.
pub fn row_of_package(record: &PackageRecord) -> Vec<u8> {
    encode(record)
}

/// The package of a row.
pub fn package_of_row(row: &[u8]) -> Result<PackageRecord, RowError> {
    decode(row)
}

/// A record as a row.
pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    frame(&serde_json::to_vec(record).expect("records are plain data with string keys"))
}

/// A row as a record.
pub(super) fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, RowError> {
    serde_json::from_slice(unframe(row)?).map_err(|error| RowError::Json(error.to_string()))
}

/// Puts version and checksum before a value.
pub(super) fn frame(value: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEADER + value.len());
    row.push(VERSION);
    row.extend_from_slice(&Sha256::digest(value));
    row.extend_from_slice(value);
    row
}

/// Checks version and checksum and returns the value.
pub(super) fn unframe(row: &[u8]) -> Result<&[u8], RowError> {
    let (header, value) = row.split_at_checked(HEADER).ok_or(RowError::Checksum)?;
    if header[0] != VERSION {
        return Err(RowError::Version(header[0]));
    }
    if header[1..] != Sha256::digest(value)[..] {
        return Err(RowError::Checksum);
    }
    Ok(value)
}

mod base64_bytes {
    //! Optional bytes as a base64 string: JSON would write an array of numbers.

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "the signature that serde's `with` calls")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes
            .as_ref()
            .map(|bytes| STANDARD.encode(bytes))
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| STANDARD.decode(text).map_err(serde::de::Error::custom))
            .transpose()
    }
}
