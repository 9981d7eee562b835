//! What the recipes that ship with the daemon would give today: the index of the repository
//! `builtin`.
//!
//! Versions are those of Debian's packages in apt's lists; nothing is downloaded. A recipe whose
//! packages the lists do not have is left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use piston_client::ids::PackageRef;
use serde::Serialize;

use super::debian;
use super::error::MakeError;
use super::recipe::{Recipe, builtins};
use super::{DEBIAN_BASE, refused};

/// What apt changes when its sources or its lists change.
const APT: [&str; 4] = [
    "/etc/apt",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/var/lib/apt/lists",
];

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    packages: Vec<Offered>,
}

#[derive(Serialize)]
struct Offered {
    language: String,
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    dependencies: BTreeMap<String, String>,
    download: String,
    built_from: Vec<String>,
}

/// Says what can be made, as an index.
pub fn offer() -> Result<String, MakeError> {
    let recipes: Vec<Recipe> = builtins().collect::<Result<_, _>>()?;
    let (base, versions) = debian::versions_of(&recipes)?;
    let own = Offered {
        language: base.language.to_string(),
        version: base.version.to_string(),
        aliases: Vec::new(),
        dependencies: BTreeMap::new(),
        download: download(DEBIAN_BASE),
        built_from: vec!["base-files".to_owned(), "libc6".to_owned()],
    };
    let made = recipes.iter().zip(versions);
    let made = made.filter_map(|(recipe, version)| Some(offered(recipe, version?, &base)));
    let document = Document {
        schema: "ppman-repo-1",
        packages: std::iter::once(own).chain(made).collect(),
    };
    serde_saphyr::to_string(&document).map_err(|error| refused("builtin", &error.to_string()))
}

fn offered(recipe: &Recipe, version: piston_client::ids::Version, base: &PackageRef) -> Offered {
    let package = PackageRef::new(recipe.language.clone(), version);
    let described = recipe.describe(package);
    let provided = described.provides.into_iter();
    let others = provided.flat_map(|(language, aliases)| [vec![language], aliases].concat());
    Offered {
        language: recipe.language.to_string(),
        version: described.package.version.to_string(),
        aliases: described.aliases.into_iter().chain(others).collect(),
        dependencies: BTreeMap::from([(base.language.to_string(), base.version.to_string())]),
        download: download(recipe.language.as_str()),
        built_from: recipe
            .debian()
            .map(|debian| debian.packages.clone())
            .unwrap_or_default(),
    }
}

fn download(recipe: &str) -> String {
    format!("{}{recipe}", super::super::index::RECIPE)
}

/// Changes whenever [`offer`] may say something else.
pub fn offer_version() -> String {
    let changed = |path: &str| {
        let changed = std::fs::metadata(Path::new(path)).and_then(|file| file.modified());
        let since = changed.ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(format!("{}.{}", since.as_secs(), since.subsec_nanos()))
    };
    let times = APT.map(|path| changed(path).unwrap_or_default());
    format!("{} {}", env!("CARGO_PKG_VERSION"), times.join(" "))
}
