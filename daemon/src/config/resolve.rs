//! From settings as typed to settings as meant: defaults filled in, bounds checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use piston_client::ids::Language;
use piston_client::units::{Bytes, Millis};

use super::exposure::{self, Page, SocketPlace};
use super::paths::{Host, Paths};
use super::raw::{
    Raw, RawCache, RawCacheRule, RawFilesystem, RawHttp, RawJobs, RawRepository, Size, Time,
};
use super::{
    BadValue, Config, Filesystem, Home, Jobs, Repository, Server, SocketGroup, WithoutSandbox,
    limits,
};
use crate::cache;
use crate::packages::{Builtin, CacheRule, CacheRules};

/// Resolves the merged sources.
pub(super) fn resolve(raw: Raw, host: &Host, paths: &Paths) -> Result<Config, BadValue> {
    let limits = limits::resolve(&raw)?;
    let make_timeout = time(
        &["packages", "make_timeout"],
        raw.packages.make_timeout,
        Duration::from_mins(10),
        (Duration::from_secs(1), Duration::from_hours(24)),
    )?;
    Ok(Config {
        log_level: raw.log_level.unwrap_or_else(|| "info".to_owned()),
        server: server(raw.http, host.home, paths)?,
        data: absolute(&["data", "directory"], raw.data.directory, &paths.data)?,
        filesystem: filesystem(raw.filesystem, host.cpus, paths)?,
        jobs: jobs(&raw.jobs)?,
        cache: cache(&raw.cache)?,
        cache_rules: cache_rules(&raw.cache.overrides)?,
        limits,
        make_timeout,
        python_index: raw.packages.python_index,
        registry_auth: registry_auth(raw.packages.registry_auth)?,
        javascript_registry: raw.packages.javascript_registry,
        builtin: if raw.packages.builtin.unwrap_or(true) {
            Builtin::Offered(make_timeout)
        } else {
            Builtin::Absent
        },
        recompress: recompress(raw.packages.recompress.unwrap_or_default())?,
        repositories: repositories(raw.repositories)?,
        home: host.home,
    })
}

/// The child that reads it may stand elsewhere.
fn registry_auth(file: Option<PathBuf>) -> Result<Option<PathBuf>, BadValue> {
    let key = ["packages", "registry_auth"];
    let file = file.map(|file| absolute(&key, Some(file), Path::new("/")));
    file.transpose()
}

/// Images that are zstd already would gain nothing.
fn recompress(compressors: Vec<String>) -> Result<Vec<String>, BadValue> {
    let known = ["gzip", "xz", "lzo", "lz4"];
    match compressors
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        None => Ok(compressors),
        Some(name) => Err(BadValue::new(
            &["packages", "recompress"],
            format!("{name:?} is none of {}", known.join(", ")),
        )),
    }
}

fn server(raw: RawHttp, home: Home, paths: &Paths) -> Result<Server, BadValue> {
    let key = |name| ["http", name];
    let second = Duration::from_secs(1);
    let hour = Duration::from_hours(1);
    let socket = absolute(&key("socket"), raw.socket, &paths.socket)?;
    exposure::socket_length(&socket).map_err(|bad| BadValue::new(&key("socket"), bad))?;
    let socket_group = match (raw.socket_group, home) {
        (Some(group), _) if group.is_empty() => SocketGroup::Own,
        (Some(group), _) => SocketGroup::Required(group),
        (None, Home::System) => SocketGroup::IfPresent("piston".to_owned()),
        (None, Home::User) => SocketGroup::Own,
    };
    let bodies = (Bytes::kib(1), Bytes(u64::MAX >> 16));
    Ok(Server {
        socket: SocketPlace {
            path: socket,
            mode: raw.socket_mode.map_or(0o660, |mode| mode.0),
            group: socket_group,
        },
        socket_page: Page::from(raw.socket_page),
        listeners: exposure::listeners(
            raw.listen.unwrap_or_default(),
            raw.listeners.unwrap_or_default(),
        )?,
        proxies: exposure::proxies(&raw.trusted_proxies.unwrap_or_default(), raw.proxy_header)?,
        origins: exposure::origins(raw.cors_origins.unwrap_or_default())?,
        prefix: exposure::prefix(raw.prefix)?,
        hosts: raw
            .hosts
            .unwrap_or_default()
            .iter()
            .map(|host| host.to_lowercase())
            .collect(),
        max_connections: number(
            &key("max_connections"),
            raw.max_connections,
            16_384,
            (1, 1 << 20),
        )?,
        header_timeout: time(
            &key("header_timeout"),
            raw.header_timeout,
            Duration::from_secs(10),
            (second, hour),
        )?,
        idle_timeout: time(
            &key("idle_timeout"),
            raw.idle_timeout,
            Duration::from_secs(75),
            (second, hour),
        )?,
        max_head: size(
            &key("max_head"),
            raw.max_head,
            Bytes::kib(64),
            (Bytes::kib(8), Bytes::mib(1)),
        )?,
        body_timeout: time(
            &key("body_timeout"),
            raw.body_timeout,
            Duration::from_secs(30),
            (second, hour),
        )?,
        max_body: size(&key("max_body"), raw.max_body, Bytes::mib(16), bodies)?,
        max_upload: size(&key("max_upload"), raw.max_upload, Bytes::mib(4096), bodies)?,
        drain_timeout: time(
            &key("drain_timeout"),
            raw.drain_timeout,
            Duration::from_secs(30),
            (Duration::ZERO, hour),
        )?,
    })
}

