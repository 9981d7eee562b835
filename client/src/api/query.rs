//! Parameters in the query of operations that have some.

use serde::{Deserialize, Serialize};

use super::package::MakeKind;
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

/// Of `POST /make/files`, whose body is what the package is made of, of a kind that says which of the
/// parameters it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MakeFilesParameters {
    /// What the body is: a tar of files that are added to a package ([`MakeKind::Extend`], the default), an
    /// archive of an image ([`MakeKind::Oci`]), or a package of the released Piston
    /// ([`MakeKind::PistonV2`]).
    #[serde(default = "extend")]
    pub from: MakeKind,
    /// What the body's file is called where it is from, for messages, and for the name of an image that
    /// has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// [`MakeKind::Extend`]: the language or package that is extended, which is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    /// [`MakeKind::Extend`]: its version or a range of them; the newest when there is none.
    /// [`MakeKind::Oci`]: the version of the package, instead of what the image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// [`MakeKind::Extend`]: what to call the package and the language that it runs, instead of after the
    /// one that is extended, running its languages.
    /// [`MakeKind::Oci`]: what to call the package, instead of what the image is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Language>,
    /// [`MakeKind::Extend`]: the directory that the files go to, instead of
    /// `/piston/packages/NAME/VERSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// [`MakeKind::Oci`]: which image, where the archive holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// [`MakeKind::Oci`]: how the package runs a program, as in `POST /make`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// [`MakeKind::Oci`]: how the package compiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<String>,
    /// [`MakeKind::Oci`]: other names of the language, with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<String>,
    /// [`MakeKind::Oci`]: make a package of each layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layers: bool,
    /// [`MakeKind::PistonV2`]: the package that stands for the system that its scripts expect;
    /// `debian-base` when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Language>,
    /// Install what was made (the default), or reply with the package file itself.
    #[serde(default = "yes")]
    pub install: bool,
}

impl MakeFilesParameters {
    /// Extends the newest installed package of a language by files, and installs the result.
    pub fn new(extends: String) -> Self {
        Self {
            extends: Some(extends),
            ..Self::of(MakeKind::Extend)
        }
    }

    /// Makes and installs a package of an archive that holds an image.
    pub fn oci() -> Self {
        Self::of(MakeKind::Oci)
    }

    /// Converts and installs a package of the released Piston.
    pub fn piston_v2() -> Self {
        Self::of(MakeKind::PistonV2)
    }

    fn of(from: MakeKind) -> Self {
        Self {
            from,
            file: None,
            extends: None,
            version: None,
            name: None,
            at: None,
            image: None,
            run: None,
            compile: None,
            aliases: None,
            layers: false,
            base: None,
            install: true,
        }
    }
}

fn extend() -> MakeKind {
    MakeKind::Extend
}

fn yes() -> bool {
    true
}
