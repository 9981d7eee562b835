//! Where an index or a package file is, and where a reference in it may lead.
//!
//! Invariant: a reference never leads from the web to a file of this host, nor from https to
//! http. Looks at the file system only to tell a folder from a file.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

/// Name of the index in a folder.
const INDEX_NAME: &str = "index.yaml";

/// Where an index or a package file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `https://` or `http://`.
    Web(Url),
    /// A file of this host.
    File(PathBuf),
}

/// Why a location is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` {reason}")]
pub struct LocationError {
    text: String,
    reason: String,
}

impl Location {
    /// Reads `https://`, `http://`, `file://` or an absolute path. A folder means its
    /// `index.yaml`.
    pub fn of_index(text: &str) -> Result<Self, LocationError> {
        let fail = |reason: &str| LocationError::new(text, reason);
        if text.starts_with('/') {
            return Ok(Self::file(PathBuf::from(text)));
        }
        let mut url = Url::parse(text).map_err(|_| {
            fail("is no URL: write https://, http:// or file:// or an absolute path")
        })?;
        match url.scheme() {
            "https" | "http" => {
                if url.path().ends_with('/') {
                    url = url
                        .join(INDEX_NAME)
                        .map_err(|_| fail("is no URL of a file"))?;
                }
                Ok(Self::Web(url))
            }
            "file" => url
                .to_file_path()
                .map(Self::file)
                .map_err(|()| fail("names no file of this host: write file:///path")),
            _ => Err(fail(
                "is of a kind that is not supported: https, http and file are",
            )),
        }
    }

    /// The same for a folder, whose files are to be joined to it.
    pub fn of_folder(text: &str) -> Result<Self, LocationError> {
        Self::of_index(&format!("{}/", text.trim().trim_end_matches('/')))
    }

    /// An address as somebody wrote it, for people: without the password that it may have.
    pub fn without_password(text: &str) -> String {
        let text = text.trim().trim_end_matches('/');
        match Url::parse(text) {
            Ok(url) if url.password().is_some() => shown(&url).trim_end_matches('/').to_owned(),
            _ => text.to_owned(),
        }
    }

    fn file(path: PathBuf) -> Self {
        if path.is_dir() {
            Self::File(path.join(INDEX_NAME))
        } else {
            Self::File(path)
        }
    }

    /// The same with further parameters of a query; a file has none.
    pub(crate) fn with_query(mut self, parameters: &[(&str, &str)]) -> Self {
        if let Self::Web(url) = &mut self {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        self
    }

    /// The place of a file whose name is longer by an ending.
    pub(super) fn with_ending(&self, ending: &str) -> Self {
        match self {
            Self::Web(url) => {
                let mut url = url.clone();
                let path = format!("{}{ending}", url.path());
                url.set_path(&path);
                Self::Web(url)
            }
            Self::File(path) => {
                let mut name = path.clone().into_os_string();
                name.push(ending);
                Self::File(PathBuf::from(name))
            }
        }
    }

    /// Where `reference` leads from here: as a browser would resolve it, but never from the web
    /// to a file, nor from https to http.
    pub fn join(&self, reference: &str) -> Result<Self, LocationError> {
        let fail = |reason: &str| LocationError::new(reference, reason);
        let base = match self {
            Self::Web(url) => url.clone(),
            Self::File(path) => {
                Url::from_file_path(path).map_err(|()| fail("starts at no absolute path"))?
            }
        };
        let url = base.join(reference).map_err(|_| fail("is no URL"))?;
        match (self, url.scheme()) {
            (Self::Web(from), "http") if from.scheme() == "https" => {
                Err(fail("leads from https to http"))
            }
            (_, "http" | "https") => Ok(Self::Web(url)),
            (Self::File(_), "file") => {
                let path = url
                    .to_file_path()
                    .map_err(|()| fail("names no file of this host"))?;
                Ok(Self::File(path))
            }
            _ => Err(fail(
                "leads from the web to something else than http or https",
            )),
        }
    }
}

impl LocationError {
    fn new(text: &str, reason: &str) -> Self {
        Self {
            text: text.chars().take(200).collect(),
            reason: reason.to_owned(),
        }
    }
}

/// A URL for people: without the password that it may have.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // Fails only for a URL that can't have one.
        let _ = url.set_password(Some("***"));
    }
    url.to_string()
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => shown(url).fmt(f),
            Self::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_used_and_not_shown() {
        let location = Location::of_index("https://ann:secret@example.org/simple").unwrap();
        assert_eq!(location.to_string(), "https://ann:***@example.org/simple");
        let Location::Web(url) = location else {
            panic!("not of the web")
        };
        assert_eq!(url.password(), Some("secret"));
    }

    #[test]
    fn the_address_of_a_folder_is_told_as_it_was_written() {
        for (written, told) in [
            ("https://example.org/", "https://example.org"),
            (
                " https://ann:secret@example.org/npm/ ",
                "https://ann:***@example.org/npm",
            ),
            ("/srv/npm", "/srv/npm"),
        ] {
            assert_eq!(Location::without_password(written), told);
        }
    }
}
