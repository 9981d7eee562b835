//! Why an operation on packages fails, in words for whoever asked.
//!
//! Invariant: `Display` is the whole text for a client: what, where, and what to do; causes are
//! part of it, because this is the edge of the room. [`PackagesError::code`] is the stable word.

use std::fmt::Write as _;
use std::path::PathBuf;

use piston_client::api::Code;
use piston_client::ids::{Digest, Language, PackageRef, Version};
use piston_client::units::Bytes;
use piston_fs::mount::MountError;

use super::archive::ArchiveError;
use super::environment::EnvironmentError;
use super::fetch::FetchError;
use super::files::PathError;
use super::index::IndexError;
use super::info::InfoError;
use super::resolve::ResolveError;
use super::signature::SignatureError;
use crate::error::chain;
use crate::store::StoreError;

/// Why an operation on packages fails; [`Self::code`] is what a client sees.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// No installed package (or runtime) matches.
    #[error("{}", not_installed(.name, .range, .installed, .similar))]
    NotInstalled {
        /// Name that was asked for.
        name: String,
        /// Versions that were asked for.
        range: String,
        /// Versions of it that are installed.
        installed: Vec<Version>,
        /// Installed names that look like it.
        similar: Vec<String>,
    },
    /// No repository lists such a package.
    #[error("{reason}{}; repositories asked: {}{}", or_similar(.similar, .reason), or_none(.repositories), or_made(.reason))]
    NotListed {
        /// What is not listed, and what there is of it.
        reason: Box<ResolveError>,
        /// Listed names that look like it.
        similar: Vec<String>,
        /// Repositories that were looked into.
        repositories: Vec<String>,
    },
    /// A dependency is missing, in conflict or in a circle.
    #[error(transparent)]
    Resolve(Box<ResolveError>),
    /// The package is a base package.
    #[error("{0} can't be executed: it provides no language, it is there to be depended on")]
    NotExecutable(PackageRef),
    /// No repository of that name is configured.
    #[error("no repository `{name}` is configured; there is {}", or_none(.there))]
    RepositoryNotFound {
        /// The name.
        name: String,
        /// Those that are.
        there: Vec<String>,
    },
    /// A repository's name or URL is not acceptable.
    #[error("{field}: {reason}")]
    InvalidRepository {
        /// Which field.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The keys of a repository can't be used.
    #[error("keys of repository `{repository}`: {}", chain(.reason))]
    RepositoryKeys {
        /// Which repository.
        repository: String,
        /// Why.
        reason: SignatureError,
    },
    /// A package or index is not signed as it has to be.
    #[error("{what} from repository `{repository}`: {}", chain(.reason))]
    Signature {
        /// What.
        what: String,
        /// Where it comes from.
        repository: String,
        /// Why it is refused.
        reason: SignatureError,
    },
    /// A package can't be downloaded.
    #[error("{package} from repository `{repository}`: {}", chain(.reason))]
    Download {
        /// Which package.
        package: Box<PackageRef>,
        /// Where it comes from.
        repository: String,
        /// Why.
        reason: FetchError,
    },
    /// A package that was downloaded is refused, or can't be looked into.
    #[error("from repository `{repository}`: {reason}")]
    Downloaded {
        /// Where it comes from.
        repository: String,
        /// Why.
        reason: Box<Self>,
    },
    /// An index can't be downloaded.
    #[error("repository `{repository}`: {}", chain(.reason))]
    Fetch {
        /// Which repository.
        repository: String,
        /// Why.
        reason: FetchError,
    },
    /// An index can't be read.
    #[error("repository `{repository}`: {}", chain(.reason))]
    Index {
        /// Which repository.
        repository: String,
        /// Why.
        reason: IndexError,
    },
    /// An index is older than one that was seen.
    #[error(
        "repository `{repository}`: its index has the serial {serial}, one with {seen} was seen: an older one is refused (if the repository was begun anew, remove and add it)"
    )]
    OlderIndex {
        /// Which repository.
        repository: String,
        /// What came.
        serial: u64,
        /// What was seen.
        seen: u64,
    },
    /// The package file is not the one that the index names.
    #[error(
        "{package} from repository `{repository}`: the {algorithm} of the file is {got}, the index says {want}"
    )]
    Checksum {
        /// Which package.
        package: Box<PackageRef>,
        /// Where it comes from.
        repository: String,
        /// Which checksum.
        algorithm: &'static str,
        /// What the index says.
        want: String,
        /// What the file has.
        got: String,
    },
    /// Another package is installed under that name and version.
    #[error(
        "{package} is installed with other contents (sha256 {installed}) than this one ({new}); packages are final: uninstall it first, or give this one another version"
    )]
    Conflict {
        /// Which package.
        package: Box<PackageRef>,
        /// Digest of what is installed.
        installed: Digest,
        /// Digest of the new one.
        new: Digest,
    },
    /// A repository lists another package under a name and version that is installed.
    #[error(
        "{package} is installed from another package file (sha256 {installed}) than repository `{repository}` lists ({listed}); packages are final: uninstall the one that is installed first"
    )]
    Listed {
        /// Which package.
        package: Box<PackageRef>,
        /// Which repository.
        repository: String,
        /// Digest of the file that was installed.
        installed: Digest,
        /// What the index says.
        listed: String,
    },
    /// Other packages depend on it.
    #[error("{package} is needed by {}; uninstall those first, or all with cascade", list(.by))]
    InUse {
        /// Which package.
        package: PackageRef,
        /// Who needs it.
        by: Vec<PackageRef>,
    },
    /// It was uninstalled, and jobs still use it.
    #[error("{0} is being removed and goes when its last job ends; try again then")]
    Retiring(PackageRef),
    /// The package file is refused.
    #[error("{}", chain(.0))]
    Archive(ArchiveError),
    /// The image, or something else in the package, is refused.
    #[error("{package} refused: {reason}")]
    Refused {
        /// Which package, as far as it is known.
        package: String,
        /// Why.
        reason: String,
    },
    /// A package can't be made, in the maker's words.
    #[error("{0}")]
    CannotMake(String),
    /// A disk is full where it is made, in the maker's words.
    #[error("{0}")]
    NoSpaceToMake(String),
    /// There is no space for it.
    #[error("{} are needed in {path}, {} are free: remove packages or make space", Bytes(*.needed), Bytes(*.free))]
    NoSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Where.
        path: PathBuf,
    },
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the data directory.
    #[error("{}", chain(.0))]
    Path(PathError),
    /// The filesystem does not show it.
    #[error("{package} can't be shown in the filesystem: {reason}")]
    Unpublished {
        /// Which package.
        package: PackageRef,
        /// Why.
        reason: String,
    },
    /// A bug, or a process or thread that could not be had.
    #[error("{0}")]
    Internal(String),
}

