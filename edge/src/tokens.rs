//! Bearer tokens for the admin API and the registry. Only their hashes are stored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_common::clock::wall_ms;
use berth_registry::server::TokenLookup;
use berth_store::{self as store, Scope, Store, StoreError, TOKEN_PREFIX, TokenId, TokenRecord, Write};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

/// Random bytes of a token: too many to guess.
const SECRET_BYTES: usize = 32;
/// Most tokens of an edge: all of them are kept in memory.
const MAX_TOKENS: usize = 10_000;
/// Accuracy of the stored last use, in milliseconds: not every request writes.
const LAST_USE_STEP_MS: u64 = 60_000;

/// Why a token was not created.
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
    /// Loads the tokens from the store.
    pub(crate) fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let known = store.tokens()?.into_iter().map(|token| (token.id, token)).collect();
        Ok(Self { store, known: Mutex::new(known) })
    }

    /// Creates a token. Its text is returned, and stored nowhere.
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
        let text = format!("{TOKEN_PREFIX}{}", hex::encode(secret));
        let (id, hash) = digest(&text);
        let record = TokenRecord { id, name, scope, hash, created_ms: wall_ms(), last_used_ms: None };
        store::write(&*self.store, Write::Token(record.clone())).await?;
        self.lock().insert(id, record.clone());
        Ok((text, record))
    }

    /// Revokes a token. False if there is none.
    pub(crate) async fn revoke(&self, id: TokenId) -> Result<bool, StoreError> {
        // Removed from memory first: a use that is written later would bring the record back.
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TokenId, TokenRecord>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenLookup for Tokens {
    fn identify(&self, text: &str) -> Option<(TokenId, Scope)> {
        let (id, hash) = digest(text);
        let now_ms = wall_ms();
        let mut known = self.lock();
        let record = known.get_mut(&id).filter(|record| record.hash == hash)?;
        if record.last_used_ms.is_none_or(|last| last + LAST_USE_STEP_MS <= now_ms) {
            record.last_used_ms = Some(now_ms);
            // If this write is lost, an older use is shown.
            self.store.commit(vec![Write::Token(record.clone())], Box::new(drop));
        }
        Some((id, record.scope))
    }

    fn scope_of(&self, id: TokenId) -> Option<Scope> {
        self.lock().get(&id).map(|record| record.scope)
    }
}

/// The id and the stored hash of a token. Comparing hashes need not be constant-time, as it reveals nothing of the
/// token.
fn digest(text: &str) -> (TokenId, String) {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    (TokenId::from_bytes(id), hex::encode(digest))
}

#[cfg(test)]
mod tests {
    use berth_store::SledStore;

    use super::*;

    fn scope(tokens: &Tokens, text: &str) -> Option<Scope> {
        tokens.identify(text).map(|(_, scope)| scope)
    }

    #[tokio::test]
    async fn a_token_is_valid_until_revoked_and_only_its_hash_is_stored() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(directory.path()).unwrap());
        let tokens = Tokens::load(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        let (text, view) = tokens.create("ci".to_owned(), Scope::Deploy).await.unwrap();
        assert!(
            text.len() == TOKEN_PREFIX.len() + 64 && !format!("{:?}", store.tokens()).contains(&text[6..])
        );
        assert_eq!(scope(&tokens, &text), Some(Scope::Deploy));
        assert_eq!((scope(&tokens, ""), scope(&tokens, &text[..60])), (None, None));
        let again = Tokens::load(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        assert_eq!(scope(&again, &text), Some(Scope::Deploy));
        assert!(tokens.revoke(view.id).await.unwrap() && !tokens.revoke(view.id).await.unwrap());
        assert_eq!(scope(&tokens, &text), None);
    }

    #[test]
    fn scopes_include_those_before_them() {
        assert!(Scope::Admin > Scope::Deploy && Scope::Deploy > Scope::Read);
    }
}
