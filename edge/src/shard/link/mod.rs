//! One shard's link to one node: dials, introduces the edge, follows the node's instances, sends orders, and dials
//! again when a connection is lost. Requests open their tunnel streams on the session's second connection (`data`), so
//! that what they leave unread, or how many they are, cannot delay its calls.
//!
//! ```text
//!        ┌──────────────────── one of both lost, or broken protocol: wait a little ──────────────────────┐
//!        ▼                                                                                               │
//!  ──▶ Dialling ──▶ Hello/Welcome ──▶ Watch: Update* Synced, and Attach ──▶ Up: send, renew, follow ──edge stops──▶ closed
//! ```
//!
//! Decides nothing about objects: the node's reports go to the objects' actor as inputs.
//!
//! What fails, and what happens then:
//!
//! * Node not reachable, or no reply to dialling: dialled again after a backoff; orders wait in the outbox.
//! * Either connection lost or silent: both end. Unanswered orders stay in the outbox, and the node is dialled again.
//! * The agent is of a version without data connections: everything flows on the first connection.
//! * The node reports no instances in time, or breaks the protocol: the connection is closed, and the node is dialled
//!   again after a backoff.
//! * The node reports more than an honest one can have to say (`trust`): the same, and each time the backoff is longer.
//! * Node restarted without its instances (agent and supervisor): instances that it does not report have ended.
//! * A start never reached the node before its instance was to end: the engine is told so (`NeverBegan`), if it was sent
//!   once the node has reported all its instances.
//! * The node is removed from the edge: as when the edge stops. It has nothing of the edge by then (`nodes::members`).
//! * Edge stops: the connection is closed; instances run on until their term is over (`terms`), and then pause.
//! * The node is not heard of for longer than its term: it is given up (`silence`), with all orders for it.
//! * The node tells of a paused instance: it is resumed, if its object still has it, or ended.

mod all;
pub(crate) mod call;
mod data;
mod outbox;
mod session;
pub(crate) mod trust;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use berth_certs::{KeyHash, Lifetime};
use berth_common::clock::wall_ms;
use berth_common::ids::{EdgeId, Epoch, InstanceId, NodeId, ObjectId};
use berth_common::wire::call::{Start, Stop};
use berth_common::wire::close;
use berth_common::wire::tunnel::TunnelHeader;
use quinn::{Connection, Endpoint, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::all::{LinkParts, Links};
use self::outbox::{Outbox, Unsettled};
use self::session::SessionError;
use self::trust::Known;
use super::objects::Mailbox;
use super::shard_of;
use super::streams::{AppKey, Shared, Tenant};
use super::tunnel::{self, OpenError, TunnelStream};
use super::unread::Unread;
use crate::nodes::{Nodes, Place};
use crate::prepared::PreparedContainers;

/// Shortest and longest backoff before dialling again. A node that comes back is found within the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How often is told that a node is still not reached: it is tried several times a second.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Longest wait for a connection. After that, dialling starts over with new packets.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest backoff after sessions that the node ended by a breach of the protocol, one after the other.
const MAX_PENALTY: Duration = Duration::from_secs(30);

/// What agents are told that know no stamps: they only observe it.
pub(crate) const OBSERVED_TERM: Duration = Duration::from_secs(120);

/// An order for a node.
#[derive(Debug)]
pub(crate) enum Command {
    Start(Box<Start>),
    Stop(Stop),
    Resume(InstanceId),
    Forget(InstanceId),
    /// The node was given up: whatever was to be sent to it before is void.
    Lost,
}

/// A handle to a link, for the rest of the shard.
#[derive(Clone)]
pub(crate) struct LinkHandle {
    node: NodeId,
    nodes: Arc<Nodes>,
    /// Not bounded by itself: the engine sends a node at most a start, a forget and a few stops per instance, and
    /// reserves room on the node for each instance first. Further stops come only from API orders, each of which waits
    /// for a write.
    commands: mpsc::UnboundedSender<Command>,
    unsettled: Unsettled,
    /// That for tunnels and questions.
    connection: watch::Receiver<Option<Connection>>,
    /// The shares of the tunnel streams on it.
    streams: Arc<Shared>,
    unread: Arc<Unread>,
}

impl LinkHandle {
    /// Queues an order for the node. It is sent as soon as the node is connected.
    pub(crate) fn send(&self, command: Command) {
        if let Command::Start(start) = &command {
            self.unsettled.begin(start.instance);
        }
        if let Err(mpsc::error::SendError(command)) = self.commands.send(command) {
            tracing::debug!(node = %self.node, "the edge stops or the node was removed: order dropped");
            carried_out(&command, &self.nodes, &self.node);
        }
    }

    /// The instances whose starts were queued or sent, and that the node has not replied to.
    pub(crate) fn unsettled(&self) -> HashSet<InstanceId> {
        self.unsettled.all()
    }

    /// How long it takes until the node, if it is silent, is given up.
    pub(crate) fn given_up_in(&self) -> Option<Duration> {
        self.nodes.given_up_in(&self.node)
    }

    /// Opens a stream to a port of an instance of this app, on a connection that `connected` has given.
    pub(crate) async fn open(
        &self,
        connection: &Connection,
        header: TunnelHeader,
        app: AppKey,
    ) -> Result<TunnelStream, OpenError> {
        let permit = self.streams.take(Tenant { instance: header.instance, app }).ok_or(OpenError::Share)?;
        tunnel::open(connection, header, permit, &self.unread).await
    }

    /// A connection to the node, for tunnels and questions, that is up as far as is known, as soon as there is one.
    pub(crate) async fn connected(&self, deadline: Instant) -> Option<Connection> {
        let mut connection = self.connection.clone();
        let live = connection.wait_for(|c| c.as_ref().is_some_and(|c| c.close_reason().is_none()));
        let live = tokio::time::timeout_at(deadline, live).await.ok()?.ok()?;
        live.clone()
    }
}

/// How this shard introduces itself to nodes.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    pub(crate) edge: EdgeId,
    pub(crate) epoch: Epoch,
    pub(crate) shard: u16,
    /// How many shards the edge has.
    pub(crate) shards: u16,
}

