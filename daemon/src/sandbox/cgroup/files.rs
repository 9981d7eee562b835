//! The files of a group's directory: numbers and tables of the kernel's, read and written by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A group's file that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct FileError {
    /// What was tried, a verb.
    action: &'static str,
    /// The file or directory.
    path: PathBuf,
    /// Why.
    #[source]
    source: io::Error,
}

impl FileError {
    pub(super) fn new(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// The error of the system call.
    pub(super) fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Reads a file of the group at `group`.
pub(super) fn read(group: &Path, name: &str) -> Result<String, FileError> {
    let path = group.join(name);
    fs::read_to_string(&path).map_err(|error| FileError::new("read", &path, error))
}

/// Writes a file of the group at `group`, in one call as the kernel wants it.
pub(super) fn write(group: &Path, name: &str, text: &str) -> Result<(), FileError> {
    let path = group.join(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| FileError::new("write", &path, error))
}

/// Makes a group; one that is there already will do.
pub(super) fn make(group: &Path) -> Result<(), FileError> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(FileError::new("make", group, error))
        }
        _ => Ok(()),
    }
}

/// Removes a group that is empty; one that is gone will do.
pub(super) fn remove(group: &Path) -> Result<(), FileError> {
    match fs::remove_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", group, error))
        }
        _ => Ok(()),
    }
}

/// The groups below one.
pub(super) fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The file's only number; none for `max`.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number after `key` in a table of lines `key number`; 0 when there is no such line.
pub(super) fn value(table: &str, key: &str) -> u64 {
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| number(value))?
    };
    table.lines().find_map(line).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_by_their_whole_key() {
        let table = "total_shmem 9\nshmem 4096\noom_kill 2\nbroken\nempty \n";
        for (key, expected) in [("shmem", 4096), ("oom_kill", 2), ("oom", 0), ("empty", 0)] {
            assert_eq!(value(table, key), expected, "{key}");
        }
    }

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(number("max\n"), None);
        assert_eq!(number("17\n"), Some(17));
    }

    #[test]
    fn what_is_there_need_not_be_made_and_what_is_gone_need_not_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("group");
        make(&group).unwrap();
        make(&group).unwrap();
        assert_eq!(children(folder.path()), [group.as_path()]);
        remove(&group).unwrap();
        remove(&group).unwrap();
        let error = write(&group, "memory.max", "1").unwrap_err();
        assert!(error.to_string().ends_with("group/memory.max"), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
