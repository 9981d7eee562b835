//! Names of files of a job, checked once.

use std::fmt;
use std::str::FromStr;

/// Longest path, as the kernel has it (without the NUL).
const MAX_PATH: usize = 4095;

/// Longest component.
const MAX_NAME: usize = 255;

/// A path below the job directory: relative, no empty, `.` or `..` component, no NUL, each
/// component at most 255 bytes, at most 4095 in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobPath(String);

/// Why a text is not the path of a file in the job directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJobPath {
    /// It is empty, or has an empty component: a slash at its start or end, or two in a row.
    #[error("a path has no empty part and no slash at its start or end")]
    Empty,
    /// It has a `.` or `..` component.
    #[error("a path has no `.` or `..` in it")]
    Dots,
    /// It has a NUL.
    #[error("a path has no NUL in it")]
    Nul,
    /// It or one of its components is too long.
    #[error("a path is at most {MAX_PATH} bytes long, and each part of it {MAX_NAME}")]
    TooLong,
}

impl JobPath {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// The components before the last.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        let folders = self.0.rsplit_once('/').map_or("", |(folders, _)| folders);
        folders.split('/').filter(|name| !name.is_empty())
    }

    fn check(path: &str) -> Result<(), InvalidJobPath> {
        if path.len() > MAX_PATH {
            return Err(InvalidJobPath::TooLong);
        }
        if path.contains('\0') {
            return Err(InvalidJobPath::Nul);
        }
        for name in path.split('/') {
            match name {
                "" => return Err(InvalidJobPath::Empty),
                "." | ".." => return Err(InvalidJobPath::Dots),
                name if name.len() > MAX_NAME => return Err(InvalidJobPath::TooLong),
                _ => {}
            }
        }
        Ok(())
    }
}

impl FromStr for JobPath {
    type Err = InvalidJobPath;

    fn from_str(path: &str) -> Result<Self, InvalidJobPath> {
        Self::check(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl TryFrom<String> for JobPath {
    type Error = InvalidJobPath;

    fn try_from(path: String) -> Result<Self, InvalidJobPath> {
        Self::check(&path)?;
        Ok(Self(path))
    }
}

impl AsRef<str> for JobPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_the_job_directory() {
        let check = |path: &str, expected: Result<(), InvalidJobPath>| {
            assert_eq!(path.parse::<JobPath>().map(drop), expected, "{path:.40}");
        };
        check("main.py", Ok(()));
        check("src/a b/..c/.d", Ok(()));
        check("ü", Ok(()));
        check("", Err(InvalidJobPath::Empty));
        check("/etc/passwd", Err(InvalidJobPath::Empty));
        check("a//b", Err(InvalidJobPath::Empty));
        check("a/", Err(InvalidJobPath::Empty));
        check("..", Err(InvalidJobPath::Dots));
        check("a/../b", Err(InvalidJobPath::Dots));
        check("./a", Err(InvalidJobPath::Dots));
        check("a\0b", Err(InvalidJobPath::Nul));
        check(&"n".repeat(255), Ok(()));
        check(&"n".repeat(256), Err(InvalidJobPath::TooLong));
        let longest = "n/".repeat(2047) + "n";
        check(&longest, Ok(()));
        check(&(longest + "/n"), Err(InvalidJobPath::TooLong));
    }

    #[test]
    fn a_path_has_folders_and_a_name() {
        let path: JobPath = "a/b/c".parse().unwrap();
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(path.file_name(), "c");
        let path: JobPath = "c".parse().unwrap();
        assert_eq!((path.folders().count(), path.file_name()), (0, "c"));
    }
}
