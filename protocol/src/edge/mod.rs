//! The edge's end: the orders that a node has still to get, the term that it has, and whether it is given up.

mod loss;
mod outbox;
mod term;

pub use self::loss::{GivenUp, Look, Looks, Loss};
pub use self::outbox::{Outbox, PendingCall};
pub use self::term::{MARGIN, NodeTerm, RENEW_EVERY, TERM};
