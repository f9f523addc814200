//! Ed25519 and X25519.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::Rng;
use curve25519_dalek::montgomery::MontgomeryPoint;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rquickjs::{Result, Value};
use zeroize::Zeroizing;

use super::args::Args;
use super::kinds::{Kind, Refused};

type Number = [u8; 32];
/// Bytes of a signature.
type Signed = [u8; 64];

/// The numbers of a key. A public one may be no point: then no signature of it is right.
pub(super) struct Okp {
    kind: Kind,
    private: Option<Zeroizing<Number>>,
    public: Number,
}

impl Okp {
    pub(super) fn generate(kind: Kind, random: &mut ChaCha20Rng) -> Self {
        let mut number = Zeroizing::new([0; 32]);
        random.fill_bytes(&mut *number);
        Self::of_private(kind, number)
    }

    fn of_private(kind: Kind, number: Zeroizing<Number>) -> Self {
        let public = if kind == Kind::X25519 {
            MontgomeryPoint::mul_base_clamped(*number).to_bytes()
        } else {
            SigningKey::from_bytes(&number).verifying_key().to_bytes()
        };
        Self { kind, private: Some(number), public }
    }

    pub(super) fn read(kind: Kind, format: &str, bytes: &[u8]) -> std::result::Result<Self, Refused> {
        match format {
            "raw" => Self::of_parts(kind, &[Zeroizing::new(bytes.to_vec())]),
            "spki" => Self::of_parts(kind, &[Zeroizing::new(kind.in_spki(bytes)?.to_vec())]),
            // The number is an octet string in the octet string of the key.
            "pkcs8" => match kind.in_pkcs8(bytes)? {
                [4, 32, number @ ..] => Ok(Self::of_private(kind, number_of(number)?)),
                _ => Err(Refused::Malformed),
            },
            _ => Err(Refused::Kind),
        }
    }

    /// Of the public number, or of the private one, which says what the public one is.
    pub(super) fn of_parts(kind: Kind, parts: &[Zeroizing<Vec<u8>>]) -> std::result::Result<Self, Refused> {
        match parts {
            [public] => Ok(Self { kind, private: None, public: *number_of(public)? }),
            [_, private] => Ok(Self::of_private(kind, number_of(private)?)),
            _ => Err(Refused::Malformed),
        }
    }

    pub(super) fn public(&self) -> Self {
        Self { kind: self.kind, private: None, public: self.public }
    }

    pub(super) fn run<'js>(&self, op: &str, args: &Args<'js>) -> Result<Value<'js>> {
        match op {
            "sign" => args.out(self.sign(&args.bytes(0)?)),
            "verify" => args.truth(self.verifies(&args.bytes(0)?, &args.bytes(1)?)),
            "derive" => args.out(self.derive(&args.bytes(0)?)),
            "raw" => args.out(Some(self.public)),
            "spki" => args.out(Some([self.head(false).as_slice(), &self.public].concat())),
            "pkcs8" => args.out(
                self.private
                    .as_ref()
                    .map(|number| Zeroizing::new([self.head(true).as_slice(), number.as_slice()].concat())),
            ),
            "jwk" => {
                let number = self.private.as_ref().map(|number| number.to_vec()).unwrap_or_default();
                args.list(&[self.public.as_slice(), &Zeroizing::new(number)])
            }
            _ => Err(args.wrong("operation")),
        }
    }

    /// All that stands before the number in an encoded key: it is always the same.
    fn head(&self, private: bool) -> Vec<u8> {
        let algorithm = if self.kind == Kind::X25519 { 0x6e } else { 0x70 };
        if private {
            vec![0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, algorithm, 4, 34, 4, 32]
        } else {
            vec![0x30, 42, 0x30, 5, 6, 3, 0x2b, 0x65, algorithm, 3, 33, 0]
        }
    }

    fn sign(&self, data: &[u8]) -> Option<Signed> {
        Some(SigningKey::from_bytes(self.private.as_ref()?).sign(data).to_bytes())
    }

    fn verifies(&self, data: &[u8], signature: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) =
            (VerifyingKey::from_bytes(&self.public), Signature::from_slice(signature))
        else {
            return false;
        };
        ed25519_dalek::Verifier::verify(&key, data, &signature).is_ok()
    }

    /// The secret that both have; none where the other's number is one that leads to zero whatever the private one is.
    fn derive(&self, other: &[u8]) -> Option<Zeroizing<Number>> {
        let other = MontgomeryPoint(*number_of(other).ok()?);
        let shared = Zeroizing::new(other.mul_clamped(**self.private.as_ref()?).to_bytes());
        shared.iter().any(|byte| *byte != 0).then_some(shared)
    }
}

fn number_of(bytes: &[u8]) -> std::result::Result<Zeroizing<Number>, Refused> {
    bytes.try_into().map(Zeroizing::new).map_err(|_| Refused::Malformed)
}
