//! Secret keys: bytes, for AES, HMAC, HKDF and PBKDF2.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use rquickjs::{Result, Value};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::aes;
use super::args::Args;
use super::hash::{Hash, hashed};

/// Bytes of a secret key, and no less than this is counted for one.
pub(super) struct Secret(pub(super) Zeroizing<Vec<u8>>);

/// Most digests, of as many iterations as PBKDF2 may have, that one call may make: 16 take a second on a slow machine, and nothing
/// stops a script meanwhile.
const PBKDF2_ROUNDS: usize = 16 * 100_000;

impl Secret {
    pub(super) fn run<'js>(&self, op: &str, args: &Args<'js>) -> Result<Value<'js>> {
        match op {
            "raw" => args.out(Some(self.0.as_slice())),
            "cbcEncrypt" => args.out(aes::cbc_encrypt(&self.0, &args.bytes(0)?, &args.bytes(1)?)),
            "cbcDecrypt" => args.out(aes::cbc_decrypt(&self.0, &args.bytes(0)?, &args.bytes(1)?)),
            "ctr" => args.out(aes::ctr(&self.0, &args.bytes(0)?, args.get(1)?, &args.bytes(2)?)),
            "gcmEncrypt" => self.gcm(aes::gcm_encrypt, args),
            "gcmDecrypt" => self.gcm(aes::gcm_decrypt, args),
            "wrap" => args.out(aes::wrap(&self.0, &args.bytes(0)?)),
            "unwrap" => args.out(aes::unwrap(&self.0, &args.bytes(0)?).map(Zeroizing::new)),
            "sign" => args.out(self.hmac(args.hash(0)?, &args.bytes(1)?)),
            "verify" => {
                let code = self.hmac(args.hash(0)?, &args.bytes(1)?);
                args.truth(code.is_some_and(|code| code.ct_eq(&args.bytes(2).unwrap_or_default()).into()))
            }
            "hkdf" => args.out(self.hkdf(args.hash(0)?, &args.bytes(1)?, &args.bytes(2)?, args.size(3)?)),
            "pbkdf2" => args.out(self.pbkdf2(args.hash(0)?, &args.bytes(1)?, args.get(2)?, args.size(3)?)),
            _ => Err(args.wrong("operation")),
        }
    }

    fn gcm<'js>(&self, run: Gcm, args: &Args<'js>) -> Result<Value<'js>> {
        args.out(run(&self.0, &args.bytes(0)?, &args.bytes(1)?, args.size(2)?, &args.bytes(3)?))
    }

    fn hmac(&self, hash: Hash, data: &[u8]) -> Option<Vec<u8>> {
        hashed!(hash, D => {
            let mut code = <Hmac<D> as KeyInit>::new_from_slice(&self.0).ok()?;
            code.update(data);
            Some(code.finalize().into_bytes().to_vec())
        })
    }

    fn hkdf(&self, hash: Hash, salt: &[u8], info: &[u8], length: usize) -> Option<Zeroizing<Vec<u8>>> {
        if length > 255 * hash.size() {
            return None;
        }
        let mut out = Zeroizing::new(vec![0; length]);
        hashed!(hash, D => Hkdf::<D>::new(Some(salt), &self.0).expand(info, &mut out).ok())?;
        Some(out)
    }

    fn pbkdf2(&self, hash: Hash, salt: &[u8], iterations: u32, length: usize) -> Option<Zeroizing<Vec<u8>>> {
        let digests = length.div_ceil(hash.size()).checked_mul(usize::try_from(iterations).ok()?)?;
        if digests > PBKDF2_ROUNDS {
            return None;
        }
        let mut out = Zeroizing::new(vec![0; length]);
        hashed!(hash, D => pbkdf2::pbkdf2_hmac::<D>(&self.0, salt, iterations, &mut out));
        Some(out)
    }
}

type Gcm = fn(&[u8], &[u8], &[u8], usize, &[u8]) -> Option<Vec<u8>>;
