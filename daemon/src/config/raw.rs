//! Settings as a source gives them: every key optional, unknown keys refused.
//!
//! The only serde types of the configuration file. Values are parsed (sizes, times, modes) but not
//! bounded: bounds depend on other settings and are `super::resolve`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use piston_client::api::{CacheLevel, Role};
use piston_client::units::{Bytes, Millis, Rate};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// One source of settings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    pub(crate) log_level: Option<String>,
    pub(crate) http: RawHttp,
    pub(crate) data: RawData,
    pub(crate) filesystem: RawFilesystem,
    pub(crate) jobs: RawJobs,
    pub(crate) cache: RawCache,
    pub(crate) packages: RawPackages,
    pub(crate) repositories: BTreeMap<String, RawRepository>,
    pub(crate) limits: RawLimits,
    pub(crate) v2: RawV2,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHttp {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) socket_mode: Option<Mode>,
    pub(crate) socket_group: Option<String>,
    pub(crate) socket_page: Option<bool>,
    pub(crate) listen: Option<Vec<SocketAddr>>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) listeners: Option<Vec<RawListener>>,
    pub(crate) trusted_proxies: Option<Vec<String>>,
    pub(crate) proxy_header: Option<RawProxyHeader>,
    pub(crate) cors_origins: Option<Vec<String>>,
    pub(crate) prefix: Option<String>,
    pub(crate) max_connections: Option<usize>,
    pub(crate) header_timeout: Option<Time>,
    pub(crate) idle_timeout: Option<Time>,
    pub(crate) max_head: Option<Size>,
    pub(crate) body_timeout: Option<Time>,
    pub(crate) max_body: Option<Size>,
    pub(crate) max_upload: Option<Size>,
    pub(crate) drain_timeout: Option<Time>,
}

/// See [`super::exposure::ProxyHeader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawProxyHeader {
    XForwarded,
    Forwarded,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(crate) struct RawListener {
    pub(crate) address: String,
    pub(crate) role: Option<Role>,
    pub(crate) tokens: Option<bool>,
    pub(crate) socket_mode: Option<Mode>,
    pub(crate) socket_group: Option<String>,
    pub(crate) rate: Option<Rate>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) page: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawData {
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawFilesystem {
    pub(crate) mount: Option<PathBuf>,
    pub(crate) threads: Option<usize>,
    pub(crate) cache: Option<Size>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawJobs {
    pub(crate) max_concurrent: Option<u32>,
    pub(crate) max_queued: Option<usize>,
    pub(crate) interactive_time: Option<Time>,
    pub(crate) interactive_idle: Option<Time>,
    pub(crate) memory_percent: Option<u64>,
    pub(crate) allow_unsandboxed: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawCache {
    pub(crate) size: Option<Size>,
    pub(crate) ttl: Option<Time>,
    pub(crate) max_entry: Option<Size>,
    pub(crate) memory: Option<Size>,
    /// Package name -> what differs for it.
    #[serde(rename = "override")]
    pub(crate) overrides: BTreeMap<String, RawCacheRule>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawCacheRule {
    pub(crate) level: Option<CacheLevel>,
    pub(crate) ttl: Option<Time>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawPackages {
    pub(crate) make_timeout: Option<Time>,
    pub(crate) recompress: Option<Vec<String>>,
    pub(crate) builtin: Option<bool>,
    pub(crate) python_index: Option<String>,
    pub(crate) registry_auth: Option<PathBuf>,
    pub(crate) javascript_registry: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRepository {
    pub(crate) url: String,
    pub(crate) keys: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLimits {
    pub(crate) compile: RawStage,
    pub(crate) run: RawStage,
    pub(crate) max: RawStage,
    /// Language -> limits by the released Piston's names.
    #[serde(rename = "override")]
    pub(crate) overrides: BTreeMap<String, BTreeMap<String, i64>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStage {
    pub(crate) wall_time: Option<Time>,
    pub(crate) cpu_time: Option<Time>,
    pub(crate) memory: Option<Size>,
    pub(crate) output: Option<Size>,
    pub(crate) processes: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) file_size: Option<Size>,
    pub(crate) disk: Option<Size>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawV2 {
    pub(crate) output: Option<Size>,
}

/// A size: a number of bytes or a text such as `"64M"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Size(pub(crate) Bytes);

/// A time: a number of milliseconds or a text such as `"3s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Time(pub(crate) Millis);

/// Permission bits, written as octal text such as `"0660"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
pub(crate) struct Mode(pub(crate) u32);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let value = source.deserialize_any(NumberOrText("a size, e.g. 1048576 or \"64M\""))?;
        Ok(Self(value.into_unit(Bytes)?))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let value = source.deserialize_any(NumberOrText("a time, e.g. 1500 or \"3s\""))?;
        Ok(Self(value.into_unit(Millis)?))
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .map(Self)
            .ok_or_else(|| Error::custom(format!("`{text}` is not a file mode, write \"0660\"")))
    }
}

/// Either form of a quantity, as written.
enum Quantity {
    Number(u64),
    Text(String),
}

impl Quantity {
    fn into_unit<T: FromStr<Err: fmt::Display>, E: Error>(
        self,
        make: fn(u64) -> T,
    ) -> Result<T, E> {
        match self {
            Self::Number(number) => Ok(make(number)),
            Self::Text(text) => text.parse().map_err(E::custom),
        }
    }
}

struct NumberOrText(&'static str);

impl Visitor<'_> for NumberOrText {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
        Ok(Quantity::Number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
        u64::try_from(number)
            .map(Quantity::Number)
            .map_err(|_| E::custom(format!("{number} is negative, expected {}", self.0)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
        Ok(Quantity::Text(text.to_owned()))
    }
}
