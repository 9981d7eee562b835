//! A mounted filesystem and what is published in it.

use std::path::{Path, PathBuf};

use crate::layer::Placed;

/// How to mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Directory to mount on; created when missing. A stale mount of a dead server is detached.
    pub path: PathBuf,
    /// Worker threads.
    pub threads: usize,
    /// Bound of the block cache in bytes.
    pub cache_bytes: usize,
}

/// Why mounting or publishing fails.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount itself.
    #[error("cannot mount on {path}: {reason}")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why, with the remedy.
        reason: String,
    },
    /// A path is taken, missing or malformed.
    #[error("cannot publish {path}: {reason}")]
    Publish {
        /// Path in the mount.
        path: String,
        /// Why.
        reason: String,
    },
}

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
}

/// A filesystem that is mounted and served by threads of this process; dropping it unmounts.
///
/// All methods may be called from any thread. They never touch the mount itself, so a caller
/// can't deadlock on its own server.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Mounts with mount(2) (needs `CAP_SYS_ADMIN` in the current user namespace) and serves.
    pub fn mount(_options: &MountOptions) -> Result<Self, MountError> {
        unimplemented!()
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        unimplemented!()
    }

    /// Makes the merged tree of `layers` (lowest first) visible at `path`, e.g.
    /// `views/python/3.11.2`; parents are made as needed. Returns names of files in which two
    /// layers overlap, at most a hundred.
    pub fn publish(&self, _path: &str, _layers: &[Placed]) -> Result<Vec<String>, MountError> {
        unimplemented!()
    }

    /// Makes `path` invisible. The caller sees to it that no job uses it any more: the kernel
    /// detaches every mount below it, in all namespaces.
    pub fn unpublish(&self, _path: &str) -> Result<(), MountError> {
        unimplemented!()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
}
