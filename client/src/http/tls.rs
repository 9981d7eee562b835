//! TLS, for daemons behind a proxy that speaks it.
//!
//! Who is trusted is the system's to say, or `$SSL_CERT_FILE`'s, as for most programs. Nothing
//! here can be told to trust anybody.

use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// Opens TCP connections and speaks TLS on them, and nothing without it.
pub(super) fn connector(mut tcp: HttpConnector) -> HttpsConnector<HttpConnector> {
    tcp.enforce_http(false);
    let mut trusted = RootCertStore::empty();
    // Authorities that can't be read are none: then nobody is trusted, and the error says so.
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
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
