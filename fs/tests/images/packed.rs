//! Images that this crate writes show the tree that they were made of: to us, to `unsquashfs` and
//! to backhand; and the same tree always gives the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Cursor};
use std::path::Path;

use piston_fs::image::ImageNode;
use piston_fs::image::pack::{Compressor, Meta, PackError, Source, Tree};
use piston_fs::node::Kind;
use proptest::prelude::*;

use crate::corpus::noise;
use crate::support::{Listing, Scratch, Seen, What, host_tree, image_tree, opened, run, tool};

const META: Meta = Meta {
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime: 1_700_000_000,
};

fn bytes(tree: Tree, with: Compressor) -> Vec<u8> {
    let mut image = Cursor::new(Vec::new());
    let length = tree.write(&mut image, with).unwrap();
    let image = image.into_inner();
    assert_eq!(u64::try_from(image.len()).unwrap(), length);
    image
}

/// A tree with every case of the writer.
fn sample() -> Tree {
    let mut tree = Tree::new();
    let mut file = |path: &str, bytes: Vec<u8>| {
        tree.file(path, META, Source::Bytes(bytes)).unwrap();
    };
    file("/empty", Vec::new());
    file("/small", b"small".to_vec());
    file("/deep/er/small-too", b"small".to_vec());
    file("/block", noise(1, 128 << 10));
    file("/large", noise(2, 1_000_003));
    file("/deep/large-too", noise(2, 1_000_003));
    file("/text", b"text\n".repeat(200_000));
    let mut holes = vec![0; 1 << 20];
    holes[300_000] = 1;
    file("/holes", holes);
    file("/zeros", vec![0; 400_000]);
    for number in 0..3000 {
        file(
            &format!("/many/{number}-{}", "n".repeat(30)),
            noise(number, 90),
        );
    }
    let meta = Meta {
        mode: 0o1777,
        uid: 5,
        gid: 70_000,
        mtime: 7,
    };
    tree.directory("/tmp", meta).unwrap();
    tree.directory(
        "/deep",
        Meta {
            mode: 0o700,
            ..META
        },
    )
    .unwrap();
    tree.symlink("/link", META, "deep/er/small-too").unwrap();
    tree
}

/// The sample, and a link whose target is as long as Linux allows.
fn whole_sample() -> Tree {
    let mut tree = sample();
    tree.symlink("/long-link", META, "x".repeat(4095)).unwrap();
    tree
}

#[test]
fn a_tree_is_shown_as_it_was_described() {
    for with in [Compressor::Zstd(3), Compressor::Gzip(6)] {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        fs::write(&image, bytes(whole_sample(), with)).unwrap();
        let image = opened(&image);
        let seen = image_tree(&image).unwrap();
        assert_eq!(seen[&b"large"[..]].what, What::File(noise(2, 1_000_003)));
        assert_eq!(seen[&b"deep/large-too"[..]].what, seen[&b"large"[..]].what);
        assert_eq!(seen[&b"zeros"[..]].what, What::File(vec![0; 400_000]));
        assert_eq!(seen[&b"tmp"[..]].owner, (5, 70_000));
        assert_eq!(seen[&b"tmp"[..]].mode, 0o1777);
        assert_eq!(seen[&b"deep"[..]].mode, 0o700);
        assert_eq!(seen[&b"deep/er"[..]].mode, 0o755);
        assert_eq!(seen[&b""[..]].nlink, 5);
        assert_eq!(
            seen[&b"long-link"[..]].what,
            What::Symlink(vec![b'x'; 4095])
        );
        assert_eq!(seen.len(), 1 + 3 + 1 + 7 + 2 + 3000 + 2);
    }
}

