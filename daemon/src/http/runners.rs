//! The operator's settings of runtimes: what is in force, and setting it.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use piston_client::api::{self, Code, RunnersInfo, SetRunners, SetRunnersParameters};

use super::app::App;
use super::body::{self, Json, Query};
use crate::config::runners::{self as format, BadRunners};
use crate::error::Error;
use crate::job::runners::{self, Runners};

/// `GET /runners`.
pub(super) async fn show(State(app): State<Arc<App>>) -> Result<Tagged, Error> {
    in_force(app.runners())
}

/// `PUT /runners[?check=true]`: JSON, or the text of a file as it is to be stored.
pub(super) async fn set(
    State(app): State<Arc<App>>,
    Query(asked): Query<SetRunnersParameters>,
    headers: HeaderMap,
    File(text): File,
) -> Result<Tagged, Error> {
    let expected = expected(&headers)?;
    if asked.check {
        let entries = app
            .runners()
            .check(&text)
            .map_err(|fault| refused(&fault))?;
        let runners = api::Runners {
            text,
            runners: entries.iter().map(format::Entry::as_wire).collect(),
            error: None,
        };
        return Ok(Tagged { runners, tag: None });
    }
    let runners = Arc::clone(app.runners());
    let work = async move {
        let replace = move || runners.replace(text, expected.as_deref());
        match tokio::task::spawn_blocking(replace).await {
            Ok(done) => done.map_err(Error::from),
            Err(error) => Err(Error::caused_by(Code::Internal, &error)),
        }
    };
    app.detached(work).await?;
    in_force(app.runners())
}

/// What `/info` tells.
pub(super) fn info(runners: &Runners) -> RunnersInfo {
    let state = runners.state();
    RunnersInfo {
        entries: u64::try_from(state.rules.entries.len()).unwrap_or(u64::MAX),
        error: state.error,
    }
}

/// Settings, with their tag when they are in force.
#[derive(Debug)]
pub(super) struct Tagged {
    pub(super) runners: api::Runners,
    tag: Option<HeaderValue>,
}

impl IntoResponse for Tagged {
    fn into_response(self) -> Response {
        let mut response = Json(self.runners).into_response();
        if let Some(tag) = self.tag {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

fn in_force(runners: &Runners) -> Result<Tagged, Error> {
    let state = runners.state();
    let entries = state.rules.entries.iter();
    let runners = api::Runners {
        text: state.text.to_string(),
        runners: entries.map(format::Entry::as_wire).collect(),
        error: state.error.clone(),
    };
    let tag = HeaderValue::try_from(format!("\"{}\"", state.tag()));
    let tag = tag.map_err(|error| Error::caused_by(Code::Internal, &error))?;
    Ok(Tagged {
        runners,
        tag: Some(tag),
    })
}

/// The tag that the client's change is based on; none when it says nothing of one.
fn expected(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(given) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = given.to_str().unwrap_or_default().trim();
    let tag = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    match tag {
        _ if text == "*" => Ok(None),
        Some(tag) => Ok(Some(tag.to_owned())),
        None => Err(Error::new(
            Code::MalformedRequest,
            "`If-Match` is the `ETag` of a reply, in its quotes",
        )),
    }
}

/// The body as the text of a file, which it is or becomes.
#[derive(Debug)]
pub(super) struct File(String);

impl FromRequest<Arc<App>> for File {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Error> {
        text(app, request).await.map(Self)
    }
}

async fn text(app: &App, request: Request) -> Result<String, Error> {
    let is_json = body::is_json(request.headers());
    let is_toml = ["application/toml", "text/toml"]
        .iter()
        .any(|kind| body::is_of_kind(request.headers(), kind));
    if !is_json && !is_toml {
        let text = "the body has to be `application/json` or `application/toml`";
        return Err(Error::new(Code::UnsupportedMediaType, text));
    }
    let bytes = body::read(request.into_body(), app).await?;
    let text = if is_json {
        let set: SetRunners = body::parse(&bytes)?;
        format::render(set.runners).map_err(|fault| refused(&fault))?
    } else {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::new(Code::MalformedRequest, "the body is not UTF-8"))?
    };
    // What is stored has to be readable again.
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > runners::MAX_BYTES {
        let text = format!(
            "the settings are over their bound of {} bytes",
            runners::MAX_BYTES
        );
        return Err(Error::new(Code::BodyTooLarge, text));
    }
    Ok(text)
}

fn refused(fault: &BadRunners) -> Error {
    Error::new(Code::InvalidField, fault.to_string())
}
