//! Indexes of both forms, what is left out of them, and the writer.

use proptest::prelude::*;

use super::*;
use crate::packages::archive;

const SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn checksum(entry: &Entry) -> &Checksum {
    match &entry.source {
        Source::File { checksum, .. } => checksum,
        Source::Recipe(recipe) => panic!("made by {recipe}"),
    }
}

fn yaml(entries: &str) -> Index {
    let text =
        format!("schema: ppman-repo-1\nbaseurl: https://example.org/p/\npackages:\n{entries}");
    Index::parse(text.as_bytes()).unwrap()
}

#[test]
fn an_entry_of_ppman_is_read_with_everything() {
    let index = yaml(&format!(
        "- author: A B <a@b>
  language: python
  version: 3.11.2
  checksums:
    md5: 900150983cd24fb0d6963f7d28e17f72
    sha256: {SHA}
  dependencies:
    base: 12
    ssl: '>=1 <2'
  size: 123456
  compressed_size: 4567
  buildfile: https://example.org/build
  download: python-3.11.2.pkg.tar.gz
  signature: |
    -----BEGIN PGP SIGNATURE-----
  some_future_key: {{a: [1, 2]}}
"
    ));
    assert_eq!(index.warnings, Vec::<String>::new());
    assert_eq!(index.baseurl.as_deref(), Some("https://example.org/p/"));
    let entry = index.entries.values().next().unwrap();
    assert_eq!(entry.package.to_string(), "python-3.11.2");
    assert_eq!(checksum(entry).hex(), SHA);
    assert_eq!((entry.size, entry.compressed_size), (123_456, Some(4567)));
    assert!(entry.dependencies[&"base".parse().unwrap()].matches(&"12.5.0".parse().unwrap()));
    assert_eq!(entry.dependency_texts["ssl"], ">=1 <2");
}

#[test]
fn only_our_own_index_names_recipes() {
    let text = "schema: ppman-repo-1\npackages:\n- {language: lua, version: 5.4.4, download: 'recipe:lua', built_from: [lua5.4]}\n";
    let strangers = Index::parse(text.as_bytes()).unwrap();
    assert!(strangers.entries.is_empty());
    assert!(
        strangers.warnings[0].contains("no checksum"),
        "{strangers:?}"
    );
    let ours = Index::of_recipes(text).unwrap();
    let entry = ours.entries.values().next().unwrap();
    assert_eq!(entry.source, Source::Recipe("lua".to_owned()));
    assert_eq!(entry.built_from, ["lua5.4"]);
}

#[test]
fn the_strongest_checksum_counts_and_weak_ones_alone_do_not() {
    let strong = "ab".repeat(64);
    for (checksums, expected) in [
        (format!("{{sha256: {SHA}, sha512: {strong}}}"), Ok("sha512")),
        (format!("{{SHA256: {}}}", SHA.to_uppercase()), Ok("sha256")),
        (
            "{md5: 900150983cd24fb0d6963f7d28e17f72, sha1: ab}".to_owned(),
            Err("can be forged"),
        ),
        ("{}".to_owned(), Err("no checksum")),
        ("{sha256: abc}".to_owned(), Err("not 64 hex digits")),
        (
            format!("{{sha512: abc, sha256: {SHA}}}"),
            Err("not 128 hex digits"),
        ),
    ] {
        let index = yaml(&format!(
            "- {{language: a, version: 1.0.0, download: x, checksums: {checksums}}}\n"
        ));
        match expected {
            Ok(algorithm) => {
                let entry = index.entries.values().next().unwrap();
                assert_eq!(checksum(entry).algorithm(), algorithm);
            }
            Err(reason) => assert!(index.warnings[0].contains(reason), "{:?}", index.warnings),
        }
    }
}

