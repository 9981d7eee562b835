//! Jobs that run or wait.

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, Language, PackageRef};
use crate::units::Millis;

/// One entry of `GET /jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The package that it runs in.
    pub package: PackageRef,
    /// The language that it runs.
    pub language: Language,
    /// Where it stands.
    pub state: JobState,
    /// Who asked for it: `uid N` of this host, `token ID`, or a network address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub requester: String,
    /// Time since it was accepted.
    pub age_ms: Millis,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for a slot.
    Queued,
    /// Its compile stage runs.
    Compile,
    /// Its run stage runs.
    Run,
}
