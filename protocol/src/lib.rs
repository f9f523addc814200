//! The state machines of both ends of a link: the orders that an edge has still to send to a node, and a node's
//! instances and sessions.
//!
//! ```text
//! edge: orders ─▶ edge::Outbox ─▶ calls ═══▶ node::SessionTable ─▶ node::InstanceTable ─▶ effects: report, stop, detach
//!                     ▲                        current session?       admitted? what next?
//!                     └─────────────── answers, and reports about the node's instances ◀────┘
//! ```
//!
//! * `node` is the agent's end: admission, generations, phases, orders to end, forgetting, terms.
//! * `edge` is the other end: which orders are sent, held back, and sent again after a lost connection; terms, and lost nodes.
//! * `Shares` and `Budget` are for both: how tenants share what a link or a node has only so much of.
//!
//! Knows no QUIC, no sockets, no files, no threads and no clock: calls, answers and the time go in as values; decisions
//! and effects come out in order, the same for the same inputs. So the engine's tests run both ends without a network.

pub mod edge;
mod moment;
pub mod node;
mod shares;

pub use self::moment::Moment;
pub use self::shares::{Budget, Shares, Tenant};
