//! Where images come from: the connections of edges that offer them. What comes is checked by whoever asked.

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

/// How long after edges that did not answer they are asked again, unless one connects before.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why a blob does not come from anywhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// An edge may come back.
    #[error("no edge that has it is connected")]
    Nowhere,
    /// Every edge that is connected says no.
    #[error("{0}")]
    Refused(Refusal),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    connections: RefCell<BTreeMap<EdgeId, Connection>>,
    changed: Notify,
}

/// A blob that comes.
pub(super) struct Coming {
    /// Bytes of the whole blob.
    pub(super) length: u64,
    /// Its bytes from where they were asked for.
    pub(super) bytes: RecvStream,
}

impl Sources {
    /// From now on images come from this connection too.
    pub(crate) fn add(&self, edge: EdgeId, connection: Connection) {
        self.connections.borrow_mut().insert(edge, connection);
        self.changed.notify_waiters();
    }

    /// Not from this one any more.
    pub(crate) fn remove(&self, edge: &EdgeId, connection: &Connection) {
        let mut connections = self.connections.borrow_mut();
        if connections.get(edge).is_some_and(|known| known.stable_id() == connection.stable_id()) {
            connections.remove(edge);
        }
    }

    /// Asks every edge, one after the other; waits for one to come until the deadline.
    pub(super) async fn read(&self, ask: &ReadBlob, deadline: Instant) -> Result<Coming, SourceError> {
        loop {
            let changed = self.changed.notified();
            let refused = match self.read_now(ask).await {
                Err(SourceError::Nowhere) => None,
                Err(SourceError::Refused(refusal)) => Some(refusal),
                Ok(coming) => return Ok(coming),
            };
            if let Some(refusal) = refused {
                return Err(SourceError::Refused(refusal));
            }
            let again = Instant::now() + ASK_AGAIN;
            if tokio::time::timeout_at(again.min(deadline), changed).await.is_err() && again >= deadline {
                return Err(SourceError::Nowhere);
            }
        }
    }

    async fn read_now(&self, ask: &ReadBlob) -> Result<Coming, SourceError> {
        let connections: Vec<Connection> = self.connections.borrow().values().cloned().collect();
        let mut refused = None;
        for connection in connections {
            match tokio::time::timeout(ANSWER_TIMEOUT, open(&connection, ask)).await {
                Ok(Some(Ok(coming))) => return Ok(coming),
                Ok(Some(Err(refusal))) => refused = Some(refusal),
                // Lost, or as good as that: it comes back as another connection.
                Ok(None) | Err(_) => {}
            }
        }
        Err(refused.map_or(SourceError::Nowhere, SourceError::Refused))
    }
}

async fn open(connection: &Connection, ask: &ReadBlob) -> Option<Result<Coming, Refusal>> {
    let (mut send, mut bytes) = connection.open_bi().await.ok()?;
    let mut request = frame::encode(ask).ok()?;
    request.insert(0, STREAM_BLOB);
    send.write_all(&request).await.ok()?;
    // Refused only where the edge has stopped the stream; reading tells why.
    let _ = send.finish();
    match frame::read::<BlobAnswer>(&mut bytes).await.ok()?? {
        BlobAnswer::Here { length } => Some(Ok(Coming { length, bytes })),
        BlobAnswer::Refused(refusal) => Some(Err(refusal)),
    }
}
