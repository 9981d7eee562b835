//! Tokens: who holds one is let in where a listener asks for one.
//!
//! A secret is `pst_ID_KEY`. The id, which is no secret, finds the row; the key is 256 random bits,
//! so that one round of sha256 is enough to keep it by. Invariants: the secret is told once and
//! kept nowhere; digests are compared in constant time; what is in memory is on disk, and a
//! revoked token lets no request in that begins after the revocation's reply.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use piston_client::api::{Code, CreatedToken, NewToken, Token};
use piston_client::ids::{Digest, TokenId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::random;
use crate::store::records::TokenRecord;
use crate::store::{Store, StoreError};

/// What a secret begins with, so that one that leaked is known for what it is.
const PREFIX: &str = "pst";

/// Characters of a name.
const MAX_NAME: usize = 100;

/// Tokens that there may be.
const MAX_TOKENS: usize = 10_000;

/// Why a token can't be made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is too long, or can't be shown.
    #[error("`name` has to be at most {MAX_NAME} characters, none of them a control character")]
    Name,
    /// No job at once is no use.
    #[error("`concurrency` is 0, it has to be at least 1")]
    Concurrency,
    /// There are too many.
    #[error("there are {MAX_TOKENS} tokens already; revoke some first")]
    TooMany,
    /// There is none of that id.
    #[error("there is no token {0}")]
    NotFound(TokenId),
    /// The kernel gives no randomness.
    #[error("no randomness for a secret")]
    Random(#[from] getrandom::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TokenError {
    /// The stable code for clients.
    pub fn code(&self) -> Code {
        match self {
            Self::Name | Self::Concurrency | Self::TooMany => Code::InvalidField,
            Self::NotFound(_) => Code::TokenNotFound,
            Self::Store(StoreError::Write { no_space: true, .. }) => Code::NoSpace,
            Self::Random(_) | Self::Store(_) => Code::Internal,
        }
    }
}

/// Every token.
#[derive(Debug)]
pub struct Tokens {
    store: Arc<Store>,
    known: RwLock<BTreeMap<TokenId, TokenRecord>>,
    /// Held over a change of disk and memory.
    changing: Mutex<()>,
}

impl Tokens {
    /// Reads them. Like every change it blocks on the disk.
    pub fn open(store: Arc<Store>) -> Result<Self, StoreError> {
        let records = store.tokens()?.into_iter();
        let known = records.map(|record| (record.token.id, record)).collect();
        Ok(Self {
            store,
            known: RwLock::new(known),
            changing: Mutex::default(),
        })
    }

    /// All of them, by id.
    pub fn list(&self) -> Vec<Token> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|record| record.token.clone()).collect()
    }

    /// The token that somebody proves to hold.
    pub fn find(&self, secret: &str) -> Option<Token> {
        let (prefix, rest) = secret.split_once('_')?;
        let (id, _) = rest.split_once('_')?;
        let id: TokenId = id.parse().ok()?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let record = known.get(&id).filter(|_| prefix == PREFIX)?;
        let proven = record.secret.as_bytes().ct_eq(digest(secret).as_bytes());
        bool::from(proven).then(|| record.token.clone())
    }

    /// Makes one.
    pub fn create(&self, wanted: NewToken) -> Result<CreatedToken, TokenError> {
        let NewToken {
            name,
            role,
            rate,
            concurrency,
        } = wanted;
        if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(TokenError::Name);
        }
        if concurrency == Some(0) {
            return Err(TokenError::Concurrency);
        }
        let id = TokenId::from_random(u64::from_be_bytes(random::bytes()?));
        let secret = format!("{PREFIX}_{id}_{}", hex::encode(random::bytes::<32>()?));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let token = Token {
            id,
            name,
            role,
            rate,
            concurrency,
            created_at: now.unwrap_or_default().as_secs(),
        };
        let record = TokenRecord {
            token: token.clone(),
            secret: digest(&secret),
        };
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.list().len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        self.store.put_token(&record)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, record);
        Ok(CreatedToken { token, secret })
    }

    /// Takes one back.
    pub fn revoke(&self, id: TokenId) -> Result<(), TokenError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(&id) {
            return Err(TokenError::NotFound(id));
        }
        drop(known);
        self.store.remove_token(&id)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(&id);
        Ok(())
    }
}

fn digest(secret: &str) -> Digest {
    Digest::from_bytes(Sha256::digest(secret).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &tempfile::TempDir) -> Arc<Store> {
        let store = Store::open(&folder.path().join("state.redb"));
        Arc::new(store.expect("a database"))
    }

    #[test]
    fn a_secret_finds_its_token_alone_and_after_a_restart_and_not_once_it_is_revoked() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::open(store(&folder)).expect("opens");
        let made = |name: &str| {
            let wanted = NewToken {
                name: name.to_owned(),
                rate: Some("10/s".parse().expect("a rate")),
                ..NewToken::default()
            };
            tokens.create(wanted).expect("made")
        };
        let (ann, bob) = (made("ann"), made("bob"));
        assert_eq!(tokens.find(&ann.secret), Some(ann.token.clone()));
        let forged = [
            bob.secret
                .replace(&bob.token.id.to_string(), &ann.token.id.to_string()),
            ann.secret[..ann.secret.len() - 1].to_owned(),
            format!("{}0", ann.secret),
            ann.secret.replace("pst_", "x_"),
            format!("pst_{}_", ann.token.id),
            ann.token.id.to_string(),
            String::new(),
        ];
        for secret in forged {
            assert_eq!(tokens.find(&secret), None, "{secret}");
        }
        drop(tokens);
        let tokens = Tokens::open(store(&folder)).expect("opens again");
        assert_eq!(tokens.find(&bob.secret), Some(bob.token.clone()));
        tokens.revoke(bob.token.id).expect("revoked");
        assert_eq!(tokens.find(&bob.secret), None);
        let again = tokens.revoke(bob.token.id).expect_err("gone");
        assert_eq!(again.code(), Code::TokenNotFound);
        assert_eq!(tokens.list(), [ann.token]);
        drop(tokens);
        let tokens = Tokens::open(store(&folder)).expect("opens again");
        assert_eq!(tokens.find(&bob.secret), None);
    }

    #[test]
    fn no_secret_is_on_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::open(store(&folder)).expect("opens");
        let made = tokens.create(NewToken::default()).expect("made");
        drop(tokens);
        let file = std::fs::read(folder.path().join("state.redb")).expect("the database");
        let key = made.secret.rsplit('_').next().expect("a key").as_bytes();
        assert!(!file.windows(key.len()).any(|window| window == key));
    }

    #[test]
    fn what_can_be_no_token_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::open(store(&folder)).expect("opens");
        let named = |name: &str| NewToken {
            name: name.to_owned(),
            ..NewToken::default()
        };
        let no_jobs = NewToken {
            concurrency: Some(0),
            ..NewToken::default()
        };
        for (wanted, field) in [
            (named(&"x".repeat(101)), "name"),
            (named("a\nb"), "name"),
            (no_jobs, "concurrency"),
        ] {
            let error = tokens.create(wanted).expect_err(field);
            assert_eq!(error.code(), Code::InvalidField);
            assert!(error.to_string().contains(field), "{error}");
        }
        assert_eq!(tokens.list(), []);
        tokens
            .create(named(&"\u{e9}".repeat(100)))
            .expect("just short enough");
    }
}
