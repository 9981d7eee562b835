//! `GET /metrics`: what the daemon counts, for a collector.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use piston_fs::stats::Stats;

use super::app::{App, Engine};
use crate::cache::Cache;
use crate::error::Error;
use crate::metrics::{CONTENT_TYPE, Exposition, Kind};

/// Every family, asked of those who count.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Exposed, Error> {
    let engine = app.engine().await?;
    let mut exposition = Exposition::default();
    exposition
        .family("build_info", Kind::Gauge, "The daemon that answers.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    jobs(engine, &mut exposition);
    filesystem(engine.filesystem.stats(), &mut exposition);
    cache(&engine.cache, &mut exposition);
    Ok(Exposed(exposition.finish()))
}

/// All families as a reply.
#[derive(Debug)]
pub(super) struct Exposed(String);

impl IntoResponse for Exposed {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], self.0).into_response()
    }
}

fn jobs(engine: &Engine, to: &mut Exposition) {
    let queue = engine.runner.queue();
    to.single(
        "jobs_running",
        Kind::Gauge,
        "Jobs that hold a slot.",
        queue.running(),
    );
    to.single(
        "jobs_queued",
        Kind::Gauge,
        "Jobs that wait for a slot.",
        queue.waiting(),
    );
    to.single(
        "job_slots",
        Kind::Gauge,
        "Jobs that may run at once.",
        queue.max_concurrent(),
    );
    let figures = engine.runner.figures();
    let mut ended = to.family(
        "jobs_ended",
        Kind::Counter,
        "Jobs that are over, by how they ended; without batches and what the cache answered.",
    );
    for (end, count) in figures.ended() {
        ended.sample(&[("status", end)], count);
    }
    to.times(
        "job_seconds",
        "From a job's arrival to its end, of the same jobs.",
        &figures.times(),
    );
}

fn filesystem(stats: Stats, to: &mut Exposition) {
    let other = stats.requests
        - (stats.lookups + stats.opens + stats.reads + stats.listings).min(stats.requests);
    let mut requests = to.family(
        "filesystem_requests",
        Kind::Counter,
        "What the kernel asked the filesystem of packages for.",
    );
    for (kind, count) in [
        ("lookup", stats.lookups),
        ("open", stats.opens),
        ("read", stats.reads),
        ("listing", stats.listings),
        ("other", other),
    ] {
        requests.sample(&[("kind", kind)], count);
    }
    for (name, help, value) in [
        ("filesystem_read_bytes", "Bytes read.", stats.read_bytes),
        ("filesystem_blocks", "Blocks inflated.", stats.blocks),
        (
            "filesystem_block_bytes",
            "Bytes that these hold.",
            stats.block_bytes,
        ),
        (
            "filesystem_blocks_ahead",
            "Blocks inflated before somebody asked for them.",
            stats.blocks_ahead,
        ),
        (
            "filesystem_late",
            "Reads refused because they took too long.",
            stats.late,
        ),
        (
            "filesystem_errors",
            "Requests answered with EIO.",
            stats.errors,
        ),
    ] {
        to.single(name, Kind::Counter, help, value);
    }
    for (name, help, value) in [
        ("filesystem_nodes", "Nodes in the tables.", stats.nodes),
        (
            "filesystem_table_bytes",
            "Bytes that the tables take.",
            stats.table_bytes,
        ),
        (
            "filesystem_cached_bytes",
            "Bytes that the block cache keeps.",
            stats.cached_bytes,
        ),
    ] {
        to.single(name, Kind::Gauge, help, value);
    }
}

fn cache(cache: &Cache, to: &mut Exposition) {
    let usages: Vec<_> = cache
        .usages()
        .into_iter()
        .map(|(package, usage)| {
            let version = package.version.to_string();
            (package.language.to_string(), version, usage)
        })
        .collect();
    let mut hits = to.family("cache_hits", Kind::Counter, "Jobs answered from the cache.");
    for (package, version, (_, counters)) in &usages {
        for (level, count) in [
            ("binary", counters.binary_hits),
            ("output", counters.output_hits),
        ] {
            let labels = [
                ("package", &**package),
                ("version", version),
                ("level", level),
            ];
            hits.sample(&labels, count);
        }
    }
    let mut misses = to.family(
        "cache_misses",
        Kind::Counter,
        "Jobs that could have been answered from the cache and were not.",
    );
    for (package, version, (_, counters)) in &usages {
        misses.sample(
            &[("package", package), ("version", version)],
            counters.misses,
        );
    }
    let mut entries = to.family("cache_entries", Kind::Gauge, "What is kept.");
    for (package, version, (amount, _)) in &usages {
        entries.sample(
            &[("package", package), ("version", version)],
            amount.entries,
        );
    }
    let mut bytes = to.family("cache_bytes", Kind::Gauge, "Bytes of what is kept.");
    for (package, version, (amount, _)) in &usages {
        bytes.sample(&[("package", package), ("version", version)], amount.bytes);
    }
    let (limit, troubles) = (cache.settings().size.0, cache.troubles());
    to.single(
        "cache_limit_bytes",
        Kind::Gauge,
        "Bytes that may be kept.",
        limit,
    );
    for (name, help, value) in [
        (
            "cache_evicted",
            "Entries that made room for others.",
            cache.evicted(),
        ),
        (
            "cache_damaged",
            "Entries dropped as damaged.",
            troubles.damaged,
        ),
        (
            "cache_set_aside",
            "Databases begun anew.",
            troubles.set_aside,
        ),
        (
            "cache_unwritten",
            "Entries that could not be written.",
            troubles.unwritten,
        ),
        (
            "cache_too_large",
            "Results over the bound of one entry.",
            troubles.too_large,
        ),
    ] {
        to.single(name, Kind::Counter, help, value);
    }
}
