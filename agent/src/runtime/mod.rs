//! Runs containers on this node, behind two traits: other modules see launches, events and sockets, and know nothing of
//! namespaces, cgroups or image files.
//!
//! ```text
//! agent ── Runtime ──▶ rootless::Rootless ── supervisor.sock ──▶ supervisor ── fork+exec ──▶ shim (one a container)
//!                             └──────────────── instances/ID/shim.sock ─────────────────────▶┘  └─▶ builder ─▶ app
//! ```
//!
//! * Supervisor and shims are processes of their own, with one thread each: `berth_shim` is all of their code.
//! * `shim_pool` keeps shims that have made their namespaces and wait for a container; `prepared` keeps prepared
//!   containers, which wait for an instance.
//! * `ranges` has the ranges of ids, of which each container gets one; `disks` the disks.
//! * `logs` reads the logs that the shims write, and removes old ones.
//! * `rootless` is the agent's side of both.

mod async_fd;
pub mod connection;
pub(crate) mod disks;
pub mod logs;
mod maker;
mod prepared;
pub(crate) mod ranges;
mod reclaim;
pub mod rootless;
mod shim_pool;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use berth_common::ids::{EdgeId, InstanceId};
use berth_common::wire::call::{DiskCapacity, PrepareTarget, SlotRoom, Start, Usage};
use berth_shim::metering::{Carried, Ended, Seen};

use crate::launch::{Launch, LaunchError};

/// Queue length of one container's events: it starts and ends once, and is frozen no more often than each few seconds.
pub const EVENT_QUEUE: usize = 4;

/// An event of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The app was started.
    Started,
    /// The container was frozen, because its term is over, or thawed.
    Frozen(bool),
    /// It has ended. Always last; only the container's record is left.
    Exited(Ended),
}

/// The events of one container, in order.
pub type Events = tokio::sync::mpsc::Receiver<Event>;

/// A container of an earlier agent, or its record.
#[derive(Debug)]
pub struct Adopted<C> {
    /// Its order to start.
    pub launch: Launch,
    /// Its state.
    pub state: AdoptedState<C>,
    /// Bytes that earlier agents carried through tunnels.
    pub carried: Carried,
}

/// The state of a container of an earlier agent.
#[derive(Debug)]
pub enum AdoptedState<C> {
    /// It has not ended.
    Running {
        /// The container.
        container: C,
        /// Its events from now on. `Started` is sent (again) if it was started.
        events: Events,
    },
    /// It has ended.
    Exited(Ended),
}

/// Starts containers and finds those of earlier agents. All futures run on one thread.
#[allow(async_fn_in_trait)]
pub trait Runtime {
    /// A container that was started.
    type Container: Container;

    /// The disks of the node.
    fn disks(&self) -> DiskCapacity;

    /// The disk slots that can be given out, with what has them.
    fn slots(&self) -> Vec<SlotRoom>;

    /// How many disk slots are taken, including those of prepared containers.
    fn disks_taken(&self) -> u32;

    /// Whether containers are frozen when the term of their instance is over, whatever happens to the agent.
    fn keeps_terms(&self) -> bool;

    /// Fails if no container could be started now.
    async fn check(&self) -> io::Result<()>;

    /// Reserves limited resources, such as a disk, for an instance that will be started, or fails with what is lacking.
    /// They are released automatically when the start fails or the container has ended.
    fn reserve(&self, start: &Start) -> Result<(), LaunchError>;

    /// Sets which containers to keep prepared for this owner from now on.
    fn prepare(&self, owner: &EdgeId, targets: Vec<PrepareTarget>);

    /// Pauses or resumes the preparation of containers. Pausing ends the prepared ones.
    fn pause(&self, paused: bool);

    /// The number of prepared containers.
    fn prepared(&self) -> usize;

    /// The logs of instances.
    fn logs(&self) -> logs::Logs;

    /// Starts a container. Returns once a shim runs it; what happens then arrives as events.
    async fn start(&self, launch: Launch) -> Result<(Self::Container, Events), LaunchError>;

    /// Finds the containers of earlier agents: those that run, and records of those that ended.
    async fn adopt(&self) -> io::Result<Vec<Adopted<Self::Container>>>;

    /// For how long no record of a started instance was lost, if known.
    fn kept_for(&self) -> Option<Duration>;

    /// Saves the usage of a running instance, for an estimate if its shim is lost.
    fn note(&self, instance: InstanceId, seen: &Seen) -> io::Result<()>;

    /// Removes the record of a container that ended.
    async fn forget(&self, instance: InstanceId) -> io::Result<()>;
}

/// A container that was started. Clones are the same container.
#[allow(async_fn_in_trait)]
pub trait Container: Clone {
    /// An unconnected, non-blocking TCP socket inside the container's network namespace: of the IPv6 family and able
    /// to reach IPv4 where the kernel has IPv6, else of the IPv4 family.
    async fn socket(&self) -> io::Result<OwnedFd>;

    /// Ends the start boost, because the instance is ready.
    async fn ready(&self) -> io::Result<()>;

    /// Its current usage.
    async fn usage(&self) -> io::Result<Usage>;

    /// Sends a signal to the app, which runs on unless the signal ends it.
    async fn signal(&self, signal: i32) -> io::Result<()>;

    /// Thaws the container, if that arrives by then (in milliseconds of `CLOCK_BOOTTIME`) and within a term.
    async fn resume(&self, until_ms: u64) -> io::Result<()>;

    /// Sends a signal to the app, and SIGKILL to the whole container after the grace. Later calls can only shorten the
    /// grace. `drained`: the node's drain ordered it, for the record of the end.
    async fn stop(&self, signal: i32, grace: Duration, drained: bool) -> io::Result<()>;
}
