//! Package files written here byte by byte: good ones, and what is refused of others.

use std::io::Write as _;

use super::*;

/// An entry of a tar: kind, path, link target, bytes.
type Entered<'a> = (EntryType, &'a [u8], &'a str, &'a [u8]);
/// A member of an ar archive: name and bytes.
type Named<'a> = (&'a str, &'a [u8]);

/// A tar of entries.
fn tar_of(entries: &[Entered<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, link, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Regular {
            0o4755
        } else {
            0o755
        });
        header.set_mtime(77);
        header.set_size(bytes.len().try_into().expect("a length"));
        // The crate refuses what is tried here, so the names are written past it.
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).expect("written");
    }
    tar.into_inner().expect("written")
}

/// A package file of an ar archive's members.
fn ar_of(members: &[Named<'_>]) -> Vec<u8> {
    let mut ar = MAGIC.to_vec();
    for (name, bytes) in members {
        let size = bytes.len();
        writeln!(
            ar,
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`",
            0, 0, 0, 100_644
        )
        .expect("written");
        ar.extend_from_slice(bytes);
        if size % 2 == 1 {
            ar.push(b'\n');
        }
    }
    ar
}

/// A package file with a script and a tree.
fn deb_of(postinst: &str, tree: &[Entered<'_>]) -> Vec<u8> {
    let control = tar_of(&[(EntryType::Regular, b"./postinst", "", postinst.as_bytes())]);
    let control = zstd::stream::encode_all(&control[..], 1).expect("packed");
    let mut data = liblzma::write::XzEncoder::new(Vec::new(), 1);
    data.write_all(&tar_of(tree)).expect("packed");
    let data = data.finish().expect("packed");
    ar_of(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.zst", &control),
        ("data.tar.xz", &data),
    ])
}

fn read(bytes: &[u8]) -> Result<(Contents, tempfile::TempDir), String> {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("x.deb");
    std::fs::write(&file, bytes).expect("written");
    let spool_folder = folder.path().join("spool");
    std::fs::create_dir(&spool_folder).expect("a directory");
    let mut spool = Spool::new(spool_folder);
    let contents = unpack("lua", &file, &mut spool, &|path| {
        !path.starts_with("/usr/share/man")
    });
    // Whatever the archive holds, nothing appears anywhere but in the spool.
    let beside: Vec<_> = std::fs::read_dir(folder.path())
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    Ok((contents.map_err(|error| error.to_string())?, folder))
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn a_package_is_unpacked_into_numbered_files() {
    let long = format!("./usr/share/lua/{}", "n".repeat(200));
    let deb = deb_of(
        "#!/bin/sh\necho hi\n",
        &[
            (EntryType::Directory, b"./", "", b""),
            (EntryType::Directory, b"./usr/bin/", "", b""),
            (FILE, b"./usr/bin/lua", "", b"program"),
            (EntryType::Symlink, b"./usr/bin/lua5", "lua", b""),
            (EntryType::Link, b"./usr/bin/again", "./usr/bin/lua", b""),
            (FILE, b"./usr/share/man/lua.1", "", b"page"),
            (
                EntryType::GNULongName,
                b"././@LongLink",
                "",
                long.as_bytes(),
            ),
            (FILE, b"./usr/share/lua/cut", "", b"x"),
        ],
    );
    let (contents, _folder) = read(&deb).expect("a good package");
    assert_eq!(contents.postinst.as_deref(), Some("#!/bin/sh\necho hi\n"));
    let paths: Vec<&str> = contents.entries.iter().map(|entry| &*entry.path).collect();
    assert_eq!(
        paths,
        [
            "/usr/bin",
            "/usr/bin/lua",
            "/usr/bin/lua5",
            "/usr/bin/again",
            &long[1..]
        ]
    );
    let Kind::File {
        content,
        executable,
        mtime,
    } = &contents.entries[1].kind
    else {
        panic!("{:?}", contents.entries[1]);
    };
    assert_eq!((*executable, *mtime), (true, 77));
    assert_eq!(std::fs::read(content).expect("kept"), b"program");
    assert_eq!(contents.entries[2].kind, Kind::Symlink("lua".to_owned()));
    assert_eq!(
        contents.entries[3].kind,
        Kind::Hardlink("/usr/bin/lua".to_owned())
    );
}

#[test]
fn an_entry_that_would_not_stay_in_its_tree_is_refused_by_name() {
    let rows: [(EntryType, &[u8], &str, &str); 9] = [
        (FILE, b"../evil", "", "leads out of its tree"),
        (FILE, b"./usr/../../evil", "", "leads out of its tree"),
        (FILE, b"/etc/cron.d/evil", "", "absolute"),
        (FILE, b"./usr/\xff\xfe", "", "no text"),
        (
            EntryType::Link,
            b"./usr/x",
            "../../etc/shadow",
            "leads out of its tree",
        ),
        (EntryType::Link, b"./usr/x", "/etc/shadow", "absolute"),
        (EntryType::Symlink, b"./usr/x", "", "leads nowhere"),
        (EntryType::Char, b"./dev/mem", "", "device"),
        (EntryType::Fifo, b"./run/pipe", "", "device"),
    ];
    for (kind, path, link, reason) in rows {
        let text = read(&deb_of("", &[(kind, path, link, b"")])).expect_err(reason);
        let shown = String::from_utf8_lossy(path);
        assert!(
            text.contains("lua") && text.contains(&*shown) && text.contains(reason),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_package_file_is_refused() {
    let good = deb_of("", &[(FILE, b"./a", "", &[7; 5000])]);
    for cut in [0, 4, 20, 70, 80, good.len() / 2, good.len() - 20] {
        read(&good[..cut]).expect_err("cut off");
    }
    let rows: [(&[Named<'_>], &str); 4] = [
        (&[("control.tar", b"")], "debian-binary"),
        (&[("debian-binary", b"3.0\n")], "format"),
        (&[("debian-binary", b"2.0\n")], "data.tar"),
        (
            &[("debian-binary", b"2.0\n"), ("data.tar.xz", b"not xz")],
            "cannot read",
        ),
    ];
    for (members, reason) in rows {
        let text = read(&ar_of(members)).expect_err(reason);
        assert!(text.contains("lua") && text.contains(reason), "{text}");
    }
    let mut endless = ar_of(&[("debian-binary", b"2.0\n"), ("data.tar", b"")]);
    let size = endless.len() - 12;
    endless[size..size + 10].copy_from_slice(b"9999999999");
    read(&endless).expect_err("a size beyond the file");
}
