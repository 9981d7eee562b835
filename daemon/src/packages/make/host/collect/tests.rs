//! Collecting from a directory of the tests' own, which stands for a relocated prefix.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::super::super::plan::{Content, Item};
use super::*;

const HOME: &str = "/piston/packages/tool/1.0.0";

/// A prefix on the host, links in its own path followed.
fn prefix() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = fs::canonicalize(directory.path()).expect("it is there");
    (directory, path)
}

fn collector(from: &Path) -> Collector {
    let relocation = Relocation {
        from: from.to_owned(),
        to: HOME.to_owned(),
    };
    Collector::new(vec![relocation]).expect("the host has a shell")
}

fn write(path: &Path, mode: u32) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, path.to_string_lossy().as_bytes()).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn item<'a>(collector: &'a Collector, below: &str) -> Option<&'a Item> {
    let path = format!("{HOME}{below}");
    collector
        .plan
        .items()
        .find_map(|(at, item)| (at == path).then_some(item))
}

fn link(collector: &Collector, below: &str) -> String {
    match item(collector, below) {
        Some(Item::Symlink(target)) => target.clone(),
        other => panic!("{below} is {other:?}"),
    }
}

#[test]
fn a_file_comes_with_the_links_that_lead_to_it() {
    let (_directory, top) = prefix();
    write(&top.join("lib/real.so.1.2"), 0o644);
    symlink("real.so.1.2", top.join("lib/real.so.1")).expect("linked");
    symlink(top.join("lib"), top.join("lib64")).expect("linked");
    let mut collector = collector(&top);
    collector.take(&top.join("lib64/real.so.1")).expect("taken");
    assert_eq!(
        link(&collector, "/lib64"),
        format!("{HOME}/lib"),
        "an absolute target moves too"
    );
    assert_eq!(link(&collector, "/lib/real.so.1"), "real.so.1.2");
    assert!(matches!(
        item(&collector, "/lib/real.so.1.2"),
        Some(Item::File { .. })
    ));
    assert!(
        !collector.plan.contains(&format!("{HOME}/lib64/real.so.1")),
        "no path through a link"
    );
}

#[test]
fn a_link_out_of_what_is_packed_is_refused_and_leaves_nothing() {
    let (_directory, top) = prefix();
    let (_other, elsewhere) = prefix();
    write(&elsewhere.join("secret"), 0o644);
    symlink(elsewhere.join("secret"), top.join("absolute")).expect("linked");
    let up = "../".repeat(20);
    symlink(
        format!("{up}{}/secret", elsewhere.display()),
        top.join("relative"),
    )
    .expect("linked");
    symlink("/etc/passwd", top.join("users")).expect("linked");
    symlink(&elsewhere, top.join("directory")).expect("linked");
    let mut collector = collector(&top);
    for name in ["absolute", "relative", "users", "directory/secret"] {
        let error = collector.take(&top.join(name)).expect_err(name);
        assert!(
            matches!(error, MakeError::Refused { .. }),
            "{name}: {error}"
        );
    }
    collector
        .tree(&top, &|_| true)
        .expect("a tree leaves such links out");
    assert_eq!(collector.notes.len(), 4, "{:?}", collector.notes);
    assert!(
        collector
            .plan
            .items()
            .all(|(_, item)| *item == Item::Directory)
    );
}

#[test]
fn nothing_is_taken_from_the_private_parts_of_a_host() {
    let (_directory, top) = prefix();
    let mut collector = collector(&top);
    for path in [
        "/etc/passwd",
        "/etc/shadow",
        "/etc/ssl/private",
        "/root",
        "/home",
        "/proc/1/environ",
    ] {
        let result = collector.take(Path::new(path));
        let refused = matches!(
            result,
            Err(MakeError::Refused { .. } | MakeError::Read { .. })
        );
        assert!(refused, "{path}");
    }
    assert_eq!(collector.plan.items().count(), 0);
}

#[test]
fn a_circle_of_links_is_an_error() {
    let (_directory, top) = prefix();
    symlink("two", top.join("one")).expect("linked");
    symlink("one", top.join("two")).expect("linked");
    let error = collector(&top).take(&top.join("one")).expect_err("endless");
    assert!(matches!(error, MakeError::Read { .. }), "{error}");
}

#[test]
fn modes_are_normalised_and_set_id_bits_go() {
    let (_directory, top) = prefix();
    write(&top.join("tool"), 0o4711);
    write(&top.join("data"), 0o600);
    let mut collector = collector(&top);
    collector.tree(&top, &|_| true).expect("collected");
    assert!(matches!(
        item(&collector, "/tool"),
        Some(Item::File {
            executable: true,
            ..
        })
    ));
    assert!(matches!(
        item(&collector, "/data"),
        Some(Item::File {
            executable: false,
            ..
        })
    ));
}

#[test]
fn a_tree_is_entered_where_it_is_wanted_and_odd_entries_are_noted() {
    let (_directory, top) = prefix();
    for path in ["a/keep", "a/drop/deep", "keep"] {
        write(&top.join(path), 0o644);
    }
    write(&top.join(OsStr::from_bytes(b"a/\xff")), 0o644);
    symlink("nowhere", top.join("dangling")).expect("linked");
    let mut collector = collector(&top);
    collector
        .tree(&top, &|path| path.file_name() != Some(OsStr::new("drop")))
        .expect("collected");
    let paths: Vec<_> = collector
        .plan
        .items()
        .filter_map(|(path, _)| path.strip_prefix(HOME))
        .collect();
    assert_eq!(paths, ["", "/a", "/a/keep", "/keep"]);
    assert_eq!(collector.notes.len(), 1, "{:?}", collector.notes);
    assert!(collector.notes[0].contains("UTF-8"));
}

