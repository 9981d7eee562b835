//! Makers: package files from what the machine has, or can get.
//!
//! [`from_host`] takes a language from the host's own programs, [`from_debian`] and [`from_recipe`]
//! download what Debian has packaged, [`from_oci`] takes an image of a registry or a file,
//! [`from_piston_v2`] a package of the released Piston, [`extend()`] adds libraries to a package; without root and without any tool but ours. A maker drafts (metadata, scripts, and a `plan` of what goes into the
//! image, which is all that most tests look at), then the draft is written by `package`. A language
//! package holds only what the `base` package of the same host lacks; its view merges the two.
//! Installing what was made, and running this in a limited child, are the caller's.

mod compressed;
mod debian;
mod elf;
mod error;
mod extend;
mod host;
mod merge;
mod oci;
mod offer;
mod package;
mod piston_v2;
mod plan;
mod recipe;
mod tar_reader;
mod unpack;
mod work;

use std::path::{Path, PathBuf};

use piston_client::ids::{Language, PackageRef};

pub use self::debian::{Base, DebianError};
pub use self::elf::ElfError;
pub use self::error::MakeError;
pub use self::extend::{
    DEFAULT_INDEX, DEFAULT_REGISTRY, Extend, ExtendError, Folder, Target, TargetFrom, TargetLayer,
};
use self::host::{Host, base, bash, gcc, interpreter, php, python, rust, toolchain};
pub use self::oci::{
    Credentials, FromOci, ImageSource, InstalledLayers, Layering, OciError, ReferenceError,
};
pub use self::offer::{offer, offer_version};
use self::package::Draft;
pub use self::piston_v2::{FromPistonV2, PistonV2Error};
use self::recipe::{Recipe, Source};
use super::error::distance;
use super::info::PackageInfo;

/// A package file that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// What it holds.
    pub package: PackageRef,
    /// Where it is.
    pub file: PathBuf,
    /// Package files that were made with it, which it stands on, lowest first.
    pub below: Vec<PathBuf>,
    /// What is worth knowing of it: what was left out and why, what was added; a sentence each.
    pub notes: Vec<String>,
}

/// The name by which the base of packages made of Debian's is asked for.
pub const DEBIAN_BASE: &str = "base";

/// What can be made from the host beside what an interpreter runs, each with words that people may
/// use for it.
const KNOWN: [(&str, &[&str]); 6] = [
    (base::NAME, &["libc", "coreutils", "debian", "ubuntu"]),
    (bash::NAME, &["sh", "shell"]),
    (gcc::NAME, &["c", "c++", "g++", "cc", "cpp", "cxx"]),
    (php::NAME, &["php8", "php7", "php-cli"]),
    (
        python::NAME,
        &["py", "python2", "python3", "py3", "cpython"],
    ),
    (rust::NAME, &["rs", "rustc", "rustlang"]),
];

/// Makes the package `name` from the host into the directory `out`.
///
/// `program` is the interpreter or compiler to take, where the host has several. Returns one
/// package file; what it depends on is named in its `pkg-info.json` and made by a call of its own.
pub fn from_host(name: &Language, program: Option<&Path>, out: &Path) -> Result<Made, MakeError> {
    draft(name, program)?.write(out)
}

/// What to make of Debian's packages.
#[derive(Debug, Clone, Default)]
pub struct FromDebian {
    /// Debian's packages, or a language that there is a recipe for.
    pub packages: Vec<String>,
    /// What to call the package, instead of what the recipe, or the first of the packages, is called.
    pub name: Option<Language>,
    /// Argv that runs a program, instead of what the recipe says.
    pub run: Option<Vec<String>>,
    /// The base package that there is already.
    pub base: Option<Base>,
}

/// Makes a package of Debian's packages into the directory `out`. A recipe of ours says how it
/// runs, where there is one; the base package is asked for by the name [`DEBIAN_BASE`].
pub fn from_debian(what: FromDebian, out: &Path) -> Result<Made, MakeError> {
    let FromDebian {
        packages,
        name,
        run,
        base,
    } = what;
    let [first, others @ ..] = packages.as_slice() else {
        return Err(refused("nothing", "name at least one Debian package"));
    };
    if packages == [DEBIAN_BASE] {
        return debian::make_base(out);
    }
    let recipe = if let Some(recipe) = recipe::builtin_for(first) {
        recipe?.with_packages(others).with(name, run)
    } else {
        let named = name.map_or_else(|| first.parse(), Ok);
        let named = named.map_err(|_| refused(first, "it is no name of a Debian package"))?;
        Recipe::plain(named, packages, run)
    };
    of_recipe(&recipe, base.as_ref(), None, out)
}

