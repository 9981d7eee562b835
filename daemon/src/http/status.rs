//! What the daemon is, whether it lives, what its host offers.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes as Piece;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use piston_client::api::{BASE_PATH, Info, Role, RunnersInfo, VersionInfo};
use piston_client::units::Bytes;

use super::app::App;
use super::body::Json;
use super::edge::Peer;
use super::reply::{self, Answer, Plain};
use crate::sandbox::rootless::Privilege;

/// `GET /version`.
pub(super) async fn version() -> Answer<VersionInfo> {
    Ok(Json(this_version()))
}

fn this_version() -> VersionInfo {
    VersionInfo {
        product: "Piston".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: vec!["v2".to_owned(), "v3".to_owned()],
    }
}

/// The reply to a request for what never changes, by which many look whether somebody is there; it
/// needs no routing. None for all other requests.
pub(super) fn at_once(head: &Parts) -> Option<Response> {
    static VERSION: LazyLock<Option<Piece>> =
        LazyLock::new(|| reply::encoded(&this_version()).ok().map(Piece::from));
    let path = head.uri.path().strip_prefix(BASE_PATH)?;
    let json = VERSION.as_ref()?;
    (head.method == Method::GET && path == "/version")
        .then(|| reply::written(StatusCode::OK, json.clone()))
}

/// `GET /info`; clients that may only execute see nothing of the host.
pub(super) async fn info(State(app): State<Arc<App>>, peer: Peer) -> Answer<Info> {
    let engine = app.engine().await?;
    let installed = engine.packages.list();
    let image_bytes = installed.iter().map(|package| package.image_bytes.0).sum();
    let queue = engine.runner.queue();
    let (mount, mechanisms, runners) = match peer.role {
        Role::Execute => (String::new(), Vec::new(), RunnersInfo::default()),
        Role::Admin => (
            app.config().filesystem.mount.display().to_string(),
            engine.mechanisms.clone(),
            super::runners::info(app.runners()),
        ),
    };
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rootless: matches!(engine.privilege, Privilege::Rootless { .. }),
        mount,
        mechanisms,
        packages: u64::try_from(installed.len()).unwrap_or(u64::MAX),
        image_bytes: Bytes(image_bytes),
        jobs_running: queue.running(),
        jobs_queued: queue.waiting(),
        max_concurrent_jobs: queue.max_concurrent(),
        runners,
    }))
}

/// `GET /healthz`: the process answers.
pub(super) async fn healthz() -> Plain {
    Plain::Yes("ok\n")
}

/// `GET /readyz`: jobs are served.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Plain {
    if app.is_ready() {
        Plain::Yes("ready\n")
    } else {
        Plain::No("not ready\n")
    }
}
