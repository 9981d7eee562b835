//! Jobs that run or wait.

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, Language, PackageRef};

/// One entry of `GET /jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The language that runs.
    pub language: Language,
    /// The package that runs it.
    pub package: PackageRef,
    /// Where it is.
    pub state: JobState,
    /// Unix time of the request, in seconds.
    pub since: u64,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a slot.
    Queued,
    /// In its compile stage.
    Compiling,
    /// In its run stage.
    Running,
}