fn refused(name: &str, reason: &str) -> MakeError {
    MakeError::Recipe {
        recipe: format!("`{name}`"),
        reason: reason.to_owned(),
    }
}

/// Whether packages of this name are made of what the host has.
pub(crate) fn is_of_host(name: &str) -> bool {
    known().any(|(known, _)| known == name)
}

/// The name by which [`from_debian`] makes a language, when a recipe of ours is for it.
pub fn recipe_of(language: &str) -> Option<Language> {
    let named = recipe::builtin_for(language).and_then(Result::ok);
    let recipe = named.or_else(|| recipe::providing(language))?;
    Some(recipe.language)
}

/// Makes the package that a recipe describes (its folder, or the `recipe.toml`) into the
/// directory `out`: of Debian's packages on a base package, or of an image, for whose registry
/// `auth_file` has credentials.
pub fn from_recipe(
    path: &Path,
    base: Option<&Base>,
    auth_file: Option<PathBuf>,
    out: &Path,
) -> Result<Made, MakeError> {
    of_recipe(&Recipe::read(path)?, base, auth_file, out)
}

fn of_recipe(
    recipe: &Recipe,
    base: Option<&Base>,
    auth_file: Option<PathBuf>,
    out: &Path,
) -> Result<Made, MakeError> {
    match &recipe.source {
        Source::Debian(debian) => debian::make(recipe, debian, base, out),
        Source::Image(image) => oci::make_recipe(recipe, image, auth_file, out),
    }
}

/// Makes a package of an image into the directory `out`: of all its layers, as programs in it see
/// them, or on a package for each.
pub fn from_oci(what: &FromOci, out: &Path) -> Result<Made, MakeError> {
    oci::make(what, out)
}

/// Makes a package of one of the released Piston's into the directory `out`, on a base package.
pub fn from_piston_v2(what: &FromPistonV2, out: &Path) -> Result<Made, MakeError> {
    piston_v2::make(what, out)
}

/// Makes a package that adds libraries to another one, which it depends on, into the directory
/// `out`.
pub fn extend(what: &Extend, out: &Path) -> Result<Made, MakeError> {
    extend::make(what, out)
}

/// The base that a package file is, or that a `pkg-info.json` describes.
pub fn read_base(path: &Path) -> Result<Base, MakeError> {
    let wrong = |reason: String| MakeError::Base {
        path: path.to_owned(),
        reason,
    };
    let info = if path.extension().is_some_and(|end| end == "json") {
        let bytes = super::files::read_bounded(path, super::info::MAX_INFO_BYTES);
        let bytes = bytes.map_err(|error| wrong(crate::error::chain(&error)))?;
        PackageInfo::parse(&bytes)?
    } else {
        super::archive::read_info(path)?.0
    };
    Base::of(&info).ok_or_else(|| wrong("it does not say what it was made of".to_owned()))
}

fn draft(name: &Language, program: Option<&Path>) -> Result<Draft, MakeError> {
    let host = Host::read();
    match (name.as_str(), program) {
        (base::NAME, None) => base::draft(&host),
        (base::NAME, Some(program)) => Err(MakeError::Unsupported {
            program: program.to_owned(),
            reason: "the base package is of the host as it is, not of one program".to_owned(),
        }),
        (bash::NAME, program) => bash::draft(&host, program),
        (gcc::NAME, program) => gcc::draft(&host, program),
        (php::NAME, program) => php::draft(&host, program),
        (python::NAME, program) => python::draft(&host, program),
        (rust::NAME, program) => rust::draft(&host, program),
        (other, program) => {
            let interpreter = interpreter::ALL.iter().find(|one| one.name == other);
            let toolchain = toolchain::ALL.iter().find(|one| one.name == other);
            match (interpreter, toolchain) {
                (Some(found), _) => interpreter::draft(found, &host, program),
                (None, Some(found)) => toolchain::draft(found, &host, program),
                (None, None) => Err(unknown(other)),
            }
        }
    }
}

/// Everything that can be made from the host.
fn known() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let interpreters = interpreter::ALL.iter().map(|one| (one.name, one.aliases));
    let toolchains = toolchain::ALL.iter().map(|one| (one.name, one.words));
    KNOWN.into_iter().chain(interpreters).chain(toolchains)
}

fn unknown(name: &str) -> MakeError {
    let meant = known()
        .find(|(known, words)| words.contains(&name) || distance(known, name) <= known.len() / 3);
    let all: Vec<&str> = known().map(|(name, _)| name).collect();
    let hint = match meant {
        Some((meant, _)) => format!("did you mean `{meant}`?"),
        None => format!("what can be made is {}", all.join(", ")),
    };
    MakeError::Unknown {
        name: name.to_owned(),
        hint,
    }
}

#[cfg(test)]
mod tests;
