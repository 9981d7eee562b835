//! The filesystem asked directly, without a kernel in between.

use std::collections::BTreeSet;

use super::*;
use crate::layer::Layer;
use crate::layer::memory::MemoryTree;

fn vfs() -> Vfs {
    Vfs::new(1 << 20, Duration::from_mins(1), Owners::of_this_process())
}

fn layer(files: &[(&str, &str)]) -> Placed {
    let mut tree = MemoryTree::default();
    for (name, bytes) in files {
        tree.file(name, 0o644, (*bytes).into());
    }
    Placed {
        layer: Layer::Memory(Arc::new(tree)),
        at: "/".to_owned(),
    }
}

fn path(path: &str) -> ViewPath {
    ViewPath::parse(path).unwrap()
}

/// Walks down from the root.
fn walk(vfs: &Vfs, path: &str) -> Option<Stat> {
    let mut stat = vfs.getattr(Ino::ROOT).unwrap();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        stat = vfs.lookup(stat.ino, name.as_bytes()).ok()??;
    }
    Some(stat)
}

fn read(vfs: &Vfs, ino: Ino, offset: u64, size: u32) -> Result<Vec<u8>, FsError> {
    let mut scratch = Scratch::default();
    let mut reading = Reading::new((ino, offset, size));
    let bytes = vfs.read_on(&mut reading, &mut scratch)?;
    Ok(bytes.expect("one block is enough").to_vec())
}

/// Names from a place on, at most so many, and where to go on.
fn some_names(vfs: &Vfs, dir: Ino, from: u64, most: usize) -> (Vec<String>, u64) {
    let mut names = Vec::new();
    let mut next = from;
    vfs.readdir(dir, from, |item| {
        if names.len() == most {
            return ControlFlow::Break(());
        }
        names.push(String::from_utf8_lossy(item.name).into_owned());
        next = item.next;
        ControlFlow::Continue(())
    })
    .unwrap();
    (names, next)
}

#[test]
fn reads_stop_at_the_end_of_the_file() {
    let vfs = vfs();
    vfs.publish(&path("v"), &[layer(&[("f", "0123456789")])])
        .unwrap();
    let file = walk(&vfs, "v/f").unwrap().ino;
    for (offset, size, bytes) in [
        (0, 4, "0123"),
        (4, 100, "456789"),
        (9, 1, "9"),
        (10, 1, ""),
        (11, 1, ""),
        (0, 0, ""),
        (u64::MAX, u32::MAX, ""),
    ] {
        assert_eq!(read(&vfs, file, offset, size).unwrap(), bytes.as_bytes());
    }
}

#[test]
fn numbers_of_what_was_unpublished_stand_for_nothing_any_more() {
    let vfs = vfs();
    vfs.publish(&path("a/v"), &[layer(&[("d/f", "x")])])
        .unwrap();
    let stats = ["a", "a/v", "a/v/d", "a/v/d/f"].map(|path| walk(&vfs, path).unwrap());
    vfs.unpublish(&path("a/v")).unwrap();
    for stat in stats {
        assert!(matches!(vfs.getattr(stat.ino), Err(FsError::Stale)));
        assert!(matches!(vfs.lookup(stat.ino, b"x"), Err(FsError::Gone)));
        assert!(matches!(read(&vfs, stat.ino, 0, 1), Err(FsError::Stale)));
    }
    assert_eq!(vfs.totals().nodes, 1);
    // Publishing the same again gives new numbers.
    let old: HashSet<_> = stats.iter().map(|stat| stat.ino).collect();
    vfs.publish(&path("a/v"), &[layer(&[("d/f", "x")])])
        .unwrap();
    for path in ["a", "a/v", "a/v/d", "a/v/d/f"] {
        assert!(!old.contains(&walk(&vfs, path).unwrap().ino));
    }
}

#[test]
fn a_layer_keeps_its_numbers_as_long_as_any_view_has_it() {
    let vfs = vfs();
    let shared = layer(&[("f", "x")]);
    vfs.publish(&path("a"), std::slice::from_ref(&shared))
        .unwrap();
    vfs.publish(&path("b"), &[layer(&[("g", "y")]), shared.clone()])
        .unwrap();
    let ino = walk(&vfs, "a/f").unwrap().ino;
    assert_eq!(walk(&vfs, "b/f").unwrap().ino, ino);
    vfs.unpublish(&path("a")).unwrap();
    assert_eq!(walk(&vfs, "b/f").unwrap().ino, ino);
    // Twice in one view is the same as well.
    let mut below = shared.clone();
    below.at = "/below".to_owned();
    vfs.publish(&path("c"), &[shared, below]).unwrap();
    assert_eq!(walk(&vfs, "c/f").unwrap().ino, ino);
    assert_eq!(walk(&vfs, "c/below/f").unwrap().ino, ino);
    assert_eq!(vfs.totals().bytes, 2, "each layer counts once");
}

