//! How far a pull or push is, for those who look now and then. Whoever works writes, whoever looks takes what has changed: so
//! a slow reader holds nobody up, and costs no memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_common::image::Digest;
use serde::Serialize;
use utoipa::ToSchema;

/// Which way a blob goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// From another registry.
    Pull,
    /// To another registry.
    Push,
}

/// How far one blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    phase: Phase,
    /// Its digest.
    #[schema(value_type = String)]
    blob: Digest,
    /// Bytes that are there.
    done: u64,
    /// Bytes that it has.
    total: u64,
}

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