impl Introduction {
    /// Whether an object belongs to this shard. Nodes report every shard all the edge's instances, because the number
    /// of shards may change while instances run.
    fn is_own(&self, object: ObjectId) -> bool {
        shard_of(object, usize::from(self.shards)) == usize::from(self.shard)
    }
}

/// One shard's sessions with one node, of which there is one at a time.
pub(crate) struct Link {
    node: NodeId,
    place: Place,
    introduction: Introduction,
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    data_config: quinn::ClientConfig,
    nodes: Arc<Nodes>,
    objects: Mailbox,
    /// The prepared containers, if this link is the one that sends them.
    prepared: Option<PreparedContainers>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The one for tunnels, for the rest of the shard.
    connection: watch::Sender<Option<Connection>>,
    outbox: Outbox,
    /// Instances that are to be thawed. Not kept over a connection: a node tells of what is frozen on each.
    resumes: BTreeSet<InstanceId>,
    /// What the node may report in this session.
    known: Known,
    /// How long it is left alone after its next breach.
    penalty: Duration,
    /// Number of the last connection in this epoch.
    sessions: u64,
    /// When the last connection ended on which the node had reported its instances, in milliseconds since 1970.
    heard_ms: Option<u64>,
}

/// What a link is built from.
pub(crate) struct Dependencies {
    pub(crate) node: NodeId,
    pub(crate) place: Place,
    pub(crate) introduction: Introduction,
    pub(crate) endpoint: Endpoint,
    /// For the connection for calls.
    pub(crate) config: quinn::ClientConfig,
    /// For that for tunnels.
    pub(crate) data_config: quinn::ClientConfig,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) objects: Mailbox,
    pub(crate) prepared: Option<PreparedContainers>,
    /// Watches the streams of all of the shard's links.
    pub(crate) unread: Arc<Unread>,
}

/// A link that has ended sends nothing: the loss of its node is carried out with that. Without, the next link would wait for it for ever.
fn carried_out(command: &Command, nodes: &Nodes, node: &NodeId) {
    if matches!(command, Command::Lost) {
        nodes.loss_carried_out(node);
    }
}

impl Link {
    pub(crate) fn new(dependencies: Dependencies) -> (Self, LinkHandle) {
        let Dependencies { node, place, introduction, endpoint, config, data_config, nodes, objects, .. } =
            dependencies;
        let Dependencies { prepared, unread, .. } = dependencies;
        let (sender, commands) = mpsc::unbounded_channel();
        let (connection, connected) = watch::channel(None);
        let unsettled = Unsettled::default();
        let outbox = Outbox::new(unsettled.clone());
        let (node_of, nodes_of) = (node.clone(), Arc::clone(&nodes));
        let link = Self {
            node,
            place,
            introduction,
            endpoint,
            config,
            data_config,
            nodes,
            objects,
            prepared,
            commands,
            connection,
            outbox,
            resumes: BTreeSet::new(),
            known: Known::default(),
            penalty: BACKOFF.1,
            sessions: 0,
            heard_ms: None,
        };
        let streams = Shared::streams();
        let handle = LinkHandle {
            node: node_of,
            nodes: nodes_of,
            commands: sender,
            unsettled,
            connection: connected,
            streams,
            unread,
        };
        (link, handle)
    }

