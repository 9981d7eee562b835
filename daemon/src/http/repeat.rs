//! Requests that came before, byte for byte, and whose whole result was in the cache: the reply is
//! at hand but for the job's id.
//!
//! Such a request is answered before it is routed, which saves reading and checking it, making its
//! key and writing the reply: most of what a hit takes. Invariants: what a request means is the
//! same as long as neither what is installed nor the operator's rules have changed, and is
//! forgotten with them; whether the result may still be given out is the cache's to say, each time;
//! bounded by bytes.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use piston_client::ids::JobId;
use piston_client::units;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::app::{App, Engine};
use super::body;
use super::edge::Peer;
use super::reply;
use super::stream::Form;
use crate::cache::key::Canonical;
use crate::changes::Changes;
use crate::error::Error;
use crate::job::Again;

/// Bytes of a request, and of its reply, that are worth it: of larger ones the hash alone takes
/// long.
const LARGEST: usize = 16 << 10;
/// What an entry takes besides its reply: its name and what is known, and twice a word for each of
/// the table's links, the counts of the `Arc`, and the allocator's heads.
const OVERHEAD: usize = size_of::<Name>() + size_of::<Known>() + 12 * size_of::<usize>();

/// What the reply of a job that is named begins with.
const BEFORE_ID: &[u8] = br#"{"id":""#;

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
struct Known {
    meant: Meaning,
    again: Again,
    reply: Reply,
}

/// The JSON of a reply, without room to spare.
#[derive(Debug, Clone)]
enum Reply {
    /// From behind the job's id on, which comes first.
    BehindId(Box<[u8]>),
    /// All of it: it names no job.
    Whole(Box<[u8]>),
}

impl Reply {
    fn of(json: &[u8], id: Option<&JobId>) -> Option<Self> {
        let Some(id) = id else {
            return Some(Self::Whole(json.into()));
        };
        let rest = json.strip_prefix(BEFORE_ID)?;
        let rest = rest.strip_prefix(id.as_str().as_bytes())?;
        Some(Self::BehindId(rest.into()))
    }

    fn kept(&self) -> &[u8] {
        match self {
            Self::BehindId(bytes) | Self::Whole(bytes) => bytes,
        }
    }

    fn of_job(&self, id: &JobId) -> Bytes {
        match self {
            Self::Whole(json) => Bytes::copy_from_slice(json),
            Self::BehindId(rest) => Bytes::from([BEFORE_ID, id.as_str().as_bytes(), rest].concat()),
        }
    }
}

/// What decides what a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Meaning {
    packages: Changes,
    rules: Changes,
}

impl Meaning {
    fn now(app: &App, engine: &Engine) -> Self {
        Self {
            packages: engine.packages.changes(),
            rules: app.runners().changes(),
        }
    }
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Name, Arc<Known>> for Weight {
    fn weight(&self, _: &Name, known: &Arc<Known>) -> u64 {
        u64::try_from(known.reply.kept().len() + OVERHEAD).unwrap_or(u64::MAX)
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

/// A request that was looked for among those that came before.
#[derive(Debug)]
pub(super) enum Asked<'a> {
    /// Its reply.
    Before(Response),
    /// What is left to be answered, and its name where it may come again.
    New(Body, Option<Repeat<'a>>),
}

/// Looks for a request among those that came before.
pub(super) async fn ask<'a>(
    app: &'a App,
    peer: Peer,
    head: &Parts,
    body: Body,
) -> Result<Asked<'a>, Error> {
    let Some(engine) = app
        .engine_if_ready()
        .filter(|engine| engine.repeats.memory.0 > 0 && is_worth_it(app, head, &body))
    else {
        return Ok(Asked::New(body, None));
    };
    let bytes = body::read(body, app).await?;
    let repeat = Repeat::of(app, engine, head, &bytes);
    if let Some(known) = repeat.known() {
        let _permit = peer.job(app)?;
        if let Some(id) = engine.runner.again(&known.again)? {
            let json = known.reply.of_job(&id);
            return Ok(Asked::Before(reply::written(StatusCode::OK, json)));
        }
    }
    Ok(Asked::New(Body::from(bytes), Some(repeat)))
}

/// Whether it asks for a job, plainly and in few words.
fn is_worth_it(app: &App, head: &Parts, body: &Body) -> bool {
    let largest = LARGEST.min(app.config().server.max_body.as_usize());
    let length = body.size_hint().exact();
    head.method == Method::POST
        && head.uri.path().ends_with("/execute")
        && length.is_some_and(|length| usize::try_from(length).is_ok_and(|it| it <= largest))
        && body::is_json(&head.headers)
        && Form::asked(&head.headers).is_none()
}

/// A request that may come again.
#[derive(Debug)]
pub(super) struct Repeat<'a> {
    repeats: &'a Repeats,
    name: Name,
    meaning: Meaning,
}

impl<'a> Repeat<'a> {
    fn of(app: &App, engine: &'a Engine, head: &Parts, body: &Bytes) -> Self {
        let mut name = Canonical::new("request");
        name.bytes(head.uri.path().as_bytes());
        name.bytes(body);
        Self {
            repeats: &engine.repeats,
            name: name.finish(),
            // Read before anything is looked up, so that no change in between goes unseen.
            meaning: Meaning::now(app, engine),
        }
    }

    /// What is known of it, when it came before and means the same.
    fn known(&self) -> Option<Arc<Known>> {
        let known = self.repeats.known.get(&self.name)?;
        if known.meant == self.meaning {
            return Some(known);
        }
        self.repeats.known.remove(&self.name);
        None
    }

    /// Remembers its reply, when that is one to be given again.
    pub(super) fn remember(self, response: &mut Response) {
        let lasting = response.extensions_mut().remove::<Lasting>();
        let Some(Lasting { again, reply }) = lasting else {
            return;
        };
        if reply.kept().len() <= LARGEST {
            let known = Known {
                meant: self.meaning,
                again,
                reply,
            };
            self.repeats.known.insert(self.name, Arc::new(known));
        }
    }
}

/// What a handler says of a reply that can be given again, as an extension of its response.
#[derive(Debug, Clone)]
struct Lasting {
    again: Again,
    reply: Reply,
}

/// The reply of a job: JSON, which begins with the job's id when it tells one. It can be given
/// again where it came out of the cache.
pub(super) fn reply(json: Vec<u8>, again: Option<Again>, id: Option<&JobId>) -> Response {
    let lasting = again.and_then(|again| {
        let reply = Reply::of(&json, id)?;
        Some(Lasting { again, reply })
    });
    let mut response = reply::written(StatusCode::OK, json);
    if let Some(lasting) = lasting {
        response.extensions_mut().insert(lasting);
    }
    response
}
