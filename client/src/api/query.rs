//! Parameters in the query of operations that have some.

use serde::{Deserialize, Serialize};

/// Of `GET /repos/{repo}/packages`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AvailableParameters {
    /// Whether the index is downloaded first.
    pub sync: bool,
    /// Only packages whose name or alias contains this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Only packages of this name or alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// Of `DELETE /packages/{package}/{version}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UninstallParameters {
    /// Whether what depends on it goes as well.
    pub cascade: bool,
}

/// Of `PUT /runners`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SetRunnersParameters {
    /// Whether it is only said if the settings could be put in force.
    pub check: bool,
}
