//! The released Piston's packages as they are: a tar.gz of plain files, or one that an index names.
//!
//! The way: `index` (the file of a name and a version, checked by its sha256) -> unpacked like a layer of an
//! image -> the tree at the path that its files were built for, `/piston/packages/LANGUAGE/VERSION` -> a
//! draft on a base package, which stands for the system of the old server. `run` and `compile` are
//! started as they were, by bash. Nothing of a package is run.

mod error;
mod index;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use piston_client::ids::Language;
use serde_json::{Map, Value, json};

pub use self::error::PistonV2Error;
use super::super::environment;
use super::super::files::{self, AtPath as _};
use super::super::info::{MAX_INFO_BYTES, PackageInfo};
use super::super::version::VersionRange;
use super::Made;
use super::compressed::Kind;
use super::error::MakeError;
use super::merge::Merged;
use super::package::{Description, Draft, Step, export, home};
use super::tar_reader::{Budget, TarError, told};
use super::unpack::{Manner, Unpacker};
use super::work::{Spool, Work};

/// What the new package has of the old one's `pkg-info.json`. Its dependencies were never looked at,
/// its platform is the name of a container.
const KEPT: [&str; 3] = ["aliases", "provides", "limit_overrides"];
/// Longest `environment`.
const MAX_ENVIRONMENT_BYTES: u64 = 64 << 10;
/// Variables of the shell that noted the others.
const SHELLS: [&str; 4] = ["PWD", "OLDPWD", "SHLVL", "_"];
/// What an old server leaves in the folder of an installed package.
const LEFT_OVER: [&str; 2] = ["/pkg.tar.gz", "/.ppman-installed"];

/// What to convert.
#[derive(Debug, Clone)]
pub struct FromPistonV2 {
    /// Path of a package or of an index, or URL of an index.
    pub source: String,
    /// Which package of the index.
    pub wanted: Option<(Language, VersionRange)>,
    /// The package that stands for the system that its scripts expect.
    pub base: Language,
    /// What to call it in messages, instead of by its path.
    pub shown: Option<String>,
}

/// Converts a package into the directory `out`.
pub(super) fn make(what: &FromPistonV2, out: &Path) -> Result<Made, MakeError> {
    let work = Work::new(out).map_err(PistonV2Error::from)?;
    draft(what, &work)?.write(out)
}

fn draft(what: &FromPistonV2, work: &Work) -> Result<Draft, MakeError> {
    let (file, shown) = match &what.wanted {
        Some((language, range)) => index::download(&what.source, language, range, work)?,
        None => index::local(&what.source, what.shown.as_deref())?,
    };
    let wrong = |reason: String| PistonV2Error::Package {
        package: shown.clone(),
        reason,
    };
    let (tree, mut notes) = unpacked(&file, work).map_err(|error| match error {
        Failed::Path(error) => PistonV2Error::Path(error),
        Failed::Package(reason) => wrong(reason),
    })?;
    let small = |path: &str, limit| -> Result<Option<String>, PistonV2Error> {
        let Some(content) = tree.file(path) else {
            return Ok(None);
        };
        let text = String::from_utf8(files::read_bounded(content, limit)?);
        Ok(Some(
            text.map_err(|_| wrong(format!("its `{path}` is no text")))?,
        ))
    };
    let info = small("/pkg-info.json", MAX_INFO_BYTES)?;
    let info = info.ok_or_else(|| wrong(missing(&tree).to_owned()))?;
    let info = kept(&info).map_err(wrong)?;
    let package = PackageInfo::parse(info.to_string().as_bytes())?.package;
    let home = home(package.language.as_str(), &package.version);
    let lines = match small("/environment", MAX_ENVIRONMENT_BYTES)? {
        Some(text) => text,
        None => noted(
            &small("/.env", MAX_ENVIRONMENT_BYTES)?.unwrap_or_default(),
            &mut notes,
        ),
    };
    // What an installation would refuse is better told here.
    environment::parse(lines.as_bytes(), &home).map_err(|error| wrong(error.to_string()))?;
    let start = |script: &str, rest: &[&str]| {
        let path = format!("{home}/{script}");
        let argv = ["/bin/bash", &path].into_iter().chain(rest.iter().copied());
        tree.file(&format!("/{script}"))
            .map(|_| Step::Command(argv.map(str::to_owned).collect()))
    };
    let run = start("run", &["{main}", "{args}"]);
    if run.is_none() {
        return Err(wrong("it holds no `run`".to_owned()).into());
    }
    let mut description = Description {
        platform: architecture(&tree).unwrap_or_default().to_owned(),
        ranges: BTreeMap::from([(what.base.to_string(), "*".to_owned())]),
        run,
        compile: start("compile", &["{files}"]),
        environment: lines,
        ..Description::of(package)
    };
    description.inherited = info.as_object().cloned().unwrap_or_default();
    Ok(Draft {
        description,
        plan: tree.into_plan(&home),
        notes,
    })
}

