//! Wheels as builders write them, and as attackers do.

use std::io::{Cursor, Write as _};

use sha2::{Digest as _, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

const NAME: &str = "odd-1.0-py3-none-any.whl";
const WHEEL: &str = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n";

/// A file of a wheel: its name, its bytes, whether it is executable.
type Member<'a> = (&'a str, &'a [u8], bool);

fn record(members: &[Member<'_>]) -> String {
    let line = |(name, bytes, _): &Member<'_>| {
        format!(
            "{name},sha256={},{}\n",
            URL_SAFE_NO_PAD.encode(Sha256::digest(bytes)),
            bytes.len()
        )
    };
    let lines: String = members.iter().map(line).collect();
    format!("{lines}odd-1.0.dist-info/RECORD,,\n")
}

/// A wheel of these files and this RECORD.
fn packed(members: &[Member<'_>], record: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let own = [("odd-1.0.dist-info/RECORD", record.as_bytes(), false)];
    for (name, bytes, executable) in members.iter().chain(&own) {
        let mode = if *executable { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default().unix_permissions(mode);
        zip.start_file(*name, options).expect("a file");
        zip.write_all(bytes).expect("written");
    }
    zip.finish().expect("a zip").into_inner()
}

fn with_metadata<'a>(members: &[Member<'a>]) -> Vec<Member<'a>> {
    let metadata: &[u8] = b"Metadata-Version: 2.1\nName: Odd\nVersion: 1.0\nRequires-Dist: even\n";
    let own: [Member<'a>; 2] = [
        ("odd-1.0.dist-info/METADATA", metadata, false),
        ("odd-1.0.dist-info/WHEEL", WHEEL.as_bytes(), false),
    ];
    [members, &own].concat()
}

fn python() -> Python {
    Python {
        minor: 11,
        version: "3.11.2".to_owned(),
        site: "/usr/local/lib/python3.11/dist-packages".to_owned(),
        prefix: "/usr/local".to_owned(),
        interpreter: "/usr/bin/python3.11".to_owned(),
        glibc: Some(36),
        libraries: BTreeMap::new(),
    }
}

/// Lays a wheel out: paths with their bytes (of ours) or modes, and notes.
fn unpacked(bytes: &[u8]) -> Result<(Plan, Vec<String>), String> {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("wheel");
    std::fs::write(&path, bytes).expect("written");
    let spool = folder.path().join("spool");
    std::fs::create_dir(&spool).expect("a directory");
    let (python, mut plan) = (python(), Plan::default());
    let mut layout = Layout::new(&python, &mut plan, Spool::new(spool));
    let done = Wheel::open(&path, NAME).and_then(|mut wheel| {
        let metadata = wheel.metadata()?;
        assert_eq!(metadata.requires.len(), 1);
        wheel.unpack(&mut layout)
    });
    let notes = layout.notes;
    done.map(|()| (plan, notes))
        .map_err(|error| error.to_string())
}

