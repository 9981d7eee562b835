//! Questions to a server that may want to know who asks: small answers, whatever their status.
//!
//! For protocols on top of HTTP, whose refusals say how to go on. Invariants: those of all downloads;
//! what proves who asks is shown nowhere, and goes to no other host than the one that was asked.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};

use super::location::shown;
use super::resume::Faults;
use super::{
    FetchError, Fetcher, Location, length, read_file, success, too_long, transport, within,
};

/// Longest header that is looked at.
const MAX_HEADER_BYTES: usize = 8 << 10;

/// What a request says of who sends it.
#[derive(Clone)]
pub(crate) struct Authorization(HeaderValue);

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(...)")
    }
}

impl Authorization {
    /// A user with a password.
    pub(crate) fn basic(user: &str, password: &str) -> Option<Self> {
        let pair = STANDARD.encode(format!("{user}:{password}"));
        Self::of(&format!("Basic {pair}"))
    }

    /// A token; none when it is nothing that a header could hold.
    pub(crate) fn bearer(token: &str) -> Option<Self> {
        Self::of(&format!("Bearer {token}"))
    }

    fn of(text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.0.clone());
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 200, or why not.
    pub(crate) status: u16,
    /// The body of a 200; others have none that is read.
    pub(crate) body: Vec<u8>,
    /// How it wants to be asked, where it does not know who asks.
    pub(crate) challenges: Vec<String>,
}

impl Fetcher {
    /// The same, saying who asks.
    pub(crate) fn authorized(&self, by: Option<Authorization>) -> Self {
        Self {
            client: self.client.clone(),
            patience: self.patience,
            authorization: by,
        }
    }

    /// Asks for something small. Faults that pass are waited for.
    pub(crate) async fn ask(
        &self,
        from: &Location,
        accept: &str,
        limit: u64,
    ) -> Result<Answer, FetchError> {
        within(from, self.patience.index, async {
            let mut faults = Faults::new(self.patience.pause);
            loop {
                match self.answer(from, accept, limit).await {
                    Err(error) if error.passes() => {
                        if !faults.again(0).await {
                            return Err(error);
                        }
                    }
                    answer => return answer,
                }
            }
        })
        .await
    }

    async fn answer(
        &self,
        from: &Location,
        accept: &str,
        limit: u64,
    ) -> Result<Answer, FetchError> {
        let url = match from {
            Location::Web(url) => url,
            Location::File(path) => {
                return Ok(Answer {
                    status: 200,
                    body: read_file(path.clone()).await?,
                    challenges: Vec::new(),
                });
            }
        };
        let mut headers = HeaderMap::new();
        headers.extend(HeaderValue::from_str(accept).map(|value| (ACCEPT, value)));
        let response = self.get(url, headers).await?;
        let status = response.status();
        if !status.is_success() {
            if status.is_server_error() || status.as_u16() == 429 {
                return Err(FetchError::Status {
                    from: shown(url),
                    status: status.to_string(),
                    code: status.as_u16(),
                });
            }
            let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let challenges = challenges.filter(|value| value.len() <= MAX_HEADER_BYTES);
            let challenges = challenges.filter_map(|value| value.to_str().ok());
            return Ok(Answer {
                status: status.as_u16(),
                body: Vec::new(),
                challenges: challenges.map(ToOwned::to_owned).collect(),
            });
        }
        let response = success(url, response, limit)?;
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| transport(url, &error))?;
            body.extend_from_slice(&piece);
            if length(body.len()) > limit {
                return Err(too_long(&shown(url), limit));
            }
        }
        Ok(Answer {
            status: 200,
            body,
            challenges: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_not_shown() {
        let by = Authorization::basic("ann", "secret").expect("a header");
        assert_eq!(format!("{by:?}"), "Authorization(...)");
        assert!(!format!("{:?}", by.0).contains("YW5u"));
        assert!(Authorization::bearer("a\nb").is_none());
    }
}
