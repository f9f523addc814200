//! One session of a link, from its Hello to its end, over its connection for calls; `data` is the other one.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use berth_common::clock::wall_ms;
use berth_common::ids::InstanceId;
use berth_common::wire::call::{
    Answer, Call, Hello, InstanceStatus, Prepare, Refusal, Renew, Resume, Start, Welcome,
};
use berth_common::wire::frame::FrameError;
use berth_common::wire::{close, frame};
use berth_engine::{Input, Kept};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use quinn::{Connection, RecvStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::call::{self, CallError};
use super::data::{DataConnection, DataDial};
use super::outbox::PendingCall;
use super::trust::{self, Excess, Known, MAX_STATUS_BYTES, Pace, Report};
use super::{Command, DialError, Link, OBSERVED_TERM};
use crate::nodes::{GivenUp, Nodes};
use crate::prepared::PreparedContainers;
use crate::shard::tunnel;
use crate::terms::RENEW_EVERY;

/// Longest wait for a node to report all its instances.
const SYNC_TIMEOUT: Duration = Duration::from_secs(15);
/// Most calls that wait for their replies at once.
const MAX_CALLS: usize = 64;
/// Most updates that are read ahead.
const UPDATES: usize = 256;
/// How often a connection is checked for received packets.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Checks between two questions about the node's room: twice a second would tell nobody more.
const ROOM_LOOKS: u32 = 2;
/// Checks without a packet after which the node is chosen last, and is pinged, again and again: a node that was restarted replies
/// with a reset, long before the connection would time out.
const QUIET_LOOKS: u32 = 3;

/// Why a connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("{call} failed: {error}")]
    Call { call: &'static str, error: CallError },
    #[error("the agent refused {call}: {refusal}")]
    Refused { call: &'static str, refusal: Refusal },
    #[error("the agent says that it is the node `{0}`")]
    OtherNode(String),
    #[error("the agent did not report its instances within {} s", SYNC_TIMEOUT.as_secs())]
    NotSynced,
    #[error("the agent closed the stream of its instances")]
    WatchEnded,
    #[error("no data connection: {0}")]
    Data(DialError),
    #[error("{0}")]
    Excess(#[from] Excess),
    #[error("the data connection was lost: {0}")]
    DataLost(quinn::ConnectionError),
    #[error("{0}")]
    GivenUp(#[from] GivenUp),
    #[error("the node is removed from this edge")]
    Removed,
}

impl SessionError {
    pub(super) fn close_code(&self) -> u32 {
        match self {
            Self::Connection(_)
            | Self::NotSynced
            | Self::WatchEnded
            | Self::Data(_)
            | Self::DataLost(_)
            | Self::GivenUp(_)
            | Self::Removed => close::SHUTDOWN,
            Self::Call { .. } | Self::OtherNode(_) | Self::Excess(_) => close::PROTOCOL,
            Self::Refused { .. } => close::FORBIDDEN,
        }
    }

    /// Whether the node has said more than an honest one can.
    pub(super) fn is_excess(&self) -> bool {
        let too_long = |error: &CallError| matches!(error, CallError::Frame(FrameError::TooLong(_)));
        match self {
            Self::Excess(_) => true,
            Self::Call { error, .. } => too_long(error),
            _ => false,
        }
    }
}

/// A message of a node that is not a reply.
enum WatchEvent {
    Instance(InstanceStatus),
    Draining(bool),
}

/// A call that was sent.
enum Sent {
    Order(PendingCall),
    Renew,
    Resume,
    Prepare,
    Room,
    /// Nothing but a sign of life is wanted.
    Ping,
}

type Answered = (Sent, Result<Answer, CallError>);

/// The concurrent parts of a session.
struct Session {
    connection: Connection,
    /// None if the agent knows only one connection.
    data: Option<DataConnection>,
    calls: FuturesUnordered<BoxFuture<'static, Answered>>,
    updates: mpsc::Receiver<Result<WatchEvent, CallError>>,
    /// None if another link of the node renews its terms.
    renew: Option<Renewals>,
    look: Interval,
    /// Whether the node is drained, and nothing is to be kept prepared on it.
    drained: bool,
    packets: u64,
    quiet: u32,
    /// Checks until the node is asked for its room again; none while that has no answer, or if another link asks.
    room_in: Option<u32>,
}

impl Link {
    /// Uses a connection until it is lost, or the edge stops (`Ok`).
    pub(super) async fn session(
        &mut self,
        connection: &Connection,
        stop: &CancellationToken,
    ) -> Result<(), SessionError> {
        let hello = hello(connection, self.hello());
        let Some(welcome) = self.meanwhile(hello, stop).await else { return Ok(()) };
        let welcome = trust::welcome(welcome?)?;
        if welcome.node != self.node {
            return Err(SessionError::OtherNode(welcome.node.to_string()));
        }
        if let Some(stamp) = welcome.stamp {
            self.nodes.stamped(&self.node, stamp);
        }
        let data = self.data(&welcome);
        let prepared = async { tokio::try_join!(initial_report(connection), data) };
        let Some(prepared) = self.meanwhile(prepared, stop).await else { return Ok(()) };
        let ((reported, watch), data) = prepared?;
        if !self.nodes.up(self.place.number, &welcome) {
            return Err(SessionError::Removed);
        }
        self.synced(reported, &welcome);
        self.objects.input(Input::NodeOpened);
        let for_tunnels = data.as_ref().map_or(connection, DataConnection::get);
        self.connection.send_replace(Some(for_tunnels.clone()));
        tracing::info!(node = %self.node, version = welcome.version, "node connected");
        // Reading a frame must not be cancelled half-way, so it runs in a task of its own, which ends with the session.
        let (sender, updates) = mpsc::channel(UPDATES);
        let reader = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(follow(watch, sender)));
        let mut session = Session::new(connection.clone(), data, updates);
        // As with the prepared containers, one link of a node is enough.
        session.room_in = self.prepared.is_some().then_some(1);
        session.renew = self.prepared.is_some().then(|| Renewals::of(&self.nodes));
        let ended = self.up(session, stop).await;
        drop(reader);
        ended
    }

    fn hello(&self) -> Hello {
        let introduction = &self.introduction;
        Hello {
            edge: introduction.edge.clone(),
            epoch: introduction.epoch,
            shard: introduction.shard,
            session: self.sessions,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            attach: true,
        }
    }

    /// The session's data connection, if the agent has offered one.
    fn data(
        &self,
        welcome: &Welcome,
    ) -> impl Future<Output = Result<Option<DataConnection>, SessionError>> + use<> {
        let to = DataDial {
            endpoint: self.endpoint.clone(),
            config: self.data_config.clone(),
            address: self.place.address.clone(),
        };
        let (hello, key) = (self.hello(), welcome.attach);
        async move {
            match key {
                Some(key) => DataConnection::attach(to, hello, key).await.map(Some),
                None => Ok(None),
            }
        }
    }

    /// Takes a node's report of all its instances on a new connection.
    fn synced(&mut self, reported: Vec<InstanceStatus>, welcome: &Welcome) {
        let mut instances: HashSet<InstanceId> = reported.iter().map(|status| status.instance).collect();
        self.known = Known::default();
        for status in reported {
            self.known.add(status.instance);
            self.update(status);
        }
        let since_ms = welcome.kept_for_ms.map(|kept| wall_ms().saturating_sub(kept));
        let kept = Kept { since_ms, heard_ms: self.heard_ms };
        for start in self.outbox.synced(kept.lost_since_heard(), &instances) {
            self.never_began(&start);
        }
        instances.extend(self.outbox.starting());
        self.objects.input(Input::Synced { node: self.node.clone(), instances, kept });
    }

    fn update(&mut self, status: InstanceStatus) {
        if !self.introduction.is_own(status.object) {
            return;
        }
        self.outbox.reported(status.instance);
        self.objects.input(Input::Status { node: self.node.clone(), status });
    }

    /// Takes a report that the node makes after the first ones.
    fn hear(&mut self, status: InstanceStatus) -> Result<(), SessionError> {
        if self.introduction.is_own(status.object) {
            self.known.expect(status.instance)?;
            self.update(status);
        }
        Ok(())
    }

    fn draining(&self, draining: bool) {
        self.nodes.draining(&self.node, draining);
        if !draining {
            self.objects.input(Input::NodeOpened);
        }
    }

    /// Takes an order into the outbox.
    pub(super) fn take(&mut self, command: Command) {
        match command {
            Command::Start(start) => self.outbox.start(start),
            Command::Stop(stop) => {
                if let Some(start) = self.outbox.stop(stop) {
                    self.never_began(&start);
                }
            }
            Command::Resume(instance) => drop(self.resumes.insert(instance)),
            Command::Forget(instance) => self.outbox.forget(instance),
            Command::Lost => {
                self.outbox.clear();
                self.resumes.clear();
                self.nodes.loss_carried_out(&self.node);
            }
        }
    }

    fn never_began(&self, start: &Start) {
        tracing::info!(node = %self.node, instance = %start.instance, object = %start.object, "start not sent in time");
        self.objects.input(Input::NeverBegan { object: start.object.id(), instance: start.instance });
    }

    async fn up(&mut self, mut session: Session, stop: &CancellationToken) -> Result<(), SessionError> {
        // The prepared containers are sent on each connection, and when they change.
        if let Some(prepared) = &mut self.prepared {
            prepared.mark_changed();
        }
        if session.data.is_none() {
            tracing::warn!(node = %self.node, "its agent is older: tunnels and calls share a connection until it is upgraded");
            tunnel::widen(&session.connection);
        }
        loop {
            while session.calls.len() < MAX_CALLS
                && let Some((asked, mut call)) = self.outbox.next()
            {
                if let PendingCall::Start(instance) = asked {
                    self.known.add(instance);
                }
                if let Call::Start(start) = &mut call {
                    start.until = self.nodes.give_term(&self.node)?;
                }
                session.send(Sent::Order(asked), call);
            }
            self.resume(&session)?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                error = session.connection.closed() => return Err(error.into()),
                error = data_lost(&session.data) => return Err(SessionError::DataLost(error)),
                Some(command) = self.commands.recv() => self.take(command),
                Some(answered) = session.calls.next() => {
                    if self.answered(answered)? {
                        session.room_in = Some(ROOM_LOOKS);
                    }
                }
                update = session.updates.recv() => match update {
                    Some(Ok(WatchEvent::Instance(status))) => self.hear(status)?,
                    Some(Ok(WatchEvent::Draining(draining))) => self.draining(draining),
                    Some(Err(error)) => return Err(SessionError::Call { call: "watch", error }),
                    None => return Err(SessionError::WatchEnded),
                },
                prepare = changed(&mut self.prepared) => {
                    let prepare = if session.drained { Prepare::default() } else { prepare };
                    session.send(Sent::Prepare, Call::Prepare(prepare));
                }
                () = due(&mut session.renew) => self.renew(&session)?,
                _ = session.look.tick() => {
                    self.nodes.measured(&self.node, session.connection.rtt());
                    self.nodes.quiet(&self.node, session.is_quiet());
                    session.ask_for_room();
                    self.look_whether_drained(&mut session);
                }
            }
        }
    }

    /// On a drained node nothing is kept prepared.
    fn look_whether_drained(&mut self, session: &mut Session) {
        let drained = self.nodes.drained_ms(&self.node).is_some();
        let changed = std::mem::replace(&mut session.drained, drained) != drained;
        if let Some(prepared) = self.prepared.as_mut().filter(|_| changed) {
            prepared.mark_changed();
        }
    }

    /// Takes an answer. True if it was one about the node's room, which is to be asked for again.
    fn answered(&mut self, (sent, answer): Answered) -> Result<bool, SessionError> {
        let call = name(&sent);
        let answer = answer.map_err(|error| SessionError::Call { call, error })?;
        let start = match &sent {
            Sent::Order(asked) => {
                if let (PendingCall::Forget(instances), Answer::Done) = (asked, &answer) {
                    self.known.remove(instances);
                }
                self.outbox.answered(asked)
            }
            Sent::Renew | Sent::Resume | Sent::Prepare | Sent::Room | Sent::Ping => None,
        };
        match (answer, start) {
            (Answer::Accepted | Answer::Done, _) => {}
            (Answer::Renewed(renewed), None) => self.nodes.stamped(&self.node, renewed.stamp),
            (Answer::Room(_), None) if matches!(sent, Sent::Ping) => {}
            (Answer::Room(room), None) if matches!(sent, Sent::Room) => {
                self.nodes.room(&self.node, trust::room(room)?);
                return Ok(true);
            }
            (Answer::Refused(refusal), Some(start)) => self.start_refused(&start, refusal),
            (Answer::Refused(refusal), None) => {
                tracing::debug!(node = %self.node, call, %refusal, "call refused");
            }
            _ => return Err(SessionError::Call { call, error: CallError::Unexpected }),
        }
        Ok(false)
    }

    /// Renews the terms of the node's instances.
    fn renew(&self, session: &Session) -> Result<(), GivenUp> {
        let term_ms = u64::try_from(OBSERVED_TERM.as_millis()).unwrap_or(u64::MAX);
        let until = self.nodes.give_term(&self.node)?;
        session.send(Sent::Renew, Call::Renew(Renew { term_ms, until }));
        Ok(())
    }

    /// Has the node thaw what is to go on. One that has told of something frozen has told its time.
    fn resume(&mut self, session: &Session) -> Result<(), GivenUp> {
        let instances: Vec<InstanceId> = std::mem::take(&mut self.resumes).into_iter().collect();
        if instances.is_empty() {
            return Ok(());
        }
        if let Some(until) = self.nodes.give_term(&self.node)? {
            tracing::info!(node = %self.node, instances = instances.len(), "resuming what the node has paused");
            session.send(Sent::Resume, Call::Resume(Resume { instances, until }));
        }
        Ok(())
    }

    fn start_refused(&self, start: &Start, refusal: Refusal) {
        tracing::info!(node = %self.node, instance = %start.instance, object = %start.object, %refusal, "start refused");
        self.objects.input(Input::StartRefused {
            object: start.object.id(),
            instance: start.instance,
            refusal,
        });
    }
}

impl Session {
    fn new(
        connection: Connection,
        data: Option<DataConnection>,
        updates: mpsc::Receiver<Result<WatchEvent, CallError>>,
    ) -> Self {
        Self {
            connection,
            data,
            calls: FuturesUnordered::new(),
            updates,
            renew: None,
            look: every(LOOK_EVERY),
            drained: false,
            packets: 0,
            quiet: 0,
            room_in: None,
        }
    }

    fn send(&self, sent: Sent, call: Call) {
        let connection = self.connection.clone();
        self.calls.push(Box::pin(async move { (sent, call::ask(&connection, &call).await) }));
    }

    fn ask_for_room(&mut self) {
        self.room_in = match self.room_in {
            Some(0 | 1) => {
                self.send(Sent::Room, Call::Room);
                None
            }
            looks => looks.map(|looks| looks - 1),
        };
    }

    /// Whether nothing has come for a while. Then the node is pinged.
    fn is_quiet(&mut self) -> bool {
        let packets = self.connection.stats().udp_rx.datagrams;
        self.quiet = if packets == self.packets { self.quiet + 1 } else { 0 };
        self.packets = packets;
        let is_quiet = self.quiet >= QUIET_LOOKS;
        if is_quiet {
            self.send(Sent::Ping, Call::Room);
        }
        is_quiet
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// When terms are renewed: regularly, and when it is asked for.
struct Renewals {
    regular: Interval,
    asked: watch::Receiver<()>,
}

impl Renewals {
    fn of(nodes: &Nodes) -> Self {
        Self { regular: every(RENEW_EVERY), asked: nodes.renewals() }
    }
}

/// Completes when terms are to be renewed; never, if another link does that.
async fn due(renewals: &mut Option<Renewals>) {
    let Some(Renewals { regular, asked }) = renewals else { return std::future::pending().await };
    tokio::select! {
        _ = regular.tick() => {}
        // The sender lives as long as the edge.
        Ok(()) = asked.changed() => {}
    }
}

/// Completes when the data connection is lost, if there is one.
async fn data_lost(data: &Option<DataConnection>) -> quinn::ConnectionError {
    match data {
        Some(data) => data.get().closed().await,
        None => std::future::pending().await,
    }
}

async fn hello(connection: &Connection, hello: Hello) -> Result<Welcome, SessionError> {
    match call::ask(connection, &Call::Hello(hello)).await {
        Ok(Answer::Welcome(welcome)) => Ok(welcome),
        Ok(Answer::Refused(refusal)) => Err(SessionError::Refused { call: "hello", refusal }),
        Ok(_) => Err(SessionError::Call { call: "hello", error: CallError::Unexpected }),
        Err(error) => Err(SessionError::Call { call: "hello", error }),
    }
}

/// The report of all instances that a node sends first, and the stream of its changes.
async fn initial_report(connection: &Connection) -> Result<(Vec<InstanceStatus>, RecvStream), SessionError> {
    let reported = async {
        let mut watch = call::open(connection, &Call::Watch).await.map_err(watch_failed)?;
        let mut reported = Report::default();
        while let Some(event) = next_event(&mut watch).await.map_err(watch_failed)? {
            let WatchEvent::Instance(status) = event else { return Err(watch_failed(CallError::Unexpected)) };
            reported.add(status)?;
        }
        Ok((reported.all(), watch))
    };
    tokio::time::timeout(SYNC_TIMEOUT, reported).await.map_err(|_| SessionError::NotSynced)?
}

fn watch_failed(error: CallError) -> SessionError {
    SessionError::Call { call: "watch", error }
}

/// The next message of the stream, or `None` once all instances were reported (`Synced`).
async fn next_event(watch: &mut RecvStream) -> Result<Option<WatchEvent>, CallError> {
    match frame::read_within(watch, MAX_STATUS_BYTES).await?.ok_or(CallError::NoAnswer)? {
        Answer::Update(status) => Ok(Some(WatchEvent::Instance(trust::status(status)))),
        Answer::Draining(draining) => Ok(Some(WatchEvent::Draining(draining))),
        Answer::Synced => Ok(None),
        _ => Err(CallError::Unexpected),
    }
}

/// Reads updates, at a pace, until the stream ends or the receiver is gone.
async fn follow(mut watch: RecvStream, sender: mpsc::Sender<Result<WatchEvent, CallError>>) {
    let mut pace = Pace::starting(Instant::now());
    loop {
        let wait = pace.wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let update = match next_event(&mut watch).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(CallError::Unexpected),
            Err(error) => Err(error),
        };
        let ended = update.is_err();
        if sender.send(update).await.is_err() || ended {
            return;
        }
    }
}

/// The next list of prepared containers; never, if another link sends them.
async fn changed(prepared: &mut Option<PreparedContainers>) -> Prepare {
    match prepared {
        Some(prepared) => prepared.changed().await,
        None => std::future::pending().await,
    }
}

fn name(sent: &Sent) -> &'static str {
    match sent {
        Sent::Order(PendingCall::Start(_)) => "start",
        Sent::Order(PendingCall::Stop(_)) => "stop",
        Sent::Order(PendingCall::Forget(_)) => "forget",
        Sent::Renew => "renew",
        Sent::Resume => "resume",
        Sent::Prepare => "prepare",
        Sent::Room | Sent::Ping => "room",
    }
}
