//! `piston cache`: what is kept of jobs.

use anyhow::Result;

use crate::Client;
use crate::api::{CacheInfo, CacheLevel, CacheUsage, Change, PackageCache, PackagePatch};

use super::exit::Exit;
use super::flags::{Cache, CacheSetting, SetCache};
use super::packages::named;
use super::render::{Screen, Table};

/// Performs one command of the group.
pub(super) async fn perform(client: &Client, command: Cache, screen: &Screen) -> Result<Exit> {
    match command {
        Cache::Show { package: None } => {
            screen.show(&client.cache().await?, |info| screen.table(&total(info)))?;
        }
        Cache::Show {
            package: Some(word),
        } => {
            let package = named(client, &word).await?;
            let cache = client.package_cache(&package).await?;
            screen.show(&cache, |cache| screen.table(&of_package(cache)))?;
        }
        Cache::Set(SetCache {
            package,
            level,
            ttl,
        }) => {
            let package = named(client, &package).await?;
            let change = PackagePatch {
                cache: level.map_or(Change::Keep, CacheSetting::change),
                cache_ttl_ms: ttl.map_or(Change::Keep, CacheSetting::change),
            };
            client.set_package(&package, &change).await?;
            let cache = client.package_cache(&package).await?;
            screen.show(&cache, |cache| screen.table(&of_package(cache)))?;
        }
        Cache::Purge { package } => {
            let purged = match package {
                None => client.purge_cache().await?,
                Some(word) => {
                    let package = named(client, &word).await?;
                    client.purge_package_cache(&package).await?
                }
            };
            screen.show(&purged, |purged| match purged.entries {
                0 => "nothing was kept".to_owned(),
                1 => format!("removed 1 entry, {}", purged.bytes),
                entries => format!("removed {entries} entries, {}", purged.bytes),
            })?;
        }
    }
    Ok(Exit::Done)
}

fn total(info: &CacheInfo) -> Table {
    let mut table = Table::default();
    table.row(&["bound".to_owned(), info.max_bytes.to_string()]);
    usage(&mut table, &info.usage);
    for (label, count) in [
        ("too large", info.too_large),
        ("not written", info.unwritten),
        ("damaged", info.damaged),
        ("begun anew", info.set_aside),
    ] {
        if count > 0 {
            table.row(&[label.to_owned(), count.to_string()]);
        }
    }
    table
}

fn of_package(cache: &PackageCache) -> Table {
    let mut table = Table::default();
    let level = match cache.level {
        CacheLevel::None => "none",
        CacheLevel::Binary => "binary",
        CacheLevel::Output => "output",
    };
    table.row(&["package".to_owned(), cache.package.to_string()]);
    table.row(&["level".to_owned(), level.to_owned()]);
    table.row(&["time to live".to_owned(), cache.ttl_ms.to_string()]);
    usage(&mut table, &cache.usage);
    table
}

fn usage(table: &mut Table, usage: &CacheUsage) {
    for (label, value) in [
        ("entries", usage.entries.to_string()),
        ("bytes", usage.bytes.to_string()),
        ("binary hits", usage.binary_hits.to_string()),
        ("output hits", usage.output_hits.to_string()),
        ("misses", usage.misses.to_string()),
    ] {
        table.row(&[label.to_owned(), value]);
    }
}
