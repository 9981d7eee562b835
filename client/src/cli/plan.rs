//! From flags to the job that is asked for: the only place that looks at files and standard input.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::api::{ExecuteRequest, InputFile, Limits, OutputEncoding, StageLimits, Stdin};
use crate::ids::{InvalidId, Language, PackageRef, Version};

use super::failure::Failure;
use super::flags::Run;
use super::languages;

/// Most that is sent of one file or of standard input.
const MAX_INPUT: u64 = 64 << 20;

/// A job as it was asked for, with everything read that it needs of this machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// The language.
    pub(super) wanted: Wanted,
    /// Version range.
    pub(super) range: String,
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
        let Words {
            wanted,
            range,
            file,
            args,
        } = understand(flags.words)?;
        if flags.interactive && file.as_os_str() == "-" {
            return Err(
                Failure::new("standard input can't be both the program and what it reads")
                    .next("name the program's file, or leave out -i"),
            );
        }
        let main = read_main(&file, around)?;
        let files = with_others(main, &file, &flags.files)?;
        let stdin = match &flags.stdin {
            Some(path) => Some(read_file(path)?),
            None if file.as_os_str() == "-" || flags.interactive => None,
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
            args,
            stdin: stdin
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| Stdin::from(&bytes[..])),
            env,
            limits: StageLimits {
                compile: Limits::default(),
                run,
            },
            encoding: OutputEncoding::Base64,
            ..ExecuteRequest::default()
        };
        Ok(Self {
            wanted,
            range,
            request,
            input: if flags.interactive {
                InputFrom::Typing
            } else {
                InputFrom::Request
            },
            stats: flags.stats,
        })
    }
}

/// The main file, and those that are sent along.
pub(super) fn with_others(
    main: InputFile,
    file: &Path,
    others: &[PathBuf],
) -> Result<Vec<InputFile>, Failure> {
    let mut files = vec![main];
    for other in others {
        let bytes = read_file(other)?;
        files.push(InputFile::new(name_beside(file, other)?, &bytes));
    }
    Ok(files)
}

/// The words of `piston run`, told apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) wanted: Wanted,
    pub(super) range: String,
    pub(super) file: PathBuf,
    pub(super) args: Vec<String>,
}

/// Tells `LANG FILE ARGS...` from `FILE ARGS...`.
pub(super) fn understand(words: Vec<String>) -> Result<Words, Failure> {
    let mut words = words.into_iter();
    let first = words.next().unwrap_or_default();
    let mut rest: Vec<String> = words.collect();
    let path = Path::new(&first);
    let known = languages::of_file(path);
    let alone = rest.is_empty();
    let is_file = first.contains('/') || (known.is_some() && (alone || path.is_file()));
    let (wanted, range, file) = if is_file {
        let names = known.ok_or_else(|| unknown_ending(&first))?;
        (Wanted::OneOf(names), None, first)
    } else if alone {
        return Err(no_file(&first));
    } else {
        let (name, range) = split_range(&first);
        let file = rest.remove(0);
        (Wanted::Named(name.to_owned()), range, file)
    };
    if file.starts_with('-') && file != "-" {
        return Err(
            Failure::new(format!("`{file}` stands where the program's file should"))
                .next("put options before the language, or write the file as ./-name"),
        );
    }
    if rest.first().is_some_and(|word| word == "--") {
        rest.remove(0);
    }
    let range = range.unwrap_or_else(|| "*".to_owned());
    Ok(Words {
        wanted,
        range,
        file: file.into(),
        args: rest,
    })
}

fn unknown_ending(file: &str) -> Failure {
    if Path::new(file).is_dir() {
        return directory(Path::new(file));
    }
    Failure::new(format!("can't tell the language of {file} by its ending"))
        .next(format!("name it: `piston run LANG {file}`"))
}

fn no_file(word: &str) -> Failure {
    if Path::new(word).is_file() {
        return unknown_ending(word);
    }
    if word == "-" {
        return Failure::new("standard input has no ending that tells its language")
            .next("name it: `piston run LANG -`");
    }
    Failure::new(format!("no file to run in {word}")).next(format!(
        "write `piston run {word} FILE`, or `piston run {word} -` for standard input"
    ))
}

fn read_main(file: &Path, around: &Surroundings) -> Result<InputFile, Failure> {
    if file.as_os_str() != "-" {
        return Ok(InputFile::new(base_name(file)?, &read_file(file)?));
    }
    let bytes = match &around.stdin {
        Some(stdin) => read_stdin(stdin())?,
        // Typed by a person, up to Ctrl-D.
        None => read_stdin(io::stdin().lock())?,
    };
    Ok(InputFile::unnamed(&bytes))
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let failure = || Failure::new(format!("can't read {}", path.display()));
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => failure().because(error).next("check the file's name"),
        _ => failure().because(error),
    })?;
    let bytes = bounded(file).map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => directory(path),
        _ => failure().because(error),
    })?;
    bytes.ok_or_else(|| too_large(&path.display().to_string()))
}

fn directory(path: &Path) -> Failure {
    Failure::new(format!("{} is a directory", path.display())).next(
        "name the file of it that starts the program, and each other one with --file: \
         `piston run --file DIR/util.py DIR/main.py`",
    )
}

fn read_stdin(stdin: impl Read) -> Result<Vec<u8>, Failure> {
    let bytes =
        bounded(stdin).map_err(|error| Failure::new("can't read standard input").because(error))?;
    bytes.ok_or_else(|| too_large("standard input"))
}

fn too_large(what: &str) -> Failure {
    Failure::new(format!("{what} is over {} MiB", MAX_INPUT >> 20))
        .next("a job's input is sent whole: give it less")
}

/// Everything there is to read; none when that is over the bound.
fn bounded(reader: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let length = reader.take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    Ok((u64::try_from(length).is_ok_and(|length| length <= MAX_INPUT)).then_some(bytes))
}

pub(super) fn base_name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{} has no name that can be sent", path.display())))
}

/// Where a further file is found by the program: as it lies from the main file's directory, or,
/// when it is not below that, as it was named, or by its last name alone.
fn name_beside(main: &Path, other: &Path) -> Result<String, Failure> {
    let directory = tidy(main.parent().unwrap_or(Path::new("")));
    let tidied = tidy(other);
    let below = tidied.strip_prefix(&directory).unwrap_or(&tidied);
    let inside = below
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    match below.to_str() {
        Some(name) if inside && !name.is_empty() => Ok(name.to_owned()),
        _ => base_name(other),
    }
}

/// A path without `.` parts.
fn tidy(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

#[cfg(test)]
mod tests;
