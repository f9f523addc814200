//! The state that the streams of one connection share.

use std::cell::Cell;
use std::rc::Rc;

use quinn::Connection;
use tokio::sync::Semaphore;

use crate::agent::Agent;
use crate::runtime::Runtime;
use crate::sessions::Session;

/// What a connection of an edge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    /// The session's own calls: tunnels and questions have a connection of their own.
    Calls,
    /// Tunnels, and questions about instances: the session's data connection.
    Data,
    /// Both: the edge is of a version that has one connection only.
    Both,
}

/// An introduced connection of an edge.
pub(crate) struct Connected<R: Runtime> {
    pub(crate) agent: Rc<Agent<R>>,
    pub(crate) session: Session,
    pub(crate) carries: Carries,
    /// Whether one of its streams serves `Watch`.
    pub(crate) watching: Cell<bool>,
    /// Limits its streams that read logs.
    pub(crate) log_readers: Semaphore,
    /// Limits the calls that are served at the same time.
    pub(crate) calls: Semaphore,
    /// Limits the calls that are read at the same time.
    pub(crate) reading: Semaphore,
    pub(crate) connection: Connection,
}
