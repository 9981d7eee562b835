//! Where a package of the released Piston is: a file, or an entry of an index.
//!
//! The index is the released form, a line `language,version,sha256,url` for each package, or ours.
//! Invariant: what is downloaded has the sha256 that its index says.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use piston_client::ids::Language;

use super::super::super::fetch::{
    self, Fetcher, IndexReply, Location, Patience, Validators, Wanted,
};
use super::super::super::files::AtPath as _;
use super::super::super::index::{Entry, Index, Source};
use super::super::super::version::VersionRange;
use super::super::compressed::Kind;
use super::super::tar_reader::MAX_FILE_BYTES;
use super::super::work::Work;
use super::PistonV2Error;

/// Packages that a message names.
const SHOWN: usize = 10;

/// A package file of this machine, and what it is called in messages.
pub(super) fn local(source: &str, shown: Option<&str>) -> Result<(PathBuf, String), PistonV2Error> {
    let shown = shown.unwrap_or(source).to_owned();
    let path = Path::new(source);
    if !path.is_absolute() {
        let index = place(source)?;
        let reason = "say which of its packages, e.g. python@3.10";
        return Err(wrong(&index, reason.to_owned()));
    }
    let mut first = [0; 6];
    let file = File::open(path).at("open", path)?;
    let read = file.take(6).read(&mut first).at("read", path)?;
    if Kind::of_magic(first.get(..read).unwrap_or_default()) == Kind::Gzip {
        return Ok((path.to_owned(), shown));
    }
    Err(PistonV2Error::Package {
        package: shown,
        reason: "it is no tar.gz; of an index say which package, e.g. python@3.10".to_owned(),
    })
}

/// Downloads the newest package of that name in the range.
pub(super) fn download(
    source: &str,
    language: &Language,
    range: &VersionRange,
    work: &Work,
) -> Result<(PathBuf, String), PistonV2Error> {
    let runtime = fetch::runtime(&work.downloads)?;
    let fetcher = Fetcher::new(Patience::default());
    let mut from = place(source)?;
    let reply = runtime.block_on(fetcher.index(&from, &Validators::default()))?;
    let IndexReply::Changed {
        bytes, found_at, ..
    } = reply
    else {
        return Err(wrong(
            &from,
            "its server says that it has not changed".to_owned(),
        ));
    };
    if matches!(from, Location::Web(_)) {
        from = from
            .join(&found_at)
            .map_err(|error| wrong(&from, error.to_string()))?;
    }
    let index = Index::parse(&bytes).map_err(|error| wrong(&from, error.to_string()))?;
    if let Some(base) = &index.baseurl {
        from = from
            .join(base)
            .map_err(|error| wrong(&from, error.to_string()))?;
    }
    let entry = newest(&index, language, range).map_err(|reason| wrong(&from, reason))?;
    let package = &entry.package;
    let Source::File { download, checksum } = &entry.source else {
        return Err(wrong(&from, format!("{package} is no file")));
    };
    let place = from
        .join(download)
        .map_err(|error| wrong(&from, error.to_string()))?;
    let to = work.downloads.join("package");
    let wanted = Wanted {
        from: &place,
        limit: entry
            .compressed_size
            .unwrap_or(MAX_FILE_BYTES)
            .min(MAX_FILE_BYTES),
        checksum,
        told: &|_| (),
    };
    runtime.block_on(fetcher.package(&wanted, &to))?;
    Ok((to, format!("{package} of {from}")))
}

fn newest<'a>(
    index: &'a Index,
    language: &Language,
    range: &VersionRange,
) -> Result<&'a Entry, String> {
    let of_name = || {
        let entries = index.entries.values();
        entries.filter(|entry| entry.package.language == *language)
    };
    let fitting = of_name().filter(|entry| range.matches(&entry.package.version));
    if let Some(entry) = fitting.max_by(|a, b| a.package.version.cmp(&b.package.version)) {
        return Ok(entry);
    }
    let versions: Vec<String> = of_name()
        .map(|entry| entry.package.version.to_string())
        .collect();
    if versions.is_empty() {
        let count = index.entries.len();
        return Err(format!(
            "none of its {count} packages is called `{language}`"
        ));
    }
    let shown = versions
        .iter()
        .rev()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>();
    Err(format!(
        "it has {language} {}, and {range} is asked for",
        shown.join(", ")
    ))
}

fn place(source: &str) -> Result<Location, PistonV2Error> {
    Location::of_index(source).map_err(|error| PistonV2Error::Fetch(error.into()))
}

fn wrong(index: &Location, reason: String) -> PistonV2Error {
    PistonV2Error::Index {
        index: index.to_string(),
        reason,
    }
}