impl PackagesError {
    /// The stable code for clients.
    pub fn code(&self) -> Code {
        match self {
            Self::NotInstalled { .. } => Code::PackageNotFound,
            Self::NotListed { .. } => Code::PackageNotAvailable,
            Self::Resolve(_) => Code::DependencyUnresolved,
            Self::NotExecutable(_) => Code::NotExecutable,
            Self::RepositoryNotFound { .. } => Code::RepositoryNotFound,
            Self::InvalidRepository { .. } | Self::RepositoryKeys { .. } => Code::InvalidField,
            Self::Signature { .. } => Code::SignatureRefused,
            Self::Fetch { reason, .. } | Self::Download { reason, .. } if reason.is_no_space() => {
                Code::NoSpace
            }
            Self::Downloaded { reason, .. } => reason.code(),
            Self::Download { .. }
            | Self::Fetch { .. }
            | Self::Index { .. }
            | Self::OlderIndex { .. } => Code::RepositoryUnavailable,
            Self::Checksum { .. } => Code::ChecksumMismatch,
            Self::Conflict { .. } | Self::Listed { .. } => Code::VersionConflict,
            Self::InUse { .. } | Self::Retiring(_) => Code::PackageInUse,
            Self::Archive(ArchiveError::Path(error)) | Self::Path(error) => {
                if error.is_no_space() {
                    Code::NoSpace
                } else {
                    Code::Internal
                }
            }
            Self::CannotMake(_) => Code::CannotMake,
            Self::Archive(_) | Self::Refused { .. } => Code::InvalidPackage,
            Self::NoSpace { .. }
            | Self::NoSpaceToMake(_)
            | Self::Store(StoreError::Write { no_space: true, .. }) => Code::NoSpace,
            Self::Store(_) | Self::Unpublished { .. } | Self::Internal(_) => Code::Internal,
        }
    }

    /// A package that is refused for a reason of its own.
    pub(crate) fn refused(package: &impl ToString, reason: impl Into<String>) -> Self {
        Self::Refused {
            package: package.to_string(),
            reason: reason.into(),
        }
    }

