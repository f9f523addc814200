//! What objects are to do at a time.

use berth_common::ids::{AppName, CallbackName, ClassName, ObjectName, ScheduleId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something to be done at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// When, in milliseconds since 1970; or else `after_ms`.
    pub at_ms: Option<u64>,
    /// In how many milliseconds.
    pub after_ms: Option<u64>,
    /// The callback of the class. An alarm's is `alarm` unless given.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub callback: Option<CallbackName>,
    /// Any JSON of up to 64 KiB, which the callback gets.
    #[serde(default)]
    pub payload: Value,
    /// What the object is called: needed where it has never had a container.
    pub object: Option<ObjectNames>,
}

/// What an object is called.
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

/// Something that is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ScheduleView {
    /// Null for an alarm.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub id: Option<ScheduleId>,
    /// Null where a cron has it done.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub callback: Option<CallbackName>,
    pub payload: Value,
    /// When it is meant for, in milliseconds since 1970.
    pub scheduled_ms: u64,
    /// When it is tried next; null once it has failed too often.
    pub due_ms: Option<u64>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

/// Schedules of an object, in the order of their ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SchedulePage {
    pub schedules: Vec<ScheduleView>,
    /// What to ask for the next ones with; null where there are no more.
    pub next_cursor: Option<String>,
}

/// Crons of an app.
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
    pub class: String,
    pub object: String,
    /// `request`, `start` or `hook`
    pub action: String,
    /// When it was due last, in milliseconds since 1970; null where it never was.
    pub last_ms: Option<u64>,
    /// When it is due next.
    pub next_ms: Option<u64>,
}
