//! The groups of this daemon: a parent, groups that wait for jobs below it, and what cleans up.
//!
//! A thread makes groups ahead of the jobs that take them and looks at those that come back: one
//! that is empty goes to the next job, any other is tried again for a while and then removed.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use piston_client::units::Bytes;
use sha2::{Digest as _, Sha256};

use super::super::spec::Controllers;
use super::files::{self, FileError};
use super::place::{Legacy, Missing, Own, Place, Unified, memory_above, memory_of_process};
use super::v2::Again;
use super::{Bounds, Entry, OutOfMemory, Usage, v1, v2};

/// Groups that wait for jobs at the start, and below which more are made.
const STOCK: usize = 4;

/// Groups that are kept for later at most. An idle one costs the kernel some hundred KiB.
const KEPT: usize = 128;

/// What may be left in a group that goes to the next job: counters lag behind by some pages.
const LEFT_OVER: u64 = 2 << 20;

/// When a group that is not empty yet is looked at again, and when no more.
const PATIENCE: [Duration; 5] = [
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// How long the groups of a daemon that was killed may take to be empty.
const SWEEP_PATIENCE: Duration = Duration::from_secs(2);

/// What groups are made for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hundredths of what memory there is that all jobs together may use.
    pub memory_percent: u64,
    /// The data directory: only one daemon has it, so its groups are known by it.
    pub data: PathBuf,
}

/// What there is of control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Where groups are, in words.
    pub description: String,
    /// What they limit and count.
    pub controllers: Controllers,
    /// Memory of all jobs together, where that is limited.
    pub memory: Bytes,
}

impl Offer {
    fn of(place: &Place, percent: u64) -> Self {
        let (version, controllers, path) = match place {
            Place::Unified(Unified {
                base, controllers, ..
            }) => ("version 2", *controllers, Some(base)),
            Place::Legacy(legacy) => (
                "version 1",
                legacy.controllers(),
                legacy.directories().first().copied(),
            ),
        };
        let names = [
            (controllers.memory, "memory"),
            (controllers.pids, "pids"),
            (controllers.cpu, "processor time"),
        ];
        let names: Vec<_> = names
            .into_iter()
            .filter_map(|(there, name)| there.then_some(name))
            .collect();
        let path = path.map_or_else(String::new, |path| format!(" below {}", path.display()));
        Self {
            description: format!("{version}{path}: {}", names.join(", ")),
            controllers,
            memory: share(memory_above(place), percent),
        }
    }
}

/// The groups of a daemon.
#[derive(Debug)]
pub struct Groups {
    shared: Arc<Shared>,
    offer: Offer,
    mail: Sender<Mail>,
    cleaner: Option<JoinHandle<()>>,
}

/// What jobs and the cleaner have in common.
#[derive(Debug)]
struct Shared {
    parent: Parent,
    ready: Mutex<Vec<Tree>>,
    /// Number of the next group.
    next: AtomicU64,
}

/// What the cleaner is told.
enum Mail {
    /// A stage is done with it.
    Back(Tree),
    /// There are few left.
    Few,
    /// The daemon ends.
    Close,
}

/// The group above all jobs.
#[derive(Debug)]
enum Parent {
    Two(v2::Parent),
    One(v1::Parent),
}

/// A group of either version.
#[derive(Debug)]
enum Tree {
    Two(v2::Group),
    One(v1::Group),
}

/// A group that a stage has.
pub(in crate::sandbox) struct Group {
    /// None only while it is dropped.
    tree: Option<Tree>,
    mail: Sender<Mail>,
}

impl Groups {
    /// What could be had for a daemon that this process became, with so many hundredths of the
    /// memory; changes nothing.
    pub fn survey(memory_percent: u64) -> Result<Offer, Missing> {
        Ok(Offer::of(&find()?, memory_percent))
    }

    /// Finds a place, removes what an earlier daemon left there, and makes the first groups. May
    /// move this process into a group of its own below the one it is in.
    pub fn open(settings: &Settings) -> Result<Self, Missing> {
        let place = find()?;
        let offer = Offer::of(&place, settings.memory_percent);
        let name = name(&settings.data);
        sweep(&place, &name);
        let parent = Parent::open(&place, &name, offer.memory).map_err(|error| unusable(&error))?;
        let shared = Arc::new(Shared {
            parent,
            ready: Mutex::new(Vec::new()),
            next: AtomicU64::new(0),
        });
        for _ in 0..STOCK {
            let tree = shared.make().map_err(|error| unusable(&error))?;
            shared.put(tree);
        }
        let (mail, letters) = channel();
        let cleaning = Arc::clone(&shared);
        let cleaner = std::thread::Builder::new()
            .name("piston-cgroups".to_owned())
            .spawn(move || Cleaner::new(cleaning).run(&letters))
            .map_err(|error| Missing {
                reason: format!("no thread can be started: {error}"),
                remedy: "raise the limit of threads".to_owned(),
            })?;
        Ok(Self {
            shared,
            offer,
            mail,
            cleaner: Some(cleaner),
        })
    }

