//! Recipes: what a package is made of (Debian's packages, or an image) and how its stages start, in a
//! folder with `recipe.toml`.
//!
//! Owns the format (its reference: contrib/packages/README.md) and the recipes that ship with the
//! daemon. Invariant: a recipe that was read is checked as far as that goes without making it.
//! Downloads and unpacks nothing.

mod builtin;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};
use piston_client::ids::{Language, PackageRef, Version};
use serde::Deserialize;

pub(super) use self::builtin::{builtin_for, builtins, providing};
use super::super::files;
use super::error::MakeError;
use super::host::semver;
use super::oci::ImageSource;
use super::package::{Description, Step};
use super::plan::{Item, Plan};

/// The recipe in its folder.
const NAME: &str = "recipe.toml";
/// Longest file of a recipe that is read.
const MAX_BYTES: u64 = 4 << 20;

/// What a package is made of, and how its stages start.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The language.
    pub(super) language: Language,
    /// What it is made of.
    pub(super) source: Source,
    /// How it runs programs.
    pub(super) run: Run,
    /// How it compiles them.
    pub(super) compile: Option<Step>,
    raw: Raw,
    remove: GlobSet,
}

/// What a package is made of, before a recipe changes anything.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// Debian's packages.
    Debian(Debian),
    /// An image, all its layers.
    Image(ImageSource),
}

/// How a package runs programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Run {
    /// Like this.
    By(Step),
    /// It does not: others depend on it.
    Not,
    /// Nobody said: a program that is called as one of the packages will do.
    Guessed,
}

