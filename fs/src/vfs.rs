//! The filesystem without FUSE: what is published, and the answer to every question about it.
//!
//! A published view is a [`View`]'s tables with inode numbers on top: its directories have a run
//! of numbers of their own, files and everything else the number that their image's node has in
//! this mount, wherever it appears. So the kernel keeps one page cache for all views.
//!
//! The parts: `names.rs` knows the directories above the views, `state.rs` finds what a number
//! stands for, `read.rs` reads file contents, through `gate.rs`, which keeps an image that hangs
//! from taking all threads; `trail.rs` guesses what is read next and `hot.rs` keeps what the first
//! reads were, `ahead.rs` is the queue of what is loaded before it is asked for. Readers take a snapshot of the state; publishing
//! makes a new state beside it and swaps. Invariant: a state never changes once it is visible.
//!
//! Everything here is synchronous, knows no fuser type and never touches the mount.

mod ahead;
mod gate;
mod hot;
mod names;
mod read;
mod reading;
mod state;
#[cfg(test)]
mod tests;
mod trail;

pub(crate) use hot::HotList;
pub(crate) use names::{Change, NameError, ViewPath};
pub(crate) use read::{Reading, Scratch};

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::cache::BlockCache;
use crate::error::FsError;
use crate::ino::{Ino, Numbers};
use crate::layer::Placed;
use crate::node::{Attr, Kind};
use crate::num::to_u64;
use crate::owners::Owners;
use crate::stats::{Counters, Stats};
use crate::view::{self, PlacedListing, View, ViewError};
use ahead::Ahead;
use state::{Found, Published, Source, State};

/// How many damaged files are told apart in the log.
const DAMAGED_FILES: usize = 10_000;

/// What `stat` shows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Its inode number.
    pub(crate) ino: Ino,
    /// Kind, mode, owners as shown in this mount, time, links, length.
    pub(crate) attr: Attr,
}

/// One entry of a listing.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    /// Its name; `.` and `..` come first.
    pub(crate) name: &'a [u8],
    /// What it is.
    pub(crate) stat: Stat,
    /// Where to go on after it.
    pub(crate) next: u64,
}

/// Totals of what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Sum of the file lengths, every image once.
    pub(crate) bytes: u64,
    /// Nodes.
    pub(crate) nodes: u64,
    /// Bytes that the tables take, of images and of views.
    pub(crate) table_bytes: u64,
}

/// Why layers can't be published, or a path not be unpublished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The path is malformed, taken or missing.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The place of a layer in the view is malformed.
    #[error("a layer can't sit at {0:?}: not an absolute path without `.`, `..` and empty names")]
    Place(String),
    /// The merged tree is too large.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// The filesystem.
#[derive(Debug)]
pub(crate) struct Vfs {
    state: RwLock<Arc<State>>,
    /// Held while a new state is made: one publication at a time.
    numbers: Mutex<Numbers>,
    cache: BlockCache<FsError>,
    ahead: Ahead,
    /// How long reading a block may take.
    patience: Duration,
    owners: Owners,
    counters: Counters,
    damaged: Mutex<HashSet<Ino>>,
}

impl Vfs {
    /// An empty filesystem with a block cache of this many bytes, where reading a block that takes
    /// longer than `patience` is held to hang.
    pub(crate) fn new(cache_bytes: usize, patience: Duration, owners: Owners) -> Self {
        Self {
            state: RwLock::new(Arc::new(State::empty())),
            numbers: Mutex::new(Numbers::new()),
            cache: BlockCache::new(cache_bytes, patience),
            // The other half is for what is asked for.
            ahead: Ahead::new(cache_bytes / 2),
            patience,
            owners,
            counters: Counters::default(),
            damaged: Mutex::new(HashSet::new()),
        }
    }

