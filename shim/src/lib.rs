//! The processes of a node that have one thread each: what runs containers, and what must fork or enter namespaces.
//!
//! ```text
//! agent ── supervisor.sock ──▶ supervisor ── fork+exec ──▶ shim (one a container) ── fork ──▶ builder ─▶ app
//!   └───── instances/ID/shim.sock ─────────────────────────▶┘
//!   └───── as processes of their own: unpack (a layer), sweep (after a shim that is gone), trial (of the machine)
//! ```
//!
//! * `supervisor` outlives the agent, starts shims and ends what a dead shim leaves behind.
//! * `shim` makes the namespaces and the network, has `builder` call libcontainer, hands out sockets, writes the log,
//!   waits for the end, wipes the disk and writes down how it ended.
//! * `messages` is what these and the agent say to each other, `layout` where a node keeps what.
//! * `metering` is what instances take, as all of these write it down; `log` is their output, as it is written.
//! * `process` is what a process of this crate makes sure of before it does anything; `sys` alone has unsafe code.
//!
//! Knows nothing of the network between edges and agents, and has no async runtime: no thread but the first is ever
//! started here, so that forking, entering namespaces and libcontainer are sound.

mod builder;
pub mod cgroup;
mod counters;
pub mod disk;
mod files;
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
mod seccomp;
pub mod shim;
mod stage;
pub mod state_files;
pub mod subordinate_ids;
pub mod supervisor;
pub mod sweep;
mod sys;
pub mod trial;
pub mod unpack;
mod user;
mod wait;
