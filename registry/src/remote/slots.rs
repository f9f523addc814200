//! Partial downloads of blobs: one per blob, shared by all pulls that need it.
//!
//! A partial download belongs to its slot and not to the task that works on it. A task that is cancelled leaves it
//! there: the next task that needs the blob, or waits for it already, resumes it. After a while without work it is
//! removed. Its bytes outlive the edge, and are resumed by the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_api::transfers::Phase;
use berth_common::image::Digest;
use berth_images::manifest::Descriptor;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

use super::progress::Progress;
use crate::content::Upload;

/// How long a partial download is kept that no task works on.
const KEPT: Duration = Duration::from_secs(600);
/// Most partial downloads: with more, those that no task works on are removed.
const MAX_SLOTS: usize = 64;

/// The bytes of a blob so far, and the number of responses that they came from.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) upload: Option<Upload>,
    pub(super) answers: u32,
}

impl Partial {
    /// Removes the bytes.
    pub(super) fn discard(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.discard();
        }
        self.answers = 0;
    }
}

pub(super) type Guard = OwnedMutexGuard<Partial>;

/// A blob that is or was being downloaded.
struct Slot {
    /// The task that holds the lock works on the blob alone, for as long as it takes, by design.
    partial: Arc<AsyncMutex<Partial>>,
    /// The length so far, for waiting tasks.
    length: watch::Sender<u64>,
}

/// All downloads of an edge. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Downloads(Arc<Mutex<HashMap<Digest, Arc<Slot>>>>);

/// A claim to the slot of a blob, for as long as a task needs it.
pub(super) struct Claim {
    downloads: Downloads,
    digest: Digest,
    slot: Arc<Slot>,
}

impl Downloads {
    pub(super) fn claim(&self, digest: Digest) -> Claim {
        let mut slots = self.lock();
        if slots.len() >= MAX_SLOTS {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let new = || Arc::new(Slot { partial: Arc::default(), length: watch::Sender::new(0) });
        let slot = Arc::clone(slots.entry(digest).or_insert_with(new));
        Claim { downloads: self.clone(), digest, slot }
    }

    /// Removes a slot without claims.
    fn forget(&self, digest: &Digest) {
        let mut slots = self.lock();
        // Each claim holds a reference too.
        let unused = slots.get(digest).is_some_and(|slot| Arc::strong_count(slot) == 1);
        let slot = if unused { slots.remove(digest) } else { None };
        // Under the lock: a new claim would resume the file by its name.
        if let Some(slot) = slot
            && let Ok(mut partial) = slot.partial.try_lock()
        {
            partial.discard();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl Claim {
    /// Tells waiting tasks the length so far.
    pub(super) fn publish_length(&self, length: u64) {
        self.slot.length.send_replace(length);
    }

    /// Waits until no other task works on the blob, and updates the progress meanwhile.
    pub(super) async fn work(&self, blob: &Descriptor, progress: &Progress) -> Guard {
        let mut length = self.slot.length.subscribe();
        let waiting = Arc::clone(&self.slot.partial).lock_owned();
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                biased;
                guard = &mut waiting => return guard,
                Ok(()) = length.changed() => {
                    progress.set(Phase::Pull, blob.digest, *length.borrow_and_update(), blob.size);
                }
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (downloads, digest) = (self.downloads.clone(), self.digest);
        let something = self.slot.partial.try_lock().map_or(true, |partial| partial.upload.is_some());
        match tokio::runtime::Handle::try_current().ok().filter(|_| something) {
            Some(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(KEPT).await;
                downloads.forget(&digest);
            })),
            None => {
                let mut slots = downloads.lock();
                // One reference is the map's, and one is this claim's.
                if slots.get(&digest).is_some_and(|slot| Arc::strong_count(slot) <= 2) {
                    slots.remove(&digest);
                }
            }
        }
    }
}
