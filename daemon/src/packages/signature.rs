//! OpenPGP signatures of packages and indexes: what an operator's keys vouch for.
//!
//! The only room that knows the `pgp` crate. Detached signatures of files, by the keys that were
//! given (never fetched), or by subkeys of theirs that may sign. Invariants: a key that is revoked
//! or has expired vouches for nothing; a signature with a hash that can be forged, or of a time to
//! come, is none; what strangers have written is bounded, and a panic over it is an error.

use std::fmt::Write as _;
use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use pgp::composed::{
    ArmorOptions, Deserializable as _, DetachedSignature, SignedPublicKey, SignedPublicSubKey,
    SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, Signature, SignatureType};
use pgp::types::{KeyDetails, Password, SigningKey, Tag, VerifyingKey};

use super::files::{self, PathError};
use super::install::now;

/// How the signature of an index is called: as the index, with this at the end.
pub(crate) const SIGNATURE: &str = ".asc";
/// Longest text of keys.
pub(crate) const MAX_KEYS_BYTES: u64 = 1 << 20;
/// Longest signature.
pub(crate) const MAX_SIGNATURE_BYTES: usize = 64 << 10;
/// Signatures of one file that are looked at.
const MAX_SIGNATURES: usize = 8;
/// Clocks that are this much ahead are forgiven.
const SKEW_SECONDS: u64 = 24 * 3600;
/// Shortest hash that can't be forged.
const HASH_BYTES: usize = 32;
/// What is read of a file at once.
const PIECE: usize = 256 << 10;
/// How a block of keys begins.
const BLOCK: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Why something is not vouched for.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// What was given as keys is none.
    #[error(
        "these are no OpenPGP keys (ASCII-armored, as `gpg --armor --export` writes them): {0}"
    )]
    Keys(String),
    /// There is no signature.
    #[error("it is not signed; it has to be by {trusted}")]
    Unsigned {
        /// Keys that would do.
        trusted: String,
    },
    /// It was signed before, and is not any more.
    #[error("it was signed before and is not any more")]
    NoMore,
    /// It was signed before the one that is known.
    #[error("it was signed before the one that was seen last (at {at}, that one at {seen})")]
    Older {
        /// When, in Unix time.
        at: u64,
        /// When the other was.
        seen: u64,
    },
    /// The signature can't be read, or proves nothing.
    #[error("its signature is of no use: {0}")]
    Useless(String),
    /// Nobody who is trusted signed it.
    #[error("it is signed by {by}, which is not trusted; trusted is {trusted}")]
    Stranger {
        /// Who did.
        by: String,
        /// Keys that would do.
        trusted: String,
    },
    /// The key that signed it can't vouch for anything any more.
    #[error("it is signed by {by}, which {reason}")]
    Unusable {
        /// Which key.
        by: String,
        /// Why.
        reason: &'static str,
    },
    /// The file is another than was signed.
    #[error("it is not what {by} signed")]
    Wrong {
        /// Which key.
        by: String,
    },
    /// A secret key that can't sign.
    #[error("cannot sign with {path}: {reason}")]
    Signing {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Who vouches for a file, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Fingerprint of the key.
    pub(crate) by: String,
    /// Unix time of the signature.
    pub(crate) at: u64,
}

/// Keys that are trusted.
#[derive(Debug)]
pub(crate) struct Keys(Vec<SignedPublicKey>);

/// Runs what reads strangers' bytes.
fn guarded<T, E: ToString>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("it is malformed".to_owned()),
    }
}

