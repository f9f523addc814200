//! Requests for certificates: a key is made on the machine that uses it and stays there, and only this leaves it. A request says who
//! its sender wants to be, and is signed with the key. Whatever else it asks for is not looked at: the CA says what its certificates hold.

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKey, PublicKeyData, SanType,
};

use crate::files::{self, FileError};
use crate::identity::{Identity, IdentityError, Role};
use crate::revoked::KeyHash;

/// Why a request could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A file is missing, or cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name or role that does not exist.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The text is no request, or another key has signed it.
    #[error("it is not a request of `berth certs request`: {0}")]
    Unreadable(rcgen::Error),
    /// It does not name exactly one identity.
    #[error("it is not a request of `berth certs request`: it must name one identity, and nothing else")]
    Names,
    /// Its key is of another kind than those of the CA.
    #[error("its key is not of the kind that `berth certs request` makes (ECDSA P-256)")]
    Kind,
    /// The request could not be signed.
    #[error("cannot make the request: {0}")]
    Making(rcgen::Error),
}

/// The files of a request and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// Who it wants to be.
    pub identity: Identity,
    /// The request.
    pub request: PathBuf,
    /// The private key, readable by its owner only.
    pub key: PathBuf,
    /// What people compare to know that the request came unchanged.
    pub key_hash: KeyHash,
}

/// A request whose signature is that of its key.
pub struct Request {
    /// Who its sender wants to be.
    pub identity: Identity,
    pub(crate) public: PublicKey,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("identity", &self.identity).field("key", &self.key_hash()).finish()
    }
}

impl Request {
    /// Makes a key and a request for its certificate in a directory, which is created if missing. A key of this name that is there
    /// is used again, so that whoever is interrupted goes on with the same one.
    pub fn make(directory: &Path, role: Role, name: &str) -> Result<Requested, RequestError> {
        let identity = Identity::new(role, name)?;
        let path = |ending| directory.join(format!("{}-{}.{ending}", identity.role, identity.name));
        let (key_path, request) = (path("key"), path("csr"));
        files::make_directory(directory)?;
        let key = key(&key_path, directory)?;
        let text = written(&identity, &key).map_err(RequestError::Making)?;
        files::put(&request, &text, directory)?;
        let key_hash = KeyHash::of_public(&key.subject_public_key_info());
        Ok(Requested { identity, request, key: key_path, key_hash })
    }

    /// Reads a request, and checks that whoever has made it has the key.
    pub fn read(path: &Path) -> Result<Self, RequestError> {
        Self::parse(&files::read_text(path)?)
    }

    /// The same of a text.
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        let CertificateSigningRequestParams { params, public_key } =
            CertificateSigningRequestParams::from_pem(text).map_err(RequestError::Unreadable)?;
        if public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(RequestError::Kind);
        }
        let [SanType::URI(uri)] = params.subject_alt_names.as_slice() else {
            return Err(RequestError::Names);
        };
        Ok(Self { identity: Identity::from_uri(uri.as_str())?, public: public_key })
    }

    /// The hash of its key.
    pub fn key_hash(&self) -> KeyHash {
        KeyHash::of_public(&self.public.subject_public_key_info())
    }
}

fn key(path: &Path, directory: &Path) -> Result<KeyPair, RequestError> {
    if path.exists() {
        let text = String::from_utf8(files::read_private(path)?);
        let text = text.map_err(|_| FileError::NoKey(path.to_owned()))?;
        return Ok(KeyPair::from_pem(&text).map_err(|_| FileError::NoKey(path.to_owned()))?);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(RequestError::Making)?;
    files::write_key(path, &key.serialize_pem(), directory)?;
    Ok(key)
}

fn written(identity: &Identity, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.uri().try_into()?)];
    params.serialize_request(key)?.pem()
}
