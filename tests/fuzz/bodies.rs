//! What the fuzz targets do with the bytes they are given; tests run the same on the corpus.
//!
//! A body may not panic, whatever the bytes: what is refused is refused with an error, and what is
//! accepted is a tree whose blocks are read at their exact length or not at all.

#![allow(dead_code, reason = "each target has use for one of the bodies")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use piston_fs::image::verify::{Bounds, verify};
use piston_fs::image::{BlockRef, Image, ImageNode};
use piston_fs::node::Kind;

/// Small images of mksquashfs, one for each compressor: with two blocks and a tail, a fragment,
/// a hole, a hard link, a symlink, a pipe and extended attributes.
const IMAGES: [&[u8]; 5] = [
    include_bytes!("images/gzip.squashfs"),
    include_bytes!("images/lz4.squashfs"),
    include_bytes!("images/lzo.squashfs"),
    include_bytes!("images/xz.squashfs"),
    include_bytes!("images/zstd.squashfs"),
];

/// Bytes of a file that are read; the rest is like them.
const READ: u64 = 1 << 18;

/// A folder of its own, with the sound images in it; it stays.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    /// The sound images that this build serves.
    sound: Vec<Sound>,
}

/// A sound image.
#[derive(Debug)]
struct Sound {
    image: PathBuf,
    index: PathBuf,
}

impl Place {
    /// A place in the directory for temporary files.
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// A place in a folder.
    pub(crate) fn within(folder: &Path) -> Self {
        let folder = folder.join(format!("piston-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let sound = IMAGES.iter().enumerate().filter_map(|(number, bytes)| {
            let image = folder.join(format!("{number}.squashfs"));
            let index = image.with_extension("index");
            fs::write(&image, bytes).expect("a file");
            verify(&image, &index, &bounds()).ok()?;
            Some(Sound { image, index })
        });
        let sound: Vec<_> = sound.collect();
        assert!(!sound.is_empty(), "some compressor is known");
        Self { folder, sound }
    }

    /// Indexes to begin with: those of the sound images.
    pub(crate) fn indexes(&self) -> Vec<Vec<u8>> {
        let read = |sound: &Sound| fs::read(&sound.index).expect("an index");
        self.sound.iter().map(read).collect()
    }

    /// Images to begin with.
    pub(crate) fn images() -> Vec<Vec<u8>> {
        IMAGES.iter().map(|bytes| bytes.to_vec()).collect()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }
}

/// Smaller than those of an install, so that a case is soon over.
fn bounds() -> Bounds {
    Bounds {
        nodes: 1 << 12,
        depth: 64,
        metadata_bytes: 1 << 20,
    }
}

/// The bytes are an image, to be verified and, where that passes, shown.
pub(crate) fn verifier(place: &Place, bytes: &[u8]) {
    let path = place.file("image", bytes);
    let index = place.folder.join("image.index");
    fs::remove_file(&index).unwrap_or_default();
    match verify(&path, &index, &bounds()) {
        Ok(verified) => {
            let image = Image::open(&path, &index).expect("an index that was just written");
            assert_eq!(image.node_count(), verified.nodes);
            assert_eq!(image.content_bytes(), verified.content_bytes);
            show(&image);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal has its reason");
            // Except where there was one before, which is removed above.
            assert!(!index.exists(), "a refused image leaves no index");
        }
    }
}

/// The first byte chooses an image, the others are its index, with a header that passes.
pub(crate) fn index(place: &Place, bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let sound = &place.sound[usize::from(*choice) % place.sound.len()];
    let real = fs::read(&sound.index).expect("an index");
    let mut bytes = bytes.to_vec();
    if bytes.len() > 56 {
        // Magic and version, and the length of the image.
        bytes[..12].copy_from_slice(&real[..12]);
        bytes[48..56].copy_from_slice(&real[48..56]);
        let sum = libdeflater::crc32(&bytes[16..]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    let path = place.file("index", &bytes);
    match Image::open(&sound.image, &path) {
        Ok(image) => show(&image),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The first byte chooses an image, the others stand in each of its blocks.
pub(crate) fn block(place: &Place, bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let sound = &place.sound[usize::from(*choice) % place.sound.len()];
    let real = fs::read(&sound.image).expect("an image");
    let path = place.file("damaged", &real);
    let image = Image::open(&path, &sound.index).expect("the sound image's index");
    let file = fs::File::options()
        .write(true)
        .open(&path)
        .expect("it is ours");
    for block in blocks(&image) {
        let stored = usize::try_from(block.stored).expect("it is small");
        let there = &bytes[..bytes.len().min(stored)];
        file.write_all_at(there, block.start).expect("it is ours");
        check(&image, &block);
        // What follows is the sound image again.
        file.write_all_at(&real, 0).expect("it is ours");
    }
}

/// The blocks of an image's files that are stored, not holes.
fn blocks(image: &Image) -> Vec<BlockRef> {
    let mut blocks = Vec::new();
    for node in (0..image.node_count()).map(ImageNode) {
        let Kind::File { size } = image.attr(node).kind else {
            continue;
        };
        let mut at = 0;
        while at < size.min(READ) {
            let Some(extent) = image.extent(node, at) else {
                break;
            };
            if extent.block.stored > 0 {
                blocks.push(extent.block.clone());
            }
            at += u64::from(extent.len.max(1));
        }
    }
    blocks
}

fn check(image: &Image, block: &BlockRef) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match image.read_block(block, &mut out) {
        Ok(()) => {
            assert_eq!(
                u32::try_from(out.len()),
                Ok(block.length),
                "exact or an error"
            );
            Some(out)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Looks at everything an image shows.
fn show(image: &Image) {
    let mut pending = vec![ImageNode(0)];
    while let Some(node) = pending.pop() {
        image.xattrs(node).for_each(drop);
        match image.attr(node).kind {
            Kind::Directory => pending.extend(image.entries(node).map(|(name, child)| {
                assert!(!name.is_empty() && name.len() < 256, "a legal name");
                assert!(name != b"." && name != b".." && !name.contains(&b'/'));
                child
            })),
            Kind::Symlink => assert!(image.symlink(node).len() < 4096),
            Kind::File { size } => show_file(image, node, size),
            _ => {}
        }
    }
}

fn show_file(image: &Image, node: ImageNode, size: u64) {
    let mut at = 0;
    while at < size.min(READ) {
        let extent = image
            .extent(node, at)
            .expect("every byte of a file is somewhere");
        assert!(extent.len > 0 && at + u64::from(extent.len) <= size);
        if let Some(bytes) = check(image, &extent.block) {
            let end = u64::from(extent.skip) + u64::from(extent.len);
            assert!(u64::try_from(bytes.len()).is_ok_and(|have| have >= end));
        }
        at += u64::from(extent.len);
    }
}
