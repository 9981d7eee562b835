//! Keys: a canonical, versioned sha256 over everything that can change what is kept.
//!
//! A key is worked out from what a stage is really given: the identity of the package's view
//! (images, metadata, scripts and environments of all its layers, in order), argv, the whole
//! environment, files with names, modes and bytes, and limits. Invariants: every field is written
//! with its length before it, so no two inputs give the same bytes; a change of the canonical form
//! raises `VERSION`. How output is encoded in a reply is not part of it: what is kept are the
//! program's own bytes.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::job::command;
use crate::job::limits::Limits;
use crate::job::request::Request;
use crate::job::stage::StageKind;
use crate::packages::Entry;
use crate::sandbox::WorkspaceFile;

/// Version of the canonical form. The daemon's own version counts as well: another one may give
/// jobs another sandbox.
const VERSION: &str = concat!("piston cache 1, pistond ", env!("CARGO_PKG_VERSION"));

/// The key of something that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(crate) [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", hex::encode(self.0))
    }
}

impl Key {
    /// The key of what a compile stage gives; none where there is no such stage.
    pub fn of_compile(request: &Request) -> Option<Self> {
        let entry = request.installed().compile.as_ref()?;
        let mut hash = Canonical::new("compile");
        hash.bytes(request.installed().identity.as_bytes());
        files(&mut hash, &request.files);
        stage(&mut hash, request, StageKind::Compile, entry);
        Some(Self(hash.finish()))
    }

    /// The key of a whole result.
    pub fn of_result(request: &Request) -> Self {
        let mut hash = Canonical::new("result");
        if let Some(compile) = Self::of_compile(request) {
            hash.bytes(&compile.0);
        } else {
            hash.bytes(request.installed().identity.as_bytes());
            files(&mut hash, &request.files);
        }
        if let Some(entry) = &request.installed().run {
            stage(&mut hash, request, StageKind::Run, entry);
        }
        hash.bytes(&request.stdin);
        hash.texts(&request.output_patterns);
        Self(hash.finish())
    }
}

/// In the order submitted: a program that lists its directory may see it.
fn files(hash: &mut Canonical, files: &[WorkspaceFile]) {
    hash.count(files.len());
    for file in files {
        hash.bytes(file.path.as_str().as_bytes());
        hash.number(u64::from(file.mode));
        hash.bytes(&file.bytes);
    }
}

fn stage(hash: &mut Canonical, request: &Request, kind: StageKind, entry: &Entry) {
    hash.texts(&command::argv(kind, entry, &request.code, &request.args));
    let environment = command::environment(request);
    hash.count(environment.len());
    for (name, value) in &environment {
        hash.bytes(name.as_bytes());
        hash.bytes(value.as_bytes());
    }
    hash.count(request.grants.calls.len());
    for call in &request.grants.calls {
        hash.bytes(format!("{call:?}").as_bytes());
    }
    limits(
        hash,
        match kind {
            StageKind::Compile => &request.limits.compile,
            StageKind::Run => &request.limits.run,
        },
    );
}

/// Taken apart field by field, so that a new limit can't be forgotten.
fn limits(hash: &mut Canonical, limits: &Limits) {
    let Limits {
        wall_time,
        cpu_time,
        memory,
        output,
        processes,
        open_files,
        file_size,
        disk,
    } = limits;
    for time in [wall_time, cpu_time] {
        hash.number(time.as_secs());
        hash.number(u64::from(time.subsec_nanos()));
    }
    for number in [
        memory.0,
        output.0,
        *processes,
        *open_files,
        file_size.0,
        disk.0,
    ] {
        hash.number(number);
    }
}

/// A hash over fields, each with its length before it; numbers are little-endian.
#[derive(Debug)]
pub(crate) struct Canonical(Sha256);

impl Canonical {
    /// A hash for one purpose: those of two purposes never meet.
    pub(crate) fn new(purpose: &str) -> Self {
        let mut hash = Self(Sha256::new());
        hash.bytes(VERSION.as_bytes());
        hash.bytes(purpose.as_bytes());
        hash
    }

    /// A field of bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, texts: &[String]) {
        self.count(texts.len());
        for text in texts {
            self.bytes(text.as_bytes());
        }
    }

    /// How many fields follow.
    pub(crate) fn count(&mut self, count: usize) {
        self.number(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A number.
    pub(crate) fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    /// The digest.
    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests;
