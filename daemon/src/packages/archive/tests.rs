//! Package files that are read as written, and the ones that are refused.

use proptest::prelude::*;

use flate2::Compression;

use super::write::append;
use super::*;
use crate::packages::files;

const JSON: &[u8] = br#"{"language":"python","version":"3.11.2"}"#;

/// A tar of regular members, gzipped, as a foreign tool would write it.
fn foreign(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(length(bytes));
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Reads bytes as a package file.
fn read_bytes(bytes: &[u8]) -> Result<Contents, ArchiveError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.pkg.tar.gz");
    std::fs::write(&file, bytes).unwrap();
    let into = dir.path().join("into");
    std::fs::create_dir(&into).unwrap();
    read(&file, &into)
}

fn refusal(bytes: &[u8]) -> String {
    read_bytes(bytes).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read_back_and_twice_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::write(&image, vec![7; 100_000]).unwrap();
    let scripts: [(&str, u32, &[u8]); 2] = [
        (RUN, 0o755, b"#!/bin/sh\n"),
        (ENVIRONMENT, 0o644, b"export A=b\n"),
    ];
    let out = dir.path().join("a.pkg.tar.gz");
    write(&out, JSON, &image, &scripts).unwrap();
    let again = dir.path().join("b.pkg.tar.gz");
    write(&again, JSON, &image, &scripts).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&again).unwrap());

    let into = dir.path().join("into");
    std::fs::create_dir(&into).unwrap();
    let contents = read(&out, &into).unwrap();
    assert_eq!(contents.info.package.to_string(), "python-3.11.2");
    assert_eq!(contents.image_bytes, 100_000);
    assert_eq!(std::fs::read(&contents.image).unwrap(), vec![7; 100_000]);
    assert_eq!(contents.image_digest, files::digest(&image).unwrap().0);
    assert_eq!(contents.scripts.run.unwrap(), b"#!/bin/sh\n");
    assert_eq!(contents.scripts.compile, None);
    assert_eq!(contents.scripts.environment.unwrap(), b"export A=b\n");
}

#[test]
fn a_script_of_another_name_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::write(&image, b"x").unwrap();
    let out = dir.path().join("a.pkg.tar.gz");
    assert!(write(&out, JSON, &image, &[("evil", 0o755, b"")]).is_err());
    assert!(!out.exists(), "nothing half-written stays");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn members_may_have_the_prefix_that_tar_of_a_directory_gives() {
    let contents = read_bytes(&foreign(&[
        ("./pkg-info.json", JSON),
        ("./package.squashfs", b"i"),
    ]));
    assert_eq!(contents.unwrap().image_bytes, 1);
}

#[test]
fn a_python_tarfile_with_harmless_extended_headers_is_read() {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("mtime", b"1.5".as_slice())])
        .unwrap();
    for (name, bytes) in [(INFO, JSON), (IMAGE, b"image".as_slice())] {
        append(&mut tar, name, 0o644, length(bytes), bytes).unwrap();
    }
    read_bytes(&gzip(&tar.into_inner().unwrap())).unwrap();
}

#[test]
fn extended_headers_that_rename_a_member_are_refused() {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("path", b"../../etc/passwd".as_slice())])
        .unwrap();
    append(&mut tar, INFO, 0o644, length(JSON), JSON).unwrap();
    let text = refusal(&gzip(&tar.into_inner().unwrap()));
    assert!(text.contains("redefines `path`"), "{text}");
}

#[test]
fn what_is_missing_twice_or_foreign_is_named() {
    for (members, expected) in [
        (vec![(INFO, JSON)], "it holds no package.squashfs"),
        (vec![(IMAGE, b"i".as_slice())], "it holds no pkg-info.json"),
        (
            vec![(INFO, JSON), (INFO, JSON)],
            "`pkg-info.json` is there twice",
        ),
        (
            vec![(IMAGE, b"i".as_slice()), (IMAGE, b"i")],
            "`package.squashfs` is there twice",
        ),
        (
            vec![(RUN, b"".as_slice()), (RUN, b"")],
            "`run` is there twice",
        ),
        (vec![("bin/python", b"".as_slice())], "released Piston"),
        (vec![("sub/run", b"".as_slice())], "`sub/run` is not one of"),
    ] {
        let text = refusal(&foreign(&members));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn links_and_devices_are_refused() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_path(IMAGE).unwrap();
        header.set_entry_type(kind);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append(&header, io::empty()).unwrap();
        let text = refusal(&gzip(&tar.into_inner().unwrap()));
        assert!(text.contains("`package.squashfs` is"), "{text}");
    }
}

#[test]
fn an_oversize_metadata_member_is_refused_unread() {
    let big = vec![b' '; 2 << 20];
    let text = refusal(&foreign(&[(INFO, &big)]));
    assert!(text.contains("are the most"), "{text}");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = foreign(&[(INFO, JSON), (IMAGE, &[9; 5000]), (RUN, b"#!/bin/sh")]);
    read_bytes(&whole).unwrap();
    for cut in (0..whole.len()).step_by(7) {
        assert!(read_bytes(&whole[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_is_refused_or_harmless() {
    let whole = foreign(&[(INFO, JSON), (IMAGE, &[9; 5000])]);
    // The gzip header's time and flags do not matter to the contents.
    for at in 10..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        if let Ok(contents) = read_bytes(&bytes) {
            assert_eq!(contents.image_bytes, 5000, "flipped at {at}");
        }
    }
}

#[test]
fn the_index_writer_sees_the_sum_of_the_members() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.pkg.tar.gz");
    std::fs::write(&file, foreign(&[(INFO, JSON), (IMAGE, &[1; 300])])).unwrap();
    let (info, size) = read_info(&file).unwrap();
    assert_eq!(info.package.to_string(), "python-3.11.2");
    assert_eq!(size, 300 + length(JSON));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        drop(read_bytes(&bytes));
        drop(read_bytes(&gzip(&bytes)));
    }
}
