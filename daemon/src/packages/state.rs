//! The installed packages as one whole: database, image files, filesystem and registry together.
//!
//! Owns the order of a change. Install: images in place, one transaction, publish, register.
//! Uninstall: out of the registry (no new leases), one transaction, and when the last lease ends
//! unpublish and remove the image. Invariants: changes come one after another; what the database
//! names has its image on disk; what fails half-way is taken back. Everything here blocks; async
//! callers use a blocking thread. Does not resolve, download or check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use piston_client::api::{Change, PackagePatch};
use piston_client::ids::{Digest, PackageRef};
use piston_fs::image::ImageError;

use super::data::DataDirectory;
use super::error::PackagesError;
use super::files::{self, AtPath as _, PathError};
use super::info::PackageInfo;
use super::installed::{CacheRules, Installed, Registry, Slot};
use super::view::{self, Layers, Part, Publish};
use crate::error::chain;
use crate::store::records::{self, PackageRecord};
use crate::store::{Changes, Store};

/// A package that is checked and ready: its record, and the files to move into place.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The row to be.
    pub(crate) record: PackageRecord,
    /// Its metadata.
    pub(crate) info: PackageInfo,
    /// The checked image and its index, in a staging directory.
    pub(crate) files: (PathBuf, PathBuf),
}

/// Everything that a change touches.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) data: DataDirectory,
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Registry,
    layers: Layers,
    shown: Shown,
    changing: Mutex<()>,
}

/// Where packages are shown to jobs, and what the configuration says of how.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The filesystem.
    pub(crate) publisher: Arc<dyn Publish>,
    /// What is kept of their jobs.
    pub(crate) rules: CacheRules,
}

/// Whether a package was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It was.
    Yes,
    /// It was not.
    No,
}

/// The right to change; others wait.
pub(crate) struct Changing<'a> {
    state: &'a State,
    _guard: MutexGuard<'a, ()>,
}

impl State {
    /// Opens the database in a prepared data directory; nothing is published yet.
    pub(crate) fn open(data: DataDirectory, shown: Shown) -> Result<Self, PackagesError> {
        data.refuse_lost_database()?;
        let store = Arc::new(Store::open(&data.database())?);
        Ok(Self {
            data,
            store,
            registry: Registry::default(),
            layers: Layers::new(),
            shown,
            changing: Mutex::default(),
        })
    }

    /// Changes the database, then the copies of its rows. A copy that can't be written is written
    /// at the next start: what counts is the database.
    fn apply(&self, changes: &Changes<'_>) -> Result<(), PackagesError> {
        self.store.apply(changes)?;
        for record in &changes.put {
            let row = records::row_of_package(record);
            log_copy(files::write_atomic(
                &self.data.record(&record.package),
                &row,
            ));
        }
        for package in &changes.remove {
            log_copy(files::remove_if_there(&self.data.record(package)));
        }
        Ok(())
    }

