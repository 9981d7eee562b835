//! Installed packages and what they run.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use piston_client::api::{
    Change, Code, InstallReply, InstallState, InstalledPackage, Limits, PackagePatch, Runtime,
    StageLimits, UninstallParameters, UninstallReply, VerifyReply,
};
use piston_client::ids::{Language, PackageRef};

use super::app::App;
use super::body::{self, Json, Params, Query, Upload};
use super::progress::{self, Installing};
use super::reply::{self, Answer};
use crate::error::Error;

/// Milliseconds that entries of a package may be told to last: a second to ten years.
const TIMES_TO_LIVE: RangeInclusive<u64> = 1000..=10 * 365 * 24 * 3_600_000;

/// `GET /packages`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Answer<Vec<InstalledPackage>> {
    Ok(Json(app.engine().await?.packages.list()))
}

/// `GET /packages/{package}`: its installed versions.
pub(super) async fn versions(
    State(app): State<Arc<App>>,
    Params(name): Params<String>,
) -> Answer<Vec<InstalledPackage>> {
    let name: Language = body::id(&name)?;
    let mut found = app.engine().await?.packages.list();
    found.retain(|package| package.language == name);
    if found.is_empty() {
        return Err(not_installed(&name));
    }
    Ok(Json(found))
}

/// `GET /packages/{package}/{version}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Params((name, version)): Params<(String, String)>,
) -> Answer<InstalledPackage> {
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
    Ok(Json(found.ok_or_else(|| not_installed(&wanted))?))
}

/// `PATCH /packages/{package}/{version}`: the operator's settings of it; replies with the package.
pub(super) async fn set(
    State(app): State<Arc<App>>,
    Params((name, version)): Params<(String, String)>,
    Json(change): Json<PackagePatch>,
) -> Answer<InstalledPackage> {
    let package = PackageRef::new(body::id(&name)?, body::id(&version)?);
    if let Change::Set(time) = change.cache_ttl_ms
        && !TIMES_TO_LIVE.contains(&time.0)
    {
        let (least, most) = (TIMES_TO_LIVE.start(), TIMES_TO_LIVE.end());
        let text = format!(
            "`cache_ttl_ms` is {}, it has to be {least} to {most}",
            time.0
        );
        return Err(Error::new(Code::InvalidField, text));
    }
    let engine = app.engine().await?;
    let (packages, cache) = (Arc::clone(&engine.packages), Arc::clone(&engine.cache));
    let (known, changed) = (package.clone(), package);
    let work = async move {
        let done = packages.set(&known, change).await;
        done.inspect(|()| cache.sweep(&packages.installed()))
    };
    app.detached(work).await?;
    let is_it = |found: &InstalledPackage| {
        found.language == changed.language && found.version == changed.version
    };
    let found = engine.packages.list().into_iter().find(is_it);
    Ok(Json(found.ok_or_else(|| not_installed(&changed))?))
}

pub(super) fn not_installed(what: &impl std::fmt::Display) -> Error {
    let text = format!("{what} is not installed; `piston package list` shows what is");
    Error::new(Code::PackageNotFound, text)
}

/// `POST /packages`: installs the package file in the body; tells how far it is when `Accept` asks
/// for events.
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Upload(body): Upload,
) -> Result<Installing, Error> {
    let engine = app.engine().await?;
    let packages = Arc::clone(&engine.packages);
    let staging = packages.staging()?;
    let file = staging.path.join("upload");
    body::store(body, &file, &app).await?;
    let work = |planned| async move {
        let installed = packages.install_file_told(file, true, planned).await;
        drop(staging);
        installed
    };
    progress::install(&app, &headers, &engine.packages, work).await
}

/// 201 for a new package, 200 for one that was there.
#[derive(Debug)]
pub(super) struct Installed(pub(super) InstallReply);

impl IntoResponse for Installed {
    fn into_response(self) -> Response {
        let status = match self.0.state {
            InstallState::Installed => StatusCode::CREATED,
            InstallState::AlreadyInstalled => StatusCode::OK,
        };
        reply::json_with(status, &self.0).into_response()
    }
}

/// `DELETE /packages/{package}/{version}[?cascade=true]`.
pub(super) async fn uninstall(
    State(app): State<Arc<App>>,
    Params((name, version)): Params<(String, String)>,
    Query(asked): Query<UninstallParameters>,
) -> Answer<UninstallReply> {
    let package = PackageRef::new(body::id(&name)?, body::id(&version)?);
    let cascade = asked.cascade;
    let engine = app.engine().await?;
    let (packages, cache) = (Arc::clone(&engine.packages), Arc::clone(&engine.cache));
    let work = async move {
        let reply = packages.uninstall(&package, cascade).await;
        reply.inspect(|_| cache.sweep(&packages.installed()))
    };
    Ok(Json(app.detached(work).await?))
}

/// `POST /packages/{package}/{version}/verify`: whether it still is what was installed.
pub(super) async fn verify(
    State(app): State<Arc<App>>,
    Params((name, version)): Params<(String, String)>,
) -> Answer<VerifyReply> {
    let package = PackageRef::new(body::id(&name)?, body::id(&version)?);
    Ok(Json(app.engine().await?.packages.verify(&package).await?))
}

/// `POST /packages/gc`.
pub(super) async fn gc(State(app): State<Arc<App>>) -> Answer<UninstallReply> {
    let engine = app.engine().await?;
    let (packages, cache) = (Arc::clone(&engine.packages), Arc::clone(&engine.cache));
    let work = async move {
        let reply = packages.gc().await;
        reply.inspect(|_| cache.sweep(&packages.installed()))
    };
    Ok(Json(app.detached(work).await?))
}

/// `GET /runtimes`.
pub(super) async fn runtimes(State(app): State<Arc<App>>) -> Answer<Vec<Runtime>> {
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
    Ok(Json(runtimes))
}
