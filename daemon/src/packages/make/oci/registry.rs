//! An image's parts from a registry, by the OCI's distribution specification.
//!
//! Asks without saying who asks; where the registry wants to know, it gets what it wants: a token from
//! where it says, or a user's name and password. Invariants: credentials go to the registry that they
//! are for, and to where that one has its tokens made, never from https to http; every part is bounded
//! by what the part naming it says, and hashed while it comes. Blobs come some at a time, and no more
//! than that lie here untaken. Does not know what the parts mean.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::super::super::fetch::{self, Authorization, FetchError, Fetcher, Location, Patience};
use super::super::super::index::Checksum;
use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::image::Part;
use super::manifest::{Descriptor, KINDS, MAX_MANIFEST_BYTES};
use super::reference::Reference;
use super::{FromOci, OciError};

/// Longest answer with a token.
const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// Blobs that are on their way, or wait to be taken, at once.
const DOWNLOADS: usize = 3;

/// A registry, as far as one image goes.
#[derive(Debug)]
pub(super) struct Registry {
    asking: Arc<Asking>,
    /// Blobs that will be wanted, in this order.
    wanted: VecDeque<Descriptor>,
    /// The next of them, on their way.
    coming: VecDeque<JoinHandle<Result<PathBuf, OciError>>>,
    begun: u64,
    /// Last, because what it does needs the others.
    runtime: Runtime,
}

/// Asks a registry about one image.
#[derive(Debug)]
struct Asking {
    fetcher: Mutex<Arc<Fetcher>>,
    reference: Reference,
    credentials: Option<Credentials>,
    folder: PathBuf,
}

/// What is answered where tokens are made.
#[derive(Deserialize)]
struct RawToken {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Asks nothing yet; blobs will be files of the folder.
    pub(super) fn new(
        what: &FromOci,
        reference: &Reference,
        folder: &Path,
    ) -> Result<Self, OciError> {
        let credentials = match (&what.credentials, &what.auth_file) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(file)) => Credentials::of_file(file, reference)?,
            (None, None) => None,
        };
        Ok(Self {
            asking: Arc::new(Asking {
                fetcher: Mutex::new(Arc::new(Fetcher::new(Patience::default()))),
                reference: reference.clone(),
                credentials,
                folder: folder.to_owned(),
            }),
            wanted: VecDeque::new(),
            coming: VecDeque::new(),
            begun: 0,
            runtime: fetch::background(folder)?,
        })
    }

    /// The manifest of a tag or a digest, as it came.
    pub(super) fn manifest(&mut self, wanted: &str) -> Result<Vec<u8>, OciError> {
        let (part, kinds) = (format!("manifests/{wanted}"), KINDS.join(", "));
        let asked = self.asking.ask(&part, &kinds, MAX_MANIFEST_BYTES);
        self.runtime.block_on(asked)
    }

    /// A part that describes others, as it came.
    pub(super) fn small(
        &mut self,
        part: Part,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, OciError> {
        let digest = &descriptor.digest;
        match part {
            Part::Manifest => self.manifest(&format!("sha256:{digest}")),
            Part::Blob => {
                let part = format!("blobs/sha256:{digest}");
                let asked = self.asking.ask(&part, "*/*", descriptor.size);
                self.runtime.block_on(asked)
            }
        }
    }

    /// Begins to download blobs, some at once; they are taken in this order.
    pub(super) fn pull(&mut self, blobs: VecDeque<Descriptor>) {
        self.wanted = blobs;
        self.begin();
    }

    /// The next of them, which is then the one that was asked for; more are begun meanwhile.
    pub(super) fn next_blob(&mut self) -> Result<PathBuf, OciError> {
        let Some(next) = self.coming.pop_front() else {
            return Err(self.asking.wrong("it was not asked for this layer"));
        };
        let done = self.runtime.block_on(next);
        let file = done.map_err(|_| self.asking.wrong("the download died"))??;
        self.begin();
        Ok(file)
    }

    fn begin(&mut self) {
        while self.coming.len() < DOWNLOADS
            && let Some(descriptor) = self.wanted.pop_front()
        {
            self.begun += 1;
            let to = self.asking.folder.join(format!("blob-{}", self.begun));
            let asking = Arc::clone(&self.asking);
            let download = async move { asking.blob(&descriptor, to).await };
            self.coming.push_back(self.runtime.spawn(download));
        }
    }
}

