//! Logins for other registries.

use std::fmt;

use berth_common::image::Registry;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The user name: up to 256 bytes without colons. `<token>` says that the password is an identity token, which the
    /// registry's realm exchanges for one of the registry's tokens (OAuth2).
    pub username: String,
    /// The password, or a token that the registry accepts in its place: up to 16 KiB.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = Password))]
    pub password: Password,
}

/// A text that is wiped from memory when it is dropped, and that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Wraps this text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. It must not appear in a message.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text itself; the caller is responsible for wiping it from now on.
    pub fn into_text(mut self) -> String {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Serialize for Password {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

/// A registry that the edge has a login for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RegistryEntry {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub host: Registry,
    pub username: String,
    /// When the password was set, in milliseconds since 1970.
    pub updated_ms: u64,
    /// Whether the edge can decrypt the password with its current keys.
    pub readable: bool,
}

/// The registries that the edge has logins for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RegistryList {
    /// In alphabetical order.
    pub registries: Vec<RegistryEntry>,
}

/// How to store a login.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct CheckParameters {
    /// Ask the registry first whether it accepts the login; true by default.
    #[serde(default = "yes")]
    #[cfg_attr(feature = "schema", param(required = false, default = true))]
    pub verify: bool,
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let known = Credentials { username: "me".to_owned(), password: Password::new("hush".to_owned()) };
        assert!(!format!("{known:?}").contains("hush"));
        assert_eq!(serde_json::to_string(&known).unwrap(), r#"{"username":"me","password":"hush"}"#);
    }
}
