//! The TLS configuration for web servers, which trusts the machine's certificate authorities.

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

/// The machine has no certificate authorities.
#[derive(Debug, thiserror::Error)]
#[error("this machine has no certificates of web authorities ({0}): install the package ca-certificates")]
pub struct NoAuthorities(String);

/// Trusts what this machine trusts (its `ca-certificates`, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name), with TLS
/// 1.2 or 1.3. Reads files.
pub fn web_client_config() -> Result<Arc<ClientConfig>, NoAuthorities> {
    web_client_config_with(&[])
}

/// Like `web_client_config`, and trusts these authorities too.
pub fn web_client_config_with(
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<ClientConfig>, NoAuthorities> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots.add_parsable_certificates(authorities.iter().cloned());
    if roots.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(NoAuthorities(errors.join("; ")));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| NoAuthorities(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