/// A fingerprint as people compare it.
fn fingerprint(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

impl Keys {
    /// Reads ASCII-armored public keys, one or more blocks of them.
    pub(crate) fn parse(text: &str) -> Result<Self, SignatureError> {
        if text.len() > usize::try_from(MAX_KEYS_BYTES).unwrap_or(usize::MAX) {
            return Err(SignatureError::Keys("they are too long".to_owned()));
        }
        let mut keys = Vec::new();
        for (at, _) in text.match_indices(BLOCK) {
            let parsed = guarded(|| {
                let (keys, _) = SignedPublicKey::from_string_many(&text[at..])?;
                keys.collect::<Result<Vec<_>, _>>()
            });
            keys.extend(parsed.map_err(SignatureError::Keys)?);
        }
        if keys.is_empty() {
            let reason = format!("no `{BLOCK}` with a key is in it");
            return Err(SignatureError::Keys(reason));
        }
        Ok(Self(keys))
    }

    /// Their fingerprints.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(fingerprint).collect()
    }

    /// An error for what is not signed.
    pub(crate) fn unsigned(&self) -> SignatureError {
        SignatureError::Unsigned {
            trusted: self.named(),
        }
    }

    fn named(&self) -> String {
        self.fingerprints().join(" or ")
    }

    /// Who vouches for what `open` reads, by an armored detached signature. Blocks.
    pub(crate) fn check<R: Read>(
        &self,
        armored: &str,
        open: impl Fn() -> io::Result<R>,
    ) -> Result<Signed, SignatureError> {
        if armored.len() > MAX_SIGNATURE_BYTES {
            return Err(SignatureError::Useless("it is too long".to_owned()));
        }
        let signatures = guarded(|| {
            let (signatures, _) = DetachedSignature::from_string_many(armored)?;
            signatures
                .take(MAX_SIGNATURES)
                .collect::<Result<Vec<_>, _>>()
        });
        let signatures = signatures.map_err(SignatureError::Useless)?;
        let mut first_error = None;
        for DetachedSignature { signature } in &signatures {
            match self.check_one(signature, &open) {
                Ok(signed) => return Ok(signed),
                Err(error) => first_error.get_or_insert(error),
            };
        }
        Err(first_error.unwrap_or_else(|| self.unsigned()))
    }

    fn check_one<R: Read>(
        &self,
        signature: &Signature,
        open: &impl Fn() -> io::Result<R>,
    ) -> Result<Signed, SignatureError> {
        let at = proof_time(signature).map_err(SignatureError::Useless)?;
        for key in &self.0 {
            let by = fingerprint(key);
            let verified = if is_issuer(signature, &key.primary_key) {
                usable(key)
                    .and_then(|flags| may_sign(&flags))
                    .map(|()| fits(signature, &key.primary_key, open))
            } else if let Some(subkey) = key
                .public_subkeys
                .iter()
                .find(|subkey| is_issuer(signature, &subkey.key))
            {
                usable(key)
                    .and_then(|_| usable_subkey(key, subkey))
                    .map(|()| fits(signature, &subkey.key, open))
            } else {
                continue;
            };
            return match verified {
                Ok(true) => Ok(Signed { by, at }),
                Ok(false) => Err(SignatureError::Wrong { by }),
                Err(reason) => Err(SignatureError::Unusable { by, reason }),
            };
        }
        Err(SignatureError::Stranger {
            by: issuers(signature),
            trusted: self.named(),
        })
    }
}

/// When it was made, of a signature of a file that can prove anything.
fn proof_time(signature: &Signature) -> Result<u64, String> {
    if signature.typ() != Some(SignatureType::Binary) {
        return Err("it is not of a file".to_owned());
    }
    let strong = signature
        .hash_alg()
        .and_then(HashAlgorithm::digest_size)
        .is_some_and(|bytes| bytes >= HASH_BYTES);
    if !strong {
        return Err("its hash can be forged; SHA-256 or better is needed".to_owned());
    }
    let created = signature.created().ok_or("it has no time")?;
    let at = u64::from(created.as_secs());
    if at > now().saturating_add(SKEW_SECONDS) {
        return Err("it is of a time to come".to_owned());
    }
    let lasts = signature.signature_expiration_time();
    let lasts = lasts.map_or(0, |time| u64::from(time.as_secs()));
    if lasts > 0 && at.saturating_add(lasts) < now() {
        return Err("it has expired".to_owned());
    }
    Ok(at)
}

fn is_issuer(signature: &Signature, key: &impl KeyDetails) -> bool {
    let (id, fingerprint) = (key.legacy_key_id(), key.fingerprint());
    let by_fingerprint = signature.issuer_fingerprint();
    if by_fingerprint.is_empty() {
        return signature.issuer_key_id().contains(&&id);
    }
    by_fingerprint.contains(&&fingerprint)
}

/// Who says to have made it.
fn issuers(signature: &Signature) -> String {
    let mut text = String::new();
    for fingerprint in signature.issuer_fingerprint() {
        write!(text, "{fingerprint:X}").unwrap_or_default();
    }
    if text.is_empty() {
        for id in signature.issuer_key_id() {
            text.push_str(&id.to_string().to_uppercase());
        }
    }
    if text.is_empty() {
        "an unnamed key".clone_into(&mut text);
    }
    text
}

fn fits<R: Read>(
    signature: &Signature,
    key: &impl VerifyingKey,
    open: &impl Fn() -> io::Result<R>,
) -> bool {
    guarded(|| {
        let data = open().map_err(|error| error.to_string())?;
        let data = BufReader::with_capacity(PIECE, data);
        signature
            .verify(key, data)
            .map_err(|error| error.to_string())
    })
    .is_ok()
}

/// What a primary key may do, by its newest statement about itself; why it may do nothing.
fn usable(key: &SignedPublicKey) -> Result<KeyFlags, &'static str> {
    if !key.details.revocation_signatures.is_empty() {
        return Err("is revoked");
    }
    let primary = &key.primary_key;
    let direct = key.details.direct_signatures.iter();
    let direct = direct.filter(|own| guarded(|| own.verify_key(primary)).is_ok());
    let users = key.details.users.iter().flat_map(|user| {
        let own = user.signatures.iter().filter(|own| {
            own.typ() != Some(SignatureType::CertRevocation) && is_issuer(own, primary)
        });
        own.filter(|own| {
            guarded(|| own.verify_certification(primary, Tag::UserId, &user.id)).is_ok()
        })
    });
    let newest = direct.chain(users).max_by_key(|own| own.created());
    let newest = newest.ok_or("says nothing valid about itself")?;
    if has_expired(newest, primary) {
        return Err("has expired");
    }
    Ok(newest.key_flags())
}