/// Why a file can't be unpacked.
enum Failed {
    Path(files::PathError),
    Package(String),
}

/// The tree of a package, and what of it is left out.
fn unpacked(file: &Path, work: &Work) -> Result<(Merged, Vec<String>), Failed> {
    let open = File::open(file).at("open", file).map_err(Failed::Path)?;
    let damaged = |error: &std::io::Error| Failed::Package(told(error));
    let reader = Kind::Gzip
        .reader(BufReader::with_capacity(256 << 10, open))
        .map_err(|error| damaged(&error))?;
    let mut unpacker = Unpacker {
        spool: &mut Spool::new(work.spool.clone()),
        budget: &mut Budget::default(),
        manner: Manner::Any,
        wanted: &|path| !LEFT_OVER.contains(&path),
    };
    let (entries, left_out) = unpacker.tree(reader).map_err(|error| match error {
        TarError::Damaged(error) => damaged(&error),
        TarError::Path(error) => Failed::Path(error),
        TarError::Entry { entry, reason } => {
            Failed::Package(format!("it holds `{entry}`, which {reason}"))
        }
    })?;
    let mut tree = Merged::default();
    tree.add(&entries).map_err(|error| {
        Failed::Package(format!(
            "it holds `{}`, which {}",
            error.entry, error.reason
        ))
    })?;
    Ok((tree, left_out.notes("the package")))
}

/// What is wrong with an archive without metadata.
fn missing(tree: &Merged) -> &'static str {
    if tree.file("/package.squashfs").is_some() {
        "it is a package of this Piston: `piston package upload` installs it"
    } else {
        "it holds no pkg-info.json: it is no package of the released Piston"
    }
}

/// What is kept of the metadata, with the name and the version.
fn kept(text: &str) -> Result<Value, String> {
    let info: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| "its pkg-info.json is no JSON object".to_owned())?;
    let mut kept = Map::new();
    for key in ["language", "version"].into_iter().chain(KEPT) {
        if let Some(value) = info.get(key).filter(|value| !value.is_null()) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    Ok(json!(kept))
}

/// The variables that an old server noted of an installed package, as lines of an `environment`.
fn noted(text: &str, notes: &mut Vec<String>) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        match export(name, value) {
            _ if name.is_empty() || SHELLS.contains(&name) => {}
            Some(line) => lines.push_str(&line),
            None => notes.push("a line of its .env is no variable, and left out".to_owned()),
        }
    }
    lines
}

/// What its first program was built for; none where it has only scripts.
fn architecture(tree: &Merged) -> Option<&'static str> {
    let machine = |content: &PathBuf| {
        let mut header = [0; 20];
        File::open(content).ok()?.read_exact(&mut header).ok()?;
        let is_elf = header.starts_with(b"\x7fELF");
        is_elf.then(|| u16::from_le_bytes([header[18], header[19]]))
    };
    match tree.programs().find_map(machine)? {
        0x3e => Some("x86_64"),
        0xb7 => Some("aarch64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
