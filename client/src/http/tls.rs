//! TLS, for daemons behind a proxy that speaks it: whom it trusts, and what keeps it from trusting.
//!
//! The only place that knows rustls. Who is trusted is the caller's to say ([`Authorities`]), else
//! `$SSL_CERT_FILE`'s, else the system's, as for most programs. Nothing here can be told to trust
//! anybody.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::error::Obstacle;

/// Authorities that are trusted in the place of the system's: those of a private network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// Why a file names no authorities.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAuthorities {
    /// It can't be read.
    #[error("can't read {path}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is none in it.
    #[error("{path} holds no certificate (PEM)", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// One is damaged, or something else.
    #[error("certificate {number} of {path} can't be used: {reason}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which one, from 1 on.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Authorities {
    /// Those whose certificates (PEM, one or more) are in a file.
    pub fn from_file(path: &Path) -> Result<Self, InvalidAuthorities> {
        let pem = std::fs::read(path).map_err(|source| InvalidAuthorities::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let mut certificates = Vec::new();
        for (at, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
            let damaged = |reason| InvalidAuthorities::Damaged {
                path: path.to_owned(),
                number: at + 1,
                reason,
            };
            let certificate = certificate.map_err(|error| damaged(error.to_string()))?;
            let tried = RootCertStore::empty().add(certificate.clone());
            tried.map_err(|error| damaged(error.to_string()))?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err(InvalidAuthorities::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Self(certificates))
    }
}

/// Opens TCP connections and speaks TLS on them, and nothing without it.
pub(super) fn connector(
    mut tcp: HttpConnector,
    authorities: Option<&Authorities>,
) -> HttpsConnector<HttpConnector> {
    tcp.enforce_http(false);
    let certificates = match authorities {
        Some(Authorities(certificates)) => certificates.clone(),
        // Authorities that can't be read are none: then nobody is trusted, and the error says so.
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(certificates);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp)
}

/// What TLS failed of, where it did.
pub(super) fn obstacle(error: &io::Error) -> Option<Obstacle> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidMessage(_) => Obstacle::Plain,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Obstacle::Authority,
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Obstacle::OtherName,
        _ => Obstacle::Tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_with_what_is_wrong() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let said = |text: &str| {
            std::fs::write(file.path(), text).expect("written");
            let error = Authorities::from_file(file.path()).expect_err(text);
            error.to_string()
        };
        for text in ["", "nothing", "-----BEGIN X-----\nAAAA\n-----END X-----\n"] {
            assert!(said(text).ends_with("holds no certificate (PEM)"), "{text}");
        }
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(said(damaged).starts_with("certificate 1 of /"));
        let absent = Authorities::from_file(Path::new("/nowhere.pem")).expect_err("absent");
        assert_eq!(absent.to_string(), "can't read /nowhere.pem");
    }
}
