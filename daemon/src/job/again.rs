//! What was found kept of a job once, for an equal request that need not be read again.
//!
//! Invariant: whether the result is still there, not over its time, and the very same is asked of
//! the cache each time; nothing here outlives a purge, an end of its time, or its package.

use std::sync::Arc;
use std::time::Duration;

use piston_client::api::CacheOutcome;
use piston_client::ids::JobId;

use super::request::Request;
use super::{JobError, Runner};
use crate::cache::{Entry, Tally};

/// A whole result that was found in the cache.
#[derive(Debug, Clone)]
pub struct Again {
    entry: Entry,
    lasts: Option<Duration>,
    tally: Arc<Tally>,
}

impl Again {
    pub(super) fn new(entry: Entry, request: &Request, tally: Arc<Tally>) -> Self {
        Self {
            entry,
            lasts: request.installed().time_to_live,
            tally,
        }
    }
}

impl Runner {
    /// A job whose result is that one, if it still is what the cache has for such jobs; counted as
    /// any that is restored.
    pub fn again(&self, again: &Again) -> Result<Option<JobId>, JobError> {
        if self.shutdown.is_draining() {
            return Err(JobError::ShuttingDown);
        }
        if !self.cache.uses(again.entry, again.lasts) {
            return Ok(None);
        }
        let Ok(bits) = crate::random::bytes() else {
            return Ok(None);
        };
        again.tally.count(CacheOutcome::Output);
        Ok(Some(JobId::from_random(u128::from_ne_bytes(bits))))
    }
}
