//! The foundation of the end-to-end scenarios and the benches: whole clusters of real daemons with real containers, and
//! clients to talk to them.
//!
//! ```text
//!  scenario ──▶ Cluster ──▶ N supervisors, N agents, one edge: child processes of an ordinary user
//!     │            └──▶ Run: this process's directory, its copies of the programs, what dead runs have left
//!     └──▶ Client (HTTP) · websocket · Admin (the edge's socket) · Rogue (a QUIC peer that may misbehave)
//! ```
//!
//! Knows the daemons only by their command lines, their sockets and what they print; nothing of how they work.

pub mod admin;
pub mod app;
pub mod attack;
pub mod bench;
pub mod client;
pub mod cluster;
pub mod crowd;
pub mod debian;
pub mod differential;
pub mod disk;
pub mod guide;
pub mod host;
pub mod image;
pub mod isolated;
pub mod liar;
pub mod machine;
pub mod metrics;
pub mod packages;
pub mod peer;
pub mod ports;
pub mod programs;
pub mod receiver;
pub mod registry;
pub mod relay;
pub mod rogue;
pub mod run;
pub mod scenario;
pub mod slots;
pub mod stored;
pub mod wait;
pub mod websocket;
pub mod witness;
pub mod workerd;
pub mod world;

pub use berth_cluster::cgroup;
