//! The current session of each shard of each edge. A newer session supersedes an older one of its shard, and a newer
//! epoch supersedes all sessions of an older epoch. Calls on a superseded session have no effect.
//!
//! Epochs only count among the holders of one certificate, because an edge says its epoch itself: whoever holds an old or a
//! stolen certificate could say the highest there is, and lock the edge out. When a certificate was issued is said by its CA:
//! a newer certificate goes before any epoch of an older one, and an older one is refused from then on.
//!
//! ```text
//!  Hello ──newer certificate, or newer than all of its shard──▶ current ──newer Hello, or newer epoch──▶ superseded
//!    └─────older certificate, or not newer──▶ refused
//! ```
//!
//! What fails, and what happens then:
//! * A connection is lost: its session stays current, so that nothing sent on an older one can take effect later.
//! * An edge restarts: its new epoch supersedes all of its sessions.
//! * An edge loses its state directory: its epoch starts anew, and its Hello is refused until it has a newer certificate or
//!   the agent restarts.
//! * A thief of an edge's certificate says a huge epoch: the edge is refused until it has a newer certificate; from then on
//!   the thief is.
//! * The agent restarts: the table starts empty; edges connect again with newer sessions.

use std::collections::BTreeMap;

use berth_common::ids::{EdgeId, Epoch};
use berth_common::wire::call::Hello;

/// Most shards of one edge: far more than a machine has CPUs.
const MAX_SHARDS: usize = 1024;

/// The id of a session: within an epoch of an edge, the connections of each shard are numbered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The edge.
    pub edge: EdgeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The shard.
    pub shard: u16,
    /// The number of its connection.
    pub number: u64,
}

impl SessionId {
    /// The session that a Hello introduces.
    pub fn of(hello: &Hello) -> Self {
        Self { edge: hello.edge.clone(), epoch: hello.epoch, shard: hello.shard, number: hello.session }
    }
}

/// Why a Hello was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The edge was here with a newer certificate.
    #[error("the edge has connected with a newer certificate before: this one counts no more")]
    OldCertificate,
    /// It is not newer than the current session.
    #[error(
        "a session of this edge's shard that is as new or newer was here before (was the edge's state directory lost, or its \
         certificate stolen? issue it a new certificate)"
    )]
    Old,
    /// The edge has too many shards.
    #[error("an edge may have {MAX_SHARDS} shards at most")]
    Shards,
}

/// The newest session of each shard of each edge, also after its connection has gone.
#[derive(Debug, Default)]
pub struct SessionTable {
    edges: BTreeMap<EdgeId, EdgeSessions>,
}

#[derive(Debug)]
struct EdgeSessions {
    /// When the newest certificate was issued that it has shown, in seconds since 1970.
    issued_s: i64,
    epoch: Epoch,
    /// The number of each shard's current session.
    shards: BTreeMap<u16, u64>,
}

impl EdgeSessions {
    /// Removes and returns all sessions of the epoch.
    fn supersede_all(&mut self, edge: &EdgeId) -> Vec<SessionId> {
        let epoch = self.epoch;
        let id = |(shard, number)| SessionId { edge: edge.clone(), epoch, shard, number };
        std::mem::take(&mut self.shards).into_iter().map(id).collect()
    }
}

impl SessionTable {
    /// Makes a session its shard's current one, if it is the newest. Returns the superseded ones. `issued_s`: when its
    /// certificate was issued, in seconds since 1970.
    pub fn enter(&mut self, session: &SessionId, issued_s: i64) -> Result<Vec<SessionId>, HelloError> {
        let SessionId { edge, epoch, shard, number } = session;
        let new = || EdgeSessions { issued_s, epoch: *epoch, shards: BTreeMap::new() };
        let known = self.edges.entry(edge.clone()).or_insert_with(new);
        if issued_s < known.issued_s {
            return Err(HelloError::OldCertificate);
        }
        if issued_s == known.issued_s && *epoch < known.epoch {
            return Err(HelloError::Old);
        }
        known.issued_s = issued_s;
        let mut superseded = Vec::new();
        if *epoch != known.epoch {
            superseded = known.supersede_all(edge);
            known.epoch = *epoch;
        }
        match known.shards.get(shard) {
            Some(newest) if number <= newest => return Err(HelloError::Old),
            None if known.shards.len() >= MAX_SHARDS => return Err(HelloError::Shards),
            _ => {}
        }
        if let Some(older) = known.shards.insert(*shard, *number) {
            superseded.push(SessionId { number: older, ..session.clone() });
        }
        Ok(superseded)
    }

