//! What an image is called: by a path of this machine, or as registries have it.
//!
//! Names are as `docker pull` takes them: `python:3.12`, `ghcr.io/owner/name`,
//! `localhost:5000/name@sha256:...`. Invariants: a [`Reference`] is made of nothing but what URLs may
//! be put together of; who puts a password into one is told so without it being repeated. Asks nobody.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use piston_client::ids::Digest;

/// The registry of names without one, as people call it.
const HUB: &str = "docker.io";
/// Where it is.
const HUB_HOST: &str = "registry-1.docker.io";
/// Longest name that registries take.
const MAX_NAME_BYTES: usize = 255;
/// Longest tag.
const MAX_TAG_BYTES: usize = 128;
/// Longest text that is looked at.
const MAX_TEXT_BYTES: usize = 4096;

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// An image layout, or an archive: an absolute path of this machine, which may be followed by a
    /// colon and which of its images is meant.
    Path(PathBuf),
    /// A registry.
    Registry(Reference),
}

/// An image of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    scheme: Scheme,
    /// Host, with a port or without.
    host: String,
    /// Name at the registry.
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// How a registry is spoken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    /// Registries of this machine, unless said otherwise.
    Http,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It holds what looks like a password; it is not repeated.
    #[error("an image's name holds no user and password: give them by themselves (`--username`)")]
    Password,
    /// It is no name.
    #[error("`{text}` names no image: {reason}")]
    Name {
        /// The text, shortened.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl FromStr for ImageSource {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.starts_with('/') && text.len() <= MAX_TEXT_BYTES && !text.contains('\0') {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        Ok(Self::Registry(text.parse()?))
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Registry(reference) => reference.fmt(f),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| ReferenceError::Name {
            text: text.chars().take(100).collect(),
            reason,
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(_) => return Err(wrong("registries are spoken with by http and https only")),
            None => (None, text),
        };
        let (rest, digest) = match rest.split_once('@') {
            None => (rest, None),
            Some((name, digest)) => {
                let hex = digest.strip_prefix("sha256:");
                let digest = hex.and_then(|hex| hex.parse().ok());
                if digest.is_none() && !digest_like(rest) {
                    return Err(ReferenceError::Password);
                }
                let reason = "after `@` stands `sha256:` and 64 hexadecimal digits";
                (name, Some(digest.ok_or_else(|| wrong(reason))?))
            }
        };
        if rest.len() > MAX_TEXT_BYTES {
            return Err(wrong("it is too long"));
        }
        let (rest, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if !tag.is_none_or(is_tag) {
            return Err(wrong(
                "its tag is not 1 to 128 letters, digits, `_`, `.`, `-`",
            ));
        }
        let (host, name) = match rest.split_once('/') {
            Some((host, name)) if is_host_like(host) => (host, name.to_owned()),
            _ if scheme.is_some() => return Err(wrong("after the registry stands `/` and a name")),
            Some(_) => (HUB, rest.to_owned()),
            None => (HUB, format!("library/{rest}")),
        };
        if !is_host(host) {
            return Err(wrong("its registry is no host with a port or without"));
        }
        if name.len() > MAX_NAME_BYTES || !name.split('/').all(is_component) {
            let reason =
                "names are lower-case letters and digits, parts joined by `.`, `_`, `-`, `/`";
            return Err(wrong(reason));
        }
        Ok(Self {
            scheme: scheme.unwrap_or_else(|| Scheme::of(host)),
            host: if matches!(host, HUB | "index.docker.io") {
                HUB_HOST.to_owned()
            } else {
                host.to_owned()
            },
            repository: name,
            tag: tag.map(ToOwned::to_owned),
            digest,
        })
    }
}

impl Scheme {
    /// What a registry of that host is spoken with: those of this machine have no certificates.
    fn of(host: &str) -> Self {
        let name = if host.starts_with('[') {
            host.split(']').next().unwrap_or_default()
        } else {
            host.split(':').next().unwrap_or_default()
        };
        let is_loopback = matches!(name, "localhost" | "[::1") || name.starts_with("127.");
        if is_loopback { Self::Http } else { Self::Https }
    }
}

impl Reference {
    /// The registry's host, with its port where it has one.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The name at the registry.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// The last part of the name.
    pub(super) fn short_name(&self) -> &str {
        let last = self.repository.rsplit('/').next();
        last.unwrap_or(&self.repository)
    }

    /// The tag, where one is given.
    pub(super) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that it has to have, where one is given.
    pub(super) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether the registry is the one of names without a registry.
    pub(super) fn is_hub(&self) -> bool {
        self.host == HUB_HOST
    }

    /// URL of a part of the image: `manifests/latest`, `blobs/sha256:...`.
    pub(super) fn url(&self, part: &str) -> String {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        format!("{scheme}://{}/v2/{}/{part}", self.host, self.repository)
    }