#[test]
fn what_is_no_file_is_refused() {
    let (_directory, top) = prefix();
    let pipe = top.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("made");
    let error = collector(&top).take(&pipe).expect_err("a pipe");
    assert!(matches!(error, MakeError::Refused { .. }), "{error}");
}

#[test]
fn a_needed_file_that_cannot_be_read_is_named_and_another_one_is_noted() {
    let (_directory, top) = prefix();
    write(&top.join("locked"), 0o000);
    let mut collector = collector(&top);
    // Root reads everything: for this thread's files be somebody else.
    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
    let error = collector.take(&top.join("locked")).expect_err("unreadable");
    assert!(error.to_string().contains("locked"), "{error}");
    collector.take_if_there(&top.join("locked"));
    collector.take_if_there(&top.join("missing"));
    assert_eq!(collector.notes.len(), 1, "{:?}", collector.notes);
    assert!(collector.notes[0].contains("locked") && collector.notes[0].contains("denied"));
}

/// Builds `lib/libpart.so` and `bin/tool` that needs it, with this search path.
fn build(top: &Path, search: &str) {
    write(&top.join("part.c"), 0o644);
    fs::write(top.join("part.c"), "int part(void) { return 7; }\n").expect("written");
    fs::write(
        top.join("tool.c"),
        "int part(void); int main(void) { return part(); }\n",
    )
    .expect("written");
    for directory in ["lib", "bin"] {
        fs::create_dir_all(top.join(directory)).expect("made");
    }
    let gcc = |arguments: &[&str]| {
        let status = Command::new("gcc")
            .args(arguments)
            .current_dir(top)
            .status();
        let status = status.expect("this test needs gcc (Debian: apt-get install gcc libc6-dev)");
        assert!(status.success(), "{arguments:?}");
    };
    gcc(&["-shared", "-fPIC", "-o", "lib/libpart.so", "part.c"]);
    gcc(&[
        "-o",
        "bin/tool",
        "tool.c",
        "-Llib",
        "-lpart",
        &format!("-Wl,-rpath,{search}"),
    ]);
}

#[test]
fn a_library_beside_the_program_stays_beside_it() {
    let (_directory, top) = prefix();
    build(&top, "$ORIGIN/../lib");
    let mut collector = collector(&top);
    collector
        .program(&top.join("bin/tool"), None)
        .expect("collected");
    assert!(matches!(
        item(&collector, "/bin/tool"),
        Some(Item::File {
            executable: true,
            ..
        })
    ));
    assert!(matches!(
        item(&collector, "/lib/libpart.so"),
        Some(Item::File { .. })
    ));
    let system = collector.library_directory.join("libpart.so");
    assert!(
        !collector.plan.contains(&system.to_string_lossy()),
        "the loader finds it by $ORIGIN"
    );
}

#[test]
fn a_library_of_a_path_that_moves_is_found_through_the_loaders_own_directory() {
    let (_directory, top) = prefix();
    build(&top, &top.join("lib").to_string_lossy());
    let mut collector = collector(&top);
    collector
        .program(&top.join("bin/tool"), None)
        .expect("collected");
    assert!(matches!(
        item(&collector, "/lib/libpart.so"),
        Some(Item::File { .. })
    ));
    let system = collector.library_directory.join("libpart.so");
    let found = collector
        .plan
        .items()
        .find(|(path, _)| Path::new(path) == system);
    let expected = Item::Symlink(format!("{HOME}/lib/libpart.so"));
    assert_eq!(found.map(|(_, item)| item), Some(&expected));
}

#[test]
fn a_library_from_elsewhere_is_copied_into_the_loaders_own_directory() {
    let (_directory, top) = prefix();
    let (_other, elsewhere) = prefix();
    build(&elsewhere, &elsewhere.join("lib").to_string_lossy());
    write(&top.join("bin/tool"), 0o755);
    fs::copy(elsewhere.join("bin/tool"), top.join("bin/tool")).expect("copied");
    let mut collector = collector(&top);
    collector
        .program(&top.join("bin/tool"), None)
        .expect("collected");
    let system = collector.library_directory.join("libpart.so");
    let found = collector
        .plan
        .items()
        .find(|(path, _)| Path::new(path) == system);
    let from = Content::Host(elsewhere.join("lib/libpart.so"));
    assert!(
        matches!(found, Some((_, Item::File { content, .. })) if *content == from),
        "{found:?}"
    );
}

#[test]
fn a_program_without_one_of_its_libraries_is_not_taken_at_all() {
    let (_directory, top) = prefix();
    build(&top, "$ORIGIN/../lib");
    fs::remove_file(top.join("lib/libpart.so")).expect("removed");
    let mut collector = collector(&top);
    let error = collector
        .program(&top.join("bin/tool"), None)
        .expect_err("incomplete");
    assert!(error.to_string().contains("libpart.so"), "{error}");
    collector.program_if_there(&top.join("bin/tool"));
    assert!(item(&collector, "/bin/tool").is_none());
    assert_eq!(collector.notes.len(), 1);
}
