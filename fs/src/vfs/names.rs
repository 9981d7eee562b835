//! The directories above the views, and the names of the views in them.
//!
//! Invariant: every directory here but the root holds at least one view somewhere below it, and
//! nothing lies below a view. Either the root is a view itself, or it holds names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::state::Published;
use crate::ino::{Ino, Numbers};
use crate::layer::is_name;

/// Why a view can't be named so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// Not relative names joined by slashes.
    #[error("it has an empty, `.`, `..` or overlong name")]
    Malformed,
    /// Something is published there.
    #[error("something is published there already")]
    Taken,
    /// Something is published below there.
    #[error("something is published below it")]
    Occupied,
    /// It would lie inside of another view.
    #[error("it would be inside of {0}, which is published")]
    Inside(String),
    /// There is nothing to unpublish.
    #[error("nothing is published there")]
    Missing,
}

/// Where a view is in the mount; the empty path is the root of the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ViewPath(Vec<String>);

impl ViewPath {
    /// The root of the mount.
    pub(crate) fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks a path such as `views/python/3.11.2`.
    pub(crate) fn parse(path: &str) -> Result<Self, NameError> {
        let names = path.split('/').map(|name| {
            let good = is_name(name);
            good.then(|| name.to_owned()).ok_or(NameError::Malformed)
        });
        names.collect::<Result<_, _>>().map(Self)
    }

    /// Whether it is the root of the mount.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ViewPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

/// What the kernel may have cached and is no longer true: these names in this directory, and the
/// directory's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The directory.
    pub(crate) parent: Ino,
    /// Names that appeared in it or disappeared from it.
    pub(crate) names: Vec<Vec<u8>>,
}

/// An entry of a directory above the views.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// Another such directory.
    Directory(Ino),
    /// The root of a view.
    View(Arc<Published>),
}

impl Named {
    /// Its inode number.
    pub(super) fn ino(&self) -> Ino {
        match self {
            Self::Directory(ino) => *ino,
            Self::View(published) => published.root,
        }
    }
}

/// A directory above the views.
#[derive(Debug, Clone)]
pub(super) struct NameDir {
    /// Its inode number.
    pub(super) ino: Ino,
    /// The directory that holds it; the root holds itself.
    pub(super) parent: Ino,
    /// What it holds.
    pub(super) entries: BTreeMap<Vec<u8>, Named>,
    /// When it last changed, in Unix time.
    pub(super) changed: u32,
}

impl NameDir {
    fn new(ino: Ino, parent: Ino) -> Self {
        Self {
            ino,
            parent,
            entries: BTreeMap::new(),
            changed: now(),
        }
    }
}

/// A directory that a view is going to be added to, and the first name on the way to it that the
/// kernel can know nothing true about.
#[derive(Debug)]
pub(super) struct Parent {
    /// The directory.
    pub(super) ino: Ino,
    /// Set when directories had to be made.
    change: Option<Change>,
}

/// The directories above the views.
#[derive(Debug, Clone)]
pub(super) struct Names {
    dirs: BTreeMap<Ino, NameDir>,
    whole: Option<Arc<Published>>,
}

impl Names {
    /// An empty root.
    pub(super) fn new() -> Self {
        Self {
            dirs: BTreeMap::from([(Ino::ROOT, NameDir::new(Ino::ROOT, Ino::ROOT))]),
            whole: None,
        }
    }

    /// The view that is the root of the mount, if one is.
    pub(super) fn whole(&self) -> Option<&Arc<Published>> {
        self.whole.as_ref()
    }

    /// Number of directories.
    pub(super) fn count(&self) -> usize {
        self.dirs.len()
    }

    /// The directory with this number.
    pub(super) fn dir(&self, ino: Ino) -> Option<&NameDir> {
        self.dirs.get(&ino)
    }

    /// Everything that is published.
    pub(super) fn views(&self) -> impl Iterator<Item = &Arc<Published>> {
        let named = self.dirs.values().flat_map(|dir| dir.entries.values());
        let views = named.filter_map(|named| match named {
            Named::View(published) => Some(published),
            Named::Directory(_) => None,
        });
        views.chain(&self.whole)
    }

