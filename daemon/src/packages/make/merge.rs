//! Trees of archives laid over each other: what a program sees of an image's layers.
//!
//! Invariants: a path leads through no link of the tree, because the links on its way were followed
//! when it was laid there, inside of the tree only and not for ever; every parent of an entry is a
//! directory. A whiteout hides what lower layers have, and nothing of its own layer. What the layer
//! that was laid last changed is remembered, and nothing of those before it. Reads no file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use piston_fs::tree::{TreeEntry, ViewTree};

use super::plan::{Plan, names};
use super::tar_reader::MAX_NAME_BYTES;
use super::unpack::{Entry, Kind};

/// Links that one path may run through, as in the kernel.
const MOST_LINKS: u32 = 40;
/// How the name of an entry begins that hides the one of the same name below.
const WHITEOUT: &str = ".wh.";
/// The entry that hides everything that lower layers have in its directory.
const OPAQUE: &str = ".wh..wh..opq";
/// How names begin that are the business of the file system that layers are made with.
const BOOKKEEPING: &str = ".wh..wh.";

/// Why a layer is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MergeError {
    /// Which entry, shortened.
    pub(super) entry: String,
    /// What is wrong with it.
    pub(super) reason: &'static str,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File {
        bytes: Bytes,
        executable: bool,
        mtime: u32,
    },
    Symlink(String),
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bytes {
    /// In a file of this machine.
    Unpacked(PathBuf),
    /// In installed layers, at this path.
    Installed(String),
}

/// What to do about a directory that is missing on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It is made.
    Make,
    /// There is nothing there.
    Stop,
}

/// The tree so far, by path; the root itself is not in it.
#[derive(Debug, Default)]
pub(super) struct Merged {
    nodes: BTreeMap<String, Node>,
    /// What was at each path that the last layer touched, before it did.
    before: BTreeMap<String, Option<Node>>,
}

impl Merged {
    /// What layers show that are installed.
    pub(super) fn of_installed(view: &ViewTree) -> Self {
        let mut nodes = BTreeMap::new();
        view.each(&mut |path, entry| {
            let node = match entry {
                TreeEntry::Directory => Node::Directory,
                TreeEntry::Symlink(target) => Node::Symlink(target.to_owned()),
                TreeEntry::File { executable } => Node::File {
                    bytes: Bytes::Installed(path.to_owned()),
                    executable,
                    mtime: 0,
                },
            };
            nodes.insert(path.to_owned(), node);
        });
        Self {
            nodes,
            before: BTreeMap::new(),
        }
    }

    /// Lays a layer over the tree: its whiteouts first, because they hide nothing of its own.
    pub(super) fn lay(&mut self, layer: &[Entry]) -> Result<(), MergeError> {
        self.before.clear();
        let (whiteouts, entries): (Vec<&Entry>, Vec<&Entry>) =
            layer.iter().partition(|entry| is_whiteout(&entry.path));
        for Entry { path, .. } in whiteouts {
            self.hide(path).map_err(|reason| refused(path, reason))?;
        }
        self.add(entries)
    }

    /// Puts entries into the tree, whatever they are called.
    pub(super) fn add<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<(), MergeError> {
        for Entry { path, kind } in entries {
            self.place(path, kind)
                .map_err(|reason| refused(path, reason))?;
        }
        Ok(())
    }

    /// Does what a whiteout says; nothing where it is none.
    fn hide(&mut self, path: &str) -> Result<(), &'static str> {
        let (directory, name) = split(path);
        let is_bookkeeping = |name: &str| name.starts_with(BOOKKEEPING);
        let opaque = name == OPAQUE;
        if directory.split('/').any(is_bookkeeping) || (is_bookkeeping(name) && !opaque) {
            return Ok(());
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else {
            return Ok(());
        };
        if matches!(hidden, "" | "." | "..") {
            return Err("hides nothing that has a name");
        }
        let Some(directory) = self.followed(directory, Missing::Stop)? else {
            return Ok(());
        };
        if opaque {
            self.empty(&directory);
        } else {
            self.remove(&format!("{directory}/{hidden}"));
        }
        Ok(())
    }

