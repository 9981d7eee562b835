//! What a package made of an image is called, how it runs programs, and what they find in their
//! environment: as asked for, else as the image's configuration and its name have it.
//!
//! Reads the merged tree for where programs are; runs nothing.

use std::collections::BTreeMap;

use piston_client::ids::{Language, PackageRef, Version};
use serde_json::{Map, json};

use super::super::error::MakeError;
use super::super::host::semver;
use super::super::merge::Merged;
use super::super::package::{Description, Step, export};
use super::super::recipe::{Recipe, Run};
use super::image::Image;
use super::{FromOci, OciError};
use crate::packages::environment::DEFAULT_PATH;

/// The label by which images tell their version. Those that are built on others often have theirs.
const VERSION_LABEL: &str = "org.opencontainers.image.version";
/// Shells, whose `-c` takes a line and no file.
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];
/// Variables that a job has of its own.
const OWN: [&str; 4] = ["HOME", "PWD", "HOSTNAME", "PISTON_LANGUAGE"];

/// How the stages start, where that was said.
#[derive(Debug)]
pub(super) struct Steps {
    run: Option<Step>,
    compile: Option<Step>,
}

impl Steps {
    /// As asked for.
    pub(super) fn of(what: &FromOci) -> Self {
        let command = |argv: &Option<Vec<String>>| argv.clone().map(Step::Command);
        Self {
            run: command(&what.run),
            compile: command(&what.compile),
        }
    }

    /// As a recipe has it.
    pub(super) fn of_recipe(recipe: &Recipe) -> Self {
        Self {
            run: match &recipe.run {
                Run::By(step) => Some(step.clone()),
                Run::Not | Run::Guessed => None,
            },
            compile: recipe.compile.clone(),
        }
    }
}

/// Metadata of the package, and what is worth knowing of it.
pub(super) fn describe(
    what: &FromOci,
    steps: &Steps,
    image: &Image,
    tree: &mut Merged,
) -> Result<(Description, Vec<String>), MakeError> {
    let mut notes = Vec::new();
    let package = PackageRef::new(name(what, image)?, version(what, image)?);
    let mut in_view = |step: &Step| match step {
        Step::Command(argv) => Step::Command(placed(argv.clone(), image, tree)),
        Step::Script(text) => Step::Script(text.clone()),
    };
    let compile = steps.compile.as_ref().map(&mut in_view);
    let run = match &steps.run {
        Some(step) => Some(in_view(step)),
        None => default_run(image, tree, &mut notes).map(Step::Command),
    };
    let built_from = json!({
        "reference": image.shown,
        "digest": format!("sha256:{}", image.digest),
    });
    let description = Description {
        platform: std::env::consts::ARCH.to_owned(),
        aliases: what.aliases.clone(),
        run,
        compile,
        environment: environment(&image.config.env, &mut notes),
        inherited: Map::from_iter([("image".to_owned(), built_from)]),
        ..Description::of(package)
    };
    Ok((description, notes))
}

fn name(what: &FromOci, image: &Image) -> Result<Language, OciError> {
    if let Some(name) = &what.name {
        return Ok(name.clone());
    }
    let own = image.name.as_deref().unwrap_or_default();
    own.parse().map_err(|_| {
        let reason = "it has no name that a package could have: give it one (`--name`)";
        OciError::image(&image.shown, reason)
    })
}

/// As asked for, else the one that official images have in their environment (`PYTHON_VERSION`), else
/// the tag, else the label.
fn version(what: &FromOci, image: &Image) -> Result<Version, OciError> {
    if let Some(version) = &what.version {
        return Ok(version.clone());
    }
    let names = [
        image.name.as_deref(),
        what.name.as_ref().map(Language::as_str),
    ];
    let variables = names.into_iter().flatten().map(|name| {
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{}_VERSION=", name.to_ascii_uppercase())
    });
    let variables: Vec<String> = variables.collect();
    let set = |line: &String| {
        let value = variables.iter().find_map(|name| line.strip_prefix(name));
        value.map(ToOwned::to_owned)
    };
    let candidates = (image.config.env.iter().find_map(set).into_iter())
        .chain(image.tag.clone())
        .chain(image.config.labels.get(VERSION_LABEL).cloned());
    let mut versions = candidates.filter_map(|text| semver("", text.trim_start_matches('v')).ok());
    versions.next().ok_or_else(|| {
        let reason =
            "neither its tag nor its configuration tells a version: give it one (`--version`)";
        OciError::image(&image.shown, reason)
    })
}

/// The command of the image, given a program's file: most images of languages start what takes one.
fn default_run(image: &Image, tree: &mut Merged, notes: &mut Vec<String>) -> Option<Vec<String>> {
    let command = [image.config.entrypoint.clone(), image.config.cmd.clone()].concat();
    let shown = command.join(" ");
    let base = "it can be depended on, not run; `--run` says how it runs programs";
    let Some(first) = command.first() else {
        notes.push(format!("the image names no command: {base}"));
        return None;
    };
    let program = first.rsplit('/').next().unwrap_or(first);
    if SHELLS.contains(&program) && command.get(1).is_some_and(|word| word.starts_with('-')) {
        notes.push(format!(
            "the image's command, `{shown}`, takes no file: {base}"
        ));
        return None;
    }
    let argv = placed(command, image, tree);
    if !argv.first().is_some_and(|program| tree.has_file(program)) {
        notes.push(format!(
            "the image's command, `{shown}`, is not in it: {base}"
        ));
        return None;
    }
    notes.push(format!(
        "it runs programs with the image's command: {shown}"
    ));
    let placeholders = ["{main}", "{args}"].map(str::to_owned);
    Some([argv, placeholders.to_vec()].concat())
}

/// The same with the program's path in the view: as the image's PATH, or where its command starts, has
/// it.
fn placed(mut argv: Vec<String>, image: &Image, tree: &mut Merged) -> Vec<String> {
    let Some(program) = argv.first_mut().filter(|program| !program.starts_with('/')) else {
        return argv;
    };
    let path = image
        .config
        .env
        .iter()
        .find_map(|line| line.strip_prefix("PATH="));
    let mut folders = if program.contains('/') {
        vec![image.config.working_directory.as_str()]
    } else {
        path.into_iter()
            .chain([DEFAULT_PATH])
            .flat_map(|path| path.split(':'))
            .collect()
    };
    folders.retain(|folder| folder.starts_with('/'));
    let places = folders.into_iter().map(|folder| {
        let relative = program.trim_start_matches("./");
        format!("{}/{relative}", folder.trim_end_matches('/'))
    });
    let places: Vec<String> = places.collect();
    if let Some(place) = places.into_iter().find(|place| tree.has_file(place)) {
        *program = place;
    }
    argv
}

/// The image's variables as lines of a package's environment.
fn environment(variables: &[String], notes: &mut Vec<String>) -> String {
    let mut lines = BTreeMap::new();
    for line in variables {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        match export(name, value) {
            _ if OWN.contains(&name) => {}
            Some(line) => drop(lines.insert(name, line)),
            None => {
                let name: String = name.chars().take(40).collect();
                notes.push(format!(
                    "the image's variable `{name}` is left out: no shell could set it on one line"
                ));
            }
        }
    }
    lines.into_values().collect()
}

#[cfg(test)]
mod tests;
