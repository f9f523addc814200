//! The sources of images: the connections of edges that deliver them. The caller verifies what it reads.
//!
//! What one edge does not have another may: that nobody has a blob is known only once every edge has said so that was here
//! not long ago.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use berth_common::ids::EdgeId;
use berth_common::wire::call::Refusal;
use berth_common::wire::images::{BlobAnswer, ReadBlob};
use berth_common::wire::{STREAM_BLOB, frame};
use quinn::{Connection, RecvStream};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a blob's first bytes may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Delay before edges that did not answer are asked again, unless one connects earlier.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long an edge is waited for that has gone away: longer than it takes to restart one, or its machine. One that is gone
/// for longer has no say.
const MISSED_FOR: Duration = Duration::from_secs(10 * 60);
/// Edges that are remembered after they have gone.
const MAX_AWAY: usize = 256;

/// Why a blob could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// No edge is connected that has it, and one is away or did not answer that may: it may come back.
    #[error("no edge that has it is connected")]
    Nowhere,
    /// Every edge refused.
    #[error("{0}")]
    Refused(Refusal),
}

/// What all connected edges said, none of which sends the blob.
#[derive(Debug, Default)]
struct Said {
    /// What one said that does not have it.
    refused: Option<Refusal>,
    /// Whether one did not answer.
    silent: bool,
}

impl Said {
    /// The refusal, if nobody is left who may have the blob. `away`: an edge is not connected that was not long ago.
    fn by_all(self, away: bool) -> Option<Refusal> {
        self.refused.filter(|_| !self.silent && !away)
    }
}

/// The connections of edges that deliver images.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    connections: RefCell<BTreeMap<EdgeId, Connection>>,
    /// Since when edges are away that were connected.
    away: RefCell<BTreeMap<EdgeId, Instant>>,
    changed: Notify,
}

/// The response of an edge that sends a blob.
pub(super) struct BlobResponse {
    /// Bytes of the whole blob.
    pub(super) length: u64,
    /// Its bytes from the requested offset on.
    pub(super) bytes: RecvStream,
}

impl Sources {
    /// Adds a connection, in place of an older one of the same edge.
    pub(crate) fn add(&self, edge: EdgeId, connection: Connection) {
        self.away.borrow_mut().remove(&edge);
        self.connections.borrow_mut().insert(edge, connection);
        self.changed.notify_waiters();
    }

    /// Removes a connection.
    pub(crate) fn remove(&self, edge: &EdgeId, connection: &Connection) {
        let mut connections = self.connections.borrow_mut();
        if connections.get(edge).is_some_and(|known| known.stable_id() == connection.stable_id()) {
            connections.remove(edge);
            self.note_away(edge, Instant::now());
        }
    }

    fn note_away(&self, edge: &EdgeId, now: Instant) {
        let mut away = self.away.borrow_mut();
        away.retain(|_, since| now.duration_since(*since) < MISSED_FOR);
        if away.len() < MAX_AWAY {
            away.insert(edge.clone(), now);
        }
    }

    fn is_one_away(&self, now: Instant) -> bool {
        self.away.borrow().values().any(|since| now.duration_since(*since) < MISSED_FOR)
    }

    /// Asks every edge in turn. If none has the blob, and one did not answer or is away, waits for it, until the deadline.
    pub(super) async fn read(&self, ask: &ReadBlob, deadline: Instant) -> Result<BlobResponse, SourceError> {
        loop {
            let changed = self.changed.notified();
            let said = match self.read_now(ask).await {
                Ok(response) => return Ok(response),
                Err(said) => said,
            };
            if let Some(refusal) = said.by_all(self.is_one_away(Instant::now())) {
                return Err(SourceError::Refused(refusal));
            }
            let again = Instant::now() + ASK_AGAIN;
            if tokio::time::timeout_at(again.min(deadline), changed).await.is_err() && again >= deadline {
                return Err(SourceError::Nowhere);
            }
        }
    }

    async fn read_now(&self, ask: &ReadBlob) -> Result<BlobResponse, Said> {
        let connections: Vec<Connection> = self.connections.borrow().values().cloned().collect();
        let mut said = Said::default();
        for connection in connections {
            match tokio::time::timeout(ANSWER_TIMEOUT, open(&connection, ask)).await {
                Ok(Some(Ok(response))) => return Ok(response),
                Ok(Some(Err(refusal))) => said.refused = Some(refusal),
                // The connection is lost or stuck: the edge will open another one.
                Ok(None) | Err(_) => said.silent = true,
            }
        }
        Err(said)
    }
}

async fn open(connection: &Connection, ask: &ReadBlob) -> Option<Result<BlobResponse, Refusal>> {
    let (mut send, mut bytes) = connection.open_bi().await.ok()?;
    let mut request = frame::encode(ask).ok()?;
    request.insert(0, STREAM_BLOB);
    send.write_all(&request).await.ok()?;
    // Fails only if the edge has stopped the stream; reading gives the reason.
    let _ = send.finish();
    match frame::read::<BlobAnswer>(&mut bytes).await.ok()?? {
        BlobAnswer::Here { length } => Some(Ok(BlobResponse { length, bytes })),
        BlobAnswer::Refused(refusal) => Some(Err(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use berth_common::wire::call::RefusalCode;

    use super::*;

    fn said(refused: bool, silent: bool) -> Said {
        let refusal = || Refusal { code: RefusalCode::Image, message: "not here".to_owned() };
        Said { refused: refused.then(refusal), silent }
    }

    #[test]
    fn that_one_edge_lacks_a_blob_says_nothing_of_one_that_is_silent_or_away() {
        assert!(said(true, false).by_all(false).is_some());
        assert!(said(true, true).by_all(false).is_none(), "another did not answer");
        assert!(said(true, false).by_all(true).is_none(), "another is away");
        assert!(said(false, false).by_all(false).is_none(), "there is none");
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_that_has_gone_is_missed_for_a_while() {
        let sources = Sources::default();
        assert!(!sources.is_one_away(Instant::now()));
        for number in 0..=MAX_AWAY {
            sources.note_away(&format!("edge-{number}").parse().unwrap(), Instant::now());
        }
        assert_eq!(sources.away.borrow().len(), MAX_AWAY);
        tokio::time::advance(MISSED_FOR.saturating_sub(ASK_AGAIN)).await;
        assert!(sources.is_one_away(Instant::now()));
        tokio::time::advance(ASK_AGAIN).await;
        assert!(!sources.is_one_away(Instant::now()));
        sources.note_away(&"late".parse().unwrap(), Instant::now());
        assert_eq!(sources.away.borrow().len(), 1, "those that nobody misses are forgotten");
    }
}
