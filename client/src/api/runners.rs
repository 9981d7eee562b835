//! The operator's settings of runtimes: limits, cache level, per language and version range.

use serde::{Deserialize, Serialize};

use super::{CacheLevel, StageLimits};

/// Reply of `GET /runners` and `PUT /runners`: what is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Runners {
    /// The text of `runners.toml`, empty when there is no such file.
    pub text: String,
    /// What it says, in its order: of two entries for a runtime the later one wins, setting by
    /// setting.
    pub runners: Vec<Runner>,
    /// Why the file as it lies on disk is not in force; then an earlier one still is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Body of `PUT /runners` as JSON; as TOML it is the text of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetRunners {
    /// The entries, in order.
    pub runners: Vec<Runner>,
}

/// One entry: what holds for the runtimes that it names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Runner {
    /// A language, one of its aliases, or a package (for all its languages).
    pub language: String,
    /// Which versions of the package, e.g. `3.x`; default every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<String>,
    /// Limits in the place of the package's own and the general ones.
    #[serde(default, skip_serializing_if = "StageLimits::is_empty")]
    pub limits: StageLimits,
    /// Cache level of jobs whose request names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheLevel>,
    /// Which network jobs see; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// System calls that are allowed besides, by the names of their groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
}

/// Which network a job sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A loopback of its own.
    #[default]
    None,
    /// The daemon's.
    Host,
}

/// What `GET /info` tells of the operator's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunnersInfo {
    /// Entries in force.
    pub entries: u64,
    /// Why the file as it lies on disk is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
