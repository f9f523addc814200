//! Keys whose certificates count no more, though the CA has signed them and they have not ended.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::files::{self, FileError};
use crate::identity::{IdentityError, parse};

/// SHA-256 of a public key as it is in certificates. It stays when a certificate is renewed for the same key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// A text is not the hash of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("64 hexadecimal digits are expected: SHA-256 of a public key")]
pub struct NoKeyHash;

impl KeyHash {
    /// That of a certificate's key.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        Ok(Self::of_public(parse(certificate)?.public_key().raw))
    }

    /// That of a public key as it is in certificates.
    pub(crate) fn of_public(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// That of the first certificate in a PEM file.
    pub fn of_file(path: &Path) -> Result<Self, FileError> {
        let certificates = files::read_certificates(path)?;
        let first = certificates.first().and_then(|first| Self::of(first).ok());
        first.ok_or_else(|| FileError::NoCertificate(path.to_owned()))
    }
}

impl FromStr for KeyHash {
    type Err = NoKeyHash;

    fn from_str(text: &str) -> Result<Self, NoKeyHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NoKeyHash)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The keys that are not accepted. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revoked(Arc<RwLock<HashSet<KeyHash>>>);

impl Revoked {
    pub(crate) fn add(&self, key: KeyHash) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    pub(crate) fn has(&self, key: KeyHash) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_back_and_nothing_else_is_one() {
        let text = "0f".repeat(32);
        let key: KeyHash = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        for bad in ["", "0f", &"0g".repeat(32), &"0f".repeat(33)] {
            assert_eq!(bad.parse::<KeyHash>(), Err(NoKeyHash), "{bad}");
        }
    }
}
