//! An order to start a container, and the error if it fails.

use berth_common::ids::{EdgeId, Epoch};
use berth_common::wire::call::{RefusalCode, Start};
use berth_shim::terms::Slot;
use serde::{Deserialize, Serialize};

/// An order to start, with its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The edge's request.
    pub start: Start,
    /// The edge that owns the instance.
    pub owner: EdgeId,
    /// The owner's epoch when it asked.
    pub epoch: Epoch,
    /// The slot of the owner's term, if terms are kept on the node.
    #[serde(default)]
    pub term_slot: Option<Slot>,
}

/// Why a container was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LaunchError {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what was tried, on what, what to do.
    pub message: String,
}

impl LaunchError {
    /// An error with its kind and text.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
