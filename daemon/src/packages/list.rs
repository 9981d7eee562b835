//! Installed packages and runtimes in the form of the API.
//!
//! Pure conversions of what the registry holds.

use std::sync::Arc;

use piston_client::api;
use piston_client::ids::PackageRef;
use piston_client::units::Bytes;

use super::installed::{Installed, ProvidedRuntime, Slot};

/// Tells the limits of a runtime's jobs.
pub type LimitsOf<'a> = dyn Fn(&Installed, &ProvidedRuntime) -> api::StageLimits + 'a;

/// Every package, by name, then version.
pub(super) fn packages(slots: &[Arc<Slot>]) -> Vec<api::InstalledPackage> {
    slots.iter().map(|slot| package(slot, slots)).collect()
}

fn package(slot: &Slot, all: &[Arc<Slot>]) -> api::InstalledPackage {
    let record = &slot.record;
    let dependents = all
        .iter()
        .filter(|other| other.record.dependencies.contains(&record.package));
    let runtimes = slot.installed.runtimes.iter();
    api::InstalledPackage {
        language: record.package.language.clone(),
        version: record.package.version.clone(),
        author: slot.info.author.clone(),
        build_platform: slot.info.platform.as_ref().map(|p| p.text.clone()),
        image: record.image,
        image_bytes: Bytes(record.image_bytes),
        repository: record.repository.clone(),
        signed_by: record.signed_by.clone(),
        requested: record.requested,
        mount: slot.info.mount.clone(),
        view: slot.installed.view.clone(),
        layers: record.layers.clone(),
        dependents: dependents
            .map(|other| other.record.package.clone())
            .collect(),
        runtimes: runtimes.map(|runtime| runtime.language.clone()).collect(),
        cache: slot.installed.cache,
        cache_ttl_ms: slot.installed.time_to_live.map(Into::into),
        installed_at: record.installed_at,
        libraries: slot.info.libraries.clone(),
        notes: notes(slot),
    }
}

fn notes(slot: &Slot) -> Vec<String> {
    let mut notes = slot.record.notes.clone();
    match &slot.published {
        Ok(overlaps) if overlaps.is_empty() => {}
        Ok(overlaps) => {
            let shown: Vec<&str> = overlaps.iter().take(5).map(String::as_str).collect();
            let more = if overlaps.len() > shown.len() {
                ", ..."
            } else {
                ""
            };
            notes.push(format!(
                "{} files are in several layers, the uppermost is shown: {}{more}",
                overlaps.len(),
                shown.join(", ")
            ));
        }
        Err(reason) => notes.push(format!("not usable: {reason}")),
    }
    notes
}

/// Every runtime, by language, then version; of packages that extend each other the one that jobs for
/// the language run in.
pub(super) fn runtimes(slots: &[Arc<Slot>], limits: &LimitsOf<'_>) -> Vec<api::Runtime> {
    let runs_itself = |slot: &Slot, runtime: &ProvidedRuntime| {
        !slots
            .iter()
            .any(|other| slot.yields_to(other, &runtime.language))
    };
    let mut runtimes: Vec<api::Runtime> = slots
        .iter()
        .filter(|slot| slot.published.is_ok())
        .flat_map(|slot| {
            let runtimes = slot.installed.runtimes.iter();
            let own = runtimes.filter(|runtime| runs_itself(slot, runtime));
            own.map(|runtime| api::Runtime {
                language: runtime.language.clone(),
                version: slot.record.package.version.clone(),
                aliases: runtime.aliases.clone(),
                package: slot.record.package.language.clone(),
                compiled: slot.installed.compile.is_some(),
                limits: limits(&slot.installed, runtime),
            })
        })
        .collect();
    runtimes.sort_by(|a, b| {
        let key = |runtime: &api::Runtime| {
            let runtime = runtime.clone();
            (runtime.language, runtime.version, runtime.package)
        };
        key(a).cmp(&key(b))
    });
    runtimes
}

/// Installed packages whose view holds `package`.
pub(super) fn users(package: &PackageRef, all: &[Arc<Slot>]) -> Vec<PackageRef> {
    let others = all.iter().filter(|slot| slot.record.package != *package);
    others
        .filter(|slot| slot.record.layers.contains(package))
        .map(|slot| slot.record.package.clone())
        .collect()
}

/// Orders packages so that each comes before those that its view holds.
pub(super) fn dependents_first(packages: &[PackageRef], all: &[Arc<Slot>]) -> Vec<PackageRef> {
    let mut left: Vec<PackageRef> = packages.to_vec();
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let free = left.iter().position(|package| {
            let users = users(package, all);
            !left.iter().any(|other| users.contains(other))
        });
        // Views hold each other in no circle; should they, any order will do.
        ordered.push(left.remove(free.unwrap_or(0)));
    }
    ordered
}

/// Packages that nobody asked for and no package that somebody asked for has in its view.
pub(super) fn unneeded(all: &[Arc<Slot>]) -> Vec<PackageRef> {
    let wanted: Vec<_> = all.iter().filter(|slot| slot.record.requested).collect();
    let needed = |package: &PackageRef| {
        wanted
            .iter()
            .any(|slot| slot.record.layers.contains(package))
    };
    all.iter()
        .filter(|slot| !slot.record.requested && !needed(&slot.record.package))
        .map(|slot| slot.record.package.clone())
        .collect()
}
