//! Repositories, what they list, and installing from them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use piston_client::api::{
    AvailablePackage, AvailableParameters, Code, Repository, RepositorySettings,
};
use piston_client::ids::{Language, Version};

use super::app::App;
use super::body::{self, Json, Params, Query};
use super::progress::{self, Installing};
use super::reply::{Answer, NoContent};
use crate::error::Error;

/// `GET /repos`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Answer<Vec<Repository>> {
    Ok(Json(app.engine().await?.packages.repositories()))
}

/// `GET /repos/{repo}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Params(name): Params<String>,
) -> Answer<Repository> {
    let repositories = app.engine().await?.packages.repositories();
    let found = repositories
        .into_iter()
        .find(|repository| repository.name == name);
    let unknown = || Error::new(Code::RepositoryNotFound, format!("no repository `{name}`"));
    Ok(Json(found.ok_or_else(unknown)?))
}

/// `PUT /repos/{repo}`.
pub(super) async fn set(
    State(app): State<Arc<App>>,
    Params(name): Params<String>,
    Json(settings): Json<RepositorySettings>,
) -> Answer<Repository> {
    let packages = Arc::clone(&app.engine().await?.packages);
    let work = async move { packages.set_repository(&name, &settings).await };
    Ok(Json(app.detached(work).await?))
}

/// `DELETE /repos/{repo}`.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Params(name): Params<String>,
) -> Result<NoContent, Error> {
    let packages = Arc::clone(&app.engine().await?.packages);
    app.detached(async move { packages.remove_repository(&name).await })
        .await?;
    Ok(NoContent)
}

/// `GET /repos/{repo}/packages[?sync=true&q=&language=]`.
pub(super) async fn packages(
    State(app): State<Arc<App>>,
    Params(repository): Params<String>,
    Query(asked): Query<AvailableParameters>,
) -> Answer<Vec<AvailablePackage>> {
    let AvailableParameters { sync, q, language } = asked;
    let mut found = available(&app, repository, sync).await?;
    if let Some(word) = q.map(|word| word.to_lowercase()) {
        found.retain(|package| names(package).any(|name| name.contains(&word)));
    }
    if let Some(language) = language {
        found.retain(|package| names(package).any(|name| name == language));
    }
    Ok(Json(found))
}

fn names(package: &AvailablePackage) -> impl Iterator<Item = &str> {
    std::iter::once(package.language.as_str()).chain(package.aliases.iter().map(String::as_str))
}

/// `GET /repos/{repo}/packages/{package}`.
pub(super) async fn versions(
    State(app): State<Arc<App>>,
    Params((repository, name)): Params<(String, String)>,
) -> Answer<Vec<AvailablePackage>> {
    let name: Language = body::id(&name)?;
    let mut found = available(&app, repository, false).await?;
    found.retain(|package| package.language == name);
    if found.is_empty() {
        return Err(not_available(name.as_str()));
    }
    Ok(Json(found))
}

/// `GET /repos/{repo}/packages/{package}/{version}`: of `all`, the first that lists it.
pub(super) async fn version(
    State(app): State<Arc<App>>,
    Params((repository, name, version)): Params<(String, String, String)>,
) -> Answer<AvailablePackage> {
    let (name, version): (Language, Version) = (body::id(&name)?, body::id(&version)?);
    let found = available(&app, repository, false).await?;
    let mut found = found.into_iter();
    let found = found.find(|package| package.language == name && package.version == version);
    Ok(Json(found.ok_or_else(|| {
        not_available(&format!("{name}-{version}"))
    })?))
}

/// `POST /repos/{repo}/packages/{package}/{version}/install`; tells how far it is when `Accept` asks
/// for events.
pub(super) async fn install(
    State(app): State<Arc<App>>,
    Params((repository, name, version)): Params<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Installing, Error> {
    let (name, range): (Language, _) = (body::id(&name)?, body::range(&version)?);
    let engine = app.engine().await?;
    let packages = Arc::clone(&engine.packages);
    let work = |planned| async move {
        packages
            .install_told(&repository, (&name, &range), planned)
            .await
    };
    progress::install(&app, &headers, &engine.packages, work).await
}

async fn available(app: &App, name: String, sync: bool) -> Result<Vec<AvailablePackage>, Error> {
    let packages = Arc::clone(&app.engine().await?.packages);
    app.detached(async move { packages.available(&name, sync).await })
        .await
}

fn not_available(what: &str) -> Error {
    let text = format!("no repository asked lists {what}; list with `sync=true` to ask again");
    Error::new(Code::PackageNotAvailable, text)
}