impl Asking {
    /// Downloads a blob, which is then the one that was asked for.
    async fn blob(&self, descriptor: &Descriptor, to: PathBuf) -> Result<PathBuf, OciError> {
        let part = format!("blobs/sha256:{}", descriptor.digest);
        let from = self.place(&part)?;
        let checksum = Checksum::Sha256(descriptor.digest);
        let wanted = fetch::Wanted {
            from: &from,
            limit: descriptor.size,
            checksum: &checksum,
            told: &|_| (),
        };
        match self.fetcher().package(&wanted, &to).await {
            Err(FetchError::Status { code: 401, .. }) => {
                // A token lasts some minutes; the answer to this says where to get another one.
                if let Ok(answer) = self.fetcher().ask(&from, "*/*", 0).await {
                    self.log_in(&answer.challenges).await?;
                }
                let again = self.fetcher().package(&wanted, &to).await;
                again.map_err(|error| self.failed(error))?;
            }
            outcome => outcome.map_err(|error| self.failed(error))?,
        }
        Ok(to)
    }

    async fn ask(&self, part: &str, accept: &str, limit: u64) -> Result<Vec<u8>, OciError> {
        let from = self.place(part)?;
        for is_last in [false, true] {
            let answer = self.fetcher().ask(&from, accept, limit).await;
            let answer = answer.map_err(|error| self.failed(error))?;
            match answer.status {
                200 => return Ok(answer.body),
                401 if !is_last => self.log_in(&answer.challenges).await?,
                status => return Err(self.refused(status)),
            }
        }
        Err(self.refused(401))
    }

    /// As who was asked last: with what the registry wanted to be shown.
    fn fetcher(&self) -> Arc<Fetcher> {
        let fetcher = self.fetcher.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&fetcher)
    }

    /// Gets what the registry wants to be shown from now on.
    async fn log_in(&self, challenges: &[String]) -> Result<(), OciError> {
        let credentials = self.credentials.as_ref();
        let basic = || Authorization::basic(&credentials?.user, &credentials?.password);
        let authorization = match challenge::of(challenges) {
            Some(Challenge::Basic) => basic(),
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let scope = scope
                    .unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository()));
                let mut query = vec![("scope", scope.as_str())];
                query.extend(service.as_deref().map(|service| ("service", service)));
                let token = self.token(&realm, &query, basic()).await?;
                Authorization::bearer(&token)
            }
            None => return Err(self.wrong("the registry does not say how it wants to be asked")),
        };
        if authorization.is_none() {
            return Err(self.refused(401));
        }
        let fetcher = Arc::new(self.fetcher().authorized(authorization));
        *self.fetcher.lock().unwrap_or_else(PoisonError::into_inner) = fetcher;
        Ok(())
    }

    /// A token from where the registry says.
    async fn token(
        &self,
        realm: &str,
        query: &[(&str, &str)],
        by: Option<Authorization>,
    ) -> Result<String, OciError> {
        // From the registry's place, so that it leads to no file and not from https to http.
        let from = self.place("manifests")?.join(realm);
        let from = from.map_err(|error| self.failed(error.into()))?;
        let from = from.with_query(query);
        let asking = self.fetcher().authorized(by);
        let answer = asking.ask(&from, "application/json", MAX_TOKEN_BYTES).await;
        let answer = answer.map_err(|error| self.failed(error))?;
        if answer.status != 200 {
            return Err(self.refused(answer.status));
        }
        let raw: Option<RawToken> = serde_json::from_slice(&answer.body).ok();
        let token = raw.and_then(|raw| raw.token.or(raw.access_token));
        token.ok_or_else(|| self.wrong("where the registry has its tokens made there is none"))
    }

    fn place(&self, part: &str) -> Result<Location, OciError> {
        let place = Location::of_index(&self.reference.url(part));
        place.map_err(|error| self.failed(error.into()))
    }

    fn failed(&self, source: FetchError) -> OciError {
        match source {
            FetchError::Status { code, .. } => self.refused(code),
            source => OciError::Fetch {
                image: self.reference.to_string(),
                source,
            },
        }
    }

    fn refused(&self, status: u16) -> OciError {
        let with = match &self.credentials {
            Some(credentials) => format!("to the user {}", credentials.user),
            None => "without a user's name and password".to_owned(),
        };
        let host = self.reference.host();
        self.wrong(&match status {
            401 | 403 => format!("{host} does not give it {with}, or has no such image ({status})"),
            404 => format!("{host} has no such image ({status})"),
            429 => format!("{host} wants to be asked less often ({status})"),
            status => format!("{host} answered {status}"),
        })
    }

    fn wrong(&self, reason: &str) -> OciError {
        OciError::Refused {
            image: self.reference.to_string(),
            reason: reason.to_owned(),
        }
    }
}
