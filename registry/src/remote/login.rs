//! Logins for registries: user and password, or an identity token.

use std::fmt;

use ::http::HeaderValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_common::image::Registry;
use berth_common::secret::Secret;
use berth_store::StoreError;
use zeroize::Zeroizing;

/// The user name by which Docker's tools say that the secret is an identity token, and not a password.
const TOKEN_USER: &str = "<token>";

/// A user and a password, or `<token>` and an identity token. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Login {
    /// The value of an `Authorization: Basic` header. None for an identity token, which is for realms only.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        if self.identity_token().is_some() {
            return None;
        }
        let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(self.pair().as_bytes())));
        sensitive(&text)
    }

    /// The identity token, if it is one: a realm gives a token of the registry for it.
    pub(super) fn identity_token(&self) -> Option<&Secret> {
        (self.username == TOKEN_USER).then_some(&self.password)
    }

    /// User and secret in one text.
    pub(super) fn pair(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}:{}", self.username, self.password.expose()))
    }

    /// Whose it is, for error messages.
    pub(super) fn whose(&self) -> String {
        if self.identity_token().is_some() {
            return "the identity token".to_owned();
        }
        format!("the user `{}`", self.username)
    }
}

/// The stored logins for other registries.
pub trait Logins: Send + Sync {
    /// The login for a registry, by its canonical name, if there is one. May block on the disk.
    fn login(&self, registry: &Registry) -> Result<Option<Login>, LoginError>;
}

/// Why a stored login cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There are no keys to decrypt it.
    #[error("{0}")]
    Unavailable(String),
    /// The password cannot be used.
    #[error("{0}")]
    Unreadable(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A header value that is marked as sensitive, so that it is not logged.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let login = Login { username: "me".to_owned(), password: Secret::new("opensesame".to_owned()) };
        let header = login.basic().unwrap();
        assert_eq!(header, "Basic bWU6b3BlbnNlc2FtZQ==");
        let shown = format!("{login:?} {header:?}");
        assert!(shown.contains("me") && !shown.contains("sesame") && !shown.contains("bWU6"), "{shown}");
    }
}
