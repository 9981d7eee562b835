//! Replies: JSON bodies, and errors in the form of the API that was spoken to.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use piston_client::api::Code;
use serde::Serialize;

use crate::error::Error;

/// What handlers return.
pub type Reply = Result<Response, Error>;

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
    let bytes = serde_json::to_vec(body).map_err(|e| Error::caused_by(Code::Internal, &e))?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// 204.
pub fn nothing() -> Reply {
    Ok(StatusCode::NO_CONTENT.into_response())
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
