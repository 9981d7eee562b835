//! What a browser is told that asks whether pages of another origin may use the API.
//!
//! Knows nothing of what those pages may do: a token and its listener decide that. Nothing here is
//! sent unless the operator allows an origin.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::AllowOrigin;
pub(super) use tower_http::cors::CorsLayer;

use crate::config::exposure::Origins;

/// How long a browser may remember the answer.
const MAX_AGE: Duration = Duration::from_hours(1);

/// What speaks for the daemon; none where no other origin is allowed.
pub(super) fn layer(origins: &Origins) -> Option<CorsLayer> {
    let allowed = match origins {
        Origins::These(origins) if origins.is_empty() => return None,
        Origins::Any => AllowOrigin::any(),
        Origins::These(origins) => {
            let these = origins.clone();
            AllowOrigin::predicate(move |origin: &HeaderValue, _| {
                let text = origin.to_str();
                text.is_ok_and(|text| these.iter().any(|own| own.eq_ignore_ascii_case(text)))
            })
        }
    };
    let sent = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::ACCEPT,
        header::IF_MATCH,
    ];
    let seen = [
        "x-request-id",
        "retry-after",
        "etag",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "ratelimit-policy",
    ];
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers(
            sent.into_iter()
                .chain([HeaderName::from_static("x-request-id")])
                .collect::<Vec<_>>(),
        )
        .expose_headers(seen.map(HeaderName::from_static))
        .max_age(MAX_AGE);
    Some(layer)
}
