//! The one table of v3 operations, and what is asked of everybody before a handler runs.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use piston_client::api::{BASE_PATH, Code};

use super::app::App;
use super::edge::{self, Peer, Role};
use super::reply::{Dialect, Reply};
use super::{batch, cache, execute, jobs, make, packages, repos, runners, status, v2, ws};
use crate::error::Error;

type AppState = Arc<App>;

/// One operation.
struct Route {
    role: Role,
    method: &'static str,
    path: String,
    handler: MethodRouter<AppState>,
}

/// The table: who may, method, path below the base path, handler.
fn table() -> Vec<Route> {
    use Role::{Admin, Execute};
    let mut table = of_jobs();
    table.extend([
        v3(Execute, "GET", "/version", status::version),
        v3(Execute, "GET", "/info", status::info),
        v3(Admin, "GET", "/repos", repos::list),
        v3(Admin, "GET", "/repos/{repo}", repos::show),
        v3(Admin, "PUT", "/repos/{repo}", repos::set),
        v3(Admin, "DELETE", "/repos/{repo}", repos::remove),
        v3(Admin, "GET", "/repos/{repo}/packages", repos::packages),
        v3(
            Admin,
            "GET",
            "/repos/{repo}/packages/{package}",
            repos::versions,
        ),
        v3(
            Admin,
            "GET",
            "/repos/{repo}/packages/{package}/{version}",
            repos::version,
        ),
        v3(
            Admin,
            "POST",
            "/repos/{repo}/packages/{package}/{version}/install",
            repos::install,
        ),
        v3(Admin, "GET", "/packages", packages::list),
        v3(Admin, "POST", "/packages", packages::upload),
        v3(Admin, "POST", "/packages/gc", packages::gc),
        v3(Admin, "GET", "/packages/{package}", packages::versions),
        v3(
            Admin,
            "GET",
            "/packages/{package}/{version}",
            packages::show,
        ),
        v3(
            Admin,
            "DELETE",
            "/packages/{package}/{version}",
            packages::uninstall,
        ),
        v3(Execute, "GET", "/runtimes", packages::runtimes),
        v3(Admin, "GET", "/cache", cache::show),
        v3(Admin, "DELETE", "/cache", cache::purge),
        v3(
            Admin,
            "GET",
            "/packages/{package}/{version}/cache",
            cache::show_package,
        ),
        v3(
            Admin,
            "DELETE",
            "/packages/{package}/{version}/cache",
            cache::purge_package,
        ),
        v3(Admin, "GET", "/runners", runners::show),
        v3(Admin, "PUT", "/runners", runners::set),
        v3(Admin, "POST", "/make", make::make),
        root(Execute, "GET", "/healthz", status::healthz),
        root(Execute, "GET", "/readyz", status::readyz),
    ]);
    table
}

/// The part of it that is about jobs.
fn of_jobs() -> Vec<Route> {
    use Role::{Admin, Execute};
    vec![
        v3(
            Execute,
            "POST",
            "/packages/{package}/{version}/execute",
            execute::execute,
        ),
        v3(
            Execute,
            "GET",
            "/packages/{package}/{version}/execute",
            ws::execute::connect,
        ),
        v3(
            Execute,
            "POST",
            "/packages/{package}/{version}/batch",
            batch::batch,
        ),
        v3(Admin, "GET", "/jobs", jobs::list),
        v3(Execute, "GET", "/jobs/{id}", jobs::show),
        v3(Execute, "DELETE", "/jobs/{id}", jobs::kill),
    ]
}

fn v3<H, T>(role: Role, method: &'static str, path: &str, handler: H) -> Route
where
    H: Handler<T, AppState>,
    T: 'static,
{
    root(role, method, &format!("{BASE_PATH}{path}"), handler)
}

fn root<H, T>(role: Role, method: &'static str, path: &str, handler: H) -> Route
where
    H: Handler<T, AppState>,
    T: 'static,
{
    let filter = match method {
        "GET" => MethodFilter::GET,
        "PUT" => MethodFilter::PUT,
        "POST" => MethodFilter::POST,
        _ => MethodFilter::DELETE,
    };
    let handler = on(filter, handler);
    let handler = match role {
        Role::Execute => handler,
        Role::Admin => handler.layer(middleware::from_fn(admin_only)),
    };
    Route {
        role,
        method,
        path: path.to_owned(),
        handler,
    }
}

/// Every operation: method, path with its parameters in braces, least role.
pub fn operations() -> Vec<(&'static str, String, Role)> {
    table()
        .into_iter()
        .map(|route| (route.method, route.path, route.role))
        .collect()
}

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, route| {
        router.route(&route.path, route.handler)
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
    match Peer::of(&request).role {
        Role::Admin => next.run(request).await,
        Role::Execute => {
            let text = "this listener only executes; management needs the daemon's Unix socket";
            Error::new(Code::Forbidden, text).into_response()
        }
    }
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
