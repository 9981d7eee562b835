//! Counters of a mount: counted by the workers, read by whoever owns the server.
//!
//! Relaxed atomics throughout: each figure is right by itself, a set of them is not a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::num::to_u64;

/// Counters since the mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests of the kernel.
    pub requests: u64,
    /// Bytes sent in replies to reads.
    pub read_bytes: u64,
    /// Blocks inflated.
    pub blocks: u64,
    /// Requests answered with EIO.
    pub errors: u64,
    /// Nodes in the tables.
    pub nodes: u64,
    /// Bytes that the merged tables take, without the images' indexes.
    pub table_bytes: u64,
    /// Bytes that the block cache keeps.
    pub cached_bytes: u64,
}

/// The counters that workers add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    read_bytes: AtomicU64,
    blocks: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    /// One request of the kernel.
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A reply to a read with this many bytes.
    pub(crate) fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(to_u64(bytes), Ordering::Relaxed);
    }

    /// One block inflated.
    pub(crate) fn block(&self) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// One request answered with EIO.
    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now; what is not counted here is 0.
    pub(crate) fn read_all(&self) -> Stats {
        Stats {
            requests: self.requests.load(Ordering::Relaxed),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            blocks: self.blocks.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}
