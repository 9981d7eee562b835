//! The Python in a package's view: its version, where it looks for libraries, which it has.
//!
//! Found out from the files of the view alone; nothing of it is run.

use std::collections::BTreeMap;

use piston_client::ids::Version;
use piston_fs::tree::ViewTree;

use super::super::super::info;
use super::{Below, ExtendError};

/// Longest `site.py`, and longest metadata of a library.
const MAX_TEXT_BYTES: u64 = 4 << 20;
/// Longest libc.
const MAX_LIBC_BYTES: u64 = 64 << 20;
/// What glibc says of itself: `GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.`
const GLIBC: &[u8] = b"GNU C Library";
const GLIBC_VERSION: &[u8] = b"release version 2.";

/// A Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Python {
    /// Its version after the `3.`
    pub(super) minor: u64,
    /// Its whole version.
    pub(super) version: String,
    /// Where libraries are put.
    pub(super) site: String,
    /// What scripts and data are put below.
    pub(super) prefix: String,
    /// The program.
    pub(super) interpreter: String,
    /// The version of glibc after the `2.`, where that is the libc.
    pub(super) glibc: Option<u64>,
    /// Metadata of the libraries that it has, by the directory: `site`, and those searched later.
    pub(super) libraries: BTreeMap<String, Vec<Library>>,
}

/// A library that is there, by what its metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Library {
    /// Its name and version, as the name of its metadata has them.
    pub(super) stem: String,
    /// Its metadata.
    pub(super) metadata: String,
}

impl Python {
    /// Looks for Python in a view.
    pub(super) fn find(below: &Below<'_>) -> Result<Self, ExtendError> {
        let Below { info, run, tree } = below;
        let program = run.and_then(|argv| argv.first());
        let beside = program.and_then(|path| Some(path.rsplit_once("/bin/")?.0.to_owned()));
        let home = info::directory(&info.package);
        let prefixes = beside
            .into_iter()
            .chain([home, "/usr/local".into(), "/usr".into()]);
        let found = prefixes.filter_map(|prefix| {
            let minor = minor_of(tree, &prefix, &info.package.version)?;
            Some((prefix, minor))
        });
        let Some((prefix, minor)) = found.into_iter().next() else {
            return Err(ExtendError::Target {
                package: info.package.to_string(),
                reason: "there is no Python 3 in it (no lib/python3.*/os.py)".to_owned(),
            });
        };
        let own = format!("{prefix}/lib/python3.{minor}");
        // Debian's looks for what is not Debian's in a directory of its own.
        let site = tree.read(&format!("{own}/site.py"), MAX_TEXT_BYTES)?;
        let is_debian = prefix == "/usr" && site.is_some_and(|text| has(&text, b"dist-packages"));
        let (site, behind, put_below) = if is_debian {
            let site = format!("/usr/local/lib/python3.{minor}/dist-packages");
            (site, Some("/usr/lib/python3/dist-packages"), "/usr/local")
        } else {
            (format!("{own}/site-packages"), None, prefix.as_str())
        };
        let folders = [Some(site.as_str()), behind].into_iter().flatten();
        let libraries = folders.map(|folder| Ok((folder.to_owned(), libraries(tree, folder)?)));
        let interpreter = format!("{prefix}/bin/python3.{minor}");
        Ok(Self {
            minor,
            version: whole_version(minor, &info.package.version),
            libraries: libraries.collect::<Result<_, ExtendError>>()?,
            interpreter: if tree.has_file(&interpreter) {
                interpreter
            } else {
                format!("{prefix}/bin/python3")
            },
            glibc: glibc(tree)?,
            prefix: put_below.to_owned(),
            site,
        })
    }
}

/// The version of the standard library below a prefix: that of the package, else the newest.
fn minor_of(tree: &ViewTree, prefix: &str, version: &Version) -> Option<u64> {
    let names = tree.list(&format!("{prefix}/lib"));
    let minors = names.iter().filter_map(|name| {
        let minor = name.strip_prefix("python3.")?.parse().ok()?;
        tree.has_file(&format!("{prefix}/lib/{name}/os.py"))
            .then_some(minor)
    });
    minors.max_by_key(|minor| (is_version(*minor, version), *minor))
}

fn is_version(minor: u64, version: &Version) -> bool {
    version.semver().major == 3 && version.semver().minor == minor
}

/// The whole version: the package's where that is Python's, else the first with that minor number.
fn whole_version(minor: u64, version: &Version) -> String {
    let patch = if is_version(minor, version) {
        version.semver().patch
    } else {
        0
    };
    format!("3.{minor}.{patch}")
}

/// The libraries in a directory that modules are looked for in.
fn libraries(tree: &ViewTree, folder: &str) -> Result<Vec<Library>, ExtendError> {
    let mut found = Vec::new();
    for name in tree.list(folder) {
        let (stem, inside) = if let Some(stem) = name.strip_suffix(".dist-info") {
            (stem, "/METADATA")
        } else if let Some(stem) = name.strip_suffix(".egg-info") {
            (stem, "/PKG-INFO")
        } else {
            continue;
        };
        let path = format!("{folder}/{name}");
        let metadata = match tree.read(&format!("{path}{inside}"), MAX_TEXT_BYTES)? {
            Some(bytes) => Some(bytes),
            // The metadata itself, as old tools write it.
            None => tree.read(&path, MAX_TEXT_BYTES)?,
        };
        let Some(metadata) = metadata else {
            continue;
        };
        found.push(Library {
            stem: stem.to_owned(),
            metadata: String::from_utf8_lossy(&metadata).into_owned(),
        });
    }
    Ok(found)
}

/// The version of glibc after the `2.`
fn glibc(tree: &ViewTree) -> Result<Option<u64>, ExtendError> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders = [&*triplet, ""].into_iter().flat_map(|below| {
        ["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(|folder| format!("{folder}/{below}"))
    });
    for folder in folders {
        let libc = tree.read(&format!("{folder}/libc.so.6"), MAX_LIBC_BYTES)?;
        if let Some(minor) = libc.as_deref().and_then(glibc_version) {
            return Ok(Some(minor));
        }
    }
    Ok(None)
}

fn glibc_version(libc: &[u8]) -> Option<u64> {
    let after = after(after(libc, GLIBC)?, GLIBC_VERSION)?;
    let digits = after
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    std::str::from_utf8(&after[..digits]).ok()?.parse().ok()
}

fn has(text: &[u8], word: &[u8]) -> bool {
    after(text, word).is_some()
}

/// What follows the first place of a word.
fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(word.len()).position(|part| part == word)?;
    text.get(at + word.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_glibc_is_in_its_file() {
        let text =
            b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\nC";
        assert_eq!(glibc_version(text), Some(36));
        assert_eq!(glibc_version(b"musl libc (x86_64)\nVersion 1.2.3"), None);
        assert_eq!(glibc_version(b"GNU C Library"), None);
    }

    #[test]
    fn the_package_s_version_is_python_s_where_they_agree() {
        let version = |text: &str| text.parse().expect("a version");
        assert_eq!(whole_version(11, &version("3.11.2")), "3.11.2");
        assert_eq!(whole_version(11, &version("1.4.0")), "3.11.0");
    }
}
