//! A daemon's own certificate and key, and the CA it trusts: loaded and checked at start, and again when it is told to.
//! Handshakes use what was loaded last; connections that stand are not looked at again.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use crate::files::{self, FileError};
use crate::identity::{self, Identity, IdentityError, Role, peer_identity};
use crate::lifetime::Lifetime;
use crate::revoked::{KeyHash, Revoked};

/// A daemon's certificate and key, and the CA that it trusts. Clones share them, also after a reload.
#[derive(Clone)]
pub struct Credentials {
    identity: Identity,
    pub(crate) provider: Arc<CryptoProvider>,
    files: Arc<Files>,
    loaded: Arc<RwLock<Arc<Loaded>>>,
    revoked: Revoked,
}

/// Where they are read from.
struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// What the files held when they were last read.
pub(crate) struct Loaded {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) edges: Arc<dyn ClientCertVerifier>,
    pub(crate) key: Arc<CertifiedKey>,
    lifetime: Lifetime,
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
    /// The files hold another daemon's certificate than before.
    #[error(
        "{path} is the certificate of {found} now, and was that of {was}: restart the daemon if it is to be another"
    )]
    Changed {
        /// The certificate file.
        path: PathBuf,
        /// The identity in the certificate.
        found: Identity,
        /// The identity of this daemon.
        was: Identity,
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
        let files = Files { ca: ca.to_owned(), certificate: certificate.to_owned(), key: key.to_owned() };
        let (identity, loaded) = files.load(&provider)?;
        let loaded = Arc::new(RwLock::new(Arc::new(loaded)));
        Ok(Self { identity, provider, files: Arc::new(files), loaded, revoked: Revoked::default() })
    }

    /// Reads the files again, for the handshakes from now on, and returns how long the certificate holds. After an error
    /// everything stays as it was.
    pub fn reload(&self) -> Result<Lifetime, LoadError> {
        let (found, loaded) = self.files.load(&self.provider)?;
        if found != self.identity {
            let (path, was) = (self.files.certificate.clone(), self.identity.clone());
            return Err(LoadError::Changed { path, found, was });
        }
        let lifetime = loaded.lifetime;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(lifetime)
    }

    /// The file of the certificate.
    pub fn file(&self) -> &Path {
        &self.files.certificate
    }

    /// How long the certificate holds.
    pub fn lifetime(&self) -> Lifetime {
        self.loaded().lifetime
    }

    /// Accepts no agent with this key in the handshakes from now on, whatever its certificate says. Connections that are open stay so.
    pub fn revoke(&self, key: KeyHash) {
        self.revoked.add(key);
    }

    /// Whether an agent with this key is not accepted.
    pub fn is_revoked(&self, key: KeyHash) -> bool {
        self.revoked.has(key)
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
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

impl Files {
    fn load(&self, provider: &Arc<CryptoProvider>) -> Result<(Identity, Loaded), LoadError> {
        let roots = Arc::new(load_roots(&self.ca)?);
        let edges = edge_chain(&roots, provider, &self.ca)?;
        let (identity, key, lifetime) = load_own(&self.certificate, &self.key, provider)?;
        Ok((identity, Loaded { roots, edges, key: Arc::new(key), lifetime }))
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
) -> Result<(Identity, CertifiedKey, Lifetime), LoadError> {
    let chain = files::read_certificates(certificate)?;
    let [leaf] = chain.as_slice() else { return Err(LoadError::Several(certificate.to_owned())) };
    let unreadable = |source| LoadError::Identity { path: certificate.to_owned(), source };
    let identity = peer_identity(leaf).map_err(unreadable)?;
    let lifetime = Lifetime::of(leaf).map_err(unreadable)?;
    let pair = CertifiedKey::from_der(chain, files::read_key(key)?, provider).map_err(|source| {
        LoadError::Key { key: key.to_owned(), certificate: certificate.to_owned(), source }
    })?;
    Ok((identity, pair, lifetime))
}