fn has_expired(statement: &Signature, key: &impl KeyDetails) -> bool {
    let lasts = statement.key_expiration_time();
    let lasts = lasts.map_or(0, |time| u64::from(time.as_secs()));
    lasts > 0 && u64::from(key.created_at().as_secs()).saturating_add(lasts) < now()
}

/// A primary key that does not say what it may do may sign.
fn may_sign(flags: &KeyFlags) -> Result<(), &'static str> {
    if *flags == KeyFlags::default() || flags.sign() {
        return Ok(());
    }
    Err("may not sign")
}

/// Whether a subkey is bound to its key, and may sign.
fn usable_subkey(key: &SignedPublicKey, subkey: &SignedPublicSubKey) -> Result<(), &'static str> {
    let of_type = |kind| {
        let all = subkey.signatures.iter();
        all.filter(move |own| own.typ() == Some(kind))
    };
    if of_type(SignatureType::SubkeyRevocation).next().is_some() {
        return Err("has revoked the subkey that signed");
    }
    let bound = of_type(SignatureType::SubkeyBinding)
        .filter(|own| guarded(|| own.verify_subkey_binding(&key.primary_key, &subkey.key)).is_ok());
    let newest = bound.max_by_key(|own| own.created());
    let newest = newest.ok_or("did not make the subkey that signed")?;
    if has_expired(newest, &subkey.key) {
        return Err("has a subkey that has expired");
    }
    let back = newest.embedded_signature().is_some_and(|back| {
        guarded(|| back.verify_primary_key_binding(&subkey.key, &key.primary_key)).is_ok()
    });
    if !newest.key_flags().sign() || !back {
        return Err("has a subkey that may not sign");
    }
    Ok(())
}

/// A secret key that signs.
pub struct Signer {
    key: SignedSecretKey,
    passphrase: Password,
    public: Keys,
    path: PathBuf,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Signer").field(&self.path).finish()
    }
}

impl Signer {
    /// Reads an ASCII-armored secret key.
    pub fn read(path: &Path, passphrase: &str) -> Result<Self, SignatureError> {
        let failed = |reason: String| SignatureError::Signing {
            path: path.to_owned(),
            reason,
        };
        let bytes = files::read_bounded(path, MAX_KEYS_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let key = guarded(|| SignedSecretKey::from_string(&text).map(|(key, _)| key));
        let key = key.map_err(|reason| {
            failed(format!(
                "it is no secret key (`gpg --armor --export-secret-keys` writes one): {reason}"
            ))
        })?;
        let public = Keys(vec![key.to_public_key()]);
        let signer = Self {
            key,
            passphrase: passphrase.into(),
            public,
            path: path.to_owned(),
        };
        // What it signs has to be accepted by who trusts it.
        let sample = || Ok(&b"sample"[..]);
        let signature = signer.sign(sample)?;
        signer.public.check(&signature, sample)?;
        Ok(signer)
    }

    /// Fingerprint of the key.
    pub fn fingerprint(&self) -> String {
        self.public.named()
    }

    /// Whether a signature that is there is a good one of this key.
    pub(crate) fn made<R: Read>(&self, armored: &str, open: impl Fn() -> io::Result<R>) -> bool {
        self.public.check(armored, open).is_ok()
    }

    /// An armored detached signature of what `open` reads.
    pub(crate) fn sign<R: Read>(
        &self,
        open: impl Fn() -> io::Result<R>,
    ) -> Result<String, SignatureError> {
        let subkey = self.key.secret_subkeys.iter().find(|subkey| {
            let newest = subkey.signatures.iter().max_by_key(|own| own.created());
            newest.is_some_and(|own| own.key_flags().sign())
        });
        let signature = match subkey {
            Some(subkey) => self.sign_with(&subkey.key, &open),
            None => self.sign_with(&self.key.primary_key, &open),
        };
        signature.map_err(|reason| SignatureError::Signing {
            path: self.path.clone(),
            reason,
        })
    }

    fn sign_with<R: Read>(
        &self,
        key: &impl SigningKey,
        open: &impl Fn() -> io::Result<R>,
    ) -> Result<String, String> {
        guarded(|| {
            let data = open().map_err(|error| error.to_string())?;
            let signature = DetachedSignature::sign_binary_data(
                rand::rngs::OsRng,
                key,
                &self.passphrase,
                HashAlgorithm::Sha512,
                BufReader::with_capacity(PIECE, data),
            );
            signature
                .and_then(|signature| signature.to_armored_string(ArmorOptions::default()))
                .map_err(|error| error.to_string())
        })
    }
}

/// Reads a file of public keys, which has to be one.
pub(crate) fn read_keys(path: &Path) -> Result<String, SignatureError> {
    let bytes = files::read_bounded(path, MAX_KEYS_BYTES)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Keys::parse(&text)?;
    Ok(text)
}

#[cfg(test)]
pub(super) mod tests;
