//! What a library says of itself: the `METADATA` of a wheel or of an installed distribution.
//!
//! Pure. Only what resolving needs is read.

use std::str::FromStr as _;

use pep440_rs::Version;

use super::super::ExtendError;
use super::project::Project;
use super::requirement::Requirement;

/// Most requirements of one library.
const MAX_REQUIREMENTS: usize = 10_000;

/// What a library says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Its name.
    pub(super) project: Project,
    /// Its version.
    pub(super) version: Version,
    /// What it needs.
    pub(super) requires: Vec<Requirement>,
}

impl Metadata {
    /// Reads the headers; `file` is what messages call it.
    pub(super) fn parse(text: &str, file: &str) -> Result<Self, ExtendError> {
        let refused = |reason: String| ExtendError::file(file, reason);
        let (mut name, mut version, mut requires) = (None, None, Vec::new());
        for (key, value) in headers(text) {
            match key.to_ascii_lowercase().as_str() {
                "name" if name.is_none() => name = Some(value),
                "version" if version.is_none() => version = Some(value),
                "requires-dist" if requires.len() < MAX_REQUIREMENTS => requires.push(value),
                "requires-dist" => {
                    return Err(refused(
                        "its metadata names over 10,000 requirements".to_owned(),
                    ));
                }
                _ => {}
            }
        }
        let name = name.ok_or_else(|| refused("its metadata has no name".to_owned()))?;
        let version = version.as_deref().map(Version::from_str);
        let Some(Ok(version)) = version else {
            return Err(refused("its metadata has no version".to_owned()));
        };
        let parsed = |text: String| {
            let read = text.parse::<Requirement>();
            read.map_err(|error| refused(format!("its metadata: {error}")))
        };
        Ok(Self {
            project: Project::new(name.trim())?,
            version,
            requires: requires.into_iter().map(parsed).collect::<Result<_, _>>()?,
        })
    }
}

/// The headers of a message; the lines of one that is folded are put together.
fn headers(text: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        // Not one of white space, which a folded licence is full of.
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = found.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            found.push((key, value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_read_and_the_description_is_not() {
        let text = "Metadata-Version: 2.1\nName: Pandas_Lite\nVersion: 2.2.3\n\
                    License: one\n        \n        two\nRequires-Dist: numpy>=1.26;\n  python_version >= '3.12'\n\
                    requires-dist: pytz\nSummary: a: b\n\nRequires-Dist: not this\n";
        let read = Metadata::parse(text, "x.whl").expect("metadata");
        assert_eq!(read.project.as_str(), "pandas-lite");
        assert_eq!(read.version.to_string(), "2.2.3");
        assert_eq!(read.requires.len(), 2);
        assert!(read.requires[0].marker.is_some());
    }

    #[test]
    fn what_is_wrong_is_told_with_the_file() {
        for (text, reason) in [
            ("Version: 1\n", "no name"),
            ("Name: a\nVersion: soon\n", "no version"),
            ("Name: a\nVersion: 1\nRequires-Dist: b @ https://c\n", "URL"),
        ] {
            let error = Metadata::parse(text, "a-1.whl")
                .expect_err(text)
                .to_string();
            assert!(
                error.contains("a-1.whl") && error.contains(reason),
                "{error}"
            );
        }
    }
}
