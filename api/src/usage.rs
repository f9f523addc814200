//! What containers have taken: in sums, and record by record.

use std::collections::BTreeMap;

use berth_common::ids::{AppName, ClassName, Generation, InstanceId, NodeId, ObjectId, ObjectName};
use berth_common::outcome::ExitReason;
use serde::{Deserialize, Serialize};

/// Which time, and what is added up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct UsageParameters {
    /// From when on: milliseconds since 1970, or as in RFC 3339; the beginning of this month (UTC) unless given.
    pub from: Option<String>,
    /// Until when, which is not part of it; now unless given.
    pub to: Option<String>,
    /// What has a row of its own; apps unless given.
    #[cfg_attr(feature = "schema", param(inline))]
    pub by: Option<By>,
    /// Only this app.
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub app: Option<AppName>,
}

/// What has a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum By {
    Object,
    Class,
    #[default]
    App,
}

/// What containers have taken in a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UsageTable {
    /// From when on, in milliseconds since 1970.
    pub from_ms: u64,
    /// Until when.
    pub to_ms: u64,
    pub by: By,
    pub rows: Vec<UsageRow>,
    /// All rows together.
    pub total: UsageSums,
    /// Containers that live and whose nodes did not tell what they take: their CPU time and bytes are not in it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub untold: u64,
}

/// What one app, class or object has taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UsageRow {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    /// By class and by object.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub class: Option<ClassName>,
    /// By object.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub name: Option<ObjectName>,
    #[serde(flatten)]
    pub sums: UsageSums,
}

/// What containers have taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UsageSums {
    /// How many there were.
    pub instances: u64,
    /// How many of them still live.
    pub live: u64,
    /// Of how many the end is only estimated, because the node or what looks after its containers was killed.
    pub estimated: u64,
    /// How long they ran.
    pub instance_seconds: f64,
    /// CPU time that they used.
    pub vcpu_seconds: f64,
    /// Memory that they could have, for as long as they ran.
    pub memory_gib_seconds: f64,
    /// Disk that they could have, for as long as they ran.
    pub disk_gb_seconds: f64,
    /// Bytes that they sent to the internet and to clients.
    pub sent_bytes: u64,
    /// Of them, from each region.
    pub sent_bytes_by_region: BTreeMap<String, u64>,
    /// Bytes that they received.
    pub received_bytes: u64,
}

/// Some records, in the order of their ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecordPage {
    pub records: Vec<RecordView>,
    /// What to ask for the next ones with; null where there are no more.
    pub next_cursor: Option<String>,
}

/// The life of one container, which is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecordView {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub name: ObjectName,
    /// The object's id.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub object: ObjectId,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub instance: InstanceId,
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub generation: Generation,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub node: NodeId,
    /// The region of the node, where it is known.
    pub region: Option<String>,
    /// When its app was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it ran, in hundredths of a second.
    pub lived_cs: u64,
    /// CPU time that it used, in microseconds.
    pub cpu_us: u64,
    /// Memory that it could have.
    pub memory_bytes: u64,
    /// Disk that it could have.
    pub disk_bytes: u64,
    /// CPU that it could have, in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// Sent to the internet and to clients.
    pub sent_bytes: u64,
    /// Received from them.
    pub received_bytes: u64,
    pub reason: ExitReason,
    /// Its end is as near as could be told.
    pub estimated: bool,
}