#[test]
fn a_bad_entry_does_not_take_the_others_with_it() {
    let good = format!("download: x, checksums: {{sha256: {SHA}}}");
    let index = yaml(&format!(
        "- {{language: ../etc, version: 1.0.0, {good}}}
- {{language: a, version: latest, {good}}}
- {{language: a, version: 1.0.0, size: big, {good}}}
- {{language: a, version: 1.0.0, dependencies: {{b: '>>1'}}, {good}}}
- {{language: a, version: 1.0.0, checksums: {{sha256: {SHA}}}}}
- {{version: 1.0.0, {good}}}
- {{language: a, version: 1.0.0, {good}}}
- {{language: a, version: 1.0.0, {good}}}
"
    ));
    assert_eq!(index.entries.len(), 1);
    assert_eq!(index.warnings.len(), 7, "{:#?}", index.warnings);
    assert!(index.warnings[6].contains("listed twice"));
}

#[test]
fn what_is_no_index_is_refused_with_a_reason() {
    for (text, expected) in [
        ("", "it is empty"),
        ("  \n\n", "it is empty"),
        ("<html><body>404</body></html>", "refused"),
        (
            "schema: ppman-repo-9\npackages: []",
            "schema `ppman-repo-9`",
        ),
        ("packages: []", "schema"),
        ("schema: ppman-repo-1\npackages: 5", "refused"),
    ] {
        let error = Index::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    Index::parse(&[0xff, 0xfe]).unwrap_err();
}

#[test]
fn an_index_without_packages_is_an_index() {
    let index = Index::parse(b"schema: ppman-repo-1\npackages: []\n").unwrap();
    assert!(index.entries.is_empty() && index.warnings.is_empty());
}

#[test]
fn an_alias_bomb_is_refused_at_once() {
    let mut text = "schema: ppman-repo-1\na: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (from, to) in ('a'..='p').zip('b'..='q') {
        let line = format!("{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from}]\n");
        text.push_str(&line);
    }
    text.push_str("packages: []\n");
    let started = std::time::Instant::now();
    Index::parse(text.as_bytes()).unwrap_err();
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let text = format!("schema: ppman-repo-1\nx: {}", "[".repeat(200_000));
    Index::parse(text.as_bytes()).unwrap_err();
}

#[test]
fn the_released_form_is_csv() {
    let text = format!(
        "python,3.10.0,{SHA},https://example.org/python-3.10.0.pkg.tar.gz\nbad line\nruby,3.0.1,{SHA},ruby.tar.gz\n"
    );
    let index = Index::parse(text.as_bytes()).unwrap();
    let names: Vec<String> = index.entries.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["python-3.10.0", "ruby-3.0.1"]);
    assert_eq!(index.warnings.len(), 1);
}

fn package(dir: &std::path::Path, file: &str, json: &str) {
    let image = dir.join("image.tmp");
    std::fs::write(&image, b"image").unwrap();
    archive::write(&dir.join(file), json.as_bytes(), &image, &[]).unwrap();
    std::fs::remove_file(image).unwrap();
}