    /// What they are.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// An empty group with these bounds.
    pub(in crate::sandbox) fn take(&self, bounds: Bounds) -> Result<Group, FileError> {
        let (ready, left) = self.shared.take();
        if left < STOCK / 2 {
            // Without the cleaner groups are made here.
            self.mail.send(Mail::Few).ok();
        }
        let used = ready.and_then(|tree| self.bounded(tree, bounds));
        let tree = if let Some(tree) = used {
            tree
        } else {
            let mut tree = self.shared.make()?;
            tree.bound(bounds)?;
            tree
        };
        Ok(Group {
            tree: Some(tree),
            mail: self.mail.clone(),
        })
    }

    /// A used group with its bounds; none when what is left in it is more than they allow.
    fn bounded(&self, mut tree: Tree, bounds: Bounds) -> Option<Tree> {
        if tree.bound(bounds).is_ok() {
            return Some(tree);
        }
        // It is empty; nobody waits for its end.
        self.mail.send(Mail::Back(tree)).ok();
        None
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.mail.send(Mail::Close).ok();
        if let Some(cleaner) = self.cleaner.take() {
            // A panic there was reported; here is nothing more to do.
            cleaner.join().ok();
        }
    }
}

/// The place for this process.
fn find() -> Result<Place, Missing> {
    of_process(Place::find)
}

/// So many hundredths of the memory that this process may use, be it the host's or a container's:
/// what all jobs together get where there is no group above them.
pub fn memory_for_jobs(percent: u64) -> Bytes {
    share(of_process(memory_of_process), percent)
}

fn share(memory: u64, percent: u64) -> Bytes {
    Bytes((memory / 100).saturating_mul(percent))
}

fn of_process<T>(look: impl FnOnce(Own<'_>) -> T) -> T {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    look(Own {
        mounts: &read("/proc/self/mountinfo"),
        groups: &read("/proc/self/cgroup"),
        pid: std::process::id(),
    })
}

fn unusable(error: &FileError) -> Missing {
    let reason = crate::error::chain(error);
    Missing {
        reason,
        remedy: "delegate the group to the daemon's user, as with `Delegate=yes`".to_owned(),
    }
}

/// The name of the parent for a data directory.
fn name(data: &Path) -> String {
    let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let digest = Sha256::digest(data.as_os_str().as_encoded_bytes());
    format!("piston-{}", hex::encode(&digest[..6]))
}

/// Kills and removes what an earlier daemon of the same name left.
fn sweep(place: &Place, name: &str) {
    let parents: Vec<PathBuf> = match place {
        Place::Unified(Unified { base, .. }) => vec![base.join(name)],
        Place::Legacy(legacy) => legacy
            .directories()
            .into_iter()
            .map(|base| base.join(name))
            .collect(),
    };
    let deadline = Instant::now() + SWEEP_PATIENCE;
    for parent in parents {
        for group in files::children(&parent) {
            let mut left = files::remove(&group);
            while left.is_err() && Instant::now() < deadline {
                v2::kill(&group);
                v1::kill(&group);
                std::thread::sleep(PATIENCE[0]);
                left = files::remove(&group);
            }
            if let Err(error) = left {
                let error = crate::error::chain(&error);
                tracing::warn!(error, "a control group of an earlier daemon stays");
            }
        }
    }
}

impl Shared {
    fn ready(&self) -> std::sync::MutexGuard<'_, Vec<Tree>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> (Option<Tree>, usize) {
        let mut ready = self.ready();
        (ready.pop(), ready.len())
    }

    fn put(&self, tree: Tree) {
        self.ready().push(tree);
    }

    /// A group that nobody has used.
    fn make(&self) -> Result<Tree, FileError> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        match &self.parent {
            Parent::Two(parent) => parent.make(&name).map(Tree::Two),
            Parent::One(parent) => parent.make(&name).map(Tree::One),
        }
    }
}

impl Parent {
    fn open(place: &Place, name: &str, memory: Bytes) -> Result<Self, FileError> {
        match place {
            Place::Unified(place) => v2::Parent::open(place, name, memory.0).map(Self::Two),
            Place::Legacy(places) => v1::Parent::open(places, name, memory.0).map(Self::One),
        }
    }

    fn remove(&self) -> Result<(), FileError> {
        match self {
            Self::Two(parent) => files::remove(&parent.path),
            Self::One(parent) => remove_all(&parent.places),
        }
    }
}

fn remove_all(places: &Legacy) -> Result<(), FileError> {
    places
        .directories()
        .into_iter()
        .try_for_each(|place| files::remove(place))
}

impl Tree {
    fn bound(&mut self, bounds: Bounds) -> Result<(), FileError> {
        match self {
            Self::Two(group) => group.bound(bounds),
            Self::One(group) => group.bound(bounds),
        }
    }

    /// Whether it is as good as new now.
    fn renew(&mut self) -> Result<Again, FileError> {
        match self {
            Self::Two(group) => group.begin(),
            Self::One(group) => group.begin().map(|()| Again::Ready),
        }
    }

