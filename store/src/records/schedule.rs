//! Something that an object is to do at a time.

use berth_common::ids::{CallbackName, ObjectKey, ScheduleId};
use berth_common::spec::Action;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that an object is to do at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name among what the object is to do.
    pub id: ScheduleId,
    /// The object.
    pub key: ObjectKey,
    /// What is to be done.
    pub what: What,
    /// What it was declared with.
    #[serde(default)]
    pub payload: Value,
    /// When it is meant for, in milliseconds since 1970.
    pub scheduled_ms: u64,
    /// When it is tried next; None once it has been tried often enough.
    pub due_ms: Option<u64>,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// Why the last try failed.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// What the object's class, as it is then, says under this name.
    Callback(CallbackName),
    /// What a cron said when it was due.
    Cron(Action),
}

impl Schedule {
    /// Whether nobody will look at it any more: a cron's next one comes by itself.
    pub fn is_over(&self) -> bool {
        self.due_ms.is_none() && matches!(self.what, What::Cron(_))
    }

    /// Whether it is the one alarm of its object.
    pub fn is_alarm(&self) -> bool {
        self.id == ScheduleId::ALARM
    }
}
