//! Why there is no solution, with the path that leads to it.

use std::fmt;

use piston_client::ids::{Language, PackageRef, Version};

/// A path of packages, each needed by the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail(pub Vec<PackageRef>);

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, package) in self.0.iter().enumerate() {
            let arrow = if index == 0 { "" } else { " -> " };
            write!(f, "{arrow}{package}")?;
        }
        Ok(())
    }
}

/// Why there is no solution. With several candidates this is the fault of the preferred one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The wanted package itself is not listed.
    #[error("no package {language}{} is listed{}", of(.range), there(.versions, .language))]
    NotListed {
        /// What was wanted.
        language: Language,
        /// Which versions.
        range: String,
        /// What there is of it.
        versions: Vec<Version>,
    },
    /// A dependency is neither listed nor installed.
    #[error("{trail} needs {language} {range}, which is neither listed nor installed{}", there(.versions, .language))]
    Missing {
        /// Who needs it.
        trail: Trail,
        /// What is missing.
        language: Language,
        /// Which versions would do.
        range: String,
        /// What there is of it.
        versions: Vec<Version>,
    },
    /// What could be had is signed by nobody, and whoever needs it is.
    #[error(
        "{trail} needs {dependency}, which is not signed, and a signed package stands on signed ones only"
    )]
    Unsigned {
        /// Who needs it.
        trail: Trail,
        /// What is not signed.
        dependency: Box<PackageRef>,
    },
    /// Two packages need versions of a third that exclude each other.
    #[error(
        "{trail} needs {language} {range}, but {other} brings {chosen} into the same view, which holds one version of a language"
    )]
    Conflict {
        /// Who needs it.
        trail: Trail,
        /// Of what two versions would be needed.
        language: Language,
        /// Which versions would do.
        range: String,
        /// The one that was chosen before.
        chosen: Box<PackageRef>,
        /// Who needs that one.
        other: Trail,
    },
    /// Packages need each other in a circle.
    #[error("the dependencies go in a circle: {0}")]
    Cycle(Trail),
    /// The search was given up.
    #[error("the dependencies of {0} are too many or too tangled to be resolved")]
    TooComplex(PackageRef),
}

/// A range that leaves something out.
fn of(range: &str) -> String {
    match range {
        "*" => String::new(),
        range => format!(" {range}"),
    }
}

fn there(versions: &[Version], language: &Language) -> String {
    if versions.is_empty() {
        return String::new();
    }
    let mut listed: Vec<String> = versions.iter().take(8).map(ToString::to_string).collect();
    if versions.len() > listed.len() {
        listed.push("...".to_owned());
    }
    format!("; there is {language} {}", listed.join(", "))
}
