//! Encrypted secrets of apps and of stores, and passwords for registries. Nothing here can decrypt them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_common::ids::{AppName, SecretName, StoreName};
use berth_common::image::Registry;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a key's id.
pub const KEY_ID_BYTES: usize = 8;

/// The id of a key: the first bytes of a hash of it, which reveal nothing of the key. So a key under a wrong id is
/// noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl KeyId {
    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; KEY_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for KeyId {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; KEY_ID_BYTES];
        hex::decode_to_slice(text, &mut bytes).map(|()| Self(bytes))
    }
}

impl TryFrom<String> for KeyId {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// What a secret belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretHolder {
    /// An app, which alone uses it.
    App(AppName),
    /// A store, whose secrets apps share. It is there as long as it has one.
    Store(StoreName),
}

impl SecretHolder {
    /// Its name among those of its kind.
    pub fn name(&self) -> &str {
        match self {
            Self::App(app) => app.as_str(),
            Self::Store(store) => store.as_str(),
        }
    }

    /// The option of the command line that names it: `--app a`.
    pub fn option(&self) -> String {
        match self {
            Self::App(app) => format!("--app {app}"),
            Self::Store(store) => format!("--store {store}"),
        }
    }
}

impl fmt::Display for SecretHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(app) => write!(f, "the app `{app}`"),
            Self::Store(store) => write!(f, "the store `{store}`"),
        }
    }
}

impl From<AppName> for SecretHolder {
    fn from(app: AppName) -> Self {
        Self::App(app)
    }
}

impl From<&AppName> for SecretHolder {
    fn from(app: &AppName) -> Self {
        Self::App(app.clone())
    }
}

impl From<StoreName> for SecretHolder {
    fn from(store: StoreName) -> Self {
        Self::Store(store)
    }
}

impl From<&StoreName> for SecretHolder {
    fn from(store: &StoreName) -> Self {
        Self::Store(store.clone())
    }
}

/// A secret as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// The app or the store.
    #[serde(flatten)]
    pub holder: SecretHolder,
    /// The name.
    pub name: SecretName,
    /// When it was first set, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was last set, in milliseconds since 1970.
    pub updated_ms: u64,
    /// How many times it was set.
    pub version: u64,
    /// The encrypted value.
    #[serde(flatten)]
    pub sealed: Sealed,
}

/// An encrypted value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The id of the key.
    pub key: KeyId,
    /// The nonce: never the same twice with one key.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub nonce: Vec<u8>,
    /// The ciphertext and the authentication tag.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub ciphertext: Vec<u8>,
}

/// The login for a registry, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryRecord {
    /// The canonical name of the registry.
    pub registry: Registry,
    /// The user name.
    pub username: String,
    /// When the password was set, in milliseconds since 1970.
    pub updated_ms: u64,
    /// The encrypted password.
    #[serde(flatten)]
    pub sealed: Sealed,
}

fn to_base64<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    BASE64_STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
}
