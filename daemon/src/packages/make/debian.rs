//! Makers that build on Debian's packages: downloaded, checked, unpacked by us, put together.
//!
//! The way: `lists` (apt's, checked against their releases) -> `universe` (what is needed) ->
//! `download` (checked against the lists) -> `deb` (unpacked, hostile entries refused) ->
//! `assemble` and `scripts` (what dpkg would have left) -> a draft. What every language needs is
//! a package of its own, `debian-base`: packages of its versions are left out of the others.
//! Needs no root, runs no program of a package, and changes nothing of the host's.

mod assemble;
mod base;
mod control;
mod deb;
mod download;
mod error;
mod lists;
mod relation;
mod scripts;
mod sources;
mod universe;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use piston_client::ids::{Language, PackageRef, Version};

pub use self::error::DebianError;
use self::lists::{Apt, List};
use self::universe::{Chosen, Package, Universe};
pub(super) use self::version::upstream;
use super::super::files::AtPath as _;
use super::super::info::{BuiltFrom, PackageInfo};
use super::Made;
use super::error::MakeError;
use super::host::python::bytecode;
use super::host::{Host, semver};
use super::package::{Description, Draft, Step, home, owned};
use super::plan::Plan;
use super::recipe::{Debian, Recipe, Run};
use super::work::{Spool, Work};

/// What packages name that is not needed to run programs: how Debian administers a system.
const NEVER: [&str; 22] = [
    "adduser",
    "ca-certificates-java",
    "cdebconf",
    "dbus",
    "debconf",
    "debconf-2.0",
    "default-dbus-session-bus",
    "dpkg",
    "dpkg-dev",
    "init-system-helpers",
    "install-info",
    "login",
    "lsb-base",
    "man-db",
    "mount",
    "passwd",
    "shared-mime-info",
    "systemd",
    "sysvinit-utils",
    "ucf",
    "udev",
    "update-inetd",
];

/// A base package that is there already.
#[derive(Debug, Clone)]
pub struct Base {
    package: PackageRef,
    holds: BuiltFrom,
}

impl Base {
    /// Takes the metadata of a base package that was made here; none when it is another one.
    pub fn of(info: &PackageInfo) -> Option<Self> {
        Some(Self {
            package: info.package.clone(),
            holds: info.built_from.clone()?,
        })
    }
}

/// Makes the base package that the others stand on.
pub(super) fn make_base(out: &Path) -> Result<Made, MakeError> {
    let lists = Apt::default().read()?;
    let machine = Machine::of(&lists)?;
    let work = Work::new(out).map_err(DebianError::from)?;
    base::draft(&machine, &work)?.write(out)
}

/// Makes what a recipe says of Debian's packages.
pub(super) fn make(
    recipe: &Recipe,
    debian: &Debian,
    base: Option<&Base>,
    out: &Path,
) -> Result<Made, MakeError> {
    let lists = Apt::default().read()?;
    let machine = Machine::of(&lists)?;
    let work = Work::new(out).map_err(DebianError::from)?;
    machine.draft(recipe, debian, base, &work)?.write(out)
}

/// The base package by today's lists, and the version that each recipe would have; none where the
/// lists lack what it needs.
pub(super) fn versions_of(
    recipes: &[Recipe],
) -> Result<(PackageRef, Vec<Option<Version>>), MakeError> {
    let lists = Apt::default().read()?;
    let machine = Machine::of(&lists)?;
    let base = PackageRef::new(machine.base_name()?, machine.base_version()?);
    let version = |recipe: &Recipe| {
        let (_, version) = machine.chosen(recipe, recipe.debian()?).ok()?;
        Some(version)
    };
    Ok((base, recipes.iter().map(version).collect()))
}

/// What Debian offers this machine.
struct Machine<'a> {
    lists: &'a [List],
    universe: Universe<'a>,
    distribution: String,
    release: String,
    day: u64,
}

impl<'a> Machine<'a> {
    fn of(lists: &'a [List]) -> Result<Self, MakeError> {
        let universe = Universe::of(lists.iter().map(|list| list.text.as_str()));
        // What every system of the distribution has tells which one it is.
        let everywhere = universe.closure(&["base-files"], &BTreeSet::from(NEVER))?;
        let own = &lists[everywhere["base-files"].list].release;
        let distribution: String = own
            .origin
            .to_ascii_lowercase()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let siblings = || {
            lists
                .iter()
                .map(|list| &list.release)
                .filter(|release| release.origin == own.origin)
        };
        let versions = siblings().filter_map(|release| release.version.as_deref());
        let release = versions.max_by(|a, b| version::compare(a, b));
        Ok(Self {
            distribution,
            release: release.unwrap_or_default().to_owned(),
            day: siblings().map(|release| release.day).max().unwrap_or(0),
            universe,
            lists,
        })
    }

    /// The base package's name: `debian-base`.
    fn base_name(&self) -> Result<Language, MakeError> {
        let name = format!("{}-base", self.distribution);
        name.parse().map_err(|_| MakeError::Version {
            what: "the distribution".to_owned(),
            text: self.distribution.clone(),
        })
    }

    /// The base package's version: the release, then the day of the lists, because packages of a
    /// release are updated.
    fn base_version(&self) -> Result<Version, MakeError> {
        let release = semver("the distribution", &format!("0{}", self.release))?;
        let release = release.semver();
        let text = format!("{}.{}.{}", release.major, release.minor, self.day);
        text.parse().map_err(|_| MakeError::Version {
            what: "the distribution".to_owned(),
            text,
        })
    }

