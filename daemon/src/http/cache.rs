//! What is kept of jobs: counters, and purging it.

use std::sync::Arc;

use axum::extract::State;
use piston_client::api::{CacheInfo, CachePurge, CacheUsage, InstalledPackage, PackageCache};
use piston_client::ids::PackageRef;
use piston_client::units::Bytes;

use super::app::{App, Engine};
use super::body::{self, Json, Params};
use super::packages::not_installed;
use super::reply::Answer;
use crate::cache::{Amount, Counters};
use crate::error::Error;

/// `GET /cache`.
pub(super) async fn show(State(app): State<Arc<App>>) -> Answer<CacheInfo> {
    let cache = &app.engine().await?.cache;
    let (settings, troubles) = (cache.settings(), cache.troubles());
    Ok(Json(CacheInfo {
        max_bytes: settings.size,
        max_entry_bytes: settings.max_entry,
        ttl_ms: settings.time_to_live.into(),
        usage: usage(cache.usage(None)),
        damaged: troubles.damaged,
        set_aside: troubles.set_aside,
        unwritten: troubles.unwritten,
        too_large: troubles.too_large,
    }))
}

/// `DELETE /cache`: everything.
pub(super) async fn purge(State(app): State<Arc<App>>) -> Answer<CachePurge> {
    purge_of(&app, None).await
}

/// `GET /packages/{package}/{version}/cache`.
pub(super) async fn show_package(
    State(app): State<Arc<App>>,
    Params((name, version)): Params<(String, String)>,
) -> Answer<PackageCache> {
    let engine = app.engine().await?;
    let installed = installed(engine, &name, &version)?;
    let package = PackageRef::new(installed.language, installed.version);
    Ok(Json(PackageCache {
        level: installed.cache,
        ttl_ms: installed
            .cache_ttl_ms
            .unwrap_or(engine.cache.settings().time_to_live.into()),
        usage: usage(engine.cache.usage(Some(&package))),
        package,
    }))
}

/// `DELETE /packages/{package}/{version}/cache`.
pub(super) async fn purge_package(
    State(app): State<Arc<App>>,
    Params((name, version)): Params<(String, String)>,
) -> Answer<CachePurge> {
    let installed = installed(app.engine().await?, &name, &version)?;
    let package = PackageRef::new(installed.language, installed.version);
    purge_of(&app, Some(package)).await
}

/// Replies when it is gone from the disk as well.
async fn purge_of(app: &Arc<App>, package: Option<PackageRef>) -> Answer<CachePurge> {
    let cache = Arc::clone(&app.engine().await?.cache);
    let work = async move {
        let amount = cache.purge(package.as_ref());
        cache.flushed().await;
        Ok::<_, Error>(amount)
    };
    let Amount { entries, bytes } = app.detached(work).await?;
    Ok(Json(CachePurge {
        entries,
        bytes: Bytes(bytes),
    }))
}

fn installed(engine: &Engine, name: &str, version: &str) -> Result<InstalledPackage, Error> {
    let wanted = PackageRef::new(body::id(name)?, body::id(version)?);
    let packages = engine.packages.list();
    let mut packages = packages.into_iter();
    packages
        .find(|package| package.language == wanted.language && package.version == wanted.version)
        .ok_or_else(|| not_installed(&wanted))
}

fn usage((amount, counters): (Amount, Counters)) -> CacheUsage {
    CacheUsage {
        entries: amount.entries,
        bytes: Bytes(amount.bytes),
        binary_hits: counters.binary_hits,
        output_hits: counters.output_hits,
        misses: counters.misses,
    }
}
