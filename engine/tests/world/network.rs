//! What passes between the edge and its nodes, and what the edge makes of their silence.

use std::collections::HashSet;
use std::time::Duration;

use berth_common::ids::InstanceId;
use berth_common::wire::call::{Answer, DiskCapacity, InstanceStatus};
use berth_engine::{Input, Silence};
use berth_protocol::edge::{Look, Looks, MARGIN};

use crate::flaw::Flaw;
use crate::link::Command;
use crate::model::{CAPACITY, World};
use crate::node::{News, Supply};
use crate::shell::never_began;

/// How often the edge looks for silent nodes, in milliseconds.
const LOOK_EVERY_MS: u64 = 250;

impl World {
    // ---- reports and answers

    /// The edge receives all answers that have arrived.
    fn take_answers(&mut self, node: usize) {
        while let Some((answer, start)) = self.links[node].next_answer(self.now.mono_ms) {
            if let (Answer::Refused(refusal), Some(start)) = (answer, start) {
                let (object, instance) = (start.object.id(), start.instance);
                self.promises.start_refused(object, node);
                self.tell(Input::StartRefused { object, instance, refusal });
            }
        }
        self.send(node);
    }

    /// The edge receives the next report, and before that all answers that have arrived.
    pub(crate) fn report(&mut self, node: usize) {
        self.take_answers(node);
        if self.links[node].cut.1 {
            return;
        }
        match self.nodes[node].next_report() {
            Some(News::Instance(status)) => self.hear(node, status),
            Some(News::Draining(draining)) => {
                self.draining[node] = draining;
                self.fleet.node_draining(&self.names[node], draining);
                if !draining {
                    self.tell(Input::NodeOpened);
                }
            }
            None => {}
        }
    }

    fn hear(&mut self, node: usize, status: InstanceStatus) {
        self.links[node].reported(status.instance);
        if status.frozen && self.flaw == Some(Flaw::StrangersResumed) {
            return self.command(&self.names[node].clone(), Command::Resume(status.instance));
        }
        self.tell(Input::Status { node: self.names[node].clone(), status });
        self.send(node);
    }

    // ---- calls

    pub(crate) fn deliver(&mut self, node: usize, index: usize) {
        self.links[node].deliver(index, &mut self.nodes[node], Supply::Enough);
    }

    /// The node lacks what the next start needs.
    pub(crate) fn refuse(&mut self, node: usize) {
        if self.links[node].starts_next() {
            self.links[node].deliver(0, &mut self.nodes[node], Supply::Lacking);
        }
    }

    /// Sends what can be sent.
    pub(crate) fn send(&mut self, node: usize) {
        if self.links[node].send(self.now.mono_ms).is_err() {
            self.disconnect(node, false);
        }
    }

    /// Terms are renewed. Where nothing hinders it, the node answers at once.
    fn renew(&mut self, node: usize) {
        if self.links[node].renew(self.now.mono_ms).is_err() {
            return self.disconnect(node, false);
        }
        let last = self.links[node].calls() - 1;
        self.deliver(node, last);
        self.take_answers(node);
    }

    /// When terms are to be renewed next.
    pub(crate) fn renews_ms(&self) -> Option<u64> {
        self.links.iter().filter_map(crate::link::Link::renews_ms).min()
    }

    pub(crate) fn renew_due(&mut self) {
        for node in 0..self.links.len() {
            if self.links[node].renews_ms().is_some_and(|at| at <= self.now.mono_ms) {
                self.renew(node);
            }
        }
    }

    /// Terms are renewed at once, wherever they are.
    pub(crate) fn renew_all(&mut self) {
        for node in 0..self.links.len() {
            if self.links[node].renews() {
                self.renew(node);
            }
        }
    }

    // ---- connections

    pub(crate) fn disconnect(&mut self, node: usize, orders_lost: bool) {
        self.links[node].lost(self.now.wall_ms, orders_lost);
        self.nodes[node].hang_up();
        self.fleet.node_down(&self.names[node]);
    }

    fn can_connect(&self, node: usize) -> bool {
        self.links[node].cut == (false, false) && self.nodes[node].is_awake()
    }

