//! A wheel: checked as a whole, then laid out as its Python looks for it (PEP 427).
//!
//! Invariants: names are relative, plain and there once; entries are files or directories, not
//! encrypted, and do not overlap in the archive; every file is in RECORD with its sha256, and has
//! it; all wheels together unpack to a bounded length; no name is ever a path of the host. Whatever
//! is not like this is an error that names the file. Nothing of a wheel is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use piston_client::ids::Digest;
use zip::ZipArchive;

use super::super::super::super::files::{AtPath as _, Hashing};
use super::super::super::plan::{Content, Item, Plan};
use super::super::super::work::Spool;
use super::super::ExtendError;
use super::super::entry::check_name;
use super::super::python::Python;
use super::metadata::Metadata;
use super::project::normal;

/// Entries of one wheel; the largest have some 20,000.
const MAX_ENTRIES: usize = 200_000;
/// Bytes of a metadata file, which is read into memory.
const MAX_SMALL_BYTES: u64 = 32 << 20;
/// Bytes that all wheels together unpack to.
const MAX_UNPACKED_BYTES: u64 = 16 << 30;
/// The time of everything: the first that a zip file can express, which builders of reproducible
/// wheels write.
const TIME: u32 = 315_532_800;

/// A wheel whose names are checked.
pub(super) struct Wheel {
    file: String,
    archive: ZipArchive<BufReader<File>>,
    /// Its files by name, each with its number in the archive.
    files: BTreeMap<String, usize>,
    /// The start of `NAME-VERSION.dist-info`.
    stem: String,
}

/// Where wheels are laid out.
pub(super) struct Layout<'a> {
    /// The Python that they are for.
    pub(super) python: &'a Python,
    /// What goes into the image.
    pub(super) plan: &'a mut Plan,
    /// Where contents go.
    pub(super) spool: Spool,
    /// Bytes so far.
    pub(super) bytes: u64,
    /// What is worth telling.
    pub(super) notes: Vec<String>,
    /// The digests of files, to tell equal ones.
    digests: BTreeMap<String, Digest>,
}

impl<'a> Layout<'a> {
    /// Nothing is there yet.
    pub(super) fn new(python: &'a Python, plan: &'a mut Plan, spool: Spool) -> Self {
        Self {
            python,
            plan,
            spool,
            bytes: 0,
            notes: Vec::new(),
            digests: BTreeMap::new(),
        }
    }
}

impl Wheel {
    /// Opens a wheel and checks every name; `file` is what the index calls it.
    pub(super) fn open(path: &Path, file: &str) -> Result<Self, ExtendError> {
        let refused = |reason: &str| ExtendError::file(file, reason);
        let reader = BufReader::new(File::open(path).at("open", path)?);
        let mut archive = ZipArchive::new(reader).map_err(|error| damaged(file, &error))?;
        if archive.len() > MAX_ENTRIES {
            return Err(refused("it has over 200,000 entries"));
        }
        if archive.has_duplicate_names() {
            return Err(refused("it has two entries of one name"));
        }
        if archive
            .has_overlapping_entries()
            .map_err(|error| damaged(file, &error))?
        {
            return Err(refused("its entries overlap"));
        }
        let mut files = BTreeMap::new();
        for number in 0..archive.len() {
            let entry = archive
                .by_index_data(number)
                .map_err(|error| damaged(file, &error))?;
            let name = entry
                .name()
                .map_err(|error| damaged(file, &error))?
                .into_owned();
            let wrong =
                |reason: &str| Err(refused(&format!("its entry `{}` {reason}", shown(&name))));
            if let Err(reason) = check_name(&name) {
                return wrong(reason);
            }
            if entry.encrypted() {
                return wrong("is encrypted");
            }
            let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
            if entry.is_symlink() || !matches!(kind, 0 | 0o100_000 | 0o040_000) {
                return wrong("is a symlink, a device or a pipe");
            }
            if !name.ends_with('/') && files.insert(name.clone(), number).is_some() {
                return wrong("is there twice");
            }
        }
        if let Some(name) = files.keys().find(|name| has_file_above(&files, name)) {
            let reason = format!("its entry `{}` lies in a file", shown(name));
            return Err(refused(&reason));
        }
        let stem = stem(&files).ok_or_else(|| refused("it has not exactly one .dist-info"))?;
        Ok(Self {
            file: file.to_owned(),
            archive,
            files,
            stem,
        })
    }

    /// What it says of itself.
    pub(super) fn metadata(&mut self) -> Result<Metadata, ExtendError> {
        let text = self.text("METADATA")?;
        Metadata::parse(&text.unwrap_or_default(), &self.file)
    }

