//! An index as a file: header, table of tables, checksum; written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::record::Record;
use super::{Facts, Tables};
use crate::image::bytes::Bytes;
use crate::image::format::Codec;
use crate::num::to_u64;

const MAGIC: [u8; 8] = *b"PSTNIDX\0";
const VERSION: u32 = 2;
const TABLES: u16 = 12;
/// Where the bytes that the checksum covers start.
const CHECKED_FROM: usize = 16;
/// Where the first table starts.
const HEADER: usize = 72 + 16 * 12;

/// Why an index file can't be had.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// It can't be read.
    Io(io::Error),
    /// Its bytes are not those of an index.
    Unusable(String),
}

impl From<String> for LoadError {
    fn from(reason: String) -> Self {
        Self::Unusable(reason)
    }
}

/// Writes an index: to a name of its own first, then synced, then renamed.
///
/// A file of the name must not exist.
pub(crate) fn write(path: &Path, tables: &Tables) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let unfinished = unfinished_name(path);
    // A walk that was killed while it wrote may have left one.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_synced(&unfinished, &encode(tables))
        .and_then(|()| fs::rename(&unfinished, path))
        .and_then(|()| sync_directory_of(path));
    if written.is_err() {
        // The first error is what matters; a leftover is swept with the staging directory.
        drop(fs::remove_file(&unfinished));
    }
    written
}

fn unfinished_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Loads an index and checks all of its invariants.
pub(crate) fn load(path: &Path) -> Result<Tables, LoadError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(LoadError::Io)?;
    let tables = decode(&bytes)?;
    tables.check()?;
    Ok(tables)
}

