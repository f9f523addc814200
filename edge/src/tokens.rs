//! Who may use the admin API over the network: bearer tokens, of which only hashes are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::wall_ms;
use crate::store::{self, Store, StoreError, Write};

/// What every token begins with, so that people and scanners for leaked secrets know one.
pub(crate) const PREFIX: &str = "berth_";
/// Random bytes of a token: nobody guesses one.
const SECRET_BYTES: usize = 32;
/// Most tokens of an edge: all of them are in memory.
const MAX_TOKENS: usize = 10_000;
/// How old the stored last use of a token may be, in milliseconds: not every request writes.
const LAST_USE_STEP_MS: u64 = 60_000;

/// What a token allows. Each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// Look at everything but what is secret.
    Read,
    /// Deploy apps, and start and end containers.
    Deploy,
    /// All, tokens too.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        })
    }
}

/// What a token is called: the first 8 bytes of its hash, which say nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenId([u8; 8]);

impl TokenId {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenId {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map(|()| Self(bytes))
    }
}

impl Serialize for TokenId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) id: TokenId,
    /// What its owner calls it.
    pub(crate) name: String,
    pub(crate) scope: Scope,
    /// SHA-256 of the token, in hexadecimal. A token is random, so that a slow hash would protect nothing.
    pub(crate) hash: String,
    /// In milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// The same; at most a minute behind.
    pub(crate) last_used_ms: Option<u64>,
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("there are {MAX_TOKENS} tokens, which is the most there can be: revoke some")]
    TooMany,
    #[error("the system has no random bytes")]
    NoRandomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The tokens of an edge.
pub(crate) struct Tokens {
    store: Arc<dyn Store>,
    known: Mutex<BTreeMap<TokenId, TokenRecord>>,
}

impl Tokens {
    /// Those that the store knows.
    pub(crate) fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let known = store.tokens()?.into_iter().map(|token| (token.id, token)).collect();
        Ok(Self { store, known: Mutex::new(known) })
    }

    /// Makes a token. Its text is nowhere but in the answer.
    pub(crate) async fn create(
        &self,
        name: String,
        scope: Scope,
    ) -> Result<(String, TokenRecord), TokenError> {
        if self.lock().len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).map_err(|_| TokenError::NoRandomness)?;
        let text = format!("{PREFIX}{}", hex::encode(secret));
        let (id, hash) = digest(&text);
        let record = TokenRecord { id, name, scope, hash, created_ms: wall_ms(), last_used_ms: None };
        store::write(&*self.store, Write::Token(record.clone())).await?;
        self.lock().insert(id, record.clone());
        Ok((text, record))
    }

    /// Ends a token. False where there is none.
    pub(crate) async fn revoke(&self, id: TokenId) -> Result<bool, StoreError> {
        // First of all nobody uses it any more: a use that is written later would bring it back.
        let Some(record) = self.lock().remove(&id) else { return Ok(false) };
        let written = store::write(&*self.store, Write::RemoveToken(id)).await;
        if written.is_err() {
            self.lock().insert(id, record);
        }
        written.map(|()| true)
    }

    pub(crate) fn all(&self) -> Vec<TokenRecord> {
        self.lock().values().cloned().collect()
    }

    /// What the bearer of this token may do.
    pub(crate) fn scope(&self, text: &str) -> Option<Scope> {
        self.identify(text).map(|(_, scope)| scope)
    }

    /// What whoever was known by this token may do still.
    pub(crate) fn scope_of(&self, id: TokenId) -> Option<Scope> {
        self.lock().get(&id).map(|record| record.scope)
    }

    /// What this token is called, and what its bearer may do.
    pub(crate) fn identify(&self, text: &str) -> Option<(TokenId, Scope)> {
        let (id, hash) = digest(text);
        let now_ms = wall_ms();
        let mut known = self.lock();
        let record = known.get_mut(&id).filter(|record| record.hash == hash)?;
        if record.last_used_ms.is_none_or(|last| last + LAST_USE_STEP_MS <= now_ms) {
            record.last_used_ms = Some(now_ms);
            // If this is lost, an older use is shown, and no more.
            self.store.commit(vec![Write::Token(record.clone())], Box::new(drop));
        }
        Some((id, record.scope))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TokenId, TokenRecord>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token is called and stored as. Comparing hashes in ordinary time tells nothing of a token.
fn digest(text: &str) -> (TokenId, String) {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    (TokenId(id), hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SledStore;

    #[tokio::test]
    async fn a_token_holds_until_it_is_revoked_and_only_its_hash_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(directory.path()).unwrap());
        let tokens = Tokens::load(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        let (text, view) = tokens.create("ci".to_owned(), Scope::Deploy).await.unwrap();
        assert!(text.len() == PREFIX.len() + 64 && !format!("{:?}", store.tokens()).contains(&text[6..]));
        assert_eq!(tokens.scope(&text), Some(Scope::Deploy));
        assert_eq!((tokens.scope(""), tokens.scope(&text[..60])), (None, None));
        let again = Tokens::load(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        assert_eq!(again.scope(&text), Some(Scope::Deploy));
        assert!(tokens.revoke(view.id).await.unwrap() && !tokens.revoke(view.id).await.unwrap());
        assert_eq!(tokens.scope(&text), None);
    }

    #[test]
    fn scopes_include_those_before_them() {
        assert!(Scope::Admin > Scope::Deploy && Scope::Deploy > Scope::Read);
    }
}
