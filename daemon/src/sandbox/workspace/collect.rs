//! Takes files out of a job directory that a hostile program may have filled.
//!
//! The walk keeps its own stack, one level for each open directory, and a shared path buffer:
//! its memory is bounded by the names that the workspace can hold, its descriptors by the depth.
//! Nothing is read before its size is known to fit.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use piston_client::units::Bytes;
use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::super::error::SandboxError;
use super::{BENEATH, JobPath, WorkspaceFile, open_directory};

/// Deepest level of folders that is collected from.
const MAX_DEPTH: usize = 128;

/// Most names that are looked at.
const MAX_NAMES: u64 = 1_000_000;

/// A directory that the walk is in.
struct Level {
    directory: OwnedFd,
    /// Names still to visit.
    names: std::vec::IntoIter<(String, FileType)>,
    /// Length of the path buffer up to this directory.
    path_len: usize,
}

/// What is left of the bounds.
struct Budget {
    bound: u64,
    bytes: u64,
    names: u64,
}

/// Regular files below `job` that `wanted` accepts, in path order.
pub(super) fn collect(
    job: BorrowedFd<'_>,
    wanted: &dyn Fn(&JobPath) -> bool,
    bound: Bytes,
) -> Result<Vec<WorkspaceFile>, SandboxError> {
    let mut budget = Budget {
        bound: bound.0,
        bytes: bound.0,
        names: MAX_NAMES,
    };
    let mut files = Vec::new();
    let mut path = String::new();
    let root = open_directory(job, ".").map_err(|error| unreadable(".", error))?;
    let mut levels = vec![Level::read(root, &path, &mut budget)?];
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else {
            break;
        };
        path.truncate(level.path_len);
        let Some((name, kind)) = level.names.next() else {
            levels.pop();
            continue;
        };
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&name);
        match kind {
            FileType::Directory => {
                if depth >= MAX_DEPTH {
                    let bound = u64::try_from(MAX_DEPTH).unwrap_or(u64::MAX);
                    return Err(SandboxError::TooMuch {
                        what: "levels of folders",
                        bound,
                    });
                }
                let parent = level.directory.as_fd();
                let directory =
                    open_directory(parent, &name).map_err(|error| unreadable(&path, error))?;
                levels.push(Level::read(directory, &path, &mut budget)?);
            }
            FileType::RegularFile => {
                // A name that no path can be is nobody's.
                if let Ok(path) = path.parse::<JobPath>()
                    && wanted(&path)
                {
                    files.push(read_file(level.directory.as_fd(), path, &mut budget)?);
                }
            }
            _ => {}
        }
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

impl Level {
    /// Lists a directory.
    fn read(directory: OwnedFd, path: &str, budget: &mut Budget) -> Result<Self, SandboxError> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(|error| unreadable(path, error))? {
            let entry = entry.map_err(|error| unreadable(path, error))?;
            budget.names = budget.names.checked_sub(1).ok_or(SandboxError::TooMuch {
                what: "names",
                bound: MAX_NAMES,
            })?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name != "." && name != ".." {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        Ok(Self {
            directory,
            names: names.into_iter(),
            path_len: path.len(),
        })
    }
}

/// Reads a regular file, if it fits.
fn read_file(
    directory: BorrowedFd<'_>,
    path: JobPath,
    budget: &mut Budget,
) -> Result<WorkspaceFile, SandboxError> {
    let too_much = SandboxError::TooMuch {
        what: "bytes",
        bound: budget.bound,
    };
    let fail = |error: io::Error| unreadable(path.as_str(), error);
    // A pipe that took the file's place would block without O_NONBLOCK.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(directory, path.file_name(), flags, Mode::empty(), BENEATH)
        .map_err(|error| fail(error.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|error| fail(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(fail(io::ErrorKind::InvalidData.into()));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let Some(left) = budget.bytes.checked_sub(size) else {
        return Err(too_much);
    };
    let mut bytes = Vec::with_capacity(Bytes(size).as_usize());
    std::fs::File::from(file)
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    budget.bytes = left;
    Ok(WorkspaceFile {
        path,
        mode: stat.st_mode & 0o777,
        bytes,
    })
}

fn unreadable(path: &str, source: impl Into<io::Error>) -> SandboxError {
    SandboxError::Workspace {
        action: "read",
        path: path.to_owned(),
        source: source.into(),
    }
}
