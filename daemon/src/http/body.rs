//! Bodies and parameters of requests: bounds of size and time, JSON with positions.
//!
//! Invariant: no body is in memory beyond its bound, whatever its headers claim.

use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::{Stream, StreamExt as _};
use piston_client::api::Code;
use piston_client::units;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;

use super::app::App;
use crate::error::Error;
use crate::packages::VersionRange;

/// What is still read of a body that is refused for its size or for want of space, so that a client that sends first
/// and reads then gets to see why.
const DRAIN: usize = 64 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// What a claimed length reserves: memory for nothing, if the body does not come.
const BELIEVED: usize = 64 << 10;

/// A JSON body of a v3 request, or of a reply.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            let text = "the body has to be JSON, with `Content-Type: application/json`";
            return Err(Error::new(Code::UnsupportedMediaType, text));
        }
        let bytes = read(request.into_body(), app).await?;
        parse(&bytes).map(Self)
    }
}

/// Whether the body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    is_of_kind(headers, "application/json")
}

/// Whether the body says that it is of a kind, whatever its parameters are.
pub(super) fn is_of_kind(headers: &HeaderMap, expected: &str) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    kind.eq_ignore_ascii_case(expected)
}

/// The whole body, within its bounds.
pub(super) async fn read(body: Body, app: &App) -> Result<Bytes, Error> {
    let server = &app.config().server;
    let (limit, time) = (server.max_body, server.body_timeout);
    let size = body.size_hint();
    let (expected, whole) = (size.lower(), size.exact());
    let mut pieces = pin!(body.into_data_stream());
    let all = async {
        if expected > limit.0 {
            return Err(Box::pin(too_large(limit, &mut pieces)).await);
        }
        // What a client claims is room for this much at most before any of it has come.
        let claimed = usize::try_from(expected).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| broken(&error))?;
            if piece.len() > limit.as_usize() - bytes.len() {
                return Err(Box::pin(too_large(limit, &mut pieces)).await);
            }
            if bytes.is_empty() {
                if whole == u64::try_from(piece.len()).ok() {
                    // Most bodies come in one piece, which need not be copied.
                    return Ok(piece);
                }
                bytes.reserve(claimed.min(BELIEVED));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Bytes::from(bytes))
    };
    tokio::time::timeout(time, all)
        .await
        .unwrap_or_else(|_| Err(too_slow(time)))
}

/// Writes the body to a new file, within its bounds.
pub(super) async fn store(body: Body, file: &Path, app: &App) -> Result<(), Error> {
    let server = &app.config().server;
    let file = tokio::fs::File::create_new(file)
        .await
        .map_err(|error| unwritable(&error))?;
    let mut pieces = pin!(body.into_data_stream());
    copy(&mut pieces, file, (server.max_upload, server.body_timeout)).await
}

/// Writes all pieces to `file`, within a bound of size and one of time for each.
async fn copy(
    pieces: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin),
    mut file: tokio::fs::File,
    (limit, time): (units::Bytes, Duration),
) -> Result<(), Error> {
    let mut left = limit.0;
    loop {
        let piece = tokio::time::timeout(time, pieces.next())
            .await
            .map_err(|_| too_slow(time))?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| broken(&error))?;
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let Some(rest) = left.checked_sub(length) else {
            return Err(too_large(limit, pieces).await);
        };
        left = rest;
        if let Err(error) = file.write_all(&piece).await {
            drain(pieces, DRAIN).await;
            return Err(unwritable(&error));
        }
    }
    file.flush().await.map_err(|error| unwritable(&error))
}

fn unwritable(error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::new(
            Code::NoSpace,
            "no space left for the upload in the data directory",
        ),
        _ => Error::caused_by(Code::Internal, error),
    }
}

async fn too_large<E>(
    limit: units::Bytes,
    pieces: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
) -> Error {
    drain(pieces, DRAIN).await;
    Error::new(
        Code::BodyTooLarge,
        format!("the body is over its bound of {} bytes", limit.0),
    )
}

/// Reads what is left of a refused body, within bounds. Whether it all came makes no difference
/// to the answer: it is only read for politeness.
pub(super) async fn drain<E>(
    pieces: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    mut room: usize,
) {
    let rest = async {
        while let Some(Ok(piece)) = pieces.next().await {
            match room.checked_sub(piece.len()) {
                Some(rest) => room = rest,
                None => break,
            }
        }
    };
    drop(tokio::time::timeout(DRAIN_TIME, rest).await);
}

fn too_slow(time: Duration) -> Error {
    let text = format!(
        "nothing more of the body arrived within {} s",
        time.as_secs()
    );
    Error::new(Code::RequestTimeout, text)
}

fn broken(error: &axum::Error) -> Error {
    Error::caused_by(Code::MalformedRequest, error)
}

/// Parses JSON; an error says where, and names a field that is not known.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "the body can't be read",
            _ => "the body is not JSON",
        };
        Error::new(Code::MalformedRequest, format!("{what}: {error}"))
    })
}

/// A package file, on its way.
#[derive(Debug)]
pub struct Upload(pub Body);

impl FromRequest<Arc<App>> for Upload {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self(request.into_body()))
    }
}

/// Parameters in the path, parsed.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        match axum::extract::Path::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(error) => Err(Error::new(Code::InvalidField, error.body_text())),
        }
    }
}

/// Parameters in the query; every one that a handler does not take is refused.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        match axum::extract::Query::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(parameters)) => Ok(Self(parameters)),
            Err(error) => Err(Error::new(Code::MalformedRequest, error.body_text())),
        }
    }
}

/// A range of versions.
pub(super) fn range(text: &str) -> Result<VersionRange, Error> {
    text.parse()
        .map_err(|error: crate::packages::InvalidRange| {
            Error::new(Code::InvalidField, error.to_string())
        })
}

/// An id of a path or field.
pub(super) fn id<T: std::str::FromStr<Err = piston_client::ids::InvalidId>>(
    text: &str,
) -> Result<T, Error> {
    text.parse()
        .map_err(|error: T::Err| Error::new(Code::InvalidField, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_without_space_is_read_on_so_that_its_client_hears_why() {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let file = tokio::fs::File::from_std(full.expect("a device"));
        let piece = || Ok(Bytes::from(vec![0; 1 << 20]));
        let mut pieces = futures_util::stream::iter((0..8).map(|_| piece()));
        let bounds = (units::Bytes(1 << 30), Duration::from_secs(5));
        let error = copy(&mut pieces, file, bounds).await.expect_err("full");
        assert_eq!(error.code(), Code::NoSpace);
        assert!(pieces.next().await.is_none());
    }
}
