//! The checks of a submission: names, sizes, arguments, patterns.

use std::collections::BTreeMap;

use globset::{Glob, GlobSet, GlobSetBuilder};
use piston_client::units::Bytes;

use super::{CodeFiles, DraftFile, FileForm, RequestError};
use crate::job::limits::{Limits, Stages};
use crate::sandbox::{JobPath, WorkspaceFile};

/// Files of one submission at most: a workspace has a bound of its inodes.
const MAX_FILES: usize = 1024;
/// The kernel's bound of one argument or variable, with its final NUL.
const MAX_STRING: usize = 131_071;
/// Arguments and variables together; exec's bound is a quarter of the stack limit.
const MAX_STRINGS: usize = 1 << 20;
/// Patterns in `outputs`.
const MAX_PATTERNS: usize = 64;

/// Names the files and finds the code among them.
pub(super) fn files(
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
pub(super) fn bytes(files: &[WorkspaceFile], limits: &Stages<Limits>) -> Result<(), RequestError> {
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

pub(super) fn strings(args: &[String], env: &BTreeMap<String, String>) -> Result<(), RequestError> {
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

pub(super) fn globs(field: &str, patterns: &[String]) -> Result<GlobSet, RequestError> {
    if patterns.is_empty() {
        // Most have none, and building even an empty set takes a while.
        return Ok(GlobSet::empty());
    }
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
