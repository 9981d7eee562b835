//! Repository indexes: `ppman-repo-1` YAML and the released Piston's CSV, into typed entries.
//!
//! Owns both readers and, in [`write_index`], the writer. Invariants: an [`Entry`] is checked
//! (names, versions, ranges, a strong checksum); an entry that is not acceptable is left out with
//! a warning and does not take the others with it; reading is bounded and never panics. Knows
//! nothing of where an index comes from.

mod write;

use std::collections::{BTreeMap, BTreeSet};

use piston_client::ids::{Digest, Language, PackageRef};
use serde::Deserialize;

use super::resolve::{Candidate, Shelf, Trust};
use super::version::VersionRange;

pub use write::{IndexWritten, WriteIndexError, write_index};

/// Longest index that is read.
pub const MAX_INDEX_BYTES: u64 = 32 << 20;
/// The schema that is read and written.
const SCHEMA: &str = "ppman-repo-1";
/// Most values that are read of one: some 60,000 packages with everything.
const MAX_NODES: usize = 2_000_000;
/// Most warnings that are kept.
const MAX_WARNINGS: usize = 100;

/// Why an index can't be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It is empty, not text, or neither of the two forms.
    #[error("the index is refused: {0}")]
    Form(String),
    /// It is of another schema.
    #[error("the index is of schema `{0}`; `{SCHEMA}` is understood")]
    Schema(String),
}

/// A checksum that is strong enough to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// sha256, lower-case hex.
    Sha256(Digest),
    /// sha512.
    Sha512(Box<[u8; 64]>),
}

/// What an index says of where a package comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A package file.
    File {
        /// Where it is, relative to the index's base.
        download: String,
        /// The strongest of its checksums.
        checksum: Checksum,
    },
    /// It is made here, by the recipe of that name; its checksum is known when it is made.
    Recipe(String),
}

/// One package of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name and version.
    pub package: PackageRef,
    /// Who made it.
    pub author: Option<String>,
    /// Other names of its language.
    pub aliases: Vec<String>,
    /// Bytes uncompressed; 0 when the index does not say.
    pub size: u64,
    /// Length of the package file, when the index says.
    pub compressed_size: Option<u64>,
    /// Every checksum, as given.
    pub checksums: BTreeMap<String, String>,
    /// What it needs.
    pub dependencies: BTreeMap<Language, VersionRange>,
    /// The same, as given.
    pub dependency_texts: BTreeMap<String, String>,
    /// Armored detached OpenPGP signature of the package file.
    pub signature: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// What it is made of.
    pub built_from: Vec<String>,
    /// Where the recipe is.
    pub buildfile: Option<String>,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Where relative downloads start; the index's own place when it does not say.
    pub baseurl: Option<String>,
    /// Its packages, by name, then version.
    pub entries: BTreeMap<PackageRef, Entry>,
    /// Why entries were left out.
    pub warnings: Vec<String>,
    /// Grows with each change of the index; 0 when it does not say.
    pub serial: u64,
}

#[derive(Deserialize)]
struct Raw {
    schema: String,
    serial: Option<String>,
    baseurl: Option<String>,
    packages: Option<Vec<RawEntry>>,
}

/// Scalars are read as text, so that `3.10` stays what it is and an error names its entry.
#[derive(Default, Deserialize)]
struct RawEntry {
    language: Option<String>,
    version: Option<String>,
    author: Option<String>,
    aliases: Option<Vec<String>>,
    checksums: Option<BTreeMap<String, String>>,
    dependencies: Option<BTreeMap<String, String>>,
    size: Option<String>,
    compressed_size: Option<String>,
    buildfile: Option<String>,
    download: Option<String>,
    built_from: Option<Vec<String>>,
    signature: Option<String>,
}

/// Whose entries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A repository's: package files with checksums.
    Files,
    /// Our own, of recipes.
    Recipes,
}

/// How a download begins that names a recipe.
pub(crate) const RECIPE: &str = "recipe:";

impl Checksum {
    /// Its name.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    /// Lower-case hex.
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.to_string(),
            Self::Sha512(bytes) => hex::encode(bytes.as_slice()),
        }
    }

    /// The strongest of those given.
    fn strongest(given: &BTreeMap<String, String>) -> Result<Self, String> {
        if let Some(text) = given.get("sha512") {
            let bytes = hex::decode(text).ok();
            let bytes = bytes.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
            let bytes = bytes.ok_or("its sha512 is not 128 hex digits")?;
            return Ok(Self::Sha512(Box::new(bytes)));
        }
        if let Some(text) = given.get("sha256") {
            let digest = text
                .parse()
                .map_err(|_| "its sha256 is not 64 hex digits")?;
            return Ok(Self::Sha256(digest));
        }
        if given.is_empty() {
            return Err("it has no checksum".to_owned());
        }
        let given: Vec<&str> = given.keys().map(String::as_str).collect();
        Err(format!(
            "its only checksum is {}, which can be forged; sha256 or sha512 is needed",
            given.join(" and ")
        ))
    }
}

