//! Terms: until when instances may run without a further word of their edge, on the clock of their node.
//!
//! ```text
//! agent ── stamp: its boot, its clock ──▶ edge ── until: that stamp + the length of a term ──▶ agent
//! ```
//!
//! A term is made from a reading that the node gave, and from nothing else: a renewal or a start that was delayed on the way
//! is worth less for it, and never more. No two clocks are compared, and none has to be right.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes of a boot id.
pub const BOOT_ID_BYTES: usize = 16;

/// One boot of a machine, by a random id of its kernel. Only times of one boot are comparable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId([u8; BOOT_ID_BYTES]);

impl BootId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; BOOT_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; BOOT_ID_BYTES] {
        &self.0
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootId({})", hex::encode(self.0))
    }
}

impl From<BootId> for String {
    fn from(boot: BootId) -> Self {
        hex::encode(boot.0)
    }
}

impl TryFrom<String> for BootId {
    type Error = hex::FromHexError;
    /// Dashes, as the kernel writes them, are skipped.
    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; BOOT_ID_BYTES];
        hex::decode_to_slice(text.replace('-', ""), &mut bytes).map(|()| Self(bytes))
    }
}

/// A moment on the clock of a node that goes on while its machine is suspended (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The boot of its machine.
    pub boot: BootId,
    /// Milliseconds since that boot.
    pub ms: u64,
}

impl Stamp {
    /// The moment this much later, saturating.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let later = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { ms: self.ms.saturating_add(later), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_its_text_form_and_a_boot_id_is_read_as_kernels_write_it() {
        let boot = BootId::from_bytes([0xab; BOOT_ID_BYTES]);
        let stamp = Stamp { boot, ms: 7 };
        let text = serde_json::to_string(&stamp).unwrap();
        assert_eq!(text, format!(r#"{{"boot":"{}","ms":7}}"#, "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<Stamp>(&text).unwrap(), stamp);
        let dashed = "abababab-abab-abab-abab-abababababab".to_owned();
        assert_eq!(BootId::try_from(dashed).unwrap(), boot);
        assert!(BootId::try_from("ab".to_owned()).is_err());
        assert_eq!(Stamp { boot, ms: u64::MAX - 1 }.after(Duration::from_secs(1)).ms, u64::MAX);
    }
}
