//! `pistond serve`: puts the daemon together, and takes it apart again.
//!
//! Order: configuration; namespaces, before any thread exists; the lock of the data directory;
//! listeners (a taken socket is found at once, and clients that come early wait); filesystem,
//! packages, launcher. The end goes backwards; the mount goes last but for the lock.

use std::sync::Arc;
use std::time::Duration;

use piston_client::api::{Mechanism, RepositorySettings};
use piston_fs::mount::{MountError, MountOptions, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::config::{self, Config, ConfigError, Flags, WithoutSandbox, paths::Host};
use crate::http::app::{App, Engine};
use crate::http::listener::{ListenError, Listener};
use crate::http::repeat::Repeats;
use crate::job::queue::Queue;
use crate::job::runners::{Runners, RunnersError};
use crate::job::{HostNetwork, Runner, Sandboxes};
use crate::packages::{self, DataDirectory, LockError, Packages, PackagesError};
use crate::sandbox::cgroup::{self, Groups};
use crate::sandbox::rootless::{self, NoUserNamespace, Privilege};
use crate::sandbox::{Launcher, host};
use crate::shutdown::{self, Shutdown, Signals};
use crate::telemetry;
use crate::tokens::Tokens;

/// How often entries over their time are removed from the cache, and last uses written down.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// How long tasks may take to finish once everything has ended.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// Why the daemon can't start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Neither root nor a user namespace.
    #[error(transparent)]
    Namespace(#[from] NoUserNamespace),
    /// The runtime or its signals.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    /// The data directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The operator's settings of runtimes.
    #[error(transparent)]
    Runners(#[from] RunnersError),
    /// A socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The filesystem.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The package manager.
    #[error("cannot open the installed packages")]
    Packages(#[source] Box<PackagesError>),
    /// The cache's thread; damage of what it keeps is no reason.
    #[error("cannot start the writer of the cache")]
    Cache(#[source] std::io::Error),
    /// A worker thread panicked.
    #[error("a worker thread failed")]
    Worker(#[from] tokio::task::JoinError),
}

/// Runs the daemon until it is told to stop.
pub fn serve(flags: &Flags) -> Result<(), ServeError> {
    let loaded = config::load(flags, &Host::current())?;
    telemetry::init(&loaded.config.log_level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files();
    // Threads can't enter a user namespace: this comes before the runtime.
    let privilege = rootless::enter()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(ServeError::Runtime)?;
    let served = runtime.block_on(run(loaded.config, privilege));
    runtime.shutdown_timeout(LAST_TASKS);
    served
}

/// Many connections and jobs take many descriptors; jobs get limits of their own.
fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// How many connections each listener may have: a quarter of the descriptors is for all else.
fn connections(configured: usize, listeners: usize) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return configured;
    };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let room = (files / 4 * 3 / listeners.max(1)).max(1);
    if room < configured {
        tracing::info!(
            connections = room,
            configured,
            open_files = files,
            "the limit of open files allows fewer connections than `max_connections`"
        );
    }
    configured.min(room)
}

async fn run(config: Config, privilege: Privilege) -> Result<(), ServeError> {
    let (trigger, shutdown) = shutdown::channel();
    let signals = Signals::install().map_err(ServeError::Runtime)?;
    let hangup = signal(SignalKind::hangup()).map_err(ServeError::Runtime)?;
    let _lock = DataDirectory {
        root: config.data.clone(),
    }
    .lock()?;
    let runners = Arc::new(Runners::open(&config.data, config.limits.clone())?);
    drop(shutdown.spawn(reloads(Arc::clone(&runners), hangup, shutdown.clone())));
    let listeners = listeners(&config).await?;
    tokio::spawn(signals.drive(trigger, shutdown.clone(), config.server.drain_timeout));

    let max_connections = connections(config.server.max_connections, listeners.len());
    let app = Arc::new(App::new(config, runners, shutdown.clone()));
    for listener in listeners {
        tracing::info!(address = listener.name(), "listening");
        // Each has its own, so that a crowd on one leaves room on the operator's.
        let connections = Arc::new(Semaphore::new(max_connections));
        let serving = crate::http::serve(listener, Arc::clone(&app), connections);
        drop(shutdown.spawn(serving));
    }
    let mount = mount(app.config()).await?;
    let served = tokio::select! {
        engine = engine(app.config(), Arc::clone(&mount), privilege, &shutdown) => {
            engine.map(|engine| app.start(engine))
        }
        () = shutdown.draining() => Ok(()),
    };
    if served.is_ok() {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            data = %app.config().data.display(),
            "ready"
        );
        finished(&shutdown).await;
        app.flush().await;
    }
    drop(app);
    mount.unmount();
    tracing::info!("stopped");
    served
}

/// Reads the operator's settings of runtimes again whenever a signal says so.
async fn reloads(runners: Arc<Runners>, mut hangup: Signal, shutdown: Shutdown) {
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                let runners = Arc::clone(&runners);
                // A panic in there is logged by its hook, and the next signal tries again.
                drop(tokio::task::spawn_blocking(move || runners.reload()).await);
            }
            () = shutdown.draining() => return,
        }
    }
}

