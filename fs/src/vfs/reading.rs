//! The filesystem's reading side: files, what is loaded before it is asked for, hot lists.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::read::{Bytes, Reader, Reading, Scratch};
use super::state::{Found, Source};
use super::{HotList, Vfs};
use crate::crew::Crew;
use crate::error::FsError;
use crate::ino::Ino;

impl Vfs {
    /// Bytes of a file, fewer than asked for only at its end; none while blocks are left to load,
    /// after each of which somebody else may have a turn.
    pub(crate) fn read_on<'a>(
        &self,
        reading: &'a mut Reading,
        scratch: &'a mut Scratch,
    ) -> Result<Option<Bytes<'a>>, FsError> {
        let state = self.snapshot();
        let Found::Leaf(source, node) = state.find(reading.ino).ok_or(FsError::Stale)? else {
            return Err(FsError::IsDirectory);
        };
        let bytes = self.reader().read_on(source, node, reading, scratch)?;
        if let Some(bytes) = &bytes {
            self.counters.read(bytes.len());
        }
        Ok(bytes)
    }

    /// The same for what is here already; none when it has to be loaded.
    pub(crate) fn read_ready<'a>(
        &self,
        ino: Ino,
        offset: u64,
        size: u32,
        scratch: &'a mut Scratch,
    ) -> Result<Option<Bytes<'a>>, FsError> {
        let state = self.snapshot();
        let Found::Leaf(source, node) = state.find(ino).ok_or(FsError::Stale)? else {
            return Err(FsError::IsDirectory);
        };
        let bytes = self
            .reader()
            .read_ready(source, node, (offset, size), scratch)?;
        if let Some(bytes) = &bytes {
            self.counters.read(bytes.len());
        }
        Ok(bytes)
    }

    /// Loads what will be asked for, while a core is idle; returns when the crew has ended.
    pub(crate) fn work_ahead(&self, crew: &Crew) {
        while self.ahead.wait()
            && let Some(_idle) = crew.idle()
        {
            if let Some((source, block)) = self.ahead.next() {
                self.reader().prepare(&source, &block);
            }
        }
    }

    /// Ends [`Vfs::work_ahead`].
    pub(crate) fn end(&self) {
        self.ahead.end();
    }

    /// What was recorded of first reads, with where it is to be kept: of the images that were
    /// first read some time ago, each once.
    pub(crate) fn hot_lists(&self, before: Instant) -> Vec<(PathBuf, HotList)> {
        let state = self.snapshot();
        let recorded = |source: &Arc<Source>| source.trail().take_recorded(before);
        state.sources().filter_map(recorded).collect()
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            cache: &self.cache,
            ahead: &self.ahead,
            counters: &self.counters,
        }
    }
}
