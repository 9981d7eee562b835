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
    /// Of those, lookups of a name.
    pub lookups: u64,
    /// Of those, openings of a file or directory.
    pub opens: u64,
    /// Of those, reads of a file.
    pub reads: u64,
    /// Of those, parts of a directory's listing.
    pub listings: u64,
    /// Bytes sent in replies to reads.
    pub read_bytes: u64,
    /// Blocks inflated.
    pub blocks: u64,
    /// Bytes that they hold.
    pub block_bytes: u64,
    /// Of the blocks, those that were inflated before somebody asked for them.
    pub blocks_ahead: u64,
    /// Reads that were refused because they took too long.
    pub late: u64,
    /// Requests answered with EIO.
    pub errors: u64,
    /// Nodes in the tables.
    pub nodes: u64,
    /// Bytes that the tables take, of images and of views.
    pub table_bytes: u64,
    /// Bytes that the block cache keeps.
    pub cached_bytes: u64,
}

/// The counters that workers add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    lookups: AtomicU64,
    opens: AtomicU64,
    reads: AtomicU64,
    listings: AtomicU64,
    read_bytes: AtomicU64,
    blocks: AtomicU64,
    block_bytes: AtomicU64,
    blocks_ahead: AtomicU64,
    late: AtomicU64,
    errors: AtomicU64,
}

/// The requests that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A name.
    Lookup,
    /// To open a file or directory.
    Open,
    /// Bytes of a file.
    Read,
    /// Names in a directory.
    Listing,
    /// Anything else.
    Other,
}

impl Counters {
    /// One request of the kernel.
    pub(crate) fn request(&self, asked: Asked) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let apart = match asked {
            Asked::Lookup => &self.lookups,
            Asked::Open => &self.opens,
            Asked::Read => &self.reads,
            Asked::Listing => &self.listings,
            Asked::Other => return,
        };
        apart.fetch_add(1, Ordering::Relaxed);
    }

    /// A reply to a read with this many bytes.
    pub(crate) fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(to_u64(bytes), Ordering::Relaxed);
    }

    /// One block inflated, of this many bytes.
    pub(crate) fn block(&self, bytes: u32) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.block_bytes
            .fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    /// One of the blocks that are inflated before somebody asks for them.
    pub(crate) fn ahead(&self) {
        self.blocks_ahead.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads refused because they took too long.
    pub(crate) fn late(&self, reads: usize) {
        self.late.fetch_add(to_u64(reads), Ordering::Relaxed);
    }

    /// One request answered with EIO.
    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters now; what is not counted here is 0.
    pub(crate) fn read_all(&self) -> Stats {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            requests: now(&self.requests),
            lookups: now(&self.lookups),
            opens: now(&self.opens),
            reads: now(&self.reads),
            listings: now(&self.listings),
            read_bytes: now(&self.read_bytes),
            blocks: now(&self.blocks),
            block_bytes: now(&self.block_bytes),
            blocks_ahead: now(&self.blocks_ahead),
            late: now(&self.late),
            errors: now(&self.errors),
            ..Stats::default()
        }
    }
}
