//! RSA: signatures (PKCS #1 1.5 and PSS), encryption (OAEP), and how keys are written.

use std::num::NonZeroU32;

use crypto_primes::hazmat::SmallFactorsSieve;
use crypto_primes::{Flavor, is_prime};
use pkcs8::{EncodePrivateKey, EncodePublicKey};
use rquickjs::{Array, Result, Value};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::rand_core::CryptoRng;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BoxedUint, Oaep, Pkcs1v15Sign, PrivateKey, Pss, PublicKey};
use zeroize::Zeroizing;

use super::args::Args;
use super::hash::{Hash, hashed};
use super::kinds::{Kind, Refused};
use crate::raw;

/// Sizes of a modulus, in bits: smaller ones are broken in minutes, and one operation of larger ones takes longer than a script
/// may be left alone.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;
/// Largest modulus that is made, in bits.
const GENERATED_BITS: usize = 4096;

pub(super) enum Rsa {
    Private(Box<PrivateKey>),
    Public(PublicKey),
}

/// Asked before each step that takes long.
type GoOn<'a> = &'a mut dyn FnMut() -> Result<()>;

impl Rsa {
    /// Two primes of half the size, `exponent` prime to each less one. None for sizes that cannot be.
    pub(super) fn generate(
        random: &mut impl CryptoRng,
        bits: usize,
        exponent: u32,
        go_on: GoOn<'_>,
    ) -> Result<Option<Self>> {
        if !MODULUS_BITS.contains(&bits) || bits > GENERATED_BITS || !bits.is_multiple_of(128) {
            return Ok(None);
        }
        loop {
            let p = prime(random, bits / 2, exponent, go_on)?;
            let q = prime(random, bits / 2, exponent, go_on)?;
            go_on()?;
            if let Ok(key) = PrivateKey::from_p_q(p, q, BoxedUint::from(u64::from(exponent))) {
                return Ok(Some(Self::Private(Box::new(key))));
            }
        }
    }

    pub(super) fn read(format: &str, bytes: &[u8]) -> std::result::Result<Self, Refused> {
        match format {
            "spki" => {
                let key =
                    PublicKey::from_pkcs1_der(Kind::Rsa.in_spki(bytes)?).map_err(|_| Refused::Malformed)?;
                Self::Public(key).sound()
            }
            "pkcs8" => {
                let key =
                    PrivateKey::from_pkcs1_der(Kind::Rsa.in_pkcs8(bytes)?).map_err(|_| Refused::Malformed)?;
                Self::Private(Box::new(key)).sound()
            }
            _ => Err(Refused::Kind),
        }
    }

    /// Of `n, e`, of `n, e, d`, or of these and `p, q, dp, dq, qi`; the last three follow from the others.
    pub(super) fn of_parts(parts: &[Zeroizing<Vec<u8>>]) -> std::result::Result<Self, Refused> {
        let width = parts.first().map_or(0, |n| n.len());
        if width * 8 > *MODULUS_BITS.end() {
            return Err(Refused::Malformed);
        }
        let mut numbers = Vec::new();
        for part in parts.iter().take(5) {
            let width = if numbers.len() == 1 { part.len() } else { width };
            numbers.push(number(part, width).ok_or(Refused::Malformed)?);
        }
        let mut numbers = numbers.into_iter();
        let (Some(n), Some(e)) = (numbers.next(), numbers.next()) else { return Err(Refused::Malformed) };
        let key = match numbers.next() {
            None => PublicKey::new(n, e).map(Self::Public),
            Some(d) => PrivateKey::from_components(n, e, d, numbers.collect())
                .map(|key| Self::Private(Box::new(key))),
        };
        key.map_err(|_| Refused::Malformed)?.sound()
    }

    fn sound(self) -> std::result::Result<Self, Refused> {
        if MODULUS_BITS.contains(&self.bits()) { Ok(self) } else { Err(Refused::Malformed) }
    }

    fn half(&self) -> &PublicKey {
        match self {
            Self::Private(key) => key.as_public_key(),
            Self::Public(key) => key,
        }
    }

    pub(super) fn public(&self) -> Self {
        Self::Public(self.half().clone())
    }

    fn bits(&self) -> usize {
        usize::try_from(self.half().n().bit_width()).unwrap_or(usize::MAX)
    }

    /// Some numbers as wide as the modulus, and what is calculated of them ahead.
    pub(super) fn bytes(&self) -> usize {
        let numbers = if matches!(self, Self::Private(_)) { 24 } else { 6 };
        1024 + numbers * self.half().size()
    }

