//! The current sessions of edges, by the table of `berth_protocol`, and the data connection of each. What is superseded or
//! over is cancelled.
//!
//! ```text
//!  session ──its connection is lost──▶ over: no data connection may be attached any more
//!     └──────a newer session──▶ superseded: its calls take no effect, and it is over too
//!  data connection ──its session is over, or another one was attached──▶ cancelled
//! ```

use std::cell::RefCell;
use std::collections::HashMap;

use berth_common::ids::{EdgeId, Epoch};
use berth_common::wire::attach::{Attach, AttachKey};
use berth_common::wire::call::Hello;
use berth_protocol::node::{HelloError, SessionId, SessionTable};
use tokio_util::sync::CancellationToken;

/// The session that a connection is for.
#[derive(Debug)]
pub(crate) struct Session {
    /// The edge.
    pub(crate) edge: EdgeId,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// What the edge must show to attach a data connection.
    pub(crate) key: AttachKey,
    /// Cancelled when this connection's calls and tunnels take no effect any more.
    superseded: CancellationToken,
    over: CancellationToken,
}

impl Session {
    /// Whether calls on this connection still take effect.
    pub(crate) fn is_current(&self) -> bool {
        !self.superseded.is_cancelled()
    }

    /// Completes when another connection has taken this one's place, or the session is over.
    pub(crate) async fn superseded(&self) {
        self.superseded.cancelled().await;
    }

    /// The connection has ended: its data connection ends with it.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }
}

/// What is kept of a current session.
#[derive(Debug)]
struct Current {
    key: AttachKey,
    superseded: CancellationToken,
    over: CancellationToken,
    /// Of its data connection, if it has one.
    data: Option<CancellationToken>,
}

/// The newest session of each shard of each edge, also after its connection has gone.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    table: RefCell<SessionTable>,
    current: RefCell<HashMap<SessionId, Current>>,
}

impl Sessions {
    /// Makes a session its shard's current one, if it is the newest.
    /// `issued_s`: when its certificate was issued.
    pub(crate) fn enter(&self, hello: &Hello, issued_s: i64) -> Result<Session, HelloError> {
        let id = SessionId::of(hello);
        let older = self.table.borrow_mut().enter(&id, issued_s)?;
        let mut current = self.current.borrow_mut();
        for session in older.iter().filter_map(|session| current.remove(session)) {
            session.superseded.cancel();
        }
        let (key, superseded) = (AttachKey::random(), CancellationToken::new());
        let over = superseded.child_token();
        let entry = Current { key, superseded: superseded.clone(), over: over.clone(), data: None };
        current.insert(id, entry);
        Ok(Session { edge: hello.edge.clone(), epoch: hello.epoch, key, superseded, over })
    }

    /// Adds a data connection to a session that is current and whose connection lives, in place of an earlier one. `None`
    /// if there is no such session, or the key is not its own.
    pub(crate) fn attach(&self, attach: &Attach) -> Option<Session> {
        let Attach { edge, epoch, shard, session, key } = attach;
        let id = SessionId { edge: edge.clone(), epoch: *epoch, shard: *shard, number: *session };
        let mut current = self.current.borrow_mut();
        let known = current.get_mut(&id).filter(|known| known.key == *key && !known.over.is_cancelled())?;
        let data = known.over.child_token();
        if let Some(earlier) = known.data.replace(data.clone()) {
            earlier.cancel();
        }
        Some(Session { edge: edge.clone(), epoch: *epoch, key: *key, over: data.clone(), superseded: data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(edge: &str, epoch: u64, shard: u16, session: u64) -> Hello {
        let (edge, epoch) = (edge.parse().unwrap(), Epoch(epoch));
        Hello { edge, epoch, shard, session, version: String::new(), attach: true }
    }

    fn attach(hello: &Hello, key: AttachKey) -> Attach {
        Attach {
            edge: hello.edge.clone(),
            epoch: hello.epoch,
            shard: hello.shard,
            session: hello.session,
            key,
        }
    }

    #[test]
    fn superseded_sessions_are_cancelled() {
        let sessions = Sessions::default();
        let first = sessions.enter(&hello("e", 1, 0, 1), 7).unwrap();
        let other_shard = sessions.enter(&hello("e", 1, 1, 1), 7).unwrap();
        let second = sessions.enter(&hello("e", 1, 0, 2), 7).unwrap();
        assert!(!first.is_current() && second.is_current() && other_shard.is_current());
        assert_eq!(sessions.enter(&hello("e", 1, 0, 2), 7).unwrap_err(), HelloError::Old);
        let new = sessions.enter(&hello("e", 2, 0, 1), 7).unwrap();
        assert!(!second.is_current() && !other_shard.is_current() && new.is_current());
        assert_eq!(sessions.current.borrow().len(), 1, "nothing is kept of those that are over");
    }

    #[test]
    fn a_data_connection_ends_with_its_session_and_before_a_newer_one() {
        let sessions = Sessions::default();
        let said = hello("e", 1, 0, 1);
        let session = sessions.enter(&said, 7).unwrap();
        let first = sessions.attach(&attach(&said, session.key)).unwrap();
        let second = sessions.attach(&attach(&said, session.key)).unwrap();
        assert!(!first.is_current() && second.is_current());
        session.end();
        assert!(!second.is_current() && session.is_current(), "its connection is lost, not superseded");
        assert!(sessions.attach(&attach(&said, session.key)).is_none(), "it is over");

        let later = hello("e", 1, 0, 2);
        let session = sessions.enter(&later, 7).unwrap();
        let data = sessions.attach(&attach(&later, session.key)).unwrap();
        sessions.enter(&hello("e", 1, 0, 3), 7).unwrap();
        assert!(!data.is_current());
    }

    #[test]
    fn nobody_attaches_to_another_session_or_without_its_key() {
        let sessions = Sessions::default();
        let said = hello("e", 1, 0, 2);
        let session = sessions.enter(&said, 7).unwrap();
        for (other, key) in [
            (said.clone(), AttachKey::random()),
            (hello("f", 1, 0, 2), session.key),
            (hello("e", 2, 0, 2), session.key),
            (hello("e", 1, 1, 2), session.key),
            (hello("e", 1, 0, 1), session.key),
        ] {
            assert!(sessions.attach(&attach(&other, key)).is_none(), "{other:?}");
        }
    }
}
