//! An installed package as jobs and listings see it.
//!
//! Owns the step from a stored record to the immutable [`Installed`], and the registry of what is
//! installed with the leases on it. Invariants: a package with leases stays published; once it is
//! retired no lease is given any more; the one who returns the last lease of a retired package
//! learns it, exactly once. Does not touch the filesystem or the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};
use piston_client::api;
use piston_client::ids::{Digest, Language, PackageRef};
use tokio::sync::Notify;

use super::info::{self, PackageInfo};
use super::view::view_path;
use crate::cache::key::Canonical;
use crate::changes::{Changes, Changing};
use crate::store::records::PackageRecord;

/// An installed package, as jobs and listings need it. Immutable; shared.
#[derive(Debug)]
pub struct Installed {
    /// Its name and version.
    pub package: PackageRef,
    /// Packages of its version below it that it takes the place of: it is them with more in it.
    pub extends: Vec<Language>,
    /// Path of its view below the filesystem's root.
    pub view: String,
    /// What starts a job's program; none for a base package.
    pub run: Option<Entry>,
    /// What compiles.
    pub compile: Option<Entry>,
    /// The environment, worked out at install time: its own, then its dependencies'.
    pub environment: Vec<(String, String)>,
    /// Languages that it runs.
    pub runtimes: Vec<ProvidedRuntime>,
    /// Digest over everything that jobs can see of it: images, metadata, scripts and environments
    /// of the view's layers, in order.
    pub identity: Digest,
    /// Cache level of jobs that say none.
    pub cache: api::CacheLevel,
    /// The same where the operator set it for this package alone, which wins over `runners.toml`.
    pub level_set: Option<api::CacheLevel>,
    /// How long entries of its jobs last, where the operator said it for this package.
    pub time_to_live: Option<Duration>,
    /// What a compile leaves for run; empty means everything.
    pub artifacts: GlobSet,
}

/// What the operator's configuration says of cached jobs, by package name. What was set for one
/// version wins over it; it wins over what the package says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheRules(pub BTreeMap<String, CacheRule>);

/// What it says of one package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheRule {
    /// Cache level of jobs that say none.
    pub level: Option<api::CacheLevel>,
    /// How long entries last.
    pub time_to_live: Option<Duration>,
}

impl CacheRules {
    fn of(&self, package: &Language) -> CacheRule {
        self.0.get(package.as_str()).copied().unwrap_or_default()
    }
}

/// A language that a package provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvidedRuntime {
    /// The language.
    pub language: Language,
    /// Other names of it.
    pub aliases: Vec<String>,
    /// Its `limit_overrides`, by the released Piston's names (e.g. `run_timeout`), checked.
    pub limits: BTreeMap<String, i64>,
}

/// How a package compiles or runs a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The script `/piston/packages/{language}/{version}/{run,compile}`, started directly.
    Script(String),
    /// The same, started as `/bin/bash FILE`: it has neither an ELF header nor `#!`.
    BashScript(String),
    /// An argv with `{main}`, `{files}`, `{args}`.
    Command(Vec<String>),
}

impl Entry {
    /// A command when there is one, else the script `name` when there is one.
    pub(crate) fn of(
        package: &PackageRef,
        name: &str,
        command: Option<&Vec<String>>,
        script: Option<&Vec<u8>>,
    ) -> Option<Self> {
        if let Some(command) = command {
            return Some(Self::Command(command.clone()));
        }
        let script = script?;
        let path = format!("{}/{name}", info::directory(package));
        if script.starts_with(b"#!") || script.starts_with(b"\x7fELF") {
            Some(Self::Script(path))
        } else {
            Some(Self::BashScript(path))
        }
    }
}

