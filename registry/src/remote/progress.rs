//! How far a pull or push is, for those who look now and then. Whoever works writes, whoever looks takes what has changed: so
//! a slow reader holds nobody up, and costs no memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_api::transfers::{Phase, Step};
use berth_common::image::Digest;

/// How far all blobs are. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Steps>>);

#[derive(Debug, Default)]
struct Steps {
    /// What has changed since somebody last looked.
    changed: BTreeMap<(Phase, Digest), Step>,
}

impl Progress {
    /// So much of a blob is there.
    pub(super) fn set(&self, phase: Phase, blob: Digest, done: u64, total: u64) {
        self.lock().changed.insert((phase, blob), Step { phase, blob, done, total });
    }

    /// What has changed since this was last asked.
    pub fn take(&self) -> Vec<Step> {
        std::mem::take(&mut self.lock().changed).into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
