//! Keys on the curves P-256, P-384 and P-521: ECDSA and ECDH.

use chacha20::ChaCha20Rng;
use p256::ecdsa::signature::hazmat::{PrehashVerifier, RandomizedPrehashSigner};
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use rquickjs::{Result, Value};
use zeroize::Zeroizing;

use super::args::Args;
use super::kinds::{Kind, Refused};

/// A key on one of the curves, private or public.
pub(super) trait Curve {
    fn sign(&self, digest: &[u8], random: &mut ChaCha20Rng) -> Option<Vec<u8>>;
    fn verify(&self, digest: &[u8], signature: &[u8]) -> bool;
    /// The secret that both have, the other's key being a point.
    fn derive(&self, other: &[u8]) -> Option<Zeroizing<Vec<u8>>>;
    /// The public key as a point.
    fn point(&self) -> Vec<u8>;
    /// The private number.
    fn number(&self) -> Option<Zeroizing<Vec<u8>>>;
    fn spki(&self) -> Option<Vec<u8>>;
    fn pkcs8(&self) -> Option<Zeroizing<Vec<u8>>>;
    fn public(&self) -> Box<dyn Curve>;
}

type Made = std::result::Result<Box<dyn Curve>, Refused>;
/// Makes a key of its point, and of its private number if there is one.
type OfParts = fn(&[u8], Option<&[u8]>) -> Made;

/// The same for each curve, whose library has the same names.
macro_rules! curve {
    ($key:ident, $lib:ident) => {
        struct $key {
            private: Option<$lib::SecretKey>,
            public: $lib::PublicKey,
        }

        impl $key {
            fn of_private(private: $lib::SecretKey) -> Box<dyn Curve> {
                Box::new(Self { public: private.public_key(), private: Some(private) })
            }

            fn of_point(point: &[u8]) -> Made {
                let public = $lib::PublicKey::from_sec1_bytes(point).map_err(|_| Refused::Malformed)?;
                Ok(Box::new(Self { private: None, public }))
            }

            fn generate(random: &mut ChaCha20Rng) -> Box<dyn Curve> {
                Self::of_private($lib::SecretKey::generate_from_rng(random))
            }

            fn read(kind: Kind, format: &str, bytes: &[u8]) -> Made {
                match format {
                    "raw" => Self::of_point(bytes),
                    "spki" => Self::of_point(kind.in_spki(bytes)?),
                    "pkcs8" => {
                        kind.in_pkcs8(bytes)?;
                        let private =
                            $lib::SecretKey::from_pkcs8_der(bytes).map_err(|_| Refused::Malformed)?;
                        Ok(Self::of_private(private))
                    }
                    _ => Err(Refused::Kind),
                }
            }

            /// Of the point, and of the private number if there is one.
            fn of_parts(point: &[u8], number: Option<&[u8]>) -> Made {
                let Some(number) = number else { return Self::of_point(point) };
                let private = $lib::SecretKey::from_slice(number).map_err(|_| Refused::Malformed)?;
                let key = Self { public: private.public_key(), private: Some(private) };
                if key.point() == point { Ok(Box::new(key)) } else { Err(Refused::Malformed) }
            }
        }

        impl Curve for $key {
            fn sign(&self, digest: &[u8], random: &mut ChaCha20Rng) -> Option<Vec<u8>> {
                let key = $lib::ecdsa::SigningKey::from(self.private.as_ref()?);
                let signature: $lib::ecdsa::Signature = key.sign_prehash_with_rng(random, digest).ok()?;
                Some(signature.to_vec())
            }

            fn verify(&self, digest: &[u8], signature: &[u8]) -> bool {
                let key = $lib::ecdsa::VerifyingKey::from(&self.public);
                let signature = $lib::ecdsa::Signature::from_slice(signature);
                signature.is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
            }

            fn derive(&self, other: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
                let other = $lib::PublicKey::from_sec1_bytes(other).ok()?;
                let shared = self.private.as_ref()?.diffie_hellman(&other);
                Some(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
            }

            fn point(&self) -> Vec<u8> {
                self.public.to_sec1_point(false).as_bytes().to_vec()
            }

            fn number(&self) -> Option<Zeroizing<Vec<u8>>> {
                Some(Zeroizing::new(self.private.as_ref()?.to_bytes().to_vec()))
            }

            fn spki(&self) -> Option<Vec<u8>> {
                Some(self.public.to_public_key_der().ok()?.into_vec())
            }

            fn pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
                Some(self.private.as_ref()?.to_pkcs8_der().ok()?.to_bytes())
            }

            fn public(&self) -> Box<dyn Curve> {
                Box::new(Self { private: None, public: self.public })
            }
        }
    };
}

curve!(P256, p256);
curve!(P384, p384);
curve!(P521, p521);

pub(super) fn generate(kind: Kind, random: &mut ChaCha20Rng) -> Option<Box<dyn Curve>> {
    Some(match kind {
        Kind::P256 => P256::generate(random),
        Kind::P384 => P384::generate(random),
        Kind::P521 => P521::generate(random),
        _ => return None,
    })
}

pub(super) fn read(kind: Kind, format: &str, bytes: &[u8]) -> Made {
    match kind {
        Kind::P256 => P256::read(kind, format, bytes),
        Kind::P384 => P384::read(kind, format, bytes),
        Kind::P521 => P521::read(kind, format, bytes),
        _ => Err(Refused::Kind),
    }
}

/// Of `x, y`, or of these and `d`, each as wide as the curve's field.
pub(super) fn of_parts(kind: Kind, parts: &[Zeroizing<Vec<u8>>]) -> Made {
    let (of_parts, width): (OfParts, usize) = match kind {
        Kind::P256 => (P256::of_parts, 32),
        Kind::P384 => (P384::of_parts, 48),
        Kind::P521 => (P521::of_parts, 66),
        _ => return Err(Refused::Kind),
    };
    let [x, y, rest @ ..] = parts else { return Err(Refused::Malformed) };
    let mut point = vec![4];
    for part in [x, y] {
        point.extend_from_slice(&padded(part, width).ok_or(Refused::Malformed)?);
    }
    let number = rest.first().map(|d| padded(d, width).ok_or(Refused::Malformed)).transpose()?;
    of_parts(&point, number.as_ref().map(|number| number.as_slice()))
}

/// A number with as many zeros before it as its width wants.
fn padded(number: &[u8], width: usize) -> Option<Zeroizing<Vec<u8>>> {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let mut whole = Zeroizing::new(vec![0; width.checked_sub(number.len() - first)?]);
    whole.extend_from_slice(&number[first..]);
    Some(whole)
}

pub(super) fn run<'js>(key: &dyn Curve, op: &str, args: &Args<'js>) -> Result<Value<'js>> {
    match op {
        "sign" => args.out(key.sign(&args.hash(0)?.of(&args.bytes(1)?), &mut args.random(2)?)),
        "verify" => args.truth(key.verify(&args.hash(0)?.of(&args.bytes(1)?), &args.bytes(2)?)),
        "derive" => args.out(key.derive(&args.bytes(0)?)),
        "raw" => args.out(Some(key.point())),
        "spki" => args.out(key.spki()),
        "pkcs8" => args.out(key.pkcs8()),
        "jwk" => {
            let point = key.point();
            let (x, y) = point[1..].split_at((point.len() - 1) / 2);
            let number = key.number().unwrap_or_default();
            args.list(&[x, y, &number])
        }
        _ => Err(args.wrong("operation")),
    }
}
