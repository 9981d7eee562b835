//! Images and indexes that are cut, flipped or overwritten: refused, or shown as something that
//! is a sound tree; never a panic, and never without end.

use std::fs;
use std::path::Path;

use piston_fs::image::{Image, ImageError, ImageNode};
use piston_fs::node::Kind;

use crate::corpus::noise;
use crate::support::{Scratch, image_tree, opened, verified};

/// A small tree that has every kind of inode but devices.
fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("directory/below")).unwrap();
    for number in 0..12 {
        fs::write(root.join(format!("directory/{number}")), noise(number, 50)).unwrap();
    }
    fs::write(root.join("large"), noise(7, 30_000)).unwrap();
    fs::write(root.join("text"), b"text ".repeat(5000)).unwrap();
    fs::write(root.join("zeros"), vec![0; 40_000]).unwrap();
    fs::hard_link(root.join("text"), root.join("same")).unwrap();
    std::os::unix::fs::symlink("text", root.join("link")).unwrap();
}

fn small_image(scratch: &Scratch, options: &[&str]) -> Vec<u8> {
    let tree = scratch.path("tree");
    if !tree.exists() {
        fs::create_dir(&tree).unwrap();
        make_tree(&tree);
    }
    let mut all = vec!["-b", "8192", "-nopad"];
    all.extend(options);
    fs::read(scratch.mksquashfs(&tree, "sound", &all)).unwrap()
}

/// Verifies bytes as an image and, when they are accepted, reads everything.
fn exercise(scratch: &Scratch, bytes: &[u8]) -> bool {
    let image = scratch.path("damaged");
    fs::write(&image, bytes).unwrap();
    match verified(&image) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
        Ok((_, index)) => {
            let image = Image::open(&image, &index).unwrap();
            match image_tree(&image) {
                Ok(_) | Err(ImageError::Block { .. }) => true,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    let word = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    usize::try_from(word).unwrap()
}

#[test]
fn an_image_that_is_cut_short_is_refused_at_every_length() {
    let scratch = Scratch::new();
    let sound = small_image(&scratch, &["-comp", "zstd"]);
    assert!(exercise(&scratch, &sound));
    let used = word(&sound, 40);
    let tables = word(&sound, 64);
    let lengths = (0..200)
        .chain((200..tables).step_by(997))
        .chain(tables..used);
    for length in lengths {
        assert!(!exercise(&scratch, &sound[..length]), "{length} bytes");
    }
}

#[test]
fn every_byte_of_the_superblock_may_be_anything() {
    let scratch = Scratch::new();
    let sound = small_image(&scratch, &["-comp", "gzip"]);
    for at in 0..96 {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff, sound[at] ^ 1, !sound[at]] {
            let mut bytes = sound.clone();
            bytes[at] = value;
            exercise(&scratch, &bytes);
        }
    }
}

/// Overwrites random stretches of the metadata.
fn overwrite_metadata(options: &[&str], cases: u64) {
    let scratch = Scratch::new();
    let sound = small_image(&scratch, options);
    let tables = word(&sound, 64);
    let mut accepted = 0;
    for case in 0..cases {
        let mut bytes = sound.clone();
        let dice = noise(case + 1, 64);
        for change in dice.chunks_exact(16).take(usize::from(dice[0] % 4) + 1) {
            let at = tables + word(change, 0) % (bytes.len() - tables);
            let length = usize::from(change[8] % 4) + 1;
            let end = (at + length).min(bytes.len());
            let values: &[u8] = match change[9] % 3 {
                0 => &change[10..],
                1 => &[0xff; 6],
                _ => &[0; 6],
            };
            bytes[at..end].copy_from_slice(&values[..end - at]);
        }
        accepted += u32::from(exercise(&scratch, &bytes));
    }
    // Times, modes and the like may be anything; most of the rest is checked.
    assert!(u64::from(accepted) < cases, "{accepted} of {cases}");
}

#[test]
fn overwritten_plain_metadata_is_refused_or_a_sound_tree() {
    overwrite_metadata(&["-comp", "zstd", "-noI", "-noId", "-noX"], 4000);
}

#[test]
fn overwritten_metadata_of_an_image_without_fragments_is_refused_or_a_sound_tree() {
    overwrite_metadata(&["-comp", "gzip", "-noI", "-no-fragments"], 2000);
}

#[test]
fn overwritten_compressed_metadata_is_refused_or_a_sound_tree() {
    overwrite_metadata(&["-comp", "zstd"], 2000);
    for compressor in ["xz", "lz4", "lzo"] {
        overwrite_metadata(&["-comp", compressor], 500);
    }
}

#[test]
fn a_bit_of_every_byte_of_plain_metadata_may_flip() {
    let scratch = Scratch::new();
    let sound = small_image(&scratch, &["-comp", "zstd", "-noI", "-noId"]);
    for at in word(&sound, 64)..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        exercise(&scratch, &bytes);
    }
}

