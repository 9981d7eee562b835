//! What an installation does, told while it does it.

use serde::{Deserialize, Serialize};

use super::package::InstallReply;
use super::problem::Problem;
use crate::ids::PackageRef;
use crate::units::Bytes;

/// One event of a streamed installation. The first is the plan, so whatever is wrong before there
/// is one is an error reply; the last is the result, or the error.
///
/// An installation goes on when its client goes away. Who asks for a package that is being
/// installed already is told of that installation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum InstallEvent {
    /// What is to be installed, dependencies first.
    Plan {
        /// The packages that are not there yet.
        packages: Vec<PlannedPackage>,
    },
    /// How far one of them is. Comes when a phase begins, and as bytes come in, a few times a second
    /// at most.
    Progress(PackageProgress),
    /// It is installed: the reply that a request without streaming gets.
    Result {
        /// The reply.
        result: InstallReply,
    },
    /// It is not, and nothing of it is left: what a reply would say.
    Error {
        /// Why.
        problem: Box<Problem>,
    },
}

/// A package that is to be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlannedPackage {
    /// Which.
    pub package: PackageRef,
    /// The repository that it comes from; absent for an upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Length of the package file, where the index says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Bytes>,
}

/// How far a package is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PackageProgress {
    /// Which.
    pub package: PackageRef,
    /// What is done with it.
    pub phase: InstallPhase,
    /// Bytes done in this phase; 0 where they are not counted.
    pub bytes: Bytes,
    /// Bytes to do in this phase, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Bytes>,
}

/// What is done with a package, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum InstallPhase {
    /// It is made here, of what the recipe names.
    Make,
    /// Its file is downloaded, hashed on the way; what an earlier attempt left is used.
    Download,
    /// Its file is unpacked.
    Unpack,
    /// Its image is checked.
    Verify,
    /// It waits for the others, and is shown with them.
    Publish,
}
