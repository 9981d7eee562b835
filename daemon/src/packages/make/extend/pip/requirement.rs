//! Requirements: which versions of which library somebody needs, and when (PEP 508).
//!
//! Pure. Requirements by URL are refused: what they lead to has no checksum.

use std::collections::BTreeSet;
use std::str::FromStr;

use pep440_rs::VersionSpecifiers;

use super::super::ExtendError;
use super::marker::{self, Marker};
use super::project::{Project, normal};

/// Longest requirement that is read.
const MAX_LENGTH: usize = 4096;

/// What somebody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirement {
    /// The library.
    pub(super) project: Project,
    /// Parts of it that are optional.
    pub(super) extras: BTreeSet<String>,
    /// Versions that will do.
    pub(super) versions: VersionSpecifiers,
    /// When it is needed at all.
    pub(super) marker: Option<Marker>,
}

impl FromStr for Requirement {
    type Err = ExtendError;

    fn from_str(text: &str) -> Result<Self, ExtendError> {
        let refused = |reason: &str| ExtendError::requirement(text, reason);
        if text.len() > MAX_LENGTH {
            return Err(refused("it is too long"));
        }
        let rest = text.trim();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let project = Project::new(name).map_err(|_| {
            refused("it does not start with the name of a library, e.g. `numpy` or `numpy>=2`")
        })?;
        let mut rest = rest.trim_start();
        let mut extras = BTreeSet::new();
        if let Some(inside) = rest.strip_prefix('[') {
            let (names, after) = inside
                .split_once(']')
                .ok_or_else(|| refused("it lacks a `]`"))?;
            let names = names
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty());
            extras.extend(names.map(normal));
            rest = after.trim_start();
        }
        if rest.starts_with('@') {
            return Err(refused("it names a URL: only files of the index are taken"));
        }
        let (versions, marker) = match rest.split_once(';') {
            Some((versions, marker)) => (versions, Some(marker)),
            None => (rest, None),
        };
        let versions = versions.trim();
        let inside = versions
            .strip_prefix('(')
            .map(|inside| inside.strip_suffix(')'));
        let versions = match inside {
            Some(inside) => inside.ok_or_else(|| refused("it lacks a `)`"))?,
            None => versions,
        };
        let versions = versions.trim().trim_end_matches(',').parse();
        let marker = marker.map(marker::parse).transpose();
        Ok(Self {
            project,
            extras,
            versions: versions.map_err(|_| {
                refused("its versions are not understood; write e.g. `numpy==2.1.0` or `numpy>=1.26,<3`")
            })?,
            marker: marker.map_err(|reason| refused(&reason))?,
        })
    }
}

impl Requirement {
    /// The library and its versions, as in a message.
    pub(super) fn shown(&self) -> String {
        let versions = self.versions.to_string().replace(", ", ",");
        format!("{}{versions}", self.project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requirement_is_read_in_all_its_spellings() {
        for (text, shown, extras, marked) in [
            ("numpy", "numpy", 0, false),
            (" NumPy == 2.1.* ", "numpy==2.1.*", 0, false),
            (
                "requests[socks, Use_Chardet]>=2.8.1,<3",
                "requests>=2.8.1,<3",
                2,
                false,
            ),
            ("pytz (>=2020.1)", "pytz>=2020.1", 0, false),
            (
                "tzdata>=2022.7; python_version<'4'",
                "tzdata>=2022.7",
                0,
                true,
            ),
            ("six[];extra == 'x'", "six", 0, true),
        ] {
            let read: Requirement = text.parse().expect(text);
            assert_eq!(read.shown(), shown);
            assert_eq!(read.extras.len(), extras, "{text}");
            assert_eq!(read.marker.is_some(), marked, "{text}");
        }
    }

    #[test]
    fn what_is_refused_is_named_with_the_reason() {
        for (text, reason) in [
            ("", "name"),
            (">=2", "name"),
            ("../etc", "name"),
            ("numpy @ https://example.org/numpy.whl", "URL"),
            ("numpy[a", "]"),
            ("numpy(>=1", ")"),
            ("numpy>=", "versions"),
            ("numpy latest", "versions"),
            ("numpy; moon=='full'", "moon"),
        ] {
            let error = text.parse::<Requirement>().expect_err(text).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
