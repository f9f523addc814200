//! The sources of images: the connections of edges that deliver them. The caller verifies what it reads.

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

/// Why a blob could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// No edge is connected, or none answered: it may come back.
    #[error("no edge that has it is connected")]
    Nowhere,
    /// Every connected edge refused.
    #[error("{0}")]
    Refused(Refusal),
}

/// The connections of edges that deliver images.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    connections: RefCell<BTreeMap<EdgeId, Connection>>,
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
        self.connections.borrow_mut().insert(edge, connection);
        self.changed.notify_waiters();
    }

    /// Removes a connection.
    pub(crate) fn remove(&self, edge: &EdgeId, connection: &Connection) {
        let mut connections = self.connections.borrow_mut();
        if connections.get(edge).is_some_and(|known| known.stable_id() == connection.stable_id()) {
            connections.remove(edge);
        }
    }

    /// Asks every edge in turn. If none has the blob or answers, waits for another to connect, until the deadline.
    pub(super) async fn read(&self, ask: &ReadBlob, deadline: Instant) -> Result<BlobResponse, SourceError> {
        loop {
            let changed = self.changed.notified();
            let refused = match self.read_now(ask).await {
                Err(SourceError::Nowhere) => None,
                Err(SourceError::Refused(refusal)) => Some(refusal),
                Ok(response) => return Ok(response),
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

    async fn read_now(&self, ask: &ReadBlob) -> Result<BlobResponse, SourceError> {
        let connections: Vec<Connection> = self.connections.borrow().values().cloned().collect();
        let mut refused = None;
        for connection in connections {
            match tokio::time::timeout(ANSWER_TIMEOUT, open(&connection, ask)).await {
                Ok(Some(Ok(response))) => return Ok(response),
                Ok(Some(Err(refusal))) => refused = Some(refusal),
                // The connection is lost or stuck: the edge will open another one.
                Ok(None) | Err(_) => {}
            }
        }
        Err(refused.map_or(SourceError::Nowhere, SourceError::Refused))
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
