//! User names and passwords for registries: given, or from a file as `docker login` writes it.
//!
//! Invariants: a password is never shown, not in debug output either; it goes to the registry that it
//! is for, and to nobody else. Helper programs that keep passwords are not run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::super::super::files::{self, PathError};
use super::reference::Reference;

/// Longest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How docker names its own registry in the file.
const HUB: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

/// A user of a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.user)
    }
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file can't be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// It holds something else. What, is not repeated.
    #[error("{path} is no file of credentials as `docker login` writes it: {reason}")]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    #[serde(default)]
    auths: BTreeMap<String, RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Those of a file for the registry of an image, where it has some.
    pub(super) fn of_file(
        path: &Path,
        reference: &Reference,
    ) -> Result<Option<Self>, CredentialsError> {
        let wrong = |reason| CredentialsError::Form {
            path: path.to_owned(),
            reason,
        };
        let bytes = files::read_bounded(path, MAX_FILE_BYTES)?;
        let file: RawFile =
            serde_json::from_slice(&bytes).map_err(|_| wrong("it is no such JSON"))?;
        let entries = file.auths.iter();
        let fitting = entries.filter_map(|(key, entry)| Some((fits(key, reference)?, entry)));
        let Some((_, entry)) = fitting.max_by_key(|(length, _)| *length) else {
            return Ok(None);
        };
        if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
            return Ok(Some(Self {
                user: user.clone(),
                password: password.clone(),
            }));
        }
        let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) else {
            // A helper program keeps it.
            return Ok(None);
        };
        let decoded = STANDARD.decode(auth.trim()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| wrong("an `auth` in it is no base64 of text"))?;
        let (user, password) = text
            .split_once(':')
            .ok_or_else(|| wrong("an `auth` in it has no colon"))?;
        Ok(Some(Self {
            user: user.to_owned(),
            // Docker has ended passwords in NULs.
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

/// How much of an image's name a key of the file stands for, when it does: a registry, or a part of it.
fn fits(key: &str, reference: &Reference) -> Option<usize> {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let key = key.trim_end_matches('/');
    let key = ["/v1", "/v2"]
        .into_iter()
        .find_map(|end| key.strip_suffix(end))
        .unwrap_or(key);
    let (host, below) = key.split_once('/').unwrap_or((key, ""));
    let is_host = host == reference.host() || (reference.is_hub() && HUB.contains(&host));
    let rest = reference.repository().strip_prefix(below)?;
    let is_below = below.is_empty() || rest.is_empty() || rest.starts_with('/');
    (is_host && is_below).then_some(below.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, image: &str) -> Result<Option<String>, String> {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("config.json");
        std::fs::write(&path, file).expect("written");
        let reference = image.parse().expect("a reference");
        let found = Credentials::of_file(&path, &reference).map_err(|error| error.to_string())?;
        Ok(found.map(|one| format!("{}/{}", one.user, one.password)))
    }

    #[test]
    fn the_entry_of_the_images_registry_is_taken() {
        let auth = |text: &str| STANDARD.encode(text);
        let file = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "localhost:5000": {{"auth": "{}"}},
                "ghcr.io/owner": {{"username": "o", "password": "p"}},
                "ghcr.io": {{"auth": "{}"}},
                "helped.example.org": {{}}
            }}, "credsStore": "pass"}}"#,
            auth("hub:a:b"),
            auth("local:c\0\0"),
            auth("all:d"),
        );
        for (image, expected) in [
            ("python", Some("hub/a:b")),
            ("docker.io/o/x", Some("hub/a:b")),
            ("localhost:5000/x", Some("local/c")),
            ("localhost:5001/x", None),
            ("ghcr.io/owner/x", Some("o/p")),
            ("ghcr.io/owners/x", Some("all/d")),
            ("helped.example.org/x", None),
            ("ghcr.io.example.org/x", None),
        ] {
            let found = found(&file, image).expect(image);
            assert_eq!(found.as_deref(), expected, "{image}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused_without_repeating_it() {
        for file in [
            "secret",
            r#"{"auths": ["secret"]}"#,
            r#"{"auths": {"docker.io": {"auth": "secret"}}}"#,
            r#"{"auths": {"docker.io": {"auth": "c2VjcmV0"}}}"#,
        ] {
            let text = found(file, "python").expect_err(file);
            assert!(
                !text.contains("secret") && text.contains("config.json"),
                "{text}"
            );
        }
        let reference = "python".parse().expect("a reference");
        let gone = Credentials::of_file(Path::new("/nowhere/config.json"), &reference);
        let text = gone.expect_err("no such file").to_string();
        assert!(text.contains("/nowhere/config.json"), "{text}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let credentials = Credentials {
            user: "ann".to_owned(),
            password: "secret".to_owned(),
        };
        assert_eq!(format!("{credentials:?}"), "Credentials(ann)");
    }
}
