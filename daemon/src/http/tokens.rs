//! Tokens: making, listing and revoking them.

use std::sync::Arc;

use axum::extract::State;
use piston_client::api::{CreatedToken, NewToken, Token};

use super::app::App;
use super::body::{self, Json, Params};
use super::reply::{Answer, Created, NoContent};
use crate::error::Error;
use crate::tokens::{TokenError, Tokens};

/// `GET /tokens`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Answer<Vec<Token>> {
    Ok(Json(app.engine().await?.tokens.list()))
}

/// `POST /tokens`: 201 with the secret.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Json(wanted): Json<NewToken>,
) -> Result<Created<CreatedToken>, Error> {
    let created = change(&app, move |tokens| tokens.create(wanted)).await?;
    Ok(Created(created))
}

/// `DELETE /tokens/{id}`.
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Params(id): Params<String>,
) -> Result<NoContent, Error> {
    let id = body::id(&id)?;
    change(&app, move |tokens| tokens.revoke(id)).await?;
    Ok(NoContent)
}

/// Changes block on the disk, and go on without their client.
async fn change<T: Send + 'static>(
    app: &App,
    change: impl FnOnce(&Tokens) -> Result<T, TokenError> + Send + 'static,
) -> Result<T, Error> {
    let tokens = Arc::clone(&app.engine().await?.tokens);
    let work = tokio::task::spawn_blocking(move || change(&tokens));
    let work = async move {
        let done = work.await;
        done.map_err(|error| Error::caused_by(piston_client::api::Code::Internal, &error))?
            .map_err(Error::from)
    };
    app.detached(work).await
}
