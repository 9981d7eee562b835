//! Rebuilding the state database from what lies beside it.
//!
//! Beside the images stands a copy of each package's row; a database that can't be read is built
//! anew of those whose image is still the one that was installed. Repositories and tokens are kept
//! where the old database still tells them. Invariants: a database that is whole is left as it is;
//! the damaged one is kept under another name; a crash leaves the old one or the new one. Needs
//! the lock of the data directory, and no filesystem.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use piston_client::ids::PackageRef;

use super::data::{DataDirectory, Staging};
use super::error::PackagesError;
use super::files::{self, AtPath as _, PathError};
use super::recheck::check_image;
use super::verify::Verifier;
use crate::store::records::PackageRecord;
use crate::store::{Changes, Salvage, Store, StoreError};

/// What came of a repair.
#[derive(Debug)]
pub enum Repair {
    /// Nothing was to be done: the database is whole and names so many packages.
    Whole(usize),
    /// It was built anew.
    Rebuilt(Rebuilt),
}

/// A database that was built anew.
#[derive(Debug)]
pub struct Rebuilt {
    /// What was wrong with the old one.
    pub reason: StoreError,
    /// Packages that are in it.
    pub packages: Vec<PackageRef>,
    /// Packages that are not, and why.
    pub left_out: Vec<LeftOut>,
    /// Repositories that could be kept.
    pub repositories: usize,
    /// Tokens that could be kept.
    pub tokens: usize,
    /// Where the old one is.
    pub set_aside: Option<PathBuf>,
}

/// A package that is not in it, and why.
pub type LeftOut = (String, String);

/// Rebuilds the database of a data directory, which the caller has locked.
pub async fn repair(data: &DataDirectory) -> Result<Repair, PackagesError> {
    repair_with(data, &Verifier::of_this_program()).await
}

pub(super) async fn repair_with(
    data: &DataDirectory,
    verifier: &Verifier,
) -> Result<Repair, PackagesError> {
    data.prepare()?;
    let database = data.database();
    let reason = match whole(data, &database) {
        Ok(packages) => return Ok(Repair::Whole(packages)),
        Err(error) if is_damage(&error) => error,
        Err(error) => return Err(error.into()),
    };
    let Salvage {
        repositories,
        tokens,
    } = Store::salvage(&database);
    let (mut records, mut left_out) = copies(data)?;
    let mut good = Vec::new();
    for record in records.drain(..) {
        let staging = Staging::new(&data.staging())?;
        match check_image(verifier, &record, &data.image(&record.image), &staging).await? {
            Ok(index) => {
                files::rename_durably(&index, &data.index(&record.image))?;
                good.push(record);
            }
            Err(problem) => left_out.push((record.package.to_string(), problem)),
        }
    }
    leave_out_lonely(&mut good, &mut left_out);

    let new = data.root.join("state.redb.repaired");
    files::remove_if_there(&new)?;
    let store = Store::open(&new)?;
    store.apply(&Changes {
        put: good.iter().collect(),
        remove: Vec::new(),
    })?;
    for repository in &repositories {
        store.put_repository(repository, None)?;
    }
    for token in &tokens {
        store.put_token(token)?;
    }
    drop(store);
    let set_aside = set_aside(&database)?;
    files::rename_durably(&new, &database)?;
    Ok(Repair::Rebuilt(Rebuilt {
        reason,
        packages: good.into_iter().map(|record| record.package).collect(),
        left_out,
        repositories: repositories.len(),
        tokens: tokens.len(),
        set_aside,
    }))
}

/// Whether every row of the database can be read; how many packages it names.
fn whole(data: &DataDirectory, database: &Path) -> Result<usize, StoreError> {
    data.refuse_lost_database()?;
    let store = Store::open(database)?;
    store.repositories()?;
    store.tokens()?;
    store.packages().map(|packages| packages.len())
}

fn is_damage(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Damaged { .. } | StoreError::Missing { .. }
    )
}

/// The records that can be read, and the names of those that can't be.
fn copies(data: &DataDirectory) -> Result<(Vec<PackageRecord>, Vec<LeftOut>), PathError> {
    let (mut records, mut left_out) = (Vec::new(), Vec::new());
    let folder = data.records();
    for entry in std::fs::read_dir(&folder).at("list", &folder)? {
        let path = entry.at("list", &folder)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match DataDirectory::read_copy(&path) {
            Ok(record) if *name == record.package.to_string() => records.push(record),
            Ok(record) => left_out.push((
                name.into_owned(),
                format!("it holds the row of {}", record.package),
            )),
            Err(reason) => left_out.push((name.into_owned(), reason)),
        }
    }
    records.sort_by(|a, b| a.package.cmp(&b.package));
    Ok((records, left_out))
}

/// A package whose view has a layer that is not there can't be shown.
fn leave_out_lonely(good: &mut Vec<PackageRecord>, left_out: &mut Vec<LeftOut>) {
    loop {
        let there: BTreeSet<PackageRef> =
            good.iter().map(|record| record.package.clone()).collect();
        let before = good.len();
        good.retain(|record| {
            let lacks = record.layers.iter().find(|layer| !there.contains(*layer));
            if let Some(layer) = lacks {
                let reason = format!("it needs {layer}, which is left out");
                left_out.push((record.package.to_string(), reason));
            }
            lacks.is_none()
        });
        if good.len() == before {
            return;
        }
    }
}

/// Gives the old database a second name, under which it stays.
fn set_aside(database: &Path) -> Result<Option<PathBuf>, PackagesError> {
    for number in 1.. {
        let to = database.with_extension(format!("redb.damaged-{number}"));
        match std::fs::hard_link(database, &to) {
            Ok(()) => return Ok(Some(to)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(PackagesError::Path(PathError {
                    doing: "keep",
                    path: database.to_owned(),
                    source,
                }));
            }
        }
    }
    Ok(None)
}
