//! The connection for images to one node: opened again whenever it is lost.
//!
//! ```text
//!        ┌──────────── lost, or broken protocol: wait a little ───────────┐
//!        ▼                                                                │
//!  ──▶ dialling ──▶ Deliver/Done ──▶ up: Wanted there, ImageStatus and requests for blobs back ──edge stops──▶ closed
//! ```
//!
//! What fails, and what happens then:
//!
//! * Node not reachable, or no reply in time: dialled again after a backoff; logged at debug level, as the shards'
//!   links warn.
//! * Connection lost: the inventory marks the node as not connected; dialled again after a backoff. A node reports all
//!   its images anew.
//! * Node refuses the call, or replies with something else: the connection is closed; dialled again after a backoff.
//! * A blob cannot be read: the stream ends, and the node is sent the reason.
//! * Edge stops: the connection is closed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_common::ids::{EdgeId, Epoch, NodeId};
use berth_common::image::Digest;
use berth_common::wire::call::{Answer, Call, Refusal};
use berth_common::wire::frame::{self, FrameError};
use berth_common::wire::images::{Deliver, ImageStatus, MAX_WANTED, Wanted};
use berth_common::wire::{STREAM_CALL, close};
use berth_registry::content::Content;
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};

use super::wanted::MadeFor;
use super::{Delivery, blobs};
use crate::shard::link;
use crate::shard::link::trust::{MAX_STATUS_BYTES, Pace};

/// Shortest and longest backoff before dialling again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Longest wait for a connection, and for the reply to the first call.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// What a link is built from.
pub(super) struct Dependencies {
    pub(super) node: NodeId,
    pub(super) address: String,
    pub(super) edge: EdgeId,
    pub(super) epoch: Epoch,
    pub(super) endpoint: Endpoint,
    pub(super) config: quinn::ClientConfig,
    pub(super) delivery: Delivery,
    pub(super) content: Content,
}

/// The image link to one node.
pub(super) struct ImageLink {
    deps: Dependencies,
    /// Number of the last connection in this epoch, which tells the node which one is newer.
    sessions: u64,
}

/// Why a connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
enum ImageLinkError {
    #[error(transparent)]
    Dial(#[from] link::DialError),
    #[error("no answer within {} s", DIAL_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("sending failed: {0}")]
    Write(#[from] quinn::WriteError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the agent refused: {0}")]
    Refused(Refusal),
    #[error("the agent sent a reply of another type than expected")]
    Unexpected,
}

impl ImageLink {
    pub(super) fn new(deps: Dependencies) -> Self {
        Self { deps, sessions: 0 }
    }

    /// Keeps the connection up for as long as it is polled.
    pub(super) async fn run(mut self) -> Infallible {
        let mut backoff = BACKOFF.0;
        loop {
            match self.dial().await {
                Ok((connection, send, recv)) => {
                    tracing::info!(node = %self.deps.node, "node connected for images");
                    let Err(error) = self.serve(&connection, send, recv).await;
                    self.deps.delivery.inventory.connected(&self.deps.node, false);
                    tracing::warn!(node = %self.deps.node, %error, "image connection lost");
                    connection.close(VarInt::from_u32(close::PROTOCOL), b"");
                    backoff = BACKOFF.0;
                }
                // The shards' links warn about unreachable nodes already.
                Err(error) => {
                    tracing::debug!(node = %self.deps.node, %error, "node not reached for images");
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
            tokio::time::sleep(backoff).await;
        }
    }

    async fn dial(&mut self) -> Result<(Connection, SendStream, RecvStream), ImageLinkError> {
        self.sessions += 1;
        let Dependencies { endpoint, config, address, .. } = &self.deps;
        let dialled = async {
            let connection = link::dial(endpoint.clone(), config.clone(), address.clone()).await?;
            let (send, recv) = self.introduce(&connection).await?;
            Ok((connection, send, recv))
        };
        tokio::time::timeout(DIAL_TIMEOUT, dialled).await.map_err(|_| ImageLinkError::TimedOut)?
    }

    async fn introduce(&self, connection: &Connection) -> Result<(SendStream, RecvStream), ImageLinkError> {
        let (mut send, mut recv) = connection.open_bi().await?;
        let deliver = Deliver {
            edge: self.deps.edge.clone(),
            epoch: self.deps.epoch,
            session: self.sessions,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut call = frame::encode(&Call::Deliver(deliver))?;
        call.insert(0, STREAM_CALL);
        send.write_all(&call).await?;
        match frame::read(&mut recv).await? {
            Some(Answer::Done) => Ok((send, recv)),
            Some(Answer::Refused(refusal)) => Err(ImageLinkError::Refused(refusal)),
            _ => Err(ImageLinkError::Unexpected),
        }
    }

    async fn serve(
        &self,
        connection: &Connection,
        send: SendStream,
        recv: RecvStream,
    ) -> Result<Infallible, ImageLinkError> {
        self.deps.delivery.inventory.connected(&self.deps.node, true);
        tokio::select! {
            ended = self.send_wanted(send) => ended,
            ended = self.receive_reports(recv) => ended,
            ended = blobs::serve(connection, &self.deps.content) => Err(ended.into()),
        }
    }

    /// Sends the list of wanted images, and each change of it.
    async fn send_wanted(&self, mut send: SendStream) -> Result<Infallible, ImageLinkError> {
        let mut wanted = self.deps.delivery.wanted.subscribe();
        loop {
            let all = Arc::clone(&wanted.borrow_and_update());
            let images = self.fitting(&all);
            self.deps.delivery.inventory.wanted(&self.deps.node, &images);
            frame::write(&mut send, &Wanted { images }).await?;
            if wanted.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The images that the node can run.
    fn fitting(&self, all: &MadeFor) -> Vec<Digest> {
        let nodes = &self.deps.delivery.nodes;
        let fits = all.iter().filter(|(_, made_for)| nodes.can_run(&self.deps.node, made_for));
        fits.map(|(image, _)| *image).take(MAX_WANTED).collect()
    }

    async fn receive_reports(&self, mut recv: RecvStream) -> Result<Infallible, ImageLinkError> {
        let mut pace = Pace::starting(Instant::now());
        loop {
            tokio::time::sleep(pace.wait(Instant::now())).await;
            let status = frame::read_within(&mut recv, MAX_STATUS_BYTES).await?;
            let status: ImageStatus = status.ok_or(ImageLinkError::Unexpected)?;
            self.deps.delivery.inventory.reported(&self.deps.node, status);
        }
    }
}