impl Installed {
    /// What a record means, with the records of its view's layers, lowest first.
    pub(crate) fn new<'a>(
        record: &'a PackageRecord,
        info: &PackageInfo,
        layers: impl Iterator<Item = &'a PackageRecord>,
        rules: &CacheRules,
    ) -> Self {
        let package = &record.package;
        let run = Entry::of(package, "run", info.run.as_ref(), record.run.as_ref());
        let compile = Entry::of(
            package,
            "compile",
            info.compile.as_ref(),
            record.compile.as_ref(),
        );
        let extends = extends(record, info);
        // What is set for a package holds for its extensions, unless the same is set for them.
        let below = extends.iter().rev().map(|name| rules.of(name));
        let rule = below.fold(rules.of(&package.language), |rule, below| CacheRule {
            level: rule.level.or(below.level),
            time_to_live: rule.time_to_live.or(below.time_to_live),
        });
        let settings = &record.settings;
        Self {
            extends,
            view: view_path(package),
            runtimes: runtimes(info, run.is_some()),
            environment: record.environment.clone(),
            cache: (settings.cache)
                .or(rule.level)
                .or(info.cache)
                .unwrap_or(if compile.is_some() {
                    api::CacheLevel::Binary
                } else {
                    api::CacheLevel::None
                }),
            level_set: settings.cache,
            time_to_live: settings
                .cache_ttl_ms
                .map(Duration::from_millis)
                .or(rule.time_to_live),
            artifacts: artifacts(&info.artifacts),
            identity: identity(layers.chain([record])),
            package: package.clone(),
            run,
            compile,
        }
    }

    /// Whether jobs of the package `name` may run in it: it is that one, or takes its place.
    pub(crate) fn is(&self, name: &Language) -> bool {
        self.package.language == *name || self.extends.contains(name)
    }

    /// Whether it runs `language`, by that name or an alias.
    pub(crate) fn runtime(&self, language: &str) -> Option<&ProvidedRuntime> {
        let exact = |runtime: &&ProvidedRuntime| runtime.language.as_str() == language;
        let alias = |runtime: &&ProvidedRuntime| runtime.aliases.iter().any(|a| a == language);
        self.runtimes
            .iter()
            .find(exact)
            .or_else(|| self.runtimes.iter().find(alias))
    }
}

/// Nobody takes the place of a package without having all of it.
fn extends(record: &PackageRecord, info: &PackageInfo) -> Vec<Language> {
    let has = |name: &&Language| {
        let version = record.package.version.clone();
        let below = PackageRef::new((*name).clone(), version);
        below != record.package && record.layers.contains(&below)
    };
    info.extends.iter().filter(has).cloned().collect()
}

/// Matches what compiling leaves. Built once: each job would pay for it. The patterns were checked
/// with the metadata; were one bad all the same, everything would be left, as without patterns.
fn artifacts(patterns: &[String]) -> GlobSet {
    let globs = patterns
        .iter()
        .filter_map(|pattern| Glob::new(pattern).ok());
    let set = globs.fold(GlobSetBuilder::new(), |mut set, glob| {
        set.add(glob);
        set
    });
    set.build().unwrap_or_default()
}

/// See [`Installed::identity`].
fn identity<'a>(layers: impl Iterator<Item = &'a PackageRecord>) -> Digest {
    let mut hash = Canonical::new("view");
    for record in layers {
        hash.bytes(record.package.to_string().as_bytes());
        hash.bytes(record.info.as_bytes());
        hash.bytes(record.image.as_bytes());
        for script in [&record.run, &record.compile] {
            hash.count(usize::from(script.is_some()));
            hash.bytes(script.as_deref().unwrap_or_default());
        }
        hash.count(record.environment.len());
        for (name, value) in &record.environment {
            hash.bytes(name.as_bytes());
            hash.bytes(value.as_bytes());
        }
    }
    Digest::from_bytes(hash.finish())
}

/// What the package provides, else its own name; nothing when it can't run.
fn runtimes(info: &PackageInfo, runs: bool) -> Vec<ProvidedRuntime> {
    if !runs {
        return Vec::new();
    }
    if info.provides.is_empty() {
        return vec![ProvidedRuntime {
            language: info.package.language.clone(),
            aliases: info.aliases.clone(),
            limits: info.limits.clone(),
        }];
    }
    let provided = info.provides.iter().map(|provides| {
        let mut limits = info.limits.clone();
        limits.extend(provides.limits.clone());
        ProvidedRuntime {
            language: provides.language.clone(),
            aliases: provides.aliases.clone(),
            limits,
        }
    });
    provided.collect()
}

