//! The state machines of both ends of a link: what an edge has still to tell a node, and what a node knows of instances
//! and of the edges that speak to it.
//!
//! ```text
//! edge: orders ─▶ edge::Outbox ─▶ calls ═══▶ node::SessionTable ─▶ node::InstanceTable ─▶ effects: tell, stop, let go
//!                     ▲                          does it count?         may it? what then?
//!                     └─────────── answers, and what the node tells of its instances ◀──────┘
//! ```
//!
//! * `node` is the agent's end: admission, generations, phases, orders to end, what may be forgotten, terms.
//! * `edge` is the other end: what is sent, kept back, and sent again after a loss.
//!
//! Knows no QUIC, no sockets, no files, no threads and no clock: calls, answers and the time go in as values, decisions and
//! effects come out, in the order in which they are to be carried out, the same ones for the same inputs. So the engine's tests run both ends as they are.

pub mod edge;
mod moment;
pub mod node;

pub use self::moment::Moment;
