//! From flags to the job that is asked for: with everything of this machine that goes along
//! (`files` reads it).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Cursor, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::api::{ExecuteRequest, InputFile, Limits, OutputEncoding, StageLimits, Stdin};
use crate::ids::{InvalidId, Language, PackageRef, Version};

use super::failure::Failure;
use super::files::{self, Sent, read_file, read_stdin};
use super::flags::Run;
use super::languages;
use super::render::Consent;
use super::runtime::Sought;

/// A job as it was asked for, with everything read that it needs of this machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// The language.
    pub(super) sought: Sought,
    /// The rest, but for the language.
    pub(super) request: ExecuteRequest,
    /// Where its input comes from.
    pub(super) input: InputFrom,
    /// Whether to say what it used.
    pub(super) stats: bool,
}

/// Where the program's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputFrom {
    /// The request, whole.
    Request,
    /// A terminal, of which nothing is passed on: there is none.
    Nowhere,
    /// Standard input, as it comes.
    Typing,
}

/// Which language runs a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// As it was named.
    Named(String),
    /// Whichever of these is installed: what the file's ending says.
    OneOf(&'static [&'static str]),
}

impl Wanted {
    /// The names that are tried, the likeliest first; there is at least one.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Named(name) => vec![name.as_str()],
            Self::OneOf(names) => names.to_vec(),
        }
    }
}

/// What of the process around matters to a plan.
pub(super) struct Surroundings {
    /// Standard input, unless it is a terminal.
    stdin: Option<Box<dyn Fn() -> Box<dyn Read>>>,
}

impl Surroundings {
    /// Those of this process.
    pub(super) fn real() -> Self {
        let stdin: Box<dyn Fn() -> Box<dyn Read>> = Box::new(|| Box::new(io::stdin().lock()));
        Self {
            stdin: (!io::stdin().is_terminal()).then_some(stdin),
        }
    }

    /// The same for more than one plan: standard input is read now, to its end.
    pub(super) fn kept() -> Result<Self, Failure> {
        let Some(stdin) = Self::real().stdin else {
            return Ok(Self { stdin: None });
        };
        let bytes: Arc<[u8]> = read_stdin(stdin())?.into();
        Ok(Self {
            stdin: Some(Box::new(move || Box::new(Cursor::new(Arc::clone(&bytes))))),
        })
    }
}

/// `NAME`, `NAME@RANGE`, or `NAME-VERSION` as packages are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackageWord {
    pub(super) name: Language,
    pub(super) range: Option<String>,
}

impl FromStr for PackageWord {
    type Err = InvalidId;

    fn from_str(word: &str) -> Result<Self, InvalidId> {
        let (name, range) = split_range(word);
        Ok(Self {
            name: name.parse()?,
            range,
        })
    }
}

impl PackageWord {
    /// The exact package, when the version is one.
    pub(super) fn exact(&self) -> Option<PackageRef> {
        let version: Version = self.range.as_deref()?.parse().ok()?;
        Some(PackageRef::new(self.name.clone(), version))
    }
}

/// A name and the range after `@`, or the exact version after `-`.
fn split_range(word: &str) -> (&str, Option<String>) {
    let dash = || {
        word.match_indices('-')
            .find(|(at, _)| word[at + 1..].parse::<Version>().is_ok())
    };
    match word.split_once('@') {
        Some((name, range)) if range.trim().is_empty() => (name, None),
        Some((name, range)) => (name, Some(range.trim().to_owned())),
        None => match dash() {
            Some((at, _)) => (&word[..at], Some(word[at + 1..].to_owned())),
            None => (word, None),
        },
    }
}

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvVar {
    name: String,
    value: String,
}

impl FromStr for EnvVar {
    type Err = InvalidEnvVar;

    fn from_str(text: &str) -> Result<Self, InvalidEnvVar> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(InvalidEnvVar),
        }
    }
}

/// A text sets no variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidEnvVar;

impl fmt::Display for InvalidEnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write NAME=VALUE")
    }
}

impl std::error::Error for InvalidEnvVar {}