    /// Lays it out.
    pub(super) fn unpack(&mut self, layout: &mut Layout<'_>) -> Result<(), ExtendError> {
        let format = self.text("WHEEL")?.unwrap_or_default();
        let version = format
            .lines()
            .find_map(|line| line.strip_prefix("Wheel-Version:"));
        if !version.is_some_and(|version| version.trim().starts_with("1.")) {
            return Err(self.refused("its format is not that of wheels 1.x"));
        }
        let mut record = self.record()?;
        let own = format!("{}.dist-info/RECORD", self.stem);
        for (name, number) in self.files.clone() {
            let is_record = name
                .strip_prefix(&own)
                .is_some_and(|e| matches!(e, "" | ".jws" | ".p7s"));
            let digest = record.remove(&name).flatten();
            if !is_record && digest.is_none() {
                return Err(self.entry_refused(&name, "is not in RECORD with a sha256"));
            }
            self.file(&name, number, digest, layout)?;
        }
        record.remove(&own);
        if let Some(name) = record.into_keys().next() {
            return Err(self.entry_refused(&name, "is in RECORD, and is not there"));
        }
        self.console_scripts(layout)
    }

    fn file(
        &mut self,
        name: &str,
        number: usize,
        digest: Option<Digest>,
        layout: &mut Layout<'_>,
    ) -> Result<(), ExtendError> {
        let (path, is_script) = self.place(name, layout.python)?;
        let entry = self.archive.by_index(number);
        let entry = entry.map_err(|error| damaged(&self.file, &error))?;
        let length = entry.size();
        layout.bytes = layout.bytes.saturating_add(length);
        if layout.bytes > MAX_UNPACKED_BYTES {
            return Err(ExtendError::TooMuch {
                what: format!("with {} the libraries unpack to over 16 GiB", self.file),
                most: "16 GiB".to_owned(),
            });
        }
        let executable = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
        let mut bytes = Hashing::new(entry.take(length.saturating_add(1)));
        let kept = layout.spool.keep(&mut bytes);
        let kept = kept.map_err(|error| damaged(&self.file, &error))?;
        let (got, read) = bytes.finish();
        if read != length {
            return Err(self.entry_refused(name, "is not as long as it says"));
        }
        if digest.is_some_and(|digest| digest != got) {
            return Err(self.entry_refused(name, "has not the sha256 that RECORD says"));
        }
        if layout.digests.get(&path) == Some(&got) {
            return Ok(());
        }
        if layout.plan.contains(&path) {
            let note = format!(
                "{path} is in several libraries; that of {} is left out",
                self.file
            );
            layout.notes.push(note);
            return Ok(());
        }
        if layout.plan.lies_in_file(&path) {
            return Err(self.entry_refused(name, "would lie in a file of another library"));
        }
        if is_script {
            return script(&path, &kept, layout);
        }
        layout.digests.insert(path.clone(), got);
        layout.plan.host_file(&path, kept, executable, TIME);
        Ok(())
    }

