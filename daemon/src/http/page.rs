//! The playground: a web page at `/play/`, on the listeners that have it.
//!
//! Owns which of its files are there and how they are sent; what the page does is in `daemon/page`,
//! and it does it through the API, as everybody. The start page is asked for again each time; all
//! that it refers to lies below a folder named after the build's contents and is never asked for
//! twice. The paths it names are relative, so a prefix of a proxy's does not matter. A browser that
//! asks for `/` is sent to it.
//!
//! Invariants: nothing here needs a token, costs anything of a quota, or tells anything of jobs,
//! packages or the host; the page runs no script and talks to no server but this one's.

mod files;

use std::collections::BTreeMap;
use std::io::Write as _;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use piston_client::api::Code;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::access::Door;
use super::connection::Connection;
use super::reply::Reply;
use crate::config::exposure::{Page, TokenPolicy};
use crate::error::Error;

/// Where it is, less the slash at the end.
const PLACE: &str = "/play";

/// What a browser lets the page do: nothing but what is named.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const CROSS_ORIGIN_RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Made when somebody first opens the page.
static BUILD: OnceCell<Build> = OnceCell::const_new();

/// Whether a request asks for a part of the page, on a listener that has it.
pub(super) fn is_part(door: &Door, request: &Parts) -> bool {
    door.page == Page::Served
        && matches!(request.method, Method::GET | Method::HEAD)
        && (below(request.uri.path()).is_some() || is_front_door(request))
}

/// Whether a browser asks for the listener's address without any path; to others v2 answers there.
fn is_front_door(request: &Parts) -> bool {
    let mut accepted = request.headers.get_all(header::ACCEPT).iter();
    let page = accepted.any(|kinds| {
        kinds
            .to_str()
            .is_ok_and(|kinds| kinds.contains("text/html"))
    });
    page && request.uri.path() == "/"
}

/// The way from `/` to the page, for a browser on a listener that has it.
pub(super) fn way_in(request: &Parts) -> Option<Response> {
    let door = &request.extensions.get::<Connection>()?.arrival().door;
    (is_front_door(request) && is_part(door, request)).then(to_the_start)
}

fn to_the_start() -> Response {
    let place = [(header::LOCATION, "play/")];
    (StatusCode::TEMPORARY_REDIRECT, place).into_response()
}

/// What is at a path that nothing else answers for.
pub(super) async fn reply(request: &Parts) -> Reply {
    match request.extensions.get::<Connection>() {
        Some(connection) => at(&connection.arrival().door, request).await,
        None => Err(nothing_at(request.uri.path())),
    }
}

async fn at(door: &Door, request: &Parts) -> Reply {
    let path = request.uri.path();
    let part = below(path).filter(|_| door.page == Page::Served);
    let part = part.ok_or_else(|| nothing_at(path))?;
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let text = format!("`{path}` does not take {}", request.method);
        return Err(Error::new(Code::MethodNotAllowed, text));
    }
    let mut response = match part {
        "" => to_the_start(),
        "/listener.json" => listener(door),
        part => {
            let build = build().await?;
            let sent = build.find(part).ok_or_else(|| nothing_at(path))?;
            sent.response(&request.headers)
        }
    };
    protect(response.headers_mut());
    Ok(response)
}

fn nothing_at(path: &str) -> Error {
    Error::new(Code::NotFound, format!("there is nothing at `{path}`"))
}

/// What follows the page's place in a path.
fn below(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PLACE)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// What the page has to know before it asks for anything.
fn listener(door: &Door) -> Response {
    let facts = serde_json::json!({
        "role": door.role,
        "tokens": door.tokens == TokenPolicy::Required,
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, facts.to_string()).into_response()
}

fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_RESOURCE, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

async fn build() -> Result<&'static Build, Error> {
    let make = || async { tokio::task::spawn_blocking(Build::new).await };
    let build = BUILD.get_or_try_init(make).await;
    build.map_err(|error| Error::caused_by(Code::Internal, &error))
}

/// All files, ready to be sent.
#[derive(Debug)]
struct Build {
    start: File,
    /// What their folder is called.
    name: String,
    files: BTreeMap<&'static str, File>,
}

/// One file.
#[derive(Debug)]
struct File {
    kind: &'static str,
    keep: &'static str,
    tag: String,
    plain: Bytes,
    packed: Bytes,
}

impl Build {
    fn new() -> Self {
        let mut all = Sha256::new();
        let mut found = BTreeMap::new();
        for &(name, bytes) in files::FILES {
            let file = File::new(
                name,
                Bytes::from_static(bytes),
                "public, max-age=31536000, immutable",
            );
            all.update(name);
            all.update(&file.tag);
            found.insert(name, file);
        }
        let name = hex::encode(&all.finalize()[..8]);
        let start = files::START.replace("\"assets/", &format!("\"{name}/"));
        Self {
            start: File::new("index.html", Bytes::from(start), "no-cache"),
            name,
            files: found,
        }
    }

    fn find(&self, part: &str) -> Option<&File> {
        let part = part.strip_prefix('/')?;
        if part.is_empty() {
            return Some(&self.start);
        }
        let (build, file) = part.split_once('/')?;
        self.files.get(file).filter(|_| build == self.name)
    }
}

impl File {
    fn new(name: &str, plain: Bytes, keep: &'static str) -> Self {
        Self {
            kind: kind(name),
            keep,
            // Weak: the same for the file packed or not.
            tag: format!("W/\"{}\"", hex::encode(&Sha256::digest(&plain)[..12])),
            packed: packed(&plain),
            plain,
        }
    }

    fn response(&self, asked: &HeaderMap) -> Response {
        let always = [
            (header::ETAG, &*self.tag),
            (header::CACHE_CONTROL, self.keep),
            (header::VARY, "accept-encoding"),
        ];
        if is_known(asked, &self.tag) {
            return (StatusCode::NOT_MODIFIED, always).into_response();
        }
        let kind = [(header::CONTENT_TYPE, self.kind)];
        if takes_gzip(asked) {
            let packed = [(header::CONTENT_ENCODING, "gzip")];
            (always, kind, packed, self.packed.clone()).into_response()
        } else {
            (always, kind, self.plain.clone()).into_response()
        }
    }
}

/// Gzip, which every browser takes; the whole page is half of its bound with it.
fn packed(plain: &[u8]) -> Bytes {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let done = packer.write_all(plain).and_then(|()| packer.finish());
    done.expect("memory takes all that is written").into()
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',').map(str::trim))
}

/// Whether the client has the file of that tag already.
fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    words(asked, header::IF_NONE_MATCH).any(|known| known == "*" || opaque(known) == opaque(tag))
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    words(asked, header::ACCEPT_ENCODING).any(|word| {
        let (coding, parameters) = word.split_once(';').unwrap_or((word, ""));
        let refused = parameters
            .trim()
            .strip_prefix("q=")
            .is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests;
