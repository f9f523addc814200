//! The usage record: what one instance used during its life.

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectKey};
use berth_common::metering::STEP_MS;
use berth_common::outcome::ExitReason;
use serde::{Deserialize, Serialize};

/// What one instance used that ran. Written once, in the commit of the record that says that it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// The object that it was for.
    pub key: ObjectKey,
    /// The instance.
    pub instance: InstanceId,
    /// The object's generation that it was.
    pub generation: Generation,
    /// The node that it ran on.
    pub node: NodeId,
    /// The region of that node, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// When its app was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it lived, in steps of 10 ms.
    pub lived_cs: u64,
    /// CPU time that it used, in microseconds.
    pub cpu_us: u64,
    /// Its memory limit, in bytes.
    pub memory_bytes: u64,
    /// Its disk limit, in bytes.
    pub disk_bytes: u64,
    /// Its CPU limit, in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// Sent to the internet and to clients, in bytes.
    pub sent_bytes: u64,
    /// Received from them, in bytes.
    pub received_bytes: u64,
    /// Why it ended.
    pub reason: ExitReason,
    /// The end of its life is an estimate, because no node measured it.
    #[serde(default)]
    pub estimated: bool,
}

impl UsageRecord {
    /// When it ended, in milliseconds since 1970.
    pub fn ended_ms(&self) -> u64 {
        self.started_ms.saturating_add(self.lived_cs.saturating_mul(STEP_MS))
    }
}
