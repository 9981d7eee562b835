//! Names of packages in a JavaScript registry, and what people and packages write after them.
//!
//! Invariant: a [`Name`] is one or two plain path components, `lodash` or `@scope/name`, so that it
//! is safe in a URL and as a folder.

use std::fmt;

use super::super::super::super::version::VersionRange;
use super::super::ExtendError;

/// Longest name, as in the registry.
const MAX_LENGTH: usize = 214;

/// The name of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(String);

/// A package and the versions of it that will do, as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The folder it goes to, by which it is loaded.
    pub(super) name: Name,
    /// What the registry calls it.
    pub(super) real: Name,
    /// Which of its versions.
    pub(super) versions: Versions,
    /// The same as it was written.
    text: String,
}

/// Which versions will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Versions {
    /// Those of a range; the empty one is any.
    Range(VersionRange),
    /// The one that the registry gives this tag.
    Tag(String),
}

impl Name {
    /// Reads a name.
    pub(super) fn new(text: &str) -> Result<Self, ExtendError> {
        let (scope, name) = match text.strip_prefix('@').map(|rest| rest.split_once('/')) {
            None => (None, text),
            Some(Some((scope, name))) => (Some(scope), name),
            Some(None) => (None, ""),
        };
        let plain = |part: &str| {
            let good = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(good)
        };
        let good = plain(name)
            && scope.is_none_or(plain)
            && name != "node_modules"
            && text.len() <= MAX_LENGTH;
        if good {
            Ok(Self(text.to_owned()))
        } else {
            let reason =
                "it does not start with the name of a library, e.g. `lodash` or `@types/node`";
            Err(ExtendError::requirement(text, reason))
        }
    }

    /// As text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// As one component of a path of a URL.
    pub(super) fn in_url(&self) -> String {
        self.0.replace('/', "%2f")
    }

    /// As a part of a package's name.
    pub(super) fn plain(&self) -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        };
        let text: String = self.0.to_ascii_lowercase().chars().map(plain).collect();
        text.trim_start_matches(['-', '.', '_']).to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Wanted {
    /// Reads what is asked for: `lodash`, `lodash@4`, `@types/node@^18`.
    pub(super) fn parse(text: &str) -> Result<Self, ExtendError> {
        let text = text.trim();
        let (name, versions) = split(text);
        Self::of(name, versions).map_err(|error| match error {
            ExtendError::Requirement { reason, .. } => ExtendError::requirement(text, reason),
            other => other,
        })
    }

    /// What a package needs, by the name and the versions in its metadata.
    pub(super) fn of(name: &str, versions: &str) -> Result<Self, ExtendError> {
        let name = Name::new(name)?;
        let text = versions.trim().to_owned();
        let (real, versions) = match text.strip_prefix("npm:") {
            Some(alias) => {
                let (real, versions) = split(alias);
                (Name::new(real)?, versions)
            }
            None => (name.clone(), &*text),
        };
        let versions = Versions::parse(versions)
            .map_err(|reason| ExtendError::requirement(&format!("{name}@{text}"), reason))?;
        Ok(Self {
            name,
            real,
            versions,
            text,
        })
    }

    /// As in a message.
    pub(super) fn shown(&self) -> String {
        match self.text.as_str() {
            "" => self.name.to_string(),
            versions => format!("{}@{versions}", self.name),
        }
    }
}

impl Versions {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        // `github:a/b`, `git+ssh://...`, `file:..`, `a/b`: nothing that a registry has checked.
        if text.contains([':', '/']) {
            return Err("it names a place: only versions of the registry are taken");
        }
        if let Ok(range) = text.parse() {
            return Ok(Self::Range(range));
        }
        let good = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if text.len() <= MAX_LENGTH && text.chars().all(good) {
            return Ok(Self::Tag(text.to_owned()));
        }
        Err("it names neither a range of versions nor a tag, e.g. `^4.17` or `latest`")
    }

    /// Whether every version will do.
    pub(super) fn is_any(&self) -> bool {
        // A range is shown by what it means: `*`, `x` and nothing at all are the same.
        matches!(self, Self::Range(range) if range.to_string() == "*")
    }
}

