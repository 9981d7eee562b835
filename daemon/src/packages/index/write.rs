//! Writing `index.yaml` for a folder of package files, so that a static web server is a
//! repository.
//!
//! Invariants: the same folder gives the same bytes, and one that has changed a higher serial; the
//! index is replaced as a whole; a package file that can't be read is left out and reported, not
//! listed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use piston_client::ids::PackageRef;
use serde::Serialize;

use super::SCHEMA;
use crate::packages::archive::{self, ArchiveError};
use crate::packages::files::{self, AtPath as _, PathError};
use crate::packages::info::PackageInfo;
use crate::packages::signature::{SIGNATURE, SignatureError, Signer};

/// How package files are recognised.
const SUFFIX: &str = ".pkg.tar.gz";
/// Name of the index in its folder.
const NAME: &str = "index.yaml";

/// An index that was written.
#[derive(Debug)]
pub struct IndexWritten {
    /// Where it is.
    pub file: PathBuf,
    /// What it lists, by name, then version.
    pub packages: Vec<PackageRef>,
    /// Package files that were left out, and why.
    pub left_out: Vec<(PathBuf, ArchiveError)>,
}

/// Why an index can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteIndexError {
    /// The folder or a file in it.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Two files hold the same package.
    #[error("{first} and {second} both hold {package}: remove one")]
    Twice {
        /// Which package.
        package: PackageRef,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// It was signed before, and would not be any more.
    #[error(
        "{0} is the signature of the index as it was: sign the new one (--sign KEY), or remove that file"
    )]
    WasSigned(PathBuf),
    /// It can't be signed.
    #[error(transparent)]
    Sign(#[from] SignatureError),
    /// It can't be put into YAML.
    #[error("the index can't be written as YAML: {0}")]
    Yaml(String),
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    serial: u64,
    packages: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    language: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    aliases: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    provides: Vec<Provided<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    dependencies: BTreeMap<String, String>,
    checksums: BTreeMap<&'static str, String>,
    size: u64,
    compressed_size: u64,
    download: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
}

#[derive(Serialize)]
struct Provided<'a> {
    language: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    aliases: &'a [String],
}

/// A package file of the folder.
struct Found {
    file: PathBuf,
    name: String,
    info: PackageInfo,
    size: u64,
    sha256: String,
    length: u64,
    signature: Option<String>,
}

/// Reads every `*.pkg.tar.gz` of `dir` and writes `index.yaml` there. With a key each package is
/// signed, and the index (`index.yaml.asc`); signatures of it that are there stay.
pub fn write_index(dir: &Path, signer: Option<&Signer>) -> Result<IndexWritten, WriteIndexError> {
    let mut found: BTreeMap<PackageRef, Found> = BTreeMap::new();
    let mut left_out = Vec::new();
    for file in package_files(dir)? {
        match read(&file) {
            Ok(read) => {
                let package = read.info.package.clone();
                if let Some(first) = found.insert(package.clone(), read) {
                    let first = first.file;
                    return Err(WriteIndexError::Twice {
                        package,
                        first,
                        second: file,
                    });
                }
            }
            Err(error) => left_out.push((file, error)),
        }
    }
    let file = dir.join(NAME);
    let beside = dir.join(format!("{NAME}{SIGNATURE}"));
    // One that can't be read is no index of ours.
    let old = files::read_bounded(&file, super::MAX_INDEX_BYTES).unwrap_or_default();
    let known = super::Index::parse(&old).ok();
    for found in found.values_mut() {
        found.sign(known.as_ref(), signer)?;
    }
    if signer.is_none() && beside.exists() {
        return Err(WriteIndexError::WasSigned(beside));
    }
    let serial = known.map_or(0, |index| index.serial);
    write_changed(&file, (&old, serial), &found)?;
    if let Some(signer) = signer {
        sign_index(signer, &file, &beside)?;
    }
    Ok(IndexWritten {
        file,
        packages: found.into_keys().collect(),
        left_out,
    })
}

/// Writes the index where it says anything new, with the next serial.
fn write_changed(
    file: &Path,
    (old, serial): (&[u8], u64),
    found: &BTreeMap<PackageRef, Found>,
) -> Result<(), WriteIndexError> {
    let yaml = |serial| {
        let document = Document {
            schema: SCHEMA,
            serial,
            packages: found.values().map(listed).collect(),
        };
        serde_saphyr::to_string(&document).map_err(|error| WriteIndexError::Yaml(error.to_string()))
    };
    if serial == 0 || yaml(serial)?.as_bytes() != old {
        files::write_atomic(file, yaml(serial.saturating_add(1))?.as_bytes())?;
    }
    Ok(())
}

fn sign_index(signer: &Signer, file: &Path, beside: &Path) -> Result<(), WriteIndexError> {
    let open = || std::fs::File::open(file);
    let there = std::fs::read_to_string(beside).unwrap_or_default();
    if !signer.made(&there, open) {
        files::write_atomic(beside, signer.sign(open)?.as_bytes())?;
    }
    Ok(())
}

impl Found {
    /// Takes over the signature that an index has of this very file, where it is by that key or no
    /// key is given; else signs it.
    fn sign(
        &mut self,
        known: Option<&super::Index>,
        signer: Option<&Signer>,
    ) -> Result<(), WriteIndexError> {
        let entry = known.and_then(|index| index.entries.get(&self.info.package));
        let same = entry.filter(|entry| entry.checksums.get("sha256") == Some(&self.sha256));
        let there = same.and_then(|entry| entry.signature.clone());
        let open = || std::fs::File::open(&self.file);
        self.signature = match (there, signer) {
            (there, None) => there,
            (Some(there), Some(signer)) if signer.made(&there, open) => Some(there),
            (_, Some(signer)) => Some(signer.sign(open)?),
        };
        Ok(())
    }
}

/// Sorted, so that the order of the folder does not matter.
fn package_files(dir: &Path) -> Result<Vec<PathBuf>, PathError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        let path = entry.at("list", dir)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.ends_with(SUFFIX) && !name.starts_with('.')) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Found, ArchiveError> {
    let (info, size) = archive::read_info(file)?;
    let (sha256, length) = files::digest(file)?;
    let name = file.file_name().and_then(|name| name.to_str());
    Ok(Found {
        file: file.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        info,
        size,
        sha256: sha256.to_string(),
        length,
        signature: None,
    })
}

fn listed(found: &Found) -> Listed<'_> {
    let info = &found.info;
    let provides = info.provides.iter().map(|provides| Provided {
        language: provides.language.to_string(),
        aliases: &provides.aliases,
    });
    let dependencies = info.dependencies.iter();
    Listed {
        language: info.package.language.to_string(),
        version: info.package.version.to_string(),
        author: info.author.as_deref(),
        aliases: &info.aliases,
        platform: info
            .platform
            .as_ref()
            .map(|platform| platform.text.as_str()),
        provides: provides.collect(),
        dependencies: dependencies
            .map(|(name, range)| (name.to_string(), range.to_string()))
            .collect(),
        checksums: BTreeMap::from([("sha256", found.sha256.clone())]),
        size: found.size,
        compressed_size: found.length,
        download: escaped(&found.name),
        signature: found.signature.as_deref(),
    }
}

/// A file name as a relative URL: `+`, `#`, `%` and spaces would mean something else.
fn escaped(name: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'.')
        .remove(b'-')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(name, KEPT).to_string()
}