    /// The base that is there, when it is of this distribution's release.
    fn fitting<'b>(&self, base: Option<&'b Base>) -> Result<Option<&'b Base>, MakeError> {
        let (name, own) = (self.base_name()?, self.base_version()?);
        Ok(base.filter(|base| {
            base.package.language == name
                && base.package.version.semver().major == own.semver().major
        }))
    }

    /// Debian's packages for a recipe, and the version that it gets of them.
    fn chosen(&self, recipe: &Recipe, debian: &Debian) -> Result<(Chosen<'a>, Version), MakeError> {
        let wanted: Vec<&str> = debian.packages.iter().map(String::as_str).collect();
        let without: BTreeSet<&str> = debian.without.iter().map(String::as_str).collect();
        let without = without.into_iter().chain(NEVER).collect();
        let chosen = self.universe.closure(&wanted, &without)?;
        let versions = chosen
            .iter()
            .map(|(name, package)| (*name, package.version));
        let version = recipe.version(debian, &versions.collect())?;
        Ok((chosen, version))
    }

    fn draft(
        &self,
        recipe: &Recipe,
        debian: &Debian,
        base: Option<&Base>,
        work: &Work,
    ) -> Result<Draft, MakeError> {
        let (chosen, version) = self.chosen(recipe, debian)?;
        let (below, base) = match self.fitting(base)? {
            Some(base) => (base.holds.packages.clone(), base.package.version.clone()),
            None => (
                versions(&base::chosen(&self.universe)?),
                self.base_version()?,
            ),
        };
        let own = chosen
            .into_iter()
            .filter(|(name, package)| below.get(*name).is_none_or(|v| v != package.version))
            .collect();
        let package = PackageRef::new(recipe.language.clone(), version);
        let (mut plan, mut notes) = self.plan(&own, work)?;
        recipe.finish(&mut plan, assemble::merged)?;
        compile_python(&mut plan, &mut notes)?;
        plan.directory(&home(package.language.as_str(), &package.version));
        let mut description = recipe.describe(package);
        self.fill(&mut description, &own);
        if recipe.run == Run::Guessed {
            description.run = guessed_run(&plan, &debian.packages);
            notes.extend(description.run.as_ref().map(guessed_note));
        }
        let exact = BTreeMap::from([(self.base_name()?.to_string(), base)]);
        description.dependencies = exact;
        Ok(Draft {
            description,
            plan,
            notes,
        })
    }

    fn fill(&self, description: &mut Description, own: &Chosen<'_>) {
        description.platform = format!("{}-{}", self.distribution, std::env::consts::ARCH);
        description.built_from = Some(BuiltFrom {
            distribution: self.distribution.clone(),
            release: self.release.clone(),
            packages: versions(own),
        });
    }

    /// Downloads and unpacks packages, and puts them together.
    fn plan(&self, packages: &Chosen<'_>, work: &Work) -> Result<(Plan, Vec<String>), MakeError> {
        let files = download::all(packages.values(), self.lists, &work.downloads)?;
        let mut spool = Spool::new(work.spool.clone());
        let mut unpacked = Vec::new();
        for (name, file) in files {
            let contents = deb::unpack(&name, &file, &mut spool, &assemble::wanted)?;
            // Its space may be needed.
            fs::remove_file(&file)
                .at("remove", &file)
                .map_err(DebianError::from)?;
            unpacked.push((name, contents));
        }
        let mut plan = assemble::plan(&unpacked)?;
        let notes = scripts::apply(&mut plan, &unpacked);
        Ok((plan, notes))
    }
}

fn versions(chosen: &Chosen<'_>) -> BTreeMap<String, String> {
    let version = |package: &Package<'_>| (package.name.to_owned(), package.version.to_owned());
    chosen.values().map(version).collect()
}

/// A program that is called as one of the packages runs the file it is given, as most do.
fn guessed_run(plan: &Plan, packages: &[String]) -> Option<Step> {
    let places = packages
        .iter()
        .flat_map(|name| ["bin", "games"].map(|folder| format!("/usr/{folder}/{name}")));
    let program = places.into_iter().find(|path| plan.contains(path))?;
    Some(Step::Command(owned([&program, "{main}", "{args}"])))
}

fn guessed_note(step: &Step) -> String {
    let program = match step {
        Step::Command(argv) => argv.first().map_or("", String::as_str),
        Step::Script(_) => "",
    };
    format!("no recipe says how it runs programs: it runs them with {program}")
}

/// Bytecode for Python's modules, where this machine has an interpreter of that version: imports
/// without it take half a second. No interpreter of a package is run for it.
fn compile_python(plan: &mut Plan, notes: &mut Vec<String>) -> Result<(), MakeError> {
    let libraries: BTreeSet<String> = plan
        .items()
        .filter_map(|(path, _)| path.strip_prefix("/usr/lib/python3."))
        .filter_map(|rest| rest.strip_suffix("/os.py").map(ToOwned::to_owned))
        .collect();
    match libraries.first() {
        Some(minor) => bytecode_of(minor, plan, notes),
        None => Ok(()),
    }
}

/// The same for modules of Python `3.minor`, wherever they are planned.
pub(super) fn bytecode_of(
    minor: &str,
    plan: &mut Plan,
    notes: &mut Vec<String>,
) -> Result<(), MakeError> {
    let needs = super::host::python::NEEDS;
    let name = format!("python3.{minor}");
    let Ok(interpreter) = Host::read().program(Some(Path::new(&name)), &needs) else {
        notes.push(format!(
            "this machine has no {name}: the package has no bytecode, and imports take longer"
        ));
        return Ok(());
    };
    let failed = bytecode::add(plan, &interpreter, Some(&format!("cpython-3{minor}")))?;
    let note = |module| format!("{module} does not compile: it has no .pyc");
    notes.extend(failed.into_iter().map(note));
    Ok(())
}
