//! What agent, supervisor and shim say to each other over sequenced-packet sockets: one JSON value a packet.
//!
//! Unknown fields are skipped and unknown kinds answered with `failed`, so that an agent of the next version can
//! talk to the supervisor and the shims of this one.

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
    /// Say who is there.
    Ping,
}

/// Supervisor to agent, one for each call, in order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisorAnswer {
    /// The shim is being started; its socket takes connections.
    Spawned,
    /// The supervisor is there, and makes instances in a cgroup.
    Pong {
        /// The supervisor's version.
        version: String,
        /// The cgroup, relative to the root of each hierarchy.
        cgroup: PathBuf,
    },
    /// The call was not carried out.
    Failed {
        /// For people: why.
        message: String,
    },
}

/// Agent to shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimCall {
    /// Make the container that is described in the shim's directory, and hold it until it is to run.
    Create,
    /// The shim's directory has become an instance's, which is described in it: run its container, which is made first
    /// if it was not.
    Run,
    /// Make a socket in the instance's network namespace.
    Socket,
    /// Send a signal, and SIGKILL to everything after the grace.
    Stop {
        /// The signal's number.
        signal: i32,
        /// The grace, in milliseconds.
        grace_ms: u64,
        /// The node wants it, to be empty.
        #[serde(default)]
        drained: bool,
    },
    /// Send a signal, and no more.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The app's port has answered: the start boost is over.
    Ready,
    /// Tell what the instance takes.
    Usage,
}

/// Shim to agent. `Socket`, `Usage` and `Failed` answer the calls for them in their order; the others come by
/// themselves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShimEvent {
    /// The namespaces are there: a container can be run. Or not: then the shim is about to end.
    Prepared {
        /// Why they are not.
        error: Option<String>,
    },
    /// The container is made, and waits to be run.
    Held,
    /// A socket travels with this packet.
    Socket,
    /// What the instance takes.
    Usage(Usage),
    /// The call could not be carried out.
    Failed {
        /// For people: why.
        message: String,
    },
    /// The app was started. Told to each agent that connects after it.
    Started,
    /// Everything is over, and the record of it is on disk.
    Exited {
        /// How it ended.
        outcome: Outcome,
        /// What it took, if its app ran.
        #[serde(default)]
        metered: Option<Metered>,
    },
}

/// What a shim needs to know to make ready for a container. Stays in its directory: whoever sweeps up after it must
/// know what there is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimSetup {
    /// First host uid and number of uids of the container.
    pub uids: IdRange,
    /// First host gid and number of gids of the container.
    pub gids: IdRange,
    /// With a way to the internet; else loopback only.
    pub internet: Option<Internet>,
    /// Cgroup of its container, relative to the root of each hierarchy.
    pub cgroup: PathBuf,
    /// The same of what serves its network.
    pub network_cgroup: PathBuf,
    /// The layers of protection that are on: all of them.
    #[serde(default)]
    pub protection: Protection,
}

/// What a shim needs to know to make one container. Written by the agent, read once and removed by the shim: it holds
/// the environment, and thereby secrets.
#[derive(Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Where it writes.
    pub disk: Disk,
    /// Directories of the image's layers, the topmost first.
    pub layers: Vec<PathBuf>,
    /// The cgroup, relative to the root of each hierarchy.
    pub cgroup: PathBuf,
    /// Memory limit in bytes.
    pub memory_bytes: u64,
    /// CPU limit in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// More CPU than that at first.
    pub start_boost: Option<StartBoost>,
    /// Where it finds names resolved, if anywhere.
    pub resolver: Option<IpAddr>,
    /// The layers of protection that are on: all of them.
    #[serde(default)]
    pub protection: Protection,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The environment, as far as it does not depend on the instance.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// What the container's root may do.
    pub capabilities: BTreeSet<Capability>,
    /// The image's user: empty, `user`, `user:group`, by number or name.
    pub user: String,
    /// The directory of logs.
    pub logs: PathBuf,
    /// Most bytes of log kept, for a shim of a version that did not learn it with its instance.
    pub log_bytes: u64,
}

/// What a shim needs to know of the instance whose container it runs. Written by the agent, read once and removed by
/// the shim.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The instance.
    pub instance: InstanceId,
    /// Added to the environment where that does not say otherwise. Short: it goes through a pipe in one piece.
    pub env: BTreeMap<String, String>,
    /// The log file.
    pub log: PathBuf,
    /// How it is kept.
    #[serde(default)]
    pub logs: LogSpec,
}

/// Sends one message.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, with: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    sys::send_packet(socket, &bytes, with)
}

/// Receives one message and the descriptor that may come with it; `None` when the peer has closed.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let Some(packet) = sys::receive_packet(socket, MAX_PACKET_BYTES)? else { return Ok(None) };
    let message =
        serde_json::from_slice(&packet.bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok(Some((message, packet.descriptors.into_iter().next())))
}

/// Connects to the shim in an instance's directory. (By descriptor: a socket's path may be no longer than 107 bytes.)
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
