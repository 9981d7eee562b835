//! What the daemon is and what it can do on its host.

use serde::{Deserialize, Serialize};

use super::RunnersInfo;
use crate::units::Bytes;

/// Reply of `GET /version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VersionInfo {
    /// `Piston`.
    pub product: String,
    /// The daemon's version.
    pub version: String,
    /// API versions served, e.g. `v2`, `v3`.
    pub api: Vec<String>,
}

/// Reply of `GET /info`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Info {
    /// The daemon's version.
    pub version: String,
    /// Whether it runs without root.
    pub rootless: bool,
    /// Where the filesystem is mounted; private to the daemon's namespaces when rootless.
    pub mount: String,
    /// Each mechanism of the host that jobs depend on, in force or not.
    pub mechanisms: Vec<Mechanism>,
    /// Packages installed.
    pub packages: u64,
    /// Bytes of installed images.
    pub image_bytes: Bytes,
    /// Jobs running now.
    pub jobs_running: u64,
    /// Jobs waiting now.
    pub jobs_queued: u64,
    /// Jobs that may run at once.
    pub max_concurrent_jobs: u64,
    /// The operator's settings of runtimes.
    #[serde(default)]
    pub runners: RunnersInfo,
}

/// One thing the host offers or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mechanism {
    /// Stable name, e.g. `fuse`, `user_namespaces`, `memory_limit`.
    pub name: String,
    /// Whether it is in force.
    pub available: bool,
    /// Whether jobs can't run without it.
    pub required: bool,
    /// What is used, or why it is not available.
    pub detail: String,
    /// What the operator can do about it, when it is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
