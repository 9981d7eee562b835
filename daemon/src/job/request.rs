//! A submission, checked.
//!
//! The APIs decode their wire forms into a [`Draft`]; [`Request::try_from`] finds everything that
//! can be wrong with it. After that nothing is looked at again: names are [`JobPath`]s that lie in
//! the job directory, are unique and are no other file's folder; arguments and variables can be
//! given to exec; limits are within the runtime's.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use globset::{Glob, GlobSet, GlobSetBuilder};
use piston_client::api::{self, Code, TextEncoding};
use piston_client::ids::{JobId, Language, PackageRef};
use piston_client::units::Bytes;

use super::limits::{LimitError, Limits, Stages};
use crate::packages::{Installed, Lease};
use crate::sandbox::{JobPath, WorkspaceFile};

/// Files of one submission at most: a workspace has a bound of its inodes.
const MAX_FILES: usize = 1024;
/// The kernel's bound of one argument or variable, with its final NUL.
const MAX_STRING: usize = 131_071;
/// Arguments and variables together; exec's bound is a quarter of the stack limit.
const MAX_STRINGS: usize = 1 << 20;
/// Patterns in `outputs`.
const MAX_PATTERNS: usize = 64;

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
    /// Which files a compile stage leaves for the run stage; empty means all.
    artifacts: GlobSet,
    files: Vec<WorkspaceFile>,
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
        let (files, code) = files(draft.files, draft.code)?;
        check_bytes(&files, &draft.limits)?;
        check_strings(&draft.args, &draft.env)?;
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)
            .map_err(|error| RequestError::field("id", format!("can't be drawn: {error}")))?;
        Ok(Self {
            id: JobId::from_random(u128::from_ne_bytes(bits)),
            language: draft.language,
            code,
            args: draft.args,
            stdin: draft.stdin,
            env: draft.env,
            limits: draft.limits,
            outputs: globs("outputs", &draft.outputs)?,
            // A package's own patterns were checked when it was installed.
            artifacts: globs("artifacts", &installed.artifacts)?,
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

    /// The submitted files, as the first stage finds them.
    pub fn workspace_files(&self) -> Vec<WorkspaceFile> {
        self.files.clone()
    }

    /// Tells which files a compile stage leaves for the run stage.
    pub fn artifact_filter(&self) -> Box<dyn Fn(&JobPath) -> bool + Send> {
        let artifacts = self.artifacts.clone();
        Box::new(move |path| artifacts.is_empty() || artifacts.is_match(path.as_str()))
    }

    /// What the run stage finds: the submitted files, and over them what compiling left.
    pub fn carried_over(&self, artifacts: Vec<WorkspaceFile>) -> Vec<WorkspaceFile> {
        let mut by_path: BTreeMap<JobPath, WorkspaceFile> = BTreeMap::new();
        for file in self.files.iter().cloned().chain(artifacts) {
            by_path.insert(file.path.clone(), file);
        }
        by_path.into_values().collect()
    }
}

/// Names the files and finds the code among them.
fn files(
    drafts: Vec<DraftFile>,
    which: CodeFiles,
) -> Result<(Vec<WorkspaceFile>, Vec<String>), RequestError> {
    if drafts.is_empty() {
        return Err(RequestError::field(
            "files",
            "is empty, the main file is missing",
        ));
    }
    if drafts.len() > MAX_FILES {
        return Err(RequestError::field(
            "files",
            format!("has more than {MAX_FILES} entries"),
        ));
    }
    let mut files = Vec::with_capacity(drafts.len());
    let mut code = Vec::new();
    for (index, draft) in drafts.into_iter().enumerate() {
        let name = match draft.name {
            Some(name) if !name.is_empty() => name,
            _ => format!("file{index}.code"),
        };
        let path: JobPath = name.parse().map_err(|error| {
            RequestError::field(
                format!("files[{index}].name"),
                format!("is refused: {error}"),
            )
        })?;
        let is_code = match which {
            CodeFiles::All => true,
            CodeFiles::Text => draft.form == FileForm::Text,
            CodeFiles::FirstAndText => index == 0 || draft.form == FileForm::Text,
        };
        if is_code {
            code.push(name);
        }
        files.push(WorkspaceFile {
            path,
            mode: 0o644,
            bytes: draft.bytes,
        });
    }
    if code.is_empty() {
        return Err(RequestError::field(
            "files",
            "must include at least one utf8 encoded file",
        ));
    }
    check_paths(&files)?;
    Ok((files, code))
}

/// No name twice, and no file where another one needs a folder.
fn check_paths(files: &[WorkspaceFile]) -> Result<(), RequestError> {
    let mut taken = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        if let Some(first) = taken.insert(file.path.as_str(), index) {
            let message = format!(
                "`{}` is also the name of files[{first}]",
                file.path.as_str()
            );
            return Err(RequestError::field(format!("files[{index}].name"), message));
        }
    }
    for (index, file) in files.iter().enumerate() {
        let name = file.path.as_str();
        let folders = name.match_indices('/').map(|(end, _)| &name[..end]);
        for folder in folders {
            if let Some(other) = taken.get(folder) {
                let message = format!("needs `{folder}` as a folder, which is files[{other}]");
                return Err(RequestError::field(format!("files[{index}].name"), message));
            }
        }
    }
    Ok(())
}

