//! The progress of a transfer. The transfer updates it, and a reader takes what has changed: so a slow reader delays
//! nothing, and costs no memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_api::transfers::{Phase, Step};
use berth_common::image::Digest;

/// The progress of all blobs. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Steps>>);

#[derive(Debug, Default)]
struct Steps {
    /// The steps that have changed since they were last taken.
    changed: BTreeMap<(Phase, Digest), Step>,
}

impl Progress {
    /// This many bytes of a blob were transferred.
    pub(super) fn set(&self, phase: Phase, blob: Digest, done: u64, total: u64) {
        self.lock().changed.insert((phase, blob), Step { phase, blob, done, total });
    }

    /// Takes the steps that have changed since the last call.
    pub fn take(&self) -> Vec<Step> {
        std::mem::take(&mut self.lock().changed).into_values().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
