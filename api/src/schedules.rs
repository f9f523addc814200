//! Alarms, schedules and crons of objects.

use berth_common::ids::{AppName, CallbackName, ClassName, ObjectName, ScheduleId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A callback to run at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// When, in milliseconds since 1970; exactly one of `at_ms` and `after_ms`.
    pub at_ms: Option<u64>,
    /// In how many milliseconds from now; exactly one of `at_ms` and `after_ms`.
    pub after_ms: Option<u64>,
    /// The name of the class's callback; `alarm` by default for an alarm.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub callback: Option<CallbackName>,
    /// JSON of up to 64 KiB that is passed to the callback.
    #[serde(default)]
    pub payload: Value,
    /// App, class and name of the object: needed if the object has never had a container.
    pub object: Option<ObjectNames>,
}

/// App, class and name of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ObjectNames {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    pub name: ObjectName,
}

/// A callback that is to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ScheduleView {
    /// The id of the schedule; null for an alarm.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub id: Option<ScheduleId>,
    /// The name of the callback; null if it comes from a cron.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub callback: Option<CallbackName>,
    pub payload: Value,
    /// When it was scheduled for, in milliseconds since 1970.
    pub scheduled_ms: u64,
    /// When it is tried next, in milliseconds since 1970; null once it has failed too often.
    pub due_ms: Option<u64>,
    /// How many times it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

/// A page of an object's schedules, in the order of their ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SchedulePage {
    pub schedules: Vec<ScheduleView>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// The crons of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CronList {
    pub crons: Vec<CronView>,
}

/// A cron.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CronView {
    pub cron: String,
    /// The object's class; empty where the app's program is called.
    pub class: String,
    /// The object's name; empty where the app's program is called.
    pub object: String,
    /// What it does: `request`, `start` or `hook`; `scheduled` calls the handler of that name of the app's program.
    pub action: String,
    /// When it was last due, in milliseconds since 1970; null if it never was.
    pub last_ms: Option<u64>,
    /// When it is next due, in milliseconds since 1970.
    pub next_ms: Option<u64>,
}
