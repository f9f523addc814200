//! The state that the streams of one connection share.

use std::cell::Cell;
use std::rc::Rc;

use quinn::Connection;
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::runtime::Runtime;
use crate::sessions::Session;

/// An introduced connection of an edge.
pub(crate) struct Connected<R: Runtime> {
    pub(crate) agent: Rc<Agent<R>>,
    pub(crate) session: Session,
    /// Whether one of its streams serves `Watch`.
    pub(crate) watching: Cell<bool>,
    /// Limits its streams that read logs.
    pub(crate) log_readers: Semaphore,
    /// Limits the calls that are read at the same time.
    pub(crate) reading: Semaphore,
    pub(crate) connection: Connection,
}