    /// What its manifest is asked for by.
    pub(super) fn manifest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.is_hub() { HUB } else { &self.host };
        if self.scheme != Scheme::of(&self.host) {
            f.write_str(match self.scheme {
                Scheme::Https => "https://",
                Scheme::Http => "http://",
            })?;
        }
        write!(f, "{host}/{}", self.repository)?;
        match (&self.tag, &self.digest) {
            (None, None) => f.write_str(":latest")?,
            (Some(tag), _) => write!(f, ":{tag}")?,
            (None, Some(_)) => {}
        }
        match &self.digest {
            Some(digest) => write!(f, "@sha256:{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether what follows the first `@` is meant as a digest: a host can't follow it.
fn digest_like(rest: &str) -> bool {
    let after = rest.split_once('@').map_or("", |(_, after)| after);
    after.starts_with("sha") && !after.contains('/')
}

/// Whether the first part of a name is a registry rather than an owner, by docker's rule.
fn is_host_like(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

fn is_host(host: &str) -> bool {
    let plain = |name: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        starts && name.len() <= 253 && name.chars().all(fits)
    };
    let port = |port: &str| port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let fits = |c: char| c.is_ascii_hexdigit() || c == ':';
        return !address.is_empty() && address.chars().all(fits) && port(rest);
    }
    let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
    plain(name) && port(rest)
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joint = |joint: &str| {
        matches!(joint, "." | "_" | "__") || (!joint.is_empty() && joint.chars().all(|c| c == '-'))
    };
    let bytes = part.trim_matches(|c| !word(c));
    bytes.len() == part.len()
        && !part.is_empty()
        && part
            .split(word)
            .filter(|between| !between.is_empty())
            .all(joint)
}

fn is_tag(tag: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=MAX_TAG_BYTES).contains(&tag.len()) && tag.starts_with(starts) && tag.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parsed(text: &str) -> Reference {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn names_are_what_docker_takes_them_for() {
        let with_digest = format!("python@{DIGEST}");
        let both = format!("localhost:5000/a/b:1@{DIGEST}");
        for (text, shown, url) in [
            (
                "python",
                "docker.io/library/python:latest",
                "https://registry-1.docker.io/v2/library/python/manifests/latest",
            ),
            (
                "docker.io/owner/name:1.2-slim",
                "docker.io/owner/name:1.2-slim",
                "https://registry-1.docker.io/v2/owner/name/manifests/1.2-slim",
            ),
            (
                "ghcr.io/o/n__m/x--y",
                "ghcr.io/o/n__m/x--y:latest",
                "https://ghcr.io/v2/o/n__m/x--y/manifests/latest",
            ),
            (
                "localhost:5000/name:tag",
                "localhost:5000/name:tag",
                "http://localhost:5000/v2/name/manifests/tag",
            ),
            (
                "https://localhost/name",
                "https://localhost/name:latest",
                "https://localhost/v2/name/manifests/latest",
            ),
            (
                "http://registry.example.org:80/name",
                "http://registry.example.org:80/name:latest",
                "http://registry.example.org:80/v2/name/manifests/latest",
            ),
            (
                "[::1]:5000/name",
                "[::1]:5000/name:latest",
                "http://[::1]:5000/v2/name/manifests/latest",
            ),
            (
                &with_digest,
                &format!("docker.io/library/{with_digest}"),
                &format!("https://registry-1.docker.io/v2/library/python/manifests/{DIGEST}"),
            ),
            (
                &both,
                &both,
                &format!("http://localhost:5000/v2/a/b/manifests/{DIGEST}"),
            ),
        ] {
            let reference = parsed(text);
            assert_eq!(reference.to_string(), shown, "{text}");
            let manifest = format!("manifests/{}", reference.manifest());
            assert_eq!(reference.url(&manifest), url, "{text}");
            assert_eq!(parsed(shown), parsed(&reference.to_string()), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            "Python",
            "python:",
            "python:a b",
            "a//b",
            "a/../b",
            "-a",
            "a_",
            "a___b",
            "a..b",
            "ftp://host/name",
            "https://name",
            "host.name:0/x",
            "host.name:99999/x",
            "ho st.x/name",
            "python@sha256:12",
            "python?x=1",
            "python#x",
            &long,
        ] {
            text.parse::<Reference>().expect_err(text);
        }
    }

    #[test]
    fn a_password_in_a_name_is_refused_and_not_repeated() {
        for text in [
            "https://ann:secret@registry.example.org/name",
            "ann:secret@registry.example.org/name",
            "https://ann:secret@sha.example.org/name",
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert_eq!(error, ReferenceError::Password, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn an_absolute_path_is_one_of_this_machine() {
        let source: ImageSource = "/srv/image.tar:latest".parse().expect("a path");
        assert_eq!(source, ImageSource::Path("/srv/image.tar:latest".into()));
        "./image.tar"
            .parse::<ImageSource>()
            .expect_err("who asks knows where that is");
    }
}
