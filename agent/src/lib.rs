//! The daemon of a node: runs containers for edges and tunnels connections to them.
//!
//! ```text
//! edge ══ QUIC ══▶ serve ─▶ session ─┬─▶ calls ──▶ instances ◀── follow ◀── runtime (supervisor, shims)
//!                                    └─▶ tunnel ─▶ ports ─▶ splice ─▶ a socket inside the instance
//! ```
//!
//! * `serve` accepts connections; `session` is one of them, `connected` the state of its streams, `sessions` the
//!   current session of each shard, `stream` the errors of streams.
//! * `instances` is the table of `berth_protocol` with handles; `follow` follows one instance; `watchers` sends
//!   reports.
//! * `logs` sends an edge the output of instances.
//! * `ports` connects to an instance's ports; `splice` joins the connections to QUIC streams.
//! * `runtime` runs containers through the processes of `berth_shim`, and knows nothing of the network; `images`
//!   fetches and unpacks images; `deliver` is the connection for that.
//! * `agent` is the state that all of these share; `metrics` has the counters and `page` shows them; `berth-monitor`
//!   serves the page.
//!
//! It knows nothing of HTTP, routes or placement, which are the edge's part.

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
mod helpers;
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
mod terms;
mod tunnel;
mod tunnels;
mod watchers;
