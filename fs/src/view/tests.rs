//! The merge against a naive overlay: unpack every layer over the one below, path by path.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::node::Kind;

/// A tree to merge: what memory trees can hold, and character devices.
#[derive(Debug, Clone)]
enum Item {
    Directory(BTreeMap<Vec<u8>, Self>),
    File,
    Whiteout,
}

#[derive(Debug)]
struct Numbered {
    kinds: Vec<Kind>,
    /// All entries, those of each directory together.
    entries: Vec<(Vec<u8>, ImageNode)>,
    /// The entries of each directory, breadth first, with its node.
    directories: Vec<(ImageNode, Range<u32>)>,
}

impl Numbered {
    fn new(root: &BTreeMap<Vec<u8>, Item>) -> Self {
        let mut tree = Self {
            kinds: vec![Kind::Directory],
            entries: Vec::new(),
            directories: Vec::new(),
        };
        let mut pending = VecDeque::from([(ImageNode(0), root)]);
        while let Some((node, items)) = pending.pop_front() {
            let first = count(tree.entries.len());
            for (name, item) in items {
                let child = ImageNode(count(tree.kinds.len()));
                tree.kinds.push(match item {
                    Item::Directory(_) => Kind::Directory,
                    Item::File => Kind::File { size: 1 },
                    Item::Whiteout => Kind::CharDevice { rdev: 0 },
                });
                tree.entries.push((name.clone(), child));
                if let Item::Directory(below) = item {
                    pending.push_back((child, below));
                }
            }
            let range = first..count(tree.entries.len());
            tree.directories.push((node, range));
        }
        tree
    }
}

impl Listing for Numbered {
    fn kind(&self, node: ImageNode) -> Kind {
        self.kinds[to_usize(node.0)]
    }

    fn entries(&self, dir: ImageNode) -> Range<u32> {
        let place = self.directory(dir).unwrap();
        self.directories[to_usize(place)].1.clone()
    }

    fn entry(&self, position: u32) -> (&[u8], ImageNode) {
        let (name, node) = &self.entries[to_usize(position)];
        (name, *node)
    }

    fn directory(&self, node: ImageNode) -> Option<u32> {
        let place = self
            .directories
            .iter()
            .position(|(known, _)| *known == node);
        place.map(count)
    }

    fn is_synthetic(&self) -> bool {
        false
    }
}

/// One layer as the property test makes it up.
#[derive(Debug, Clone)]
struct Given {
    root: BTreeMap<Vec<u8>, Item>,
    at: Vec<Vec<u8>>,
}

/// What is at a path: the layer that brought it, or none for a directory that was made up.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Directory(Option<usize>),
    File(usize),
}

type Paths = BTreeMap<Vec<Vec<u8>>, Seen>;

/// The reference: a plain map of paths, layers unpacked one over the other.
fn overlay(layers: &[Given]) -> Paths {
    let mut seen = Paths::new();
    let whole = matches!(layers, [only] if only.at.is_empty());
    for (number, layer) in layers.iter().enumerate() {
        for depth in 0..layer.at.len() {
            put_directory(&mut seen, &layer.at[..depth], None);
        }
        put_directory(&mut seen, &layer.at, Some(number));
        unpack(&mut seen, &layer.at, &layer.root, number, whole);
    }
    if layers.is_empty() {
        put_directory(&mut seen, &[], None);
    }
    seen
}

fn unpack(
    seen: &mut Paths,
    at: &[Vec<u8>],
    entries: &BTreeMap<Vec<u8>, Item>,
    layer: usize,
    verbatim: bool,
) {
    let below = |name: &[u8]| [at, &[name.to_vec()]].concat();
    let own = |name: &Vec<u8>, item: &Item| {
        verbatim || (!name.starts_with(b".wh.") && !matches!(item, Item::Whiteout))
    };
    for (name, _) in entries.iter().filter(|(name, item)| !own(name, item)) {
        if name == b".wh..wh..opq" {
            seen.retain(|path, _| !(path.len() > at.len() && path.starts_with(at)));
        } else {
            match name.strip_prefix(b".wh.") {
                Some(hidden) => remove(seen, &below(hidden)),
                None => remove(seen, &below(name)),
            }
        }
    }
    for (name, item) in entries.iter().filter(|(name, item)| own(name, item)) {
        let path = below(name);
        if let Item::Directory(inside) = item {
            put_directory(seen, &path, Some(layer));
            unpack(seen, &path, inside, layer, verbatim);
        } else {
            remove(seen, &path);
            seen.insert(path, Seen::File(layer));
        }
    }
}

fn remove(seen: &mut Paths, path: &[Vec<u8>]) {
    seen.retain(|other, _| !other.starts_with(path));
}

fn put_directory(seen: &mut Paths, path: &[Vec<u8>], layer: Option<usize>) {
    match seen.get_mut(path) {
        Some(Seen::Directory(origin)) => *origin = layer.or(*origin),
        _ => {
            seen.insert(path.to_vec(), Seen::Directory(layer));
        }
    }
}

