//! Libraries of the system that compiled modules count on and the view does not have.
//!
//! Looks at what is planned and at the view; runs nothing. What the loader is told by paths inside of
//! modules is not followed: a library of that name anywhere in the plan counts as there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use piston_fs::tree::ViewTree;

use super::super::elf::Elf;
use super::super::plan::{Content, Item, Plan};

/// Sentences that a note has at most of this.
const MAX_NOTES: usize = 5;

/// A note for each library that is missing, with a module that needs it.
pub(super) fn notes(plan: &Plan, tree: &ViewTree) -> Vec<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let mut there: BTreeSet<String> = plan.items().map(|(path, _)| name(path)).collect();
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    for folder in ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"] {
        there.extend(tree.list(folder));
        there.extend(tree.list(&format!("{folder}/{triplet}")));
    }
    let mut missing: BTreeMap<String, String> = BTreeMap::new();
    for (path, item) in plan.items() {
        let Item::File {
            content: Content::Host(file),
            ..
        } = item
        else {
            continue;
        };
        if name(path).contains(".so") {
            for library in needed(file)
                .into_iter()
                .filter(|library| !there.contains(library))
            {
                missing.entry(library).or_insert_with(|| path.to_owned());
            }
        }
    }
    let note = |(library, by): (String, String)| {
        format!("{by} needs {library}, which the package does not have")
    };
    missing.into_iter().map(note).take(MAX_NOTES).collect()
}

/// What a module needs; nothing when it is none that could be loaded.
fn needed(file: &Path) -> Vec<String> {
    let elf = Elf::read(file).ok().flatten();
    elf.map(|elf| elf.needed).unwrap_or_default()
}
