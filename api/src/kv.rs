//! What objects keep: values under keys.

use serde::{Deserialize, Serialize};

/// Longest key, in bytes: an index of small things, not a place for files.
pub const MAX_KEY_BYTES: usize = 2048;
/// Longest value, in bytes, for the same reason.
pub const MAX_VALUE_BYTES: usize = 128 << 10;
/// Most changes of one batch.
pub const MAX_CHANGES: usize = 128;

/// Some of an object's keys, in the order of their bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct KeyPage {
    pub keys: Vec<KeyView>,
    /// What to ask for the next ones with; null where there are no more.
    pub next_cursor: Option<String>,
}

/// A key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct KeyView {
    pub key: String,
    /// How long its value is.
    pub bytes: usize,
}

/// Changes that are made all together or not at all.
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
    /// The value as text; or else `value_base64`.
    pub value: Option<String>,
    /// The value in base64.
    pub value_base64: Option<String>,
}
