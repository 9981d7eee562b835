//! The format of `runners.toml`: text to checked [`Entry`]s, and entries of the API to text.
//!
//! Every fault is found here and named with line, column, key and what would be right; after that
//! an entry is taken as it is. The annotated example is `contrib/config/runners.toml`. What
//! entries mean for a job is [`crate::job::runners`]'s.

use std::collections::BTreeSet;
use std::fmt;

use piston_client::api::{self, CacheLevel, Network};
use piston_client::ids::PackageRef;
use serde::{Deserialize, Serialize};

use super::limits::{KEYS, above, given};
use super::locate::{self, Position};
use super::raw::{RawStage, Size, Time};
use crate::job::limits::{Limits, Stages, numbers};
use crate::packages::{ProvidedRuntime, VersionRange};
use crate::sandbox::Relaxation;

/// Entries of one file at most.
const MAX_ENTRIES: usize = 1024;

/// One entry, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// A language, an alias of one, or a package.
    pub language: String,
    /// Versions of the package as they were written; none: every one.
    pub versions: Option<(String, VersionRange)>,
    /// Limits that it sets.
    pub limits: Stages<api::Limits>,
    /// Cache level of jobs whose request names none.
    pub cache: Option<CacheLevel>,
    /// Which network jobs see.
    pub network: Option<Network>,
    /// System calls that are allowed besides.
    pub allow: Option<BTreeSet<Relaxation>>,
}

impl Entry {
    /// Whether it is for this runtime of this package.
    pub fn matches(&self, package: &PackageRef, runtime: &ProvidedRuntime) -> bool {
        let named = runtime.language.as_str() == self.language
            || package.language.as_str() == self.language
            || runtime.aliases.contains(&self.language);
        let in_range = |(_, range): &(_, VersionRange)| range.matches(&package.version);
        named && self.versions.as_ref().is_none_or(in_range)
    }

    /// In the form of the API.
    pub fn as_wire(&self) -> api::Runner {
        api::Runner {
            language: self.language.clone(),
            versions: self.versions.as_ref().map(|(text, _)| text.clone()),
            limits: api::StageLimits {
                compile: self.limits.compile,
                run: self.limits.run,
            },
            cache: self.cache,
            network: self.network,
            allow: self.allow.as_ref().map(names),
        }
    }
}

/// The names of groups of system calls, as they are written.
fn names(relaxations: &BTreeSet<Relaxation>) -> Vec<String> {
    let name = |relaxation: &Relaxation| {
        let word = serde_json::to_value(relaxation).ok()?;
        Some(word.as_str()?.to_owned())
    };
    relaxations.iter().filter_map(name).collect()
}

/// What is wrong with a file, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadRunners {
    /// Where; none when it came as JSON or no text is at fault.
    pub position: Option<Position>,
    /// Which key, e.g. `runner[0].run.memory`; empty for what is not TOML.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for BadRunners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawFile {
    runner: Vec<RawEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    language: String,
    versions: Option<String>,
    cache: Option<CacheLevel>,
    network: Option<Network>,
    allow: Option<Vec<String>>,
    compile: Option<RawStage>,
    run: Option<RawStage>,
}

/// A fault whose place in the text is still to be looked up.
struct Fault {
    key: Vec<String>,
    message: String,
}

/// Reads a file; no limit in it may be above `max`.
pub fn parse(text: &str, max: &Limits) -> Result<Vec<Entry>, BadRunners> {
    let file: RawFile = toml::from_str(text).map_err(|error| BadRunners {
        position: error.span().map(|span| Position::of(text, span.start)),
        key: String::new(),
        message: error.message().trim().replace('\n', ", "),
    })?;
    if file.runner.len() > MAX_ENTRIES {
        return Err(BadRunners {
            position: None,
            key: "runner".to_owned(),
            message: format!(
                "has {} entries, {MAX_ENTRIES} are the most",
                file.runner.len()
            ),
        });
    }
    let entries = file.runner.into_iter().enumerate();
    let checked = entries.map(|(index, entry)| {
        entry.check(max).map_err(|Fault { mut key, message }| {
            key.splice(0..0, ["runner".to_owned(), index.to_string()]);
            let rest: String = key[2..].iter().map(|part| shown(part)).collect();
            BadRunners {
                position: locate::position(text, &key),
                key: format!("runner[{index}]{rest}"),
                message,
            }
        })
    });
    checked.collect()
}

