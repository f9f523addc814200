//! Errors in the format of RFC 9457.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The media type of an error.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// An error in the format of RFC 9457.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Problem {
    #[cfg_attr(feature = "schema", schema(minimum = 400, maximum = 599))]
    pub status: u16,
    /// What failed.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub title: Cow<'static, str>,
    /// The reason, and what to do.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub detail: String,
    /// Which parts of the request are wrong, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub errors: Vec<FieldError>,
}

/// An error in one part of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// A path such as `routes[0].port`; empty for the whole body.
    pub field: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}
