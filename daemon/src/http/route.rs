//! The one table of v3 operations: where each is, who may ask for it, what answers.
//!
//! Routing, 404, 405 with `Allow`, the roles and the `OpenAPI` document come from it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use piston_client::api::Role::{Admin, Execute};
use piston_client::api::{BASE_PATH, Code, Role};

use super::app::App;
use super::edge::Peer;
use super::openapi::describe::{Documented, Page};
use super::reply::{Dialect, Reply};
use super::{
    batch, cache, execute, jobs, make, metrics, openapi, packages, page, repos, runners, status,
    tokens, v2, ws,
};
use crate::error::Error;

type AppState = Arc<App>;

/// A path with its operations.
pub(super) struct Path {
    pub(super) path: String,
    pub(super) operations: Vec<Operation>,
}

/// One operation.
pub(super) struct Operation {
    pub(super) role: Role,
    pub(super) method: &'static str,
    pub(super) summary: &'static str,
    /// The handler's path in this program, which names the operation.
    pub(super) name: &'static str,
    /// Tells what the handler takes and gives.
    pub(super) document: fn(&mut Page<'_>),
    handler: MethodRouter<AppState>,
}

/// The table.
pub(super) fn table() -> Vec<Path> {
    let v3 = [of_daemon(), of_packages(), of_jobs()];
    let v3 = v3.into_iter().flatten().map(|row| Path {
        path: format!("{BASE_PATH}{}", row.path),
        ..row
    });
    v3.chain(of_collectors()).collect()
}

fn of_daemon() -> Vec<Path> {
    vec![
        at("/version").get(
            Execute,
            status::version,
            "What answers, and which APIs it serves",
        ),
        at("/openapi.json").get(Execute, openapi::show, "This document"),
        at("/info").get(
            Execute,
            status::info,
            "What the daemon can do on its host, and how busy it is",
        ),
        at("/runners")
            .get(Admin, runners::show, "The operator's settings of languages")
            .put(
                Admin,
                runners::set,
                "Sets the operator's settings of languages",
            ),
        at("/cache")
            .get(Admin, cache::show, "How much is kept of jobs")
            .delete(Admin, cache::purge, "Removes all that is kept of jobs"),
        at("/make").post(Admin, make::make, "Makes a package of what the host has"),
        at("/make/files").post(
            Admin,
            make::files,
            "Makes a package of a file: files (a tar) for an installed one, an image, an old package",
        ),
        at("/tokens")
            .get(Admin, tokens::list, "Tokens, without their secrets")
            .post(
                Admin,
                tokens::create,
                "Makes a token, whose secret is in this reply alone",
            ),
        at("/tokens/{id}").delete(
            Admin,
            tokens::revoke,
            "Lets nobody in any more with a token",
        ),
    ]
}

fn of_packages() -> Vec<Path> {
    vec![
        at("/repos").get(Admin, repos::list, "Configured repositories"),
        at("/repos/{repo}")
            .get(Admin, repos::show, "One repository")
            .put(Admin, repos::set, "Adds or changes a repository")
            .delete(Admin, repos::remove, "Forgets a repository"),
        at("/repos/{repo}/packages").get(
            Admin,
            repos::packages,
            "What a repository lists; `all` is every one",
        ),
        at("/repos/{repo}/packages/{package}").get(
            Admin,
            repos::versions,
            "Versions of a package in a repository",
        ),
        at("/repos/{repo}/packages/{package}/{version}").get(
            Admin,
            repos::version,
            "One version of a package in a repository",
        ),
        at("/repos/{repo}/packages/{package}/{version}/install").post(
            Admin,
            repos::install,
            "Installs the newest version in a range, with what it depends on",
        ),
        at("/packages")
            .get(Admin, packages::list, "Installed packages")
            .post(
                Admin,
                packages::upload,
                "Installs the package file in the body",
            ),
        at("/packages/gc").post(
            Admin,
            packages::gc,
            "Removes dependencies that nothing needs",
        ),
        at("/packages/{package}").get(Admin, packages::versions, "Installed versions of a package"),
        at("/packages/{package}/{version}")
            .get(Admin, packages::show, "An installed package")
            .patch(Admin, packages::set, "What the operator sets for a package")
            .delete(Admin, packages::uninstall, "Removes a package"),
        at("/packages/{package}/{version}/verify").post(
            Admin,
            packages::verify,
            "Checks what is on the disk of a package again",
        ),
        at("/packages/{package}/{version}/cache")
            .get(
                Admin,
                cache::show_package,
                "What is kept of jobs of a package",
            )
            .delete(
                Admin,
                cache::purge_package,
                "Removes what is kept of jobs of a package",
            ),
        at("/runtimes").get(Execute, packages::runtimes, "What can be run"),
    ]
}

fn of_jobs() -> Vec<Path> {
    vec![
        at("/packages/{package}/{version}/execute")
            .post(Execute, execute::execute, "Runs a program")
            .get(
                Execute,
                ws::execute::connect,
                "Runs a program and talks with it, over a WebSocket",
            ),
        at("/packages/{package}/{version}/batch").post(
            Execute,
            batch::batch,
            "Runs a program against many inputs",
        ),
        at("/jobs").get(Execute, jobs::list, "Jobs that run or wait"),
        at("/jobs/{id}").get(Execute, jobs::show, "One job").delete(
            Execute,
            jobs::kill,
            "Ends a job",
        ),
    ]
}

/// What stands outside the base path, where those who watch look for it.
fn of_collectors() -> Vec<Path> {
    vec![
        at("/healthz").get(Execute, status::healthz, "Whether the daemon lives"),
        at("/readyz").get(Execute, status::readyz, "Whether jobs are served"),
        at("/metrics").get(
            Admin,
            metrics::metrics,
            "What the daemon counts, as OpenMetrics",
        ),
    ]
}

fn at(path: &str) -> Path {
    Path {
        path: path.to_owned(),
        operations: Vec::new(),
    }
}

/// Generates a method of [`Path`] for each method of HTTP.
macro_rules! methods {
    ($($name:ident $method:ident,)*) => {
        impl Path {
            $(fn $name<H, T>(mut self, role: Role, handler: H, summary: &'static str) -> Self
            where
                H: Handler<T, AppState> + Documented<T>,
                T: 'static,
            {
                let handler = on(MethodFilter::$method, handler);
                self.operations.push(Operation {
                    role,
                    method: stringify!($method),
                    summary,
                    name: std::any::type_name::<H>(),
                    document: <H as Documented<T>>::document,
                    handler: match role {
                        Execute => handler,
                        Admin => handler.layer(middleware::from_fn(admin_only)),
                    },
                });
                self
            })*
        }
    };
}

methods! {
    get GET,
    put PUT,
    post POST,
    patch PATCH,
    delete DELETE,
}

/// Every operation: method, path with its parameters in braces, least role.
pub fn operations() -> Vec<(&'static str, String, Role)> {
    let rows = table().into_iter().flat_map(|Path { path, operations }| {
        let row = move |operation: Operation| (operation.method, path.clone(), operation.role);
        operations.into_iter().map(row)
    });
    rows.collect()
}

/// All operations, for requests that were let in.
pub(super) fn router(app: Arc<App>) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, row| {
        let handlers = row
            .operations
            .into_iter()
            .map(|operation| operation.handler);
        router.route(
            &row.path,
            handlers.fold(MethodRouter::new(), MethodRouter::merge),
        )
    });
    routes
        .fallback(elsewhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn admin_only(request: Request, next: Next) -> Response {
    match Peer::of(&request).manages() {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Where a request goes whose path has the prefix that a proxy leaves on it; none for another.
pub(super) fn below(uri: &Uri, prefix: &str) -> Option<Uri> {
    let rest = uri
        .path()
        .strip_prefix(prefix)
        .filter(|_| !prefix.is_empty())?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let slash = if rest.is_empty() { "/" } else { "" };
    let query = uri.query().map(|query| format!("?{query}"));
    let text = format!("{slash}{rest}{}", query.unwrap_or_default());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(text.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// v2 has routing of its own (any case, a slash at the end), the playground is on some listeners
/// only; all else is nowhere.
async fn elsewhere(State(app): State<AppState>, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    match (path, Dialect::of(path)) {
        ("/", _) => match page::way_in(&parts) {
            Some(response) => Ok(response),
            None => v2::greeting(&parts.method),
        },
        (_, Dialect::V2) => v2::dispatch(&app, Request::from_parts(parts, body)).await,
        (_, Dialect::V3) => page::reply(&parts).await,
    }
}

async fn wrong_method(request: Request) -> Error {
    let text = format!(
        "`{}` does not take {}",
        request.uri().path(),
        request.method()
    );
    Error::new(Code::MethodNotAllowed, text)
}
