//! Packages of the released Piston written here: what becomes of them, and what is refused.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::*;
use crate::packages::make::plan::Item;

/// A tar.gz of files with their text; a link where the text begins with `-> `.
fn tar_gz(members: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_mtime(9);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        let bytes = if let Some(target) = text.strip_prefix("-> ") {
            old.linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_entry_type(EntryType::Symlink);
            ""
        } else {
            text
        };
        header.set_size(bytes.len().try_into().expect("a length"));
        header.set_cksum();
        tar.append(&header, bytes.as_bytes()).expect("written");
    }
    let tar = tar.into_inner().expect("written");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar).expect("packed");
    packed.finish().expect("packed")
}

const INFO: &str = r#"{"language": "gcc", "version": "10.2.0", "build_platform": "docker-debian",
    "dependencies": {"never": "looked at"}, "author": "Some <one>", "aliases": [],
    "limit_overrides": {"compile_timeout": 20000},
    "provides": [{"language": "c", "aliases": ["gcc"]}, {"language": "c++", "aliases": ["cpp"]}]}"#;

fn drafted(source: &str, wanted: Option<(&str, &str)>) -> Result<Draft, String> {
    let what = FromPistonV2 {
        source: source.to_owned(),
        wanted: wanted.map(|(name, range)| {
            (
                name.parse().expect("a name"),
                range.parse().expect("a range"),
            )
        }),
        base: "debian-base".parse().expect("a name"),
        shown: None,
    };
    let out = tempfile::tempdir().expect("a directory");
    let work = Work::new(out.path()).expect("a place");
    draft(&what, &work).map_err(|error| error.to_string())
}