    /// Makes the merged tree of `layers` appear at `path`. Returns what the kernel has to be told
    /// and the names in which layers overlap.
    pub(crate) fn publish(
        &self,
        path: &ViewPath,
        layers: &[Placed],
    ) -> Result<(Change, Vec<String>), PublishError> {
        let mut numbers = lock(&self.numbers);
        let old = self.snapshot();
        old.names.check_free(path)?;
        let sources = self.sources(&old, layers, &mut numbers);
        let merged = merge(layers, &sources)?;
        let first = numbers.take(merged.view.dir_count());
        let mut names = old.names.clone();
        let parent = names.add_parents(path, &mut numbers);
        let published = Arc::new(Published {
            path: path.to_string(),
            first,
            root: if path.is_root() { Ino::ROOT } else { first },
            parent: parent.ino,
            view: merged.view,
        });
        let change = names.add_view(path, parent, &published);
        self.swap(old.with_view(names, &published));
        Ok((change, merged.overlaps))
    }

    /// Makes what was published at `path` disappear, with the directories above it that become
    /// empty. Its numbers stand for nothing from then on.
    pub(crate) fn unpublish(&self, path: &ViewPath) -> Result<Change, PublishError> {
        let numbers = lock(&self.numbers);
        let old = self.snapshot();
        let mut names = old.names.clone();
        let (published, change) = names.remove(path)?;
        let (new, dropped) = old.without_view(names, &published);
        self.swap(new);
        for source in dropped {
            self.cache.forget(source.first.0);
        }
        drop(numbers);
        Ok(change)
    }

    /// What `name` is in a directory; none when there is no such entry.
    pub(crate) fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Stat>, FsError> {
        let state = self.snapshot();
        match state.find(parent).ok_or(FsError::Gone)? {
            Found::Names(dir) => Ok(state.named(dir, name).map(|found| self.stat(found))),
            Found::Directory(view, dir) => {
                let child = view.view.find(dir, name);
                Ok(child.map(|child| self.stat(view.child(child))))
            }
            Found::Leaf(..) => Err(FsError::NotDirectory),
        }
    }

    /// What `stat` shows.
    pub(crate) fn getattr(&self, ino: Ino) -> Result<Stat, FsError> {
        let state = self.snapshot();
        let found = state.find(ino).ok_or(FsError::Stale)?;
        Ok(self.stat(found))
    }

    /// Target of a symlink.
    pub(crate) fn readlink(&self, ino: Ino) -> Result<Vec<u8>, FsError> {
        let state = self.snapshot();
        match state.find(ino).ok_or(FsError::Stale)? {
            Found::Leaf(source, node) if source.contents.attr(node).kind == Kind::Symlink => {
                Ok(source.contents.symlink(node).to_vec())
            }
            Found::Leaf(..) | Found::Names(_) | Found::Directory(..) => Err(FsError::WrongKind),
        }
    }

    /// Hands the entries of a directory to `each` until it breaks, going on where the item with
    /// this `next` ended; 0 is the start.
    pub(crate) fn readdir(
        &self,
        ino: Ino,
        from: u64,
        mut each: impl FnMut(&Item<'_>) -> ControlFlow<()>,
    ) -> Result<(), FsError> {
        let state = self.snapshot();
        let found = state.find(ino).ok_or(FsError::Gone)?;
        if matches!(found, Found::Leaf(..)) {
            return Err(FsError::NotDirectory);
        }
        let item = |name, found: Found<'_>, next| Item {
            name,
            stat: self.stat(found),
            next,
        };
        if from < 1 && each(&item(b".", found, 1)).is_break() {
            return Ok(());
        }
        if from < 2 && each(&item(b"..", state.parent(found), 2)).is_break() {
            return Ok(());
        }
        match found {
            Found::Names(dir) => {
                for (name, child, next) in state.list(dir, from) {
                    if each(&item(name, child, next)).is_break() {
                        break;
                    }
                }
            }
            Found::Directory(view, dir) => {
                let skip = u32::try_from(from.saturating_sub(2)).unwrap_or(u32::MAX);
                let mut next = from.max(2);
                for (name, child) in view.view.list(dir, skip) {
                    next += 1;
                    if each(&item(name, view.child(child), next)).is_break() {
                        break;
                    }
                }
            }
            Found::Leaf(..) => {}
        }
        Ok(())
    }

