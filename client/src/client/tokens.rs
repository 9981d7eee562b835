//! Operations on tokens.

use crate::api::{CreatedToken, NewToken, Token};
use crate::error::Error;
use crate::http::Method;
use crate::ids::TokenId;

use super::{Call, Client, path};

impl Client {
    /// `GET /tokens`: every token, without its secret.
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        self.get(path(&["tokens"])).await
    }

    /// `POST /tokens`: makes one. The secret is in this reply and nowhere else.
    pub async fn create_token(&self, token: &NewToken) -> Result<CreatedToken, Error> {
        let call = Call::new(Method::Post, path(&["tokens"]));
        self.call(call.json(token)).await
    }

    /// `DELETE /tokens/{id}`: who holds it is let in no more; its jobs go on to their end.
    pub async fn revoke_token(&self, id: &TokenId) -> Result<(), Error> {
        let path = path(&["tokens", &id.to_string()]);
        self.command(Call::new(Method::Delete, path)).await
    }
}