/// A package with everything that is known of it.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its row in the database.
    pub(crate) record: PackageRecord,
    /// Its metadata.
    pub(crate) info: PackageInfo,
    /// What jobs see.
    pub(crate) installed: Arc<Installed>,
    /// Files that overlap in its view; or why it is not in the filesystem.
    pub(crate) published: Result<Vec<String>, String>,
}

impl Slot {
    /// Orders packages of one version: of those that extend each other, the last has it all.
    pub(crate) fn reach(&self) -> (usize, &PackageRef) {
        // What extends another one of its version stands on it, and so has more layers.
        (self.record.layers.len(), &self.record.package)
    }

    /// Whether jobs for a language of this package run in another one, which extends it or what it
    /// extends.
    pub(crate) fn yields_to(&self, other: &Self, language: &Language) -> bool {
        let family = |slot: &Self| -> BTreeSet<Language> {
            let own = slot.record.package.language.clone();
            slot.info.extends.iter().cloned().chain([own]).collect()
        };
        other.record.package.version == self.record.package.version
            && other.published.is_ok()
            && other.reach() > self.reach()
            && other
                .installed
                .runtimes
                .iter()
                .any(|runtime| runtime.language == *language)
            && !family(self).is_disjoint(&family(other))
    }
}

/// What is installed, what is going, and who uses it.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    /// Told whenever a retired package is gone.
    gone: Notify,
    changing: Changing,
}

#[derive(Debug, Default)]
struct Inner {
    installed: BTreeMap<PackageRef, Arc<Slot>>,
    retiring: BTreeMap<PackageRef, Arc<Slot>>,
    leases: BTreeMap<PackageRef, usize>,
}

