//! The messages of call streams, edge to agent. One call per stream.
//!
//! ```text
//! Hello  -> Welcome            first on every connection: introduces both sides and the session
//! Watch  -> Update* Synced (Update | Draining)*   for as long as the connection lives: the state of every instance of
//!                              this owner, and whether the node takes new ones
//! Start  -> Accepted | Refused later states of the instance arrive as Updates
//! Stop   -> Done               signal, then SIGKILL after the grace
//! Forget -> Done               the edge has stored how these instances ended: the agent may forget them
//! Renew  -> Renewed | Refused  the owner is alive: its instances may go on until then (`term`)
//! Resume -> Done | Refused     instances that were frozen when their term was over are still wanted: they go on
//! Usage  -> Usage | Refused    current usage of one instance
//! Logs   -> Logs* | Refused    output of instances, and with `follow` their later output
//! Room   -> Room | Refused     what is taken of the node's room, by all edges
//! Prepare -> Done              the containers to keep prepared from now on; best effort
//! Deliver -> Done ...          instead of Hello, on a connection for images: see `images`
//! Attach -> Done               instead of Hello, on the data connection of a session: see `attach`
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{EdgeId, Epoch, Generation, InstanceId, NodeId, ObjectId, ObjectKey};
use crate::image::Architecture;
use crate::metering::Metered;
use crate::outcome::Outcome;
use crate::spec::{LogSpec, Recipe};
use crate::wire::attach::{Attach, AttachKey};
use crate::wire::images::Deliver;
use crate::wire::logs::{LogBatch, ReadLogs};
use crate::wire::term::Stamp;

pub use crate::wire::refusal::{Refusal, RefusalCode};

/// An order or question of an edge to an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Introduces the edge; must be the first call of a connection.
    Hello(Hello),
    /// Subscribes to the state of this edge's instances.
    Watch,
    /// Starts an instance.
    Start(Box<Start>),
    /// Ends an instance.
    Stop(Stop),
    /// Sends a signal to an instance without ending it.
    Signal(Signal),
    /// Forgets ended instances.
    Forget(Forget),
    /// Renews the terms of this edge's instances. Does not thaw those that are frozen.
    Renew(Renew),
    /// Thaws instances.
    Resume(Resume),
    /// Asks for the current usage of an instance.
    Usage(AskUsage),
    /// Reads the output of instances.
    Logs(ReadLogs),
    /// Asks what is taken of the node's room.
    Room,
    /// Sets which containers the node should keep prepared.
    Prepare(Prepare),
    /// Introduces a connection for images, on which it is the only call.
    Deliver(Deliver),
    /// Introduces the data connection of a session.
    Attach(Attach),
}

/// An agent's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `Hello`.
    Welcome(Welcome),
    /// To `Watch`: the state of one instance.
    Update(InstanceStatus),
    /// To `Watch`: all existing instances have been reported.
    Synced,
    /// To `Watch`: whether the node refuses new instances from now on.
    Draining(bool),
    /// To `Start`: the instance will be started, or was started already.
    Accepted,
    /// It was done.
    Done,
    /// To `Usage`.
    Usage(Usage),
    /// To `Room`.
    Room(Room),
    /// To `Renew`, if it was made from a stamp.
    Renewed(Renewed),
    /// To `Logs`, any number of times.
    Logs(LogBatch),
    /// The call cannot be carried out.
    Refused(Refusal),
}

/// Introduces an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The edge's name; must be the one in its certificate.
    pub edge: EdgeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Which of the edge's shards this connection serves. One connection per shard.
    pub shard: u16,
    /// Number of this connection among those of the shard in this epoch. The agent closes lower ones
    /// and refuses their pending starts, so that nothing sent on an old connection takes effect late.
    pub session: u64,
    /// Version of the edge's software, for logs.
    pub version: String,
    /// Whether it will attach a data connection, and so sends tunnels and questions on that one only.
    #[serde(default)]
    pub attach: bool,
}