fn text(plan: &Plan, path: &str) -> String {
    match plan.item(path) {
        Some(Item::File {
            content: Content::Bytes(bytes),
            executable: true,
        }) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn a_wheel_is_laid_out_as_its_python_looks_for_it() {
    let entry_points: &[u8] =
        b"[gui_scripts]\nno = odd:no\n[console_scripts]\nodd = odd.cli:main.run [x]\n";
    let members = with_metadata(&[
        ("odd/__init__.py", b"x = 1\n", false),
        (
            "odd/native.cpython-311-x86_64-linux-gnu.so",
            b"\x7fELF",
            true,
        ),
        ("odd-1.0.data/purelib/more.py", b"", false),
        ("odd-1.0.data/scripts/tool", b"#!python\nprint(1)\n", true),
        ("odd-1.0.data/data/share/odd/x.txt", b"x", false),
        ("odd-1.0.data/headers/odd.h", b"h", false),
        ("odd-1.0.dist-info/entry_points.txt", entry_points, false),
    ]);
    let (plan, notes) = unpacked(&packed(&members, &record(&members))).expect("a good wheel");
    assert!(notes.is_empty(), "{notes:?}");
    let site = "/usr/local/lib/python3.11/dist-packages";
    for (path, is_executable) in [
        (format!("{site}/odd/__init__.py"), false),
        (
            format!("{site}/odd/native.cpython-311-x86_64-linux-gnu.so"),
            true,
        ),
        (format!("{site}/more.py"), false),
        (format!("{site}/odd-1.0.dist-info/METADATA"), false),
        (format!("{site}/odd-1.0.dist-info/RECORD"), false),
        ("/usr/local/share/odd/x.txt".to_owned(), false),
        ("/usr/local/include/python3.11/odd/odd.h".to_owned(), false),
    ] {
        let item = plan.item(&path);
        let fits =
            matches!(item, Some(Item::File { executable, .. }) if *executable == is_executable);
        assert!(fits, "{path}: {item:?}");
    }
    assert_eq!(
        text(&plan, "/usr/local/bin/tool"),
        "#!/usr/bin/python3.11\nprint(1)\n"
    );
    assert_eq!(
        text(&plan, "/usr/local/bin/odd"),
        "#!/usr/bin/python3.11\nimport sys\nfrom odd.cli import main\nsys.exit(main.run())\n"
    );
    assert!(!plan.contains("/usr/local/bin/no"));
    assert_eq!(plan.newest(), TIME);
}

#[test]
fn files_that_are_not_as_recorded_are_refused_by_name() {
    let members = with_metadata(&[("odd.py", b"x = 1\n", false), ("two.py", b"", false)]);
    let good = record(&members);
    let other = record(&with_metadata(&[
        ("odd.py", b"x = 2\n", false),
        ("two.py", b"", false),
    ]));
    for (record, name, reason) in [
        (
            good.replace("two.py", "three.py"),
            "two.py",
            "not in RECORD",
        ),
        (
            format!("{good}more.py,sha256=x,1\n"),
            "more.py",
            "not there",
        ),
        (format!("{good}two.py,,\n"), "two.py", "twice"),
        (other, "odd.py", "not the sha256"),
        (good.replace("sha256=", "md5="), "METADATA", "not in RECORD"),
        (String::new(), "METADATA", "not in RECORD"),
    ] {
        let error = unpacked(&packed(&members, &record)).expect_err(reason);
        assert!(
            error.contains(NAME) && error.contains(name) && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn names_that_would_leave_their_place_are_refused() {
    for (name, reason) in [
        ("../odd.py", ".."),
        ("odd/../../x.py", ".."),
        ("/etc/passwd", "absolute"),
        ("odd//x.py", "nothing"),
        ("odd\\x.py", "backslash"),
        ("odd/./x.py", "`.`"),
        ("odd-1.0.data/scripts/../../../../bin/sh", ".."),
        ("odd-1.0.data/evil/x", "unknown kind"),
        ("odd-1.0.data/scripts", "no name"),
        ("odd-1.0.dist-info/METADATA/x", "lies in a file"),
        (&"x".repeat(256), "too long"),
        ("other-1.0.dist-info/METADATA", "one .dist-info"),
    ] {
        let members = with_metadata(&[(name, b"x", false)]);
        let error = unpacked(&packed(&members, &record(&members))).expect_err(name);
        assert!(
            error.contains(NAME) && error.contains(reason),
            "{name}: {error}"
        );
    }
}

#[test]
fn symlinks_and_doubled_names_are_refused() {
    let members = with_metadata(&[("odd.py", b"", false)]);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, _) in &members {
        zip.start_file(*name, SimpleFileOptions::default())
            .expect("a file");
        zip.write_all(bytes).expect("written");
    }
    let link = SimpleFileOptions::default();
    zip.add_symlink("link.py", "/etc/passwd", link)
        .expect("a link");
    let bytes = zip.finish().expect("a zip").into_inner();
    let error = unpacked(&bytes).expect_err("a symlink");
    assert!(
        error.contains("link.py") && error.contains("symlink"),
        "{error}"
    );

    // No writer makes this: two names of one length become the same.
    let members = with_metadata(&[("odd.py", b"1", false), ("0dd.py", b"2", false)]);
    let mut bytes = packed(&members, &record(&members));
    while let Some(at) = bytes.windows(6).position(|part| part == b"0dd.py") {
        bytes[at] = b'o';
    }
    let error = unpacked(&bytes).expect_err("two of one name");
    assert!(error.contains("two entries"), "{error}");
}

#[test]
fn what_is_longer_than_it_says_is_refused() {
    let bomb = vec![0; 1 << 20];
    let members = with_metadata(&[("bomb.bin", &bomb, false)]);
    let mut bytes = packed(&members, &record(&members));
    // Both of its headers say that it has one byte.
    let length = u32::try_from(bomb.len()).expect("a length").to_le_bytes();
    while let Some(at) = bytes.windows(4).position(|part| part == length) {
        bytes[at..at + 4].copy_from_slice(&1_u32.to_le_bytes());
    }
    let error = unpacked(&bytes).expect_err("a bomb");
    assert!(error.contains(NAME), "{error}");
}

#[test]
fn what_is_no_wheel_is_refused() {
    let members = [("odd.py", &b""[..], false)];
    for (bytes, reason) in [
        (Vec::new(), "can't be read"),
        (b"PK".repeat(100), "can't be read"),
        (packed(&members, ""), "metadata has no name"),
        (
            ZipWriter::new(Cursor::new(Vec::new()))
                .finish()
                .expect("a zip")
                .into_inner(),
            ".dist-info",
        ),
    ] {
        let error = unpacked(&bytes).expect_err(reason);
        assert!(error.contains(NAME) && error.contains(reason), "{error}");
    }
    let old = [
        (
            "odd-1.0.dist-info/METADATA",
            &b"Name: odd\nVersion: 1.0\nRequires-Dist: even\n"[..],
            false,
        ),
        ("odd-1.0.dist-info/WHEEL", b"Wheel-Version: 2.0\n", false),
    ];
    let error = unpacked(&packed(&old, &record(&old))).expect_err("another format");
    assert!(error.contains("1.x"), "{error}");
}
