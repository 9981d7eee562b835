//! The threads beside those that read requests: the watchdog, those that work ahead, and the one
//! that keeps hot lists. They end with the mount.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::point::Mounted;
use super::{Ended, Service, spawn};
use crate::fuse::LOOKS;
use crate::vfs::Vfs;

/// Threads that work ahead, at most; one core is left to those who ask.
const AHEAD: usize = 4;

/// For how long the first reads of an image are recorded.
const RECORDED: Duration = Duration::from_secs(10);

/// How often somebody looks for recordings that are complete.
const HOT_LISTS: Duration = Duration::from_secs(2);

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
