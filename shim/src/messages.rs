//! The messages between agent, supervisor and shim over sequenced-packet sockets: one JSON value per packet.
//!
//! Unknown fields are skipped and unknown kinds answered with `failed`, so that an agent of a newer version works with
//! a supervisor and shims of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_common::ids::InstanceId;
use berth_common::metering::Metered;
use berth_common::outcome::Outcome;
use berth_common::spec::{Capability, LogSpec, StartBoost};
use berth_common::wire::call::Usage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::layout::{Layout, ShimName};
use crate::network::Internet;
use crate::protection::Protection;
use crate::subordinate_ids::IdRange;
use crate::sys;
use crate::terms::Slot;

/// Longest packet, in bytes: messages hold ids and error texts, never environments.
pub const MAX_PACKET_BYTES: usize = 16 * 1024;

/// Agent to supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorCall {
    /// Start a shim whose directory is ready.
    Spawn {
        /// The name of the directory.
        #[serde(rename = "spare")]
        shim: ShimName,
    },
    /// Ask for the supervisor's version and cgroup.
    Ping,
}

/// Supervisor to agent, one for each call, in order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorAnswer {
    /// The shim is being started; its socket accepts connections.
    Spawned,
    /// The supervisor's version and cgroup.
    Pong {
        /// The supervisor's version.
        version: String,
        /// The cgroup, relative to the root of each hierarchy.
        cgroup: PathBuf,
        /// Whether it freezes containers whose term is over. Earlier versions do not.
        #[serde(default)]
        terms: bool,
    },
    /// The call was not carried out.
    Failed {
        /// The reason, for people.
        message: String,
    },
}

/// Agent to shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimCall {
    /// Make the container that is configured in the shim's directory, and wait before starting its app.
    Create,
    /// The shim's directory has become an instance's and has its assignment: run the container, making it first if
    /// needed.
    Run,
    /// Make a socket in the instance's network namespace.
    Socket,
    /// Send a signal, and SIGKILL to everything after the grace.
    Stop {
        /// The signal's number; 0 sends none.
        signal: i32,
        /// The grace, in milliseconds.
        grace_ms: u64,
        /// Whether the node's drain ordered it.
        #[serde(default)]
        drained: bool,
    },
    /// Send a signal without ending the container.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The instance is ready: end the start boost.
    Ready,
    /// Report the usage of the instance.
    Usage,
    /// Thaw the container, if this comes in time and the instance's term has begun again. Answered by `Frozen`, unasked.
    Resume {
        /// Until when this counts, in milliseconds of `CLOCK_BOOTTIME`.
        until_ms: u64,
    },
}

/// Shim to agent. `Socket`, `Usage` and `Failed` answer calls in order; the others are sent unasked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimEvent {
    /// The namespaces and network are made, or could not be made: then the shim is about to end.
    Prepared {
        /// The reason, if they could not be made.
        error: Option<String>,
    },
    /// The container is made, and waits for `Run`.
    Held,
    /// A socket travels with this packet.
    Socket,
    /// The usage of the instance.
    Usage(Usage),
    /// The call could not be carried out.
    Failed {
        /// The reason, for people.
        message: String,
    },
    /// The app was started. Also sent to each agent that connects later.
    Started,
    /// The container was frozen or thawed. Also sent to each agent that connects while it is frozen.
    Frozen {
        /// Whether it is frozen now.
        frozen: bool,
    },
    /// The container has ended, and its record is on disk.
    Exited {
        /// How it ended.
        outcome: Outcome,
        /// Its usage, if its app ran.
        #[serde(default)]
        metered: Option<Metered>,
    },
}

/// What a shim needs to make its namespaces and network. Stays in its directory for a sweep after a dead shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimSetup {
    /// First host uid and number of uids of the container.
    pub uids: IdRange,
    /// First host gid and number of gids of the container.
    pub gids: IdRange,
    /// Internet access, if any; else loopback only.
    pub internet: Option<Internet>,
    /// Cgroup of its container, relative to the root of each hierarchy.
    pub cgroup: PathBuf,
    /// Cgroup of the processes that serve its network.
    pub network_cgroup: PathBuf,
    /// The layers of protection that are on: all of them, except in tests.
    #[serde(default)]
    pub protection: Protection,
}

/// What a shim needs to make one container. Written by the agent, read once and removed by the shim: the environment
/// may have secrets.
#[derive(Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Its writable disk.
    pub disk: Disk,
    /// Directories of the image's layers, the topmost first.
    pub layers: Vec<PathBuf>,
    /// The cgroup, relative to the root of each hierarchy.
    pub cgroup: PathBuf,
    /// Memory limit in bytes.
    pub memory_bytes: u64,
    /// CPU limit in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// Extra CPU until it is ready.
    pub start_boost: Option<StartBoost>,
    /// The name server as seen inside, if any.
    pub resolver: Option<IpAddr>,
    /// The layers of protection that are on: all of them, except in tests.
    #[serde(default)]
    pub protection: Protection,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment without the variables of the instance.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The capabilities of root in the container.
    pub capabilities: BTreeSet<Capability>,
    /// The image's user: empty, `user`, `user:group`, by number or name.
    pub user: String,
    /// Whether the init is the first process, and the app its child.
    #[serde(default)]
    pub init: bool,
    /// The number of the signal that asks the app to end, if not SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// Directories for the app's data, made if they are missing.
    #[serde(default)]
    pub volumes: Vec<PathBuf>,
    /// The directory of logs.
    pub logs: PathBuf,
    /// Most bytes of log kept, for a shim of an older version, which does not read it from the assignment.
    pub log_bytes: u64,
}

/// The instance of a shim's container. Written by the agent, read once and removed by the shim.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The instance.
    pub instance: InstanceId,
    /// Variables added to the environment unless it sets them. Short, because they go through a pipe in one atomic
    /// write.
    pub env: BTreeMap<String, String>,
    /// The log file.
    pub log: PathBuf,
    /// How the output is kept.
    #[serde(default)]
    pub logs: LogSpec,
    /// The slot of its edge's term; none for an agent of an earlier version.
    #[serde(default)]
    pub term_slot: Option<Slot>,
}

/// Sends one message.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, with: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    sys::send_packet(socket, &bytes, with)
}

/// Receives one message with its descriptor, if any; `None` when the peer has closed.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let Some(packet) = sys::receive_packet(socket, MAX_PACKET_BYTES)? else { return Ok(None) };
    let message =
        serde_json::from_slice(&packet.bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(Some((message, packet.descriptors.into_iter().next())))
}

/// Connects to the shim in an instance's directory, through a descriptor: a socket's path may be no longer than 107
/// bytes.
pub fn connect_shim(directory: &Path) -> io::Result<OwnedFd> {
    connect_in(directory, "shim.sock")
}

/// Connects to the node's supervisor.
pub fn connect_supervisor(layout: &Layout) -> io::Result<OwnedFd> {
    connect_in(layout.root(), "supervisor.sock")
}

fn connect_in(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    let directory = File::open(directory)?;
    sys::connect(Path::new(&format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor of another version is told of shims by the same name.
    #[test]
    fn the_call_for_a_shim_stays_as_it_is() {
        let call = SupervisorCall::Spawn { shim: ShimName(7) };
        let text = r#"{"spawn":{"spare":7}}"#;
        assert_eq!(serde_json::to_string(&call).unwrap(), text);
        assert!(matches!(serde_json::from_str(text).unwrap(), SupervisorCall::Spawn { shim: ShimName(7) }));
    }
}
