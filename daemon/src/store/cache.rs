//! The cache database: an index of what is kept, and the bytes of small entries.
//!
//! Owns `cache.redb`. Invariants as for the state: one transaction for each change, rows with
//! version and checksum, panics inside redb are errors. An index row holds its own key, so that a
//! damaged page can't give one key another one's row; the bytes of an entry are checked by whoever
//! reads them, against the digest in its index row. Nothing here is worth repairing: who meets
//! damage sets the file aside.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use piston_client::ids::{Digest, PackageRef};
use redb::{Error, ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{Guarded, StoreError, records};

/// Key -> framed index row.
const INDEX: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("index");
/// Key -> bytes of an entry that is no file of its own.
const VALUES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("values");
/// Key -> Unix time of the last use. Without a checksum: a wrong one only ends an entry early.
const USED: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("used");
/// Memory that redb may use for pages.
const PAGE_BYTES: usize = 32 << 20;

/// What the index says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRow {
    /// Its key.
    pub key: [u8; 32],
    /// The package it ends with.
    pub package: Arc<PackageRef>,
    /// sha256 of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub length: u64,
    /// Unix time when it was made.
    pub created: u64,
    /// Unix time of its last use.
    pub used: u64,
    /// Whether its bytes are a file of their own.
    pub is_file: bool,
}

/// One change.
#[derive(Debug)]
pub enum CacheChange<'a> {
    /// Adds or replaces an entry; with its bytes where they are not a file.
    Put(&'a CacheRow, Option<&'a [u8]>),
    /// Removes an entry; one that is not there is fine.
    Remove([u8; 32]),
    /// Notes when an entry was used.
    Used([u8; 32], u64),
}

/// The open database. Calls block on the disk.
#[derive(Debug)]
pub struct CacheStore(Guarded);

