//! Installed packages and what they run.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use piston_client::api::{Code, InstallReply, InstallState, InstalledPackage, Limits, StageLimits};
use piston_client::ids::{Language, PackageRef};

use super::app::App;
use super::body::{self, Params, Query};
use super::reply::{self, Reply};
use crate::error::Error;

/// `GET /packages`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Reply {
    reply::json(&app.engine().await?.packages.list())
}

/// `GET /packages/{package}`: its installed versions.
pub(super) async fn versions(State(app): State<Arc<App>>, Params(name): Params<String>) -> Reply {
    let name: Language = body::id(&name)?;
    let mut found = app.engine().await?.packages.list();
    found.retain(|package| package.language == name);
    if found.is_empty() {
        return Err(not_installed(&name));
    }
    reply::json(&found)
}

/// `GET /packages/{package}/{version}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Params((name, version)): Params<(String, String)>,
) -> Reply {
    let wanted = PackageRef::new(body::id(&name)?, body::id(&version)?);
    let is_wanted = |package: &InstalledPackage| {
        package.language == wanted.language && package.version == wanted.version
    };
    let found = app
        .engine()
        .await?
        .packages
        .list()
        .into_iter()
        .find(is_wanted);
    reply::json(&found.ok_or_else(|| not_installed(&wanted))?)
}

pub(super) fn not_installed(what: &impl std::fmt::Display) -> Error {
    let text = format!("{what} is not installed; `piston package list` shows what is");
    Error::new(Code::PackageNotFound, text)
}

/// `POST /packages`: installs the package file in the body.
pub(super) async fn upload(State(app): State<Arc<App>>, request: Request) -> Reply {
    let packages = Arc::clone(&app.engine().await?.packages);
    let staging = packages.staging()?;
    let file = staging.path.join("upload");
    body::store(request.into_body(), &file, &app).await?;
    let work = async move {
        let installed = packages.install_file(file, true).await;
        drop(staging);
        installed
    };
    installed(&app.detached(work).await?)
}

/// 201 for a new package, 200 for one that was there.
pub(super) fn installed(installed: &InstallReply) -> Reply {
    let status = match installed.state {
        InstallState::Installed => StatusCode::CREATED,
        InstallState::AlreadyInstalled => StatusCode::OK,
    };
    reply::json_with(status, installed)
}

/// `DELETE /packages/{package}/{version}[?cascade=true]`.
pub(super) async fn uninstall(
    State(app): State<Arc<App>>,
    Params((name, version)): Params<(String, String)>,
    mut query: Query,
) -> Reply {
    let package = PackageRef::new(body::id(&name)?, body::id(&version)?);
    let cascade = query.flag("cascade")?;
    query.finish()?;
    let engine = app.engine().await?;
    let (packages, cache) = (Arc::clone(&engine.packages), Arc::clone(&engine.cache));
    let work = async move {
        let reply = packages.uninstall(&package, cascade).await;
        reply.inspect(|_| cache.sweep(&packages.installed()))
    };
    reply::json(&app.detached(work).await?)
}

/// `POST /packages/gc`.
pub(super) async fn gc(State(app): State<Arc<App>>) -> Reply {
    let engine = app.engine().await?;
    let (packages, cache) = (Arc::clone(&engine.packages), Arc::clone(&engine.cache));
    let work = async move {
        let reply = packages.gc().await;
        reply.inspect(|_| cache.sweep(&packages.installed()))
    };
    reply::json(&app.detached(work).await?)
}

/// `GET /runtimes`.
pub(super) async fn runtimes(State(app): State<Arc<App>>) -> Reply {
    let rules = app.runners().rules();
    let runtimes = app
        .engine()
        .await?
        .packages
        .runtimes(&|installed, runtime| {
            let stages = rules.terms(installed, runtime).limits.stages;
            StageLimits {
                compile: match installed.compile {
                    Some(_) => stages.compile.as_wire(),
                    None => Limits::default(),
                },
                run: stages.run.as_wire(),
            }
        });
    reply::json(&runtimes)
}
