//! What handlers share: configuration, the engine once it is there, the shutdown.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use piston_client::api::Code;
use tokio::sync::SetOnce;
use tokio::task::{JoinError, JoinHandle};

use super::quota::Quotas;
use super::repeat::Repeats;
use crate::cache::Cache;
use crate::config::Config;
use crate::error::Error;
use crate::job::Runner;
use crate::job::runners::Runners;
use crate::packages::Packages;
use crate::sandbox::rootless::Privilege;
use crate::shutdown::Shutdown;
use crate::tokens::Tokens;

/// How long a request waits for a daemon that is still starting.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Shared by all handlers.
#[derive(Debug)]
pub struct App {
    config: Config,
    runners: Arc<Runners>,
    engine: SetOnce<Engine>,
    quotas: Arc<Quotas>,
    document: OnceLock<Bytes>,
    shutdown: Shutdown,
    patience: Duration,
}

/// What there is once packages are published: listeners open before that, so that a client of a
/// daemon that starts waits rather than fails.
#[derive(Debug)]
pub struct Engine {
    /// Replies to requests that come again.
    pub repeats: Repeats,
    /// Packages.
    pub packages: Arc<Packages>,
    /// Jobs.
    pub runner: Runner,
    /// What is kept of jobs.
    pub cache: Arc<Cache>,
    /// The filesystem that shows packages.
    pub filesystem: Arc<piston_fs::mount::Server>,
    /// Who is let in where a listener asks.
    pub tokens: Arc<Tokens>,
    /// With which rights the daemon runs.
    pub privilege: Privilege,
    /// What the host offers, examined at start.
    pub mechanisms: Vec<piston_client::api::Mechanism>,
}

impl App {
    /// An app whose engine is still to come.
    pub fn new(config: Config, runners: Arc<Runners>, shutdown: Shutdown) -> Self {
        Self {
            config,
            runners,
            engine: SetOnce::new(),
            quotas: Arc::default(),
            document: OnceLock::new(),
            shutdown,
            patience: START_PATIENCE,
        }
    }

    /// An app whose requests do not wait for an engine.
    #[cfg(test)]
    pub(crate) fn without_engine(
        config: Config,
        runners: Arc<Runners>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            patience: Duration::ZERO,
            ..Self::new(config, runners, shutdown)
        }
    }

    /// From here on requests that need the engine are served.
    pub fn start(&self, engine: Engine) {
        if self.engine.set(engine).is_err() {
            tracing::error!("the engine was started twice");
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The operator's settings of runtimes.
    pub fn runners(&self) -> &Arc<Runners> {
        &self.runners
    }

    /// What everybody has spent.
    pub(super) fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// The `OpenAPI` document, made when it is first asked for.
    pub(super) fn document(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        self.document.get_or_init(make).clone()
    }

    /// The shutdown.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Whether jobs are served.
    pub fn is_ready(&self) -> bool {
        self.engine.initialized() && !self.shutdown.is_draining()
    }

    /// Brings what is only in memory to disk, at the end.
    pub async fn flush(&self) {
        if let Some(engine) = self.engine.get() {
            engine.cache.flushed().await;
        }
    }

    /// The engine, unless the daemon is still starting.
    pub(super) fn engine_if_ready(&self) -> Option<&Engine> {
        self.engine.get()
    }

    /// The engine; a daemon that is still starting is waited for.
    pub async fn engine(&self) -> Result<&Engine, Error> {
        match self.engine.get() {
            Some(engine) => Ok(engine),
            None => tokio::time::timeout(self.patience, self.engine.wait())
                .await
                .map_err(|_| Error::new(Code::Starting, "the daemon is still starting")),
        }
    }

    /// Runs something that changes the host's state to its end, also when its client goes away.
    pub async fn detached<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        E: Into<Error> + Send + 'static,
    {
        ended(self.start_detached(work)?.await)
    }

    /// The same, for a caller that has something to do meanwhile.
    pub(super) fn start_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<JoinHandle<T>, Error> {
        if self.shutdown.is_draining() {
            return Err(Error::new(
                Code::ShuttingDown,
                "the daemon is shutting down",
            ));
        }
        Ok(self.shutdown.spawn(work))
    }
}

/// What came of detached work; one that panicked is an error as well.
pub(super) fn ended<T, E: Into<Error>>(ended: Result<Result<T, E>, JoinError>) -> Result<T, Error> {
    match ended {
        Ok(done) => done.map_err(Into::into),
        Err(error) => Err(Error::caused_by(Code::Internal, &error)),
    }
}
