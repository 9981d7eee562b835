//! What goes into a package's image, before any of it is read: paths, and where contents come from.
//!
//! Invariants: every path is absolute, without `.`, `..` or empty components; every parent of an
//! entry is a directory of the plan; the first entry of a path stays. Modes are normalised
//! (readable by all, no set-id bits) and owners are root. Does not look at the host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use piston_fs::image::pack::{Meta, PackError, Source, Tree};

/// Links that one path may run through, as in the kernel.
const MOST_LINKS: u32 = 40;

/// Where a planned file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A file of the host.
    Host(PathBuf),
    /// Bytes of our own.
    Bytes(Vec<u8>),
}

/// One planned entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its bytes.
        content: Content,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link and its target.
    Symlink(String),
}

/// The contents of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    items: BTreeMap<String, Item>,
    newest: u32,
}

impl Plan {
    /// Every entry, sorted by path.
    pub(super) fn items(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|(path, item)| (path.as_str(), item))
    }

    /// The entry of that path.
    pub(super) fn item(&self, path: &str) -> Option<&Item> {
        self.items.get(path)
    }

    /// Whether there is an entry of that path.
    pub(super) fn contains(&self, path: &str) -> bool {
        self.items.contains_key(path)
    }

    /// Whether something above a path is no directory, so that nothing can lie there.
    pub(super) fn lies_in_file(&self, path: &str) -> bool {
        let ends = path.match_indices('/').skip(1).map(|(end, _)| &path[..end]);
        let above = ends.filter_map(|above| self.item(above));
        above.into_iter().any(|item| *item != Item::Directory)
    }

    /// Where an entry of this path lies: links to directories on the way to it are followed, inside of the
    /// plan and not for ever. The entry itself is not.
    pub(super) fn place(&self, path: &str) -> Result<String, &'static str> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (mut at, mut pending, mut left) = (String::new(), names(directory), MOST_LINKS);
        while let Some(name) = pending.pop() {
            if name == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let here = format!("{at}/{name}");
            match self.item(&here) {
                Some(Item::Symlink(target)) => {
                    left = left.checked_sub(1).ok_or("runs through too many links")?;
                    if target.starts_with('/') {
                        at.clear();
                    }
                    pending.extend(names(target));
                }
                Some(Item::File { .. }) => return Err("would lie in a file"),
                Some(Item::Directory) | None => at = here,
            }
        }
        Ok(format!("{at}/{name}"))
    }

    /// Adds an entry and its parents, unless there is one of that path already.
    pub(super) fn add(&mut self, path: &str, item: Item) {
        debug_assert!(is_normal(path), "{path}");
        let mut parent = path;
        while let Some((above, _)) = parent
            .rsplit_once('/')
            .filter(|(above, _)| !above.is_empty())
        {
            if self.items.contains_key(above) {
                break;
            }
            self.items.insert(above.to_owned(), Item::Directory);
            parent = above;
        }
        self.items.entry(path.to_owned()).or_insert(item);
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, path: &str) {
        self.add(path, Item::Directory);
    }

    /// Adds a symlink.
    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        self.add(path, Item::Symlink(target.to_owned()));
    }

    /// Adds a file that is not executable, with these bytes.
    pub(super) fn bytes(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let content = Content::Bytes(bytes.into());
        self.add(
            path,
            Item::File {
                content,
                executable: false,
            },
        );
    }

    /// The same, in the place of whatever else was planned there.
    pub(super) fn replace_bytes(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.items.remove(path);
        self.bytes(path, bytes);
    }

    /// Takes out everything whose path, or that of a directory above it, is one of these.
    pub(super) fn remove(&mut self, which: impl Fn(&str) -> bool) {
        let above = |path: &str| {
            let ends = path.match_indices('/').skip(1).map(|(end, _)| end);
            ends.chain([path.len()]).any(|end| which(&path[..end]))
        };
        self.items.retain(|path, _| !above(path));
    }

    /// Adds a file of the host, which was last changed at `mtime`.
    pub(super) fn host_file(&mut self, path: &str, from: PathBuf, executable: bool, mtime: u32) {
        self.newest = self.newest.max(mtime);
        self.add(
            path,
            Item::File {
                content: Content::Host(from),
                executable,
            },
        );
    }

    /// The newest time of a host file in it; the time that all its entries get unless the
    /// environment fixes another one, so that the same files give the same image.
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    /// Takes out what `lower` has as well: a view merges the two.
    pub(super) fn subtract(&mut self, lower: &Self) {
        self.items
            .retain(|path, item| *item == Item::Directory || lower.items.get(path) != Some(item));
        self.drop_empty_directories_of(lower);
    }

    fn drop_empty_directories_of(&mut self, lower: &Self) {
        let paths: Vec<String> = self.items.keys().cloned().collect();
        // Children sort after their parents, so that going backwards empties from the leaves.
        for path in paths.iter().rev() {
            let shared = self.items.get(path) == Some(&Item::Directory)
                && lower.items.get(path) == Some(&Item::Directory);
            if shared && !self.has_children(path) {
                self.items.remove(path);
            }
        }
    }

    fn has_children(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.items
            .range(inside.clone()..)
            .next()
            .is_some_and(|(next, _)| next.starts_with(&inside))
    }

    /// The tree for the image writer, every entry with the time `mtime`.
    pub(super) fn into_tree(self, mtime: u32) -> Result<Tree, PackError> {
        let meta = |mode| Meta {
            mode,
            uid: 0,
            gid: 0,
            mtime,
        };
        let mut tree = Tree::new();
        tree.directory("/", meta(0o755))?;
        for (path, item) in self.items {
            match item {
                Item::Directory => tree.directory(&path, meta(0o755))?,
                Item::Symlink(target) => tree.symlink(&path, meta(0o777), &target)?,
                Item::File {
                    content,
                    executable,
                } => {
                    let source = match content {
                        Content::Host(path) => Source::Path(path),
                        Content::Bytes(bytes) => Source::Bytes(bytes),
                    };
                    let mode = if executable { 0o755 } else { 0o644 };
                    tree.file(&path, meta(mode), source)?;
                }
            }
        }
        Ok(tree)
    }
}