/// Introduces an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The node's name; must be the one in its certificate.
    pub node: NodeId,
    /// Version of the agent's software, for logs.
    pub version: String,
    /// The node's total capacity.
    pub capacity: Capacity,
    /// The disks that it has for instances.
    #[serde(default)]
    pub disk: DiskCapacity,
    /// Whether the node refuses new instances.
    pub draining: bool,
    /// For how long, in milliseconds, it has lost no records: an instance that was started since then and that it does
    /// not know never ran.
    #[serde(default)]
    pub kept_for_ms: Option<u64>,
    /// Its region.
    #[serde(default)]
    pub region: Option<String>,
    /// What its owner has labelled it with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The key for attaching a data connection, if the edge means to do so. An older agent gives none: then everything
    /// flows on this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<AttachKey>,
    /// What time it is on the node, for the first terms. An older agent gives none, and so does one whose supervisor is older:
    /// terms are not kept there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// How many instances an edge may have it start at once: further starts wait at the edge. An older agent does not say: it gets
    /// all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at_once: Option<u32>,
    /// The architecture of its programs. If an older agent does not report it, every image is taken to run there.
    #[serde(default)]
    pub architecture: Option<Architecture>,
}

/// What a node can hold.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Memory for instances, in bytes.
    pub memory_bytes: u64,
    /// CPU for instances, in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// Number of instances.
    pub instances: u32,
}

/// Which disks the instances of a node can have.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCapacity {
    /// What holds an instance to its size.
    pub limit: DiskLimit,
    /// Whether disks in memory work on this node.
    #[serde(default)]
    pub in_memory: bool,
    /// How many disks of which size there are, the smallest first.
    #[serde(default)]
    pub slots: Vec<DiskSlots>,
    /// How many of them could not be wiped, and are not used until root has made them anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub broken: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_not_set(set: &bool) -> bool {
    !*set
}

/// Disks of one size.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSlots {
    /// Size of each, in bytes.
    pub bytes: u64,
    /// How many there are.
    pub count: u32,
}

/// What is taken of a node's room, by the instances of all edges and by prepared containers.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// What its instances have reserved.
    pub used: Capacity,
    /// Containers that are prepared. They give way to instances.
    pub prepared: u32,
    /// The disk slots that can be given out, the smallest first.
    #[serde(default)]
    pub slots: Vec<SlotRoom>,
}

/// Disk slots of one size that can be given out.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRoom {
    /// Size of each, in bytes.
    pub bytes: u64,
    /// How many there are.
    pub count: u32,
    /// How many instances have, or have had and that are not wiped yet.
    pub used: u32,
    /// How many prepared containers have.
    pub prepared: u32,
}

/// What holds an instance to the size of its disk.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskLimit {
    /// Nothing does, and the node's owner said that this is well.
    #[default]
    Unenforced,
    /// Quotas of the file system, one for each slot.
    ProjectQuota,
    /// A file system of its own in each slot.
    Loop,
    /// Nothing can: only instances with a disk in memory run.
    None,
    /// A way that a newer version knows.
    #[serde(other)]
    Unknown,
}

impl std::fmt::Display for DiskLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unenforced => "unenforced",
            Self::ProjectQuota => "project quota",
            Self::Loop => "loop",
            Self::None => "none",
            Self::Unknown => "unknown",
        })
    }
}

/// Starts an instance.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The new instance's id.
    pub instance: InstanceId,
    /// The object that it is for.
    pub object: ObjectKey,
    /// The object's generation that this instance is.
    pub generation: Generation,
    /// For an agent that knows no stamps: how long the instance may live without hearing from its owner, in milliseconds. It
    /// only observes that.
    pub term_ms: u64,
    /// Until when this order counts, and with it the instance's first term. An older edge gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Stamp>,
    /// What its container is made from.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// The port that must accept a connection before the instance is ready. Without one it is ready as soon as it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_port: Option<u16>,
    /// Further ports that must accept a connection before that.
    #[serde(default)]
    pub required_ports: Vec<u16>,
    /// A path on the first port that must be answered over HTTP with a status below 500 before that.
    #[serde(default)]
    pub ping_endpoint: Option<String>,
    /// How its output is kept.
    #[serde(default)]
    pub logs: LogSpec,
}

/// Leaves the values of the environment out: they may be secrets.
impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start")
            .field("instance", &self.instance)
            .field("object", &self.object)
            .field("generation", &self.generation)
            .field("recipe", &self.recipe)
            .finish_non_exhaustive()
    }
}

/// The containers that a node should keep prepared. Replaces the edge's last call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// One for each recipe.
    pub stocks: Vec<PrepareTarget>,
}

