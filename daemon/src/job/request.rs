//! A submission, checked.
//!
//! The APIs decode their wire forms into a [`Draft`]; [`Request::try_from`] finds everything that
//! can be wrong with it. After that nothing is looked at again: names are [`JobPath`]s that lie in
//! the job directory, are unique and are no other file's folder; arguments and variables can be
//! given to exec; limits are within the runtime's.

mod batch;
mod check;
mod v3;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use globset::GlobSet;
use piston_client::api::{CacheLevel, Code, Network, TextEncoding};
use piston_client::ids::{JobId, Language, PackageRef};
use piston_client::units::Bytes;

pub use self::batch::batch_v3;
pub use self::v3::{choose_language, from_v3, interactive_v3};
use super::limits::{LimitError, Limits, Stages};
use super::queue::Requester;
use crate::packages::{Installed, Lease};
use crate::random;
use crate::sandbox::{Grants, JobPath, WorkspaceFile};

/// A submission as decoded from the wire, not yet checked.
#[derive(Debug)]
pub struct Draft {
    /// The package, held.
    pub lease: Lease,
    /// Which of its languages.
    pub language: Language,
    /// The files, the first is the main one unless `main` says otherwise.
    pub files: Vec<DraftFile>,
    /// Which files are code.
    pub code: CodeFiles,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// What it reads from standard input.
    pub stdin: Vec<u8>,
    /// Variables added to the package's own.
    pub env: BTreeMap<String, String>,
    /// The limits.
    pub limits: Stages<Limits>,
    /// Globs of files to hand back.
    pub outputs: Vec<String>,
    /// The cache level asked for; none is the package's.
    pub cache: Option<CacheLevel>,
    /// What the operator lets it do that others may not.
    pub grants: Grants,
}

/// One file of a [`Draft`].
#[derive(Debug, Clone)]
pub struct DraftFile {
    /// The name given, if any.
    pub name: Option<String>,
    /// The content, decoded.
    pub bytes: Vec<u8>,
    /// Whether it came as text.
    pub form: FileForm,
}

/// How a file came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileForm {
    /// As UTF-8 text: code.
    Text,
    /// As encoded bytes: data.
    Encoded,
}

/// Which files of a submission are code: the main file is the first of them, and a compiler is
/// given all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeFiles {
    /// The first file and every one that came as text.
    FirstAndText,
    /// Those that came as text (v2).
    Text,
    /// All of them (v2's language `file`).
    All,
}

/// A job that can be run.
#[derive(Debug)]
pub struct Request {
    /// Its id.
    pub id: JobId,
    /// The language that runs.
    pub language: Language,
    /// Names of the code files, the main one first; never empty.
    pub code: Vec<String>,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// What it reads from standard input.
    pub stdin: Vec<u8>,
    /// Variables added to the package's own.
    pub env: BTreeMap<String, String>,
    /// The limits.
    pub limits: Stages<Limits>,
    /// Which files are handed back.
    pub outputs: GlobSet,
    /// The same as given.
    pub output_patterns: Vec<String>,
    /// What may be kept of it.
    pub cache: CacheLevel,
    /// What the operator lets it do that others may not.
    pub grants: Grants,
    /// How long an interactive program may neither read nor print.
    pub idle_time: Option<Duration>,
    /// Who asked for it.
    pub requester: Requester,
    /// The submitted files, as the first stage finds them.
    pub files: Vec<WorkspaceFile>,
    lease: Lease,
}

/// Why a submission is refused; the text names the field and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A field holds something that can't be acted on.
    #[error("`{field}` {message}")]
    Field {
        /// The field, with its index.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// A limit is not acceptable.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The package runs nothing, or not that language.
    #[error("{0}")]
    NotExecutable(String),
}

impl RequestError {
    /// A field with what is wrong with it.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The stable code for clients.
    pub fn code(&self) -> Code {
        match self {
            Self::Limit(LimitError::TooHigh { .. }) => Code::LimitTooHigh,
            Self::Field { .. } | Self::Limit(LimitError::Zero { .. }) => Code::InvalidField,
            Self::NotExecutable(_) => Code::NotExecutable,
        }
    }
}