/// The bytes of an index file.
fn encode(tables: &Tables) -> Vec<u8> {
    let mut body = Vec::new();
    let mut places = Vec::with_capacity(usize::from(TABLES));
    put_table(&mut body, &mut places, &tables.nodes);
    put_table(&mut body, &mut places, &tables.owners);
    put_table(&mut body, &mut places, &tables.directories);
    put_table(&mut body, &mut places, &tables.entries);
    put_table(&mut body, &mut places, &tables.files);
    put_table(&mut body, &mut places, &tables.sparse);
    put_table(&mut body, &mut places, &tables.blocks);
    put_table(&mut body, &mut places, &tables.fragments);
    put_table(&mut body, &mut places, &tables.symlinks);
    put_table(&mut body, &mut places, &tables.xattr_nodes);
    put_table(&mut body, &mut places, &tables.xattrs);
    places.push((body.len(), tables.text.len()));
    body.extend_from_slice(&tables.text);

    let mut bytes = encode_header(&tables.facts, &places);
    bytes.append(&mut body);
    let sum = libdeflater::crc32(&bytes[CHECKED_FROM..]);
    bytes[12..CHECKED_FROM].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn put_table<R: Record>(body: &mut Vec<u8>, places: &mut Vec<(usize, usize)>, table: &[R]) {
    let start = body.len();
    body.reserve(table.len() * R::SIZE);
    for record in table {
        record.put(body);
    }
    places.push((start, body.len() - start));
}

/// The header, with zeros where the checksum goes.
fn encode_header(facts: &Facts, places: &[(usize, usize)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&facts.digest);
    out.extend_from_slice(&facts.image_bytes.to_le_bytes());
    out.extend_from_slice(&facts.content_bytes.to_le_bytes());
    out.extend_from_slice(&facts.block_size.to_le_bytes());
    out.extend_from_slice(&facts.codec.id().to_le_bytes());
    out.extend_from_slice(&TABLES.to_le_bytes());
    for (start, length) in places {
        out.extend_from_slice(&to_u64(HEADER + start).to_le_bytes());
        out.extend_from_slice(&to_u64(*length).to_le_bytes());
    }
    out
}

/// The tables of an index file; their contents are not checked against each other.
fn decode(bytes: &[u8]) -> Result<Tables, String> {
    let mut from = Bytes::new(bytes);
    if from.array() != Some(MAGIC) {
        return Err("it is not an index".to_owned());
    }
    let version = from.u32().ok_or_else(cut_short)?;
    if version != VERSION {
        return Err(format!(
            "it has version {version}, this program writes {VERSION}"
        ));
    }
    let sum = from.u32().ok_or_else(cut_short)?;
    if libdeflater::crc32(&bytes[CHECKED_FROM..]) != sum {
        return Err("its checksum is wrong".to_owned());
    }
    let facts = decode_facts(&mut from).ok_or_else(cut_short)??;
    let mut tables = Tables::new(facts);
    decode_tables(&mut tables, bytes, &mut from).ok_or_else(|| "its tables overlap".to_owned())?;
    Ok(tables)
}

fn cut_short() -> String {
    "it is cut short".to_owned()
}

fn decode_facts(from: &mut Bytes<'_>) -> Option<Result<Facts, String>> {
    let digest = from.array()?;
    let (image_bytes, content_bytes) = (from.u64()?, from.u64()?);
    let (block_size, codec, tables) = (from.u32()?, from.u16()?, from.u16()?);
    let Some(codec) = Codec::from_id(codec) else {
        return Some(Err(format!("it names codec {codec}")));
    };
    if tables != TABLES {
        return Some(Err(format!("it has {tables} tables, not {TABLES}")));
    }
    Some(Ok(Facts {
        digest,
        image_bytes,
        content_bytes,
        block_size,
        codec,
    }))
}

/// Reads the tables; none when one does not start where the one before ends.
fn decode_tables(tables: &mut Tables, bytes: &[u8], from: &mut Bytes<'_>) -> Option<()> {
    let mut body = Bytes::new(bytes.get(HEADER..)?);
    let all = to_u64(bytes.len());
    tables.nodes = get_table(from, &mut body, all)?;
    tables.owners = get_table(from, &mut body, all)?;
    tables.directories = get_table(from, &mut body, all)?;
    tables.entries = get_table(from, &mut body, all)?;
    tables.files = get_table(from, &mut body, all)?;
    tables.sparse = get_table(from, &mut body, all)?;
    tables.blocks = get_table(from, &mut body, all)?;
    tables.fragments = get_table(from, &mut body, all)?;
    tables.symlinks = get_table(from, &mut body, all)?;
    tables.xattr_nodes = get_table(from, &mut body, all)?;
    tables.xattrs = get_table(from, &mut body, all)?;
    tables.text = next_table(from, &mut body, all)?.to_vec();
    body.is_empty().then_some(())
}

/// The bytes of the next table, which starts where the one before ended.
fn next_table<'a>(from: &mut Bytes<'_>, body: &mut Bytes<'a>, all: u64) -> Option<&'a [u8]> {
    let (start, length) = (from.u64()?, from.u64()?);
    if start != all - to_u64(body.len()) {
        return None;
    }
    body.take(usize::try_from(length).ok()?)
}

fn get_table<R: Record>(from: &mut Bytes<'_>, body: &mut Bytes<'_>, all: u64) -> Option<Vec<R>> {
    let bytes = next_table(from, body, all)?;
    if !bytes.len().is_multiple_of(R::SIZE) {
        return None;
    }
    let mut records = Vec::with_capacity(bytes.len() / R::SIZE);
    let mut left = Bytes::new(bytes);
    while !left.is_empty() {
        records.push(R::get(&mut left)?);
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_loaded_as_it_was_written() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("index");
        let tables = super::super::check::tests::sound();
        write(&path, &tables).unwrap();
        assert_eq!(load(&path).unwrap(), tables);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_walk_left_does_not_hinder_the_next() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("index");
        fs::write(unfinished_name(&path), b"half an ind").unwrap();
        let tables = super::super::check::tests::sound();
        write(&path, &tables).unwrap();
        assert_eq!(load(&path).unwrap(), tables);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = encode(&super::super::check::tests::sound());
        let at = |at: usize, size: usize| &bytes[at..at + size];
        assert_eq!(at(0, 8), b"PSTNIDX\0");
        assert_eq!(at(8, 4), 2_u32.to_le_bytes());
        assert_eq!(at(16, 32), [7; 32]);
        assert_eq!(at(48, 8), 10_000_u64.to_le_bytes());
        assert_eq!(at(56, 8), 5000_u64.to_le_bytes());
        assert_eq!(at(64, 4), 4096_u32.to_le_bytes());
        assert_eq!(at(68, 2), 6_u16.to_le_bytes());
        assert_eq!(at(72, 8), 264_u64.to_le_bytes());
        assert_eq!(at(80, 8), (4 * 18_u64).to_le_bytes());
        assert!(bytes.ends_with(b"abcax"));
    }

    #[test]
    fn an_index_of_another_version_is_named_as_such() {
        let mut bytes = encode(&super::super::check::tests::sound());
        bytes[8] = 1;
        let fault = decode(&bytes).unwrap_err();
        assert!(fault.contains("version 1"), "{fault}");
    }
}
