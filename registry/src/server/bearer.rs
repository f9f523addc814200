//! Short-lived tokens for Docker's token protocol: each names the token of the edge that somebody has logged in with,
//! and its expiry. Signed with a key that only this process has, so they become invalid with it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use berth_store::TokenId;
use ring::hmac;
use ring::rand::SystemRandom;

/// Lifetime, in milliseconds: clients get another one with the same login.
pub(super) const LIFETIME_MS: u64 = 5 * 60 * 1000;
const ID_BYTES: usize = 8;
const PAYLOAD_BYTES: usize = ID_BYTES + size_of::<u64>();

/// Issues and verifies short-lived tokens.
pub(super) struct Bearers(hmac::Key);

impl Bearers {
    pub(super) fn new() -> anyhow::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.map(Self).map_err(|_| anyhow::anyhow!("the system has no random bytes"))
    }

    /// Issues one for the owner of this token.
    pub(super) fn make(&self, id: TokenId, now_ms: u64) -> String {
        let until = now_ms.saturating_add(LIFETIME_MS);
        let payload = [id.as_bytes(), &until.to_be_bytes()].concat();
        let tag = hmac::sign(&self.0, &payload);
        BASE64_URL_SAFE_NO_PAD.encode([&payload, tag.as_ref()].concat())
    }

    /// The id of the token that it names, if it was issued here and has not expired.
    pub(super) fn read(&self, text: &str, now_ms: u64) -> Option<TokenId> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (payload, tag) = bytes.split_first_chunk::<PAYLOAD_BYTES>()?;
        // Verified in constant time.
        hmac::verify(&self.0, payload, tag).ok()?;
        let (id, until) = payload.split_first_chunk::<ID_BYTES>()?;
        let until = u64::from_be_bytes(until.try_into().ok()?);
        (now_ms < until).then(|| TokenId::from_bytes(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_expires_and_is_valid_only_where_it_was_issued() {
        let bearers = Bearers::new().unwrap();
        let id: TokenId = "0011223344556677".parse().unwrap();
        let text = bearers.make(id, 1_000);
        assert_eq!(bearers.read(&text, 1_000 + LIFETIME_MS - 1), Some(id));
        assert_eq!(bearers.read(&text, 1_000 + LIFETIME_MS), None);
        assert_eq!(Bearers::new().unwrap().read(&text, 1_000), None);
        for index in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[index] = if other[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(bearers.read(std::str::from_utf8(&other).unwrap(), 1_000), None);
        }
        assert_eq!(bearers.read("", 0), None);
        assert_eq!(bearers.read(&text[..20], 0), None);
    }
}
