//! TLS for listeners whose clients authenticate by tokens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use berth_certs::Lifetime;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The certificate chain and the key of a listener (PEM files), as they were read last.
pub(crate) struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    loaded: RwLock<Arc<CertifiedKey>>,
}

/// Shows the files, never the key.
impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// Reads both.
    pub(crate) fn load(certificate: &Path, key: &Path) -> anyhow::Result<Arc<Self>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let loaded = RwLock::new(Arc::new(read(certificate, key, &provider)?));
        Ok(Arc::new(Self { certificate: certificate.to_owned(), key: key.to_owned(), provider, loaded }))
    }

    /// Reads both again, for the connections from now on. After an error everything stays as it was.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        let loaded = read(&self.certificate, &self.key, &self.provider)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(())
    }

    /// How long the certificate holds; unknown if it cannot be read as one.
    pub(crate) fn lifetime(&self) -> Option<Lifetime> {
        let loaded = Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner));
        Lifetime::of(loaded.cert.first()?).ok()
    }

    /// The file of the certificate.
    pub(crate) fn path(&self) -> &Path {
        &self.certificate
    }

    /// A TLS acceptor that shows it.
    pub(crate) fn acceptor(self: &Arc<Self>) -> anyhow::Result<TlsAcceptor> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(certificate: &Path, key: &Path, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
    let read = |path: &Path| format!("cannot read {}", path.display());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).with_context(|| read(certificate))?.collect();
    let chain = chain.with_context(|| read(certificate))?;
    let key_der = PrivateKeyDer::from_pem_file(key).with_context(|| read(key))?;
    CertifiedKey::from_der(chain, key_der, provider)
        .with_context(|| format!("{} and {} do not go together", certificate.display(), key.display()))
}