    /// Puts an entry where its path leads.
    fn place(&mut self, path: &str, kind: &Kind) -> Result<(), &'static str> {
        let (directory, name) = split(path);
        let directory = self.followed(directory, Missing::Make)?;
        let at = format!("{}/{name}", directory.unwrap_or_default());
        let node = match kind {
            Kind::Directory if self.nodes.get(&at) == Some(&Node::Directory) => return Ok(()),
            Kind::Directory => Node::Directory,
            Kind::File {
                content,
                executable,
                mtime,
            } => Node::File {
                bytes: Bytes::Unpacked(content.clone()),
                executable: *executable,
                mtime: *mtime,
            },
            Kind::Symlink(target) => Node::Symlink(target.clone()),
            Kind::Hardlink(to) => self.linked(to)?,
        };
        self.remove(&at);
        self.insert(at, node);
        Ok(())
    }

    /// What a hard link is another name of.
    fn linked(&mut self, to: &str) -> Result<Node, &'static str> {
        let (directory, name) = split(to);
        let directory = self.followed(directory, Missing::Stop)?;
        let at = directory.map(|directory| format!("{directory}/{name}"));
        let at = at.unwrap_or_default();
        let mut node = match self.nodes.get(&at) {
            Some(Node::Directory) => return Err("is a link to a directory"),
            Some(node) => node.clone(),
            None => return Err("is a link to a file that is not there"),
        };
        if let Node::File { mtime, .. } = &mut node
            && !self.before.contains_key(&at)
        {
            // Of a lower layer: its time counts there, whether that layer is at hand or not.
            *mtime = 0;
        }
        Ok(node)
    }

    /// Files of installed layers that the last layer has under a name of its own: where each is, and
    /// where in them.
    pub(super) fn borrowed(&self) -> Vec<(String, String)> {
        let touched = self.before.keys();
        let borrowed = touched.filter_map(|path| match self.nodes.get(path)? {
            Node::File {
                bytes: Bytes::Installed(from),
                ..
            } => Some((path.clone(), from.clone())),
            _ => None,
        });
        borrowed.collect()
    }

    /// Says where the bytes of such a file are from now on.
    pub(super) fn bring(&mut self, path: &str, content: PathBuf) {
        if let Some(Node::File { bytes, .. }) = self.nodes.get_mut(path) {
            *bytes = Bytes::Unpacked(content);
        }
    }

    /// Where a directory is, its links followed; the root is the empty path.
    fn followed(
        &mut self,
        directory: &str,
        missing: Missing,
    ) -> Result<Option<String>, &'static str> {
        let mut left = MOST_LINKS;
        let mut pending = names(directory);
        let mut at = String::new();
        while let Some(name) = pending.pop() {
            if name == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            if name.len() > MAX_NAME_BYTES {
                return Err("runs through a link to a name that is too long");
            }
            let here = format!("{at}/{name}");
            match self.nodes.get(&here) {
                Some(Node::Directory) => at = here,
                Some(Node::Symlink(target)) => {
                    left = left.checked_sub(1).ok_or("runs through too many links")?;
                    if target.starts_with('/') {
                        at.clear();
                    }
                    pending.extend(names(target));
                }
                Some(Node::File { .. }) | None if missing == Missing::Stop => return Ok(None),
                Some(Node::File { .. }) | None => {
                    self.insert(here.clone(), Node::Directory);
                    at = here;
                }
            }
        }
        Ok(Some(at))
    }

    fn insert(&mut self, path: String, node: Node) {
        let before = self.nodes.insert(path.clone(), node);
        self.before.entry(path).or_insert(before);
    }

    /// Takes out what is at a path, with all below it.
    fn remove(&mut self, path: &str) {
        let Some(before) = self.nodes.remove(path) else {
            return;
        };
        if before == Node::Directory {
            self.empty(path);
        }
        self.before.entry(path.to_owned()).or_insert(Some(before));
    }

    /// Takes out what is in a directory.
    fn empty(&mut self, directory: &str) {
        let inside = format!("{directory}/");
        let below = self.nodes.range(inside.clone()..).map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(&inside));
        for path in below.cloned().collect::<Vec<_>>() {
            let before = self.nodes.remove(&path);
            self.before.entry(path).or_insert(before);
        }
    }

    /// Whether a path leads to a file, all links on its way followed.
    pub(super) fn has_file(&mut self, path: &str) -> bool {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let (directory, name) = split(&path);
            let Ok(Some(directory)) = self.followed(directory, Missing::Stop) else {
                return false;
            };
            match self.nodes.get(&format!("{directory}/{name}")) {
                Some(Node::File { .. }) => return true,
                Some(Node::Symlink(target)) if target.starts_with('/') => path = target.clone(),
                Some(Node::Symlink(target)) => path = format!("{directory}/{target}"),
                Some(Node::Directory) | None => return false,
            }
        }
        false
    }

    /// Where the bytes of a file are, by its own path.
    pub(super) fn file(&self, path: &str) -> Option<&PathBuf> {
        match self.nodes.get(path)? {
            Node::File {
                bytes: Bytes::Unpacked(content),
                ..
            } => Some(content),
            _ => None,
        }
    }

    /// Where the bytes of its programs are.
    pub(super) fn programs(&self) -> impl Iterator<Item = &PathBuf> {
        self.nodes.values().filter_map(|node| match node {
            Node::File {
                bytes: Bytes::Unpacked(content),
                executable: true,
                ..
            } => Some(content),
            _ => None,
        })
    }

    /// What goes into an image, each path below `top`; the root is the empty one.
    pub(super) fn into_plan(self, top: &str) -> Plan {
        let mut plan = Plan::default();
        for (path, node) in self.nodes {
            node.put(&mut plan, &format!("{top}{path}"));
        }
        plan
    }

    /// What an image has to hold so that a view of it over the layers before the last shows this tree:
    /// what the last one changed, and a whiteout of the view for what is not there any more.
    pub(super) fn gained(&self) -> Result<Plan, MergeError> {
        let mut plan = Plan::default();
        for (path, before) in &self.before {
            let now = self.nodes.get(path);
            if now == before.as_ref() {
                continue;
            }
            if let Some(node) = now {
                node.clone().put(&mut plan, path);
                continue;
            }
            let (directory, name) = split(path);
            // With a directory goes all that is in it.
            let is_there =
                directory.is_empty() || self.nodes.get(directory) == Some(&Node::Directory);
            if !is_there {
                continue;
            }
            let hiding = format!("{WHITEOUT}{name}");
            if hiding.len() > MAX_NAME_BYTES {
                return Err(refused(path, "has too long a name to be hidden"));
            }
            plan.bytes(&format!("{directory}/{hiding}"), "");
        }
        Ok(plan)
    }
}