#[test]
fn a_folder_is_indexed_the_same_every_time_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    package(
        path,
        "b++.pkg.tar.gz",
        r#"{"language":"b++","version":"1.0.0","dependencies":{"base":"^12"},"aliases":["yes","1.0"]}"#,
    );
    package(
        path,
        "base.pkg.tar.gz",
        r#"{"language":"base","version":"12.0.0","author":"A: B <a@b>","build_platform":"debian-x86_64"}"#,
    );
    std::fs::write(path.join("broken.pkg.tar.gz"), b"no").unwrap();
    std::fs::write(path.join("README.md"), b"no").unwrap();
    let written = write_index(path, None).unwrap();
    assert_eq!(written.packages.len(), 2);
    assert_eq!(written.left_out.len(), 1);
    let bytes = std::fs::read(&written.file).unwrap();
    write_index(path, None).unwrap();
    assert_eq!(std::fs::read(&written.file).unwrap(), bytes);
    assert_eq!(Index::parse(&bytes).unwrap().serial, 1);
    package(
        path,
        "c.pkg.tar.gz",
        r#"{"language":"c","version":"1.0.0"}"#,
    );
    write_index(path, None).unwrap();
    let longer = std::fs::read(&written.file).unwrap();
    assert_eq!(Index::parse(&longer).unwrap().serial, 2, "it has changed");

    let index = Index::parse(&bytes).unwrap();
    assert_eq!(index.warnings, Vec::<String>::new());
    let entries: Vec<&Entry> = index.entries.values().collect();
    let place = |entry: &Entry| match &entry.source {
        Source::File { download, .. } => download.clone(),
        Source::Recipe(recipe) => recipe.clone(),
    };
    assert_eq!(place(entries[0]), "b%2B%2B.pkg.tar.gz");
    assert_eq!(entries[0].aliases, ["yes", "1.0"]);
    assert!(
        entries[0]
            .dependencies
            .contains_key(&"base".parse().unwrap())
    );
    assert_eq!(entries[1].author.as_deref(), Some("A: B <a@b>"));
    let length = std::fs::metadata(path.join("base.pkg.tar.gz"))
        .unwrap()
        .len();
    assert_eq!(entries[1].compressed_size, Some(length));
    assert!(entries[1].size > 5);
}

#[test]
fn two_files_of_one_package_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a.pkg.tar.gz", "b.pkg.tar.gz"] {
        package(dir.path(), file, r#"{"language":"x","version":"1.0.0"}"#);
    }
    let text = write_index(dir.path(), None).unwrap_err().to_string();
    assert!(
        text.contains("a.pkg.tar.gz") && text.contains("b.pkg.tar.gz"),
        "{text}"
    );
}

proptest! {
    #[test]
    fn garbage_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
        text in "[-a-z0-9:,{}\\[\\]&*!|>'\"%#\n ]{0,200}",
    ) {
        drop(Index::parse(&bytes));
        drop(Index::parse(text.as_bytes()));
        drop(Index::parse(format!("schema: ppman-repo-1\npackages:\n- {text}").as_bytes()));
        drop(Index::parse(format!("a,1.0.0,{SHA},x\n{text}").as_bytes()));
    }
}

#[test]
fn an_index_of_ten_thousand_packages_is_read_and_resolved() {
    use std::fmt::Write as _;

    const NAMES: usize = 2500;
    let mut text = String::from("schema: ppman-repo-1\npackages:\n");
    for n in 0..4 * NAMES {
        let (name, version, next) = (n % NAMES, n / NAMES, (n + 1) % NAMES);
        let needs = if next % 50 == 0 {
            "{}".to_owned()
        } else {
            format!("{{lang{next}: ^1}}")
        };
        writeln!(
            text,
            "- language: lang{name}\n  version: 1.{version}.0\n  author: A B <a@b>\n  aliases: [a{name}, b{name}]\n  \
             dependencies: {needs}\n  checksums: {{sha256: {SHA}}}\n  size: 123456\n  compressed_size: 4567\n  \
             download: lang{name}-{version}.pkg.tar.gz"
        )
        .unwrap();
    }
    let index = Index::parse(text.as_bytes()).unwrap();
    assert_eq!((index.entries.len(), index.warnings.len()), (4 * NAMES, 0));
    let (shelf, nothing) = (index.shelf(Trust::Unsigned), Shelf::default());
    let catalog = crate::packages::resolve::Catalog {
        repositories: vec![&shelf],
        installed: &nothing,
    };
    let (wanted, any) = ("lang101".parse().unwrap(), VersionRange::any());
    let picks = crate::packages::resolve::resolve(&catalog, &[0], &wanted, &any).unwrap();
    assert_eq!(picks.len(), 49, "a chain of dependencies");
    assert!(
        picks
            .iter()
            .all(|pick| pick.package.to_string().ends_with("-1.3.0"))
    );
}
