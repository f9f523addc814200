//! What kind of key an encoded one is, before it is read as one.

use pkcs8::PrivateKeyInfoRef;
use pkcs8::der::asn1::{AnyRef, ObjectIdentifier};
use pkcs8::der::{Decode, Reader, SliceReader};
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const CURVES: [(ObjectIdentifier, Kind); 3] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), Kind::P256),
    (ObjectIdentifier::new_unwrap("1.3.132.0.34"), Kind::P384),
    (ObjectIdentifier::new_unwrap("1.3.132.0.35"), Kind::P521),
];

/// What keys with two halves there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
    X25519,
}

/// Why something is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is none at all, or no sound one.
    Malformed,
    /// It is one of another kind.
    Kind,
    /// It is one on another curve.
    Curve,
    /// So many bytes come after it.
    Trailing(usize),
}

impl Kind {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RSA" => Self::Rsa,
            "P-256" => Self::P256,
            "P-384" => Self::P384,
            "P-521" => Self::P521,
            "Ed25519" => Self::Ed25519,
            "X25519" => Self::X25519,
            _ => return None,
        })
    }

    fn is_curve(self) -> bool {
        matches!(self, Self::P256 | Self::P384 | Self::P521)
    }

    fn of(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<Self, Refused> {
        match algorithm.oid {
            RSA => Ok(Self::Rsa),
            ED25519 => Ok(Self::Ed25519),
            X25519 => Ok(Self::X25519),
            EC => {
                let curve = algorithm.parameters_oid().map_err(|_| Refused::Malformed)?;
                let found = CURVES.iter().find(|(oid, _)| *oid == curve);
                found.map(|(_, kind)| *kind).ok_or(Refused::Malformed)
            }
            _ => Err(Refused::Malformed),
        }
    }

    /// Whether this is what `found` is.
    fn expect(self, found: Self) -> Result<(), Refused> {
        if self == found {
            Ok(())
        } else if self.is_curve() && found.is_curve() {
            Err(Refused::Curve)
        } else {
            Err(Refused::Kind)
        }
    }

    /// The public key in the bytes, of this kind.
    pub(super) fn in_spki(self, bytes: &[u8]) -> Result<&[u8], Refused> {
        alone(bytes)?;
        let info = SubjectPublicKeyInfoRef::try_from(bytes).map_err(|_| Refused::Malformed)?;
        self.expect(Self::of(&info.algorithm)?)?;
        info.subject_public_key.as_bytes().ok_or(Refused::Malformed)
    }

    /// The private key in the bytes, of this kind.
    pub(super) fn in_pkcs8(self, bytes: &[u8]) -> Result<&[u8], Refused> {
        alone(bytes)?;
        let info = PrivateKeyInfoRef::try_from(bytes).map_err(|_| Refused::Malformed)?;
        self.expect(Self::of(&info.algorithm)?)?;
        Ok(info.private_key.as_bytes())
    }
}

/// Whether the bytes are one thing and nothing after it.
fn alone(bytes: &[u8]) -> Result<(), Refused> {
    let mut reader = SliceReader::new(bytes).map_err(|_| Refused::Malformed)?;
    AnyRef::decode(&mut reader).map_err(|_| Refused::Malformed)?;
    match usize::try_from(reader.remaining_len()) {
        Ok(0) => Ok(()),
        Ok(left) => Err(Refused::Trailing(left)),
        Err(_) => Err(Refused::Malformed),
    }
}