    /// Value of an extended attribute.
    pub(crate) fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, FsError> {
        self.with_xattrs(ino, |attributes| {
            let found = attributes.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, value)| value.to_vec())
                .ok_or(FsError::NoAttribute)
        })
    }

    /// Names of the extended attributes, each with a NUL behind it.
    pub(crate) fn listxattr(&self, ino: Ino) -> Result<Vec<u8>, FsError> {
        self.with_xattrs(ino, |attributes| {
            let names = attributes.iter().map(|(name, _)| *name);
            Ok(names.flat_map(|name| [name, b"\0"].concat()).collect())
        })
    }

    /// Numbers for the nodes of every layer, those it has already where it is known.
    fn sources(&self, state: &State, layers: &[Placed], numbers: &mut Numbers) -> Vec<Arc<Source>> {
        let mut sources: Vec<Arc<Source>> = Vec::with_capacity(layers.len());
        for Placed { layer, .. } in layers {
            let twice = sources.iter().find(|source| source.contents.is(layer));
            let source = match twice {
                Some(source) => Arc::clone(source),
                None => state.source(layer, numbers, self.patience),
            };
            sources.push(source);
        }
        sources
    }

    /// Totals of what is published.
    pub(crate) fn totals(&self) -> Totals {
        self.snapshot().totals()
    }

    /// The counters, to count a request or an error.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The counters now.
    pub(crate) fn stats(&self) -> Stats {
        let totals = self.totals();
        Stats {
            nodes: totals.nodes,
            table_bytes: totals.table_bytes,
            cached_bytes: to_u64(self.cache.bytes()),
            ..self.counters.read_all()
        }
    }

    /// Where a damaged file is, the first time that it is asked for.
    pub(crate) fn first_damage(&self, ino: Ino) -> Option<String> {
        let mut damaged = lock(&self.damaged);
        let new = damaged.len() < DAMAGED_FILES && damaged.insert(ino);
        drop(damaged);
        new.then(|| self.snapshot().describe(ino))
    }

    fn with_xattrs<R>(
        &self,
        ino: Ino,
        answer: impl FnOnce(&[(&[u8], &[u8])]) -> Result<R, FsError>,
    ) -> Result<R, FsError> {
        let state = self.snapshot();
        let mut attributes = Vec::new();
        match state.find(ino).ok_or(FsError::Stale)? {
            Found::Leaf(source, node) => source.contents.xattrs(node, &mut attributes),
            Found::Directory(view, dir) => {
                if let Some((source, node)) = view.origin(dir) {
                    source.contents.xattrs(node, &mut attributes);
                }
            }
            Found::Names(_) => {}
        }
        answer(&attributes)
    }

    fn stat(&self, found: Found<'_>) -> Stat {
        let mut stat = found.stat();
        stat.attr.uid = self.owners.user(stat.attr.uid);
        stat.attr.gid = self.owners.group(stat.attr.gid);
        stat
    }

    /// The state as it is now; publishing goes on beside it.
    fn snapshot(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn swap(&self, new: State) {
        let new = Arc::new(new);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *state, new);
        drop(state);
        // The tables of an old state may be large: not freed under the lock.
        drop(old);
    }
}

/// Merges layers as they are placed.
fn merge(layers: &[Placed], sources: &[Arc<Source>]) -> Result<view::Merged<Source>, PublishError> {
    let placed = layers.iter().zip(sources).map(|(placed, source)| {
        let names = placed.names();
        Ok(PlacedListing {
            listing: Arc::clone(source),
            at: names.ok_or_else(|| PublishError::Place(placed.at.clone()))?,
        })
    });
    let placed = placed.collect::<Result<Vec<_>, PublishError>>()?;
    Ok(view::merge(&placed)?)
}

/// What the size of a directory that no image has would be in squashfs, if it was stored in one place: a header for every
/// 256 entries, 8 bytes and the name for each, and 3 for `.` and `..`.
fn directory_size(view: &View<Source>, dir: view::DirIndex) -> u64 {
    let sizes = view.list(dir, 0).map(|(name, _)| 8 + to_u64(name.len()));
    let (entries, bytes) = sizes.fold((0_u64, 0), |(count, sum), size| (count + 1, sum + size));
    3 + 12 * entries.div_ceil(256) + bytes
}

/// Nothing behind these locks is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
