//! A package file on its way to the disk: bounded, hashed, compared in the end.

use std::path::Path;

use piston_client::ids::Digest;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::io::AsyncWriteExt as _;

use super::{FetchError, Wanted, length, too_long};
use crate::packages::files::AtPath as _;
use crate::packages::index::Checksum;

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// A bounded file that is hashed as it grows.
pub(super) struct Sink<'a> {
    pub(super) wanted: &'a Wanted<'a>,
    to: &'a Path,
    file: tokio::fs::File,
    hasher: Hasher,
    written: u64,
}

impl<'a> Sink<'a> {
    pub(super) async fn create(wanted: &'a Wanted<'a>, to: &'a Path) -> Result<Self, FetchError> {
        let file = tokio::fs::File::create_new(to).await.at("create", to)?;
        Ok(Self {
            wanted,
            to,
            file,
            hasher: match wanted.checksum {
                Checksum::Sha256(_) => Hasher::Sha256(Sha256::new()),
                Checksum::Sha512(_) => Hasher::Sha512(Sha512::new()),
            },
            written: 0,
        })
    }

    pub(super) async fn write(&mut self, piece: &[u8]) -> Result<(), FetchError> {
        self.written = self.written.saturating_add(length(piece.len()));
        if self.written > self.wanted.limit {
            return Err(too_long(self.wanted.from, self.wanted.limit));
        }
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(piece),
            Hasher::Sha512(hasher) => hasher.update(piece),
        }
        self.file.write_all(piece).await.at("write", self.to)?;
        (self.wanted.told)(self.written);
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<(), FetchError> {
        self.file.flush().await.at("write", self.to)?;
        let got = match self.hasher {
            Hasher::Sha256(hasher) => {
                Checksum::Sha256(Digest::from_bytes(hasher.finalize().into()))
            }
            Hasher::Sha512(hasher) => Checksum::Sha512(Box::new(hasher.finalize().into())),
        };
        if got == *self.wanted.checksum {
            return Ok(());
        }
        Err(FetchError::Checksum {
            from: self.wanted.from.to_string(),
            algorithm: got.algorithm(),
            want: self.wanted.checksum.hex(),
            got: got.hex(),
        })
    }
}