impl Node {
    fn put(self, plan: &mut Plan, path: &str) {
        match self {
            Self::Directory => plan.directory(path),
            Self::Symlink(target) => plan.symlink(path, &target),
            Self::File {
                bytes: Bytes::Unpacked(content),
                executable,
                mtime,
            } => plan.host_file(path, content, executable, mtime),
            // Who has the layer has it.
            Self::File {
                bytes: Bytes::Installed(_),
                ..
            } => {}
        }
    }
}

fn refused(path: &str, reason: &'static str) -> MergeError {
    MergeError {
        entry: path.chars().take(80).collect(),
        reason,
    }
}

fn is_whiteout(path: &str) -> bool {
    let bookkeeping = path.split('/').any(|name| name.starts_with(BOOKKEEPING));
    bookkeeping || split(path).1.starts_with(WHITEOUT)
}

/// A path's directory and its name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use piston_fs::layer::memory::MemoryTree;
    use piston_fs::layer::{Layer, Placed};
    use proptest::prelude::*;

    use super::*;
    use crate::packages::make::plan::{Content, Item};

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry {
            path: path.to_owned(),
            kind,
        }
    }

    fn file(path: &str, from: &str) -> Entry {
        entry(
            path,
            Kind::File {
                content: PathBuf::from(from),
                executable: false,
                mtime: 1,
            },
        )
    }

    fn link(path: &str, target: &str) -> Entry {
        entry(path, Kind::Symlink(target.to_owned()))
    }

    fn directory(path: &str) -> Entry {
        entry(path, Kind::Directory)
    }

    fn merged(layers: &[&[Entry]]) -> Result<Merged, MergeError> {
        let mut merged = Merged::default();
        for layer in layers {
            merged.lay(layer)?;
        }
        Ok(merged)
    }

    fn shown(layers: &[&[Entry]]) -> Vec<String> {
        let plan = merged(layers).expect("a tree").into_plan("");
        let show = |(path, item): (&str, &Item)| match item {
            Item::Directory => format!("{path}/"),
            Item::Symlink(target) => format!("{path} -> {target}"),
            Item::File {
                content: Content::Host(from),
                ..
            } => format!("{path} = {}", from.display()),
            Item::File { .. } => path.to_owned(),
        };
        plan.items().map(show).collect()
    }

    #[test]
    fn an_upper_layer_wins_and_directories_merge() {
        let lower = [file("/a/x", "1"), file("/a/y", "2"), directory("/b/c")];
        let upper = [file("/a/x", "3"), file("/b", "4"), file("/a/y/z", "5")];
        assert_eq!(
            shown(&[&lower, &upper]),
            ["/a/", "/a/x = 3", "/a/y/", "/a/y/z = 5", "/b = 4"]
        );
    }

    #[test]
    fn a_whiteout_hides_what_is_below_and_nothing_of_its_own_layer() {
        let lower = [file("/a/x", "1"), file("/a/y", "2"), file("/d/e/f", "3")];
        let upper = [
            file("/a/x", "4"),
            file("/a/.wh.x", "w"),
            file("/a/.wh.y", "w"),
            file("/.wh.d", "w"),
            file("/a/.wh.never", "w"),
            file("/nowhere/.wh.x", "w"),
        ];
        assert_eq!(shown(&[&lower, &upper]), ["/a/", "/a/x = 4"]);
    }

    #[test]
    fn an_opaque_directory_keeps_only_its_own_layers_entries_in_whatever_order() {
        let lower = [file("/a/x", "1"), file("/a/b/y", "2"), file("/ab", "3")];
        let opaque = file("/a/.wh..wh..opq", "w");
        for upper in [
            [file("/a/new", "4"), opaque.clone()],
            [opaque, file("/a/new", "4")],
        ] {
            assert_eq!(shown(&[&lower, &upper]), ["/a/", "/a/new = 4", "/ab = 3"]);
        }
        let all = [file("/.wh..wh..opq", "w")];
        assert!(shown(&[&lower, &all]).is_empty());
    }

    #[test]
    fn the_bookkeeping_of_a_file_system_is_no_part_of_the_tree() {
        let layer = [
            file("/.wh..wh.plnk/17", "1"),
            file("/.wh..wh.aufs", "2"),
            file("/a", "3"),
        ];
        assert_eq!(shown(&[&layer]), ["/a = 3"]);
    }

    #[test]
    fn a_path_through_a_link_of_a_lower_layer_lands_where_that_leads() {
        let lower = [
            directory("/usr/lib"),
            link("/lib", "usr/lib"),
            link("/abs", "/usr/share"),
            link("/up", "../../../.."),
        ];
        let upper = [
            file("/lib/x", "1"),
            file("/abs/y", "2"),
            file("/up/etc/z", "3"),
            file("/lib/.wh.old", "w"),
        ];
        let tree = shown(&[&lower, &upper]);
        for line in ["/usr/lib/x = 1", "/usr/share/y = 2", "/etc/z = 3"] {
            assert!(tree.iter().any(|one| one == line), "{line}: {tree:?}");
        }
        assert!(tree.iter().any(|one| one == "/lib -> usr/lib"), "{tree:?}");
        // A layer that says that it is a directory means it.
        let replaced = [directory("/lib"), file("/lib/x", "1")];
        let tree = shown(&[&lower, &replaced]);
        assert!(tree.iter().any(|one| one == "/lib/x = 1"), "{tree:?}");
    }

    #[test]
    fn a_hard_link_is_the_file_of_whichever_layer() {
        let lower = [file("/bin/a", "1"), link("/bin/l", "a")];
        let hard = |to: &str| entry("/bin/b", Kind::Hardlink(to.to_owned()));
        let tree = shown(&[&lower, &[hard("/bin/a")]]);
        assert_eq!(tree[2], "/bin/b = 1");
        let tree = shown(&[&lower, &[hard("/bin/l")]]);
        assert_eq!(tree[2], "/bin/b -> a");
        for (to, reason) in [("/bin", "directory"), ("/etc/shadow", "not there")] {
            let error = merged(&[&lower, &[hard(to)]]).expect_err(to);
            assert!(error.reason.contains(reason), "{error:?}");
            assert_eq!(error.entry, "/bin/b");
        }
    }

    #[test]
    fn rings_of_links_and_whiteouts_of_nothing_are_refused() {
        let ring = [link("/a", "b"), link("/b", "a")];
        for (entry, reason) in [
            (file("/a/x", "1"), "too many links"),
            (file("/.wh..", "w"), "hides nothing"),
            (file("/.wh.", "w"), "hides nothing"),
            (file("/.wh...", "w"), "hides nothing"),
        ] {
            let error = merged(&[&ring, std::slice::from_ref(&entry)]);
            let error = error.expect_err(&entry.path);
            assert!(error.reason.contains(reason), "{error:?}");
        }
        let long = [link("/a", &"n".repeat(300)), file("/a/x", "1")];
        merged(&[&long]).expect_err("no directory has such a name");
    }

    /// Entries of layers that often meet: files, directories, whiteouts of both kinds.
    fn some_layer() -> impl Strategy<Value = Vec<Entry>> {
        let name = || prop::sample::select(vec!["a", "b", "c"]);
        let path = prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"));
        let one = (path, 0..5_u8, 0..100_u32).prop_map(|(path, kind, number)| {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
            match kind {
                0 => directory(&format!("/{path}")),
                1 => file(&format!("/{above}/.wh.{name}").replace("//", "/"), "w"),
                2 => file(&format!("/{path}/.wh..wh..opq"), "w"),
                _ => file(&format!("/{path}"), &number.to_string()),
            }
        });
        prop::collection::vec(one, 0..8)
    }

    /// A layer of a view: files hold the names of where they are from.
    fn placed(plan: &Plan) -> Placed {
        let mut tree = MemoryTree::default();
        for (path, item) in plan.items() {
            match item {
                Item::Directory => tree.directory(path),
                Item::Symlink(target) => tree.symlink(path, target),
                Item::File { content, .. } => {
                    let bytes = match content {
                        Content::Host(from) => from.to_string_lossy().into_owned().into_bytes(),
                        Content::Bytes(bytes) => bytes.clone(),
                    };
                    tree.file(path, 0o644, bytes);
                }
            }
        }
        let layer = Layer::Memory(Arc::new(tree));
        let at = "/".to_owned();
        Placed { layer, at }
    }

    proptest! {
        #[test]
        fn a_view_of_a_layer_each_shows_what_all_of_them_make(
            layers in prop::collection::vec(some_layer(), 1..6),
        ) {
            let mut tree = Merged::default();
            let mut view = vec![placed(&Plan::default())];
            for layer in &layers {
                tree.lay(layer).expect("no links");
                view.push(placed(&tree.gained().expect("short names")));
            }
            let view = ViewTree::merge(&view).expect("a view");
            let names = ["", "/a", "/b", "/c"];
            for one in &names[1..] {
                for two in names {
                    for three in names {
                        let path = format!("{one}{two}{three}");
                        let node = tree.nodes.get(&path);
                        prop_assert_eq!(view.has_directory(&path), node == Some(&Node::Directory), "{}", path);
                        let bytes = view.read(&path, 100).expect("read");
                        let from = tree.file(&path).map(|from| from.to_string_lossy().into_owned().into_bytes());
                        prop_assert_eq!(bytes, from, "{}", path);
                    }
                }
            }
        }
    }

    #[test]
    fn a_program_is_found_through_links() {
        let layer = [
            file("/usr/bin/python3.12", "1"),
            link("/usr/bin/python3", "python3.12"),
            link("/bin", "usr/bin"),
            link("/usr/bin/loop", "loop"),
            link("/usr/bin/gone", "/nowhere"),
        ];
        let mut tree = merged(&[&layer]).expect("a tree");
        for (path, there) in [
            ("/bin/python3", true),
            ("/usr/bin/python3.12", true),
            ("/usr/bin", false),
            ("/usr/bin/loop", false),
            ("/usr/bin/gone", false),
            ("/etc/x/y", false),
        ] {
            assert_eq!(tree.has_file(path), there, "{path}");
        }
    }
}
