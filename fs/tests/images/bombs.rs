//! Images that are small and claim, or inflate to, a lot: time and memory stay bounded.
//!
//! Built byte by byte, because no tool writes them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use piston_fs::image::ImageNode;
use piston_fs::node::Kind;

use crate::support::{Scratch, What, image_tree, opened, verified};

/// An image in the making: its tables, not compressed yet.
#[derive(Default)]
struct Raw {
    inodes: Vec<u8>,
    listings: Vec<u8>,
    count: u32,
}

fn put(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn number<N: TryFrom<usize>>(value: usize) -> N {
    N::try_from(value).ok().expect("it fits")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let level = libdeflater::CompressionLvl::default();
    let mut compressor = libdeflater::Compressor::new(level);
    let mut out = vec![0; compressor.zlib_compress_bound(bytes.len())];
    let size = compressor.zlib_compress(bytes, &mut out).unwrap();
    out.truncate(size);
    out
}

/// Metadata blocks of a table, and where each starts.
fn blocks(table: &[u8], size: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut starts) = (Vec::new(), Vec::new());
    for block in table.chunks(size) {
        let packed = zlib(block);
        starts.push(out.len());
        out.extend_from_slice(&number::<u16>(packed.len()).to_le_bytes());
        out.extend_from_slice(&packed);
    }
    (out, starts)
}

impl Raw {
    /// Starts an inode of a kind with the next number; the answer is where it is.
    fn inode(&mut self, kind: u16) -> usize {
        let at = self.inodes.len();
        self.count += 1;
        self.inodes.extend_from_slice(&kind.to_le_bytes());
        self.inodes.extend_from_slice(&[0xed, 1, 0, 0, 0, 0]);
        put(&mut self.inodes, &[0, self.count]);
        at
    }

    /// A large directory whose listing starts the directory table.
    fn directory(&mut self, size: usize) -> usize {
        let at = self.inode(8);
        put(&mut self.inodes, &[2, number::<u32>(size) + 3, 0, 0, 0]);
        put(&mut self.inodes, &[u32::MAX]);
        at
    }

    /// The image; the root's inode is at `root`.
    fn image(&self, root: usize, block: usize) -> Vec<u8> {
        let (inodes, starts) = blocks(&self.inodes, block);
        let (listings, _) = blocks(&self.listings, block);
        let (ids, _) = blocks(&[0; 4], 8192);
        let inode_table = 96;
        let listing_table = inode_table + inodes.len();
        let id_blocks = listing_table + listings.len();
        let id_table = id_blocks + ids.len();
        let used = id_table + 8;

        let mut out = b"hsqs".to_vec();
        put(&mut out, &[self.count, 0, 131_072, 0]);
        for half in [1_u16, 17, 0, 1, 4, 0] {
            out.extend_from_slice(&half.to_le_bytes());
        }
        let unit = block.min(8192);
        let root = (starts[root / unit] << 16) | (root % unit);
        let none = usize::MAX;
        for long in [
            root,
            used,
            id_table,
            none,
            inode_table,
            listing_table,
            none,
            none,
        ] {
            out.extend_from_slice(&number::<u64>(long).to_le_bytes());
        }
        for part in [&inodes, &listings, &ids] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&number::<u64>(id_blocks).to_le_bytes());
        out
    }
}

/// A directory with one file of that size and those words of blocks.
fn one_file(size: usize, words: &[u32]) -> Vec<u8> {
    one_file_in_blocks(size, words, 8192)
}

/// The same, in metadata blocks that hold so many bytes.
fn one_file_in_blocks(size: usize, words: &[u32], block: usize) -> Vec<u8> {
    let mut raw = Raw::default();
    raw.inode(9);
    for long in [96, size, 0] {
        raw.inodes
            .extend_from_slice(&number::<u64>(long).to_le_bytes());
    }
    put(&mut raw.inodes, &[1, u32::MAX, 0, u32::MAX]);
    put(&mut raw.inodes, words);
    put(&mut raw.listings, &[0, 0, 1]);
    raw.listings
        .extend_from_slice(&[0, 0, 0, 0, 2, 0, 0, 0, b'f']);
    let root = raw.directory(raw.listings.len());
    raw.image(root, block)
}

/// The kernel reads on in the next block, wherever the one before ends.
#[test]
fn metadata_blocks_need_not_be_full() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for block in [1, 7, 40, 100, 8191, 8192] {
        fs::write(&path, one_file_in_blocks(300_000, &[0, 0, 0], block)).unwrap();
        let seen = image_tree(&opened(&path)).unwrap();
        assert_eq!(seen.len(), 2, "{block}");
        assert_eq!(seen[&b"f"[..]].what, What::File(vec![0; 300_000]));
    }
}

/// A file that is nothing but holes, with as many as the budget for metadata lets through.
fn holes() -> Vec<u8> {
    let words = 15_900_000;
    one_file(words * 131_072, &vec![0; words])
}

/// As many pipes in one directory as the bounds let through.
fn pipes() -> Vec<u8> {
    let mut raw = Raw::default();
    let count = (1 << 20) - 1;
    let places: Vec<_> = (0..count)
        .map(|_| {
            let at = raw.inode(6);
            put(&mut raw.inodes, &[1]);
            at
        })
        .collect();
    // Where blocks start is known once they are compressed; listings do not change that.
    let (_, starts) = blocks(&raw.inodes, 8192);
    for (index, place) in places.iter().enumerate() {
        put(
            &mut raw.listings,
            &[0, number(starts[place / 8192]), number(index + 1)],
        );
        for half in [number(place % 8192), 0, 6_u16, 5] {
            raw.listings.extend_from_slice(&half.to_le_bytes());
        }
        raw.listings
            .extend_from_slice(format!("{index:06x}").as_bytes());
    }
    let root = raw.directory(raw.listings.len());
    raw.image(root, 8192)
}