    /// Keeps the connection up until the edge stops, or the node is removed or has another link.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        self.keep_up(stop).await;
        // From here on this sends nothing.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            carried_out(&command, &self.nodes, &self.node);
        }
    }

    async fn keep_up(&mut self, stop: CancellationToken) {
        let mut backoff = BACKOFF.0;
        let mut unreached = Unreached::default();
        while !stop.is_cancelled() {
            match self.dial(&stop).await {
                Ok(connection) => {
                    backoff = BACKOFF.0;
                    unreached = Unreached::default();
                    self.note_certificate(&connection);
                    self.serve(connection, &stop).await;
                }
                Err(DialError::Stopping) => return,
                Err(DialError::TimedOut) => {
                    tracing::debug!(node = %self.node, "node not reached: no reply to dialling");
                }
                Err(error) => {
                    if let Some(left_out) = unreached.told(Instant::now()) {
                        let (node, address) = (&self.node, &self.place.address);
                        tracing::warn!(%node, address, %error, left_out, "node not reached; tried again and again");
                    }
                    self.pause(backoff, &stop).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Notes how long the node's certificate, which the handshake has checked, still holds, and its key.
    fn note_certificate(&self, connection: &Connection) {
        let chain =
            connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let shown = chain.and_then(|chain| {
            let certificate = chain.first()?;
            Some((Lifetime::of(certificate).ok()?, KeyHash::of(certificate).ok()?))
        });
        if let Some((lifetime, key)) = shown {
            self.nodes.certified(&self.node, lifetime, key);
        }
    }

    /// Waits before the next attempt, and takes orders in the meantime.
    async fn pause(&mut self, backoff: Duration, stop: &CancellationToken) {
        self.meanwhile(tokio::time::sleep(backoff), stop).await;
    }

    /// Takes orders until the other work is done, or the edge stops.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = stop.cancelled() => return None,
                Some(command) = self.commands.recv() => self.take(command),
            }
        }
    }

    async fn dial(&mut self, stop: &CancellationToken) -> Result<Connection, DialError> {
        let dialled = dial(self.endpoint.clone(), self.config.clone(), self.place.address.clone());
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, dialled);
        match self.meanwhile(dialled, stop).await {
            Some(Ok(connection)) => connection,
            Some(Err(_)) => Err(DialError::TimedOut),
            None => Err(DialError::Stopping),
        }
    }

    /// Uses a connection until it is lost.
    async fn serve(&mut self, connection: Connection, stop: &CancellationToken) {
        self.sessions += 1;
        let ended = self.session(&connection, stop).await;
        let was_up = self.connection.send_replace(None).is_some();
        self.outbox.lost();
        self.resumes.clear();
        if was_up {
            self.heard_ms = Some(wall_ms());
            self.nodes.down(&self.node);
        }
        if let Err(error) = ended.as_ref()
            && was_up
            && !stop.is_cancelled()
        {
            self.nodes.silent(&self.node, &error.to_string());
        }
        match ended {
            Err(error) if !stop.is_cancelled() => self.give_up(&connection, &error, stop).await,
            _ => connection.close(VarInt::from_u32(close::SHUTDOWN), b"the edge stops"),
        }
    }

    /// Closes a connection after an error, and pauses if dialling at once would fail in the same way.
    async fn give_up(&mut self, connection: &Connection, error: &SessionError, stop: &CancellationToken) {
        let (heard_ago, paused_in) = self.nodes.silence(&self.node).unzip();
        tracing::warn!(node = %self.node, %error, ?heard_ago, ?paused_in, "connection to node lost");
        let lasting = connection.close_reason().is_none();
        connection.close(VarInt::from_u32(error.close_code()), b"");
        let penalty = std::mem::replace(&mut self.penalty, BACKOFF.1);
        if error.is_excess() {
            tracing::warn!(node = %self.node, ?penalty, "the node is left alone for a while: is it compromised?");
            self.penalty = (penalty * 2).min(MAX_PENALTY);
            self.pause(penalty, stop).await;
        } else if lasting {
            self.pause(BACKOFF.1, stop).await;
        }
    }
}

/// How often was tried in vain, and when that was told.
#[derive(Default)]
struct Unreached {
    last: Option<Instant>,
    left_out: u32,
}

impl Unreached {
    /// How many attempts were left out since it was last told; none if this one is left out too.
    fn told(&mut self, now: Instant) -> Option<u32> {
        if self.last.is_some_and(|last| now.duration_since(last) < TELL_EVERY) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Why a node was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the address cannot be resolved: {0}")]
    Address(std::io::Error),
    #[error("the address resolves to nothing")]
    NoAddress,
    #[error("{0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("the edge is stopping")]
    Stopping,
    #[error("no answer")]
    TimedOut,
}

pub(crate) async fn dial(
    endpoint: Endpoint,
    config: quinn::ClientConfig,
    address: String,
) -> Result<Connection, DialError> {
    let mut addresses = tokio::net::lookup_host(address).await.map_err(DialError::Address)?;
    let address = addresses.next().ok_or(DialError::NoAddress)?;
    Ok(endpoint.connect_with(config, address, berth_certs::SERVER_NAME)?.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_node_is_not_reached_is_told_once_a_minute() {
        let (mut unreached, begin) = (Unreached::default(), Instant::now());
        assert_eq!(unreached.told(begin), Some(0));
        // It is tried twice a second.
        let told: Vec<(u32, u32)> =
            (1..=240).filter_map(|tried| Some((tried, unreached.told(begin + tried * BACKOFF.1)?))).collect();
        assert_eq!(told, [(120, 119), (240, 119)]);
    }
}
