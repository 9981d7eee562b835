//! Configuration: file, environment and flags resolved once into a [`Config`].
//!
//! Two layers, as typed and as meant: [`raw::Raw`] is what a source says, every key optional;
//! [`Config`] is the whole, every key with a value inside its bounds. Sources in order: the file
//! `piston.toml`, `PISTON_*` variables ([`mod@env`]), flags. `resolve` is the only place that knows
//! defaults and bounds; nothing after it looks at the environment or checks a setting again.
//!
//! The annotated default file is `contrib/config/piston.toml`; a test proves that it names every
//! key and says what the built-in defaults are.

pub mod env;
pub mod exposure;
pub mod limits;
pub mod locate;
pub mod paths;
pub mod raw;
mod resolve;
pub mod runners;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use piston_client::units::Bytes;

use crate::cache;
use crate::job::limits::LimitPolicy;
use crate::packages::{Builtin, CacheRules};
use exposure::{Listening, Origins, Page, Place, Proxies, SocketPlace};
use paths::Paths;
use raw::Raw;

/// The annotated default file, as `pistond config default` prints it.
pub const DEFAULT_FILE: &str = include_str!("../../contrib/config/piston.toml");

/// Everything the daemon is told, every value inside its bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// A `tracing` filter, e.g. `info` or `pistond=debug`.
    pub log_level: String,
    /// Listeners and what a connection may do.
    pub server: Server,
    /// The data directory.
    pub data: PathBuf,
    /// The FUSE filesystem.
    pub filesystem: Filesystem,
    /// How many jobs at once.
    pub jobs: Jobs,
    /// What is kept of jobs.
    pub cache: cache::Settings,
    /// The same for single packages.
    pub cache_rules: CacheRules,
    /// Limits of jobs.
    pub limits: LimitPolicy,
    /// How long making a package may take.
    pub make_timeout: Duration,
    /// URL of the index that Python libraries come from; none for the usual one.
    pub python_index: Option<String>,
    /// File of credentials for registries, as `docker login` writes it.
    pub registry_auth: Option<PathBuf>,
    /// URL of the registry that JavaScript libraries come from; none for the usual one.
    pub javascript_registry: Option<String>,
    /// Compressors whose images are written anew when they are installed.
    pub recompress: Vec<String>,
    /// Whether packages are made of what Debian has where no repository has them.
    pub builtin: Builtin,
    /// Repositories that are to be configured, by name.
    pub repositories: BTreeMap<String, Repository>,
    /// Whose default places are used.
    pub home: Home,
}

/// A repository that is to be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Of its index.
    pub url: String,
    /// File of the public keys that its packages have to be signed by.
    pub keys: Option<PathBuf>,
}

/// Whose default places and group are used. The user id alone decides; what the daemon may do is
/// found out by [`crate::sandbox::rootless`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The system's, for a daemon that is started by root.
    System,
    /// Those of the user who starts it.
    User,
}

/// Listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The operator's Unix socket, role admin.
    pub socket: SocketPlace,
    /// Whether it has the playground.
    pub socket_page: Page,
    /// The others.
    pub listeners: Vec<Listening>,
    /// Host names accepted on TCP besides loopback names and IP addresses.
    pub hosts: Vec<String>,
    /// Who says for whom a request is.
    pub proxies: Proxies,
    /// Whose web pages may use the API.
    pub origins: Origins,
    /// What may stand before every path.
    pub prefix: String,
    /// Connections open at once, of each listener.
    pub max_connections: usize,
    /// Time for the head of a request to arrive.
    pub header_timeout: Duration,
    /// Time that a connection may be open without a request.
    pub idle_timeout: Duration,
    /// Bytes of the head of a request.
    pub max_head: Bytes,
    /// Time for a body to arrive; for uploads, between two pieces of it.
    pub body_timeout: Duration,
    /// Bytes of a JSON body.
    pub max_body: Bytes,
    /// Bytes of an uploaded package file.
    pub max_upload: Bytes,
    /// How long jobs may go on after SIGTERM.
    pub drain_timeout: Duration,
}

impl Server {
    /// Whether anything listens on TCP.
    pub fn is_on_a_network(&self) -> bool {
        let mut places = self.listeners.iter().map(|listener| &listener.place);
        places.any(|place| matches!(place, Place::Tcp(_)))
    }
}

