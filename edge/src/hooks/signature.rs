//! The signature of an event: HMAC-SHA256 over time and body, so that a receiver can verify the sender and refuse old
//! copies.
//!
//! `berth-signature: t=SECONDS,v1=HEX` where HEX is the HMAC of `SECONDS.BODY` under the secret's bytes.

use ring::hmac;

/// The header value for a body that is sent at this time, in seconds since 1970.
pub(crate) fn sign(secret: &[u8], time_s: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut signing = hmac::Context::with_key(&key);
    signing.update(format!("{time_s}.").as_bytes());
    signing.update(body);
    format!("t={time_s},v1={}", hex::encode(signing.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest is that of `printf '1700000000.{}' | openssl dgst -sha256 -hmac key`.
    #[test]
    fn the_signature_is_what_openssl_computes() {
        let known = "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae";
        let signed = sign(b"key", 1_700_000_000, b"{}");
        assert_eq!(signed, known);
        assert_ne!(signed, sign(b"key", 1_700_000_001, b"{}"));
        assert_ne!(signed, sign(b"kez", 1_700_000_000, b"{}"));
        assert_ne!(signed, sign(b"key", 1_700_000_000, b"{ }"));
    }
}
