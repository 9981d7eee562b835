//! Replies: JSON bodies, and errors in the form of the API that was spoken to.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use piston_client::api::Code;
use serde::Serialize;

use super::body::Json;
use crate::error::Error;

/// What handlers return.
pub type Reply = Result<Response, Error>;

/// The same where it is JSON of a type.
pub(super) type Answer<T> = Result<Json<T>, Error>;

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        json(&self.0).into_response()
    }
}

/// 201 with JSON.
#[derive(Debug)]
pub(super) struct Created<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        json_with(StatusCode::CREATED, &self.0).into_response()
    }
}

/// 204.
#[derive(Debug)]
pub(super) struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

/// A word for those who watch: 200, or 503.
#[derive(Debug)]
pub(super) enum Plain {
    /// It is so.
    Yes(&'static str),
    /// It is not.
    No(&'static str),
}

impl IntoResponse for Plain {
    fn into_response(self) -> Response {
        match self {
            Self::Yes(text) => text.into_response(),
            Self::No(text) => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
        }
    }
}

/// Which API a path belongs to, which decides what errors look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{"message": ...}`.
    V2,
    /// `application/problem+json`.
    V3,
}

impl Dialect {
    pub(super) fn of(path: &str) -> Self {
        let prefix = path.get(..super::v2::BASE_PATH.len()).unwrap_or_default();
        if prefix.eq_ignore_ascii_case(super::v2::BASE_PATH) {
            Self::V2
        } else {
            Self::V3
        }
    }
}

/// 200 with JSON.
pub fn json(body: &impl Serialize) -> Reply {
    json_with(StatusCode::OK, body)
}

/// JSON with a status.
pub fn json_with(status: StatusCode, body: &impl Serialize) -> Reply {
    Ok(written(status, encoded(body)?))
}

/// JSON as bytes.
pub(super) fn encoded(body: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body).map_err(|e| Error::caused_by(Code::Internal, &e))
}

/// A status with JSON that is written already.
pub(super) fn written(status: StatusCode, json: impl Into<Body>) -> Response {
    let mut response = Response::new(json.into());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// An error travels as an extension of its response: only the outermost layer knows the request's
/// id, and renders it.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Puts an error into a response. Headers that are there (`Allow`) stay.
pub(super) fn render(error: &Error, dialect: Dialect, request: &str, response: &mut Response) {
    let status = StatusCode::from_u16(error.code().status());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (kind, body) = match dialect {
        Dialect::V3 => (
            "application/problem+json",
            serde_json::to_vec(&error.problem(request)),
        ),
        Dialect::V2 => {
            let message = std::collections::BTreeMap::from([("message", error.outside())]);
            ("application/json", serde_json::to_vec(&message))
        }
    };
    let headers = response.headers_mut();
    if error.code() == Code::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.remove(header::CONTENT_LENGTH);
    if let Some(after) = error.retry_after() {
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(after.max(Duration::from_secs(1)).as_secs()),
        );
    }
    *response.body_mut() = body.map_or_else(|_| Body::empty(), Body::from);
}
