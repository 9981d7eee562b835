//! Images that `mksquashfs` makes are served as the tree that they were made of.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use piston_fs::image::ImageNode;
use piston_fs::node::Kind;

use crate::support::{Scratch, What, assert_same, host_tree, image_tree, opened, run, verified};

/// Bytes that do not compress, the same at each call.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// A tree with something of everything.
pub(crate) fn make_tree(root: &Path) {
    let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    write("none", b"");
    write("one", b"1");
    write("small", &b"small text\n".repeat(40));
    write("exact", &noise(1, 4096));
    write("two-blocks", &noise(2, 8192));
    write("text", &b"compressible text\n".repeat(60_000));
    write("noise", &noise(3, 1_500_001));
    write("many-blocks", &noise(4, 150 * 4096 + 17));
    write("zeros", &vec![0; 300_000]);
    for number in 0..40 {
        write(&format!("deep/er/{number:03}"), &noise(number, 700));
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 2 << 20).unwrap();
    fs::hard_link(root.join("noise"), root.join("deep/same-noise")).unwrap();
    fs::hard_link(root.join("one"), root.join("other-one")).unwrap();
    symlink("deep/er", root.join("link")).unwrap();
    symlink("x".repeat(3000), root.join("long-link")).unwrap();
    let mode = |name: &str, mode| {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("small", 0o4755);
    mode("one", 0o000);
    mode("empty", 0o1777);
    let mut fifo = Command::new("mkfifo");
    fifo.arg(root.join("pipe"));
    run(fifo);
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
}

fn check(options: &[&str]) {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree);
    let image = scratch.mksquashfs(&tree, "image", options);
    let image = opened(&image);
    assert_same(&host_tree(&tree), &image_tree(&image).unwrap());
}

#[test]
fn zstd_images_show_their_tree() {
    check(&["-comp", "zstd"]);
}

#[test]
fn gzip_images_show_their_tree() {
    check(&["-comp", "gzip"]);
}

#[test]
fn xz_images_show_their_tree() {
    check(&["-comp", "xz"]);
    check(&["-comp", "xz", "-Xbcj", "x86"]);
}

#[test]
fn lz4_images_show_their_tree() {
    check(&["-comp", "lz4"]);
    check(&["-comp", "lz4", "-Xhc"]);
}

#[test]
fn lzo_images_show_their_tree() {
    check(&["-comp", "lzo"]);
}

#[test]
fn small_blocks_show_their_tree() {
    check(&["-comp", "zstd", "-b", "4096"]);
}

#[test]
fn large_blocks_show_their_tree() {
    check(&["-comp", "gzip", "-b", "1M"]);
}

#[test]
fn images_without_fragments_show_their_tree() {
    check(&["-comp", "zstd", "-no-fragments", "-b", "8192"]);
}

#[test]
fn images_with_tails_in_fragments_show_their_tree() {
    check(&["-comp", "gzip", "-always-use-fragments", "-b", "16384"]);
}

#[test]
fn images_that_store_everything_uncompressed_show_their_tree() {
    check(&["-noI", "-noD", "-noF", "-noX"]);
}

#[test]
fn images_without_export_table_and_duplicate_check_show_their_tree() {
    check(&[
        "-comp",
        "zstd",
        "-no-exports",
        "-no-duplicates",
        "-no-xattrs",
    ]);
}

#[test]
fn directories_of_thousands_of_entries_are_complete() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..20_000 {
        File::create(tree.join(format!("entry-with-a-longish-name-{number}"))).unwrap();
    }
    fs::write(tree.join("x".repeat(255)), b"longest name").unwrap();
    let image = scratch.mksquashfs(&tree, "image", &["-comp", "zstd"]);
    let image = opened(&image);
    assert_same(&host_tree(&tree), &image_tree(&image).unwrap());
}

#[test]
fn more_owners_than_a_metadata_block_holds_are_kept() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    let mut pseudo = String::new();
    for number in 0..1100 {
        writeln!(
            pseudo,
            "f{number} f 644 {} {} true",
            number + 1000,
            number + 9000
        )
        .unwrap();
    }
    let definitions = scratch.path("pseudo");
    fs::write(&definitions, pseudo).unwrap();
    let image = scratch.mksquashfs(
        &tree,
        "image",
        &["-comp", "gzip", "-pf", definitions.to_str().unwrap()],
    );
    let image = opened(&image);
    for (name, node) in image.entries(ImageNode(0)) {
        let number: u32 = std::str::from_utf8(&name[1..]).unwrap().parse().unwrap();
        let attr = image.attr(node);
        assert_eq!((attr.uid, attr.gid), (number + 1000, number + 9000));
    }
    assert_eq!(image.node_count(), 1101);
}

