//! What runs containers on this node, behind two traits: the layers above see launches, events and sockets, and know
//! nothing of namespaces, cgroups or image files.
//!
//! ```text
//! agent ── Runtime ──▶ rootless::Rootless ── supervisor.sock ──▶ supervisor ── fork+exec ──▶ shim (one a container)
//!                             └──────────────── instances/ID/shim.sock ─────────────────────▶┘  └─▶ builder ─▶ app
//! ```
//!
//! * Supervisor and shims are processes of their own, with one thread each: `berth_shim` is all of their code.
//! * `shim_pool` keeps some shims that have made their namespaces and wait for a container, `holder` some that have
//!   made a container and wait for an instance.
//! * `logs` reads what the shims have written, and removes what is old.
//! * `rootless` is the agent's side of both.

mod async_fd;
pub mod connection;
pub(crate) mod disks;
mod holder;
pub mod logs;
mod maker;
mod reclaim;
pub mod rootless;
mod shim_pool;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use berth_common::ids::{EdgeId, InstanceId};
use berth_common::wire::call::{DiskCapacity, PrepareTarget, Start, Usage};
use berth_shim::metering::{Carried, Ended, Seen};

use crate::launch::{Launch, LaunchError};

/// Events that one container may have waiting for its reader. There are only two kinds, each told once.
pub const EVENT_QUEUE: usize = 4;

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The app was started.
    Started,
    /// It is over. Always last; nothing of the container is left but its record.
    Exited(Ended),
}

/// The events of one container, in order.
pub type Events = tokio::sync::mpsc::Receiver<Event>;

/// A container of an earlier agent, or its record.
#[derive(Debug)]
pub struct Adopted<C> {
    /// What it was started with.
    pub launch: Launch,
    /// What has become of it.
    pub state: AdoptedState<C>,
    /// What earlier agents had carried to and from it.
    pub carried: Carried,
}

/// What has become of a container of an earlier agent.
#[derive(Debug)]
pub enum AdoptedState<C> {
    /// It lives.
    Running {
        /// The container.
        container: C,
        /// What happens to it from now on. `Started` comes (again) if it was started.
        events: Events,
    },
    /// It is over.
    Exited(Ended),
}

/// Starts containers and finds those of earlier agents. All futures run on one thread.
#[allow(async_fn_in_trait)]
pub trait Runtime {
    /// A container that was started.
    type Container: Container;

    /// Which disks there are.
    fn disks(&self) -> DiskCapacity;

    /// How many of the slots are taken, those of containers that were made ahead of need included.
    fn disks_taken(&self) -> u32;

    /// Fails where no container could be started.
    async fn check(&self) -> io::Result<()>;

    /// Sets aside what there is only so much of, for an instance that will be started, or says what is lacking. What
    /// was set aside is given back by itself when the start fails or the container has ended.
    fn reserve(&self, start: &Start) -> Result<(), LaunchError>;

    /// Says which containers this owner would like to be made ahead of need from now on.
    fn prepare(&self, owner: &EdgeId, stocks: Vec<PrepareTarget>);

    /// From now on no containers are made ahead of need, and those that were are ended; or they are made again.
    fn pause(&self, paused: bool);

    /// How many containers are there that were made ahead of need.
    fn held(&self) -> usize;

    /// What instances have written.
    fn logs(&self) -> logs::Logs;

    /// Starts a container. Returns once something on this node looks after it; its fate arrives as events.
    async fn start(&self, launch: Launch) -> Result<(Self::Container, Events), LaunchError>;

    /// Finds what earlier agents left: containers that run, and records of those that ended.
    async fn adopt(&self) -> io::Result<Vec<Adopted<Self::Container>>>;

    /// For how long nothing was lost of what was started here, where that is known.
    fn kept_for(&self) -> Option<Duration>;

    /// Notes what was seen of a running instance, for whoever has to tell of it later.
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

    /// The app's port has answered: it starts no longer.
    async fn ready(&self) -> io::Result<()>;

    /// What it takes now.
    async fn usage(&self) -> io::Result<Usage>;

    /// Sends a signal to the app, which goes on unless the signal ends it.
    async fn signal(&self, signal: i32) -> io::Result<()>;

    /// Sends a signal to the app; SIGKILL to all of it after the grace. Later calls shorten the grace, never prolong
    /// it. `drained` says that the node wants it, for the record of the end.
    async fn stop(&self, signal: i32, grace: Duration, drained: bool) -> io::Result<()>;
}
