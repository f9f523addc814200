//! The edge's end: what a node has still to be told.

mod outbox;

pub use self::outbox::{Asked, Outbox};