fn is_normal(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

/// The named components of a path, last first.
pub(super) fn names(path: &str) -> Vec<String> {
    path.split('/')
        .rev()
        .filter(|name| !matches!(*name, "" | "."))
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(plan: &Plan) -> Vec<&str> {
        plan.items().map(|(path, _)| path).collect()
    }

    #[test]
    fn parents_come_with_an_entry_and_the_first_of_a_path_stays() {
        let mut plan = Plan::default();
        plan.bytes("/a/b/c", "first");
        plan.bytes("/a/b/c", "second");
        assert_eq!(paths(&plan), ["/a", "/a/b", "/a/b/c"]);
        let content = Content::Bytes(b"first".to_vec());
        let file = Item::File {
            content,
            executable: false,
        };
        assert!(plan.items().any(|(_, item)| *item == file));
    }

    #[test]
    fn what_the_lower_package_has_is_taken_out_with_its_directories() {
        let mut lower = Plan::default();
        lower.bytes("/usr/lib/libc", "c");
        lower.bytes("/usr/lib/other", "lower");
        lower.symlink("/lib", "usr/lib");
        lower.directory("/usr/share/same");
        let mut plan = lower.clone();
        plan.bytes("/usr/lib/new", "new");
        plan.directory("/opt/own");
        plan.subtract(&lower);
        assert_eq!(
            paths(&plan),
            ["/opt", "/opt/own", "/usr", "/usr/lib", "/usr/lib/new"]
        );
    }

    #[test]
    fn what_differs_from_the_lower_package_stays() {
        let mut lower = Plan::default();
        lower.bytes("/usr/lib/x", "lower");
        let mut plan = Plan::default();
        plan.bytes("/usr/lib/x", "upper");
        plan.subtract(&lower);
        assert!(plan.contains("/usr/lib/x"));
    }

    #[test]
    fn an_entry_lies_where_the_links_on_its_way_lead() {
        let mut plan = Plan::default();
        plan.bytes("/usr/bin/x", "x");
        plan.symlink("/bin", "usr/bin");
        plan.symlink("/sbin", "/bin");
        plan.symlink("/usr/up", "../../..");
        plan.symlink("/usr/new", "there/below");
        plan.symlink("/ring", "ring");
        for (path, expected) in [
            ("/bin/y", Ok("/usr/bin/y")),
            ("/sbin/y", Ok("/usr/bin/y")),
            ("/usr/up/etc/y", Ok("/etc/y")),
            ("/usr/new/y", Ok("/usr/there/below/y")),
            // The entry itself is not followed.
            ("/bin", Ok("/bin")),
            ("/new/y", Ok("/new/y")),
            ("/bin/x/y", Err("would lie in a file")),
            ("/ring/y", Err("runs through too many links")),
        ] {
            assert_eq!(plan.place(path), expected.map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn what_is_removed_goes_with_all_below_it() {
        let mut plan = Plan::default();
        for path in ["/usr/share/doc/x/y", "/usr/share/docs", "/usr/share/a.txt"] {
            plan.bytes(path, "x");
        }
        plan.remove(|path| path == "/usr/share/doc" || path == "/usr/share/a.txt");
        assert_eq!(paths(&plan), ["/usr", "/usr/share", "/usr/share/docs"]);
    }

    #[test]
    fn a_file_takes_the_place_of_another() {
        let mut plan = Plan::default();
        plan.symlink("/etc/os", "x");
        plan.replace_bytes("/etc/os", "new");
        assert!(matches!(plan.item("/etc/os"), Some(Item::File { .. })));
    }

    #[test]
    fn the_newest_file_gives_the_time() {
        let mut plan = Plan::default();
        assert_eq!(plan.newest(), 0);
        for time in [5, 9, 7] {
            plan.host_file(&format!("/{time}"), PathBuf::new(), false, time);
        }
        assert_eq!(plan.newest(), 9);
    }

    #[test]
    fn only_plain_absolute_paths_are_normal() {
        for good in ["/a", "/a/b.c/..d", "/..."] {
            assert!(is_normal(good), "{good}");
        }
        for bad in ["", "/", "a", "/a/", "//a", "/a/../b", "/./a"] {
            assert!(!is_normal(bad), "{bad}");
        }
    }
}
