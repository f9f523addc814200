//! A user and a password for a registry.

use std::fmt;

use ::http::HeaderValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_common::image::Registry;
use berth_common::secret::Secret;
use berth_store::StoreError;
use zeroize::Zeroizing;

/// A user and a password. Shows nothing of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Who asks.
    pub username: String,
    /// What proves that.
    pub password: Secret,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Login {
    /// As a header has it. None if it cannot be one, which no text in base64 is.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let pair = Zeroizing::new(format!("{}:{}", self.username, self.password.expose()));
        let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
        sensitive(&text)
    }
}

/// Who is known at other registries.
pub trait Logins: Send + Sync {
    /// The user of a registry, by its canonical name, where one is known. May block on the disk.
    fn login(&self, registry: &Registry) -> Result<Option<Login>, LoginError>;
}

/// Why a user that is known cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nothing that is kept sealed can be read now.
    #[error("{0}")]
    Unavailable(String),
    /// The password is of no use.
    #[error("{0}")]
    Unreadable(String),
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A header that is shown to nobody.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_told_to_registries_only() {
        let login = Login { username: "me".to_owned(), password: Secret::new("opensesame".to_owned()) };
        let header = login.basic().unwrap();
        assert_eq!(header, "Basic bWU6b3BlbnNlc2FtZQ==");
        let shown = format!("{login:?} {header:?}");
        assert!(shown.contains("me") && !shown.contains("sesame") && !shown.contains("bWU6"), "{shown}");
    }
}
