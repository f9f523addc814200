//! Alarms, schedules and pending cron runs of objects.

use berth_common::ids::{CallbackName, ObjectKey, ScheduleId};
use berth_common::spec::Action;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An action of an object at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its id among those of the object.
    pub id: ScheduleId,
    /// The object.
    pub key: ObjectKey,
    /// The action.
    pub what: What,
    /// The payload that it was created with.
    #[serde(default)]
    pub payload: Value,
    /// When it was scheduled for, in milliseconds since 1970.
    pub scheduled_ms: u64,
    /// When it is tried next, in milliseconds since 1970; None once it has failed too often.
    pub due_ms: Option<u64>,
    /// How many times it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// Why the last try failed.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The callback of this name, as the object's class then declares it.
    Callback(CallbackName),
    /// The action of a cron, as declared when it was due.
    Cron(Action),
    /// The app's program is called for its cron with this expression.
    Program(String),
    /// The alarm of an object of the app's program: its `alarm` is called.
    Alarm {
        /// The name that the object's id was made of, if it was made of one.
        name: Option<String>,
    },
}

impl Schedule {
    /// Whether it can be removed after its last failure: a cron has a next run anyway, and a program sets its alarms itself.
    pub fn is_over(&self) -> bool {
        self.due_ms.is_none() && matches!(self.what, What::Cron(_) | What::Program(_) | What::Alarm { .. })
    }

    /// Whether it is the alarm of its object.
    pub fn is_alarm(&self) -> bool {
        self.id == ScheduleId::ALARM
    }
}
