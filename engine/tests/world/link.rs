//! The edge's link to one node: its own outbox, term and loss (`berth_protocol`), and the calls and answers that are under way.
//!
//! As with an edge of several shards, it has two sessions: that of the shard whose objects these are, for orders, and that of the
//! shard that renews terms.
//!
//! Each call is on a stream of its own: any of them may arrive first. What a connection carried may still arrive when it is over,
//! until the node has a newer one.

use std::collections::{BTreeSet, HashSet, VecDeque};

use berth_common::ids::{EdgeId, Epoch, InstanceId};
use berth_common::wire::call::{Answer, Call, InstanceStatus, Renew, Resume, Start, Stop};
use berth_common::wire::term::Stamp;
use berth_engine::Kept;
use berth_protocol::edge::{GivenUp, Loss, NodeTerm, Outbox, PendingCall, RENEW_EVERY};
use berth_protocol::node::SessionId;

use crate::flaw::Flaw;
use crate::node::{Node, Supply};

/// An order for a node, on its way to the link.
#[derive(Debug)]
pub(crate) enum Command {
    Start(Box<Start>),
    Stop(Stop),
    Resume(InstanceId),
    Forget(InstanceId),
    Lost,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    Order(PendingCall),
    Renew,
    Resume,
}

/// A call on its way to the node. It may arrive after its connection is over, even after its edge is.
#[derive(Debug)]
struct UnderWay {
    session: SessionId,
    sent: Sent,
    call: Call,
}

/// A link. Its connection is up, or not. Times are of the edge's clock but where it says otherwise.
#[derive(Debug)]
pub(crate) struct Link {
    flaw: Option<Flaw>,
    session: SessionId,
    connected: bool,
    /// The session that renews terms, and whether its connection is up.
    renewer: SessionId,
    renews: bool,
    /// When the last connection ended, in this life of the edge, of day.
    heard_ms: Option<u64>,
    commands: VecDeque<Command>,
    /// It takes no commands for now.
    pub(crate) lags: bool,
    outbox: Outbox,
    resumes: BTreeSet<InstanceId>,
    pub(crate) term: NodeTerm,
    pub(crate) loss: Loss,
    renew_ms: u64,
    /// What goes to the node, and what comes from it, stands still.
    pub(crate) cut: (bool, bool),
    calls: VecDeque<UnderWay>,
    answers: VecDeque<(Sent, Answer)>,
}