/// Everything that a merged view shows, by path.
fn walk(view: &View<Numbered>) -> Paths {
    let mut seen = Paths::new();
    let mut pending = vec![(Vec::new(), DirIndex::ROOT)];
    while let Some((path, dir)) = pending.pop() {
        let origin = view.origin(dir).map(|from| to_usize(from.layer));
        seen.insert(path.clone(), Seen::Directory(origin));
        let names: Vec<_> = view.list(dir, 0).map(|(name, _)| name.to_vec()).collect();
        assert!(names.is_sorted(), "entries are sorted");
        let mut subdirectories = 0;
        for (name, child) in view.list(dir, 0) {
            assert_eq!(view.find(dir, name), Some(child));
            let below = [path.as_slice(), &[name.to_vec()]].concat();
            match child {
                Child::Directory(inside) => {
                    subdirectories += 1;
                    assert_eq!(view.parent(inside), dir);
                    pending.push((below, inside));
                }
                Child::Leaf(leaf) => {
                    seen.insert(below, Seen::File(to_usize(leaf.layer)));
                }
            }
        }
        assert_eq!(view.nlink(dir), 2 + subdirectories);
        assert_eq!(view.find(dir, b"no such name"), None);
    }
    seen
}

fn merge_given(given: &[Given]) -> Merged<Numbered> {
    let placed = given.iter().map(|layer| PlacedListing {
        listing: Arc::new(Numbered::new(&layer.root)),
        at: layer.at.iter().map(Vec::as_slice).collect(),
    });
    merge(&placed.collect::<Vec<_>>()).expect("small trees fit")
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    const NAMES: [&[u8]; 8] = [
        b"a",
        b"b",
        b"c",
        b"A",
        b"\xff",
        b".wh.a",
        b".wh.b",
        b".wh..wh..opq",
    ];
    prop::sample::select(NAMES.as_slice()).prop_map(<[u8]>::to_vec)
}

fn item() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![3 => Just(Item::File), 1 => Just(Item::Whiteout)];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop::collection::btree_map(name(), inner, 0..5).prop_map(Item::Directory)
    })
}

fn given() -> impl Strategy<Value = Given> {
    let at = prop::collection::vec(
        prop::sample::select(vec![b"a".to_vec(), b"b".to_vec()]),
        0..3,
    );
    let root = prop::collection::btree_map(name(), item(), 0..5);
    (root, at).prop_map(|(root, at)| Given { root, at })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_view_shows_what_unpacking_its_layers_one_over_the_other_shows(
        layers in prop::collection::vec(given(), 0..5)
    ) {
        prop_assert_eq!(walk(&merge_given(&layers).view), overlay(&layers));
    }
}

fn files(paths: &[&str]) -> BTreeMap<Vec<u8>, Item> {
    let mut root = BTreeMap::new();
    for path in paths {
        let mut at = &mut root;
        let (dirs, last) = path.rsplit_once('/').unwrap_or(("", path));
        for dir in dirs.split('/').filter(|dir| !dir.is_empty()) {
            let entry = at
                .entry(dir.into())
                .or_insert_with(|| Item::Directory(BTreeMap::new()));
            let Item::Directory(below) = entry else {
                panic!("{dir} is a file");
            };
            at = below;
        }
        at.insert(last.into(), Item::File);
    }
    root
}

fn overlaps(layers: &[&[&str]]) -> Vec<String> {
    let given = layers.iter().map(|paths| Given {
        root: files(paths),
        at: Vec::new(),
    });
    merge_given(&given.collect::<Vec<_>>()).overlaps
}

#[test]
fn files_that_hide_others_are_told_and_merged_directories_are_not() {
    assert_eq!(overlaps(&[&["usr/bin/a"], &["usr/bin/b"]]), [""; 0]);
    assert_eq!(overlaps(&[&["usr/bin/a"], &["usr/bin/a"]]), ["/usr/bin/a"]);
    assert_eq!(overlaps(&[&["lib"], &["lib/x"]]), ["/lib"]);
    assert_eq!(overlaps(&[&["lib/x"], &["lib"]]), ["/lib"]);
    assert_eq!(overlaps(&[&["a/x"], &["a/.wh.x"]]), [""; 0]);
}

#[test]
fn at_most_a_hundred_overlaps_are_told() {
    let names: Vec<_> = (0..300).map(|number| format!("d/{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(overlaps(&[&names, &names]).len(), 100);
}

#[test]
fn the_uppermost_directory_gives_owner_and_mode() {
    let view = merge_given(&["d/low", "d/high"].map(|path| Given {
        root: files(&[path]),
        at: Vec::new(),
    }))
    .view;
    let Some(Child::Directory(dir)) = view.find(DirIndex::ROOT, b"d") else {
        panic!("d is no directory");
    };
    let origin = view.origin(dir).unwrap();
    assert_eq!(origin.layer, 1);
    assert_eq!(view.path(dir), "d");
}

#[test]
fn a_leaf_can_be_traced_back_to_its_path() {
    let merged = merge_given(&[Given {
        root: files(&["a/b/c", "a/d", "z"]),
        at: vec![b"opt".to_vec()],
    }]);
    for path in ["opt/a/b/c", "opt/a/d", "opt/z"] {
        let mut at = Child::Directory(DirIndex::ROOT);
        for name in path.split('/') {
            let Child::Directory(dir) = at else {
                panic!("not a directory on the way to {path}");
            };
            at = merged.view.find(dir, name.as_bytes()).unwrap();
        }
        let Child::Leaf(leaf) = at else {
            panic!("{path} is a directory");
        };
        assert_eq!(merged.view.path_of(leaf).as_deref(), Some(path));
    }
}
