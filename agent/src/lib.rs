//! The daemon of a node: runs containers for edges and tunnels connections to them.
//!
//! ```text
//! edge ══ QUIC ══▶ serve ─▶ session ─┬─▶ calls ──▶ instances ◀── follow ◀── runtime (supervisor, shims)
//!                                    └─▶ tunnel ─▶ ports ─▶ splice ─▶ a socket inside the instance
//! ```
//!
//! * `serve` accepts connections; `session` is one of them, `connected` what its streams share, `sessions` knows which
//!   ones count, `stream` how what is served on them ends.
//! * `instances` is what should run and what does, by the table of `berth_protocol`; `follow` looks after one instance;
//!   `watchers` are told.
//! * `logs` sends an edge what instances have written.
//! * `ports` gets connections to an instance's ports; `splice` joins them to QUIC streams.
//! * `runtime` has containers run by the processes of `berth_shim`, and knows nothing of the network; `images` opens
//!   what they run, and fetches it from edges; `deliver` is the connection for that.
//! * `agent` is what all of these share; `metrics` counts and `page` shows; `berth-monitor` serves it.
//!
//! It knows nothing of HTTP, routes or placement: that is the edge's.

mod agent;
mod calls;
pub mod check;
mod clock;
pub mod config;
mod connected;
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
mod page;
mod ports;
pub mod prepare;
pub mod runtime;
pub mod serve;
mod session;
mod sessions;
pub mod site;
mod splice;
mod stream;
mod tunnel;
mod watchers;
