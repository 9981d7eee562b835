//! The threads beside those that read requests: the watchdog, those that work ahead, and the one
//! that keeps hot lists; and what they and the workers share. They end with the mount.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::ended::Ended;
use super::point::Mounted;
use super::{MountOptions, spawn};
use crate::crew::Crew;
use crate::fuse::{Desk, LOOKS};
use crate::owners::Owners;
use crate::vfs::Vfs;

/// Threads that work ahead, at most; one core is left to those who ask.
const AHEAD: usize = 4;

/// For how long the first reads of an image are recorded.
const RECORDED: Duration = Duration::from_secs(10);

/// How often somebody looks for recordings that are complete.
const HOT_LISTS: Duration = Duration::from_secs(2);

/// What answers requests, and those who help it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) vfs: Arc<Vfs>,
    pub(super) crew: Arc<Crew>,
    pub(super) desk: Arc<Desk>,
    /// How long a request may take.
    deadline: Duration,
    /// Processors.
    cores: usize,
}

impl Service {
    /// For a mount that is about to be made.
    pub(super) fn new(options: &MountOptions) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let owners = Owners::of_this_process();
        let vfs = Arc::new(Vfs::new(options.cache_bytes, options.deadline, owners));
        let crew = Arc::new(Crew::new(options.threads, cores));
        Self {
            desk: Arc::new(Desk::new(Arc::clone(&vfs), Arc::clone(&crew))),
            vfs,
            crew,
            deadline: options.deadline,
            cores,
        }
    }
}

/// Starts all of them.
pub(super) fn start(service: Service, ended: &Arc<Ended>, mounted: Mounted) -> io::Result<()> {
    for _ in 0..(service.cores - 1).clamp(1, AHEAD) {
        let (vfs, crew) = (Arc::clone(&service.vfs), Arc::clone(&service.crew));
        spawn("fs-ahead", move || vfs.work_ahead(&crew))?;
    }
    let (vfs, end) = (Arc::clone(&service.vfs), Arc::clone(ended));
    spawn("fs-hot", move || {
        while !end.wait_for(HOT_LISTS) {
            if let Some(before) = Instant::now().checked_sub(RECORDED) {
                keep_hot_lists(&vfs, before);
            }
        }
    })?;
    let end = Arc::clone(ended);
    spawn("fs-watchdog", move || {
        while !end.wait_for(service.deadline / LOOKS) {
            if !service.desk.look() {
                tracing::error!("a request hangs that should take no time: the mount is given up");
                mounted.abort();
                break;
            }
        }
        service.crew.end();
        service.vfs.end();
    })
}

/// Writes the recordings of images that were first read before a moment.
pub(super) fn keep_hot_lists(vfs: &Vfs, before: Instant) {
    for (path, list) in vfs.hot_lists(before) {
        if let Err(error) = list.write(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot keep a hot list");
        }
    }
}
