//! The terms that edges have given to their instances on this node, and the newest session of each edge: both in the page that
//! supervisor and shims read (`berth_shim::terms`), so that they outlive the agent.
//!
//! Whoever is not heard for longer than its term has its containers frozen, by the supervisor or by their shims: not by this
//! process, which may be stopped itself. Here is only said what the page says.

use std::io;
use std::path::Path;
use std::time::Duration;

use berth_common::ids::EdgeId;
use berth_common::wire::call::{Refusal, RefusalCode};
use berth_common::wire::term::Stamp;
use berth_protocol::node::{HelloError, SessionId};
use berth_shim::terms::{Fence, SLOTS, Slot, UNBOUNDED, now_ms};

/// The longest term that an edge may give: a day is more than any restart takes, and a mistake must not be for ever.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The terms of all edges.
#[derive(Debug)]
pub(crate) struct Terms {
    page: berth_shim::terms::Terms,
    /// Whether the node's supervisor and shims keep to them: those of earlier versions do not.
    kept: bool,
}

impl Terms {
    /// Opens the node's page.
    pub(crate) fn open(page: &Path, kept: bool) -> io::Result<Self> {
        Ok(Self { page: berth_shim::terms::Terms::open(page)?, kept })
    }

    /// What time it is, for an edge to make a term from; none if terms would not be kept.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.kept.then(|| self.page.stamp())
    }

    /// Takes an edge's word for how long its instances may go on; without one, its version gives no terms. Returns its slot, if
    /// terms are kept.
    pub(crate) fn prolong(&self, edge: &EdgeId, until: Option<Stamp>) -> Result<Option<Slot>, Refusal> {
        if !self.kept {
            return Ok(None);
        }
        let until_ms = until.map_or(Ok(UNBOUNDED), |until| self.check(until).map(|()| until.ms))?;
        let slot = self.page.slot_of(edge).map_err(unwritten)?.ok_or_else(too_many)?;
        self.page.prolong(slot, until_ms).map_err(unwritten)?;
        Ok(Some(slot))
    }

    /// Refuses a word that comes too late to count, or that no honest edge gives.
    pub(crate) fn check(&self, until: Stamp) -> Result<(), Refusal> {
        let now = self.page.stamp();
        if until.boot != now.boot || until.ms <= now.ms {
            let message = "it came too late: the term that it was for is over".to_owned();
            return Err(Refusal { code: RefusalCode::Lapsed, message });
        }
        if until.ms > now.after(LONGEST).ms {
            let message = format!("a term ends within {} s", LONGEST.as_secs());
            return Err(Refusal { code: RefusalCode::Invalid, message });
        }
        Ok(())
    }

    /// Whether the terms of an edge's instances are over.
    pub(crate) fn is_over(&self, edge: &EdgeId) -> bool {
        let slot = self.kept.then(|| self.page.slot_of(edge)).and_then(Result::ok).flatten();
        let until_ms = slot.map_or(0, |slot| self.page.until_ms(slot));
        // Zero: nobody has given it one in this boot.
        until_ms > 0 && until_ms <= now_ms()
    }

    /// Refuses a session that is older than one that this edge has had since the machine booted, under any agent.
    pub(crate) fn check_session(&self, session: &SessionId, issued_s: i64) -> Result<(), HelloError> {
        let fence = Fence { issued_s, epoch: session.epoch.0 };
        let Ok(Some(slot)) = self.page.slot_of(&session.edge) else { return Ok(()) };
        let Ok(newest) = self.page.fence(slot) else { return Ok(()) };
        if fence.issued_s < newest.issued_s {
            return Err(HelloError::OldCertificate);
        }
        if fence < newest { Err(HelloError::Old) } else { Ok(()) }
    }

    /// Notes a session that is the newest of its edge.
    pub(crate) fn note_session(&self, session: &SessionId, issued_s: i64) {
        let fence = Fence { issued_s, epoch: session.epoch.0 };
        let noted = match self.page.slot_of(&session.edge) {
            Ok(Some(slot)) => self.page.raise(slot, fence),
            Ok(None) => {
                return tracing::warn!(edge = %session.edge, "more edges than the page of terms has room for");
            }
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::error!(edge = %session.edge, %error, "cannot note the newest session of an edge");
        }
    }
}

