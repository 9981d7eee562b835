//! Images that somebody made to do harm: each is refused with a reason that names it.
//!
//! They are made by `mksquashfs` with plain (uncompressed) metadata, and then changed in place.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use piston_fs::image::ImageNode;
use piston_fs::image::pack::{Compressor, Meta, Source, Tree};
use piston_fs::image::verify::{Bounds, VerifyError};

use crate::corpus::noise;
use crate::support::{Scratch, image_tree, opened, verified, verified_within};

/// Bytes of an image, to be changed where its metadata says something.
struct Crafted {
    scratch: Scratch,
    bytes: Vec<u8>,
}

/// The time of all inodes: something to find them by.
const TIME: u32 = 0x1122_3344;

impl Crafted {
    fn new(make: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new();
        let tree = scratch.path("tree");
        fs::create_dir(&tree).unwrap();
        make(&tree);
        let time = TIME.to_string();
        let options = [
            "-comp",
            "gzip",
            "-noI",
            "-noId",
            "-nopad",
            "-all-time",
            &time,
        ];
        let image = scratch.mksquashfs(&tree, "image", &options);
        let bytes = fs::read(image).unwrap();
        Self { scratch, bytes }
    }

    /// Two directories in one directory, and a file in each.
    fn directories() -> Self {
        Self::new(|root| {
            for name in ["outer/first", "outer/other"] {
                fs::create_dir_all(root.join(name)).unwrap();
                fs::write(root.join(name).join("file"), noise(1, 100)).unwrap();
            }
        })
    }

    fn table(&self, field: usize) -> usize {
        let position = u64::from_le_bytes(self.bytes[field..field + 8].try_into().unwrap());
        usize::try_from(position).unwrap()
    }

