//! What is loaded when, and how often: an image's file read block by block without a kernel.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::image::pack::{self, Compressor, Meta};
use crate::image::verify::{Bounds, verify};
use crate::layer::{Layer, Placed};
use crate::owners::Owners;
use crate::stats::Stats;
use crate::vfs::{Vfs, ViewPath};

const BLOCK: u32 = 128 << 10;

/// Bytes that don't compress away, other ones for every seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(&mut byte).take(length).collect()
}

struct Scene {
    vfs: Vfs,
}

impl Scene {
    /// A mount's inside that shows an image of these files; its hot list is kept beside it.
    fn new(scratch: &Path, files: &[(&str, Vec<u8>)]) -> Self {
        let (image, index) = (scratch.join("image"), scratch.join("index"));
        if !image.exists() {
            let mut tree = pack::Tree::new();
            for (name, bytes) in files {
                let meta = Meta {
                    mode: 0o644,
                    uid: 0,
                    gid: 0,
                    mtime: 0,
                };
                let source = pack::Source::Bytes(bytes.clone());
                tree.file(format!("/{name}"), meta, source).unwrap();
            }
            let file = File::create(&image).unwrap();
            tree.write(file, Compressor::Zstd(1)).unwrap();
            verify(&image, &index, &Bounds::default()).unwrap();
        }
        let image = Image::open(&image, &index).unwrap();
        assert_eq!(image.block_size(), BLOCK);
        let image = image.with_hot_list(scratch.join("hot"));
        let vfs = Vfs::new(32 << 20, Duration::from_mins(1), Owners::of_this_process());
        let layer = Placed {
            layer: Layer::Image(Arc::new(image)),
            at: "/".to_owned(),
        };
        vfs.publish(&ViewPath::root(), &[layer]).unwrap();
        Self { vfs }
    }

    fn ino(&self, name: &str) -> Ino {
        let found = self.vfs.lookup(Ino::ROOT, name.as_bytes()).unwrap();
        found.unwrap().ino
    }

    /// Reads as the kernel does: what is here already without waiting.
    fn read(&self, name: &str, offset: u64, size: u32) -> Vec<u8> {
        let mut scratch = Scratch::default();
        let ino = self.ino(name);
        let ready = self.vfs.read_ready(ino, offset, size, &mut scratch);
        if let Some(bytes) = ready.unwrap() {
            return bytes.to_vec();
        }
        self.load(ino, offset, size)
    }

    /// Reads what has to be loaded, block by block.
    fn load(&self, ino: Ino, offset: u64, size: u32) -> Vec<u8> {
        let mut scratch = Scratch::default();
        let mut reading = Reading::new((ino, offset, size));
        for _ in 0..size.div_ceil(BLOCK) {
            let bytes = self.vfs.read_on(&mut reading, &mut scratch).unwrap();
            if let Some(bytes) = bytes {
                return bytes.to_vec();
            }
        }
        panic!("a step without a block");
    }

    /// Reads a file to its end in blocks.
    fn read_all(&self, name: &str) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = self.read(name, to_u64(all.len()), BLOCK);
            if bytes.is_empty() {
                return all;
            }
            all.extend(bytes);
        }
    }

    /// Loads what is wanted ahead, as idle threads do; the answer is where it starts.
    fn work_ahead(&self) -> Vec<u64> {
        let mut starts = Vec::new();
        while let Some((source, block)) = self.vfs.ahead.next() {
            self.vfs.reader().prepare(&source, &block);
            starts.push(block.start);
        }
        starts
    }

    fn stats(&self) -> Stats {
        self.vfs.stats()
    }
}

fn big() -> Vec<u8> {
    noise(1, 10 * to_usize(BLOCK) + 5)
}

#[test]
fn a_reader_who_goes_on_finds_the_next_blocks_loaded() {
    let scratch = tempfile::tempdir().unwrap();
    let scene = Scene::new(scratch.path(), &[("big", big())]);
    let mut offset = 0;
    for _ in 0..3 {
        scene.read("big", offset, BLOCK);
        offset += u64::from(BLOCK);
    }
    assert_eq!(scene.work_ahead().len(), 2);
    let before = scene.stats();
    assert_eq!(before.blocks_ahead, 2);
    let block = scene.read("big", offset, BLOCK);
    assert!(block == big()[3 * to_usize(BLOCK)..4 * to_usize(BLOCK)]);
    assert_eq!(scene.stats().blocks, before.blocks);
    // It is the kernel's from now on.
    assert_eq!(scene.stats().cached_bytes, u64::from(BLOCK));
}

#[test]
fn no_block_is_loaded_twice_whether_somebody_works_ahead_or_not() {
    for ahead in [false, true] {
        let scratch = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c", "d"];
        let files = names.map(|name| (name, big()));
        let scene = Scene::new(scratch.path(), &files);
        for name in names {
            let size = 10 * u64::from(BLOCK) + 5;
            let mut offset = 0;
            while offset < size {
                scene.read(name, offset, BLOCK);
                offset += u64::from(BLOCK);
                if ahead {
                    scene.work_ahead();
                }
            }
        }
        let stats = scene.stats();
        // The files are equal: a writer may store them once, but each is read once.
        assert!(
            stats.block_bytes * 100 <= stats.read_bytes * 105,
            "{stats:?}, ahead: {ahead}"
        );
        assert_eq!(ahead, stats.blocks_ahead > 0);
    }
}

