//! The daemon of a node: runs containers for edges and tunnels connections to them.
//!
//! ```text
//! edge ══ QUIC ══▶ serve ─▶ session ─┬─▶ calls ──▶ instances ◀── follow ◀── runtime (supervisor, shims)
//!                                    └─▶ tunnel ─▶ ports ─▶ splice ─▶ a socket inside the instance
//! ```
//!
//! * `serve` accepts connections; `session` is one of them, `sessions` knows which ones count.
//! * `instances` is the table of what should run and what does; `follow` looks after one instance; `watchers` are told.
//! * `logs` sends an edge what instances have written.
//! * `ports` gets connections to an instance's ports; `splice` joins them to QUIC streams.
//! * `runtime` runs containers and knows nothing of the network; `images` opens what they run, and fetches it from edges;
//!   `deliver` is the connection for that.
//! * `metrics` counts and shows; `berth-monitor` serves it.
//!
//! It knows nothing of HTTP, routes or placement: that is the edge's.

mod calls;
pub mod check;
pub mod config;
mod control;
mod deliver;
pub mod drain;
mod endpoint;
mod follow;
pub mod images;
mod instances;
pub mod launch;
mod logs;
mod metrics;
mod ports;
pub mod prepare;
pub mod runtime;
pub mod serve;
mod session;
mod sessions;
pub mod site;
mod splice;
mod tunnel;
mod watchers;