    /// Where the name of a directory entry stands.
    fn name(&self, name: &str) -> usize {
        let directories = self.table(72);
        let at = self.bytes[directories..]
            .windows(name.len())
            .position(|window| window == name.as_bytes());
        directories + at.expect("the entry is there")
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Where the inode of number `nth` in the table keeps its time.
    fn inode_time(&self, nth: usize) -> usize {
        let (inodes, directories) = (self.table(64), self.table(72));
        let found = self.bytes[inodes..directories]
            .windows(4)
            .enumerate()
            .filter(|(_, window)| *window == TIME.to_le_bytes());
        inodes + found.map(|(at, _)| at).nth(nth).expect("an inode")
    }

    fn refusal(&self) -> VerifyError {
        let image = self.scratch.path("crafted");
        fs::write(&image, &self.bytes).unwrap();
        let refused = verified(&image);
        assert!(!image.with_extension("index").exists(), "no index is left");
        refused.expect_err("the image is refused")
    }

    /// The image is sound as it is.
    fn accepted(&self) {
        let image = self.scratch.path("crafted");
        fs::write(&image, &self.bytes).unwrap();
        image_tree(&opened(&image)).unwrap();
    }

    fn check(&self, expected: &str) {
        let text = self.refusal().to_string();
        assert!(text.contains(expected), "{text:?} without {expected:?}");
    }
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    for (name, reason) in [
        ("..", "another directory"),
        (".", "another directory"),
        ("/", "slash"),
        ("a/", "slash"),
        ("a\0", "NUL"),
    ] {
        let victim = "v".repeat(name.len());
        let mut crafted = Crafted::new(|root| {
            fs::write(root.join(&victim), b"text").unwrap();
        });
        let at = crafted.table(72) + 2 + 12 + 8;
        assert_eq!(&crafted.bytes[at..at + name.len()], victim.as_bytes());
        crafted.put(at, name.as_bytes()).check(reason);
    }
}

#[test]
fn a_name_longer_than_linux_allows_is_refused() {
    let mut crafted = Crafted::new(|root| {
        fs::write(root.join("n".repeat(255)), b"text").unwrap();
    });
    let length = crafted.name("nnnn") - 2;
    crafted.put(length, &255_u16.to_le_bytes());
    assert!(!crafted.refusal().to_string().is_empty());
}

#[test]
fn names_out_of_order_are_refused() {
    let mut crafted = Crafted::directories();
    let (first, other) = (crafted.name("first"), crafted.name("other"));
    crafted
        .put(first, b"zzzzz")
        .check("not sorted or not unique");
    crafted
        .put(first, b"other")
        .check("not sorted or not unique");
    crafted.put(first, b"first").put(other, b"first");
    crafted.check("not sorted or not unique");
}

/// Makes the entry `name` mean the inode that the entry `other` of the same listing means.
fn redirect(crafted: &mut Crafted, name: &str, other: &str) {
    let (at, from) = (crafted.name(name) - 8, crafted.name(other) - 8);
    let entry = crafted.bytes[from..from + 6].to_vec();
    crafted.put(at, &entry);
}

#[test]
fn a_directory_in_two_places_is_refused() {
    let mut crafted = Crafted::directories();
    redirect(&mut crafted, "other", "first");
    crafted.check("reached twice");
}

#[test]
fn a_directory_that_holds_itself_is_refused() {
    // In `loop/below`, the listing's header names the block and number that entries count from.
    let mut crafted = Crafted::new(|root| fs::create_dir_all(root.join("outer/inner")).unwrap());
    let (inner, outer) = (crafted.name("inner"), crafted.name("outer"));
    let offset = crafted.bytes[outer - 8..outer - 6].to_vec();
    let number = crafted.bytes[outer - 12..outer - 8].to_vec();
    crafted.put(inner - 8, &offset).put(inner - 12, &number);
    crafted.check("reached twice");
}

#[test]
fn an_entry_without_inode_is_refused() {
    let mut crafted = Crafted::directories();
    let at = crafted.name("first") - 8;
    crafted
        .put(at, &0x1ff1_u16.to_le_bytes())
        .check("has no inode");
}

#[test]
fn an_entry_of_another_kind_or_number_than_its_inode_is_refused() {
    let mut crafted = Crafted::directories();
    let at = crafted.name("first") - 4;
    crafted
        .put(at, &2_u16.to_le_bytes())
        .check("another number or kind");
    let mut crafted = Crafted::directories();
    let at = crafted.name("first") - 6;
    crafted
        .put(at, &7_u16.to_le_bytes())
        .check("another number or kind");
}

#[test]
fn inode_numbers_out_of_range_or_used_twice_are_refused() {
    let mut crafted = Crafted::directories();
    let (first, second) = (crafted.inode_time(0) + 4, crafted.inode_time(1) + 4);
    crafted
        .put(first, &99_u32.to_le_bytes())
        .check("out of range");
    crafted
        .put(first, &0_u32.to_le_bytes())
        .check("out of range");
    let number = crafted.bytes[second..second + 4].to_vec();
    crafted.put(first, &number).check("used twice");
}

#[test]
fn claimed_counts_and_sizes_cost_nothing_before_they_are_checked() {
    // The fields of the superblock: inodes, fragments, ids.
    for (field, bytes) in [
        (4, &u32::MAX.to_le_bytes()[..]),
        (16, &u32::MAX.to_le_bytes()),
        (26, &u16::MAX.to_le_bytes()),
    ] {
        let mut crafted = Crafted::directories();
        crafted.put(field, bytes);
        assert!(!crafted.refusal().to_string().is_empty(), "field {field}");
    }
    // The size of a regular file, and of a directory's listing.
    let mut crafted = Crafted::directories();
    let size = crafted.inode_time(0) + 20;
    crafted
        .put(size, &u32::MAX.to_le_bytes())
        .check("blocks are not in the table");
}

#[test]
fn a_listing_beyond_the_directory_table_is_refused() {
    let mut crafted = Crafted::new(|root| fs::write(root.join("file"), b"text").unwrap());
    let root = crafted.inode_time(1);
    crafted.put(root + 16, &u16::MAX.to_le_bytes());
    crafted.check("not in the directory table");
}

#[test]
fn a_fragment_out_of_range_is_refused() {
    let mut crafted = Crafted::new(|root| fs::write(root.join("file"), b"text").unwrap());
    let file = crafted.inode_time(0);
    crafted
        .put(file + 12, &1_u32.to_le_bytes())
        .check("fragment 1 is out of range");
    crafted.put(file + 12, &0_u32.to_le_bytes());
    crafted
        .put(file + 16, &131_070_u32.to_le_bytes())
        .check("not within a fragment");
}

#[test]
fn blocks_beyond_the_image_are_refused() {
    let mut crafted = Crafted::new(|root| {
        fs::write(root.join("file"), noise(1, 131_072)).unwrap();
    });
    let start = crafted.inode_time(0) + 8;
    crafted
        .put(start, &0x7fff_ffff_u32.to_le_bytes())
        .check("out of range");
    crafted
        .put(start, &0_u32.to_le_bytes())
        .check("out of range");
}

/// Some writers say 0 where a file of nothing but holes starts.
#[test]
fn where_a_file_of_holes_starts_means_nothing() {
    let mut crafted = Crafted::new(|root| {
        let sparse = fs::File::create(root.join("file")).unwrap();
        sparse.set_len(1 << 20).unwrap();
    });
    let start = crafted.inode_time(0) + 8;
    for nowhere in [0, u64::MAX] {
        crafted.put(start, &nowhere.to_le_bytes());
        crafted.accepted();
    }
}

#[test]
fn holes_longer_than_their_file_are_refused() {
    let mut crafted = Crafted::new(|root| {
        let sparse = fs::File::create(root.join("file")).unwrap();
        sparse.set_len(1 << 20).unwrap();
    });
    let holes = crafted.inode_time(0) + 24;
    crafted.put(holes, &(1_u64 << 20).to_le_bytes()).accepted();
    crafted
        .put(holes, &((1_u64 << 20) + 1).to_le_bytes())
        .check("holes are longer than itself");
}

#[test]
fn an_inode_that_says_it_has_no_links_is_refused() {
    let mut crafted = Crafted::directories();
    let links = crafted.inode_time(1) + 12;
    crafted
        .put(links, &0_u32.to_le_bytes())
        .check("it has no links");
}

/// The kernel never sees them either.
#[test]
fn an_inode_without_a_name_is_left_out() {
    let mut crafted = Crafted::new(|root| {
        for name in ["first", "other"] {
            fs::write(root.join(name), name).unwrap();
        }
    });
    let (count, size) = (crafted.table(72) + 2, crafted.inode_time(2) + 16);
    let shorter = u16::from_le_bytes([crafted.bytes[size], crafted.bytes[size + 1]]) - 8 - 5;
    crafted
        .put(count, &0_u32.to_le_bytes())
        .put(size, &shorter.to_le_bytes())
        .accepted();
    let image = opened(&crafted.scratch.path("crafted"));
    assert_eq!(image.node_count(), 2);
    let names: Vec<_> = image.entries(ImageNode(0)).map(|(name, _)| name).collect();
    assert_eq!(names, [b"first"]);
}

#[test]
fn a_table_with_another_number_of_inodes_than_the_superblock_says_is_refused() {
    let mut crafted = Crafted::directories();
    let count = u32::from_le_bytes(crafted.bytes[4..8].try_into().unwrap());
    crafted
        .put(4, &(count - 1).to_le_bytes())
        .check("inodes that the superblock counts");
    crafted
        .put(4, &(count + 1).to_le_bytes())
        .put(88, &u64::MAX.to_le_bytes())
        .check("the superblock counts 7");
}

#[test]
fn a_link_without_a_target_is_refused() {
    let mut crafted = Crafted::new(|root| {
        std::os::unix::fs::symlink("to", root.join("link")).unwrap();
    });
    let length = crafted.inode_time(0) + 12;
    crafted
        .put(length, &0_u32.to_le_bytes())
        .check("target is illegal");
}

fn nested(levels: usize) -> Vec<u8> {
    let mut tree = Tree::new();
    let meta = Meta {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 0,
    };
    tree.directory("/d".repeat(levels), meta).unwrap();
    let mut image = Cursor::new(Vec::new());
    tree.write(&mut image, Compressor::Zstd(1)).unwrap();
    image.into_inner()
}

#[test]
fn directories_nested_too_deeply_are_refused() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    fs::write(&image, nested(512)).unwrap();
    verified(&image).unwrap();
    for levels in [513, 20_000] {
        fs::write(&image, nested(levels)).unwrap();
        let refused = verified(&image).unwrap_err().to_string();
        assert!(refused.contains("more than 512 levels"), "{refused}");
    }
}