    /// A connection is made, and lost before it is of use.
    pub(crate) fn connect_in_vain(&mut self, node: usize) {
        if self.can_connect(node) && !self.links[node].is_connected() {
            self.links[node].hello(&mut self.nodes[node], self.now.mono_ms);
            self.nodes[node].hang_up();
        }
    }

    /// The shard that renews terms connects.
    pub(crate) fn connect_renewer(&mut self, node: usize) {
        if !self.can_connect(node) || self.links[node].renews() {
            return;
        }
        self.links[node].greet(&mut self.nodes[node], self.now.mono_ms);
        let draining = self.nodes[node].is_draining();
        self.fleet.node_up(self.names[node].clone(), CAPACITY, DiskCapacity::default(), draining);
        self.renew(node);
    }

    /// As a link does it: handles all reports of the node, then the starts that are still pending.
    pub(crate) fn connect(&mut self, node: usize) {
        self.connect_renewer(node);
        if !self.can_connect(node) || self.links[node].is_connected() {
            return;
        }
        let reported = self.links[node].hello(&mut self.nodes[node], self.now.mono_ms);
        let draining = self.nodes[node].is_draining();
        self.draining[node] = draining;
        let mut instances: HashSet<InstanceId> = reported.iter().map(|status| status.instance).collect();
        for status in reported {
            self.hear(node, status);
        }
        let kept = self.links[node].kept(self.nodes[node].machine().kept_since_ms());
        for start in self.links[node].synced(kept, &instances) {
            self.tell(never_began(&start));
        }
        if self.flaw != Some(Flaw::AbsenceIsEnd) {
            instances.extend(self.links[node].unsettled());
        }
        self.tell(Input::Synced { node: self.names[node].clone(), instances, kept });
        self.fleet.node_up(self.names[node].clone(), CAPACITY, DiskCapacity::default(), draining);
        self.tell(Input::NodeOpened);
        self.links[node].up();
        self.send(node);
    }

    // ---- silence

    /// The edge looks for silent nodes from now on.
    pub(crate) fn begin_to_look(&mut self) {
        self.looks = Looks::starting(self.now.mono_ms);
        self.look_ms = self.now.mono_ms + LOOK_EVERY_MS;
    }

    /// As the edge does it: gives up who is silent for longer than its term, if another node is there.
    pub(crate) fn look(&mut self) {
        if self.look_ms > self.now.mono_ms {
            return;
        }
        let now_ms = self.now.mono_ms;
        self.look_ms = now_ms + LOOK_EVERY_MS;
        let is_there = |link: &crate::link::Link| link.reaches() && !link.term.is_over(now_ms);
        if self.looks.look(now_ms) != Look::Judges || !self.links.iter().any(is_there) {
            return;
        }
        (0..self.links.len()).for_each(|node| self.judge(node));
    }

    fn judge(&mut self, node: usize) {
        let margin_ms = u64::try_from(MARGIN.as_millis()).unwrap();
        let early_ms = if self.flaw == Some(Flaw::NoMargin) { margin_ms } else { 0 };
        let has_some = self.fleet.instances_on(&self.names[node]) > 0;
        let link = &mut self.links[node];
        let is_first = link.loss.lose(&link.term, self.now.mono_ms + early_ms, 1);
        let is_again = !is_first && has_some && link.loss.lose_more(&link.term, self.now.mono_ms, 1);
        if !is_first && !is_again {
            return;
        }
        let over_for = self.now.mono_ms.saturating_sub(link.term.given_over_ms());
        let silent_ms = link.term.silent_ms(self.now.mono_ms).unwrap_or_default();
        let heard_ms = self.now.wall_ms - silent_ms;
        self.promises.lost_has_paused(&self.nodes[node]);
        if is_first {
            // A connection that is silent for so long is over.
            self.disconnect(node, false);
        }
        let silence = Silence { heard_ms, over_for: Some(Duration::from_millis(over_for)) };
        self.tell(Input::NodeLost { node: self.names[node].clone(), silence });
    }
}