    /// Where an entry goes, and whether it is a script.
    fn place(&self, name: &str, python: &Python) -> Result<(String, bool), ExtendError> {
        let data = format!("{}.data/", self.stem);
        let Some(rest) = name.strip_prefix(&data) else {
            return Ok((format!("{}/{name}", python.site), false));
        };
        let (kind, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let project = self
            .stem
            .split_once('-')
            .map_or(&*self.stem, |(name, _)| name);
        let folder = match kind {
            "purelib" | "platlib" => python.site.clone(),
            "scripts" => format!("{}/bin", python.prefix),
            "data" => python.prefix.clone(),
            "headers" => format!(
                "{}/include/python3.{}/{project}",
                python.prefix, python.minor
            ),
            _ => return Err(self.entry_refused(name, "is of an unknown kind of data")),
        };
        if rest.is_empty() {
            return Err(self.entry_refused(name, "has no name below its kind of data"));
        }
        Ok((format!("{folder}/{rest}"), kind == "scripts"))
    }

    /// Scripts that call a function, as an installer writes them.
    fn console_scripts(&mut self, layout: &mut Layout<'_>) -> Result<(), ExtendError> {
        let text = self.text("entry_points.txt")?.unwrap_or_default();
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[console_scripts]";
            } else if let Some((name, target)) = line.split_once('=').filter(|_| inside) {
                let (name, target) = (name.trim(), target.trim());
                let target = target
                    .split_once('[')
                    .map_or(target, |(target, _)| target.trim());
                let wrong = || self.entry_refused("entry_points.txt", "names no function");
                let (module, function) = target.split_once(':').ok_or_else(wrong)?;
                let dotted = |text: &str| {
                    !text.is_empty()
                        && text
                            .chars()
                            .all(|c| c.is_alphanumeric() || "_.".contains(c))
                };
                let (module, function) = (module.trim(), function.trim());
                if check_name(name).is_err()
                    || name.contains('/')
                    || !dotted(module)
                    || !dotted(function)
                {
                    return Err(wrong());
                }
                let first = function.split('.').next().unwrap_or(function);
                let text = format!(
                    "#!{}\nimport sys\nfrom {module} import {first}\nsys.exit({function}())\n",
                    layout.python.interpreter
                );
                executable(
                    layout.plan,
                    &format!("{}/bin/{name}", layout.python.prefix),
                    text,
                );
            }
        }
        Ok(())
    }

    /// The files of RECORD, with their sha256 where it gives one.
    fn record(&mut self) -> Result<BTreeMap<String, Option<Digest>>, ExtendError> {
        let text = self.text("RECORD")?;
        let text = text.ok_or_else(|| self.refused("it has no RECORD"))?;
        let mut rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut record = BTreeMap::new();
        for row in rows.records() {
            let row = row.map_err(|error| self.refused(&format!("its RECORD: {error}")))?;
            let name = row.get(0).unwrap_or_default();
            let sha256 = row.get(1).and_then(|hash| hash.strip_prefix("sha256="));
            let digest =
                sha256.and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok());
            let digest = digest.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            let digest = digest.map(Digest::from_bytes);
            if record.insert(name.to_owned(), digest).is_some() {
                return Err(self.entry_refused(name, "is twice in RECORD"));
            }
        }
        Ok(record)
    }

    /// A file of its `.dist-info`.
    fn text(&mut self, name: &str) -> Result<Option<String>, ExtendError> {
        let name = format!("{}.dist-info/{name}", self.stem);
        let Some(number) = self.files.get(&name) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let entry = self.archive.by_index(*number);
        let entry = entry.map_err(|error| damaged(&self.file, &error))?;
        let read = entry.take(MAX_SMALL_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| damaged(&self.file, &error))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_SMALL_BYTES) {
            return Err(self.entry_refused(&name, "is longer than 32 MiB"));
        }
        let text = String::from_utf8(bytes);
        text.map(Some)
            .map_err(|_| self.entry_refused(&name, "is not UTF-8"))
    }

    fn refused(&self, reason: &str) -> ExtendError {
        ExtendError::file(&self.file, reason)
    }

    fn entry_refused(&self, name: &str, reason: &str) -> ExtendError {
        self.refused(&format!("its entry `{}` {reason}", shown(name)))
    }
}

/// The name and version that its one `.dist-info` has.
fn stem(files: &BTreeMap<String, usize>) -> Option<String> {
    let top = files
        .keys()
        .filter_map(|name| Some(name.split_once('/')?.0));
    let stems: BTreeSet<&str> = top
        .filter_map(|top| top.strip_suffix(".dist-info"))
        .collect();
    let mut stems = stems.into_iter();
    let stem = stems.next().filter(|stem| !normal(stem).is_empty())?;
    stems.next().is_none().then(|| stem.to_owned())
}

/// A script that names `python` as its interpreter gets the one that there is.
fn script(path: &str, kept: &Path, layout: &mut Layout<'_>) -> Result<(), ExtendError> {
    let length = super::super::super::super::files::length(kept)?;
    let text = if length > MAX_SMALL_BYTES {
        None
    } else {
        String::from_utf8(std::fs::read(kept).at("read", kept)?).ok()
    };
    let rest = text
        .as_deref()
        .and_then(|text| text.strip_prefix("#!python"));
    let rest = rest.and_then(|rest| rest.split_once('\n'));
    match rest {
        Some((_, rest)) => {
            let text = format!("#!{}\n{rest}", layout.python.interpreter);
            executable(layout.plan, path, text);
        }
        None => layout.plan.host_file(path, kept.to_owned(), true, TIME),
    }
    Ok(())
}

/// Adds a script.
fn executable(plan: &mut Plan, path: &str, text: String) {
    let content = Content::Bytes(text.into_bytes());
    let executable = true;
    plan.add(
        path,
        Item::File {
            content,
            executable,
        },
    );
}

fn has_file_above(files: &BTreeMap<String, usize>, name: &str) -> bool {
    name.match_indices('/')
        .any(|(end, _)| files.contains_key(&name[..end]))
}

fn damaged(file: &str, error: &(dyn std::error::Error + 'static)) -> ExtendError {
    ExtendError::file(
        file,
        format!("it can't be read: {}", crate::error::chain(error)),
    )
}

fn shown(name: &str) -> String {
    name.chars().take(120).collect()
}

#[cfg(test)]
mod tests;
