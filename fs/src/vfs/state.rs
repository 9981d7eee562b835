//! What is published at one moment, and what an inode number stands for in it.
//!
//! Invariant: immutable once made; `runs` is sorted by first number and its runs don't overlap.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::gate::Gate;
use super::names::{NameDir, Named, Names};
use super::trail::Trail;
use super::{Stat, Totals, directory_size};
use crate::cache::BlockKey;
use crate::image::{BlockRef, ImageNode};
use crate::ino::{Ino, Numbers};
use crate::layer::{Contents, Layer, Listing};
use crate::node::{Attr, Kind};
use crate::num::to_u64;
use crate::view::{Child, DirIndex, LayerNode, View};

/// A layer's contents with numbers for its nodes: node `n` is `first + n` in every view.
#[derive(Debug)]
pub(super) struct Source {
    /// The number of its node 0.
    pub(super) first: Ino,
    /// What it holds.
    pub(super) contents: Contents,
    /// The way to its file.
    pub(super) gate: Gate,
    /// What was read of it lately.
    trail: Mutex<Trail>,
}

impl Source {
    /// A layer with numbers for its nodes from `first` on; reads that take longer than `patience`
    /// are held to hang.
    pub(super) fn new(first: Ino, contents: Contents, patience: Duration) -> Self {
        let trail = match &contents {
            Contents::Image(image) => Trail::new(image),
            Contents::Memory(..) => Trail::default(),
        };
        Self {
            first,
            contents,
            gate: Gate::new(patience),
            trail: Mutex::new(trail),
        }
    }

    /// What the cache knows a block by.
    pub(super) fn key(&self, block: &BlockRef) -> BlockKey {
        BlockKey {
            image: self.first.0,
            start: block.start,
        }
    }

    /// What was read of it lately. A guess, so nothing that a panic could spoil.
    pub(super) fn trail(&self) -> MutexGuard<'_, Trail> {
        self.trail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ino(&self, node: ImageNode) -> Ino {
        Ino(self.first.0 + u64::from(node.0))
    }
}

impl Listing for Source {
    fn kind(&self, node: ImageNode) -> Kind {
        self.contents.kind(node)
    }

    fn entries(&self, dir: ImageNode) -> Range<u32> {
        self.contents.entries(dir)
    }

    fn entry(&self, position: u32) -> (&[u8], ImageNode) {
        self.contents.entry(position)
    }

    fn directory(&self, node: ImageNode) -> Option<u32> {
        self.contents.directory(node)
    }

    fn is_synthetic(&self) -> bool {
        self.contents.is_synthetic()
    }
}

/// A view with numbers for its directories, at its place in the mount.
#[derive(Debug)]
pub(super) struct Published {
    /// Its path in the mount.
    pub(super) path: String,
    /// The number of directory 0, unless the view is the root of the mount.
    pub(super) first: Ino,
    /// The number of its root.
    pub(super) root: Ino,
    /// The number of the directory that holds it.
    pub(super) parent: Ino,
    /// The merged tables over the layers.
    pub(super) view: View<Source>,
}

impl Published {
    fn ino(&self, dir: DirIndex) -> Ino {
        if dir == DirIndex::ROOT {
            self.root
        } else {
            Ino(self.first.0 + u64::from(dir.0))
        }
    }

    /// What an entry of the view leads to.
    pub(super) fn child(&self, child: Child) -> Found<'_> {
        match child {
            Child::Directory(dir) => Found::Directory(self, dir),
            Child::Leaf(leaf) => Found::Leaf(self.view.layer(leaf.layer), leaf.node),
        }
    }

    /// The layer's directory that gives a directory its owner, mode and attributes.
    pub(super) fn origin(&self, dir: DirIndex) -> Option<(&Source, ImageNode)> {
        let LayerNode { layer, node } = self.view.origin(dir)?;
        Some((self.view.layer(layer), node))
    }

    fn attr(&self, dir: DirIndex) -> Attr {
        let made_up = Attr {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            nlink: 2,
            size: 0,
            blocks: 0,
        };
        let origin = self.origin(dir);
        let attr = origin.map_or(made_up, |(source, node)| source.contents.attr(node));
        Attr {
            // One writer counts all entries as links, and the kernel shows what the image says.
            nlink: attr.nlink.max(self.view.nlink(dir)),
            // As overlayfs does: that of the highest layer which has one.
            size: match attr.size {
                0 => directory_size(&self.view, dir),
                size => size,
            },
            ..attr
        }
    }
}

