//! Whatever squashfs can hold is written, is unpacked by `unsquashfs`, and survives being written
//! anew with another compressor.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use piston_fs::image::pack::{Compressor, Meta, PackError, Source, Special, Tree};
use piston_fs::image::{Image, ImageNode};
use proptest::prelude::*;

use crate::corpus::{make_tree, noise};
use crate::support::{
    Scratch, What, assert_same, host_tree, image_tree, opened, tool, xattrs_by_path,
};

const ALL: [Compressor; 3] = [Compressor::Zstd(1), Compressor::Gzip(1), Compressor::Lz4];

const META: Meta = Meta {
    mode: 0o640,
    uid: 0,
    gid: 0,
    mtime: 1_600_000_000,
};

fn write(tree: Tree, path: &Path, with: Compressor) -> Image {
    tree.write(fs::File::create(path).unwrap(), with).unwrap();
    opened(path)
}

/// Links, pipes, sockets and attributes; devices only where the test does not unpack it.
fn sample(devices: bool) -> Tree {
    let mut tree = Tree::new();
    let large = Source::Bytes(noise(1, 300_000));
    tree.file("/z/large", META, large).unwrap();
    tree.link("/a-link-that-is-met-first", "/z/large").unwrap();
    tree.link("/z/deep/er/third", "/a-link-that-is-met-first")
        .unwrap();
    tree.file("/small", META, Source::Bytes(b"small".to_vec()))
        .unwrap();
    tree.link("/small-too", "/small").unwrap();
    let of_links = Meta {
        mode: 0o777,
        ..META
    };
    tree.symlink("/symlink", of_links, "small").unwrap();
    tree.link("/symlink-too", "/symlink").unwrap();
    tree.special("/pipe", META, Special::Fifo).unwrap();
    tree.link("/z/pipe-too", "/pipe").unwrap();
    tree.file(b"/not UTF-8: \xff\xfe", META, Source::Bytes(Vec::new()))
        .unwrap();
    let mut holes = noise(2, 1 << 20);
    holes[131_072..900_000].fill(0);
    tree.file("/holes", META, Source::Bytes(holes)).unwrap();
    if devices {
        tree.special("/socket", META, Special::Socket).unwrap();
        tree.special("/null", META, Special::CharDevice(0x103))
            .unwrap();
        tree.special("/disk", META, Special::BlockDevice(0x1234_5678))
            .unwrap();
    }
    tree
}

fn with_attributes(mut tree: Tree) -> Tree {
    let long = b"long ".repeat(5000);
    for path in ["/", "/z", "/small", "/symlink", "/pipe", "/null", "/holes"] {
        tree.attribute(path, "user.path", path).unwrap();
        tree.attribute(path, "user.long", &long[..]).unwrap();
        tree.attribute(path, "trusted.same", b"same").unwrap();
        tree.attribute(path, "security.x", b"").unwrap();
    }
    tree.attribute("/z/large", "trusted.same", b"other")
        .unwrap();
    tree.attribute("/z/large", "trusted.same", b"same").unwrap();
    tree
}

#[test]
fn unsquashfs_unpacks_links_pipes_and_holes() {
    for with in ALL {
        let scratch = Scratch::new();
        let image = write(sample(false), &scratch.path("image"), with);
        let unpacked = scratch.path("unpacked");
        let mut unsquashfs = tool("unsquashfs");
        unsquashfs.args(["-no-progress", "-strict-errors", "-d"]);
        output_of(unsquashfs.arg(&unpacked).arg(scratch.path("image")));
        assert_same(&image_tree(&image).unwrap(), &host_tree(&unpacked));
    }
}