#[test]
fn whoever_goes_from_file_to_file_finds_the_next_file_loaded() {
    let scratch = tempfile::tempdir().unwrap();
    let names = ["a", "b", "c", "d", "e", "f"];
    let file = |name: &str| noise(u64::from(name.as_bytes()[0]), to_usize(BLOCK));
    let files = names.map(|name| (name, file(name)));
    let scene = Scene::new(scratch.path(), &files);
    for name in names {
        assert!(scene.read_all(name) == file(name));
        scene.work_ahead();
    }
    let stats = scene.stats();
    assert_eq!(stats.blocks, 6);
    assert_eq!(stats.blocks_ahead, 3);
}

#[test]
fn small_files_one_after_the_other_find_the_next_fragment_loaded() {
    let scratch = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..100).map(|number| format!("{number:03}")).collect();
    let file = |name: &str| noise(name.parse().unwrap(), 10_000);
    let files: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), file(name)))
        .collect();
    let scene = Scene::new(scratch.path(), &files);
    for name in &names {
        assert!(scene.read_all(name) == file(name));
        scene.work_ahead();
    }
    let stats = scene.stats();
    assert!(stats.block_bytes <= stats.read_bytes, "{stats:?}");
    assert!(stats.blocks_ahead >= 4, "{stats:?}");
}

#[test]
fn the_later_blocks_of_a_large_request_can_be_loaded_by_others() {
    let scratch = tempfile::tempdir().unwrap();
    let scene = Scene::new(scratch.path(), &[("big", big())]);
    assert!(scene.read("big", 0, 8 * BLOCK) == big()[..8 * to_usize(BLOCK)]);
    assert_eq!(
        scene.stats().blocks,
        8,
        "whoever is idle, each is loaded once"
    );
    // The same with the others being faster.
    let ino = scene.ino("big");
    let bytes = std::thread::scope(|scope| {
        scope.spawn(|| {
            while scene.stats().blocks < 10 {
                scene.work_ahead();
            }
        });
        scene.load(ino, 8 * u64::from(BLOCK), 3 * BLOCK)
    });
    assert!(bytes == big()[8 * to_usize(BLOCK)..]);
    assert!(scene.stats().blocks <= 11);
}

#[test]
fn nothing_is_loaded_ahead_of_those_who_jump_about() {
    let scratch = tempfile::tempdir().unwrap();
    let scene = Scene::new(scratch.path(), &[("big", big())]);
    for block in [7, 2, 9, 4, 0, 6, 1, 8] {
        scene.read("big", block * u64::from(BLOCK) + 100, 4096);
        assert_eq!(scene.work_ahead(), [0; 0]);
    }
}

#[test]
fn the_first_reads_of_one_mount_are_loaded_ahead_in_the_next() {
    let scratch = tempfile::tempdir().unwrap();
    let files = [("big", big()), ("small", noise(2, 1000))];
    let first = Scene::new(scratch.path(), &files);
    for block in [7, 2, 9, 4] {
        first.read("big", block * u64::from(BLOCK), BLOCK);
    }
    first.read("small", 0, BLOCK);
    first.read("big", 4 * u64::from(BLOCK), BLOCK);
    let lists = first.vfs.hot_lists(Instant::now());
    let [(path, list)] = &lists[..] else {
        panic!("one image was read, not {}", lists.len());
    };
    list.write(path).unwrap();
    assert!(first.vfs.hot_lists(Instant::now()).is_empty(), "kept once");

    let second = Scene::new(scratch.path(), &files);
    assert_eq!(second.work_ahead(), [0; 0], "nothing was read yet");
    second.read("big", 7 * u64::from(BLOCK), BLOCK);
    assert_eq!(second.work_ahead().len(), 4);
    let before = second.stats().blocks;
    for block in [4, 2, 9] {
        let start = block * to_usize(BLOCK);
        let bytes = second.read("big", to_u64(start), BLOCK);
        assert!(bytes == big()[start..start + to_usize(BLOCK)]);
    }
    assert_eq!(second.read("small", 0, BLOCK), noise(2, 1000));
    assert_eq!(second.stats().blocks, before);
    assert!(second.vfs.hot_lists(Instant::now()).is_empty(), "known");
}

#[test]
fn a_hot_list_of_anything_else_is_no_list() {
    let scratch = tempfile::tempdir().unwrap();
    let files = [("big", big())];
    let first = Scene::new(scratch.path(), &files);
    first.read("big", 0, BLOCK);
    let (path, list) = first.vfs.hot_lists(Instant::now()).remove(0);
    list.write(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let second = Scene::new(scratch.path(), &files);
    second.read("big", 0, BLOCK);
    assert_eq!(second.work_ahead(), [0; 0]);
    // And is made anew.
    assert_eq!(second.vfs.hot_lists(Instant::now()).len(), 1);
}
