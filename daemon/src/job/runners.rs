//! What holds for the jobs of a runtime, and the operator's part of it: `runners.toml`.
//!
//! [`Rules`] are settings at one moment: the general limits with the file's entries. The one rule
//! of precedence is [`Rules::terms`]. [`Runners`] is the file as it lives: read at the start,
//! again on a signal, replaced through the API. Invariants: what is in force was checked whole; a
//! file that is bad changes nothing; a file that is replaced is the old one or the new one
//! whenever the power fails; a job keeps the rules that it was accepted under.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use piston_client::api;
use sha2::{Digest as _, Sha256};

use super::limits::{LimitPolicy, RuntimeLimits, Stages, stacked};
use crate::changes::{Changes, Changing};
use crate::config::runners::{self, BadRunners, Entry};
use crate::packages::{Installed, PathError, ProvidedRuntime, read_bounded, write_atomic};
use crate::sandbox::Grants;

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "runners.toml";

/// Longest file that is read.
pub const MAX_BYTES: u64 = 1 << 20;

/// Settings at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// General limits.
    pub limits: LimitPolicy,
    /// The operator's entries.
    pub entries: Vec<Entry>,
}

/// What holds for the jobs of a runtime when the request asks for nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Limits.
    pub limits: RuntimeLimits,
    /// Cache level, where the operator set one, for this package alone or by an entry: it wins over
    /// the package's.
    pub cache: Option<api::CacheLevel>,
    /// What they may do that others may not.
    pub grants: Grants,
}

impl Rules {
    /// One rule: the operator's entries for the runtime (the later one first), else what the
    /// package says, else the general default; never above the operator's maximum.
    pub fn terms(&self, installed: &Installed, runtime: &ProvidedRuntime) -> Terms {
        let mut limits = Stages::<api::Limits>::default();
        let (mut cache, mut grants) = (None, Grants::default());
        let entries = self.entries.iter();
        for entry in entries.filter(|entry| entry.matches(&installed.package, runtime)) {
            limits = stacked(limits, entry.limits);
            cache = entry.cache.or(cache);
            grants.network = entry.network.unwrap_or(grants.network);
            if let Some(calls) = &entry.allow {
                grants.calls.clone_from(calls);
            }
        }
        Terms {
            limits: self.limits.for_runtime(runtime, limits),
            cache: installed.level_set.or(cache),
            grants,
        }
    }
}

/// Why a file is not in force.
#[derive(Debug, thiserror::Error)]
pub enum RunnersError {
    /// It says something wrong.
    #[error("{path}: {fault}", path = .path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What.
        fault: BadRunners,
    },
    /// It is not text.
    #[error("{path} is not UTF-8", path = .0.display())]
    NotText(PathBuf),
    /// It can't be read or written.
    #[error(transparent)]
    File(#[from] PathError),
    /// Somebody else changed it.
    #[error("`If-Match` names settings that are not in force any more: get them anew")]
    Changed,
}

impl RunnersError {
    /// The stable code for clients.
    pub fn code(&self) -> api::Code {
        match self {
            Self::Bad { .. } | Self::NotText(_) => api::Code::InvalidField,
            Self::File(error) if error.is_no_space() => api::Code::NoSpace,
            Self::File(_) => api::Code::Internal,
            Self::Changed => api::Code::PreconditionFailed,
        }
    }
}

/// The file as it lives.
#[derive(Debug)]
pub struct Runners {
    path: PathBuf,
    state: Mutex<State>,
    changing: Changing,
    /// Held by whoever replaces the file, so that the file and what is in force agree.
    replacing: Mutex<()>,
}

/// What is in force.
#[derive(Debug, Clone)]
pub struct State {
    /// The settings.
    pub rules: Arc<Rules>,
    /// The text that they were read from.
    pub text: Arc<str>,
    /// Why what lies on disk is not what is in force.
    pub error: Option<String>,
}

impl State {
    /// Names the text.
    pub fn tag(&self) -> String {
        hex::encode(&Sha256::digest(self.text.as_bytes())[..16])
    }
}

impl Runners {
    /// Reads the file in the data directory; there need not be one.
    pub fn open(data: &Path, limits: LimitPolicy) -> Result<Self, RunnersError> {
        let path = data.join(FILE_NAME);
        let text = read(&path)?;
        let entries = parse(&path, &text, &limits)?;
        Ok(Self {
            path,
            state: Mutex::new(State {
                rules: Arc::new(Rules { limits, entries }),
                text: text.into(),
                error: None,
            }),
            changing: Changing::default(),
            replacing: Mutex::default(),
        })
    }

    /// What is in force.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// How often other settings came into force so far.
    pub(crate) fn changes(&self) -> Changes {
        self.changing.so_far()
    }

    /// The settings in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.lock().rules)
    }

    /// Reads the file again; what is wrong with it is logged here, once for each time.
    pub fn reload(&self) {
        let _only_one = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let read = read(&self.path).and_then(|text| {
            let entries = parse(&self.path, &text, &self.rules().limits)?;
            Ok((text, entries))
        });
        match read {
            Ok((text, entries)) => {
                tracing::info!(entries = entries.len(), "runners.toml was read again");
                self.apply(text, entries);
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(error, "runners.toml is not taken, what was in force stays");
                self.lock().error = Some(error);
            }
        }
    }

    /// What `text` would put in force.
    pub fn check(&self, text: &str) -> Result<Vec<Entry>, BadRunners> {
        runners::parse(text, &self.rules().limits.max)
    }

    /// Writes the file and puts it in force; with `expected` only when that is the tag of what is
    /// in force now. Blocks.
    pub fn replace(&self, text: String, expected: Option<&str>) -> Result<(), RunnersError> {
        let _only_one = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if expected.is_some_and(|expected| expected != self.state().tag()) {
            return Err(RunnersError::Changed);
        }
        let entries = parse(&self.path, &text, &self.rules().limits)?;
        write_atomic(&self.path, text.as_bytes())?;
        tracing::info!(entries = entries.len(), "runners.toml was replaced");
        self.apply(text, entries);
        Ok(())
    }

    fn apply(&self, text: String, entries: Vec<Entry>) {
        let mut state = self.lock();
        let limits = state.rules.limits.clone();
        *state = State {
            rules: Arc::new(Rules { limits, entries }),
            text: text.into(),
            error: None,
        };
        self.changing.count();
    }

    /// A panic elsewhere leaves the state whole: it is replaced at once.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(path: &Path, text: &str, limits: &LimitPolicy) -> Result<Vec<Entry>, RunnersError> {
    runners::parse(text, &limits.max).map_err(|fault| RunnersError::Bad {
        path: path.to_owned(),
        fault,
    })
}

/// The text of the file; empty when there is none.
fn read(path: &Path) -> Result<String, RunnersError> {
    let bytes = match read_bounded(path, MAX_BYTES) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        bytes => bytes?,
    };
    String::from_utf8(bytes).map_err(|_| RunnersError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests;