/// Debian's packages that are taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Debian {
    /// Their names; what they depend on comes with them.
    pub(super) packages: Vec<String>,
    /// What they would bring along and is not needed.
    #[serde(default)]
    pub(super) without: Vec<String>,
    /// Whose version the package gets, as a glob; the first package's when it is not said.
    #[serde(default)]
    pub(super) version_of: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    language: Language,
    version: Option<Version>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    provides: Vec<Provides>,
    run: Option<Vec<String>>,
    compile: Option<Vec<String>>,
    #[serde(default)]
    artifacts: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    limits: BTreeMap<String, i64>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    links: BTreeMap<String, String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    debian: Option<Debian>,
    oci: Option<Oci>,
    /// A program for each language that prints `OK`, beside the recipe; makers don't read it.
    #[serde(default, rename = "test")]
    _test: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Oci {
    image: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provides {
    language: Language,
    #[serde(default)]
    aliases: Vec<String>,
}

impl Recipe {
    /// Reads a recipe from its folder (with the scripts `run` and `compile` beside it), or the
    /// `recipe.toml` itself.
    pub(super) fn read(path: &Path) -> Result<Self, MakeError> {
        let file = if path.is_dir() {
            path.join(NAME)
        } else {
            path.to_owned()
        };
        let folder = file.parent().unwrap_or(Path::new("."));
        let wrong = |reason: String| MakeError::Recipe {
            recipe: file.display().to_string(),
            reason,
        };
        let text = |path: &Path| {
            let bytes = files::read_bounded(path, MAX_BYTES)
                .map_err(|error| wrong(crate::error::chain(&error)))?;
            String::from_utf8(bytes).map_err(|_| wrong(format!("{} is no text", path.display())))
        };
        let script = |name: &str| {
            let path = folder.join(name);
            fs::exists(&path)
                .unwrap_or(false)
                .then(|| text(&path))
                .transpose()
        };
        Self::parse(&text(&file)?, script("run")?, script("compile")?).map_err(wrong)
    }

    /// Reads the text of a recipe, with its scripts.
    fn parse(text: &str, run: Option<String>, compile: Option<String>) -> Result<Self, String> {
        let raw: Raw = toml::from_str(text).map_err(|error| error.to_string())?;
        for path in raw.links.keys().chain(raw.files.keys()) {
            let normal = path
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(|name| !matches!(name, "" | "." | "..")));
            if !normal {
                return Err(format!("`{path}` is no plain absolute path"));
            }
        }
        for (name, value) in &raw.environment {
            if value.contains(['\'', '\n']) || name.contains(['=', '\n', ' ']) {
                return Err(format!(
                    "the variable `{name}` holds a quote or a line's end"
                ));
            }
        }
        Ok(Self {
            language: raw.language.clone(),
            source: source(&raw)?,
            run: step("run", raw.run.clone(), run)?.map_or(Run::Not, Run::By),
            compile: step("compile", raw.compile.clone(), compile)?,
            remove: globs(&raw.remove)?,
            raw,
        })
    }

    /// Debian's packages without a recipe: the first names the package.
    pub(super) fn plain(
        language: Language,
        packages: Vec<String>,
        run: Option<Vec<String>>,
    ) -> Self {
        let debian = Debian {
            packages,
            without: Vec::new(),
            version_of: None,
        };
        let raw = Raw {
            language: language.clone(),
            version: None,
            aliases: Vec::new(),
            provides: Vec::new(),
            run: None,
            compile: None,
            artifacts: Vec::new(),
            environment: BTreeMap::new(),
            limits: BTreeMap::new(),
            remove: Vec::new(),
            links: BTreeMap::new(),
            files: BTreeMap::new(),
            debian: None,
            oci: None,
            _test: BTreeMap::new(),
        };
        Self {
            language,
            source: Source::Debian(debian),
            raw,
            run: run.map_or(Run::Guessed, |run| Run::By(Step::Command(run))),
            compile: None,
            remove: GlobSet::empty(),
        }
    }

    /// The same with another name, or another way to run programs.
    pub(super) fn with(self, language: Option<Language>, run: Option<Vec<String>>) -> Self {
        Self {
            language: language.unwrap_or(self.language),
            run: run.map_or(self.run, |run| Run::By(Step::Command(run))),
            ..self
        }
    }

    /// The same with further packages of Debian.
    pub(super) fn with_packages(mut self, packages: &[String]) -> Self {
        if let Source::Debian(debian) = &mut self.source {
            for name in packages {
                if !debian.packages.contains(name) {
                    debian.packages.push(name.clone());
                }
            }
        }
        self
    }

    /// Debian's packages, when it is made of those.
    pub(super) fn debian(&self) -> Option<&Debian> {
        match &self.source {
            Source::Debian(debian) => Some(debian),
            Source::Image(_) => None,
        }
    }

    /// The version of the package, when the recipe says it.
    pub(super) fn own_version(&self) -> Option<&Version> {
        self.raw.version.as_ref()
    }

    /// The version of the package, given Debian's packages that it is made of.
    pub(super) fn version(
        &self,
        debian: &Debian,
        chosen: &BTreeMap<&str, &str>,
    ) -> Result<Version, MakeError> {
        if let Some(version) = self.own_version() {
            return Ok(version.clone());
        }
        let of = debian.version_of.as_ref().or(debian.packages.first());
        let of = of.map(String::as_str).unwrap_or_default();
        let glob = Glob::new(of).map_err(|error| self.wrong(error.to_string()))?;
        let glob = glob.compile_matcher();
        let mut found = chosen.iter().filter(|(name, _)| glob.is_match(name));
        let (name, version) = found
            .next()
            .ok_or_else(|| self.wrong(format!("none of its packages is called `{of}`")))?;
        semver(
            &format!("the Debian package {name}"),
            super::debian::upstream(version),
        )
    }

    /// Whether it is of a language, by any of its names.
    fn provides(&self, name: &str) -> bool {
        let others = self.raw.provides.iter();
        let has = |aliases: &[String]| aliases.iter().any(|alias| alias == name);
        self.language.as_str() == name
            || has(&self.raw.aliases)
            || others
                .into_iter()
                .any(|p| p.language.as_str() == name || has(&p.aliases))
    }

    /// Does to the plan what the recipe says; `below` knows the links to directories that the package
    /// will stand on.
    pub(super) fn finish(
        &self,
        plan: &mut Plan,
        below: impl Fn(&str) -> String,
    ) -> Result<(), MakeError> {
        plan.remove(|path| self.remove.is_match(path));
        let place = |plan: &Plan, path: &str| {
            let place = plan.place(&below(path));
            place.map_err(|reason| self.wrong(format!("`{path}` {reason}")))
        };
        for (path, target) in &self.raw.links {
            let at = place(plan, path)?;
            plan.symlink(&at, target);
        }
        for (path, text) in &self.raw.files {
            let at = place(plan, path)?;
            if plan.item(&at) == Some(&Item::Directory) {
                return Err(self.wrong(format!("`{path}` is a directory of what it is made of")));
            }
            plan.replace_bytes(&at, text.as_str());
        }
        Ok(())
    }

    fn wrong(&self, reason: String) -> MakeError {
        MakeError::Recipe {
            recipe: format!("the recipe of {}", self.language),
            reason,
        }
    }

    /// Metadata and scripts of the package.
    pub(super) fn describe(&self, package: PackageRef) -> Description {
        let raw = &self.raw;
        let provides = raw.provides.iter();
        let variables = raw.environment.iter();
        Description {
            aliases: raw.aliases.clone(),
            provides: provides
                .map(|p| (p.language.to_string(), p.aliases.clone()))
                .collect(),
            artifacts: raw.artifacts.clone(),
            limits: raw.limits.clone(),
            run: match &self.run {
                Run::By(step) => Some(step.clone()),
                Run::Not | Run::Guessed => None,
            },
            compile: self.compile.clone(),
            environment: variables
                .flat_map(|(name, value)| ["export ", name, "='", value, "'\n"])
                .collect(),
            ..Description::of(package)
        }
    }
}

/// What a recipe names to make the package of: one kind of things.
fn source(raw: &Raw) -> Result<Source, String> {
    match (&raw.debian, &raw.oci) {
        (Some(debian), None) if debian.packages.is_empty() => {
            Err("`debian.packages` names nothing to take".to_owned())
        }
        (Some(debian), None) => Ok(Source::Debian(debian.clone())),
        (None, Some(oci)) => {
            let image = oci.image.parse();
            let image = image.map_err(|error| format!("`oci.image`: {error}"))?;
            Ok(Source::Image(image))
        }
        (None, None) => {
            Err("it has neither `[debian]` nor `[oci]`: what is it made of?".to_owned())
        }
        (Some(_), Some(_)) => Err("it has `[debian]` and `[oci]`: one of them is meant".to_owned()),
    }
}

/// A stage by the argv in the recipe, or by the script beside it; not by both.
fn step(
    name: &str,
    argv: Option<Vec<String>>,
    script: Option<String>,
) -> Result<Option<Step>, String> {
    match (argv, script) {
        (Some(_), Some(_)) => Err(format!(
            "`{name}` stands in it, and as a script beside it: one of them is meant"
        )),
        (argv, script) => Ok(argv.map(Step::Command).or(script.map(Step::Script))),
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| format!("`remove`: {error}"))?);
    }
    set.build().map_err(|error| format!("`remove`: {error}"))
}

#[cfg(test)]
mod tests;