/// Thousands of directories that all claim one long listing.
fn shared_listing() -> Vec<u8> {
    let mut raw = Raw::default();
    let pipe = raw.inode(6);
    put(&mut raw.inodes, &[1]);
    put(&mut raw.listings, &[255, 0, 1]);
    for index in 0..256 {
        for half in [number(pipe), 0, 6_u16, 1] {
            raw.listings.extend_from_slice(&half.to_le_bytes());
        }
        raw.listings
            .extend_from_slice(format!("{index:02x}").as_bytes());
    }
    let shared = raw.listings.len();
    let directories: Vec<_> = (0..6000).map(|_| raw.directory(shared)).collect();
    let (_, starts) = blocks(&raw.inodes, 8192);
    let (_, listing_starts) = blocks(&raw.listings, 8192);
    assert_eq!(listing_starts, [0]);
    let root_listing = raw.listings.len();
    for (index, place) in directories.iter().enumerate() {
        put(
            &mut raw.listings,
            &[0, number(starts[place / 8192]), number(index + 2)],
        );
        for half in [number(place % 8192), 0, 1_u16, 3] {
            raw.listings.extend_from_slice(&half.to_le_bytes());
        }
        raw.listings
            .extend_from_slice(format!("{index:04x}").as_bytes());
    }
    let root = raw.directory(raw.listings.len() - root_listing);
    let offset = raw.inodes.len() - 6;
    raw.inodes[offset..offset + 2].copy_from_slice(&number::<u16>(root_listing).to_le_bytes());
    raw.image(root, 8192)
}

const MEASURED: &str = "PISTON_TEST_MEASURED_IMAGE";

/// Verifies the image that the test below names, in a process of its own, and prints what it took:
/// its peak of memory in KiB and its processor time in ticks of 10 ms.
#[test]
fn an_image_is_measured_where_another_test_asks_for_it() {
    let Some(image) = std::env::var_os(MEASURED) else {
        return;
    };
    let outcome = match verified(Path::new(&image)) {
        Ok((found, _)) => format!("{} nodes", found.nodes),
        Err(refused) => refused.to_string(),
    };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:"));
    let peak = peak.unwrap().split_whitespace().nth(1).unwrap();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // After the name in parentheses, user and system time are fields 12 and 13.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    println!("measured={peak}={ticks}={outcome}");
}

/// What verifying an image takes in a process of its own, and its outcome.
fn measure(image: &Path) -> (u64, Duration, String) {
    let test = "bombs::an_image_is_measured_where_another_test_asks_for_it";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MEASURED, image)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("measured="));
    let parts: Vec<_> = line.expect(&text).split('=').collect();
    let (peak, ticks) = (parts[1].parse().unwrap(), parts[2].parse::<u64>().unwrap());
    (peak, Duration::from_millis(ticks * 10), parts[3].to_owned())
}

#[test]
fn the_worst_images_take_less_than_256_mib_and_a_minute_of_processor_time() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    for (bytes, expected) in [
        (holes(), "2 nodes"),
        (pipes(), "1048576 nodes"),
        (shared_listing(), "shared with another directory"),
    ] {
        fs::write(&image, &bytes).unwrap();
        let (peak, time, outcome) = measure(&image);
        println!("{} bytes: {outcome}, {peak} KiB, {time:?}", bytes.len());
        assert!(outcome.contains(expected), "{outcome}");
        assert!(peak < 256 << 10, "{peak} KiB for {outcome}");
        assert!(time < Duration::from_mins(1), "{time:?} for {outcome}");
    }
}

#[test]
fn a_metadata_block_that_inflates_to_more_than_8_kib_is_refused() {
    let mut raw = Raw::default();
    let root = raw.directory(0);
    raw.inodes.resize(4 << 20, 0);
    let scratch = Scratch::new();
    let image = scratch.path("image");
    fs::write(&image, raw.image(root, 4 << 20)).unwrap();
    let refused = verified(&image).unwrap_err().to_string();
    assert!(refused.contains("inode table"), "{refused}");
    assert!(refused.contains("zlib"), "{refused}");
}

#[test]
fn bytes_beyond_4_gib_of_a_file_are_found() {
    // All blocks are holes but the last, which is stored as it is where the tables start.
    let mut words = vec![0; 33_000];
    words.push((1 << 24) + 50);
    let size = 33_000 * 131_072 + 50;
    let bytes = one_file(size, &words);
    let scratch = Scratch::new();
    let path = scratch.path("image");
    fs::write(&path, &bytes).unwrap();

    let image = opened(&path);
    let file = image.entries(ImageNode(0)).next().unwrap().1;
    let size = number(size);
    assert_eq!(image.attr(file).kind, Kind::File { size });
    assert_eq!(image.content_bytes(), size);
    let mut block = Vec::new();
    let hole = image.extent(file, 4_300_000_000).unwrap();
    image.read_block(&hole.block, &mut block).unwrap();
    assert_eq!(block, vec![0; 131_072]);
    let last = image.extent(file, size - 1).unwrap();
    image.read_block(&last.block, &mut block).unwrap();
    assert_eq!((last.len, &block[..]), (50, &bytes[96..146]));
}