/// Who besides the owner may use the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketGroup {
    /// The daemon's own group.
    Own,
    /// This group when the host has it (the built-in default of a root daemon).
    IfPresent(String),
    /// This group; starting fails when the host does not have it.
    Required(String),
}

/// The FUSE filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Threads that answer the kernel.
    pub threads: usize,
    /// Bound of the block cache.
    pub cache: Bytes,
}

/// Admission of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    /// Jobs running at once.
    pub max_concurrent: u32,
    /// Jobs waiting behind them.
    pub max_queued: usize,
    /// How long an interactive program may run.
    pub interactive_time: Duration,
    /// How long it may neither read nor print.
    pub interactive_idle: Duration,
    /// Hundredths of the host's memory that all jobs together may use, where control groups can
    /// limit it.
    pub memory_percent: u64,
    /// What to do on a host that can't make a sandbox.
    pub without_sandbox: WithoutSandbox,
}

/// What to do on a host where what is left of the mechanisms is not a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutSandbox {
    /// Refuse to run jobs.
    Refuse,
    /// Run them all the same (`allow_unsandboxed = true`).
    Allow,
}

/// Flags that override settings.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--listen`, replaces the file's list.
    pub listen: Vec<SocketAddr>,
}

/// A configuration and what should be said about how it came to be.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The file they were read from, if there was one.
    pub file: Option<PathBuf>,
    /// Things the operator should know, e.g. unknown variables.
    pub warnings: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` or found in its place can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or holds an unknown key or a value of the wrong kind.
    #[error("{path}: line {line}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A variable's value can't be understood.
    #[error("environment variable {name}: {message}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A value is outside its bounds.
    #[error("{place}: {key}: {message}")]
    Value {
        /// The file and line, or that it came from the environment or a flag.
        place: String,
        /// The key, with its sections.
        key: String,
        /// What is wrong, and what would be right.
        message: String,
    },
}

/// A value outside its bounds, before it is known where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadValue {
    /// The key with its sections, e.g. `["limits", "run", "wall_time"]`.
    pub(crate) key: Vec<String>,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

impl BadValue {
    pub(crate) fn new(key: &[&str], message: impl Into<String>) -> Self {
        let key = key.iter().map(|part| (*part).to_owned()).collect();
        Self {
            key,
            message: message.into(),
        }
    }
}

/// Reads every source and resolves them.
pub fn load(flags: &Flags, host: &paths::Host) -> Result<Loaded, ConfigError> {
    let paths = Paths::of(host);
    let (file, text) = read_file(flags.config.as_deref(), &paths.config)?;
    let mut raw = match &file {
        Some(path) => parse(path, &text)?,
        None => Raw::default(),
    };
    let warnings = env::apply(&mut raw, &host.variables)?;
    apply_flags(&mut raw, flags);
    let config =
        resolve::resolve(raw, host, &paths).map_err(|bad| place(bad, file.as_deref(), &text))?;
    Ok(Loaded {
        config,
        file,
        warnings,
    })
}

/// The file's text: the named file must exist, the default one may be missing.
fn read_file(
    named: Option<&Path>,
    default: &Path,
) -> Result<(Option<PathBuf>, String), ConfigError> {
    let path = named.unwrap_or(default);
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((Some(path.to_owned()), text)),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            Ok((None, String::new()))
        }
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn parse(path: &Path, text: &str) -> Result<Raw, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        line: error
            .span()
            .map_or(1, |span| locate::line_of(text, span.start)),
        message: error.message().trim().replace('\n', ", "),
    })
}

fn apply_flags(raw: &mut Raw, flags: &Flags) {
    if let Some(socket) = &flags.socket {
        raw.http.socket = Some(socket.clone());
    }
    if let Some(data) = &flags.data {
        raw.data.directory = Some(data.clone());
    }
    if !flags.listen.is_empty() {
        raw.http.listen = Some(flags.listen.clone());
    }
}

/// Names the line of a bad value, when the file is where it was written.
fn place(bad: BadValue, file: Option<&Path>, text: &str) -> ConfigError {
    let place = match (file, locate::find(text, &bad.key)) {
        (Some(path), Some(line)) => format!("{}: line {line}", path.display()),
        _ => "from the environment or a flag".to_owned(),
    };
    ConfigError::Value {
        place,
        key: bad.key.join("."),
        message: bad.message,
    }
}

#[cfg(test)]
mod tests;
