//! The single-threaded processes of a node: they run containers, fork and enter namespaces.
//!
//! ```text
//! agent ── supervisor.sock ──▶ supervisor ── fork+exec ──▶ shim (one a container) ── fork ──▶ builder ─▶ app
//!   └───── instances/ID/shim.sock ─────────────────────────▶┘
//!   └───── separate processes: unpack (a layer), sweep (after a dead shim), trial (of the machine)
//! ```
//!
//! * `supervisor` outlives the agent, starts shims and has the remains of dead shims swept.
//! * `shim` makes the namespaces and the network, has `builder` call libcontainer, hands out sockets, writes the log,
//!   waits for the end, wipes the disk and records the outcome.
//! * `messages` has the messages between these and the agent, `layout` the files of a node's state.
//! * `terms` has the page that says until when instances may run; `warden` is the supervisor's guard over it.
//! * `metering` measures the usage of instances; `log` writes their output.
//! * `process` has the checks at the start of each process; `sys` alone has unsafe code.
//!
//! Knows nothing of the network between edges and agents, and has no async runtime: no second thread is ever started
//! here, so that forking, entering namespaces and libcontainer are sound.

mod app;
mod builder;
pub mod cgroup;
mod counters;
pub mod disk;
mod files;
mod group_view;
pub mod helpers;
pub mod idmap;
pub mod landlock;
pub mod layout;
pub mod log;
pub mod messages;
pub mod metering;
mod namespaces;
pub mod network;
mod oci;
pub mod process;
pub mod protection;
pub mod removal;
mod rlimits;
mod rootfs;
mod seccomp;
pub mod shim;
pub mod signals;
mod stage;
pub mod state_files;
pub mod subordinate_ids;
pub mod supervisor;
pub mod sweep;
mod sys;
pub mod terms;
pub mod trial;
pub mod unpack;
mod user;
mod wait;
mod warden;
