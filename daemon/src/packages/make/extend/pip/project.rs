//! Names of projects in a Python index.
//!
//! Invariant: a [`Project`] is in the index's normal form (PEP 503), so that equal projects are
//! equal, and it is safe as a part of a URL.

use std::fmt;

use super::super::ExtendError;

/// Longest name that is taken.
const MAX_LENGTH: usize = 128;

/// The name of a project, e.g. `zope-interface`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Project(String);

impl Project {
    /// Reads a name as people write it, e.g. `Zope.Interface`.
    pub(super) fn new(name: &str) -> Result<Self, ExtendError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let good = name.len() <= MAX_LENGTH
            && name.chars().all(plain)
            && ends(name.chars().next())
            && ends(name.chars().next_back());
        if good {
            Ok(Self(normal(name)))
        } else {
            let reason = "it does not start with the name of a library, e.g. `numpy` or `numpy>=2`";
            Err(ExtendError::requirement(name, reason))
        }
    }

    /// As text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name of a project or an extra in small letters, each run of `-`, `_` and `.` as one `-`.
pub(super) fn normal(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same_are_equal() {
        for name in [
            "Zope.Interface",
            "zope_interface",
            "ZOPE--interface",
            "zope-.-interface",
        ] {
            assert_eq!(Project::new(name).expect(name).as_str(), "zope-interface");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [
            "",
            "-numpy",
            "numpy-",
            "../numpy",
            "nümpy",
            "a b",
            "a/b",
            &"a".repeat(129),
        ] {
            Project::new(name).expect_err(name);
        }
    }
}