    /// Whether calls on this session still take effect.
    pub fn is_current(&self, session: &SessionId) -> bool {
        self.edges.get(&session.edge).is_some_and(|known| {
            known.epoch == session.epoch && known.shards.get(&session.shard) == Some(&session.number)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(edge: &str, epoch: u64, shard: u16, number: u64) -> SessionId {
        SessionId { edge: edge.parse().unwrap(), epoch: Epoch(epoch), shard, number }
    }

    #[test]
    fn a_newer_session_takes_over_from_its_shards_older_one_only() {
        let mut sessions = SessionTable::default();
        let [first, other_shard, other_edge, second] =
            [session("e", 1, 0, 1), session("e", 1, 1, 1), session("f", 1, 0, 1), session("e", 1, 0, 2)];
        for each in [&first, &other_shard, &other_edge] {
            assert_eq!(sessions.enter(each, 7), Ok(Vec::new()));
        }
        assert_eq!(sessions.enter(&second, 7), Ok(vec![first.clone()]));
        assert!(!sessions.is_current(&first));
        assert!([&second, &other_shard, &other_edge].iter().all(|session| sessions.is_current(session)));
        assert_eq!(sessions.enter(&second, 7), Err(HelloError::Old));
        assert!(sessions.is_current(&second));
    }

    #[test]
    fn a_newer_epoch_takes_over_from_all_shards_of_the_older() {
        let mut sessions = SessionTable::default();
        let old = [session("e", 1, 0, 9), session("e", 1, 1, 9)];
        for each in &old {
            sessions.enter(each, 7).unwrap();
        }
        let new = session("e", 2, 0, 1);
        assert_eq!(sessions.enter(&new, 7).unwrap(), old);
        assert!(old.iter().all(|session| !sessions.is_current(session)) && sessions.is_current(&new));
        assert_eq!(sessions.enter(&session("e", 1, 1, 10), 7), Err(HelloError::Old));
    }

    #[test]
    fn shards_are_bounded() {
        let mut sessions = SessionTable::default();
        for shard in 0..1024 {
            sessions.enter(&session("e", 1, shard, 1), 7).unwrap();
        }
        assert_eq!(sessions.enter(&session("e", 1, 1024, 1), 7), Err(HelloError::Shards));
    }

    #[test]
    fn no_epoch_of_an_older_certificate_goes_before_a_newer_one() {
        let mut sessions = SessionTable::default();
        let thief = session("e", u64::MAX, 0, u64::MAX);
        sessions.enter(&thief, 100).unwrap();
        let edge = session("e", 5, 0, 1);
        assert_eq!(sessions.enter(&edge, 100), Err(HelloError::Old), "with the stolen one it is locked out");
        assert_eq!(sessions.enter(&edge, 101), Ok(vec![thief.clone()]));
        assert!(!sessions.is_current(&thief) && sessions.is_current(&edge));
        for issued_s in [i64::MIN, 99, 100] {
            assert_eq!(sessions.enter(&thief, issued_s), Err(HelloError::OldCertificate));
        }
        assert!(sessions.is_current(&edge));
        assert_eq!(sessions.enter(&session("e", 6, 0, 1), 101), Ok(vec![edge]), "epochs count again");
    }

    #[test]
    fn a_newer_certificate_of_the_same_epoch_supersedes_its_own_shard_only() {
        let mut sessions = SessionTable::default();
        let [first, other, second] = [session("e", 1, 0, 1), session("e", 1, 1, 1), session("e", 1, 0, 2)];
        sessions.enter(&first, 100).unwrap();
        sessions.enter(&other, 100).unwrap();
        assert_eq!(sessions.enter(&second, 101), Ok(vec![first]));
        assert!(sessions.is_current(&other));
    }
}