/// What a number stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// A directory above the views.
    Names(&'a NameDir),
    /// A directory of a view.
    Directory(&'a Published, DirIndex),
    /// Anything else.
    Leaf(&'a Arc<Source>, ImageNode),
}

impl Found<'_> {
    /// What `stat` shows, owners as the image has them.
    pub(super) fn stat(self) -> Stat {
        match self {
            Self::Names(dir) => names_stat(dir),
            Self::Directory(view, dir) => Stat {
                ino: view.ino(dir),
                attr: view.attr(dir),
            },
            Self::Leaf(source, node) => Stat {
                ino: source.ino(node),
                attr: source.contents.attr(node),
            },
        }
    }
}

#[derive(Debug, Clone)]
enum Run {
    Source(Arc<Source>),
    View(Arc<Published>),
}

impl Run {
    fn first(&self) -> Ino {
        match self {
            Self::Source(source) => source.first,
            Self::View(published) => published.first,
        }
    }

    fn count(&self) -> u32 {
        match self {
            Self::Source(source) => source.contents.node_count(),
            Self::View(published) => published.view.dir_count(),
        }
    }
}

/// What is published at one moment.
#[derive(Debug)]
pub(super) struct State {
    /// The directories above the views.
    pub(super) names: Names,
    runs: Vec<Run>,
}

impl State {
    /// Nothing published.
    pub(super) fn empty() -> Self {
        Self {
            names: Names::new(),
            runs: Vec::new(),
        }
    }

    /// The layer as it is known already, or with new numbers.
    pub(super) fn source(
        &self,
        layer: &Layer,
        numbers: &mut Numbers,
        patience: Duration,
    ) -> Arc<Source> {
        let known = self.runs.iter().find_map(|run| match run {
            Run::Source(source) if source.contents.is(layer) => Some(Arc::clone(source)),
            Run::Source(_) | Run::View(_) => None,
        });
        known.unwrap_or_else(|| {
            let contents = Contents::load(layer);
            let first = numbers.take(contents.node_count());
            Arc::new(Source::new(first, contents, patience))
        })
    }

    /// The state with one more view.
    pub(super) fn with_view(&self, names: Names, published: &Arc<Published>) -> Self {
        let mut runs = self.runs.clone();
        runs.push(Run::View(Arc::clone(published)));
        runs.extend(published.view.layers().iter().cloned().map(Run::Source));
        runs.sort_by_key(Run::first);
        runs.dedup_by_key(|run| run.first());
        Self { names, runs }
    }

    /// The state without a view, and the layers that no other view has.
    pub(super) fn without_view(
        &self,
        names: Names,
        gone: &Arc<Published>,
    ) -> (Self, Vec<Arc<Source>>) {
        let mut used: Vec<Ino> = names
            .views()
            .flat_map(|view| view.view.layers().iter().map(|source| source.first))
            .collect();
        used.sort_unstable();
        let mut dropped = Vec::new();
        let mut runs = self.runs.clone();
        runs.retain(|run| match run {
            Run::View(published) => !Arc::ptr_eq(published, gone),
            Run::Source(source) => {
                let keep = used.binary_search(&source.first).is_ok();
                if !keep {
                    dropped.push(Arc::clone(source));
                }
                keep
            }
        });
        (Self { names, runs }, dropped)
    }

    /// The layers that are published.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.runs.iter().filter_map(|run| match run {
            Run::Source(source) => Some(source),
            Run::View(_) => None,
        })
    }

    /// What a number stands for.
    pub(super) fn find(&self, ino: Ino) -> Option<Found<'_>> {
        let after = self.runs.partition_point(|run| run.first() <= ino);
        let run = after.checked_sub(1).and_then(|at| self.runs.get(at));
        if let Some(run) = run
            && let Ok(offset) = u32::try_from(ino.0 - run.first().0)
            && offset < run.count()
        {
            return Some(match run {
                Run::Source(source) => Found::Leaf(source, ImageNode(offset)),
                Run::View(published) => Found::Directory(published, DirIndex(offset)),
            });
        }
        match self.names.whole() {
            Some(whole) if ino == Ino::ROOT => Some(Found::Directory(whole, DirIndex::ROOT)),
            Some(_) | None => self.names.dir(ino).map(Found::Names),
        }
    }

    /// What a name in a directory above the views leads to.
    pub(super) fn named<'a>(&'a self, dir: &'a NameDir, name: &[u8]) -> Option<Found<'a>> {
        self.follow(dir.entries.get(name)?)
    }

    /// The entries of a directory above the views after the one that ended with `from`. They are
    /// told by age, not by name, so that a listing that is under way misses nothing and tells
    /// nothing twice when views come and go.
    pub(super) fn list<'a>(
        &'a self,
        dir: &'a NameDir,
        from: u64,
    ) -> impl Iterator<Item = (&'a [u8], Found<'a>, u64)> {
        let mut entries: Vec<_> = dir
            .entries
            .iter()
            .map(|(name, named)| (named.ino().0 + 2, name.as_slice(), named))
            .filter(|(next, _, _)| *next > from)
            .collect();
        entries.sort_unstable_by_key(|(next, _, _)| *next);
        let found = entries.into_iter();
        found.filter_map(|(next, name, named)| Some((name, self.follow(named)?, next)))
    }

    fn follow<'a>(&'a self, named: &'a Named) -> Option<Found<'a>> {
        match named {
            Named::Directory(ino) => self.names.dir(*ino).map(Found::Names),
            Named::View(published) => Some(Found::Directory(published, DirIndex::ROOT)),
        }
    }

    /// The directory that holds a directory.
    pub(super) fn parent<'a>(&'a self, found: Found<'a>) -> Found<'a> {
        match found {
            Found::Directory(view, dir) if dir != DirIndex::ROOT => {
                Found::Directory(view, view.view.parent(dir))
            }
            Found::Directory(view, _) => self.find(view.parent).unwrap_or(found),
            Found::Names(dir) => self.find(dir.parent).unwrap_or(found),
            Found::Leaf(..) => found,
        }
    }

    /// Totals of what is published.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals {
            bytes: 0,
            nodes: to_u64(self.names.count()),
            table_bytes: 0,
        };
        for run in &self.runs {
            totals.nodes += u64::from(run.count());
            match run {
                Run::Source(source) => {
                    totals.table_bytes += to_u64(source.contents.table_bytes());
                    let bytes = source.contents.content_bytes();
                    totals.bytes = totals.bytes.saturating_add(bytes);
                }
                Run::View(published) => {
                    totals.table_bytes += to_u64(published.view.table_bytes());
                }
            }
        }
        totals
    }

    /// A path in the mount that leads to a file. Slow: for reports.
    pub(super) fn describe(&self, ino: Ino) -> String {
        let Some(Found::Leaf(source, node)) = self.find(ino) else {
            return format!("inode {ino}");
        };
        let in_view = |view: &Arc<Published>| {
            let mut layers = view.view.layers().iter();
            let layer = layers.position(|known| known.first == source.first)?;
            let layer = u32::try_from(layer).ok()?;
            let below = view.view.path_of(LayerNode { layer, node })?;
            Some(format!("{}/{below}", view.path))
        };
        let path = self.names.views().find_map(in_view);
        path.unwrap_or_else(|| format!("inode {ino}"))
    }
}

fn names_stat(dir: &NameDir) -> Stat {
    let directories = u32::try_from(dir.entries.len()).unwrap_or(u32::MAX - 2);
    Stat {
        ino: dir.ino,
        attr: Attr {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: dir.changed,
            nlink: 2 + directories,
            size: 4096,
            blocks: 0,
        },
    }
}