fn too_many() -> Refusal {
    let message =
        format!("instances of {SLOTS} edges have been on the node since it booted: that is the most");
    Refusal { code: RefusalCode::Capacity, message }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritten(error: io::Error) -> Refusal {
    tracing::error!(%error, "cannot read or write the page of terms");
    Refusal { code: RefusalCode::Other, message: "the node cannot note its terms".to_owned() }
}

#[cfg(test)]
mod tests {
    use berth_common::ids::Epoch;
    use berth_common::wire::term::BootId;

    use super::*;

    fn open(directory: &Path) -> Terms {
        Terms::open(&directory.join("terms"), true).unwrap()
    }

    fn code<T>(refused: Result<T, Refusal>) -> Option<RefusalCode> {
        refused.err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_term_is_what_an_edge_said_of_this_nodes_clock_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (terms, edge) = (open(directory.path()), "e".parse().unwrap());
        assert!(!terms.is_over(&edge), "nobody has given it one");
        let stamp = terms.stamp().unwrap();
        let late = Stamp { ms: stamp.ms.saturating_sub(1), ..stamp };
        assert_eq!(code(terms.prolong(&edge, Some(late))), Some(RefusalCode::Lapsed));
        let other = Stamp { boot: BootId::from_bytes([1; 16]), ..stamp.after(Duration::from_secs(5)) };
        assert_eq!(code(terms.prolong(&edge, Some(other))), Some(RefusalCode::Lapsed));
        let absurd = stamp.after(LONGEST * 2);
        assert_eq!(code(terms.prolong(&edge, Some(absurd))), Some(RefusalCode::Invalid));
        terms.prolong(&edge, Some(stamp.after(Duration::from_secs(60)))).unwrap();
        assert!(!terms.is_over(&edge) && !open(directory.path()).is_over(&edge));
    }

    #[test]
    fn an_agent_that_was_restarted_gives_no_term_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let (terms, edge) = (open(directory.path()), "e".parse().unwrap());
        let stamp = terms.stamp().unwrap();
        terms.prolong(&edge, Some(stamp.after(Duration::from_millis(20)))).unwrap();
        drop(terms);
        std::thread::sleep(Duration::from_millis(40));
        assert!(open(directory.path()).is_over(&edge));
    }

    #[test]
    fn a_session_that_an_earlier_agent_has_seen_pass_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let session =
            |epoch| SessionId { edge: "e".parse().unwrap(), epoch: Epoch(epoch), shard: 0, number: 1 };
        let terms = open(directory.path());
        assert_eq!(terms.check_session(&session(7), 100), Ok(()));
        terms.note_session(&session(7), 100);
        let terms = open(directory.path());
        assert_eq!(terms.check_session(&session(6), 100), Err(HelloError::Old));
        assert_eq!(terms.check_session(&session(7), 100), Ok(()), "another shard of it");
        assert_eq!(terms.check_session(&session(9), 99), Err(HelloError::OldCertificate));
        assert_eq!(
            terms.check_session(&session(1), 101),
            Ok(()),
            "a newer certificate goes before all epochs"
        );
    }

    #[test]
    fn what_is_not_kept_is_not_promised() {
        let directory = tempfile::tempdir().unwrap();
        let terms = Terms::open(&directory.path().join("terms"), false).unwrap();
        let edge = "e".parse().unwrap();
        assert_eq!((terms.stamp(), terms.prolong(&edge, None)), (None, Ok(None)));
        assert!(!terms.is_over(&edge));
    }
}