fn output_of(command: &mut std::process::Command) -> String {
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn unsquashfs_lists_devices_and_sockets() {
    let scratch = Scratch::new();
    let image = write(
        with_attributes(sample(true)),
        &scratch.path("image"),
        Compressor::Lz4,
    );
    let mut list = tool("unsquashfs");
    let text = output_of(list.args(["-lln", "-d", ""]).arg(scratch.path("image")));
    let line = |path: &str| {
        let end = format!(" {path}");
        let mut lines = text.lines();
        lines
            .find(|line| line.ends_with(&end))
            .expect("it is listed")
            .to_owned()
    };
    assert!(line("/null").starts_with("crw-r----- 0/0"), "{text}");
    assert!(line("/null").contains("1,  3"), "{text}");
    assert!(line("/disk").starts_with("brw-r----- 0/0"), "{text}");
    assert!(line("/socket").starts_with("srw-r-----"), "{text}");
    let seen = image_tree(&image).unwrap();
    assert_eq!(seen[&b"disk"[..]].what, What::Device(0x1234_5678));
    assert_eq!(seen[&b"small"[..]].nlink, 2);
    assert_eq!(seen[&b"z/deep/er/third"[..]].nlink, 3);
    assert_eq!(seen[&b"symlink-too"[..]].nlink, 2);
}

#[test]
fn names_of_one_file_are_one_node() {
    let scratch = Scratch::new();
    let image = write(sample(true), &scratch.path("image"), Compressor::Gzip(1));
    let of = |name: &[u8]| {
        image
            .entries(ImageNode(0))
            .find(|(found, _)| *found == name)
    };
    assert_eq!(of(b"small").unwrap().1, of(b"small-too").unwrap().1);
    assert_ne!(of(b"small").unwrap().1, of(b"symlink").unwrap().1);
}

#[test]
fn attributes_are_kept_and_equal_sets_are_stored_once() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let image = write(with_attributes(sample(true)), &path, Compressor::Zstd(1));
    let found = xattrs_by_path(&image);
    let of = |path: &[u8]| found[path].clone();
    let expected = [
        (b"user.long".to_vec(), b"long ".repeat(5000)),
        (b"user.path".to_vec(), b"/small".to_vec()),
        (b"trusted.same".to_vec(), b"same".to_vec()),
        (b"security.x".to_vec(), Vec::new()),
    ];
    assert_eq!(of(b"small"), expected);
    assert_eq!(of(b"small-too"), expected);
    assert_eq!(of(b"z/large"), expected[2..3]);
    assert_eq!(of(b"").len(), 4);
    assert_eq!(found.len(), 1 + 1 + 3 + 2 + 2 + 2 + 1 + 1);

    let mut same = Tree::new();
    for number in 0..1000 {
        let path = format!("/{number}");
        same.file(&path, META, Source::Bytes(Vec::new())).unwrap();
        same.attribute(&path, "user.noise", noise(1, 1000)).unwrap();
    }
    let mut out = Cursor::new(Vec::new());
    assert!(same.write(&mut out, Compressor::Lz4).unwrap() < 100_000);
}

#[test]
fn attributes_that_squashfs_has_no_place_for_are_refused() {
    let mut tree = Tree::new();
    for (name, value) in [
        ("system.posix_acl_access", vec![]),
        ("user.", vec![]),
        ("plain", vec![]),
        ("user.nul\0", vec![]),
        (&format!("user.{}", "n".repeat(251)), vec![]),
        ("user.x", vec![0; 65_537]),
    ] {
        let refused = tree.attribute("/", name, value);
        assert!(
            matches!(refused, Err(PackError::Attribute { .. })),
            "{name:?}"
        );
    }
    tree.attribute("/", format!("user.{}", "n".repeat(250)), vec![0; 65_536])
        .unwrap();
    assert!(matches!(
        tree.attribute("/x", "user.x", b""),
        Err(PackError::Path { .. })
    ));
}

#[test]
fn links_to_nothing_and_to_directories_are_refused() {
    let mut tree = sample(false);
    for (path, existing) in [
        ("/new", "/missing"),
        ("/new", "/z"),
        ("/new", "/"),
        ("/small", "/pipe"),
        ("/small/below", "/pipe"),
        ("relative", "/pipe"),
    ] {
        let refused = tree.link(path, existing);
        assert!(
            matches!(refused, Err(PackError::Path { .. })),
            "{path} to {existing}"
        );
    }
}

#[test]
fn more_owners_than_squashfs_can_number_are_refused_by_name() {
    let tree_of = |owners: u32| {
        let mut tree = Tree::new();
        for number in 1..owners {
            let meta = Meta {
                uid: number,
                ..META
            };
            let path = format!("/{number}");
            tree.file(path, meta, Source::Bytes(Vec::new())).unwrap();
        }
        tree
    };
    let scratch = Scratch::new();
    let image = write(tree_of(65_535), &scratch.path("image"), Compressor::Lz4);
    let owners = (0..image.node_count()).map(|node| image.attr(ImageNode(node)).uid);
    assert_eq!(owners.max(), Some(65_534));
    let refused = tree_of(65_536).write(Cursor::new(Vec::new()), Compressor::Lz4);
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("so many owners"), "{text}");
}

