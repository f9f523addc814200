//! Why a request was refused: the same on call and on blob streams.

use serde::{Deserialize, Serialize};

use crate::outcome::shortened;

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what was tried, on what, what to do.
    pub message: String,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The node has no room.
    Capacity,
    /// The image is missing or damaged.
    Image,
    /// The call makes no sense.
    Invalid,
    /// The node takes no new instances.
    Draining,
    /// The call comes from an old session or is for an old generation.
    Stale,
    /// The instance belongs to another edge.
    NotOwner,
    /// No such instance.
    NoInstance,
    /// The call came after the term that it was for.
    Lapsed,
    /// A kind that a newer version knows.
    #[serde(other)]
    Other,
}

impl Refusal {
    /// The same with a message that is no longer than it may be.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { message: shortened(self.message), ..self }
    }
}
