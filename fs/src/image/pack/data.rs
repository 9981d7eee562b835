//! The files' bytes: blocks, holes, fragments, and equal files stored once.
//!
//! Invariant: blocks are written in the order in which they are read, whatever thread compresses
//! them; a bounded number of them is in memory. Small files are told equal by sha256 once read;
//! large ones, where there are several of one length, are read twice.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::thread;

use sha2::{Digest as _, Sha256};

use super::compress::{Packed, Pool};
use super::tree::{Content, Node};
use super::{BLOCK_SIZE, Compressor, Output, PackError, Source, count};
use crate::image::format::data_word_of;
use crate::num::{to_u64, to_usize};

/// sha256 of a file's bytes.
type Hash = [u8; 32];

/// Where every file's bytes are.
#[derive(Debug, Default)]
pub(super) struct Stored {
    files: HashMap<usize, StoredFile>,
    /// Files with the bytes of another one.
    same: HashMap<usize, usize>,
    /// Start and word of each fragment.
    fragments: Vec<(u64, u32)>,
}

/// Where a file's bytes are.
#[derive(Debug, Default)]
pub(super) struct StoredFile {
    pub(super) size: u64,
    pub(super) start: u64,
    pub(super) words: Vec<u32>,
    /// Bytes in holes.
    pub(super) sparse: u64,
    /// Number of the fragment, and where in it the file starts.
    pub(super) fragment: Option<(u32, u32)>,
}

impl Stored {
    /// Where the bytes of the file at `node` are.
    pub(super) fn file(&self, node: usize) -> &StoredFile {
        let node = self.same.get(&node).copied().unwrap_or(node);
        self.files
            .get(&node)
            .expect("Invariant: all files are stored before inodes are written")
    }

    /// The fragment table's bytes.
    pub(super) fn fragment_table(&self) -> Result<Vec<u8>, PackError> {
        count(self.fragments.len(), "fragments")?;
        let mut table = Vec::with_capacity(self.fragments.len() * 16);
        for (start, word) in &self.fragments {
            table.extend_from_slice(&start.to_le_bytes());
            table.extend_from_slice(&word.to_le_bytes());
            table.extend_from_slice(&[0; 4]);
        }
        Ok(table)
    }
}

/// Writes the bytes of all files of a tree.
pub(super) fn write<W: Write + Seek>(
    nodes: &[Node],
    out: &mut Output<W>,
    compressor: Compressor,
) -> Result<Stored, PackError> {
    let (mut pool, queue) = Pool::new(compressor)?;
    thread::scope(|scope| {
        pool.start(scope, &queue, compressor)?;
        let mut writer = DataWriter {
            out,
            waiting_at_most: pool.threads * 4,
            pool,
            waiting: VecDeque::new(),
            fragment: Vec::with_capacity(to_usize(BLOCK_SIZE)),
            fragments_begun: 0,
            known: HashMap::new(),
            stored: Stored::default(),
        };
        let files = files(nodes)?;
        for (node, source, twin) in &files {
            writer.file(*node, source, *twin)?;
        }
        writer.finish()
    })
}

/// The files of a tree in the order of their paths; with each, whether it is large and another
/// has its length.
fn files(nodes: &[Node]) -> Result<Vec<(usize, &Source, bool)>, PackError> {
    let mut found = Vec::new();
    let mut lengths: HashMap<u64, u32> = HashMap::new();
    let mut seen = vec![false; nodes.len()];
    let mut pending = vec![0];
    while let Some(node) = pending.pop() {
        if std::mem::replace(&mut seen[node], true) {
            continue;
        }
        match &nodes[node].content {
            Content::Directory(entries) => pending.extend(entries.values().rev()),
            Content::Symlink(_) | Content::Special(_) => {}
            Content::File(source) => {
                let length = source.length()?;
                *lengths.entry(length).or_default() += 1;
                found.push((node, source, length));
            }
        }
    }
    let twin = |length| length >= u64::from(BLOCK_SIZE) && lengths[&length] > 1;
    Ok(found
        .into_iter()
        .map(|(node, source, length)| (node, source, twin(length)))
        .collect())
}

impl Source {
    fn length(&self) -> Result<u64, PackError> {
        match self {
            Self::Bytes(bytes) => Ok(to_u64(bytes.len())),
            Self::Image(file) => Ok(file.length()),
            Self::Path(path) => match path.metadata() {
                Ok(meta) if meta.is_file() => Ok(meta.len()),
                // Opening a pipe would wait for somebody to write to it.
                Ok(_) => Err(PackError::NotAFile { path: path.clone() }),
                Err(source) => Err(io_error(path, source)),
            },
        }
    }