impl Plan {
    /// Reads what `flags` name and puts the job together.
    pub(super) fn new(flags: Run, around: &Surroundings) -> Result<Self, Failure> {
        let words = understand(flags.words)?;
        let from_input = words.paths[0].as_os_str() == "-";
        if flags.watch && from_input {
            return Err(Failure::new("standard input can't be watched")
                .next("name the program's file, or leave out --watch"));
        }
        if flags.interactive && from_input {
            return Err(
                Failure::new("standard input can't be both the program and what it reads")
                    .next("name the program's file, or leave out -i"),
            );
        }
        let name = words.named.as_ref().map(|(name, _)| name.as_str());
        let Sent { main, files } = if from_input {
            let bytes = match &around.stdin {
                Some(stdin) => read_stdin(stdin())?,
                // Typed by a person, up to Ctrl-D.
                None => read_stdin(io::stdin().lock())?,
            };
            Sent::with_main(InputFile::unnamed(&bytes), &words.paths)?
        } else {
            Sent::gather(&words.paths, name)?
        };
        let sought = words.language(&main, flags.missing.consent())?;
        let stdin = match &flags.stdin {
            Some(path) => Some(read_file(path)?),
            None if from_input || flags.interactive => None,
            None => around
                .stdin
                .as_ref()
                .map(|stdin| read_stdin(stdin()))
                .transpose()?,
        };
        let run = Limits {
            wall_time_ms: flags.timeout,
            memory_bytes: flags.memory,
            ..Limits::default()
        };
        let env: BTreeMap<_, _> = flags
            .env
            .into_iter()
            .map(|var| (var.name, var.value))
            .collect();
        let request = ExecuteRequest {
            files,
            args: flags.args,
            stdin: stdin
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| Stdin::from(&bytes[..])),
            env,
            limits: StageLimits {
                compile: Limits::default(),
                run,
            },
            cache: flags.cache,
            outputs: flags.out,
            encoding: OutputEncoding::Base64,
            ..ExecuteRequest::default()
        };
        Ok(Self {
            sought,
            request,
            input: match (flags.interactive, &flags.stdin, &around.stdin) {
                (true, ..) => InputFrom::Typing,
                (false, None, None) if !from_input => InputFrom::Nowhere,
                (false, ..) => InputFrom::Request,
            },
            stats: flags.stats,
        })
    }
}

/// The words of `piston run`, told apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// The language, when it was named, with a version range.
    pub(super) named: Option<(String, Option<String>)>,
    /// Files and folders; there is at least one.
    pub(super) paths: Vec<PathBuf>,
}

impl Words {
    /// The language with the range of versions, where need be from the main file's ending.
    pub(super) fn language(self, main: &Path, consent: Consent) -> Result<Sought, Failure> {
        let (wanted, range) = match self.named {
            Some((name, range)) => (Wanted::Named(name), range),
            None => match languages::of_file(main) {
                Some(names) => (Wanted::OneOf(names), None),
                None => return Err(unknown_ending(main)),
            },
        };
        Ok(Sought {
            wanted,
            range: range.unwrap_or_else(|| "*".to_owned()),
            consent,
        })
    }
}

/// Tells `LANG FILE...` from `FILE...`.
pub(super) fn understand(words: Vec<String>) -> Result<Words, Failure> {
    let first = words.first().map(String::as_str).unwrap_or_default();
    let path = Path::new(first);
    let alone = words.len() == 1;
    let is_language = languages::of_file(path).is_none() || !(alone || path.is_file());
    let is_path = first.contains('/') || first == "." || (alone && path.is_dir());
    if is_path || !is_language {
        let paths = words.into_iter().map(PathBuf::from).collect();
        return Ok(Words { named: None, paths });
    }
    if alone {
        return Err(no_file(first));
    }
    let (name, range) = split_range(first);
    let named = Some((name.to_owned(), range));
    let paths = words.into_iter().skip(1).map(PathBuf::from).collect();
    Ok(Words { named, paths })
}

fn unknown_ending(file: &Path) -> Failure {
    let file = file.display();
    if file.to_string() == "-" {
        return Failure::new("standard input has no ending that tells its language")
            .next("name it: `piston run LANG -`");
    }
    Failure::new(format!("can't tell the language of {file} by its ending"))
        .next(format!("name it: `piston run LANG {file}`"))
}

fn no_file(word: &str) -> Failure {
    let path = Path::new(word);
    if word == "-" || path.is_file() {
        return unknown_ending(path);
    }
    if path.extension().is_some() {
        return files::absent(path);
    }
    Failure::new(format!("no file to run in {word}")).next(format!(
        "write `piston run {word} FILE`, or `piston run {word} -` for standard input"
    ))
}

#[cfg(test)]
mod tests;