/// The file that says the same as these entries.
pub fn render(entries: Vec<api::Runner>) -> Result<String, BadRunners> {
    let runner = entries.into_iter().map(RawEntry::from).collect();
    toml::to_string(&RawFile { runner }).map_err(|error| BadRunners {
        position: None,
        key: "runners".to_owned(),
        message: error.to_string(),
    })
}

impl RawEntry {
    fn check(self, max: &Limits) -> Result<Entry, Fault> {
        let plain = |c: char| c.is_ascii_graphic() && !"/\\\"'`".contains(c);
        if !(1..=64).contains(&self.language.len()) || !self.language.chars().all(plain) {
            return Err(Fault::new(
                &["language"],
                "is a language, an alias of one or a package: 1 to 64 plain characters, no spaces",
            ));
        }
        let range = |text: String| {
            let range: VersionRange =
                text.parse()
                    .map_err(|error: crate::packages::InvalidRange| {
                        Fault::new(&["versions"], error.to_string())
                    })?;
            Ok((text, range))
        };
        Ok(Entry {
            language: self.language,
            versions: self.versions.map(range).transpose()?,
            limits: Stages {
                compile: stage("compile", self.compile.as_ref(), max)?,
                run: stage("run", self.run.as_ref(), max)?,
            },
            cache: self.cache,
            network: self.network,
            allow: self.allow.map(|words| relaxations(&words)).transpose()?,
        })
    }
}

fn relaxations(words: &[String]) -> Result<BTreeSet<Relaxation>, Fault> {
    let one = |(index, word): (usize, &String)| {
        let read = Relaxation::deserialize(serde::de::value::StrDeserializer::new(word));
        read.map_err(|error: serde::de::value::Error| {
            let hint = match word.as_str() {
                "ptrace" => " (`ptrace` needs no entry: jobs may trace their own processes)",
                _ => "",
            };
            Fault::new(&["allow", &index.to_string()], format!("{error}{hint}"))
        })
    };
    words.iter().enumerate().map(one).collect()
}

/// The limits of one stage, none of which may be above the operator's own maximum: one that is
/// quietly lowered is one that somebody relies on in vain.
fn stage(name: &str, raw: Option<&RawStage>, max: &Limits) -> Result<api::Limits, Fault> {
    let limits = raw.map(given).unwrap_or_default();
    let pairs = numbers(&limits).into_iter().zip(numbers(&max.as_wire()));
    for (key, ((field, value), (_, most))) in KEYS.iter().zip(pairs) {
        let fault = |message: String| Err(Fault::new(&[name, key], message));
        match (value, most) {
            (Some(0), _) if *key != "output" => {
                return fault("0 is not a limit, the least is 1".to_owned());
            }
            (Some(value), Some(most)) if value > most => {
                let above = above(key, (field, value), most);
                return fault(format!(
                    "{above}: lower it, or raise that in piston.toml and restart the daemon"
                ));
            }
            _ => {}
        }
    }
    Ok(limits)
}

/// A part of a key: a name, or the index in an array.
fn shown(part: &str) -> String {
    match part.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{part}"),
    }
}

impl Fault {
    fn new(key: &[&str], message: impl Into<String>) -> Self {
        Self {
            key: key.iter().map(|part| (*part).to_owned()).collect(),
            message: message.into(),
        }
    }
}

impl From<api::Runner> for RawEntry {
    fn from(entry: api::Runner) -> Self {
        let stage = |limits: api::Limits| (!limits.is_empty()).then(|| RawStage::from(limits));
        Self {
            language: entry.language,
            versions: entry.versions,
            cache: entry.cache,
            network: entry.network,
            allow: entry.allow,
            compile: stage(entry.limits.compile),
            run: stage(entry.limits.run),
        }
    }
}

impl From<api::Limits> for RawStage {
    fn from(limits: api::Limits) -> Self {
        Self {
            wall_time: limits.wall_time_ms.map(Time),
            cpu_time: limits.cpu_time_ms.map(Time),
            memory: limits.memory_bytes.map(Size),
            output: limits.output_bytes.map(Size),
            processes: limits.processes,
            open_files: limits.open_files,
            file_size: limits.file_size_bytes.map(Size),
            disk: limits.disk_bytes.map(Size),
        }
    }
}

#[cfg(test)]
mod tests;
