//! Why no package can be made of Debian's packages.

use std::path::PathBuf;

use super::super::super::fetch::FetchError;
use super::super::super::files::PathError;

/// Why no package can be made of Debian's packages.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// The machine has no lists of packages.
    #[error("this machine has no lists of Debian packages ({looked}); run `apt-get update` first")]
    NoLists {
        /// What was looked at.
        looked: String,
    },
    /// A list is not the one that its signed release names.
    #[error("{list} is not what {release} says it is; run `apt-get update` again")]
    Altered {
        /// The list.
        list: PathBuf,
        /// The release.
        release: PathBuf,
    },
    /// A list or a part of a package can't be read.
    #[error("cannot read {what}: {reason}")]
    Damaged {
        /// What.
        what: String,
        /// Why not.
        reason: String,
    },
    /// No list names such a package.
    #[error("there is no Debian package `{name}` among the {known} that the lists name{}", or(.similar))]
    NoPackage {
        /// The name.
        name: String,
        /// Names that look like it.
        similar: Vec<String>,
        /// How many packages there are.
        known: usize,
    },
    /// A package needs another one that no list has.
    #[error("the Debian package {package} needs {needs}, which no list has")]
    Unsatisfied {
        /// Who needs it.
        package: String,
        /// What.
        needs: String,
    },
    /// An entry of a package that would not stay in its place.
    #[error("the Debian package {package} is refused: its entry `{entry}` {reason}")]
    Entry {
        /// Which package.
        package: String,
        /// Which entry, shortened.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something that a list says of a package is not usable.
    #[error("the list's entry of the Debian package {package} is refused: {reason}")]
    Listed {
        /// Which package.
        package: String,
        /// Why.
        reason: String,
    },
    /// A package can't be downloaded.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file of the machine or of ours.
    #[error(transparent)]
    Path(#[from] PathError),
}

fn or(similar: &[String]) -> String {
    match similar {
        [] => String::new(),
        names => format!("; is it {}?", names.join(" or ")),
    }
}