/// Returns when nothing is left to do, or when the time for it is over.
async fn finished(shutdown: &Shutdown) {
    shutdown.draining().await;
    tokio::select! {
        () = shutdown.idle() => {}
        () = async { shutdown.ending().await; tokio::time::sleep(LAST_TASKS).await } => {
            tracing::warn!("some tasks did not finish");
        }
    }
}

async fn listeners(config: &Config) -> Result<Vec<Listener>, ServeError> {
    let mut listeners = vec![Listener::operators(&config.server, config.home).await?];
    for listening in &config.server.listeners {
        listeners.push(Listener::open(listening, config.home).await?);
    }
    Ok(listeners)
}

async fn mount(config: &Config) -> Result<Arc<Server>, ServeError> {
    let options = MountOptions {
        path: config.filesystem.mount.clone(),
        threads: config.filesystem.threads,
        cache_bytes: config.filesystem.cache.as_usize(),
        deadline: piston_fs::mount::DEADLINE,
    };
    let server = tokio::task::spawn_blocking(move || Server::mount(&options)).await??;
    Ok(Arc::new(server))
}

async fn engine(
    config: &Config,
    fs: Arc<Server>,
    privilege: Privilege,
    shutdown: &Shutdown,
) -> Result<Engine, ServeError> {
    let data = DataDirectory {
        root: config.data.clone(),
    };
    let (mount, filesystem) = (fs.path().to_owned(), Arc::clone(&fs));
    let groups = groups(config);
    let offer = match &groups {
        Ok(groups) => Ok(groups.offer().clone()),
        Err(missing) => Err(missing.clone()),
    };
    // Otherwise the kernel has an eye on all jobs together.
    let is_memory_shared = groups
        .as_ref()
        .is_ok_and(|groups| groups.offer().controllers.memory);
    let (packages, mechanisms) = tokio::join!(
        Packages::open(
            data,
            fs,
            config.cache_rules.clone(),
            config.recompress.clone(),
            config.builtin,
        ),
        tokio::task::spawn_blocking(move || host::examine(offer.as_ref()))
    );
    let (packages, mechanisms) = (packages.map_err(unopened)?, mechanisms?);
    configure_repositories(&packages, config)
        .await
        .map_err(unopened)?;
    let sandboxes = match missing(&mechanisms, config.jobs.without_sandbox) {
        Some(reason) => Sandboxes::Refused(reason),
        None => match Launcher::start(&mount, privilege.ids(), groups.ok()).await {
            Ok(launcher) => Sandboxes::Ready {
                launcher: Box::new(launcher),
                ids: privilege.ids(),
            },
            Err(error) => Sandboxes::Refused(crate::error::chain(&error)),
        },
    };
    if let Sandboxes::Refused(reason) = &sandboxes {
        tracing::warn!(reason, "no jobs can run on this host, see `pistond check`");
    }
    let store = packages.store();
    let tokens = tokio::task::spawn_blocking(|| Tokens::open(store)).await?;
    let tokens = Arc::new(tokens.map_err(PackagesError::from).map_err(unopened)?);
    let mut queue = Queue::new(config.jobs.max_concurrent, config.jobs.max_queued);
    if !is_memory_shared {
        queue = queue.within(cgroup::memory_for_jobs(config.jobs.memory_percent));
    }
    let cache = cache(config, &packages, shutdown).await?;
    let runner = Runner::new(sandboxes, queue, Arc::clone(&cache), shutdown.clone())
        .with_host_network(host_network(config, &mechanisms));
    Ok(Engine {
        repeats: Repeats::new(cache.settings().repeats()),
        packages,
        runner,
        cache,
        filesystem,
        tokens,
        privilege,
        mechanisms,
    })
}