/// Writes an image anew; it must show the same.
fn recompress(scratch: &Scratch, image: Image, with: Compressor) {
    let image = Arc::new(image);
    let tree = Tree::of_image(&image).unwrap();
    let again = write(tree, &scratch.path("again"), with);
    assert_same(&image_tree(&image).unwrap(), &image_tree(&again).unwrap());
    assert_eq!(xattrs_by_path(&image), xattrs_by_path(&again));
}

#[test]
fn images_of_every_compressor_show_the_same_when_they_are_written_anew() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree);
    for compressor in ["gzip", "xz", "lzo", "lz4", "zstd"] {
        for size in ["4096", "1M"] {
            let options = ["-comp", compressor, "-b", size];
            let image = opened(&scratch.mksquashfs(&tree, "image", &options));
            recompress(&scratch, image, Compressor::Zstd(1));
        }
    }
}

#[test]
fn devices_links_and_attributes_survive_being_written_anew() {
    let scratch = Scratch::new();
    for with in ALL {
        let path = scratch.path("image");
        let image = write(with_attributes(sample(true)), &path, Compressor::Gzip(1));
        recompress(&scratch, image, with);
    }
}

#[test]
fn writing_anew_what_was_written_gives_the_same_bytes() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let with = Compressor::Zstd(1);
    let image = Arc::new(write(with_attributes(sample(true)), &path, with));
    let mut once = Cursor::new(Vec::new());
    Tree::of_image(&image)
        .unwrap()
        .write(&mut once, with)
        .unwrap();
    fs::write(scratch.path("once"), once.get_ref()).unwrap();
    let image = Arc::new(opened(&scratch.path("once")));
    let mut twice = Cursor::new(Vec::new());
    Tree::of_image(&image)
        .unwrap()
        .write(&mut twice, with)
        .unwrap();
    assert!(once.into_inner() == twice.into_inner());
}

#[test]
fn a_damaged_block_ends_the_writing_with_an_error_that_names_the_image() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let mut text = Tree::new();
    let source = Source::Bytes(b"text ".repeat(100_000));
    text.file("/text", META, source).unwrap();
    let image = Arc::new(write(text, &path, Compressor::Zstd(1)));
    let tree = Tree::of_image(&image).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[96..110].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let error = tree.write(Cursor::new(Vec::new()), Compressor::Lz4);
    assert!(matches!(error, Err(PackError::Io { path: named, .. }) if named == path));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Names of one node, attributes and kinds, whatever they are and wherever.
    #[test]
    fn any_tree_of_links_and_attributes_survives_writing_and_writing_anew(
        names in proptest::collection::btree_set("(/[a-c]{1,2}){1,3}", 1..30),
        choices in proptest::collection::vec((0..7_u8, any::<u16>(), 0..200_000_usize), 30),
    ) {
        let mut tree = Tree::new();
        let mut leaves: Vec<String> = Vec::new();
        for (path, (kind, dice, size)) in names.iter().zip(choices) {
            let meta = Meta { mode: dice & 0o7777, uid: dice.into(), ..META };
            let number = u32::from(dice);
            let link = leaves.get(usize::from(dice) % leaves.len().max(1));
            let added = match (kind, link) {
                (0, Some(link)) => tree.link(path, link),
                (1, _) => tree.special(path, meta, Special::CharDevice(number + 1)),
                (2, _) => tree.special(path, meta, Special::Socket),
                (3, _) => tree.symlink(path, meta, "x".repeat(usize::from(dice % 300) + 1)),
                (4, _) => tree.directory(path, meta),
                _ => tree.file(path, meta, Source::Bytes(noise(dice.into(), size))),
            };
            if added.is_ok() {
                if kind != 4 {
                    leaves.push(path.clone());
                }
                if dice % 3 == 0 {
                    tree.attribute(path, format!("user.{}", dice % 7), path.as_bytes()).unwrap();
                }
            }
        }
        let scratch = Scratch::new();
        let image = write(tree, &scratch.path("image"), Compressor::Lz4);
        for path in &leaves {
            prop_assert!(image_tree(&image).unwrap().contains_key(&path.as_bytes()[1..]));
        }
        recompress(&scratch, image, Compressor::Gzip(1));
    }
}
