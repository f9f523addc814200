//! A connection that is served, as what is served on it sees it.

use std::cell::Cell;
use std::rc::Rc;

use quinn::Connection;
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::runtime::Runtime;
use crate::sessions::Session;

/// A connection that is served.
pub(crate) struct Connected<R: Runtime> {
    pub(crate) agent: Rc<Agent<R>>,
    pub(crate) session: Session,
    /// Whether a stream of it follows the instances.
    pub(crate) watching: Cell<bool>,
    /// Room for those of its streams that read logs.
    pub(crate) log_readers: Semaphore,
    /// Turns to read a call.
    pub(crate) reading: Semaphore,
    pub(crate) connection: Connection,
}
