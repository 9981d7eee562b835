//! An image as one package for each of its layers, each on the one below it: images that stand on the
//! same layers share their packages.
//!
//! Invariants: a layer's package is called after all layers up to it (the chain id of the OCI), and holds
//! what the tree gains by that layer; so the same layers give the same packages, whichever image they are
//! of. What a layer takes away is a whiteout of the view. On the last of them stands the image's own
//! package, which has its name, its command and its variables, and no file. Of a layer that is
//! `installed` that package is looked at, and the packages of those above are the same as without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use piston_client::ids::{Digest, PackageRef, Version};
use serde_json::{Map, json};

use super::super::Made;
use super::super::error::MakeError;
use super::super::merge::Merged;
use super::super::package::{Description, Draft, home};
use super::super::plan::Plan;
use super::super::tar_reader::Budget;
use super::super::work::Work;
use super::describe::{self, Steps};
use super::image::{Image, sha256};
use super::installed::InstalledLayers;
use super::{FromOci, Laying, OciError};

/// How the names of layers' packages begin.
const NAME: &str = "layer-";
/// How much of its chain id a layer is called after: 160 bits.
const NAME_DIGITS: usize = 40;
/// The version of all of them: another tree has another name.
const VERSION: &str = "1.0.0";

/// A draft for each layer, lowest first, and the image's own.
pub(super) struct Stack {
    pub(super) layers: Vec<Draft>,
    pub(super) image: Draft,
}

/// Makes the packages of an image into the directory `out`; the image's own is the answer.
pub(super) fn make(what: &FromOci, work: &Work, out: &Path) -> Result<Made, MakeError> {
    let Stack { layers, image } = drafts(what, work)?;
    let written = layers.into_iter().map(|draft| Ok(draft.write(out)?.file));
    let below: Vec<PathBuf> = written.collect::<Result<_, MakeError>>()?;
    let made = image.write(out)?;
    Ok(Made { below, ..made })
}

pub(super) fn drafts(what: &FromOci, work: &Work) -> Result<Stack, MakeError> {
    let mut image = Image::find(what, work)?;
    let chains = chains(&image.config.layers);
    let packages: Vec<PackageRef> = chains.iter().map(called).collect::<Result<_, _>>()?;
    let installed = InstalledLayers::read(what.installed.as_deref())?;
    let viewed = installed.view(&chains);
    let wrong = |reason| OciError::image(&image.shown, reason);
    let (known, view) = viewed.map_err(wrong)?;
    let mut laying = Laying::new(work, Budget::default());
    laying.tree = Merged::of_installed(&view);
    let mut layers = Vec::new();
    image.pull_from(known);
    for (number, package) in packages.iter().enumerate().skip(known) {
        let layer = laying.lay(&mut image, number)?;
        laying.bring(&image, &view)?;
        let plan = laying.tree.gained();
        let plan = plan.map_err(|error| Laying::refused(&image, number, &error))?;
        let chain = &chains[number];
        let described =
            json!({"diff_id": format!("sha256:{layer}"), "chain_id": format!("sha256:{chain}")});
        let below = number.checked_sub(1).map(|below| &packages[below]);
        let description = Description {
            platform: std::env::consts::ARCH.to_owned(),
            dependencies: on(below),
            inherited: Map::from_iter([("layer".to_owned(), described)]),
            ..Description::of(package.clone())
        };
        layers.push(Draft {
            description,
            plan,
            notes: Vec::new(),
        });
    }
    let steps = Steps::of(what);
    let (description, mut notes) = describe::describe(what, &steps, &image, &mut laying.tree)?;
    notes.insert(0, image.made_of());
    if known > 0 {
        let all = packages.len();
        notes.push(format!(
            "{known} of its {all} layers are installed already: they were not fetched"
        ));
    }
    notes.extend(laying.left_out.notes("the image"));
    let package = &description.package;
    let mut plan = Plan::default();
    plan.directory(&home(package.language.as_str(), &package.version));
    let description = Description {
        dependencies: on(packages.last()),
        ..description
    };
    let image = Draft {
        description,
        plan,
        notes,
    };
    Ok(Stack { layers, image })
}

/// What identifies each layer together with all below it.
fn chains(layers: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::new();
    for layer in layers {
        chains.push(match chains.last() {
            Some(below) => sha256(format!("sha256:{below} sha256:{layer}").as_bytes()),
            None => *layer,
        });
    }
    chains
}

/// What the package of a layer is called.
fn called(chain: &Digest) -> Result<PackageRef, OciError> {
    let digits: String = chain.to_string().chars().take(NAME_DIGITS).collect();
    let name = format!("{NAME}{digits}");
    let (language, version) = (name.parse(), VERSION.parse());
    match (language, version) {
        (Ok(language), Ok(version)) => Ok(PackageRef::new(language, version)),
        _ => Err(OciError::image(&name, "no package can be called like this")),
    }
}

fn on(package: Option<&PackageRef>) -> BTreeMap<String, Version> {
    let package = package.into_iter();
    package
        .map(|package| (package.language.to_string(), package.version.clone()))
        .collect()
}