#[test]
fn devices_are_shown_with_their_numbers() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    let definitions = scratch.path("pseudo");
    fs::write(&definitions, "null c 666 0 0 1 3\ndisk b 660 0 6 8 1\n").unwrap();
    let image = scratch.mksquashfs(&tree, "image", &["-pf", definitions.to_str().unwrap()]);
    let image = opened(&image);
    let kinds: Vec<_> = image
        .entries(ImageNode(0))
        .map(|(_, node)| image.attr(node).kind)
        .collect();
    assert_eq!(
        kinds,
        [
            Kind::BlockDevice { rdev: 0x801 },
            Kind::CharDevice { rdev: 0x103 },
        ]
    );
}

#[test]
fn appended_images_show_both_trees() {
    let scratch = Scratch::new();
    let (first, second) = (scratch.path("first"), scratch.path("second"));
    fs::create_dir_all(first.join("a/b")).unwrap();
    fs::write(first.join("a/b/file"), noise(5, 300_000)).unwrap();
    fs::create_dir(&second).unwrap();
    fs::write(second.join("more"), noise(6, 200_000)).unwrap();
    let image = scratch.mksquashfs(&first, "image", &["-comp", "zstd"]);
    let mut append = crate::support::tool("mksquashfs");
    append.arg(&second).arg(&image).arg("-no-progress");
    run(append);
    let image = opened(&image);
    let names: Vec<_> = image.entries(ImageNode(0)).map(|(name, _)| name).collect();
    assert_eq!(names, [&b"a"[..], b"more"]);
    let seen = image_tree(&image).unwrap();
    assert_eq!(seen[&b"a/b/file"[..]].what, What::File(noise(5, 300_000)));
    assert_eq!(seen[&b"more"[..]].what, What::File(noise(6, 200_000)));
}

/// Linux knows the number of lzma, but reads no images of it.
#[test]
fn images_of_compressors_that_are_not_supported_are_refused_by_name() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), b"text").unwrap();
    let image = scratch.mksquashfs(&tree, "image", &["-comp", "xz"]);
    let mut bytes = fs::read(&image).unwrap();
    for (number, name) in [(2, "lzma"), (7, "compressor-7")] {
        bytes[20] = number;
        fs::write(&image, &bytes).unwrap();
        let refused = verified(&image).unwrap_err().to_string();
        assert!(refused.contains(&format!("{name} images")), "{refused}");
        assert!(refused.contains("repack with zstd"), "{refused}");
    }
}

/// `xattrs.squashfs` holds `file` with `user.short` = `value` and `user.long` = 600
/// times `long`, `same` with the second of these, `link` with `trusted.other` = 0x00 0x01, `bare` with none; made by mksquashfs
/// 4.5.1 with `-noX -nopad` (here, because not every host's files can have attributes).
#[test]
fn extended_attributes_are_shown_with_their_whole_names() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    fs::write(&path, include_bytes!("xattrs.squashfs")).unwrap();
    let image = opened(&path);
    let of = |wanted: &str| -> Vec<(String, Vec<u8>)> {
        let mut entries = image.entries(ImageNode(0));
        let (_, node) = entries
            .find(|(name, _)| *name == wanted.as_bytes())
            .unwrap();
        let pair = |(name, value): (&[u8], &[u8])| {
            (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())
        };
        let mut attributes: Vec<_> = image.xattrs(node).map(pair).collect();
        attributes.sort();
        attributes
    };
    let expected = [
        ("user.long".to_owned(), b"long".repeat(600)),
        ("user.short".to_owned(), b"value".to_vec()),
    ];
    assert_eq!(of("file"), expected);
    assert_eq!(of("same"), expected[..1]);
    assert_eq!(of("link"), [("trusted.other".to_owned(), vec![0, 1])]);
    assert_eq!(of("bare"), []);
}

#[test]
fn an_image_without_a_compressor_shows_its_tree() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree);
    let path = scratch.mksquashfs(&tree, "image", &["-noI", "-noD", "-noF", "-noX"]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] = 0;
    fs::write(&path, bytes).unwrap();
    assert_same(&host_tree(&tree), &image_tree(&opened(&path)).unwrap());
}