/// Drafts what a file of these members gives.
fn of_members(members: &[(&str, &str)]) -> Result<Draft, String> {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("x.pkg.tar.gz");
    fs::write(&file, tar_gz(members)).expect("written");
    drafted(&file.display().to_string(), None)
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_package_stands_at_its_path_and_is_started_by_bash() {
    let draft = of_members(&[
        ("pkg-info.json", INFO),
        ("./run", "shift\n./a.out \"$@\"\n"),
        ("compile", "gcc *.c\n"),
        ("environment", "#!/bin/bash\nexport PATH=$PWD/bin:$PATH\n"),
        ("bin/gcc", "\u{7f}ELF123456789012\u{0}\u{0}>\u{0}"),
        ("bin/cc", "-> gcc"),
        ("pkg.tar.gz", "left over"),
    ])
    .expect("a draft");
    let description = &draft.description;
    assert_eq!(description.package.to_string(), "gcc-10.2.0");
    assert_eq!(description.platform, "x86_64");
    let home = "/piston/packages/gcc/10.2.0";
    let run = format!("/bin/bash {home}/run {{main}} {{args}}");
    assert_eq!(description.run, Some(Step::Command(words(&run))));
    let compile = format!("/bin/bash {home}/compile {{files}}");
    assert_eq!(description.compile, Some(Step::Command(words(&compile))));
    let kept: Vec<&str> = description.inherited.keys().map(String::as_str).collect();
    assert_eq!(
        kept,
        [
            "aliases",
            "language",
            "limit_overrides",
            "provides",
            "version"
        ]
    );
    assert_eq!(
        description.ranges.get("debian-base").map(String::as_str),
        Some("*")
    );
    assert!(description.environment.contains("$PWD/bin"));
    let files: Vec<String> = draft
        .plan
        .items()
        .filter(|(_, item)| **item != Item::Directory)
        .map(|(path, _)| path.replace(home, ""))
        .collect();
    let expected = [
        "/bin/cc",
        "/bin/gcc",
        "/compile",
        "/environment",
        "/pkg-info.json",
        "/run",
    ];
    assert_eq!(files, expected);
}

#[test]
fn what_an_old_server_noted_of_a_package_serves_as_its_environment() {
    let draft = of_members(&[
        (
            "pkg-info.json",
            r#"{"language": "lua", "version": "5.4.4"}"#,
        ),
        ("run", "lua"),
        (
            ".env",
            "PATH=/piston/packages/lua/5.4.4/bin:/bin\nPWD=/x\n_=/usr/bin/env\nA=it's\nb c\n",
        ),
    ])
    .expect("a draft");
    let lines = "export PATH='/piston/packages/lua/5.4.4/bin:/bin'\nexport A='it'\\''s'\n";
    assert_eq!(draft.description.environment, lines);
    assert_eq!(draft.notes.len(), 1, "{:?}", draft.notes);
    assert_eq!(draft.description.platform, "");
}

#[test]
fn what_is_no_such_package_is_refused_with_the_reason() {
    let info = ("pkg-info.json", INFO);
    let rows: [(&[(&str, &str)], &str); 8] = [
        (&[("run", "x")], "no package of the released Piston"),
        (
            &[("package.squashfs", "x"), ("run", "x")],
            "`piston package upload`",
        ),
        (&[info], "it holds no `run`"),
        (&[("pkg-info.json", "[]"), ("run", "x")], "no JSON object"),
        (
            &[
                (
                    "pkg-info.json",
                    r#"{"language": "../x", "version": "1.0.0"}"#,
                ),
                ("run", "x"),
            ],
            "language",
        ),
        (
            &[info, ("run", "x"), ("../../etc/x", "x")],
            "leads out of its tree",
        ),
        (&[info, ("run", "x"), ("/etc/x", "x")], "absolute"),
        (
            &[info, ("run", "x"), ("environment", "export A=$(id)")],
            "line 1",
        ),
    ];
    for (members, reason) in rows {
        let text = of_members(members)
            .err()
            .unwrap_or_else(|| panic!("{reason}"));
        assert!(text.contains(reason), "{reason}: {text}");
    }
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("secret");
    let packed = tar_gz(&[("pkg-info.json", INFO)]);
    for bytes in [b"root:secret:".as_slice(), &packed[..60]] {
        fs::write(&file, bytes).expect("written");
        let text = drafted(&file.display().to_string(), None).expect_err("no package");
        assert!(!text.contains("root:"), "{text}");
    }
}

#[test]
fn a_package_of_an_index_is_the_newest_in_the_range_with_the_indexs_sha256() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut index = String::new();
    for version in ["3.9.4", "3.10.0", "3.11.0"] {
        let info =
            format!(r#"{{"language": "python", "version": "{version}", "aliases": ["py"]}}"#);
        let file = format!("python-{version}.pkg.tar.gz");
        let bytes = tar_gz(&[("pkg-info.json", &info), ("run", "python3 \"$@\"")]);
        fs::write(folder.path().join(&file), &bytes).expect("written");
        let mut sha256 = hex::encode(Sha256::digest(&bytes));
        if version == "3.11.0" {
            sha256 = "0".repeat(64);
        }
        let place = folder.path().display();
        writeln!(index, "python,{version},{sha256},file://{place}/{file}").expect("written");
    }
    let file = folder.path().join("index");
    fs::write(&file, index).expect("written");
    let source = file.display().to_string();
    for (range, expected) in [("3.9", "3.9.4"), (">=3 <3.11", "3.10.0")] {
        let draft = drafted(&source, Some(("python", range))).expect(range);
        assert_eq!(
            draft.description.package.to_string(),
            format!("python-{expected}")
        );
    }
    for (wanted, reason) in [
        (Some(("python", "*")), "the sha256 of file:"),
        (
            Some(("python", "2")),
            "it has python 3.11.0, 3.10.0, 3.9.4, and",
        ),
        (
            Some(("ruby", "*")),
            "none of its 3 packages is called `ruby`",
        ),
        (None, "say which package"),
    ] {
        let text = drafted(&source, wanted)
            .err()
            .unwrap_or_else(|| panic!("{reason}"));
        assert!(text.contains(reason), "{reason}: {text}");
    }
}