impl Index {
    /// Reads an index in either form.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let form = |reason: &str| IndexError::Form(reason.to_owned());
        if u64::try_from(bytes.len()).map_or(true, |length| length > MAX_INDEX_BYTES) {
            return Err(form("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| form("it is not UTF-8 text"))?;
        let first = text.lines().map(str::trim).find(|line| !line.is_empty());
        let Some(first) = first else {
            return Err(form("it is empty"));
        };
        if looks_like_csv(first) {
            Ok(read_csv(text))
        } else {
            read_yaml(text, Kind::Files)
        }
    }

    /// Reads the index of what is made here.
    pub(crate) fn of_recipes(text: &str) -> Result<Self, IndexError> {
        read_yaml(text, Kind::Recipes)
    }

    /// What the resolver chooses from.
    pub fn shelf(&self, trust: Trust) -> Shelf {
        let candidates = self.entries.values().map(|entry| Candidate {
            package: entry.package.clone(),
            dependencies: entry.dependencies.clone(),
            trust,
        });
        candidates.collect()
    }

    fn new(kind: Kind, raw: impl Iterator<Item = RawEntry>) -> Self {
        let mut index = Self {
            baseurl: None,
            entries: BTreeMap::new(),
            warnings: Vec::new(),
            serial: 0,
        };
        for (number, raw) in raw.enumerate() {
            let name = format!(
                "entry {} ({} {})",
                number + 1,
                shortened(raw.language.as_deref()),
                shortened(raw.version.as_deref())
            );
            match raw.check(kind) {
                Ok(entry) if index.entries.contains_key(&entry.package) => {
                    index.warn(format!("{name} left out: it is listed twice"));
                }
                Ok(entry) => {
                    index.entries.insert(entry.package.clone(), entry);
                }
                Err(reason) => index.warn(format!("{name} left out: {reason}")),
            }
        }
        index
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }
}

impl RawEntry {
    fn check(self, kind: Kind) -> Result<Entry, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let language = self.language.ok_or("it has no language")?;
        let version = self.version.ok_or("it has no version")?;
        let package = PackageRef::new(
            language.parse().map_err(|error| text(&error))?,
            version.parse().map_err(|error| text(&error))?,
        );
        let checksums: BTreeMap<String, String> = self
            .checksums
            .unwrap_or_default()
            .into_iter()
            .map(|(algorithm, value)| (algorithm.to_lowercase(), value.trim().to_lowercase()))
            .collect();
        let dependency_texts = self.dependencies.unwrap_or_default();
        let mut dependencies = BTreeMap::new();
        for (name, range) in &dependency_texts {
            let name: Language = name.parse().map_err(|error| text(&error))?;
            dependencies.insert(name, range.parse().map_err(|error| text(&error))?);
        }
        let download = self.download.filter(|download| !download.is_empty());
        let download = download.ok_or("it has no download")?;
        let source = match (kind, download.strip_prefix(RECIPE)) {
            (Kind::Recipes, Some(recipe)) => Source::Recipe(recipe.to_owned()),
            _ => Source::File {
                checksum: Checksum::strongest(&checksums)?,
                download,
            },
        };
        Ok(Entry {
            package,
            author: self.author,
            aliases: self.aliases.unwrap_or_default(),
            size: number("size", self.size)?.unwrap_or(0),
            compressed_size: number("compressed_size", self.compressed_size)?,
            checksums,
            dependencies,
            dependency_texts,
            source,
            signature: self.signature,
            built_from: self.built_from.unwrap_or_default(),
            buildfile: self.buildfile,
        })
    }
}

fn number(key: &str, text: Option<String>) -> Result<Option<u64>, String> {
    let parse = |text: String| match text.parse() {
        Ok(number) => Ok(number),
        Err(_) => Err(format!("its {key} is not a number")),
    };
    text.map(parse).transpose()
}

fn shortened(word: Option<&str>) -> String {
    word.unwrap_or("?").chars().take(64).collect()
}

fn read_yaml(text: &str, kind: Kind) -> Result<Index, IndexError> {
    // Anchors and aliases have no use in an index and are how small texts become large values.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 64,
            max_anchors: 64,
            max_documents: 1,
            max_nodes: MAX_NODES,
            max_events: 2 * MAX_NODES,
        },
    };
    let raw: Raw = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let reason = error.to_string();
        let first = reason.lines().next().unwrap_or_default();
        IndexError::Form(first.chars().take(300).collect())
    })?;
    if raw.schema != SCHEMA {
        return Err(IndexError::Schema(shortened(Some(&raw.schema))));
    }
    let entries = raw.packages.unwrap_or_default();
    let serial = number("serial", raw.serial).map_err(IndexError::Form)?;
    Ok(Index {
        baseurl: raw.baseurl,
        serial: serial.unwrap_or(0),
        ..Index::new(kind, entries.into_iter())
    })
}

/// `language,version,sha256,download`
fn looks_like_csv(line: &str) -> bool {
    let fields: Vec<&str> = line.split(',').collect();
    let sha256 = |word: &str| word.trim().parse::<Digest>().is_ok();
    fields.len() >= 4 && (sha256(fields[2]) || fields[0].trim() == "language")
}

fn read_csv(text: &str) -> Index {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let records = reader.records().filter_map(Result::ok);
    let records = records.filter(|record| record.get(0) != Some("language"));
    let entries = records.map(|record| {
        let field = |number| record.get(number).map(ToOwned::to_owned);
        let sha256 = field(2).map(|sha256| ("sha256".to_owned(), sha256));
        RawEntry {
            language: field(0),
            version: field(1),
            checksums: Some(sha256.into_iter().collect()),
            download: field(3),
            ..RawEntry::default()
        }
    });
    Index::new(Kind::Files, entries)
}

/// Names in an index, for suggestions.
pub(crate) fn languages(index: &Index) -> BTreeSet<&str> {
    let names = index.entries.keys();
    names.map(|package| package.language.as_str()).collect()
}

#[cfg(test)]
mod tests;