    /// A package that the filesystem does not take.
    pub(crate) fn unpublished(package: &PackageRef, error: &MountError) -> Self {
        Self::Unpublished {
            package: package.clone(),
            reason: chain(error),
        }
    }
}

impl From<ArchiveError> for PackagesError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<InfoError> for PackagesError {
    fn from(error: InfoError) -> Self {
        Self::Archive(ArchiveError::Info(error))
    }
}

impl From<PathError> for PackagesError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl From<ResolveError> for PackagesError {
    fn from(error: ResolveError) -> Self {
        Self::Resolve(Box::new(error))
    }
}

impl From<EnvironmentError> for PackagesError {
    fn from(error: EnvironmentError) -> Self {
        Self::refused(&"package", error.to_string())
    }
}

fn not_installed(name: &str, range: &str, installed: &[Version], similar: &[String]) -> String {
    let mut text = if range == "*" {
        format!("{name} is not installed")
    } else {
        format!("{name} {range} is not installed")
    };
    if !installed.is_empty() {
        let versions: Vec<String> = installed.iter().map(ToString::to_string).collect();
        write!(text, "; installed: {name} {}; `piston package install '{name}@{range}'` installs it where a repository has it", versions.join(", "))
            .unwrap_or_default();
        return text;
    }
    let recipe = super::make::recipe_of(name);
    if recipe.is_none() && !similar.is_empty() {
        return text + &did_you_mean(similar);
    }
    let package = recipe.as_ref().map_or(name, Language::as_str);
    write!(
        text,
        "; `piston package install {package}` installs it from a repository"
    )
    .unwrap_or_default();
    if super::make::is_of_host(name) {
        write!(
            text,
            ", `piston package from-host {name}` from this machine"
        )
        .unwrap_or_default();
    }
    if recipe.is_some() {
        write!(
            text,
            ", `piston package from-debian {package}` from Debian's packages"
        )
        .unwrap_or_default();
    }
    text
}

/// Another way to a package that no repository lists.
fn or_made(reason: &ResolveError) -> String {
    let name = match reason {
        ResolveError::NotListed {
            language, versions, ..
        } if versions.is_empty() => language.as_str(),
        _ => "",
    };
    match super::make::recipe_of(name) {
        Some(recipe) if recipe.as_str() != name => {
            format!("; {recipe} provides it: `piston package install {recipe}`")
        }
        Some(recipe) => format!("; `piston package from-debian {recipe}` makes it"),
        None => String::new(),
    }
}

/// What may have been meant, unless what was written is known.
fn or_similar(similar: &[String], reason: &ResolveError) -> String {
    if or_made(reason).is_empty() {
        did_you_mean(similar)
    } else {
        String::new()
    }
}

fn did_you_mean(similar: &[String]) -> String {
    if similar.is_empty() {
        return String::new();
    }
    format!("; did you mean {}?", similar.join(" or "))
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn list(packages: &[PackageRef]) -> String {
    let names: Vec<String> = packages.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Names that are a slip of the keyboard away from `name`, nearest first, at most three.
pub(crate) fn similar<'a>(name: &str, there: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(usize, &str)> = there
        .filter(|other| *other != name)
        .map(|other| (distance(name, other), other))
        .filter(|(distance, other)| {
            let contained = name.len() > 2 && (other.contains(name) || name.contains(other));
            *distance <= 1 + name.len() / 4 || (contained && other.len() > 2)
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Levenshtein distance of two short words.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let there = ["python", "pypy", "ruby", "gcc", "typescript"];
        for (name, expected) in [
            ("pyhton", vec!["python"]),
            ("pythn", vec!["python"]),
            ("python3", vec!["python"]),
            ("script", vec!["typescript"]),
            ("haskell", vec![]),
            ("go", vec![]),
        ] {
            assert_eq!(similar(name, there.into_iter()), expected, "{name}");
        }
    }

    #[test]
    fn a_text_says_what_is_there_and_what_to_do() {
        let error = PackagesError::NotInstalled {
            name: "python".to_owned(),
            range: ">=4.0.0".to_owned(),
            installed: vec!["3.11.2".parse().unwrap()],
            similar: Vec::new(),
        };
        let text = error.to_string();
        assert!(
            text.starts_with("python >=4.0.0 is not installed; installed: python 3.11.2;"),
            "{text}"
        );
        assert!(
            text.contains("piston package install 'python@>=4.0.0'"),
            "{text}"
        );
        assert_eq!(error.code(), Code::PackageNotFound);
    }
}