    /// Waits for other changes.
    pub(crate) fn change(&self) -> Changing<'_> {
        Changing {
            state: self,
            _guard: self.changing.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Opens the image of a record; its index may be missing or of another version. As long as
    /// the part lives, views share it.
    pub(crate) fn open_part(&self, record: &PackageRecord) -> Result<Part, ImageError> {
        let info = parse_info(record).map_err(|error| ImageError::Index {
            path: self.data.index(&record.image),
            reason: error.to_string(),
        })?;
        self.part(record, &info)
    }

    /// Removes image files that no record names, which a crash leaves.
    pub(crate) fn sweep(&self, records: &[PackageRecord]) -> Result<(), PathError> {
        let named: BTreeSet<_> = records
            .iter()
            .flat_map(|record| self.data.files_of(&record.image))
            .collect();
        let images = self.data.images();
        for entry in std::fs::read_dir(&images).at("list", &images)? {
            let path = entry.at("list", &images)?.path();
            if !named.contains(&path) {
                tracing::info!(path = %path.display(), "removing an image of no package");
                files::remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Publishes and registers what the database names. A package that can't be shown is listed
    /// with the reason and does not keep the others from being used.
    pub(crate) fn restore(&self, records: Vec<PackageRecord>) {
        let mut parsed = BTreeMap::new();
        for record in records {
            match parse_info(&record) {
                Ok(info) => {
                    parsed.insert(record.package.clone(), (record, info));
                }
                Err(error) => {
                    tracing::error!(pkg = %record.package, %error, "package left out");
                }
            }
        }
        for (record, info) in parsed.values() {
            let lookup = |package: &PackageRef| parsed.get(package).map(|(r, i)| (r, i));
            let published = self.publish(record, &lookup);
            if let Err(error) = &published {
                tracing::error!(pkg = %record.package, %error, "package not shown");
            }
            let published = published.map_err(|error| error.to_string());
            self.register(record, info, published, &lookup);
        }
    }

    fn part(&self, record: &PackageRecord, info: &PackageInfo) -> Result<Part, ImageError> {
        let files = self.data.files_of(&record.image);
        self.layers.part(record, info, &files)
    }

    /// Publishes a package alone and its view; both or none.
    fn publish<'r>(
        &self,
        record: &'r PackageRecord,
        lookup: &impl Fn(&PackageRef) -> Option<(&'r PackageRecord, &'r PackageInfo)>,
    ) -> Result<Vec<String>, PackagesError> {
        let package = &record.package;
        let mut parts = Vec::with_capacity(record.layers.len());
        for layer in &record.layers {
            let (record, info) = lookup(layer).ok_or_else(|| PackagesError::Unpublished {
                package: package.clone(),
                reason: format!("its layer {layer} is not installed"),
            })?;
            let part = self.part(record, info).map_err(|error| {
                let reason = format!("its layer {layer}: {}", chain(&error));
                PackagesError::Unpublished {
                    package: package.clone(),
                    reason,
                }
            })?;
            parts.push(part);
        }
        let Some(own) = parts.last() else {
            return Err(PackagesError::Internal(format!("{package} has no layers")));
        };
        let failed = |error| PackagesError::unpublished(package, &error);
        let alone = view::package_path(package);
        let publisher = &self.shown.publisher;
        publisher
            .publish(&alone, &Layers::alone(own))
            .map_err(failed)?;
        let published = publisher.publish(&view::view_path(package), &self.layers.view(&parts));
        published.map_err(|error| {
            self.unpublish_path(&alone);
            failed(error)
        })
    }

    fn unpublish(&self, package: &PackageRef) {
        self.unpublish_path(&view::view_path(package));
        self.unpublish_path(&view::package_path(package));
    }

    fn unpublish_path(&self, path: &str) {
        if let Err(error) = self.shown.publisher.unpublish(path) {
            tracing::warn!(path, error = %chain(&error), "not unpublished");
        }
    }

    fn register<'r>(
        &self,
        record: &PackageRecord,
        info: &PackageInfo,
        published: Result<Vec<String>, String>,
        lookup: &impl Fn(&PackageRef) -> Option<(&'r PackageRecord, &'r PackageInfo)>,
    ) {
        let layers = record.layers.iter();
        let records = layers.filter_map(|layer| lookup(layer).map(|(record, _)| record));
        let installed = Installed::new(record, info, records, &self.shown.rules);
        self.registry.insert(Arc::new(Slot {
            record: record.clone(),
            info: info.clone(),
            installed: Arc::new(installed),
            published,
        }));
    }

    /// Takes a retired package that nobody uses any more out of the filesystem and off the disk.
    pub(crate) fn bury(&self, slot: &Slot) {
        let _changing = self.change();
        self.bury_now(slot);
    }

    fn bury_now(&self, slot: &Slot) {
        let package = &slot.record.package;
        self.unpublish(package);
        self.registry.bury(package);
        self.drop_image(&slot.record.image);
        tracing::info!(pkg = %package, "package removed");
    }

    /// Removes an image that no package has any more.
    fn drop_image(&self, image: &Digest) {
        if self.registry.uses_image(image) {
            return;
        }
        for path in self.data.files_of(image) {
            if let Err(error) = files::remove_if_there(&path) {
                // The next start sweeps it.
                tracing::warn!(error = %chain(&error), "image stays");
            }
        }
    }
}

impl Changing<'_> {
    /// Installs packages (dependencies first) in one transaction and publishes them; all or none.
    pub(crate) fn install(&self, ready: &[Ready]) -> Result<(), PackagesError> {
        let state = self.state;
        let images: Vec<Digest> = ready.iter().map(|ready| ready.record.image).collect();
        let outcome = self.install_all(ready);
        if outcome.is_err() {
            for image in &images {
                state.drop_image(image);
            }
        }
        outcome
    }

    fn install_all(&self, ready: &[Ready]) -> Result<(), PackagesError> {
        let state = self.state;
        for ready in ready {
            self.place(ready)?;
        }
        files::sync_directory(&state.data.images())?;
        let put = ready.iter().map(|ready| &ready.record).collect();
        state.apply(&Changes {
            put,
            remove: Vec::new(),
        })?;
        let outcome = self.publish_all(ready);
        if outcome.is_err() {
            let remove = ready.iter().map(|ready| &ready.record.package).collect();
            let changes = Changes {
                put: Vec::new(),
                remove,
            };
            if let Err(error) = state.apply(&changes) {
                tracing::error!(%error, "a failed installation stays in the database");
            }
        }
        outcome
    }

    /// Moves image and index into place; the same image of another package is kept.
    fn place(&self, ready: &Ready) -> Result<(), PathError> {
        let data = &self.state.data;
        let image = &ready.record.image;
        let (from_image, from_index) = (&ready.files.0, &ready.files.1);
        if self.state.registry.uses_image(image) {
            return Ok(());
        }
        // The image last: an image in place has its index.
        for (from, to) in [
            (from_index, data.index(image)),
            (from_image, data.image(image)),
        ] {
            if from.exists() {
                let synced = File::open(from).and_then(|file| file.sync_all());
                synced.at("sync", from)?;
                std::fs::rename(from, &to).at("rename", from)?;
            }
        }
        Ok(())
    }

    fn publish_all(&self, ready: &[Ready]) -> Result<(), PackagesError> {
        let state = self.state;
        let slots: BTreeMap<PackageRef, Arc<Slot>> = state
            .registry
            .all()
            .into_iter()
            .map(|slot| (slot.record.package.clone(), slot))
            .collect();
        let lookup = |package: &PackageRef| {
            let new = ready.iter().find(|ready| ready.record.package == *package);
            new.map(|ready| (&ready.record, &ready.info))
                .or_else(|| slots.get(package).map(|slot| (&slot.record, &slot.info)))
        };
        let mut shown: Vec<(&Ready, Vec<String>)> = Vec::new();
        for next in ready {
            match state.publish(&next.record, &lookup) {
                Ok(overlaps) => shown.push((next, overlaps)),
                Err(error) => {
                    for (before, _) in shown.iter().rev() {
                        state.unpublish(&before.record.package);
                    }
                    return Err(error);
                }
            }
        }
        for (ready, overlaps) in shown {
            state.register(&ready.record, &ready.info, Ok(overlaps), &lookup);
            tracing::info!(pkg = %ready.record.package, "package installed");
        }
        Ok(())
    }
}

impl Changing<'_> {
    /// Uninstalls packages in one transaction, dependents first. Those that jobs use go when
    /// their last lease ends.
    pub(crate) fn uninstall(&self, packages: &[PackageRef]) -> Result<(), PackagesError> {
        let state = self.state;
        let changes = Changes {
            put: Vec::new(),
            remove: packages.iter().collect(),
        };
        state.apply(&changes)?;
        for package in packages {
            if let Some(slot) = state.registry.retire(package) {
                state.bury_now(&slot);
            }
        }
        Ok(())
    }

