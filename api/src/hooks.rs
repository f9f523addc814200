//! Events that wait for delivery to a hook, and those whose delivery failed.

use berth_common::ids::{CallbackName, ObjectId};
use berth_common::spec::HookKind;
use serde::{Deserialize, Serialize};

/// A page of events.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventPage {
    pub events: Vec<EventView>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// An event that was not delivered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventView {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: HookKind,
    pub app: String,
    pub class: String,
    pub name: String,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub object: ObjectId,
    /// The name of the callback, for an event of a callback.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub callback: Option<CallbackName>,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// The URL that it is posted to.
    pub url: String,
    /// How many deliveries were tried.
    pub attempts: u32,
    /// The next try is not before this, in milliseconds since 1970.
    pub next_ms: u64,
    /// Why the last try failed.
    pub last_error: Option<String>,
}
