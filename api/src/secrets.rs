//! The secrets of apps, and of stores that apps share. No response ever contains a value.

use std::collections::BTreeSet;

use berth_common::ids::{AppName, ClassName, SecretName, StoreName};
use berth_common::image::Registry;
use berth_common::spec::StoredSecret;
use serde::{Deserialize, Serialize};

/// A secret, without its value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SecretEntry {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: SecretName,
    /// When it was first set, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was last set, in milliseconds since 1970.
    pub updated_ms: u64,
    /// How many times it was set.
    pub version: u64,
    /// Whether the edge can decrypt it with its current keys.
    pub readable: bool,
    /// The classes of the app's current version that use it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, required = true))]
    pub used_by: BTreeSet<ClassName>,
}

/// The secrets of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SecretList {
    /// In alphabetical order.
    pub secrets: Vec<SecretEntry>,
}

/// A secret of a store, without its value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SharedSecret {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: SecretName,
    /// When it was first set, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was last set, in milliseconds since 1970.
    pub updated_ms: u64,
    /// How many times it was set.
    pub version: u64,
    /// Whether the edge can decrypt it with its current keys.
    pub readable: bool,
    /// The apps whose current versions use it.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub used_by: BTreeSet<AppName>,
}

/// The secrets of a store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SharedSecretList {
    /// In alphabetical order.
    pub secrets: Vec<SharedSecret>,
}

/// A store of secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SecretStore {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: StoreName,
    /// How many secrets it has.
    pub secrets: usize,
}

/// The stores that have secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SecretStoreList {
    /// In alphabetical order.
    pub stores: Vec<SecretStore>,
}

/// A secret of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = SecretPlace))]
pub struct SecretOfApp {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: SecretName,
}

/// The result of a key rotation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rotation {
    /// The id of the current key, which now encrypts everything that could be decrypted.
    pub current: String,
    /// How many secrets and registry passwords were encrypted again.
    pub rotated: usize,
    /// The secrets that could not be decrypted, and are unchanged.
    pub unreadable: Vec<SecretOfApp>,
    /// The secrets of stores that could not be decrypted, and are unchanged.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub unreadable_of_stores: Vec<StoredSecret>,
    /// The registries whose passwords could not be decrypted, and are unchanged.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, required = true))]
    pub unreadable_registries: Vec<Registry>,
    /// The ids of the keys that these are encrypted with: they must stay in the key file.
    pub in_use: Vec<String>,
}