impl Registry {
    /// A panic elsewhere leaves the maps whole: every change is one insert or remove.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything installed, by name, then version.
    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.lock().installed.values().cloned().collect()
    }

    /// One package.
    pub(crate) fn get(&self, package: &PackageRef) -> Option<Arc<Slot>> {
        self.lock().installed.get(package).cloned()
    }

    /// Adds a package, or replaces what is known of it.
    pub(crate) fn insert(&self, slot: Arc<Slot>) {
        let package = slot.record.package.clone();
        let mut inner = self.lock();
        inner.installed.insert(package, slot);
        self.changing.count();
    }

    /// How often what is installed changed so far.
    pub(crate) fn changes(&self) -> Changes {
        self.changing.so_far()
    }

    /// Counts a lease on the best of the installed packages, as `choose` has it.
    pub(crate) fn lease(
        &self,
        choose: impl FnOnce(&BTreeMap<PackageRef, Arc<Slot>>) -> Option<Arc<Slot>>,
    ) -> Option<Arc<Slot>> {
        let mut inner = self.lock();
        let slot = choose(&inner.installed)?;
        *inner.leases.entry(slot.record.package.clone()).or_default() += 1;
        Some(slot)
    }

    /// Returns a lease; the slot when it was the last one of a retired package.
    pub(crate) fn release(&self, package: &PackageRef) -> Option<Arc<Slot>> {
        let mut inner = self.lock();
        let leases = inner.leases.get_mut(package)?;
        *leases -= 1;
        if *leases > 0 {
            return None;
        }
        inner.leases.remove(package);
        inner.retiring.get(package).cloned()
    }

    /// Takes a package out of use; the slot when nobody uses it.
    pub(crate) fn retire(&self, package: &PackageRef) -> Option<Arc<Slot>> {
        let mut inner = self.lock();
        let slot = inner.installed.remove(package)?;
        self.changing.count();
        inner.retiring.insert(package.clone(), Arc::clone(&slot));
        (!inner.leases.contains_key(package)).then_some(slot)
    }

    /// A retired package is gone.
    pub(crate) fn bury(&self, package: &PackageRef) {
        self.lock().retiring.remove(package);
        self.gone.notify_waiters();
    }

    /// Whether a package was retired and still is in use.
    pub(crate) fn is_retiring(&self, package: &PackageRef) -> bool {
        self.lock().retiring.contains_key(package)
    }

    /// Whether an installed or retired package has this image.
    pub(crate) fn uses_image(&self, image: &Digest) -> bool {
        let inner = self.lock();
        let mut slots = inner.installed.values().chain(inner.retiring.values());
        slots.any(|slot| slot.record.image == *image)
    }

    /// Waits until none of these packages is retiring.
    pub(crate) async fn settled(&self, packages: &[PackageRef]) {
        loop {
            let mut gone = std::pin::pin!(self.gone.notified());
            // Registered before looking, so that no notification is missed between.
            gone.as_mut().enable();
            if !packages.iter().any(|package| self.is_retiring(package)) {
                return;
            }
            gone.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::PackageSettings;

    fn slot(json: &str, run: Option<&[u8]>, compile: Option<&[u8]>) -> Slot {
        let info = PackageInfo::parse(json.as_bytes()).unwrap();
        let record = PackageRecord {
            package: info.package.clone(),
            info: json.to_owned(),
            image: Digest::from_bytes([1; 32]),
            original: None,
            image_bytes: 1,
            content_bytes: 1,
            file: Digest::from_bytes([2; 32]),
            repository: None,
            signed_by: None,
            requested: true,
            run: run.map(<[u8]>::to_vec),
            compile: compile.map(<[u8]>::to_vec),
            own_environment: Vec::new(),
            environment: Vec::new(),
            dependencies: Vec::new(),
            layers: vec![info.package.clone()],
            notes: Vec::new(),
            installed_at: 0,
            settings: PackageSettings::default(),
        };
        let installed = Arc::new(Installed::new(
            &record,
            &info,
            std::iter::empty(),
            &CacheRules::default(),
        ));
        Slot {
            record,
            info,
            installed,
            published: Ok(Vec::new()),
        }
    }

    fn python() -> Slot {
        let json = r#"{"language":"python","version":"3.11.2","aliases":["py"]}"#;
        slot(json, Some(b"#!/bin/sh\n"), None)
    }

    #[test]
    fn a_script_is_started_by_what_it_is() {
        let path = "/piston/packages/python/3.11.2/run".to_owned();
        let json = r#"{"language":"python","version":"3.11.2"}"#;
        for (bytes, expected) in [
            (&b"#!/bin/sh\n"[..], Entry::Script(path.clone())),
            (b"\x7fELF\x02", Entry::Script(path.clone())),
            (b"python3 \"$@\"\n", Entry::BashScript(path.clone())),
        ] {
            let slot = slot(json, Some(bytes), None);
            assert_eq!(slot.installed.run, Some(expected));
        }
    }

    #[test]
    fn a_command_needs_no_script_and_wins_over_one() {
        let json = r#"{"language":"p","version":"1.0.0","run":{"command":["/bin/p","{main}"]}}"#;
        let slot = slot(json, Some(b"#!"), None);
        assert!(matches!(&slot.installed.run, Some(Entry::Command(argv)) if argv[0] == "/bin/p"));
    }

    #[test]
    fn the_cache_level_follows_the_compile_stage() {
        let json = r#"{"language":"c","version":"1.0.0"}"#;
        assert_eq!(
            slot(json, Some(b"#!"), Some(b"#!")).installed.cache,
            api::CacheLevel::Binary
        );
        assert_eq!(
            slot(json, Some(b"#!"), None).installed.cache,
            api::CacheLevel::None
        );
    }

    #[test]
    fn an_operators_setting_wins_over_the_configuration_and_that_over_the_package() {
        let (json, hour) = (
            r#"{"language":"c","version":"1.0.0"}"#,
            Duration::from_hours(1),
        );
        let Slot {
            mut record, info, ..
        } = slot(json, Some(b"#!"), Some(b"#!"));
        let seen = |record: &PackageRecord, rules: &CacheRules| {
            let installed = Installed::new(record, &info, std::iter::empty(), rules);
            (installed.cache, installed.time_to_live)
        };
        let rule = CacheRule {
            level: Some(api::CacheLevel::Output),
            time_to_live: Some(hour),
        };
        let rules = CacheRules([("c".to_owned(), rule)].into());
        assert_eq!(seen(&record, &rules), (api::CacheLevel::Output, Some(hour)));
        record.settings.cache_ttl_ms = Some(1500);
        let short = Some(Duration::from_millis(1500));
        assert_eq!(seen(&record, &rules), (api::CacheLevel::Output, short));
        record.settings.cache = Some(api::CacheLevel::None);
        assert_eq!(seen(&record, &rules), (api::CacheLevel::None, short));
        let elsewhere = CacheRules([("d".to_owned(), rule)].into());
        record.settings = PackageSettings::default();
        assert_eq!(seen(&record, &elsewhere), (api::CacheLevel::Binary, None));
    }

    #[test]
    fn whatever_jobs_can_see_of_a_view_changes_its_identity() {
        let record = python().record;
        let changed = |change: &dyn Fn(&mut PackageRecord)| {
            let mut record = record.clone();
            change(&mut record);
            record
        };
        let other = changed(&|r| r.image = Digest::from_bytes([8; 32]));
        let same = identity([&record].into_iter());
        for different in [
            changed(&|r| r.package.language = "pypy".parse().unwrap()),
            changed(&|r| r.info.push(' ')),
            other.clone(),
            changed(&|r| r.run = Some(b"#!/bin/bash".to_vec())),
            changed(&|r| r.run = None),
            changed(&|r| r.compile = Some(Vec::new())),
            changed(&|r| r.environment = vec![("A".to_owned(), "b".to_owned())]),
        ] {
            assert_ne!(identity([&different].into_iter()), same, "{different:?}");
        }
        let pair = identity([&record, &other].into_iter());
        assert_ne!(
            pair,
            identity([&other, &record].into_iter()),
            "the order of layers"
        );
        // What jobs can't see does not.
        for alike in [
            changed(&|r| r.installed_at = 5),
            changed(&|r| r.requested = false),
            changed(&|r| r.repository = Some("r".to_owned())),
            changed(&|r| r.file = Digest::from_bytes([9; 32])),
            changed(&|r| r.notes.push("n".to_owned())),
            changed(&|r| r.settings.cache_ttl_ms = Some(1)),
        ] {
            assert_eq!(identity([&alike].into_iter()), same, "{alike:?}");
        }
    }

    #[test]
    fn a_package_runs_what_it_provides_or_else_its_own_name() {
        assert!(python().installed.runtime("python").is_some());
        assert!(python().installed.runtime("py").is_some());
        let json = r#"{"language":"gcc","version":"1.0.0","limit_overrides":{"run_timeout":1},
            "provides":[{"language":"c"},{"language":"c++","aliases":["cpp"],
            "limit_overrides":{"run_timeout":2}}]}"#;
        let gcc = slot(json, Some(b"#!"), Some(b"#!")).installed;
        assert!(
            gcc.runtime("gcc").is_none(),
            "a package's name is not a language"
        );
        assert_eq!(gcc.runtime("c").unwrap().limits["run_timeout"], 1);
        assert_eq!(gcc.runtime("cpp").unwrap().limits["run_timeout"], 2);
        let base = slot(r#"{"language":"base","version":"1.0.0"}"#, None, None);
        assert!(base.installed.runtimes.is_empty());
    }

    #[test]
    fn the_last_lease_of_a_retired_package_is_told_once() {
        let registry = Registry::default();
        let package = python().record.package;
        registry.insert(Arc::new(python()));
        let take = || registry.lease(|all| all.get(&package).cloned());
        assert!(take().is_some() && take().is_some());
        assert!(registry.retire(&package).is_none(), "in use");
        assert!(take().is_none(), "no new lease");
        assert!(registry.uses_image(&Digest::from_bytes([1; 32])));
        assert!(registry.release(&package).is_none());
        assert!(registry.release(&package).is_some());
        assert!(registry.release(&package).is_none());
        registry.bury(&package);
        assert!(!registry.is_retiring(&package));
        assert!(!registry.uses_image(&Digest::from_bytes([1; 32])));
    }

    #[tokio::test]
    async fn an_install_waits_until_the_retired_package_is_gone() {
        let registry = Arc::new(Registry::default());
        let package = python().record.package;
        registry.insert(Arc::new(python()));
        registry.settled(std::slice::from_ref(&package)).await;
        registry.lease(|all| all.get(&package).cloned()).unwrap();
        registry.retire(&package);
        let waiting = tokio::spawn({
            let (registry, package) = (Arc::clone(&registry), package.clone());
            async move { registry.settled(&[package]).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        registry.release(&package);
        registry.bury(&package);
        waiting.await.unwrap();
    }
}
