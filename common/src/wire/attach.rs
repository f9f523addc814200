//! The call by which an edge adds a data connection to a session: tunnels and questions flow there, so that nothing that
//! tenants do with them can delay the calls of the session itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{EdgeId, Epoch};

/// Bytes of a key.
const KEY_BYTES: usize = 16;

/// Introduces a data connection, as its first call. It lives no longer than the session that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The edge's name; must be the one in its certificate.
    pub edge: EdgeId,
    /// The epoch of the session.
    pub epoch: Epoch,
    /// Its shard.
    pub shard: u16,
    /// Its number.
    pub session: u64,
    /// The key in the session's `Welcome`.
    pub key: AttachKey,
}

/// Shows that who attaches a connection is who was welcomed. Made anew for each session; not shown in logs.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttachKey([u8; KEY_BYTES]);

impl AttachKey {
    /// A random key.
    #[cfg(feature = "runtime")]
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Debug for AttachKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttachKey")
    }
}

impl From<AttachKey> for String {
    fn from(key: AttachKey) -> Self {
        hex::encode(key.0)
    }
}

impl TryFrom<String> for AttachKey {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut bytes).map(|()| Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_form_and_is_not_shown() {
        let key = AttachKey([7; KEY_BYTES]);
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(text, format!("\"{}\"", "07".repeat(KEY_BYTES)));
        assert_eq!(serde_json::from_str::<AttachKey>(&text).unwrap(), key);
        assert!(serde_json::from_str::<AttachKey>("\"07\"").is_err());
        assert_eq!(format!("{key:?}"), "AttachKey");
    }
}
