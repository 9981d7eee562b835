//! Requests that came before, byte for byte, and whose whole result was in the cache: the reply is
//! at hand but for the job's id.
//!
//! Saves reading and checking the request, making its key and writing the reply, which is most of
//! what a hit takes. Invariants: what a request means is the same as long as neither what is
//! installed nor the operator's rules have changed, and is forgotten with them; whether the result
//! may still be given out is the cache's to say, each time; bounded by bytes.

use std::sync::{Arc, Weak};

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Response;
use piston_client::ids::JobId;
use piston_client::units;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::app::{App, Engine};
use super::reply;
use crate::cache::key::Canonical;
use crate::error::Error;
use crate::job::Again;
use crate::job::runners::Rules;
use crate::packages::Changes;

/// Bytes of a request, and of its reply, that are worth it: of larger ones the hash alone takes
/// long.
const LARGEST: usize = 16 << 10;
/// What an entry takes besides its reply.
const OVERHEAD: usize = 512;

/// The sha256 of a request.
type Name = [u8; 32];

/// What is known of requests that came before, those used most.
#[derive(Debug)]
pub struct Repeats {
    known: Cache<Name, Arc<Known>, Weight>,
    memory: units::Bytes,
}

/// What is known of one.
#[derive(Debug)]
pub(super) struct Known {
    meant: Meaning,
    again: Again,
    /// The reply from behind the id on.
    rest: Box<[u8]>,
}

impl Known {
    /// The reply, when the result still is in the cache.
    pub(super) async fn reply(&self, app: &App) -> Result<Option<Response>, Error> {
        let id = app.engine().await?.runner.again(&self.again).await?;
        Ok(id.map(|id| {
            let mut json = head(&id);
            json.extend_from_slice(&self.rest);
            reply::written(StatusCode::OK, json)
        }))
    }
}

/// What decides what a request means.
#[derive(Debug)]
struct Meaning {
    changes: Changes,
    /// As long as this is held no others have their place in memory.
    rules: Weak<Rules>,
}

impl Meaning {
    fn now(app: &App, engine: &Engine) -> Self {
        Self {
            changes: engine.packages.changes(),
            rules: Arc::downgrade(&app.runners().rules()),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.changes == other.changes && self.rules.ptr_eq(&other.rules)
    }
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Name, Arc<Known>> for Weight {
    fn weight(&self, _: &Name, known: &Arc<Known>) -> u64 {
        u64::try_from(known.rest.len() + OVERHEAD).unwrap_or(u64::MAX)
    }
}

impl Repeats {
    /// Room for so many bytes.
    pub fn new(memory: units::Bytes) -> Self {
        // A guess at how many entries that is; it only sizes tables.
        let expected = units::Bytes(memory.0 / 1024).as_usize();
        Self {
            known: Cache::with_weighter(expected, memory.0, Weight),
            memory,
        }
    }
}

/// A request that may have come before or may come again.
#[derive(Debug)]
pub(super) struct Repeat<'a> {
    repeats: &'a Repeats,
    name: Name,
    meaning: Meaning,
}

impl<'a> Repeat<'a> {
    /// The request with these parameters and this body; none where it is not worth it.
    pub(super) fn of(
        app: &App,
        engine: &'a Engine,
        parameters: [&str; 2],
        body: &Bytes,
    ) -> Option<Self> {
        let repeats = &engine.repeats;
        if repeats.memory.0 == 0 || body.len() > LARGEST {
            return None;
        }
        let mut name = Canonical::new("request");
        for part in parameters {
            name.bytes(part.as_bytes());
        }
        name.bytes(body);
        Some(Self {
            repeats,
            name: name.finish(),
            // Read before anything is looked up, so that no change in between goes unseen.
            meaning: Meaning::now(app, engine),
        })
    }

    /// What is known of it, when it came before and means the same.
    pub(super) fn known(&self) -> Option<Arc<Known>> {
        let known = self.repeats.known.get(&self.name)?;
        if known.meant.is(&self.meaning) {
            return Some(known);
        }
        self.repeats.known.remove(&self.name);
        None
    }

    /// Remembers the reply of a job that came out of the cache.
    pub(super) fn remember(self, again: Again, id: &JobId, json: &[u8]) {
        let rest = json.strip_prefix(&*head(id));
        let Some(rest) = rest.filter(|rest| rest.len() <= LARGEST) else {
            return;
        };
        let known = Known {
            meant: self.meaning,
            again,
            rest: rest.into(),
        };
        self.repeats.known.insert(self.name, Arc::new(known));
    }
}

/// What every reply begins with.
fn head(id: &JobId) -> Vec<u8> {
    format!(r#"{{"id":"{id}""#).into_bytes()
}
