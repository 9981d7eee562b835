//! Names of packages in a JavaScript registry, and what people and packages write after them.
//!
//! Invariant: a [`Name`] is one or two plain path components, `lodash` or `@scope/name`, so that it
//! is safe in a URL and as a folder.

use std::fmt;

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
    /// A range, or a tag; empty for the newest.
    pub(super) versions: String,
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
        let at = text.char_indices().skip(1).find(|(_, c)| *c == '@');
        let (name, versions) = match at {
            Some((at, _)) => (&text[..at], &text[at + 1..]),
            None => (text, ""),
        };
        Self::of(name, versions).map_err(|error| match error {
            ExtendError::Requirement { reason, .. } => ExtendError::requirement(text, reason),
            other => other,
        })
    }

    /// What a package needs, by the name and the versions in its metadata.
    pub(super) fn of(name: &str, versions: &str) -> Result<Self, ExtendError> {
        let name = Name::new(name)?;
        let versions = versions.trim();
        if let Some(alias) = versions.strip_prefix("npm:") {
            let real = Self::parse(alias)?;
            return Ok(Self {
                name,
                real: real.real,
                versions: real.versions,
            });
        }
        // `github:a/b`, `git+ssh://...`, `file:..`, `a/b`: nothing that a registry has checked.
        if versions.contains([':', '/']) {
            let text = format!("{name}@{versions}");
            let reason = "it names a place: only versions of the registry are taken";
            return Err(ExtendError::requirement(&text, reason));
        }
        Ok(Self {
            real: name.clone(),
            name,
            versions: versions.to_owned(),
        })
    }

    /// As in a message.
    pub(super) fn shown(&self) -> String {
        match self.versions.as_str() {
            "" => self.name.to_string(),
            versions => format!("{}@{versions}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
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
            let got = (
                read.name.as_str(),
                read.real.as_str(),
                read.versions.as_str(),
            );
            assert_eq!(got, (name, real, versions));
        }
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
        ] {
            Wanted::parse(text).expect_err(text);
        }
    }
}