#[test]
fn a_listing_in_pieces_is_the_listing_whole() {
    let vfs = vfs();
    let names: Vec<_> = (0..25).map(|number| format!("n{number:02}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    vfs.publish(&path("v"), &[layer(&files)]).unwrap();
    let dir = walk(&vfs, "v").unwrap().ino;
    let mut listed = Vec::new();
    let mut next = 0;
    loop {
        let (some, after) = some_names(&vfs, dir, next, 4);
        if some.is_empty() {
            break;
        }
        listed.extend(some);
        next = after;
    }
    assert_eq!(listed[..2], [".", ".."]);
    assert_eq!(listed[2..], names);
    assert_eq!(some_names(&vfs, dir, u64::MAX, 4).0, [""; 0]);
}

#[test]
fn a_listing_under_way_misses_and_repeats_nothing_when_views_come_and_go() {
    let vfs = vfs();
    for name in ["e", "b", "c"] {
        vfs.publish(&path(name), &[layer(&[("f", "")])]).unwrap();
    }
    let (first, next) = some_names(&vfs, Ino::ROOT, 0, 4);
    vfs.unpublish(&path("e")).unwrap();
    vfs.publish(&path("a"), &[layer(&[("f", "")])]).unwrap();
    let (rest, _) = some_names(&vfs, Ino::ROOT, next, 100);
    let all: Vec<_> = first.iter().chain(&rest).cloned().collect();
    assert_eq!(
        all.len(),
        all.iter().collect::<BTreeSet<_>>().len(),
        "{all:?}"
    );
    for kept in ["b", "c", "a"] {
        assert!(all.iter().any(|name| name == kept), "{kept} in {all:?}");
    }
}

#[test]
fn dot_and_dot_dot_are_where_they_belong() {
    let vfs = vfs();
    vfs.publish(&path("a/v"), &[layer(&[("d/f", "")])]).unwrap();
    let ino = |path| walk(&vfs, path).unwrap().ino;
    for (dir, parent) in [("", ""), ("a", ""), ("a/v", "a"), ("a/v/d", "a/v")] {
        let mut seen = Vec::new();
        vfs.readdir(ino(dir), 0, |item| {
            seen.push(item.stat.ino);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen[..2], [ino(dir), ino(parent)], "{dir}");
    }
}

#[test]
fn the_kernel_is_told_the_uppermost_name_that_changed() {
    let vfs = vfs();
    let change = |parent: Ino, name: &str| Change {
        parent,
        names: vec![name.into()],
    };
    let publish = |to: &str| vfs.publish(&path(to), &[layer(&[("f", "")])]).unwrap().0;
    assert_eq!(publish("a/b/c"), change(Ino::ROOT, "a"));
    let a = walk(&vfs, "a").unwrap().ino;
    let b = walk(&vfs, "a/b").unwrap().ino;
    assert_eq!(publish("a/b/d"), change(b, "d"));
    assert_eq!(publish("a/x/y"), change(a, "x"));
    assert_eq!(vfs.unpublish(&path("a/x/y")).unwrap(), change(a, "x"));
    assert_eq!(vfs.unpublish(&path("a/b/c")).unwrap(), change(b, "c"));
    assert_eq!(
        vfs.unpublish(&path("a/b/d")).unwrap(),
        change(Ino::ROOT, "a")
    );
}

#[test]
fn a_view_can_be_the_root() {
    let vfs = vfs();
    let (change, _) = vfs
        .publish(&ViewPath::root(), &[layer(&[("x/f", "1"), ("y", "2")])])
        .unwrap();
    assert_eq!(change.names, [b"x", b"y"]);
    let file = walk(&vfs, "x/f").unwrap();
    assert_eq!(read(&vfs, file.ino, 0, 9).unwrap(), b"1");
    vfs.publish(&path("other"), &[layer(&[])]).unwrap_err();
    vfs.publish(&ViewPath::root(), &[layer(&[])]).unwrap_err();
    vfs.unpublish(&ViewPath::root()).unwrap();
    assert!(walk(&vfs, "x").is_none());
    assert!(matches!(vfs.getattr(file.ino), Err(FsError::Stale)));
    vfs.publish(&path("other"), &[layer(&[])]).unwrap();
}

#[test]
fn a_refused_publication_changes_nothing() {
    let vfs = vfs();
    let mut misplaced = layer(&[("f", "")]);
    misplaced.at = "no/slash".to_owned();
    vfs.publish(&path("a/b"), &[misplaced]).unwrap_err();
    assert_eq!(vfs.totals().nodes, 1);
    assert!(walk(&vfs, "a").is_none());
}

#[test]
fn questions_to_the_wrong_kind_are_refused_by_kind() {
    let vfs = vfs();
    vfs.publish(&path("v"), &[layer(&[("d/f", "")])]).unwrap();
    let [dir, file] = ["v/d", "v/d/f"].map(|path| walk(&vfs, path).unwrap().ino);
    assert!(matches!(vfs.lookup(file, b"x"), Err(FsError::NotDirectory)));
    assert!(matches!(vfs.readlink(file), Err(FsError::WrongKind)));
    assert!(matches!(vfs.readlink(dir), Err(FsError::WrongKind)));
    assert!(matches!(read(&vfs, dir, 0, 1), Err(FsError::IsDirectory)));
    assert!(matches!(
        vfs.getxattr(file, b"user.x"),
        Err(FsError::NoAttribute)
    ));
    assert_eq!(vfs.listxattr(dir).unwrap(), b"");
    let entries = vfs.readdir(file, 0, |_| ControlFlow::Continue(()));
    assert!(matches!(entries, Err(FsError::NotDirectory)));
}

#[test]
fn damage_is_told_once_with_the_path_of_the_file() {
    let vfs = vfs();
    vfs.publish(&path("views/x/1"), &[layer(&[("usr/lib/f", "")])])
        .unwrap();
    let file = walk(&vfs, "views/x/1/usr/lib/f").unwrap().ino;
    assert_eq!(
        vfs.first_damage(file).as_deref(),
        Some("views/x/1/usr/lib/f")
    );
    assert_eq!(vfs.first_damage(file), None);
}