/// A name, and the versions behind it.
fn split(text: &str) -> (&str, &str) {
    // The first character may be the `@` of a scope.
    let at = text.char_indices().skip(1).find(|(_, c)| *c == '@');
    at.map_or((text, ""), |(at, _)| (&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_is_read_in_all_its_spellings() {
        for (text, name, real, versions) in [
            ("lodash", "lodash", "lodash", ""),
            ("lodash@4", "lodash", "lodash", "4"),
            (
                "@types/node@^18.2 || 20",
                "@types/node",
                "@types/node",
                "^18.2 || 20",
            ),
            ("JSONStream@latest", "JSONStream", "JSONStream", "latest"),
            ("old@npm:@x/lodash@3", "old", "@x/lodash", "3"),
        ] {
            let read = Wanted::parse(text).expect(text);
            assert_eq!((read.name.as_str(), read.real.as_str()), (name, real));
            let expected = Versions::parse(versions).expect(versions);
            assert_eq!(read.versions, expected, "{text}");
        }
        let is_any = |text| Wanted::parse(text).expect(text).versions.is_any();
        assert!(is_any("a") && is_any("a@*") && is_any("a@x") && is_any("a@>=0.0.0"));
        assert!(!is_any("a@1") && !is_any("a@latest"));
        assert_eq!(
            Name::new("@types/node").expect("a name").in_url(),
            "@types%2fnode"
        );
        assert_eq!(
            Name::new("@Types/Node").expect("a name").plain(),
            "types-node"
        );
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for text in [
            "",
            "..",
            "../x",
            ".bin",
            "a/b",
            "@a",
            "@a/",
            "@/a",
            "@a/../b",
            "@a/b/c",
            "node_modules",
            "a b",
            "a%2fb",
            &"a".repeat(215),
            "a@git+https://example.org/a.git",
            "a@file:../a",
            "a@user/repo",
            "a@npm:..",
            "a@npm:b@npm:c",
            "a@npm:b@file:../c",
        ] {
            Wanted::parse(text).expect_err(text);
        }
    }

    #[test]
    fn ranges_are_understood_as_packages_of_the_registry_write_them() {
        for (range, good, bad) in [
            (">= 1.0.0", "1.0.0", "0.9.9"),
            ("~> 1.2", "1.2.9", "1.3.0"),
            ("^1.0.0-beta.1 || ^2", "2.4.0", "3.0.0"),
            (">=1.x", "1.0.0", "0.9.0"),
            ("1.0.*", "1.0.7", "1.1.0"),
            ("1.2.3 - 1.4", "1.4.9", "1.5.0"),
            (">1.2.3 <=2.0.0", "2.0.0", "1.2.3"),
            ("^0.0.3", "0.0.3", "0.0.4"),
            ("~0.2.3 || 0.1.x", "0.1.9", "0.3.0"),
            ("v1.2.3", "1.2.3", "1.2.4"),
            ("= 1.2.3", "1.2.3", "1.2.4"),
            ("0.10 || 0.12 || ^4", "4.9.1", "0.11.0"),
        ] {
            let Ok(Versions::Range(read)) = Versions::parse(range) else {
                panic!("{range} is no range");
            };
            let matches = |version: &str| read.matches(&version.parse().expect(version));
            assert!(matches(good) && !matches(bad), "{range}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_a_name_stays_in_its_place(text in "[@/a-c.~:npm*^0-9 é-]{0,40}") {
            if let Ok(wanted) = Wanted::parse(&text) {
                for name in [&wanted.name, &wanted.real] {
                    let path = std::path::Path::new(name.as_str());
                    let plain = |part| matches!(part, std::path::Component::Normal(_));
                    prop_assert!(path.components().all(plain) && path.components().count() <= 2);
                    prop_assert!(!name.in_url().contains('/'));
                }
            }
        }
    }
}
