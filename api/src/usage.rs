//! The resources that containers have used: sums, and records of single containers.

use std::collections::BTreeMap;

use berth_common::ids::{AppName, ClassName, Generation, InstanceId, NodeId, ObjectId, ObjectName};
use berth_common::outcome::ExitReason;
use serde::{Deserialize, Serialize};

/// The time window, and how to group.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct UsageParameters {
    /// Start of the window: milliseconds since 1970, or RFC 3339; by default the beginning of this month (UTC).
    pub from: Option<String>,
    /// End of the window, exclusive; now by default.
    pub to: Option<String>,
    /// What to group by; apps by default.
    #[cfg_attr(feature = "schema", param(inline))]
    pub by: Option<By>,
    /// Only this app.
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub app: Option<AppName>,
}

/// What each row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum By {
    Object,
    Class,
    #[default]
    App,
}

/// The resources that containers have used in a time window.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UsageTable {
    /// Start of the window, in milliseconds since 1970.
    pub from_ms: u64,
    /// End of the window, exclusive, in milliseconds since 1970.
    pub to_ms: u64,
    pub by: By,
    pub rows: Vec<UsageRow>,
    /// The sum over all rows.
    pub total: UsageSums,
    /// How many running containers are missing CPU time and traffic, because their nodes did not report in time.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub untold: u64,
}

/// The resources that the containers of one app, class or object have used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UsageRow {
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub app: AppName,
    /// Set when grouped by class or object.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub class: Option<ClassName>,
    /// Set when grouped by object.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub name: Option<ObjectName>,
    #[serde(flatten)]
    pub sums: UsageSums,
}

/// The resources that containers have used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UsageSums {
    /// How many containers.
    pub instances: u64,
    /// How many of them are still running.
    pub live: u64,
    /// For how many of them the end is only estimated, because the node or the container's shim was killed.
    pub estimated: u64,
    /// How long they ran, in seconds.
    pub instance_seconds: f64,
    /// CPU time that they used, in seconds of one virtual CPU.
    pub vcpu_seconds: f64,
    /// Memory limit times running time, in GiB (2^30 bytes) times seconds.
    pub memory_gib_seconds: f64,
    /// Disk limit times running time, in GB (10^9 bytes) times seconds.
    pub disk_gb_seconds: f64,
    /// Bytes sent to the internet and to clients.
    pub sent_bytes: u64,
    /// Of these, bytes sent from each region.
    pub sent_bytes_by_region: BTreeMap<String, u64>,
    /// Bytes received from the internet and from clients.
    pub received_bytes: u64,
}

/// A page of records, ordered by the end of the containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RecordPage {
    pub records: Vec<RecordView>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// The usage of one container that has ended.
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
    /// The region of the node, if it is known.
    pub region: Option<String>,
    /// When its app was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it ran, in hundredths of a second.
    pub lived_cs: u64,
    /// CPU time that it used, in microseconds.
    pub cpu_us: u64,
    /// Memory limit, in bytes.
    pub memory_bytes: u64,
    /// Disk limit, in bytes.
    pub disk_bytes: u64,
    /// CPU limit, in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// Bytes sent to the internet and to clients.
    pub sent_bytes: u64,
    /// Bytes received from the internet and from clients.
    pub received_bytes: u64,
    pub reason: ExitReason,
    /// Whether the time of the end is only estimated.
    pub estimated: bool,
}