    pub(super) fn run<'js>(&self, op: &str, args: &Args<'js>) -> Result<Value<'js>> {
        match (op, self) {
            ("size", _) => {
                let pair = Array::new(args.ctx.clone())?;
                pair.set(0, self.bits())?;
                pair.set(1, raw::bytes(&args.ctx, &self.half().e_bytes())?)?;
                Ok(pair.into_value())
            }
            ("jwk", _) => self.parts(args),
            ("spki", _) => args.out(self.half().to_public_key_der().ok().map(|der| der.into_vec())),
            ("pkcs8", Self::Private(key)) => args.out(key.to_pkcs8_der().ok().map(|der| der.to_bytes())),
            ("sign", Self::Private(key)) => sign(key, args),
            ("verify", Self::Public(key)) => verify(key, args),
            ("encrypt", Self::Public(key)) => {
                let (mut random, label, data) = (args.random(3)?, args.bytes(1)?, args.bytes(2)?);
                let out = hashed!(args.hash(0)?, D => {
                    key.encrypt(&mut random, Oaep::<D>::new_with_label(label.as_slice()), &data)
                });
                args.out(out.ok())
            }
            ("decrypt", Self::Private(key)) => {
                let (mut random, label, data) = (args.random(3)?, args.bytes(1)?, args.bytes(2)?);
                let out = hashed!(args.hash(0)?, D => {
                    key.decrypt_blinded(&mut random, Oaep::<D>::new_with_label(label.as_slice()), &data)
                });
                args.out(out.ok().map(Zeroizing::new))
            }
            _ => Err(args.wrong("operation")),
        }
    }

    /// `n, e`, and of a private key `d, p, q, dp, dq, qi`.
    fn parts<'js>(&self, args: &Args<'js>) -> Result<Value<'js>> {
        let mut parts = vec![trimmed(self.half().n()), trimmed(self.half().e())];
        if let Self::Private(key) = self {
            let primes = key.primes();
            let (Some(p), Some(q), Some(dp), Some(dq)) = (primes.first(), primes.get(1), key.dp(), key.dq())
            else {
                return args.out(None::<Vec<u8>>);
            };
            parts.extend([trimmed(key.d()), trimmed(p), trimmed(q), trimmed(dp), trimmed(dq)]);
            parts.extend(key.crt_coefficient().map(|qi| trimmed(&qi)));
        }
        args.list(&parts)
    }
}

fn trimmed(number: &BoxedUint) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(number.to_be_bytes_trimmed_vartime().into_vec())
}

/// A number of at most `width` bytes.
fn number(bytes: &[u8], width: usize) -> Option<BoxedUint> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let bits = u32::try_from(width.checked_mul(8)?).ok()?;
    BoxedUint::from_be_slice(&bytes[first..], bits).ok()
}

/// A scheme, a digest, the salt's length, the data, and a seed.
fn sign<'js>(key: &PrivateKey, args: &Args<'js>) -> Result<Value<'js>> {
    let (hash, salt, mut random) = (args.hash(1)?, args.size(2)?, args.random(4)?);
    let digest = hash.of(&args.bytes(3)?);
    let signature = if args.get::<String>(0)? == "pss" {
        hashed!(hash, D => key.sign_with_rng(&mut random, Pss::<D>::new_with_salt(salt), &digest))
    } else {
        key.sign_with_rng(&mut random, pkcs1(hash), &digest)
    };
    args.out(signature.ok())
}

/// A scheme, a digest, the salt's length, the data, and its signature.
fn verify<'js>(key: &PublicKey, args: &Args<'js>) -> Result<Value<'js>> {
    let (hash, salt, signature) = (args.hash(1)?, args.size(2)?, args.bytes(4)?);
    let digest = hash.of(&args.bytes(3)?);
    let right = if args.get::<String>(0)? == "pss" {
        hashed!(hash, D => key.verify(Pss::<D>::new_with_salt(salt), &digest, &signature))
    } else {
        key.verify(pkcs1(hash), &digest, &signature)
    };
    args.truth(right.is_ok())
}

fn pkcs1(hash: Hash) -> Pkcs1v15Sign {
    hashed!(hash, D => Pkcs1v15Sign::new::<D>())
}

/// A prime of so many bits, the first two of them set, which is not 1 more than a multiple of the exponent.
fn prime(random: &mut impl CryptoRng, bits: usize, exponent: u32, go_on: GoOn<'_>) -> Result<BoxedUint> {
    let mut start = Zeroizing::new(vec![0; bits / 8]);
    let width = u32::try_from(bits).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    loop {
        random.fill_bytes(&mut start);
        if let Some(first) = start.first_mut() {
            *first |= 0xc0;
        }
        let Some(first) = number(&start, bits / 8) else { continue };
        let Ok(sieve) = SmallFactorsSieve::new(first, width, false) else { continue };
        for candidate in sieve {
            go_on()?;
            if rest(&candidate, exponent) != 1 && is_prime(Flavor::Any, &candidate) {
                return Ok(candidate);
            }
        }
    }
}

fn rest(number: &BoxedUint, by: u32) -> u64 {
    let bytes = Zeroizing::new(number.to_be_bytes());
    bytes.iter().fold(0, |rest, byte| (rest << 8 | u64::from(*byte)) % u64::from(by))
}
