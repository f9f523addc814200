//! The key-value store of each object.

use serde::{Deserialize, Serialize};

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 2048;
/// Longest value, in bytes: the store is for small values, not for files.
pub const MAX_VALUE_BYTES: usize = 128 << 10;
/// Most changes in one batch.
pub const MAX_CHANGES: usize = 128;

/// A page of an object's keys, in the order of their bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct KeyPage {
    pub keys: Vec<KeyView>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// A key, without its value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct KeyView {
    pub key: String,
    /// Length of the value, in bytes.
    pub bytes: usize,
}

/// Changes that are applied all together or not at all.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Values to put.
    #[serde(default)]
    pub put: Vec<Put>,
    /// Keys to delete.
    #[serde(default)]
    pub delete: Vec<String>,
}

/// A value to put.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Put {
    pub key: String,
    /// The value as text; exactly one of `value` and `value_base64`.
    pub value: Option<String>,
    /// The value as base64; exactly one of `value` and `value_base64`.
    pub value_base64: Option<String>,
}
