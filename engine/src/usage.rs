//! What one instance has taken, as it is kept: the interval that it lived, and by whose rules.

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectKey};
use berth_common::metering::STEP_MS;
use berth_common::outcome::ExitReason;
use serde::{Deserialize, Serialize};

/// The life of one instance that ran. Written once, together with the record that says that it ended.
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
    /// The region of that node, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// When its app was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it lived, in steps of 10 ms.
    pub lived_cs: u64,
    /// CPU time that it took, in microseconds.
    pub cpu_us: u64,
    /// Memory that it could have, in bytes.
    pub memory_bytes: u64,
    /// Disk that it could have, in bytes.
    pub disk_bytes: u64,
    /// CPU that it could have, in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// Sent to the internet and to clients, in bytes.
    pub sent_bytes: u64,
    /// Received from them, in bytes.
    pub received_bytes: u64,
    /// Why it ended.
    pub reason: ExitReason,
    /// The end of its life is as near as could be told.
    #[serde(default)]
    pub estimated: bool,
}

impl UsageRecord {
    /// When it ended, in milliseconds since 1970.
    pub fn ended_ms(&self) -> u64 {
        self.started_ms.saturating_add(self.lived_cs.saturating_mul(STEP_MS))
    }
}
