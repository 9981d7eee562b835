//! Packages of images: layouts of the OCI, archives of `docker save`, images of registries.
//!
//! The way: `reference` (what was named) -> `image` (found in a folder, an `archive` or a `registry`,
//! the one for this machine, described by its `manifest`) -> each layer, checked, unpacked, and laid
//! over those below (`merge`) -> `describe` (name, version, command, environment) -> a draft. The whole
//! image is one package that depends on nothing, or each layer one (`stack`). Needs no root and no tool, runs nothing of an image,
//! and believes nothing that is not hashed. A `recipe` may change what is made of one.

mod archive;
mod challenge;
mod credentials;
mod describe;
mod error;
mod image;
mod installed;
mod manifest;
mod reference;
mod registry;
mod stack;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use piston_client::ids::{Digest, Language, Version};
use piston_fs::tree::ViewTree;

pub use self::credentials::Credentials;
use self::describe::Steps;
pub use self::error::OciError;
use self::image::Image;
pub use self::installed::InstalledLayers;
pub use self::reference::{ImageSource, ReferenceError};
use super::super::files::Hashing;
use super::Made;
use super::compressed;
use super::error::MakeError;
use super::merge::{MergeError, Merged};
use super::package::{Description, Draft, home};
use super::recipe::Recipe;
use super::tar_reader::Budget;
use super::unpack::{LeftOut, Manner, Unpacker};
use super::work::{Spool, Work};

/// Longest file of an installed layer that another layer links to.
const MOST_BORROWED: u64 = 1 << 30;

/// What to make of an image.
#[derive(Debug, Clone)]
pub struct FromOci {
    /// Where it is.
    pub image: ImageSource,
    /// Who asks its registry.
    pub credentials: Option<Credentials>,
    /// Where credentials are looked for when none are given: a file of `docker login`.
    pub auth_file: Option<PathBuf>,
    /// What to call the package, instead of what the image is called.
    pub name: Option<Language>,
    /// Its version, instead of what the image says.
    pub version: Option<Version>,
    /// Argv that runs a program, instead of the image's command. A program without a path is looked
    /// for as the image does.
    pub run: Option<Vec<String>>,
    /// Argv that compiles.
    pub compile: Option<Vec<String>>,
    /// Other names of the language.
    pub aliases: Vec<String>,
    /// How many packages become of it.
    pub layering: Layering,
    /// Which of its layers are installed already, as the daemon wrote it down: [`InstalledLayers`].
    pub installed: Option<PathBuf>,
    /// What to call it in messages, instead of what names it here.
    pub shown: Option<String>,
}

/// What becomes of an image's layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layering {
    /// One package of them all, as programs in the image see them.
    #[default]
    Merged,
    /// A package each, which other images on the same layers share.
    Each,
}

impl Layering {
    /// As people ask for it.
    pub fn asked(layers: bool) -> Self {
        if layers { Self::Each } else { Self::Merged }
    }
}

/// Makes the package into the directory `out`.
pub(super) fn make(what: &FromOci, out: &Path) -> Result<Made, MakeError> {
    let work = Work::new(out).map_err(OciError::from)?;
    match what.layering {
        Layering::Merged => draft(what, &Steps::of(what), &work)?.write(out),
        Layering::Each => stack::make(what, &work, out),
    }
}

/// Makes what a recipe says of an image.
pub(super) fn make_recipe(
    recipe: &Recipe,
    image: &ImageSource,
    auth_file: Option<PathBuf>,
    out: &Path,
) -> Result<Made, MakeError> {
    let what = FromOci {
        image: image.clone(),
        credentials: None,
        auth_file,
        name: Some(recipe.language.clone()),
        version: recipe.own_version().cloned(),
        run: None,
        compile: None,
        aliases: Vec::new(),
        layering: Layering::Merged,
        installed: None,
        shown: None,
    };
    let work = Work::new(out).map_err(OciError::from)?;
    let mut draft = draft(&what, &Steps::of_recipe(recipe), &work)?;
    recipe.finish(&mut draft.plan, str::to_owned)?;
    let made = draft.description;
    let described = recipe.describe(made.package.clone());
    draft.description = Description {
        platform: made.platform,
        run: made.run,
        compile: made.compile,
        environment: overlaid(&made.environment, &described.environment),
        inherited: made.inherited,
        ..described
    };
    draft.write(out)
}

