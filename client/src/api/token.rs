//! Tokens: what lets a client in where a listener asks for one.

use serde::{Deserialize, Serialize};

use crate::ids::TokenId;
use crate::units::Rate;

/// What a client may do, by the listener it came through and by its token.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runtimes, execute, health, a reduced `info`, its own jobs.
    #[default]
    Execute,
    /// Everything.
    Admin,
}

/// One entry of `GET /tokens`: all that is known of a token but the secret, of which the daemon
/// keeps a digest alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Token {
    /// Names it, in lists and in `GET /jobs`.
    pub id: TokenId,
    /// Whose it is, in the operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it allows, on listeners that allow it.
    pub role: Role,
    /// Requests that it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Jobs that it may have at once, running or waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Unix time when it was made, in seconds.
    pub created_at: u64,
}

/// Body of `POST /tokens`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NewToken {
    /// Whose it is, in the operator's words; at most 100 characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Requests that it allows; default as many as there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Jobs that it may have at once, running or waiting; default as many as fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// Reply of `POST /tokens`, the only time that the secret is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreatedToken {
    /// What is known of it from now on.
    #[serde(flatten)]
    pub token: Token,
    /// What a client says: `Authorization: Bearer SECRET`.
    pub secret: String,
}

/// Without the secret.
impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