/// The files have to fit the space that the program gets.
fn check_bytes(files: &[WorkspaceFile], limits: &Stages<Limits>) -> Result<(), RequestError> {
    let total: usize = files.iter().map(|file| file.bytes.len()).sum();
    let space = limits.compile.disk.min(limits.run.disk);
    if Bytes(u64::try_from(total).unwrap_or(u64::MAX)) >= space {
        let message = format!(
            "hold {total} bytes together, the job has {} of space",
            space.0
        );
        return Err(RequestError::field("files", message));
    }
    Ok(())
}

fn check_strings(args: &[String], env: &BTreeMap<String, String>) -> Result<(), RequestError> {
    let mut total = 0_usize;
    for (index, arg) in args.iter().enumerate() {
        check_string(&format!("args[{index}]"), arg)?;
        total += arg.len() + 1;
    }
    for (name, value) in env {
        let field = format!("env.{}", name.chars().take(80).collect::<String>());
        if name.is_empty() || name.contains('=') {
            return Err(RequestError::field(
                field,
                "is not a name: it is empty or holds `=`",
            ));
        }
        check_string(&field, name)?;
        check_string(&field, value)?;
        if name.len() + value.len() + 1 > MAX_STRING {
            return Err(RequestError::field(
                field,
                format!("is longer than {MAX_STRING} bytes"),
            ));
        }
        total += name.len() + value.len() + 2;
    }
    if total > MAX_STRINGS {
        let message = format!("and `env` hold {total} bytes, the most is {MAX_STRINGS}");
        return Err(RequestError::field("args", message));
    }
    Ok(())
}

fn check_string(field: &str, text: &str) -> Result<(), RequestError> {
    if text.contains('\0') {
        return Err(RequestError::field(field, "holds a NUL character"));
    }
    if text.len() > MAX_STRING {
        return Err(RequestError::field(
            field,
            format!("is longer than {MAX_STRING} bytes"),
        ));
    }
    Ok(())
}

fn globs(field: &str, patterns: &[String]) -> Result<GlobSet, RequestError> {
    if patterns.len() > MAX_PATTERNS {
        return Err(RequestError::field(
            field,
            format!("has more than {MAX_PATTERNS} entries"),
        ));
    }
    let mut set = GlobSetBuilder::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let bad = |message: String| RequestError::field(format!("{field}[{index}]"), message);
        if pattern.len() > 255 {
            return Err(bad("is longer than 255 bytes".to_owned()));
        }
        set.add(
            Glob::new(pattern).map_err(|error| bad(format!("is not a glob: {}", error.kind())))?,
        );
    }
    set.build()
        .map_err(|error| RequestError::field(field, format!("is too large: {error}")))
}

/// The language of a package that a v3 request means.
pub fn choose_language(
    installed: &Installed,
    asked: Option<&Language>,
) -> Result<usize, RequestError> {
    let provided = &installed.runtimes;
    let found = match asked {
        None => (!provided.is_empty()).then_some(0),
        Some(language) => provided.iter().position(|runtime| {
            runtime.language == *language || runtime.aliases.iter().any(|a| a == language.as_str())
        }),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = provided
            .iter()
            .map(|runtime| runtime.language.as_str())
            .collect();
        RequestError::NotExecutable(match asked {
            Some(language) if !names.is_empty() => {
                format!(
                    "{} runs {}, not {language}",
                    installed.package,
                    names.join(", ")
                )
            }
            _ => format!(
                "{} runs no language, it is there for other packages",
                installed.package
            ),
        })
    })
}

/// A v3 request decoded; its package is held, its limits are lowered.
pub fn from_v3(
    wire: api::ExecuteRequest,
    lease: Lease,
    policy: &super::limits::LimitPolicy,
) -> Result<Request, RequestError> {
    let runtime =
        &lease.installed.runtimes[choose_language(&lease.installed, wire.language.as_ref())?];
    let language = runtime.language.clone();
    let limits = policy.for_runtime(runtime).lower(&wire.limits)?;
    let files = match (wire.code, wire.files) {
        (Some(code), files) if files.is_empty() => {
            vec![DraftFile {
                name: None,
                bytes: code.into_bytes(),
                form: FileForm::Text,
            }]
        }
        (Some(_), _) => {
            return Err(RequestError::field(
                "code",
                "and `files` exclude each other",
            ));
        }
        (None, files) => v3_files(files)?,
    };
    let stdin = match wire.stdin {
        None => Vec::new(),
        Some(api::Stdin::Text(text)) => text.into_bytes(),
        Some(api::Stdin::Encoded { content, encoding }) => {
            decode("stdin.content", content, encoding)?
        }
    };
    let code = CodeFiles::FirstAndText;
    let (args, env, outputs) = (wire.args, wire.env, wire.outputs);
    Draft {
        lease,
        language,
        files,
        code,
        args,
        stdin,
        env,
        limits,
        outputs,
    }
    .try_into()
}

fn v3_files(files: Vec<api::InputFile>) -> Result<Vec<DraftFile>, RequestError> {
    let one = |(index, file): (usize, api::InputFile)| {
        let form = match file.encoding {
            TextEncoding::Utf8 => FileForm::Text,
            TextEncoding::Base64 | TextEncoding::Hex => FileForm::Encoded,
        };
        let bytes = decode(
            &format!("files[{index}].content"),
            file.content,
            file.encoding,
        )?;
        Ok(DraftFile {
            name: file.name,
            bytes,
            form,
        })
    };
    files.into_iter().enumerate().map(one).collect()
}

#[cfg(test)]
pub(crate) mod tests;
