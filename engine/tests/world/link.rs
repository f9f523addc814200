//! The edge's link to one node: its own outbox, and the calls and answers that are under way.

use std::collections::{HashSet, VecDeque};

use berth_common::ids::{EdgeId, Epoch, InstanceId};
use berth_common::wire::call::{Answer, Call, InstanceStatus, Start};
use berth_engine::Kept;
use berth_protocol::edge::{Outbox, PendingCall};
use berth_protocol::node::SessionId;

use crate::node::{Node, Supply};

/// A call on its way to the node. It may arrive after its connection is over, even after its edge is.
#[derive(Debug)]
struct UnderWay {
    session: SessionId,
    asked: PendingCall,
    call: Call,
}

/// A link. Its connection is up, or not.
#[derive(Debug)]
pub(crate) struct Link {
    session: SessionId,
    connected: bool,
    /// When the last connection ended, in this life of the edge.
    heard_ms: Option<u64>,
    outbox: Outbox,
    calls: VecDeque<UnderWay>,
    answers: VecDeque<(PendingCall, Answer)>,
}

impl Link {
    /// Not connected yet.
    pub(crate) fn new(edge: EdgeId) -> Self {
        Self {
            session: SessionId { edge, epoch: Epoch(1), shard: 0, number: 0 },
            connected: false,
            heard_ms: None,
            outbox: Outbox::default(),
            calls: VecDeque::new(),
            answers: VecDeque::new(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Does something to what the node is to be told. What can be sent is.
    pub(crate) fn with_outbox<T>(&mut self, act: impl FnOnce(&mut Outbox) -> T) -> T {
        let done = act(&mut self.outbox);
        while self.connected
            && let Some((asked, call)) = self.outbox.next_call()
        {
            self.calls.push_back(UnderWay { session: self.session.clone(), asked, call });
        }
        done
    }

    /// Introduces the edge on a new connection. Gives back what the node tells of its instances.
    pub(crate) fn hello(&mut self, node: &mut Node) -> Vec<InstanceStatus> {
        self.session.number += 1;
        node.hello(&self.session)
    }

    /// What is known of the time before, of a node that has lost nothing since then.
    pub(crate) fn kept(&self, since_ms: u64) -> Kept {
        Kept { since_ms: Some(since_ms), heard_ms: self.heard_ms }
    }

    /// Everything was heard that the node tells first. Gives back the starts that never began.
    pub(crate) fn synced(&mut self, kept: Kept, instances: &HashSet<InstanceId>) -> Vec<Start> {
        self.outbox.synced(kept.lost_since_heard(), instances)
    }

    /// The instances whose starts are still to arrive.
    pub(crate) fn starting(&self) -> HashSet<InstanceId> {
        self.outbox.starting()
    }

    /// From now on calls are sent.
    pub(crate) fn up(&mut self) {
        self.connected = true;
        self.with_outbox(|_| ());
    }

    /// The node serves the next call. Its answer is heard only where the connection is still the one that it came on.
    pub(crate) fn deliver(&mut self, node: &mut Node, supply: Supply) {
        let Some(UnderWay { session, asked, call }) = self.calls.pop_front() else { return };
        let answer = node.serve(&session, &call, supply);
        if self.connected && session == self.session {
            self.answers.push_back((asked, answer));
        }
    }

    /// Whether the next call asks for a start.
    pub(crate) fn starts_next(&self) -> bool {
        self.calls.front().is_some_and(|next| matches!(next.asked, PendingCall::Start(_)))
    }

    /// The next answer; with the start, where one was refused.
    pub(crate) fn next_answer(&mut self) -> Option<(Answer, Option<Box<Start>>)> {
        let (asked, answer) = self.answers.pop_front()?;
        let start = self.with_outbox(|outbox| outbox.answered(&asked));
        Some((answer, start))
    }

    /// The connection is lost, with the answers that were under way; the calls too, or they still arrive.
    pub(crate) fn lost(&mut self, now_ms: u64, calls_lost: bool) {
        if self.connected {
            self.heard_ms = Some(now_ms);
        }
        self.connected = false;
        self.outbox.lost();
        self.answers.clear();
        if calls_lost {
            self.calls.clear();
        }
    }

    /// The edge was killed, and is started again: it knows nothing of what it has not written down. What it had sent
    /// may still arrive.
    pub(crate) fn crash(&mut self) {
        self.lost(0, false);
        self.heard_ms = None;
        self.outbox = Outbox::default();
        self.session =
            SessionId { epoch: Epoch(self.session.epoch.0 + 1), number: 0, ..self.session.clone() };
    }
}