/// Lines that set variables, and those of the same name in the place of the ones below.
fn overlaid(below: &str, above: &str) -> String {
    let name = |line: &str| line.split('=').next().map(ToOwned::to_owned);
    let set: BTreeSet<_> = above.lines().map(name).collect();
    let kept = below.lines().filter(|line| !set.contains(&name(line)));
    kept.chain(above.lines())
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn draft(what: &FromOci, steps: &Steps, work: &Work) -> Result<Draft, MakeError> {
    let mut image = Image::find(what, work)?;
    let mut laying = Laying::new(work, Budget::default());
    image.pull_from(0);
    for number in 0..image.layers.len() {
        laying.lay(&mut image, number)?;
    }
    let Laying {
        mut tree, left_out, ..
    } = laying;
    let (description, described) = describe::describe(what, steps, &image, &mut tree)?;
    let mut notes = vec![image.made_of()];
    notes.extend(described);
    notes.extend(left_out.notes("the image"));
    let package = &description.package;
    let mut plan = tree.into_plan("");
    plan.directory(&home(package.language.as_str(), &package.version));
    Ok(Draft {
        description,
        plan,
        notes,
    })
}

/// The layers of an image, one over the other.
struct Laying {
    spool: Spool,
    budget: Budget,
    /// What the layers make so far.
    tree: Merged,
    left_out: LeftOut,
}

impl Laying {
    fn new(work: &Work, budget: Budget) -> Self {
        Self {
            spool: Spool::new(work.spool.clone()),
            budget,
            tree: Merged::default(),
            left_out: LeftOut::default(),
        }
    }

    /// Lays the next layer over those before; its digest, unpacked.
    fn lay(&mut self, image: &mut Image, number: usize) -> Result<Digest, OciError> {
        let section = image.layer(number)?;
        let label = image.label(number);
        let unpacked = compressed::unpacking(section.open()?);
        let mut hashing = Hashing::new(
            unpacked.map_err(|error| OciError::layer(&image.shown, &label, error.into()))?,
        );
        let mut unpacker = Unpacker {
            spool: &mut self.spool,
            budget: &mut self.budget,
            manner: Manner::Any,
            wanted: &|_| true,
        };
        let (entries, more) = unpacker
            .tree(&mut hashing)
            .map_err(|error| OciError::layer(&image.shown, &label, error))?;
        let (digest, _) = hashing.finish();
        if image.config.layers.get(number) != Some(&digest) {
            return Err(OciError::Layer {
                image: image.shown.clone(),
                layer: label,
                reason: format!("is sha256:{digest} unpacked, not what the configuration says"),
            });
        }
        let laid = self.tree.lay(&entries);
        laid.map_err(|error| Self::refused(image, number, &error))?;
        self.left_out.special += more.special;
        self.left_out.names += more.names;
        image.done(&section)?;
        Ok(digest)
    }

    /// Unpacks what the last layer has of the installed ones under a name of its own.
    fn bring(&mut self, image: &Image, installed: &ViewTree) -> Result<(), OciError> {
        for (path, from) in self.tree.borrowed() {
            let wrong = |reason: String| {
                OciError::image(
                    &image.shown,
                    format!("its installed layers: {from} {reason}"),
                )
            };
            let read = installed.read(&from, MOST_BORROWED);
            let read = read.map_err(|error| wrong(crate::error::chain(&error)))?;
            let bytes = read.ok_or_else(|| wrong("is over 1 GiB long".to_owned()))?;
            let kept = self.spool.keep(&mut bytes.as_slice());
            let kept = kept.map_err(|error| self.spool.error(error))?;
            self.tree.bring(&path, kept);
        }
        Ok(())
    }

    /// What is wrong with an entry of a layer.
    fn refused(image: &Image, number: usize, error: &MergeError) -> OciError {
        OciError::Layer {
            image: image.shown.clone(),
            layer: image.label(number),
            reason: format!("holds `{}`, which {}", error.entry, error.reason),
        }
    }
}

#[cfg(test)]
mod tests;
