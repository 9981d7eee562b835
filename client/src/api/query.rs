//! Parameters in the query of operations that have some.

use serde::{Deserialize, Serialize};

use crate::ids::Language;

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

/// Of `POST /make/files`, whose body is a tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MakeFilesParameters {
    /// The language or package that is extended, which is installed.
    pub extends: String,
    /// Its version or a range of them; the newest when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What to call the package and the language that it runs, instead of after the one that is
    /// extended, running its languages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Language>,
    /// The directory that the files go to, instead of `/piston/packages/NAME/VERSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Install what was made (the default), or reply with the package file itself.
    #[serde(default = "yes")]
    pub install: bool,
}

impl MakeFilesParameters {
    /// Extends the newest installed package of a language, and installs the result.
    pub fn new(extends: String) -> Self {
        Self {
            extends,
            version: None,
            name: None,
            at: None,
            install: true,
        }
    }
}

fn yes() -> bool {
    true
}
