//! Tokens for the API over the network.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a token allows. Each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at everything but what is secret.
    Read,
    /// Deploy apps, and start and end containers.
    Deploy,
    /// All, tokens too.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        })
    }
}

/// A token to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What its owner calls it, without control characters.
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 100))]
    pub name: String,
    pub scope: Scope,
}

/// A token, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// 16 hexadecimal digits.
    #[cfg_attr(feature = "schema", schema(pattern = "^[0-9a-f]{16}$"))]
    pub id: String,
    pub name: String,
    pub scope: Scope,
    /// In milliseconds since 1970.
    pub created_ms: u64,
    /// In milliseconds since 1970, at most a minute behind; null for one that was never used.
    pub last_used_ms: Option<u64>,
}

/// A token that was made.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MadeToken {
    /// The token itself, which is shown this once: only a hash of it is kept.
    #[cfg_attr(feature = "schema", schema(pattern = "^berth_[0-9a-f]{64}$"))]
    pub token: String,
    #[serde(flatten)]
    pub view: TokenView,
}

/// Leaves the token out.
impl fmt::Debug for MadeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeToken").field("view", &self.view).finish_non_exhaustive()
    }
}

/// The tokens of an edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct TokenList {
    pub tokens: Vec<TokenView>,
}
