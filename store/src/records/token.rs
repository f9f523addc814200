//! The bearer tokens of the edge's APIs. Only their hashes are stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The prefix of every token, by which people and secret scanners recognize one.
pub const TOKEN_PREFIX: &str = "berth_";

/// What a token permits. Each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Read everything except secrets.
    Read,
    /// Also deploy apps, and start and stop containers.
    Deploy,
    /// Everything, tokens included.
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

/// The id of a token: the first 8 bytes of its hash, which reveal nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenId([u8; 8]);

impl TokenId {
    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id as a number.
    pub fn number(&self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenId {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map(|()| Self(bytes))
    }
}

impl Serialize for TokenId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A token as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// Its name, for people.
    pub name: String,
    /// What it permits.
    pub scope: Scope,
    /// SHA-256 of the token, in hexadecimal. A token is random, so a slow hash would add nothing.
    pub hash: String,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was last used, in milliseconds since 1970, accurate to a minute.
    pub last_used_ms: Option<u64>,
}