#[test]
fn equal_files_are_stored_once() {
    let mut once = Tree::new();
    let mut twice = Tree::new();
    for (path, size) in [("/large", 700_000), ("/small", 100_000)] {
        let source = || Source::Bytes(noise(9, size));
        once.file(path, META, source()).unwrap();
        twice.file(path, META, source()).unwrap();
        twice.file(format!("/again{path}"), META, source()).unwrap();
    }
    let (once, twice) = (
        bytes(once, Compressor::Zstd(1)),
        bytes(twice, Compressor::Zstd(1)),
    );
    assert!(twice.len() < once.len() + 8192);
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let with = Compressor::Zstd(3);
    assert!(bytes(sample(), with) == bytes(sample(), with));
}

#[test]
fn unsquashfs_unpacks_what_is_written() {
    for with in [Compressor::Zstd(3), Compressor::Gzip(6)] {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        fs::write(&image, bytes(whole_sample(), with)).unwrap();
        let unpacked = scratch.path("unpacked");
        let mut unsquashfs = tool("unsquashfs");
        unsquashfs.args(["-no-progress", "-strict-errors", "-d"]);
        unsquashfs.arg(&unpacked).arg(&image);
        run(unsquashfs);
        let expected = image_tree(&opened(&image)).unwrap();
        let found = host_tree(&unpacked);
        let what = |tree: &Listing| -> BTreeMap<Vec<u8>, What> {
            let of = |(path, seen): (&Vec<u8>, &Seen)| (path.clone(), seen.what.clone());
            tree.iter().map(of).collect()
        };
        assert!(what(&expected) == what(&found));
    }
}

#[test]
fn backhand_reads_what_is_written() {
    // It knows no link targets of more than 255 bytes.
    let image = bytes(sample(), Compressor::Zstd(3));
    let reader = BufReader::new(Cursor::new(image));
    let reader = backhand::FilesystemReader::from_reader(reader).unwrap();
    assert_eq!(reader.files().count(), 3015);
}

#[test]
fn files_of_the_host_are_read_when_the_image_is_written() {
    let scratch = Scratch::new();
    let host = scratch.path("host");
    fs::write(&host, noise(3, 333_333)).unwrap();
    let mut tree = Tree::new();
    tree.file("/file", META, Source::Path(host.clone()))
        .unwrap();
    tree.file("/again", META, Source::Path(host)).unwrap();
    let image = scratch.path("image");
    let out = fs::File::create(&image).unwrap();
    tree.write(out, Compressor::Zstd(1)).unwrap();
    let seen = image_tree(&opened(&image)).unwrap();
    assert_eq!(seen[&b"file"[..]].what, What::File(noise(3, 333_333)));
    assert_eq!(seen[&b"again"[..]].what, seen[&b"file"[..]].what);
}

#[test]
fn a_missing_host_file_is_an_error_that_names_it() {
    let mut tree = Tree::new();
    let missing = Path::new("/nonexistent/file").to_path_buf();
    tree.file("/file", META, Source::Path(missing)).unwrap();
    let error = tree.write(Cursor::new(Vec::new()), Compressor::Zstd(1));
    let text = error.unwrap_err().to_string();
    assert!(text.contains("/nonexistent/file"), "{text}");
}

#[test]
fn what_is_no_regular_file_of_the_host_is_not_opened() {
    let mut tree = Tree::new();
    let device = Path::new("/dev/zero").to_path_buf();
    tree.file("/file", META, Source::Path(device)).unwrap();
    let error = tree.write(Cursor::new(Vec::new()), Compressor::Zstd(1));
    assert!(matches!(error, Err(PackError::NotAFile { .. })));
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let mut tree = Tree::new();
    let source = || Source::Bytes(Vec::new());
    tree.file("/file", META, source()).unwrap();
    for path in [
        "relative",
        "",
        "/",
        "/a//b",
        "/a/",
        "/../a",
        "/a/./b",
        "/nul\0",
        "/file",
        "/file/below",
    ] {
        let refused = tree.file(path, META, source());
        assert!(matches!(refused, Err(PackError::Path { .. })), "{path:?}");
    }
    assert!(tree.symlink("/link", META, "").is_err());
    assert!(tree.symlink("/link", META, "x".repeat(4096)).is_err());
    assert!(tree.directory("/file", META).is_err());
    assert!(
        tree.file(format!("/{}", "n".repeat(256)), META, source())
            .is_err()
    );
    assert!(!tree.contains("/link") && tree.contains("/file") && tree.contains("/"));
}

