//! Operations on the operator's settings of runtimes.

use crate::api::{Runners, SetRunners};
use crate::error::Error;
use crate::http::{Body, Method};

use super::{Call, Client, path, with_query};

/// What becomes of settings that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetRunnersMode {
    /// They are put in force.
    Apply,
    /// The daemon only says whether they could be.
    Check,
}

impl Client {
    /// `GET /runners`: what is in force.
    pub async fn runners(&self) -> Result<Runners, Error> {
        self.get(path(&["runners"])).await
    }

    /// `PUT /runners`: sets all entries anew.
    pub async fn set_runners(
        &self,
        entries: &SetRunners,
        mode: SetRunnersMode,
    ) -> Result<Runners, Error> {
        self.call(put(mode).json(entries)).await
    }

    /// The same with the text of a `runners.toml`, which is stored as it is.
    pub async fn set_runners_text(
        &self,
        text: &str,
        mode: SetRunnersMode,
    ) -> Result<Runners, Error> {
        let body = Body::Toml(text.as_bytes().to_vec());
        self.call(put(mode).body(body)).await
    }
}

fn put(mode: SetRunnersMode) -> Call {
    let path = path(&["runners"]);
    let path = match mode {
        SetRunnersMode::Apply => path,
        SetRunnersMode::Check => with_query(path, &[("check", "true")]),
    };
    Call::new(Method::Put, path)
}
