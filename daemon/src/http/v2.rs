//! The released Piston's API: its paths, validation, texts and replies, to the letter.
//!
//! Owns the v2 wire form; shares nothing with v3's types. Served at [`BASE_PATH`] and below
//! `piston/` there.
//!
//! Differences that are meant (the original's faults): malformed JSON and bad file names answer
//! with a `message`, output is cut exactly, a timeout of 0 means the configured one. Over the
//! WebSocket signals are delivered, input can end (`eof`), and who leaves ends its job.

mod connect;
pub mod execute;
mod packages;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::IntoResponse as _;
use piston_client::api::{Code, StageLimits};
use serde::Serialize;
use serde_json::{Map, Value};

use super::app::App;
use super::body;
use super::edge::Peer;
use super::reply::{self, Reply};
use super::ws::Handshake;
use crate::error::Error;

/// Where the released Piston's API lives.
pub const BASE_PATH: &str = "/api/v2";

/// The operations: path below the base, the methods it takes.
const OPERATIONS: [(&str, &str); 4] = [
    ("/connect", "GET"),
    ("/execute", "POST"),
    ("/packages", "GET, HEAD, POST, DELETE"),
    ("/runtimes", "GET, HEAD"),
];

/// One entry of `GET runtimes`.
#[derive(Debug, Serialize)]
struct Runtime {
    language: String,
    version: String,
    aliases: Vec<String>,
    /// The package, where it provides several languages.
    #[serde(rename = "runtime", skip_serializing_if = "Option::is_none")]
    package: Option<String>,
}

/// `GET /`.
pub(super) fn greeting(method: &Method) -> Reply {
    match *method {
        Method::GET | Method::HEAD => {
            let message = format!("Piston v{}", env!("CARGO_PKG_VERSION"));
            reply::json(&BTreeMap::from([("message", message)]))
        }
        _ => Err(Error::new(Code::NotFound, "Not Found")),
    }
}

/// Routes a request below the base path: any case, with or without a slash at the end.
pub(super) async fn dispatch(app: &Arc<App>, request: Request) -> Reply {
    let path = request.uri().path().to_lowercase();
    let below = path.strip_prefix(BASE_PATH).unwrap_or_default();
    let below = match below.strip_prefix("/piston") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => below,
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    check_content_type(request.method(), request.headers())?;
    let operation = OPERATIONS.iter().find(|(path, _)| *path == below);
    match (request.method().as_str(), operation) {
        ("OPTIONS", Some((_, methods))) => {
            Ok((StatusCode::OK, [(header::ALLOW, *methods)], *methods).into_response())
        }
        ("GET", Some(("/connect", _))) if Handshake::is_asked(&request) => {
            connect::connect(app, request).await
        }
        ("GET" | "HEAD", Some(("/runtimes", _))) => runtimes(app).await,
        ("POST", Some(("/execute", _))) => execute::execute(app, request).await,
        (method @ ("GET" | "HEAD" | "POST" | "DELETE"), Some(("/packages", _))) => {
            Peer::of(&request).manages()?;
            match method {
                "POST" => packages::install(app, request).await,
                "DELETE" => packages::uninstall(app, request).await,
                _ => packages::list(app).await,
            }
        }
        _ => Err(Error::new(Code::NotFound, "Not Found")),
    }
}

/// A browser has to ask before it may send JSON to another site, so what it sends has to be JSON;
/// other clients often leave the header out.
fn check_content_type(method: &Method, headers: &HeaderMap) -> Result<(), Error> {
    let needs_none = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let from_browser =
        headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    if needs_none || !from_browser || body::is_json(headers) {
        return Ok(());
    }
    let text = "requests must be of type application/json";
    Err(Error::new(Code::UnsupportedMediaType, text))
}

/// A body of JSON; none is an object without fields.
async fn body(app: &App, request: Request) -> Result<Value, Error> {
    let bytes = body::read(request.into_body(), app).await?;
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    body::parse(&bytes)
}

async fn runtimes(app: &App) -> Reply {
    let packages = &app.engine().await?.packages;
    let runtimes = packages.runtimes(&|_, _| StageLimits::default());
    let of_package = |package: &_, version: &_| {
        runtimes
            .iter()
            .filter(|r| r.package == *package && r.version == *version)
            .count()
    };
    let wire = runtimes.iter().map(|runtime| {
        let several = of_package(&runtime.package, &runtime.version) > 1
            || runtime.package != runtime.language;
        Runtime {
            language: runtime.language.to_string(),
            version: runtime.version.to_string(),
            aliases: runtime.aliases.clone(),
            package: several.then(|| runtime.package.to_string()),
        }
    });
    reply::json(&wire.collect::<Vec<_>>())
}