/// The cache without what no package is installed for any more, and what keeps it swept.
async fn cache(
    config: &Config,
    packages: &Arc<Packages>,
    shutdown: &Shutdown,
) -> Result<Arc<Cache>, ServeError> {
    let (root, settings) = (config.data.clone(), config.cache);
    let opened = tokio::task::spawn_blocking(move || Cache::open(&root, settings)).await?;
    let cache = opened.map_err(ServeError::Cache)?;
    cache.sweep(&packages.installed());
    let (swept, packages, ending) = (Arc::clone(&cache), Arc::clone(packages), shutdown.clone());
    drop(shutdown.spawn(async move {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => swept.sweep(&packages.installed()),
                () = ending.draining() => return,
            }
        }
    }));
    Ok(cache)
}

/// The control groups of jobs, where there are any.
fn groups(config: &Config) -> Result<Groups, cgroup::Missing> {
    let settings = cgroup::Settings {
        memory_percent: config.jobs.memory_percent,
        data: config.data.clone(),
    };
    let groups = Groups::open(&settings);
    match &groups {
        Ok(groups) => tracing::info!(what = groups.offer().description, "control groups"),
        Err(cgroup::Missing { reason, remedy }) => {
            tracing::warn!(
                reason,
                remedy,
                "no control groups: limits are watched by polling"
            );
        }
    }
    groups
}

fn unopened(error: PackagesError) -> ServeError {
    ServeError::Packages(Box::new(error))
}

/// What is missing for a sandbox, unless the operator does without.
fn missing(mechanisms: &[Mechanism], without: WithoutSandbox) -> Option<String> {
    let missing = mechanisms
        .iter()
        .find(|mechanism| mechanism.required && !mechanism.available)?;
    match without {
        WithoutSandbox::Allow => None,
        WithoutSandbox::Refuse => Some(format!("{}: {}", missing.name, missing.detail)),
    }
}

/// Whether jobs may be given the daemon's network: not where they would reach what is meant for
/// others in it.
fn host_network(config: &Config, mechanisms: &[Mechanism]) -> HostNetwork {
    let scopes = mechanisms
        .iter()
        .find(|mechanism| mechanism.name == host::SCOPES);
    match scopes.filter(|scopes| scopes.available) {
        None => HostNetwork::Refused(
            "the kernel can't keep jobs from others' abstract sockets (Landlock of Linux 6.12)"
                .to_owned(),
        ),
        Some(_) if config.server.is_on_a_network() => HostNetwork::Refused(
            "the daemon listens on TCP, where such jobs would be its clients: remove http.listen and the \
             listeners with a TCP address"
                .to_owned(),
        ),
        Some(_) => HostNetwork::Possible,
    }
}

async fn configure_repositories(packages: &Packages, config: &Config) -> Result<(), PackagesError> {
    for (name, repository) in &config.repositories {
        let keys = repository.keys.as_deref().map(packages::read_keys);
        let keys = keys.transpose().map_err(|reason| {
            let repository = name.clone();
            PackagesError::RepositoryKeys { repository, reason }
        })?;
        // One that is as it was keeps its index.
        let url = repository.url.clone();
        let settings = RepositorySettings { url, keys };
        packages.set_repository(name, &settings).await?;
    }
    Ok(())
}
