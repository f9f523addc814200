//! Events for hooks, with the state of their delivery.

use std::fmt;
use std::str::FromStr;

use berth_common::ids::{CallbackName, IdError, ObjectId};
use berth_engine::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of an event's number.
pub const NUMBER_BYTES: usize = 10;

/// The id of an event. The store numbers events in the order in which they are written, over all objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The object.
    pub object: ObjectId,
    /// The number, big-endian.
    pub number: [u8; NUMBER_BYTES],
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.object, hex::encode(self.number))
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (object, digits) = text.split_once('-').ok_or(IdError::NotHex)?;
        let mut number = [0; NUMBER_BYTES];
        hex::decode_to_slice(digits, &mut number).map_err(|_| IdError::NotHex)?;
        Ok(Self { object: object.parse()?, number })
    }
}

/// An event that was not delivered yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// What happened, and where it is posted.
    pub event: Event,
    /// The callback, for an event of a callback.
    #[serde(default)]
    pub callback: Option<Due>,
    /// How many times it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// Not to be tried before this, in milliseconds since 1970.
    #[serde(default)]
    pub next_ms: u64,
    /// Why the last try failed.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// The callback that an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The name of the callback; None for a cron.
    pub callback: Option<CallbackName>,
    /// The payload of the schedule.
    pub payload: Value,
    /// When it was due, in milliseconds since 1970.
    pub scheduled_ms: u64,
}

impl From<Event> for Delivery {
    fn from(event: Event) -> Self {
        Self { event, callback: None, attempts: 0, next_ms: 0, last_error: None }
    }
}
