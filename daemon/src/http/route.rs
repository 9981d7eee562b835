//! The one table of v3 operations: where each is, who may ask for it, what answers.
//!
//! Routing, 404, 405 with `Allow` and the roles come from it.

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
use super::edge::{self, Peer};
use super::reply::{Dialect, Reply};
use super::{
    batch, cache, execute, jobs, make, metrics, packages, repos, runners, status, tokens, v2, ws,
};
use crate::error::Error;

type AppState = Arc<App>;

/// A path with its operations.
struct Path {
    path: String,
    operations: Vec<Operation>,
}

/// One operation.
struct Operation {
    role: Role,
    method: &'static str,
    handler: MethodRouter<AppState>,
}

/// The table.
fn table() -> Vec<Path> {
    let v3 = [of_daemon(), of_packages(), of_jobs()];
    let v3 = v3.into_iter().flatten().map(|row| Path {
        path: format!("{BASE_PATH}{}", row.path),
        ..row
    });
    v3.chain(of_collectors()).collect()
}

fn of_daemon() -> Vec<Path> {
    vec![
        at("/version").get(Execute, status::version),
        at("/info").get(Execute, status::info),
        at("/runners")
            .get(Admin, runners::show)
            .put(Admin, runners::set),
        at("/cache")
            .get(Admin, cache::show)
            .delete(Admin, cache::purge),
        at("/make").post(Admin, make::make),
        at("/tokens")
            .get(Admin, tokens::list)
            .post(Admin, tokens::create),
        at("/tokens/{id}").delete(Admin, tokens::revoke),
    ]
}

fn of_packages() -> Vec<Path> {
    vec![
        at("/repos").get(Admin, repos::list),
        at("/repos/{repo}")
            .get(Admin, repos::show)
            .put(Admin, repos::set)
            .delete(Admin, repos::remove),
        at("/repos/{repo}/packages").get(Admin, repos::packages),
        at("/repos/{repo}/packages/{package}").get(Admin, repos::versions),
        at("/repos/{repo}/packages/{package}/{version}").get(Admin, repos::version),
        at("/repos/{repo}/packages/{package}/{version}/install").post(Admin, repos::install),
        at("/packages")
            .get(Admin, packages::list)
            .post(Admin, packages::upload),
        at("/packages/gc").post(Admin, packages::gc),
        at("/packages/{package}").get(Admin, packages::versions),
        at("/packages/{package}/{version}")
            .get(Admin, packages::show)
            .patch(Admin, packages::set)
            .delete(Admin, packages::uninstall),
        at("/packages/{package}/{version}/cache")
            .get(Admin, cache::show_package)
            .delete(Admin, cache::purge_package),
        at("/runtimes").get(Execute, packages::runtimes),
    ]
}

fn of_jobs() -> Vec<Path> {
    vec![
        at("/packages/{package}/{version}/execute")
            .post(Execute, execute::execute)
            .get(Execute, ws::execute::connect),
        at("/packages/{package}/{version}/batch").post(Execute, batch::batch),
        at("/jobs").get(Execute, jobs::list),
        at("/jobs/{id}")
            .get(Execute, jobs::show)
            .delete(Execute, jobs::kill),
    ]
}

/// What stands outside the base path, where those who watch look for it.
fn of_collectors() -> Vec<Path> {
    vec![
        at("/healthz").get(Execute, status::healthz),
        at("/readyz").get(Execute, status::readyz),
        at("/metrics").get(Admin, metrics::metrics),
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
            $(fn $name<H: Handler<T, AppState>, T: 'static>(mut self, role: Role, handler: H) -> Self {
                let handler = on(MethodFilter::$method, handler);
                let handler = match role {
                    Execute => handler,
                    Admin => handler.layer(middleware::from_fn(admin_only)),
                };
                let method = stringify!($method);
                self.operations.push(Operation { role, method, handler });
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

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
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
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            edge::around,
        ))
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

/// v2 has routing of its own (any case, a slash at the end); all else is nowhere.
async fn elsewhere(State(app): State<AppState>, request: Request) -> Reply {
    let path = request.uri().path();
    match (path, Dialect::of(path)) {
        ("/", _) => v2::greeting(&request),
        (_, Dialect::V2) => v2::dispatch(&app, request).await,
        (_, Dialect::V3) => Err(Error::new(
            Code::NotFound,
            format!("there is nothing at `{path}`"),
        )),
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