    fn is_empty(&self) -> bool {
        let (empty, held) = match self {
            Self::Two(group) => (group.is_empty(), group.held()),
            Self::One(group) => (group.is_empty(), group.held()),
        };
        empty && held <= LEFT_OVER
    }

    fn remove(&self) -> Result<(), FileError> {
        match self {
            Self::Two(group) => files::remove(&group.path),
            Self::One(group) => remove_all(&group.places),
        }
    }

    /// Kills what is in it and removes it.
    fn destroy(&self) {
        if self.remove().is_ok() {
            return;
        }
        match self {
            Self::Two(group) => v2::kill(&group.path),
            Self::One(group) => group
                .places
                .directories()
                .into_iter()
                .for_each(|place| v1::kill(place)),
        }
        std::thread::sleep(PATIENCE[0]);
        if let Err(error) = self.remove() {
            let error = crate::error::chain(&error);
            tracing::warn!(error, "a control group stays");
        }
    }
}

impl Group {
    fn tree(&self) -> &Tree {
        self.tree.as_ref().expect("only drop takes it")
    }

    /// How a program gets in.
    pub(in crate::sandbox) fn entry(&self) -> Entry<BorrowedFd<'_>> {
        match self.tree() {
            Tree::Two(group) => group.entry(),
            Tree::One(group) => group.entry(),
        }
    }

    /// What its processes have used.
    pub(in crate::sandbox) fn usage(&self) -> Result<Usage, FileError> {
        match self.tree() {
            Tree::Two(group) => group.usage(),
            Tree::One(group) => group.usage(),
        }
    }

    /// Processor time so far.
    pub(in crate::sandbox) fn cpu(&self) -> Result<Option<Duration>, FileError> {
        match self.tree() {
            Tree::Two(group) => group.cpu(),
            Tree::One(group) => group.cpu(),
        }
    }

    /// Whether some of its processes were killed for want of memory and the rest goes on: version
    /// 1 kills one at a time.
    pub(in crate::sandbox) fn is_decimated(&self) -> Result<bool, FileError> {
        match self.tree() {
            Tree::Two(_) => Ok(false),
            Tree::One(group) => Ok(group.out_of_memory()? != OutOfMemory::No),
        }
    }

    /// Whether [`Group::is_decimated`] has to be asked again and again.
    pub(in crate::sandbox) fn may_be_decimated(&self) -> bool {
        matches!(self.tree(), Tree::One(v1::Group { places, .. }) if places.memory.is_some())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(tree) = self.tree.take() else { return };
        if let Err(unsent) = self.mail.send(Mail::Back(tree))
            && let Mail::Back(tree) = unsent.0
        {
            // The daemon has ended.
            tree.destroy();
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.tree).finish()
    }
}

/// Looks after groups that come back.
struct Cleaner {
    shared: Arc<Shared>,
    /// Those that are not empty yet: when to look again, and how often that was done.
    waiting: Vec<(Instant, usize, Tree)>,
}

impl Cleaner {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            waiting: Vec::new(),
        }
    }

    fn run(mut self, letters: &Receiver<Mail>) {
        loop {
            let next = self.waiting.iter().map(|(due, ..)| *due).min();
            let letter = match next {
                None => letters.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => letters.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match letter {
                Ok(Mail::Back(tree)) => self.look(tree, 0),
                Ok(Mail::Few) => self.stock_up(),
                Ok(Mail::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.look_again(),
            }
        }
        while let Ok(letter) = letters.try_recv() {
            if let Mail::Back(tree) = letter {
                self.waiting.push((Instant::now(), 0, tree));
            }
        }
        let ready = std::mem::take(&mut *self.shared.ready());
        let waiting = self.waiting.into_iter().map(|(_, _, tree)| tree);
        for tree in ready.into_iter().chain(waiting) {
            tree.destroy();
        }
        if let Err(error) = self.shared.parent.remove() {
            let error = crate::error::chain(&error);
            tracing::debug!(error, "the control group of all jobs stays");
        }
    }

    /// Gives a group to the next job, removes it, or looks again later.
    fn look(&mut self, mut tree: Tree, times: usize) {
        if !tree.is_empty() {
            match PATIENCE.get(times) {
                Some(pause) => self
                    .waiting
                    .push((Instant::now() + *pause, times + 1, tree)),
                None => tree.destroy(),
            }
            return;
        }
        let is_spare = self.shared.ready().len() >= KEPT;
        match tree.renew() {
            Ok(Again::Ready) if !is_spare => self.shared.put(tree),
            _ => tree.destroy(),
        }
    }

    fn look_again(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(due, ..)| *due <= now);
        self.waiting = later;
        for (_, times, tree) in due {
            self.look(tree, times);
        }
    }

    fn stock_up(&mut self) {
        while self.shared.ready().len() < STOCK {
            match self.shared.make() {
                Ok(tree) => self.shared.put(tree),
                Err(error) => {
                    // The job that finds none tells its client.
                    let error = crate::error::chain(&error);
                    tracing::warn!(error, "cannot make a control group ahead");
                    return;
                }
            }
        }
    }
}
