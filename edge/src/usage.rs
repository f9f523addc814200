//! Usage records of instances: how long they are kept. `sums` adds them up.

pub(crate) mod sums;

use std::sync::Arc;
use std::time::Duration;

use berth_common::clock::wall_ms;
use berth_store::{self as store, Store, StoreError, UsageKey, Write};

/// How long records are kept after the end of the instance: a year, and the time to settle its last month.
const KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// How often old records are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);
/// Most records that are removed at once: other writes must not wait longer for these than for each other.
const PRUNE_BATCH: usize = 128;

/// Removes old records, for as long as the edge runs.
pub(crate) async fn prune(store: Arc<dyn Store>) {
    loop {
        let limit = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        match prune_before(&store, wall_ms().saturating_sub(limit)).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "old usage records removed"),
            Err(error) => tracing::warn!(%error, "cannot remove old usage records"),
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

/// Removes the records of instances that ended before this time, and returns how many.
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
    use berth_store::SledStore;
    use berth_store::fixtures::life;

    use super::*;

    #[tokio::test]
    async fn old_records_are_removed_and_newer_ones_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(directory.path()).unwrap());
        // More than are removed at once.
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