#[test]
fn a_data_block_damaged_after_verifying_is_an_error_of_that_block_alone() {
    for compressor in ["zstd", "gzip", "xz", "lz4", "lzo"] {
        let scratch = Scratch::new();
        let mut bytes = small_image(&scratch, &["-comp", compressor, "-no-fragments"]);
        let path = scratch.path("sound");
        let (_, index) = verified(&path).unwrap();
        let image = Image::open(&path, &index).unwrap();
        let of = |wanted: &[u8]| {
            let mut entries = image.entries(ImageNode(0));
            entries.find(|(name, _)| *name == wanted).unwrap().1
        };
        let (text, large) = (of(b"text"), of(b"large"));
        let block = image.extent(text, 0).unwrap().block;
        let start = usize::try_from(block.start).unwrap();
        bytes[start..start + 8].fill(0xff);
        fs::write(&path, &bytes).unwrap();

        let mut out = Vec::new();
        let error = image.read_block(&block, &mut out).unwrap_err();
        assert!(
            matches!(&error, ImageError::Block { start, .. } if *start == block.start),
            "{compressor}: {error}"
        );
        let sound = image.extent(large, 0).unwrap().block;
        image.read_block(&sound, &mut out).unwrap();
        assert_eq!(out, noise(7, 30_000)[..8192]);
    }
}

#[test]
fn a_block_of_the_wrong_length_is_an_error_and_never_shifts_bytes() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), b"five ".repeat(1000)).unwrap();
    let options = [
        "-b",
        "4096",
        "-no-fragments",
        "-noI",
        "-all-time",
        "287454020",
    ];
    let path = scratch.mksquashfs(&tree, "image", &options);
    let mut bytes = fs::read(&path).unwrap();
    // The file's inode stands first: its time, four words, and its size.
    let time = 287_454_020_u32.to_le_bytes();
    let tables = word(&bytes, 64);
    let at = tables
        + bytes[tables..]
            .windows(4)
            .position(|four| four == time)
            .unwrap();
    for size in [4999_u32, 5001] {
        bytes[at + 20..at + 24].copy_from_slice(&size.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let image = opened(&path);
        let file = image.entries(ImageNode(0)).next().unwrap().1;
        assert_eq!(image.attr(file).kind, Kind::File { size: size.into() });
        let mut out = Vec::new();
        let last = image.extent(file, 4100).unwrap().block;
        let error = image.read_block(&last, &mut out);
        assert!(matches!(error, Err(ImageError::Block { .. })), "{size}");
    }
}

#[test]
fn an_image_of_another_length_is_not_opened() {
    let scratch = Scratch::new();
    small_image(&scratch, &["-comp", "zstd"]);
    let path = scratch.path("sound");
    let (_, index) = verified(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.push(0);
    fs::write(&path, &bytes).unwrap();
    let error = Image::open(&path, &index);
    assert!(matches!(error, Err(ImageError::Index { .. })));
}

#[test]
fn an_index_is_refused_when_any_byte_of_it_is_flipped() {
    let scratch = Scratch::new();
    small_image(&scratch, &["-comp", "zstd"]);
    let path = scratch.path("sound");
    let (_, index) = verified(&path).unwrap();
    let sound = fs::read(&index).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&index, &bytes).unwrap();
        let error = Image::open(&path, &index);
        assert!(matches!(error, Err(ImageError::Index { .. })), "byte {at}");
    }
    for length in 0..sound.len() {
        fs::write(&index, &sound[..length]).unwrap();
        assert!(Image::open(&path, &index).is_err(), "{length} bytes");
    }
}

#[test]
fn an_index_with_a_right_checksum_over_nonsense_does_no_harm() {
    let scratch = Scratch::new();
    small_image(&scratch, &["-comp", "zstd"]);
    let path = scratch.path("sound");
    let (_, index) = verified(&path).unwrap();
    let sound = fs::read(&index).unwrap();
    for case in 0..1500_u64 {
        let mut bytes = sound.clone();
        let dice = noise(case + 1, 16);
        let at = 16 + word(&dice, 0) % (bytes.len() - 16);
        bytes[at] = dice[8];
        if case % 2 == 0 && at + 4 < bytes.len() {
            bytes[at..at + 4].copy_from_slice(&dice[9..13]);
        }
        let sum = libdeflater::crc32(&bytes[16..]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        fs::write(&index, &bytes).unwrap();
        if let Ok(image) = Image::open(&path, &index) {
            // What it shows may be wrong, but it is a tree, and blocks are checked.
            drop(image_tree(&image));
            for node in (0..image.node_count()).map(ImageNode) {
                image.xattrs(node).for_each(drop);
            }
        }
    }
}
