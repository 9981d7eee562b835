//! v3's wire form of a submission, decoded.

use piston_client::api::{self, TextEncoding};
use piston_client::ids::Language;

use super::{CodeFiles, Draft, DraftFile, FileForm, Request, RequestError, decode};
use crate::config::Jobs;
use crate::job::runners::{Rules, Terms};
use crate::packages::{Installed, Lease, ProvidedRuntime};

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
    rules: &Rules,
) -> Result<Request, RequestError> {
    decoded(wire, lease, |installed, runtime| {
        rules.terms(installed, runtime)
    })
}

/// The same for a program that somebody talks with: people take longer than programs, and what is
/// printed is not kept.
pub fn interactive_v3(
    wire: api::ExecuteRequest,
    lease: Lease,
    rules: &Rules,
    jobs: &Jobs,
) -> Result<Request, RequestError> {
    let terms = |installed: &_, runtime: &_| {
        let mut terms = rules.terms(installed, runtime);
        terms.limits.stages.run.wall_time = jobs.interactive_time;
        terms.limits.stages.run.output = rules.limits.max.output;
        terms
    };
    let request = decoded(wire, lease, terms)?;
    Ok(Request {
        idle_time: Some(jobs.interactive_idle),
        ..request
    })
}

fn decoded(
    wire: api::ExecuteRequest,
    lease: Lease,
    terms: impl FnOnce(&Installed, &ProvidedRuntime) -> Terms,
) -> Result<Request, RequestError> {
    let runtime =
        &lease.installed.runtimes[choose_language(&lease.installed, wire.language.as_ref())?];
    let language = runtime.language.clone();
    let terms = terms(&lease.installed, runtime);
    let limits = terms.limits.lower(&wire.limits)?;
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
    let cache = wire.cache.or(terms.cache);
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
        cache,
        grants: terms.grants,
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
