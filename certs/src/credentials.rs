//! A daemon's own certificate and key, and the CA it trusts, loaded and checked once at start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use crate::files::{self, FileError};
use crate::identity::{self, Identity, IdentityError, Role, peer_identity};
use crate::verify::EdgeVerifier;

/// A daemon's certificate and key, and the CA that it trusts. Clones share the key.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) identity: Identity,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) edges: Arc<EdgeVerifier>,
    pub(crate) key: Arc<CertifiedKey>,
}

/// Shows the identity, never the key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Why credentials could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is missing, damaged or readable by others.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA file has something else than a CA's certificate.
    #[error("{0} is not a CA's certificate: give the ca.pem that `berth certs init` made")]
    NotAuthority(PathBuf),
    /// The certificate does not say who its holder is.
    #[error("{path}: {source}")]
    Identity {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// More than one certificate where one is expected.
    #[error("{0} must hold exactly one certificate, the daemon's own")]
    Several(PathBuf),
    /// Key and certificate are not a pair, or the key is of an unknown kind.
    #[error("{key} is not the private key of {certificate}: {source}")]
    Key {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
        /// rustls's error.
        source: rustls::Error,
    },
    /// The trusted certificates cannot be used.
    #[error("{path} cannot be used as a CA: {reason}")]
    Trust {
        /// The CA file.
        path: PathBuf,
        /// rustls's error.
        reason: String,
    },
    /// The daemon was given another role's certificate.
    #[error(
        "the certificate is that of {found}; an {expected} needs one made by `berth certs issue {expected}`"
    )]
    Role {
        /// The identity in the certificate.
        found: Identity,
        /// The expected role.
        expected: Role,
    },
}

impl Credentials {
    /// Loads the CA's certificate and a daemon's certificate and key, all PEM. Refuses a key that others can read.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, LoadError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(load_roots(ca)?);
        let chain = edge_chain(&roots, &provider, ca)?;
        let (identity, key) = load_own(certificate, key, &provider)?;
        let algorithms = provider.signature_verification_algorithms;
        let edges = Arc::new(EdgeVerifier { chain, algorithms });
        Ok(Self { identity, provider, roots, edges, key: Arc::new(key) })
    }

    /// The identity of these credentials.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Refuses credentials of another role, so that a mix-up shows at start and not as a failed handshake.
    pub fn require(self, expected: Role) -> Result<Self, LoadError> {
        if self.identity.role == expected {
            return Ok(self);
        }
        Err(LoadError::Role { found: self.identity, expected })
    }
}

fn load_roots(path: &Path) -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    for certificate in files::read_certificates(path)? {
        if !identity::is_authority(&certificate) {
            return Err(LoadError::NotAuthority(path.to_owned()));
        }
        roots.add(certificate).map_err(|error| untrusted(path, &error))?;
    }
    Ok(roots)
}

fn edge_chain(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    path: &Path,
) -> Result<Arc<dyn ClientCertVerifier>, LoadError> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .build()
        .map_err(|error| untrusted(path, &error))
}

fn untrusted(path: &Path, error: &dyn std::error::Error) -> LoadError {
    LoadError::Trust { path: path.to_owned(), reason: error.to_string() }
}

fn load_own(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(Identity, CertifiedKey), LoadError> {
    let chain = files::read_certificates(certificate)?;
    let [leaf] = chain.as_slice() else { return Err(LoadError::Several(certificate.to_owned())) };
    let identity =
        peer_identity(leaf).map_err(|source| LoadError::Identity { path: certificate.to_owned(), source })?;
    let pair = CertifiedKey::from_der(chain, files::read_key(key)?, provider).map_err(|source| {
        LoadError::Key { key: key.to_owned(), certificate: certificate.to_owned(), source }
    })?;
    Ok((identity, pair))
}
