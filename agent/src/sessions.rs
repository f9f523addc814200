//! The current sessions of edges, by the table of `berth_protocol`. Superseded ones are cancelled.

use std::cell::RefCell;
use std::collections::HashMap;

use berth_common::ids::{EdgeId, Epoch};
use berth_common::wire::call::Hello;
use berth_protocol::node::{HelloError, SessionId, SessionTable};
use tokio_util::sync::CancellationToken;

/// The session of a connection. Clones are the same session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The edge.
    pub(crate) edge: EdgeId,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    superseded: CancellationToken,
}

impl Session {
    /// Whether calls on this session still take effect.
    pub(crate) fn is_current(&self) -> bool {
        !self.superseded.is_cancelled()
    }

    /// Completes when a newer session supersedes this one.
    pub(crate) async fn superseded(&self) {
        self.superseded.cancelled().await;
    }
}

/// The newest session of each shard of each edge, also after its connection has gone.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    table: RefCell<SessionTable>,
    /// Cancelled when a session is superseded.
    superseded: RefCell<HashMap<SessionId, CancellationToken>>,
}

impl Sessions {
    /// Makes a session its shard's current one, if it is the newest.
    pub(crate) fn enter(&self, hello: &Hello) -> Result<Session, HelloError> {
        let id = SessionId::of(hello);
        let older = self.table.borrow_mut().enter(&id)?;
        let mut tokens = self.superseded.borrow_mut();
        for token in older.iter().filter_map(|session| tokens.remove(session)) {
            token.cancel();
        }
        let superseded = CancellationToken::new();
        tokens.insert(id, superseded.clone());
        Ok(Session { edge: hello.edge.clone(), epoch: hello.epoch, superseded })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(edge: &str, epoch: u64, shard: u16, session: u64) -> Hello {
        Hello { edge: edge.parse().unwrap(), epoch: Epoch(epoch), shard, session, version: String::new() }
    }

    #[test]
    fn superseded_sessions_are_cancelled() {
        let sessions = Sessions::default();
        let first = sessions.enter(&hello("e", 1, 0, 1)).unwrap();
        let other_shard = sessions.enter(&hello("e", 1, 1, 1)).unwrap();
        let second = sessions.enter(&hello("e", 1, 0, 2)).unwrap();
        assert!(!first.is_current() && second.is_current() && other_shard.is_current());
        assert_eq!(sessions.enter(&hello("e", 1, 0, 2)).unwrap_err(), HelloError::Old);
        let new = sessions.enter(&hello("e", 2, 0, 1)).unwrap();
        assert!(!second.is_current() && !other_shard.is_current() && new.is_current());
        assert_eq!(sessions.superseded.borrow().len(), 1, "nothing is kept of those that are over");
    }
}
