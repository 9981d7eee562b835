//! Ranges of versions in npm's syntax.
//!
//! Owns the boundary between the two semver crates: exact versions are `semver`'s (strict,
//! ordered), ranges are `nodejs-semver`'s, because `3.9` means `3.9.x` in Piston. Invariant: a
//! pre-release only matches a range that names a pre-release of the same `major.minor.patch`.

use std::fmt;
use std::str::FromStr;

use piston_client::ids::Version;

/// A range of versions in npm's syntax (`*`, `3.9.x`, `^3.9`, `>=3 <4`, `1 || 2`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange(pub nodejs_semver::Range);

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a version range: write e.g. `3.11.2`, `3.11`, `^3.9`, `>=3 <4` or `*`")]
pub struct InvalidRange {
    text: String,
}

impl VersionRange {
    /// Longest text that is looked at.
    const MAX_LENGTH: usize = 256;

    /// Every version but pre-releases.
    pub fn any() -> Self {
        Self(nodejs_semver::Range::any())
    }

    /// Whether `version` is in the range.
    pub fn matches(&self, version: &Version) -> bool {
        // Components above 2^53 are valid for one crate and not for the other: no match.
        nodejs_semver::Version::parse(version.to_string())
            .is_ok_and(|version| self.0.satisfies(&version))
    }
}

impl FromStr for VersionRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let invalid = || InvalidRange {
            text: text.chars().take(80).collect(),
        };
        if text.len() > Self::MAX_LENGTH {
            return Err(invalid());
        }
        nodejs_semver::Range::parse(text)
            .map(Self)
            .map_err(|_| invalid())
    }
}

impl fmt::Display for VersionRange {
    /// In comparators; upper bounds are written `<4.0.0` where npm means `<4.0.0-0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comparators = self.0.to_string();
        if comparators == ">=0.0.0" {
            return f.write_str("*");
        }
        for (index, word) in comparators.split(' ').enumerate() {
            let shown = match word.strip_suffix("-0") {
                Some(bound) if word.starts_with('<') => bound,
                _ => word,
            };
            write!(f, "{}{shown}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_npm_s() {
        for (range, version, expected) in [
            ("*", "3.11.2", true),
            ("", "3.11.2", true),
            ("*", "3.12.0-rc.1", false),
            ("3", "3.11.2", true),
            ("3.9", "3.9.17", true),
            ("3.9", "3.10.0", false),
            ("3.9.x", "3.9.17", true),
            ("^3.9", "3.11.2", true),
            ("^3.9", "4.0.0", false),
            (">=3 <4", "3.11.2", true),
            ("1 || 2", "2.5.0", true),
            ("1.2 - 1.4", "1.4.9", true),
            ("v3.11.2", "3.11.2", true),
            ("=3.11.2", "3.11.2", true),
            ("3.12.0-rc.1", "3.12.0-rc.1", true),
            ("3.12.0-rc.1", "3.12.0", false),
            ("3.11.2", "3.11.2+deb12", true),
        ] {
            let parsed: VersionRange = range.parse().unwrap();
            let version: Version = version.parse().unwrap();
            assert_eq!(parsed.matches(&version), expected, "{range} {version}");
        }
    }

    #[test]
    fn a_range_is_shown_in_plain_comparators() {
        for (range, shown) in [
            ("^12", ">=12.0.0 <13.0.0"),
            ("*", "*"),
            ("3.11.2", "3.11.2"),
        ] {
            let parsed: VersionRange = range.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(
                parsed
                    .to_string()
                    .parse::<VersionRange>()
                    .unwrap()
                    .to_string(),
                shown
            );
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_an_example() {
        for text in ["latest", "python", ">>3", &"1".repeat(300)] {
            let error = text.parse::<VersionRange>().unwrap_err().to_string();
            assert!(error.contains("^3.9"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,64}") {
            drop(text.parse::<VersionRange>());
        }

        #[test]
        fn an_exact_version_matches_itself_as_a_range(
            major in 0_u64..1000, minor in 0_u64..1000, patch in 0_u64..1000
        ) {
            let text = format!("{major}.{minor}.{patch}");
            let range: VersionRange = text.parse().unwrap();
            prop_assert!(range.matches(&text.parse().unwrap()));
        }
    }
}