    fn open(&self) -> Result<Box<dyn Read + '_>, PackError> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(bytes.as_slice())),
            Self::Image(file) => Ok(Box::new(file.open())),
            Self::Path(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(file)),
                Err(source) => Err(io_error(path, source)),
            },
        }
    }

    /// What to call it in an error.
    fn path(&self) -> &Path {
        match self {
            Self::Bytes(_) => Path::new("bytes in memory"),
            Self::Image(file) => file.path(),
            Self::Path(path) => path,
        }
    }

    fn hash(&self) -> Result<Hash, PackError> {
        let mut reader = self.open()?;
        let mut hasher = Sha256::new();
        loop {
            let block = read_block(&mut reader).map_err(|error| io_error(self.path(), error))?;
            if block.is_empty() {
                return Ok(hasher.finalize().into());
            }
            hasher.update(&block);
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> PackError {
    PackError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The next block of a file; shorter than a full one only at the file's end.
fn read_block(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    reader.take(u64::from(BLOCK_SIZE)).read_to_end(&mut block)?;
    Ok(block)
}

/// A block on its way: of which file, and where its compressed form will come from.
enum Waiting {
    /// Nothing is stored of a block of zeros.
    Hole {
        file: usize,
    },
    Block {
        file: usize,
        packed: Receiver<Packed>,
    },
    Fragment {
        packed: Receiver<Packed>,
    },
}

struct DataWriter<'a, W: Write + Seek> {
    out: &'a mut Output<W>,
    pool: Pool,
    waiting: VecDeque<Waiting>,
    waiting_at_most: usize,
    /// Bytes of the fragment in the making.
    fragment: Vec<u8>,
    fragments_begun: u32,
    /// Files by their bytes.
    known: HashMap<Hash, usize>,
    stored: Stored,
}

impl<W: Write + Seek> DataWriter<'_, W> {
    fn file(&mut self, node: usize, source: &Source, twin: bool) -> Result<(), PackError> {
        let expected = if twin { Some(source.hash()?) } else { None };
        if let Some(hash) = expected
            && self.is_known(node, hash)
        {
            return Ok(());
        }
        let mut reader = source.open()?;
        let read = |reader: &mut dyn Read| {
            read_block(reader).map_err(|error| io_error(source.path(), error))
        };
        self.stored.files.insert(node, StoredFile::default());
        let mut hasher = expected.map(|_| Sha256::new());
        let mut block = read(&mut reader)?;
        if block.len() < to_usize(BLOCK_SIZE) && expected.is_none() {
            return self.small_file(node, &block);
        }
        while !block.is_empty() {
            if let Some(hasher) = &mut hasher {
                hasher.update(&block);
            }
            self.block(node, block)?;
            block = read(&mut reader)?;
        }
        let hash = hasher.map(|hasher| hasher.finalize().into());
        if hash != expected {
            let path = source.path().to_owned();
            return Err(PackError::Changed { path });
        }
        Ok(())
    }

    /// Whether the bytes are stored already; if not, they are to be as those of `node`.
    fn is_known(&mut self, node: usize, hash: Hash) -> bool {
        let first = *self.known.entry(hash).or_insert(node);
        if first != node {
            self.stored.same.insert(node, first);
        }
        first != node
    }

    /// A file of less than a block goes into a fragment.
    fn small_file(&mut self, node: usize, bytes: &[u8]) -> Result<(), PackError> {
        if bytes.is_empty() || self.is_known(node, Sha256::digest(bytes).into()) {
            return Ok(());
        }
        if self.fragment.len() + bytes.len() > to_usize(BLOCK_SIZE) {
            self.flush_fragment()?;
        }
        let skip = count(self.fragment.len(), "bytes in a fragment")?;
        self.fragment.extend_from_slice(bytes);
        if let Some(file) = self.stored.files.get_mut(&node) {
            file.size = to_u64(bytes.len());
            file.fragment = Some((self.fragments_begun, skip));
        }
        Ok(())
    }

    fn flush_fragment(&mut self) -> Result<(), PackError> {
        let packed = self.pool.submit(std::mem::take(&mut self.fragment));
        self.fragments_begun += 1;
        self.wait_for(Waiting::Fragment { packed })
    }

    fn block(&mut self, file: usize, block: Vec<u8>) -> Result<(), PackError> {
        let length = to_u64(block.len());
        let hole = block.iter().all(|byte| *byte == 0);
        if let Some(stored) = self.stored.files.get_mut(&file) {
            stored.size += length;
            stored.sparse += if hole { length } else { 0 };
        }
        if hole {
            return self.wait_for(Waiting::Hole { file });
        }
        let packed = self.pool.submit(block);
        self.wait_for(Waiting::Block { file, packed })
    }

    /// Queues a block, and writes the oldest ones when there are too many.
    fn wait_for(&mut self, block: Waiting) -> Result<(), PackError> {
        self.waiting.push_back(block);
        while self.waiting.len() > self.waiting_at_most {
            self.write_oldest()?;
        }
        Ok(())
    }

    fn write_oldest(&mut self) -> Result<(), PackError> {
        match self.waiting.pop_front() {
            None => {}
            Some(Waiting::Hole { file }) => self.add_word(file, self.out.position, 0),
            Some(Waiting::Block { file, packed }) => {
                let (start, word) = self.write_packed(&packed)?;
                self.add_word(file, start, word);
            }
            Some(Waiting::Fragment { packed }) => {
                let fragment = self.write_packed(&packed)?;
                self.stored.fragments.push(fragment);
            }
        }
        Ok(())
    }

    /// Writes a compressed block; the answer is where, and its word.
    fn write_packed(&mut self, packed: &Receiver<Packed>) -> Result<(u64, u32), PackError> {
        let lost = |_| PackError::Write(io::Error::other("a compressing thread ended early"));
        let packed = packed.recv().map_err(lost)?;
        let start = self.out.position;
        self.out.write(&packed.bytes)?;
        let size = count(packed.bytes.len(), "bytes in a block")?;
        Ok((start, data_word_of(size, packed.compressed)))
    }

    fn add_word(&mut self, file: usize, start: u64, word: u32) {
        if let Some(stored) = self.stored.files.get_mut(&file) {
            if stored.words.is_empty() {
                stored.start = start;
            }
            stored.words.push(word);
        }
    }

    fn finish(mut self) -> Result<Stored, PackError> {
        if !self.fragment.is_empty() {
            self.flush_fragment()?;
        }
        while !self.waiting.is_empty() {
            self.write_oldest()?;
        }
        Ok(self.stored)
    }
}