/// Decodes text of a request into bytes.
pub fn decode(
    field: &str,
    content: String,
    encoding: TextEncoding,
) -> Result<Vec<u8>, RequestError> {
    match encoding {
        TextEncoding::Utf8 => Ok(content.into_bytes()),
        TextEncoding::Base64 => STANDARD
            .decode(&content)
            .map_err(|error| RequestError::field(field, format!("is not base64: {error}"))),
        TextEncoding::Hex => hex::decode(&content)
            .map_err(|error| RequestError::field(field, format!("is not hex: {error}"))),
    }
}

impl TryFrom<Draft> for Request {
    type Error = RequestError;

    fn try_from(draft: Draft) -> Result<Self, RequestError> {
        let installed = &draft.lease.installed;
        if installed.run.is_none() {
            return Err(RequestError::NotExecutable(format!(
                "{} is a base package: others depend on it, it runs nothing itself",
                installed.package
            )));
        }
        let (files, code) = check::files(draft.files, draft.code)?;
        check::bytes(&files, &draft.limits)?;
        check::strings(&draft.args, &draft.env)?;
        let bits = random::bytes()
            .map_err(|error| RequestError::field("id", format!("can't be drawn: {error}")))?;
        Ok(Self {
            id: JobId::from_random(u128::from_ne_bytes(bits)),
            language: draft.language,
            code,
            args: draft.args,
            stdin: draft.stdin,
            env: draft.env,
            limits: draft.limits,
            outputs: check::globs("outputs", &draft.outputs)?,
            output_patterns: draft.outputs,
            cache: match draft.grants.network {
                Network::None => draft.cache.unwrap_or(installed.cache),
                // What the network says is not a function of the request.
                Network::Host => CacheLevel::None,
            },
            grants: draft.grants,
            idle_time: None,
            requester: Requester::Unknown,
            files,
            lease: draft.lease,
        })
    }
}

impl Request {
    /// The package that runs it.
    pub fn package(&self) -> &PackageRef {
        &self.lease.installed.package
    }

    /// The package that runs it, with how.
    pub fn installed(&self) -> &Installed {
        &self.lease.installed
    }

    /// Memory that it may need, of its stages together: they run one after the other.
    pub fn memory(&self) -> Bytes {
        let compile = self.installed().compile.as_ref();
        let compile = compile.map(|_| self.limits.compile.all_memory());
        compile
            .unwrap_or_default()
            .max(self.limits.run.all_memory())
    }

    /// The same, asked for by `requester`.
    #[must_use]
    pub fn of(self, requester: Requester) -> Self {
        Self { requester, ..self }
    }

    /// Another run of the same program, after compiling: with its own arguments, variables, input
    /// and limits, and without files.
    fn again(
        &self,
        args: Vec<String>,
        env: BTreeMap<String, String>,
        stdin: Vec<u8>,
        limits: Stages<Limits>,
    ) -> Self {
        Self {
            id: self.id.clone(),
            language: self.language.clone(),
            code: self.code.clone(),
            args,
            stdin,
            env,
            limits,
            outputs: GlobSet::empty(),
            output_patterns: Vec::new(),
            cache: CacheLevel::None,
            grants: self.grants.clone(),
            idle_time: None,
            requester: self.requester,
            files: Vec::new(),
            lease: self.lease.clone(),
        }
    }

    /// Tells which files a compile stage leaves for the run stage.
    pub fn artifact_filter(&self) -> Box<dyn Fn(&JobPath) -> bool + Send> {
        let artifacts = self.installed().artifacts.clone();
        Box::new(move |path| artifacts.is_empty() || artifacts.is_match(path.as_str()))
    }
}

/// What the run stage finds: the submitted files, and over them what compiling left.
pub fn carried_over(
    submitted: Vec<WorkspaceFile>,
    artifacts: Vec<WorkspaceFile>,
) -> Vec<WorkspaceFile> {
    let all = submitted.into_iter().chain(artifacts);
    let by_path: BTreeMap<JobPath, WorkspaceFile> =
        all.map(|file| (file.path.clone(), file)).collect();
    by_path.into_values().collect()
}

#[cfg(test)]
pub(crate) mod tests;