    /// Changes what the operator set for a package.
    pub(crate) fn set(
        &self,
        package: &PackageRef,
        change: PackagePatch,
    ) -> Result<Found, PackagesError> {
        let state = self.state;
        let Some(slot) = state.registry.get(package) else {
            return Ok(Found::No);
        };
        let mut record = slot.record.clone();
        let settings = &mut record.settings;
        match change.cache {
            Change::Keep => {}
            Change::Reset => settings.cache = None,
            Change::Set(level) => settings.cache = Some(level),
        }
        match change.cache_ttl_ms {
            Change::Keep => {}
            Change::Reset => settings.cache_ttl_ms = None,
            Change::Set(time) => settings.cache_ttl_ms = Some(time.0),
        }
        state.apply(&Changes {
            put: vec![&record],
            remove: Vec::new(),
        })?;
        let slots = state.registry.all();
        let lookup = |layer: &PackageRef| {
            let slot = slots.iter().find(|slot| slot.record.package == *layer);
            slot.map(|slot| (&slot.record, &slot.info))
        };
        state.register(&record, &slot.info, slot.published.clone(), &lookup);
        Ok(Found::Yes)
    }

    /// Notes that a package that came as a dependency was asked for by name.
    pub(crate) fn request(&self, package: &PackageRef) -> Result<(), PackagesError> {
        let state = self.state;
        let Some(slot) = state
            .registry
            .get(package)
            .filter(|slot| !slot.record.requested)
        else {
            return Ok(());
        };
        let mut record = slot.record.clone();
        record.requested = true;
        state.apply(&Changes {
            put: vec![&record],
            remove: Vec::new(),
        })?;
        state.registry.insert(Arc::new(Slot {
            record,
            info: slot.info.clone(),
            installed: Arc::clone(&slot.installed),
            published: slot.published.clone(),
        }));
        Ok(())
    }
}

fn log_copy(written: Result<(), PathError>) {
    if let Err(error) = written {
        tracing::warn!(error = %chain(&error), "the copy of a package's row is not current");
    }
}

fn parse_info(record: &PackageRecord) -> Result<PackageInfo, super::info::InfoError> {
    PackageInfo::parse(record.info.as_bytes())
}
