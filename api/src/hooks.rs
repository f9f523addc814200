//! Events that hooks are still to be told, and those that they could not be told.

use berth_common::ids::{CallbackName, ObjectId};
use berth_common::spec::HookKind;
use serde::{Deserialize, Serialize};

/// Some events.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventPage {
    pub events: Vec<EventView>,
    /// What to ask for the next ones with; null where there are no more.
    pub next_cursor: Option<String>,
}

/// An event that was not told.
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
    /// Of a callback.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub callback: Option<CallbackName>,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// Where it is told.
    pub url: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Not tried before this, in milliseconds since 1970.
    pub next_ms: u64,
    /// Why the last try failed.
    pub last_error: Option<String>,
}
