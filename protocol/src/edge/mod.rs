//! The edge's end: the orders that a node has still to get, the term that it has, whether it is given up, and whether that was so often of late.

mod loss;
mod outbox;
mod steadiness;
mod term;

pub use self::loss::{GivenUp, Look, Looks, Loss};
pub use self::outbox::{Outbox, PendingCall};
pub use self::steadiness::Steadiness;
pub use self::term::{MARGIN, NodeTerm, RENEW_EVERY, TERM};