    /// Whether a view can be published at a path.
    pub(super) fn check_free(&self, path: &ViewPath) -> Result<(), NameError> {
        if self.whole.is_some() {
            return Err(NameError::Taken);
        }
        let mut at = Ino::ROOT;
        for (depth, name) in path.0.iter().enumerate() {
            match self.entry(at, name) {
                None => return Ok(()),
                Some(Named::Directory(ino)) => at = *ino,
                Some(Named::View(published)) if depth + 1 < path.0.len() => {
                    return Err(NameError::Inside(published.path.clone()));
                }
                Some(Named::View(_)) => return Err(NameError::Taken),
            }
        }
        let root_is_empty = path.is_root() && self.views().next().is_none();
        root_is_empty.then_some(()).ok_or(NameError::Occupied)
    }

    /// Makes the directories above a path that was found free.
    pub(super) fn add_parents(&mut self, path: &ViewPath, numbers: &mut Numbers) -> Parent {
        let mut at = Ino::ROOT;
        let mut change = None;
        for name in path.0.split_last().map_or(&[][..], |(_, parents)| parents) {
            at = match self.entry(at, name) {
                Some(Named::Directory(ino)) => *ino,
                Some(Named::View(_)) | None => {
                    let ino = numbers.take(1);
                    self.dirs.insert(ino, NameDir::new(ino, at));
                    let made = self.set(at, name, Some(Named::Directory(ino)));
                    change.get_or_insert(made);
                    ino
                }
            };
        }
        Parent { ino: at, change }
    }

    /// Adds a view under the last name of its path.
    pub(super) fn add_view(
        &mut self,
        path: &ViewPath,
        parent: Parent,
        published: &Arc<Published>,
    ) -> Change {
        let Some(name) = path.0.last() else {
            self.whole = Some(Arc::clone(published));
            return whole_root(published);
        };
        let named = Named::View(Arc::clone(published));
        let added = self.set(parent.ino, name, Some(named));
        parent.change.unwrap_or(added)
    }

    /// Removes a view and the directories above it that it leaves empty.
    pub(super) fn remove(
        &mut self,
        path: &ViewPath,
    ) -> Result<(Arc<Published>, Change), NameError> {
        if path.is_root() {
            let published = self.whole.take().ok_or(NameError::Missing)?;
            let change = whole_root(&published);
            return Ok((published, change));
        }
        let (last, parents) = path.0.split_last().ok_or(NameError::Missing)?;
        let mut way = vec![Ino::ROOT];
        for name in parents {
            match way.last().and_then(|at| self.entry(*at, name)) {
                Some(Named::Directory(ino)) => way.push(*ino),
                Some(Named::View(_)) | None => return Err(NameError::Missing),
            }
        }
        let mut at = way.pop().unwrap_or(Ino::ROOT);
        let Some(Named::View(published)) = self.entry(at, last).cloned() else {
            return Err(NameError::Missing);
        };
        let mut change = self.set(at, last, None);
        for (parent, name) in way.into_iter().zip(parents).rev() {
            if self.dirs.get(&at).is_none_or(|dir| !dir.entries.is_empty()) {
                break;
            }
            self.dirs.remove(&at);
            change = self.set(parent, name, None);
            at = parent;
        }
        Ok((published, change))
    }

    fn entry(&self, dir: Ino, name: &str) -> Option<&Named> {
        self.dirs.get(&dir)?.entries.get(name.as_bytes())
    }

    /// Sets or removes an entry.
    fn set(&mut self, dir: Ino, name: &str, entry: Option<Named>) -> Change {
        let name = name.as_bytes().to_vec();
        if let Some(dir) = self.dirs.get_mut(&dir) {
            dir.changed = now();
            match entry {
                Some(entry) => dir.entries.insert(name.clone(), entry),
                None => dir.entries.remove(&name),
            };
        }
        Change {
            parent: dir,
            names: vec![name],
        }
    }
}

/// The change when a view becomes, or was, the root of the mount.
fn whole_root(published: &Published) -> Change {
    let entries = published.view.list(crate::view::DirIndex::ROOT, 0);
    Change {
        parent: Ino::ROOT,
        names: entries.map(|(name, _)| name.to_vec()).collect(),
    }
}

fn now() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}
