//! Debian's package files on their way to this host: each is the one that its list names.
//!
//! The lists give the length and the sha256 of every file, and the release that is signed gives
//! those of the lists; so it does not matter who serves them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::super::super::fetch::{self, Fetcher, Location, Patience};
use super::super::super::index::Checksum;
use super::error::DebianError;
use super::lists::List;
use super::universe::Package;

/// Downloads at once.
const DOWNLOADS: usize = 4;

/// A file that is to be downloaded.
struct Wanted {
    name: String,
    from: Location,
    to: PathBuf,
    length: u64,
    checksum: Checksum,
}

/// Downloads packages into a directory; the answer is their files by name.
pub(super) fn all<'a>(
    packages: impl Iterator<Item = &'a Package<'a>>,
    lists: &[List],
    into: &Path,
) -> Result<BTreeMap<String, PathBuf>, DebianError> {
    let wanted: Vec<Wanted> = packages
        .enumerate()
        .map(|(number, package)| Wanted::of(package, lists, into.join(format!("{number}.deb"))))
        .collect::<Result<_, _>>()?;
    let runtime = fetch::runtime(into)?;
    let fetcher = Fetcher::new(Patience::default());
    let one = |wanted: Wanted| {
        let fetcher = &fetcher;
        async move {
            let Wanted {
                name,
                from,
                to,
                length,
                checksum,
            } = wanted;
            let file = fetch::Wanted {
                from: &from,
                limit: length,
                checksum: &checksum,
                told: &|_| (),
            };
            fetcher.package(&file, &to).await?;
            Ok((name, to))
        }
    };
    runtime.block_on(
        futures_util::stream::iter(wanted.into_iter().map(one))
            .buffer_unordered(DOWNLOADS)
            .try_collect(),
    )
}

impl Wanted {
    fn of(package: &Package<'_>, lists: &[List], to: PathBuf) -> Result<Self, DebianError> {
        let wrong = |reason: &str| DebianError::Listed {
            package: package.name.to_owned(),
            reason: reason.to_owned(),
        };
        let field = |name| package.field(name).unwrap_or_default();
        let sha256 = field("SHA256").parse();
        let length = field("Size").parse();
        let file = field("Filename");
        if file.is_empty() {
            return Err(wrong("it names no file"));
        }
        let archive = &lists[package.list].archive;
        Ok(Self {
            name: package.name.to_owned(),
            from: archive
                .join(file)
                .map_err(|error| wrong(&error.to_string()))?,
            to,
            length: length.map_err(|_| wrong("its size is no number"))?,
            checksum: Checksum::Sha256(sha256.map_err(|_| wrong("it has no sha256"))?),
        })
    }
}
