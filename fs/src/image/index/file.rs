//! An index as a file: header, table of tables, checksum; written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
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
/// Records that are read at a time.
const PIECE_RECORDS: usize = 2048;

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
///
/// A piece at a time: what is read and thrown away again would stay with the allocator, and the
/// tables are to be all that an index costs.
pub(crate) fn load(path: &Path) -> Result<Tables, LoadError> {
    let file = File::open(path).map_err(LoadError::Io)?;
    let length = file.metadata().map_err(LoadError::Io)?.len();
    let tables = decode(file, length)?;
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

/// The tables of an index file of some length; their contents are not checked against each other.
fn decode(mut file: impl Read, length: u64) -> Result<Tables, LoadError> {
    let mut header = [0; HEADER];
    let Some(body) = length.checked_sub(to_u64(HEADER)) else {
        return Err(cut_short().into());
    };
    file.read_exact(&mut header).map_err(LoadError::Io)?;
    let mut from = Bytes::new(&header);
    if from.array() != Some(MAGIC) {
        return Err("it is not an index".to_owned().into());
    }
    let version = from.u32().ok_or_else(cut_short)?;
    if version != VERSION {
        return Err(format!("it has version {version}, this program writes {VERSION}").into());
    }
    let sum = from.u32().ok_or_else(cut_short)?;
    let facts = decode_facts(&mut from).ok_or_else(cut_short)??;
    let mut tables = Tables::new(facts);
    let mut body = Body::new(file, from, body);
    body.sum.update(&header[CHECKED_FROM..]);
    decode_tables(&mut tables, &mut body)?;
    if body.left > 0 {
        return Err(overlap().into());
    }
    if body.sum.sum() != sum {
        return Err("its checksum is wrong".to_owned().into());
    }
    Ok(tables)
}

fn overlap() -> String {
    "its tables overlap".to_owned()
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

/// Reads the tables, in the order in which they are in the file.
fn decode_tables<F: Read>(tables: &mut Tables, body: &mut Body<'_, F>) -> Result<(), LoadError> {
    tables.nodes = body.table()?;
    tables.owners = body.table()?;
    tables.directories = body.table()?;
    tables.entries = body.table()?;
    tables.files = body.table()?;
    tables.sparse = body.table()?;
    tables.blocks = body.table()?;
    tables.fragments = body.table()?;
    tables.symlinks = body.table()?;
    tables.xattr_nodes = body.table()?;
    tables.xattrs = body.table()?;
    tables.text = body.bytes()?;
    Ok(())
}

/// What comes after the header.
struct Body<'h, F> {
    file: F,
    /// Where the header says that the next tables are.
    places: Bytes<'h>,
    /// Bytes after the header.
    length: u64,
    /// Of those, the ones that were not read yet.
    left: u64,
    /// Of what was read.
    sum: libdeflater::Crc,
    piece: Vec<u8>,
}

impl<'h, F: Read> Body<'h, F> {
    fn new(file: F, places: Bytes<'h>, length: u64) -> Self {
        Self {
            file,
            places,
            length,
            left: length,
            sum: libdeflater::Crc::new(),
            piece: Vec::new(),
        }
    }

    /// Bytes of the next table, which starts where the one before ended.
    fn next(&mut self) -> Result<usize, LoadError> {
        let mut place = || self.places.u64().ok_or_else(cut_short);
        let (start, length) = (place()?, place()?);
        let here = to_u64(HEADER) + self.length - self.left;
        let left = self.left.checked_sub(length).ok_or_else(overlap)?;
        if start != here {
            return Err(overlap().into());
        }
        self.left = left;
        usize::try_from(length).map_err(|_| overlap().into())
    }

    fn table<R: Record>(&mut self) -> Result<Vec<R>, LoadError> {
        let mut length = self.next()?;
        if !length.is_multiple_of(R::SIZE) {
            return Err(overlap().into());
        }
        let mut records = Vec::with_capacity(length / R::SIZE);
        while length > 0 {
            self.piece.resize(length.min(PIECE_RECORDS * R::SIZE), 0);
            self.file
                .read_exact(&mut self.piece)
                .map_err(LoadError::Io)?;
            self.sum.update(&self.piece);
            length -= self.piece.len();
            let mut piece = Bytes::new(&self.piece);
            while let Some(record) = R::get(&mut piece) {
                records.push(record);
            }
        }
        Ok(records)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, LoadError> {
        let mut bytes = vec![0; self.next()?];
        self.file.read_exact(&mut bytes).map_err(LoadError::Io)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }
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
        let fault = decode(&bytes[..], to_u64(bytes.len())).unwrap_err();
        assert!(format!("{fault:?}").contains("version 1"), "{fault:?}");
    }
}
