//! A cache of registry tokens, one for each registry, scope and user, until shortly before they expire. In memory only.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::http::HeaderValue;
use berth_common::image::{Digest, Registry};
use serde::Deserialize;

use super::challenge::Challenge;
use super::login::{Login, sensitive};

/// Most tokens that are kept: with more, those that expire first are dropped.
const MAX_TOKENS: usize = 512;
/// Lifetime of a token without `expires_in`, as the token specification says.
const USUAL_LIFE_S: u64 = 60;
/// Longest use of a token, in seconds: an hour is the longest common lifetime.
const MAX_LIFE_S: u64 = 3_600;
/// How long before its expiry a token is not used any more: a request takes a moment to arrive.
const MARGIN_S: u64 = 10;

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Purpose {
    pub(super) registry: Registry,
    pub(super) scopes: Vec<String>,
    /// The user; reveals nothing of the password.
    who: Option<Digest>,
}

/// The value of an `Authorization` header, with its expiry.
#[derive(Debug, Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// How to obtain another one.
    pub(super) challenge: Challenge,
    until: Option<Instant>,
}

impl Authorization {
    /// User and password, which do not expire.
    pub(super) fn basic(header: HeaderValue) -> Self {
        Self { header, challenge: Challenge::Basic, until: None }
    }

    pub(super) fn holds(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// The response of a realm.
#[derive(Deserialize)]
pub(super) struct Granted {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Granted {
    /// The resulting authorization. None if there is no token in it that is a valid header value.
    pub(super) fn authorization(self, challenge: Challenge) -> Option<Authorization> {
        let token = [self.token, self.access_token].into_iter().flatten().find(|token| !token.is_empty())?;
        let life = self.expires_in.unwrap_or(USUAL_LIFE_S).min(MAX_LIFE_S).saturating_sub(MARGIN_S);
        let until = Instant::now().checked_add(Duration::from_secs(life));
        Some(Authorization { header: sensitive(&format!("Bearer {token}"))?, challenge, until })
    }
}

/// The cached tokens.
pub(super) struct Tokens {
    kept: Mutex<HashMap<Purpose, Authorization>>,
    /// Mixed into the hash of logins, so that it means nothing outside this process.
    salt: [u8; 32],
}

impl Tokens {
    pub(super) fn new() -> Self {
        let mut salt = [0; 32];
        salt.fill_with(|| fastrand::u8(..));
        Self { kept: Mutex::default(), salt }
    }

    pub(super) fn purpose(&self, registry: &Registry, scopes: Vec<String>, login: Option<&Login>) -> Purpose {
        let who = login.map(|login| {
            let text = zeroize::Zeroizing::new([&self.salt[..], login.pair().as_bytes()].concat());
            Digest::of(&text)
        });
        Purpose { registry: registry.clone(), scopes, who }
    }

    pub(super) fn get(&self, purpose: &Purpose) -> Option<Authorization> {
        self.lock().get(purpose).filter(|authorization| authorization.holds()).cloned()
    }

    pub(super) fn keep(&self, purpose: Purpose, authorization: Authorization) {
        let mut kept = self.lock();
        kept.retain(|_, authorization| authorization.holds());
        if kept.len() >= MAX_TOKENS {
            let first = kept
                .iter()
                .min_by_key(|(_, authorization)| authorization.until)
                .map(|(purpose, _)| purpose.clone());
            first.map(|purpose| kept.remove(&purpose));
        }
        kept.insert(purpose, authorization);
    }

    /// Removes a token that the registry rejects.
    pub(super) fn forget(&self, purpose: &Purpose) {
        self.lock().remove(purpose);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Purpose, Authorization>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use berth_common::secret::Secret;

    use super::*;

    fn granted(text: &str) -> Option<Authorization> {
        let challenge = Challenge::Bearer { realm: "https://a.example".to_owned(), service: None };
        serde_json::from_str::<Granted>(text).ok()?.authorization(challenge)
    }

    #[test]
    fn a_token_is_valid_for_its_lifetime() {
        assert!(granted(r#"{"token":"a","expires_in":300}"#).unwrap().holds());
        assert!(granted(r#"{"access_token":"a","token":""}"#).unwrap().holds());
        assert!(!granted(r#"{"token":"a","expires_in":5}"#).unwrap().holds());
        assert!(granted(r#"{"token":"a","expires_in":18446744073709551615}"#).unwrap().holds());
        for bad in ["{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, "[]"] {
            assert!(granted(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_used_only_for_its_user_and_scope() {
        let tokens = Tokens::new();
        let registry: Registry = "r.example".parse().unwrap();
        let login =
            |password: &str| Login { username: "u".to_owned(), password: Secret::new(password.to_owned()) };
        let scope = |scope: &str| vec![scope.to_owned()];
        let (one, other) = (login("1"), login("2"));
        let purpose = tokens.purpose(&registry, scope("a"), Some(&one));
        tokens.keep(purpose.clone(), granted(r#"{"token":"a","expires_in":300}"#).unwrap());
        assert!(tokens.get(&tokens.purpose(&registry, scope("a"), Some(&one))).is_some());
        for (scopes, login) in [("a", Some(&other)), ("a", None), ("b", Some(&one))] {
            assert!(tokens.get(&tokens.purpose(&registry, scope(scopes), login)).is_none());
        }
        tokens.forget(&purpose);
        assert!(tokens.get(&purpose).is_none());
    }

    #[test]
    fn the_number_of_tokens_is_limited() {
        let tokens = Tokens::new();
        let registry: Registry = "r.example".parse().unwrap();
        for n in 0..MAX_TOKENS + 10 {
            let purpose = tokens.purpose(&registry, vec![n.to_string()], None);
            tokens.keep(purpose, granted(r#"{"token":"a","expires_in":300}"#).unwrap());
        }
        assert_eq!(tokens.lock().len(), MAX_TOKENS);
    }
}