fn filesystem(raw: RawFilesystem, cpus: usize, paths: &Paths) -> Result<Filesystem, BadValue> {
    let key = |name| ["filesystem", name];
    let cache = (Bytes::mib(1), Bytes(1 << 40));
    Ok(Filesystem {
        mount: absolute(&key("mount"), raw.mount, &paths.mount)?,
        threads: number(
            &key("threads"),
            raw.threads,
            (cpus + 1).clamp(3, 17),
            (3, 256),
        )?,
        cache: size(&key("cache"), raw.cache, Bytes::mib(256), cache)?,
    })
}

fn jobs(raw: &RawJobs) -> Result<Jobs, BadValue> {
    let key = |name| ["jobs", name];
    Ok(Jobs {
        max_concurrent: number(&key("max_concurrent"), raw.max_concurrent, 64, (1, 4096))?,
        max_queued: number(&key("max_queued"), raw.max_queued, 1024, (0, 1 << 20))?,
        interactive_time: time(
            &key("interactive_time"),
            raw.interactive_time,
            Duration::from_hours(1),
            (Duration::from_secs(1), Duration::from_hours(24)),
        )?,
        interactive_idle: time(
            &key("interactive_idle"),
            raw.interactive_idle,
            Duration::from_mins(10),
            (Duration::from_secs(1), Duration::from_hours(24)),
        )?,
        memory_percent: number(&key("memory_percent"), raw.memory_percent, 75, (1, 100))?,
        without_sandbox: match raw.allow_unsandboxed {
            Some(true) => WithoutSandbox::Allow,
            Some(false) | None => WithoutSandbox::Refuse,
        },
    })
}

fn cache(raw: &RawCache) -> Result<cache::Settings, BadValue> {
    let key = |name| ["cache", name];
    Ok(cache::Settings {
        size: size(
            &key("size"),
            raw.size,
            Bytes::mib(1024),
            (Bytes(0), Bytes(1 << 50)),
        )?,
        time_to_live: time(
            &key("ttl"),
            raw.ttl,
            Duration::from_hours(30 * 24),
            TIMES_TO_LIVE,
        )?,
        max_entry: size(
            &key("max_entry"),
            raw.max_entry,
            Bytes::mib(16),
            (Bytes::kib(1), Bytes::mib(1024)),
        )?,
        memory: size(
            &key("memory"),
            raw.memory,
            Bytes::mib(64),
            (Bytes::mib(1), Bytes(1 << 40)),
        )?,
    })
}

/// How long an entry may be told to last.
const TIMES_TO_LIVE: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_hours(10 * 365 * 24));

fn cache_rules(raw: &BTreeMap<String, RawCacheRule>) -> Result<CacheRules, BadValue> {
    let rule = |(name, raw): (&String, &RawCacheRule)| {
        if let Err(error) = name.parse::<Language>() {
            let message = error.to_string();
            return Err(BadValue::new(&["cache", "override", name], message));
        }
        let ttl = ["cache", "override", name, "ttl"];
        let given = raw
            .ttl
            .map(|_| time(&ttl, raw.ttl, Duration::ZERO, TIMES_TO_LIVE));
        let rule = CacheRule {
            level: raw.level,
            time_to_live: given.transpose()?,
        };
        Ok((name.clone(), rule))
    };
    raw.iter()
        .map(rule)
        .collect::<Result<_, _>>()
        .map(CacheRules)
}

fn repositories(
    raw: BTreeMap<String, RawRepository>,
) -> Result<BTreeMap<String, Repository>, BadValue> {
    for (name, meaning) in [
        ("all", "names every repository together"),
        (
            "builtin",
            "is the daemon's own (see `builtin` in [packages])",
        ),
    ] {
        if raw.contains_key(name) {
            let message = format!("`{name}` {meaning}, choose another name");
            return Err(BadValue::new(&["repositories", name], message));
        }
    }
    let resolved = raw.into_iter().map(|(name, RawRepository { url, keys })| {
        let keys =
            keys.map(|keys| absolute(&["repositories", &name, "keys"], Some(keys), Path::new("/")));
        let keys = keys.transpose()?;
        Ok((name, Repository { url, keys }))
    });
    resolved.collect()
}

fn absolute(key: &[&str], given: Option<PathBuf>, default: &Path) -> Result<PathBuf, BadValue> {
    let path = given.unwrap_or_else(|| default.to_owned());
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(BadValue::new(
            key,
            format!("`{}` is not an absolute path", path.display()),
        ))
    }
}

fn number<T: PartialOrd + Copy + std::fmt::Display>(
    key: &[&str],
    given: Option<T>,
    default: T,
    (least, most): (T, T),
) -> Result<T, BadValue> {
    let value = given.unwrap_or(default);
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(BadValue::new(
            key,
            format!("{value} is not between {least} and {most}"),
        ))
    }
}

fn size(
    key: &[&str],
    given: Option<Size>,
    default: Bytes,
    bounds: (Bytes, Bytes),
) -> Result<Bytes, BadValue> {
    number(key, given.map(|size| size.0), default, bounds)
}

fn time(
    key: &[&str],
    given: Option<Time>,
    default: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration, BadValue> {
    let given = given.map(|time| time.0);
    number(key, given, default.into(), (least.into(), most.into()))
        .map(|millis: Millis| millis.into())
}
