//! Apt's sources: where this machine gets packages from, and which of apt's files hold the lists.
//!
//! Reads both forms (`sources.list`, `*.sources`) as sources.list(5) has them. Names files as apt
//! does; does not open them. A source of a kind that apt alone knows (cdrom, mirror lists) is
//! passed over.

use std::path::{Path, PathBuf};

use super::super::super::files::{self, PathError};
use super::control::stanzas;

/// Longest file of sources that is read.
const MAX_BYTES: u64 = 1 << 20;

/// One suite of one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Where the archive is, with a slash at the end.
    pub(super) uri: String,
    /// The suite.
    pub(super) suite: String,
    /// Its parts that are wanted.
    pub(super) components: Vec<String>,
}

/// Every source of a configuration directory (`/etc/apt`), in apt's order.
pub(super) fn read(directory: &Path) -> Result<Vec<Source>, PathError> {
    let mut sources = Vec::new();
    for file in files_of(directory) {
        let bytes = files::read_bounded(&file, MAX_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        if file.extension().is_some_and(|end| end == "sources") {
            sources.extend(stanza_sources(&text));
        } else {
            sources.extend(text.lines().filter_map(line_source));
        }
    }
    sources.dedup();
    Ok(sources)
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let main = directory.join("sources.list");
    let mut parts: Vec<PathBuf> = std::fs::read_dir(directory.join("sources.list.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "list" || end == "sources")
        })
        .collect();
    parts.sort();
    main.is_file()
        .then_some(main)
        .into_iter()
        .chain(parts)
        .collect()
}

/// `deb [option=value] uri suite component...`
fn line_source(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    Source::new(uri, suite, words)
}

fn stanza_sources(text: &str) -> Vec<Source> {
    // Comments may stand between fields, and a stanza may begin with one.
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let text = text.join("\n");
    let mut sources = Vec::new();
    for stanza in stanzas(&text) {
        let disabled = stanza.field("Enabled") == Some("no");
        if disabled || !stanza.words("Types").any(|kind| kind == "deb") {
            continue;
        }
        for uri in stanza.words("URIs") {
            for suite in stanza.words("Suites") {
                sources.extend(Source::new(uri, suite, stanza.words("Components")));
            }
        }
    }
    sources
}

impl Source {
    /// A source of a kind that can be downloaded from.
    fn new<'a>(uri: &str, suite: &str, components: impl Iterator<Item = &'a str>) -> Option<Self> {
        let known = ["http://", "https://", "file:/"];
        // A suite with a slash at its end is a folder without components.
        if !known.iter().any(|kind| uri.starts_with(kind)) || suite.ends_with('/') {
            return None;
        }
        Some(Self {
            uri: format!("{}/", uri.trim_end_matches('/')),
            suite: suite.to_owned(),
            components: components.map(ToOwned::to_owned).collect(),
        })
    }

    /// How apt calls the suite's files: `deb.debian.org_debian_dists_bookworm`.
    pub(super) fn file_stem(&self) -> String {
        let without_kind = self.uri.split_once(':').map_or("", |(_, rest)| rest);
        let path = without_kind.strip_prefix("//").unwrap_or(without_kind);
        // A user and password are not part of it.
        let (host, rest) = path.split_once('/').unwrap_or((path, ""));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let text = format!("{host}/{rest}dists/{}", self.suite);
        let mut name = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '/' => name.push('_'),
                '\\' | '|' | '{' | '}' | '[' | ']' | '<' | '>' | '"' | '^' | '~' | '_' | '='
                | '!' | '@' | '#' | '$' | '%' | '&' | '*' => {
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        name.push('%');
                        name.push_str(&hex::encode([byte]));
                    }
                }
                c => name.push(c),
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suite: &str, components: &[&str]) -> Source {
        Source::new(uri, suite, components.iter().copied()).expect("a source")
    }

    #[test]
    fn a_line_is_a_source() {
        let debian = source("http://deb.debian.org/debian", "bookworm", &["main"]);
        for line in [
            "deb http://deb.debian.org/debian bookworm main",
            "deb http://deb.debian.org/debian/ bookworm main # comment",
            "deb [arch=amd64 signed-by=/k.gpg]\thttp://deb.debian.org/debian/  bookworm main",
        ] {
            assert_eq!(line_source(line).as_ref(), Some(&debian), "{line}");
        }
        for line in [
            "",
            "# deb http://deb.debian.org/debian bookworm main",
            "deb-src http://deb.debian.org/debian bookworm main",
            "deb cdrom:[Debian]/ bookworm main",
            "deb http://example.org/flat ./",
            "deb http://example.org",
            "deb [arch=amd64 http://example.org x y",
        ] {
            assert_eq!(line_source(line), None, "{line}");
        }
    }

    #[test]
    fn a_stanza_is_a_source_for_each_place_and_suite() {
        let text = "Types: deb\n# why\nURIs: http://a.org/d\nSuites: one one-updates\n\
                    Components: main\n contrib\n\n# off\nEnabled: no\nTypes: deb\n\
                    URIs: http://b.org\nSuites: x\n\nTypes: deb-src\nURIs: http://c.org\nSuites: x\n";
        let expected = ["one", "one-updates"]
            .map(|suite| source("http://a.org/d", suite, &["main", "contrib"]));
        assert_eq!(stanza_sources(text), expected);
    }

    #[test]
    fn files_are_called_as_apt_calls_them() {
        for (uri, suite, expected) in [
            (
                "http://deb.debian.org/debian",
                "bookworm",
                "deb.debian.org_debian_dists_bookworm",
            ),
            (
                "https://user:word@x.org/a_b/~c",
                "stable/updates",
                "x.org_a%5fb_%7ec_dists_stable_updates",
            ),
            ("file:/srv/m", "sid", "_srv_m_dists_sid"),
        ] {
            assert_eq!(source(uri, suite, &[]).file_stem(), expected);
        }
    }

    #[test]
    fn a_directory_is_read_in_apts_order() {
        let etc = tempfile::tempdir().expect("a directory");
        let parts = etc.path().join("sources.list.d");
        std::fs::create_dir(&parts).expect("a directory");
        assert_eq!(read(etc.path()).expect("nothing is there"), []);
        let write = |path: PathBuf, text: &str| std::fs::write(path, text).expect("written");
        write(parts.join("b.list"), "deb http://b.org s main\n");
        write(
            parts.join("a.sources"),
            "Types: deb\nURIs: http://a.org\nSuites: s\n",
        );
        write(parts.join("c.list.save"), "deb http://c.org s main\n");
        write(etc.path().join("sources.list"), "deb http://m.org s main\n");
        let uris: Vec<String> = read(etc.path())
            .expect("readable")
            .into_iter()
            .map(|source| source.uri)
            .collect();
        assert_eq!(uris, ["http://m.org/", "http://a.org/", "http://b.org/"]);
    }
}
