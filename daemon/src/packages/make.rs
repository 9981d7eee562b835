//! Makers: package files from what the machine has.
//!
//! [`from_host`] takes a language from the host's own programs, without root and without any tool
//! but ours. A maker drafts (metadata, scripts, and a `plan` of what goes into the image, which
//! is all that most tests look at), then the draft is written by `package`. A language package
//! holds only what the `base` package of the same host lacks; its view merges the two.
//! Installing what was made, and running this in a limited child, are the caller's.

mod elf;
mod error;
mod host;
mod package;
mod plan;

use std::path::{Path, PathBuf};

use piston_client::ids::{Language, PackageRef};

pub use self::elf::ElfError;
pub use self::error::MakeError;
use self::host::{Host, base, bash, gcc, python};
use self::package::Draft;
use super::error::distance;

/// A package file that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// What it holds.
    pub package: PackageRef,
    /// Where it is.
    pub file: PathBuf,
    /// What was left out of it and why, a sentence each.
    pub notes: Vec<String>,
}

/// What can be made from the host, each with words that people may use for it.
const KNOWN: [(&str, &[&str]); 4] = [
    (base::NAME, &["libc", "coreutils", "debian", "ubuntu"]),
    (bash::NAME, &["sh", "shell"]),
    (gcc::NAME, &["c", "c++", "g++", "cc", "cpp", "cxx"]),
    (
        python::NAME,
        &["py", "python2", "python3", "py3", "cpython"],
    ),
];

/// Makes the package `name` from the host into the directory `out`.
///
/// `program` is the interpreter or compiler to take, where the host has several. Returns one
/// package file; what it depends on is named in its `pkg-info.json` and made by a call of its own.
pub fn from_host(name: &Language, program: Option<&Path>, out: &Path) -> Result<Made, MakeError> {
    draft(name, program)?.write(out)
}

fn draft(name: &Language, program: Option<&Path>) -> Result<Draft, MakeError> {
    let host = Host::read();
    match (name.as_str(), program) {
        (base::NAME, None) => base::draft(&host),
        (base::NAME, Some(program)) => Err(MakeError::Unsupported {
            program: program.to_owned(),
            reason: "the base package is of the host as it is, not of one program".to_owned(),
        }),
        (bash::NAME, program) => bash::draft(&host, program),
        (gcc::NAME, program) => gcc::draft(&host, program),
        (python::NAME, program) => python::draft(&host, program),
        (other, _) => Err(unknown(other)),
    }
}

fn unknown(name: &str) -> MakeError {
    let meant = KNOWN
        .iter()
        .find(|(known, words)| words.contains(&name) || distance(known, name) <= known.len() / 3);
    let all = KNOWN.map(|(name, _)| name);
    let hint = match meant {
        Some((meant, _)) => format!("did you mean `{meant}`?"),
        None => format!("what can be made is {}", all.join(", ")),
    };
    MakeError::Unknown {
        name: name.to_owned(),
        hint,
    }
}

#[cfg(test)]
mod tests;