/// How many containers of one recipe to keep prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrepareTarget {
    /// What they are made from.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// How many.
    pub count: u32,
}

/// Sends a signal to an instance, which runs on unless the signal ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The instance.
    pub instance: InstanceId,
    /// Signal to its first process, by number.
    pub signal: i32,
}

/// Ends an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The instance.
    pub instance: InstanceId,
    /// Signal to its first process, by number. SIGKILL ends it at once.
    pub signal: i32,
    /// How long after the signal SIGKILL follows, in milliseconds.
    pub grace_ms: u64,
}

/// Forgets ended instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The instances, all ended.
    pub instances: Vec<InstanceId>,
}

/// Renews terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// For an agent that knows no stamps: the length of each new term, in milliseconds. It only observes that.
    pub term_ms: u64,
    /// Until when the instances may go on: a stamp of the node, and the length of a term. An older edge gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Stamp>,
}

/// What a renewal is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// What time it is on the node, for the next renewal.
    pub stamp: Stamp,
}

/// Thaws instances whose record is still this edge's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The instances. What is not frozen, or not there, is passed over.
    pub instances: Vec<InstanceId>,
    /// Until when this order counts: what arrives later changes nothing.
    pub until: Stamp,
}

/// Asks for the current usage of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskUsage {
    /// The instance.
    pub instance: InstanceId,
}

/// The current usage of an instance, and its totals since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Memory now, in bytes, caches of files included.
    pub memory_bytes: u64,
    /// Writable disk now, in bytes, if the node can measure it.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// Received from the internet and through the tunnel, in bytes.
    pub received_bytes: u64,
    /// Sent to the internet and through the tunnel, in bytes.
    pub sent_bytes: u64,
    /// When its app was started, in milliseconds since 1970, if it was.
    #[serde(default)]
    pub started_ms: Option<u64>,
    /// How long ago that was, in steps of 10 ms, on a monotonic clock.
    #[serde(default)]
    pub lived_cs: Option<u64>,
}

/// The state of one instance on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// The instance.
    pub instance: InstanceId,
    /// The object that it is for.
    pub object: ObjectId,
    /// The object's generation that it is.
    pub generation: Generation,
    /// Its phase.
    pub phase: Phase,
    /// Whether it is frozen, because its term was over: it goes on when its edge says so (`Resume`).
    #[serde(default, skip_serializing_if = "is_not_set")]
    pub frozen: bool,
    /// Its usage, set with `Exited` if it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<Metered>,
}

/// The phase of an instance's life. It goes on to a later one or to `Exited`, never back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its container is being made.
    Starting,
    /// The app runs; its port does not answer yet.
    Running,
    /// The required ports and the ping endpoint answer.
    Ready,
    /// A signal to end was sent.
    Stopping,
    /// It ended; only this record is left.
    Exited(Outcome),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_of_a_newer_peer_are_skipped() {
        let text =
            r#"{"stop":{"instance":"000102030405060708090a0b0c0d0e0f","signal":15,"grace_ms":1,"new":true}}"#;
        let Call::Stop(stop) = serde_json::from_str(text).unwrap() else { panic!("not a stop") };
        assert_eq!(stop.signal, 15);
    }

    #[test]
    fn unknown_kinds_of_a_newer_peer_are_kept_apart() {
        let refusal: Refusal = serde_json::from_str(r#"{"code":"tired","message":"m"}"#).unwrap();
        assert_eq!(refusal.code, RefusalCode::Other);
        assert!(serde_json::from_str::<Call>(r#"{"dance":{}}"#).is_err());
    }

    #[test]
    fn a_start_shown_for_debugging_hides_values() {
        let start: Start = serde_json::from_str(
            r#"{"instance":"000102030405060708090a0b0c0d0e0f",
                "object":{"app":"a","class":"b","name":"c"},"generation":1,"term_ms":1,
                "image":{"repository":"x","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"},"env":{"KEY":"hidden-value"},
                "resources":{"cpu_sixteenths":1,"memory_bytes":1,"disk_bytes":1},
                "enable_internet":false,"ready_port":1}"#,
        )
        .unwrap();
        let shown = format!("{start:?}");
        assert!(shown.contains("KEY") && !shown.contains("hidden-value"), "{shown}");
    }
}