impl CacheStore {
    /// Opens the database, or creates an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Guarded::open(path, PAGE_BYTES, create).map(Self)
    }

    /// The same with `faults` between it and its file.
    #[cfg(test)]
    pub(crate) fn open_faulty(
        path: &Path,
        faults: &super::faulty::Faults,
    ) -> Result<Self, StoreError> {
        faults.open(path, PAGE_BYTES, create).map(Self)
    }

    /// Every entry, those used longest ago first, and the keys of damaged rows.
    pub fn rows(&self) -> Result<(Vec<CacheRow>, Vec<[u8; 32]>), StoreError> {
        self.0.read(|txn| {
            let (index, used) = (txn.open_table(INDEX)?, txn.open_table(USED)?);
            let (mut rows, mut damaged) = (Vec::new(), Vec::new());
            let mut packages = Packages::default();
            // Both are sorted by key, so one pass through each is enough.
            let mut uses = used.iter()?.peekable();
            for entry in index.iter()? {
                let (key, value) = entry?;
                let Some(mut row) = decode(key.value(), value.value(), &mut packages) else {
                    damaged.push(*key.value());
                    continue;
                };
                while let Some(use_) = uses.next_if(|use_| {
                    use_.as_ref()
                        .is_ok_and(|(other, _)| other.value() <= key.value())
                }) {
                    let (other, at) = use_?;
                    if other.value() == key.value() {
                        row.used = at.value();
                    }
                }
                rows.push(row);
            }
            rows.sort_by_key(|row| row.used);
            Ok((rows, damaged))
        })
    }

    /// The bytes of an entry that is no file, unchecked.
    pub fn value(&self, key: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(|txn: &ReadTransaction| {
            let values = txn.open_table(VALUES)?;
            Ok(values.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    /// Applies changes, in their order, in one durable transaction.
    pub fn apply(&self, changes: &[CacheChange<'_>]) -> Result<(), StoreError> {
        self.0.write(|txn| {
            let mut index = txn.open_table(INDEX)?;
            let mut values = txn.open_table(VALUES)?;
            let mut used = txn.open_table(USED)?;
            for change in changes {
                match change {
                    CacheChange::Put(row, bytes) => {
                        index.insert(&row.key, encode(row).as_slice())?;
                        match bytes {
                            Some(bytes) => drop(values.insert(&row.key, *bytes)?),
                            None => drop(values.remove(&row.key)?),
                        }
                        used.insert(&row.key, row.used)?;
                    }
                    CacheChange::Remove(key) => {
                        index.remove(key)?;
                        values.remove(key)?;
                        used.remove(key)?;
                    }
                    CacheChange::Used(key, at) => drop(used.insert(key, *at)?),
                }
            }
            Ok(())
        })
    }
}

fn create(txn: &WriteTransaction) -> Result<(), Error> {
    txn.open_table(INDEX)?;
    txn.open_table(VALUES)?;
    txn.open_table(USED)?;
    Ok(())
}

/// Key, digest, length, time, place, name of the package, a NUL, its version.
fn encode(row: &CacheRow) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend(row.key);
    bytes.extend(row.digest.as_bytes());
    bytes.extend(row.length.to_le_bytes());
    bytes.extend(row.created.to_le_bytes());
    bytes.push(u8::from(row.is_file));
    bytes.extend(row.package.language.as_str().as_bytes());
    bytes.push(0);
    bytes.extend(row.package.version.to_string().as_bytes());
    records::frame(&bytes)
}

/// Names of packages as rows hold them: many rows, few packages.
#[derive(Debug, Default)]
struct Packages(HashMap<Vec<u8>, Arc<PackageRef>>);

impl Packages {
    fn named(&mut self, name: &[u8]) -> Option<Arc<PackageRef>> {
        if let Some(package) = self.0.get(name) {
            return Some(Arc::clone(package));
        }
        let (language, version) = std::str::from_utf8(name).ok()?.split_once('\0')?;
        let package = PackageRef::new(language.parse().ok()?, version.parse().ok()?);
        let package = Arc::new(package);
        self.0.insert(name.to_vec(), Arc::clone(&package));
        Some(package)
    }
}

fn decode(key: &[u8; 32], row: &[u8], packages: &mut Packages) -> Option<CacheRow> {
    let rest = records::unframe(row).ok()?;
    let (own_key, rest) = rest.split_first_chunk::<32>()?;
    let (digest, rest) = rest.split_first_chunk::<32>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (created, rest) = rest.split_first_chunk::<8>()?;
    let (place, name) = rest.split_first()?;
    let created = u64::from_le_bytes(*created);
    if own_key != key {
        return None;
    }
    Some(CacheRow {
        key: *key,
        package: packages.named(name)?,
        digest: Digest::from_bytes(*digest),
        length: u64::from_le_bytes(*length),
        created,
        used: created,
        is_file: *place != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u8) -> CacheRow {
        CacheRow {
            key: [number; 32],
            package: Arc::new(PackageRef::new(
                "c++".parse().unwrap(),
                "1.2.3-rc.1".parse().unwrap(),
            )),
            digest: Digest::from_bytes([9; 32]),
            length: 5,
            created: 70,
            used: 70 + u64::from(number),
            is_file: false,
        }
    }

    #[test]
    fn entries_come_back_with_their_last_use_the_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.redb");
        let store = CacheStore::open(&path).unwrap();
        let (one, two) = (row(1), row(2));
        store
            .apply(&[
                CacheChange::Put(&one, Some(b"value")),
                CacheChange::Put(&two, None),
                CacheChange::Used(one.key, 99),
            ])
            .unwrap();
        assert_eq!(store.value(&one.key).unwrap().unwrap(), b"value");
        assert_eq!(store.value(&two.key).unwrap(), None);
        drop(store);
        let store = CacheStore::open(&path).unwrap();
        let used = CacheRow { used: 99, ..one };
        assert_eq!(store.rows().unwrap(), (vec![two.clone(), used], vec![]));
        store.apply(&[CacheChange::Remove(two.key)]).unwrap();
        assert_eq!(store.rows().unwrap().0.len(), 1);
    }

    #[test]
    fn a_row_with_any_bit_flipped_or_under_another_key_is_damaged() {
        let row = row(1);
        let bytes = encode(&row);
        let mut packages = Packages::default();
        let good = decode(&row.key, &bytes, &mut packages).unwrap();
        assert_eq!(good.package, row.package);
        assert_eq!(decode(&[2; 32], &bytes, &mut packages), None);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&row.key, &bytes, &mut packages), None, "bit {bit}");
        }
    }
}
