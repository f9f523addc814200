//! Which connections of an edge count. Each shard of an edge has one; a newer one takes over from an older one, and a
//! newer epoch of the edge from all of an older epoch. What comes on a connection that does not count has no effect.
//!
//! ```text
//!  Hello ──newer than all of its shard──▶ current ──newer Hello, or newer epoch──▶ superseded
//!    └─────not newer──▶ refused
//! ```

use std::cell::RefCell;
use std::collections::HashMap;

use berth_common::ids::{EdgeId, Epoch};
use berth_common::wire::call::Hello;
use tokio_util::sync::CancellationToken;

/// Shards that one edge may have: far more than a machine has CPUs.
const MAX_SHARDS: usize = 1024;

/// One connection's claim to speak for a shard of an edge. Clones are the same claim.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The edge.
    pub(crate) edge: EdgeId,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    superseded: CancellationToken,
}

impl Session {
    /// Whether what comes on this connection still counts.
    pub(crate) fn is_current(&self) -> bool {
        !self.superseded.is_cancelled()
    }

    /// Ends when a newer session takes over.
    pub(crate) async fn superseded(&self) {
        self.superseded.cancelled().await;
    }
}

/// Why a Hello was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    /// It is not newer than what is there.
    #[error(
        "a session of this edge's shard that is as new or newer was here before (was the edge's state directory lost?)"
    )]
    Old,
    /// The edge has too many shards.
    #[error("an edge may have {MAX_SHARDS} shards at most")]
    Shards,
}

/// The newest session of each shard of each edge, also after its connection has gone.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    edges: RefCell<HashMap<EdgeId, EdgeSessions>>,
}

#[derive(Debug)]
struct EdgeSessions {
    epoch: Epoch,
    shards: HashMap<u16, (u64, CancellationToken)>,
}

impl EdgeSessions {
    fn supersede_all(&mut self) {
        self.shards.drain().for_each(|(_, (_, superseded))| superseded.cancel());
    }
}

impl Sessions {
    /// Takes a session as its shard's current one, where it is the newest.
    pub(crate) fn enter(&self, hello: &Hello) -> Result<Session, HelloError> {
        let mut edges = self.edges.borrow_mut();
        let known = edges
            .entry(hello.edge.clone())
            .or_insert_with(|| EdgeSessions { epoch: hello.epoch, shards: HashMap::new() });
        if hello.epoch < known.epoch {
            return Err(HelloError::Old);
        }
        if hello.epoch > known.epoch {
            known.supersede_all();
            known.epoch = hello.epoch;
        }
        match known.shards.get(&hello.shard) {
            Some((number, _)) if hello.session <= *number => return Err(HelloError::Old),
            None if known.shards.len() >= MAX_SHARDS => return Err(HelloError::Shards),
            _ => {}
        }
        let superseded = CancellationToken::new();
        if let Some((_, older)) = known.shards.insert(hello.shard, (hello.session, superseded.clone())) {
            older.cancel();
        }
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
    fn a_newer_session_takes_over_from_its_shards_older_one_only() {
        let sessions = Sessions::default();
        let first = sessions.enter(&hello("e", 1, 0, 1)).unwrap();
        let other_shard = sessions.enter(&hello("e", 1, 1, 1)).unwrap();
        let other_edge = sessions.enter(&hello("f", 1, 0, 1)).unwrap();
        let second = sessions.enter(&hello("e", 1, 0, 2)).unwrap();
        assert!(!first.is_current());
        assert!(second.is_current() && other_shard.is_current() && other_edge.is_current());
        assert_eq!(sessions.enter(&hello("e", 1, 0, 2)).unwrap_err(), HelloError::Old);
        assert!(second.is_current());
    }

    #[test]
    fn a_newer_epoch_takes_over_from_all_shards_of_the_older() {
        let sessions = Sessions::default();
        let old =
            [sessions.enter(&hello("e", 1, 0, 9)).unwrap(), sessions.enter(&hello("e", 1, 1, 9)).unwrap()];
        let new = sessions.enter(&hello("e", 2, 0, 1)).unwrap();
        assert!(old.iter().all(|session| !session.is_current()) && new.is_current());
        assert_eq!(sessions.enter(&hello("e", 1, 1, 10)).unwrap_err(), HelloError::Old);
    }

    #[test]
    fn shards_are_bounded() {
        let sessions = Sessions::default();
        for shard in 0..1024 {
            sessions.enter(&hello("e", 1, shard, 1)).unwrap();
        }
        assert_eq!(sessions.enter(&hello("e", 1, 1024, 1)).unwrap_err(), HelloError::Shards);
    }
}
