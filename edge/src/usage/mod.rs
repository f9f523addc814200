//! What instances have taken: the key of each record, how long records are kept; `sums` is what they come to, `live`
//! what instances have taken that are not over.

pub(crate) mod live;
pub(crate) mod sums;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use berth_common::ids::InstanceId;
use berth_engine::UsageRecord;

use crate::clock::wall_ms;
use crate::store::{self, Store, StoreError, Write};

/// How long records are kept after the end that they tell of: a year, and what it takes to settle its last month.
const KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// How often old ones are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);
/// Most that are removed at once: other writes wait no longer for it than for each other.
const PRUNE_BATCH: usize = 128;

/// Names the record of one instance's life, and orders them by their ends: the same life has the same key each time that it
/// is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UsageKey {
    ended_ms: u64,
    instance: InstanceId,
}

/// Length of a key, in bytes.
const KEY_BYTES: usize = 8 + 16;

impl UsageKey {
    pub(crate) fn of(record: &UsageRecord) -> Self {
        Self { ended_ms: record.ended_ms(), instance: record.instance }
    }

    /// Before all records of lives that ended at this moment or later.
    pub(crate) fn at(ended_ms: u64) -> Self {
        Self { ended_ms, instance: InstanceId::from_bytes([0; 16]) }
    }

    pub(crate) fn ended_ms(self) -> u64 {
        self.ended_ms
    }

    pub(crate) fn to_bytes(self) -> [u8; KEY_BYTES] {
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

/// Not what an answer gave as `next_cursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no cursor: give the `next_cursor` of the page before")]
pub(crate) struct NoCursor;

impl FromStr for UsageKey {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (ended_ms, instance) = text.split_once('-').ok_or(NoCursor)?;
        let ended_ms = ended_ms.parse().map_err(|_| NoCursor)?;
        Ok(Self { ended_ms, instance: instance.parse().map_err(|_| NoCursor)? })
    }
}

/// Removes records that are old enough, for as long as the edge runs.
pub(crate) async fn prune(store: Arc<dyn Store>) {
    loop {
        let limit = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        match prune_before(&store, wall_ms().saturating_sub(limit)).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old records of usage removed"),
            Err(error) => tracing::warn!(%error, "old records of usage not removed"),
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

/// Removes the records of lives that ended before, and tells how many.
async fn prune_before(store: &Arc<dyn Store>, limit_ms: u64) -> Result<usize, StoreError> {
    let mut removed = 0;
    loop {
        let reader = Arc::clone(store);
        let oldest = tokio::task::spawn_blocking(move || reader.usage(None, PRUNE_BATCH)).await;
        let oldest = oldest.map_err(|error| StoreError::Io(error.to_string()))??;
        let keys = oldest.iter().map(UsageKey::of).filter(|key| key.ended_ms() < limit_ms);
        let old: Vec<_> = keys.collect();
        if old.is_empty() {
            return Ok(removed);
        }
        removed += old.len();
        store::write(&**store, Write::RemoveUsage(old)).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SledStore;
    use crate::store::tests::life;

    #[test]
    fn keys_are_in_the_order_of_ends_and_survive_their_text() {
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

    #[tokio::test]
    async fn old_records_go_and_newer_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(directory.path()).unwrap());
        // More than go at once.
        for n in 0..300 {
            store::write(&*store, Write::Usage(Box::new(life(n, u64::from(n) * 1_000)))).await.unwrap();
        }
        assert_eq!(prune_before(&store, 200_000).await.unwrap(), 200);
        let left = store.usage(None, 1_000).unwrap();
        assert_eq!(left.len(), 100);
        assert!(left.iter().all(|record| record.ended_ms() >= 200_000));
        assert_eq!(prune_before(&store, 200_000).await.unwrap(), 0);
    }
}
