//! The edge's end: the orders that a node has still to get.

mod outbox;

pub use self::outbox::{Outbox, PendingCall};