impl Link {
    /// Not connected yet.
    pub(crate) fn new(edge: EdgeId, flaw: Option<Flaw>, now_ms: u64) -> Self {
        Self {
            flaw,
            session: SessionId { edge: edge.clone(), epoch: Epoch(1), shard: 1, number: 0 },
            connected: false,
            renewer: SessionId { edge, epoch: Epoch(1), shard: 0, number: 0 },
            renews: false,
            heard_ms: None,
            commands: VecDeque::new(),
            lags: false,
            outbox: Outbox::default(),
            resumes: BTreeSet::new(),
            term: NodeTerm::starting(now_ms),
            loss: Loss::default(),
            renew_ms: 0,
            cut: (false, false),
            calls: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    fn lacks(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether it is up, and nothing is under way or waits to be.
    pub(crate) fn is_idle(&self) -> bool {
        let nothing_waits = self.outbox.is_empty() && self.commands.is_empty() && self.resumes.is_empty();
        self.connected && nothing_waits && self.calls.is_empty()
    }

    /// Whether the edge reaches the node at all.
    pub(crate) fn reaches(&self) -> bool {
        self.connected || self.renews
    }

    pub(crate) fn renews(&self) -> bool {
        self.renews
    }

    // ---- orders

    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    /// Takes what was commanded. Gives back the starts that will never be sent.
    pub(crate) fn take_commands(&mut self) -> Vec<Start> {
        let commands = std::mem::take(&mut self.commands);
        commands.into_iter().filter_map(|command| self.take(command)).map(|start| *start).collect()
    }

    fn take(&mut self, command: Command) -> Option<Box<Start>> {
        match command {
            Command::Start(start) => self.outbox.start(start),
            Command::Stop(stop) => return self.outbox.stop(stop),
            Command::Resume(instance) => drop(self.resumes.insert(instance)),
            Command::Forget(instance) => self.outbox.forget(instance),
            Command::Lost => self.carry_out_loss(),
        }
        None
    }

    fn carry_out_loss(&mut self) {
        if !self.lacks(Flaw::LostOrdersKept) {
            self.outbox = Outbox::default();
            self.resumes.clear();
        }
        self.loss.carried_out();
    }

    /// Sends what can be sent, if the connection is up.
    pub(crate) fn send(&mut self, now_ms: u64) -> Result<(), GivenUp> {
        while self.connected
            && let Some((asked, mut call)) = self.outbox.next_call()
        {
            if let Call::Start(start) = &mut call {
                start.until = self.give(now_ms)?;
            }
            self.push(&self.session.clone(), Sent::Order(asked), call);
        }
        if self.connected && !self.resumes.is_empty() {
            let instances = std::mem::take(&mut self.resumes).into_iter().collect();
            let until = self.give(now_ms)?.expect("who told of something frozen has told its time");
            self.push(&self.session.clone(), Sent::Resume, Call::Resume(Resume { instances, until }));
        }
        Ok(())
    }

    fn give(&mut self, now_ms: u64) -> Result<Option<Stamp>, GivenUp> {
        let given = self.loss.give(&mut self.term, now_ms);
        if given.is_err() && self.lacks(Flaw::PromisedWhileLost) {
            return Ok(self.term.give());
        }
        given
    }

    fn push(&mut self, session: &SessionId, sent: Sent, call: Call) {
        self.calls.push_back(UnderWay { session: session.clone(), sent, call });
    }

    /// When terms are to be renewed next.
    pub(crate) fn renews_ms(&self) -> Option<u64> {
        self.renews.then_some(self.renew_ms)
    }

    /// Renews terms.
    pub(crate) fn renew(&mut self, now_ms: u64) -> Result<(), GivenUp> {
        self.renew_ms = now_ms + u64::try_from(RENEW_EVERY.as_millis()).unwrap();
        let until = self.give(now_ms)?;
        self.push(&self.renewer.clone(), Sent::Renew, Call::Renew(Renew { term_ms: 1, until }));
        Ok(())
    }

    // ---- connections

    /// Introduces the edge on a new connection. Gives back what the node tells of its instances.
    pub(crate) fn hello(&mut self, node: &mut Node, now_ms: u64) -> Vec<InstanceStatus> {
        self.session.number += 1;
        let (reported, stamp) = node.hello(&self.session);
        self.term.heard(stamp, now_ms);
        reported
    }

    /// The same of the shard that renews terms.
    pub(crate) fn greet(&mut self, node: &mut Node, now_ms: u64) {
        self.renewer.number += 1;
        let stamp = node.greet(&self.renewer);
        self.term.heard(stamp, now_ms);
        self.renews = true;
    }

    /// What is known of the time before, of a node that has lost nothing since then.
    pub(crate) fn kept(&self, since_ms: u64) -> Kept {
        Kept { since_ms: Some(since_ms), heard_ms: self.heard_ms }
    }

    /// Everything was heard that the node tells first. Gives back the starts that never began.
    pub(crate) fn synced(&mut self, kept: Kept, instances: &HashSet<InstanceId>) -> Vec<Start> {
        self.outbox.synced(kept.lost_since_heard(), instances)
    }

    pub(crate) fn reported(&mut self, instance: InstanceId) {
        self.outbox.reported(instance);
    }

    /// The instances whose starts are still to arrive, wherever they are on the way.
    pub(crate) fn unsettled(&self) -> HashSet<InstanceId> {
        let commanded = self.commands.iter().filter_map(|command| match command {
            Command::Start(start) => Some(start.instance),
            _ => None,
        });
        self.outbox.starting().into_iter().chain(commanded).collect()
    }

    /// From now on calls are sent.
    pub(crate) fn up(&mut self) {
        self.connected = true;
    }

    /// The connection is lost, with the answers that were under way; the calls too, or they still arrive.
    pub(crate) fn lost(&mut self, now_ms: u64, calls_lost: bool) {
        if self.connected {
            self.heard_ms = Some(now_ms);
        }
        (self.connected, self.renews) = (false, false);
        self.outbox.lost();
        self.resumes.clear();
        self.answers.clear();
        if calls_lost {
            self.calls.clear();
        }
    }

    /// The edge was killed, and is started again: it knows nothing of what it has not written down. What it had sent
    /// may still arrive.
    pub(crate) fn crash(&mut self, now_ms: u64) {
        self.lost(0, false);
        self.heard_ms = None;
        self.commands.clear();
        self.lags = false;
        self.outbox = Outbox::default();
        let waits = !self.lacks(Flaw::NextProcessWaitsForNothing);
        self.term = NodeTerm::starting(if waits { now_ms } else { 0 });
        // The store knows that.
        self.term.is_known_to_keep_terms();
        self.loss = Loss::default();
        for session in [&mut self.session, &mut self.renewer] {
            (session.epoch, session.number) = (Epoch(session.epoch.0 + 1), 0);
        }
    }

    // ---- what is under way

    /// How many calls are.
    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The node serves a call. Its answer is heard only where the connection is still the one that it came on.
    pub(crate) fn deliver(&mut self, index: usize, node: &mut Node, supply: Supply) {
        if self.cut.0 || !node.is_awake() {
            return;
        }
        let Some(UnderWay { session, sent, call }) = self.calls.remove(index) else { return };
        let answer = node.serve(&session, &call, supply);
        let is_up = (self.connected && session == self.session) || (self.renews && session == self.renewer);
        if is_up {
            self.answers.push_back((sent, answer));
        }
    }

    /// Whether the next call asks for a start.
    pub(crate) fn starts_next(&self) -> bool {
        self.calls.front().is_some_and(|next| matches!(next.sent, Sent::Order(PendingCall::Start(_))))
    }

    /// Takes the next answer; gives back the start, where one was refused.
    pub(crate) fn next_answer(&mut self, now_ms: u64) -> Option<(Answer, Option<Box<Start>>)> {
        if self.cut.1 {
            return None;
        }
        let (sent, answer) = self.answers.pop_front()?;
        if let Answer::Renewed(renewed) = &answer {
            self.term.heard(renewed.stamp, now_ms);
        }
        let start = match &sent {
            Sent::Order(asked) => self.outbox.answered(asked),
            Sent::Renew | Sent::Resume => None,
        };
        Some((answer, start))
    }
}
