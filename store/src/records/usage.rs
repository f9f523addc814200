//! The key of an instance's usage record.

use std::fmt;
use std::str::FromStr;

use berth_common::ids::InstanceId;
use berth_engine::UsageRecord;

/// The key of the usage record of one instance, ordered by the end of the instance. Writing a record again gives the
/// same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageKey {
    ended_ms: u64,
    instance: InstanceId,
}

/// Length of a key, in bytes.
const KEY_BYTES: usize = 8 + 16;

impl UsageKey {
    /// The key of this record.
    pub fn of(record: &UsageRecord) -> Self {
        Self { ended_ms: record.ended_ms(), instance: record.instance }
    }

    /// The key of the record of this instance, which ended then.
    pub(crate) fn new(ended_ms: u64, instance: InstanceId) -> Self {
        Self { ended_ms, instance }
    }

    /// The instance.
    pub(crate) fn instance(self) -> InstanceId {
        self.instance
    }

    /// Sorts before all records of instances that ended at this time or later.
    pub fn at(ended_ms: u64) -> Self {
        Self { ended_ms, instance: InstanceId::from_bytes([0; 16]) }
    }

    /// When the instance ended, in milliseconds since 1970.
    pub fn ended_ms(self) -> u64 {
        self.ended_ms
    }

    /// The bytes in the store, which sort like the keys.
    pub fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..8].copy_from_slice(&self.ended_ms.to_be_bytes());
        bytes[8..].copy_from_slice(self.instance.as_bytes());
        bytes
    }
}

impl fmt::Display for UsageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ended_ms, self.instance)
    }
}

/// The text is not a `next_cursor` of this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor: give the `next_cursor` of the previous page")]
pub struct NoCursor;

impl FromStr for UsageKey {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (ended_ms, instance) = text.split_once('-').ok_or(NoCursor)?;
        let ended_ms = ended_ms.parse().map_err(|_| NoCursor)?;
        Ok(Self { ended_ms, instance: instance.parse().map_err(|_| NoCursor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_end_and_survive_a_round_trip() {
        let keys = [(255, 9), (256, 1), (256, 2), (1 << 40, 0)];
        let keys =
            keys.map(|(ended_ms, byte)| UsageKey { ended_ms, instance: InstanceId::from_bytes([byte; 16]) });
        assert!(keys.windows(2).all(|pair| pair[0].to_bytes() < pair[1].to_bytes()));
        for key in keys {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for bad in ["", "7", "7-", "x-00", "-00112233445566778899aabbccddeeff"] {
            assert_eq!(bad.parse::<UsageKey>(), Err(NoCursor), "{bad}");
        }
    }
}