#[test]
fn levels_that_a_compressor_does_not_have_are_refused() {
    for with in [
        Compressor::Zstd(0),
        Compressor::Zstd(23),
        Compressor::Gzip(10),
    ] {
        let refused = Tree::new().write(Cursor::new(Vec::new()), with);
        assert!(matches!(refused, Err(PackError::Level { .. })), "{with:?}");
    }
}

/// What a random tree is made of: by path, contents or a link's target.
#[derive(Debug, Clone)]
enum Made {
    Directory(u16),
    File(u16, Vec<u8>),
    Symlink(String),
}

fn made() -> impl Strategy<Value = Made> {
    let size = prop_oneof![0..300_usize, 0..300_000_usize, Just(128 << 10)];
    let contents = (any::<u64>(), size, any::<bool>()).prop_map(|(seed, size, zeros)| {
        if zeros {
            vec![0; size]
        } else {
            noise(seed, size)
        }
    });
    prop_oneof![
        (0..0o10000_u16).prop_map(Made::Directory),
        (0..0o10000_u16, contents).prop_map(|(mode, bytes)| Made::File(mode, bytes)),
        "[a-z./é]{1,300}".prop_map(Made::Symlink),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_that_is_packed_is_shown_the_same(
        entries in proptest::collection::btree_map("(/[a-cé]{1,3}){1,4}", made(), 0..40),
        gzip in any::<bool>(),
    ) {
        let mut tree = Tree::new();
        let mut expected = BTreeMap::new();
        for (path, made) in entries {
            let added = match &made {
                Made::Directory(mode) => tree.directory(&path, Meta { mode: *mode, ..META }),
                Made::File(mode, bytes) => {
                    tree.file(&path, Meta { mode: *mode, ..META }, Source::Bytes(bytes.clone()))
                }
                Made::Symlink(target) => tree.symlink(&path, META, target),
            };
            if added.is_ok() {
                expected.insert(path.as_bytes()[1..].to_vec(), made);
            }
        }
        let with = if gzip { Compressor::Gzip(1) } else { Compressor::Zstd(1) };
        let scratch = Scratch::new();
        let image = scratch.path("image");
        fs::write(&image, bytes(tree, with)).unwrap();
        let image = opened(&image);
        let seen = image_tree(&image).unwrap();
        for (path, made) in expected {
            let found = &seen[&path];
            match made {
                Made::Directory(mode) => {
                    prop_assert_eq!((&found.what, found.mode), (&What::Directory, mode));
                }
                Made::File(mode, bytes) => {
                    prop_assert!(found.what == What::File(bytes) && found.mode == mode);
                }
                Made::Symlink(target) => {
                    prop_assert_eq!(&found.what, &What::Symlink(target.into_bytes()));
                }
            }
        }
    }
}

#[test]
fn reading_past_the_end_of_a_file_gives_no_extent() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    fs::write(&image, bytes(sample(), Compressor::Zstd(1))).unwrap();
    let image = opened(&image);
    for node in (0..image.node_count()).map(ImageNode) {
        let Kind::File { size } = image.attr(node).kind else {
            assert_eq!(image.extent(node, 0), None);
            continue;
        };
        assert_eq!(image.extent(node, size), None);
        assert_eq!(image.extent(node, u64::MAX), None);
        assert_eq!(
            image.extent(node, size.saturating_sub(1)).is_some(),
            size > 0
        );
    }
}

#[test]
fn threads_read_one_image_at_the_same_time() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    fs::write(&path, bytes(sample(), Compressor::Gzip(1))).unwrap();
    let image = opened(&path);
    let expected = image_tree(&image).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(image_tree(&image).unwrap() == expected));
        }
    });
}
