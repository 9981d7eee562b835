//! The tables of the state database and the statements on them.
//!
//! Keys are text, values are rows as [`super::records`] frames them. Nothing here interprets a
//! value.

use redb::{Error, ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

/// `language-version` -> package row.
const PACKAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("packages");
/// Name -> repository row.
const REPOSITORIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("repositories");
/// Name of a repository -> its index as downloaded, framed.
const INDEXES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("indexes");

/// Id -> token row. Databases of before there were tokens have no such table.
const TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens");

/// A key with its row.
pub(super) type Row = (String, Vec<u8>);

/// Creates every table, so that reading never meets a missing one.
pub(super) fn create(txn: &WriteTransaction) -> Result<(), Error> {
    for table in [PACKAGES, REPOSITORIES, INDEXES] {
        txn.open_table(table)?;
    }
    Ok(())
}

pub(super) fn all_packages(txn: &ReadTransaction) -> Result<Vec<Row>, Error> {
    all(txn, PACKAGES)
}

pub(super) fn all_repositories(txn: &ReadTransaction) -> Result<Vec<Row>, Error> {
    all(txn, REPOSITORIES)
}

pub(super) fn all_tokens(txn: &ReadTransaction) -> Result<Vec<Row>, Error> {
    match all(txn, TOKENS) {
        Err(Error::TableDoesNotExist(_)) => Ok(Vec::new()),
        rows => rows,
    }
}

pub(super) fn put_token(txn: &WriteTransaction, id: &str, row: &[u8]) -> Result<(), Error> {
    txn.open_table(TOKENS)?.insert(id, row)?;
    Ok(())
}

pub(super) fn remove_token(txn: &WriteTransaction, id: &str) -> Result<(), Error> {
    txn.open_table(TOKENS)?.remove(id)?;
    Ok(())
}

fn all(txn: &ReadTransaction, table: TableDefinition<'_, &str, &[u8]>) -> Result<Vec<Row>, Error> {
    let table = txn.open_table(table)?;
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        rows.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(rows)
}

pub(super) fn change_packages(
    txn: &WriteTransaction,
    puts: &[Row],
    removes: &[String],
) -> Result<(), Error> {
    let mut table = txn.open_table(PACKAGES)?;
    for key in removes {
        table.remove(key.as_str())?;
    }
    for (key, row) in puts {
        table.insert(key.as_str(), row.as_slice())?;
    }
    Ok(())
}

pub(super) fn put_repository(
    txn: &WriteTransaction,
    name: &str,
    row: &[u8],
    index: Option<&[u8]>,
) -> Result<(), Error> {
    txn.open_table(REPOSITORIES)?.insert(name, row)?;
    if let Some(index) = index {
        txn.open_table(INDEXES)?.insert(name, index)?;
    }
    Ok(())
}

pub(super) fn remove_repository(txn: &WriteTransaction, name: &str) -> Result<(), Error> {
    txn.open_table(REPOSITORIES)?.remove(name)?;
    txn.open_table(INDEXES)?.remove(name)?;
    Ok(())
}

pub(super) fn index(txn: &ReadTransaction, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let table = txn.open_table(INDEXES)?;
    Ok(table.get(name)?.map(|row| row.value().to_vec()))
}
