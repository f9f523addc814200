//! The secrets of apps. No resource shows what they are.

use std::collections::BTreeSet;

use berth_common::ids::{AppName, ClassName, SecretName};
use berth_common::image::Registry;
use serde::{Deserialize, Serialize};

/// A secret, without what it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SecretEntry {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: SecretName,
    /// When it was first put, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was last put, in milliseconds since 1970.
    pub updated_ms: u64,
    /// How often it was put.
    pub version: u64,
    /// Whether the edge can decrypt it with the keys that it has.
    pub readable: bool,
    /// The classes of the app's current version that name it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, required = true))]
    pub used_by: BTreeSet<ClassName>,
}

/// The secrets of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SecretList {
    /// In the order of their names.
    pub secrets: Vec<SecretEntry>,
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

/// What became of an order to rotate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rotation {
    /// The id of the current key, under which everything readable now is.
    pub current: String,
    /// How many secrets and passwords for registries were encrypted again.
    pub rotated: usize,
    /// The secrets that could not be read, and stay as they are.
    pub unreadable: Vec<SecretOfApp>,
    /// The registries whose passwords could not be read, and stay as they are.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, required = true))]
    pub unreadable_registries: Vec<Registry>,
    /// The keys that some of those are encrypted with, which must stay in the key file.
    pub in_use: Vec<String>,
}
