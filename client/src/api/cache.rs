//! The cache: how much is kept of jobs, and how jobs fared with it.

use serde::{Deserialize, Serialize};

use crate::ids::PackageRef;
use crate::units::{Bytes, Millis};

use super::CacheLevel;

/// Reply of `GET /cache`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheInfo {
    /// Bound on the bytes of everything that is kept; 0 keeps nothing.
    pub max_bytes: Bytes,
    /// Bound on the bytes of one entry.
    pub max_entry_bytes: Bytes,
    /// How long an entry lasts.
    pub ttl_ms: Millis,
    /// What is there, and what came of it.
    #[serde(flatten)]
    pub usage: CacheUsage,
    /// Entries dropped because they were not what was written, since the daemon's start.
    pub damaged: u64,
    /// Databases set aside, since the daemon's start.
    pub set_aside: u64,
    /// Entries that could not be written, since the daemon's start.
    pub unwritten: u64,
    /// Results larger than an entry may be, since the daemon's start.
    pub too_large: u64,
}

/// How much is kept, and how jobs that could be cached fared since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CacheUsage {
    /// Entries.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: Bytes,
    /// Jobs whose compile stage was restored.
    pub binary_hits: u64,
    /// Jobs whose whole result was restored.
    pub output_hits: u64,
    /// Jobs of which nothing was restored.
    pub misses: u64,
}

/// Reply of `GET /packages/{package}/{version}/cache`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PackageCache {
    /// The package.
    pub package: PackageRef,
    /// Cache level of its jobs that do not say one.
    pub level: CacheLevel,
    /// How long entries of its jobs last.
    pub ttl_ms: Millis,
    /// What is there, and what came of it.
    #[serde(flatten)]
    pub usage: CacheUsage,
}

/// Reply of `DELETE /cache` and `DELETE /packages/{package}/{version}/cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CachePurge {
    /// Entries removed.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: Bytes,
}