#[test]
fn images_over_the_bounds_are_refused_by_the_bound_s_name() {
    let scratch = Scratch::new();
    let mut tree = Tree::new();
    let meta = Meta {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
    };
    for number in 0..2000 {
        let path = format!("/file-{number}");
        tree.file(&path, meta, Source::Bytes(Vec::new())).unwrap();
    }
    let image = scratch.path("image");
    let out = fs::File::create(&image).unwrap();
    tree.write(out, Compressor::Zstd(3)).unwrap();
    let bounds = Bounds::default();
    let check = |bounds, expected: &str| {
        let refused = verified_within(&image, &bounds).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    };
    check(
        Bounds {
            nodes: 2000,
            ..bounds
        },
        "more than 2000 nodes",
    );
    let small = Bounds {
        metadata_bytes: 100_000,
        ..bounds
    };
    check(small, "bytes of metadata");
    verified(&image).unwrap();
}

#[test]
fn what_is_no_squashfs_image_is_refused_as_such() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    for bytes in [&b""[..], b"hsqs", &[0; 96], &noise(1, 5000)] {
        fs::write(&image, bytes).unwrap();
        let refused = verified(&image);
        assert!(matches!(refused, Err(VerifyError::NotSquashfs)));
    }
    let mut crafted = Crafted::directories();
    crafted
        .put(28, &3_u16.to_le_bytes())
        .check("squashfs 3.0 images are not supported");
}

#[test]
fn an_existing_index_is_not_overwritten() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    fs::write(&image, nested(1)).unwrap();
    let index = scratch.path("there");
    fs::write(&index, b"mine").unwrap();
    let bounds = Bounds::default();
    let refused = piston_fs::image::verify::verify(&image, &index, &bounds);
    assert!(matches!(refused, Err(VerifyError::Io { .. })));
    assert_eq!(fs::read(&index).unwrap(), b"mine");
}
