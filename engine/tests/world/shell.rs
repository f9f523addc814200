//! The shell around the engine: passes inputs on, and carries out effects.

use std::collections::VecDeque;

use berth_common::ids::{InstanceId, NodeId, ObjectId};
use berth_common::wire::call::{Start, Stop};
use berth_engine::fleet::{Demand, Fleet, Turn};
use berth_engine::{Effect, Input, ObjectView, Record, RecordState, Refused, Silence};
use proptest::sample::Index;

use crate::flaw::Flaw;
use crate::link::Command;
use crate::model::{PATIENCE, World, engine, is_patient};
use crate::store::{ObjectWrite, Written};

impl World {
    /// What comes from clients.
    pub(crate) fn input(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.carry_out();
    }

    /// What comes from links and the store: the shard takes it in this order.
    pub(crate) fn tell(&mut self, input: Input) {
        self.inbox.push_back(input);
    }

    /// The shard takes what it was told.
    pub(crate) fn take_inbox(&mut self) {
        while !self.shard_lags
            && let Some(input) = self.inbox.pop_front()
        {
            match input {
                Input::NodeLost { node, silence } => self.node_lost(node, silence),
                Input::Synced { node, mut instances, kept } => {
                    if self.flaw != Some(Flaw::AbsenceIsEnd) {
                        let unsettled = self.links[self.index(&node)].unsettled();
                        instances.extend(unsettled);
                    }
                    self.input(Input::Synced { node, instances, kept });
                }
                input => self.input(input),
            }
        }
    }

    /// Whatever was decided for the node until now is void.
    fn node_lost(&mut self, node: NodeId, silence: Silence) {
        let there = self.engine.views().into_iter().filter(|view| view.node.as_ref() == Some(&node));
        let (patient, others): (Vec<ObjectView>, Vec<ObjectView>) =
            there.partition(|view| is_patient(view.id));
        let waits = silence.over_for.is_some_and(|over_for| over_for < PATIENCE);
        let lost = if waits { others } else { [patient.clone(), others].concat() };
        self.promises.node_lost(&lost.iter().map(|view| view.id).collect::<Vec<_>>());
        self.input(Input::NodeLost { node: node.clone(), silence });
        let is_as_before = |view: &ObjectView| self.engine.view(view.id).as_ref() == Some(view);
        assert!(!waits || patient.iter().all(is_as_before), "given up although it waits: {patient:?}");
        self.command(&node, Command::Lost);
    }

    pub(crate) fn index(&self, node: &NodeId) -> usize {
        self.names.iter().position(|name| name == node).unwrap()
    }

    /// A command for a node, which its link takes now or later.
    pub(crate) fn command(&mut self, node: &NodeId, command: Command) {
        let index = self.index(node);
        self.links[index].command(command);
        if !self.links[index].lags {
            self.link_goes_on(index);
        }
    }

    /// A link takes what was commanded, and sends what it can.
    pub(crate) fn link_goes_on(&mut self, node: usize) {
        for start in self.links[node].take_commands() {
            self.tell(never_began(&start));
        }
        self.send(node);
    }

    pub(crate) fn carry_out(&mut self) {
        loop {
            while let Some(effect) = self.engine.poll_effect() {
                self.carry_out_one(effect);
            }
            let turns = self.fleet.turns();
            if turns.is_empty() {
                return;
            }
            turns.into_iter().for_each(|turn| self.reserved(turn));
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Load { object } => self.store.reads.push_back(object),
            Effect::Reserve(demand) => self.reserve(demand),
            Effect::Withdraw { object } => self.withdraw(object),
            Effect::Unreserve { object, generation, .. } => self.fleet.release(object, generation),
            Effect::Persist { object, persist, record, events, usage } => {
                self.forget_by_the_flaw(&record);
                self.promises.persisting(&record);
                let write = ObjectWrite { object, persist, record, events, usage };
                self.store.writes.push_back(Written::Object(Box::new(write)));
            }
            Effect::Start { node, start, .. } => {
                self.promises.starting(&start, self.store.acknowledged.get(&start.object.id()));
                self.command(&node, Command::Start(start));
            }
            Effect::Stop { node, stop } => self.stop(&node, stop),
            Effect::Resume { node, instance } => {
                self.promises.resuming(instance);
                self.command(&node, Command::Resume(instance));
            }
            Effect::Forget { node, instance, .. } => self.forget(&node, instance),
            Effect::Ended { .. } => {}
            Effect::Measured { node, instance, metered } => {
                self.store.writes.push_back(Written::Measured { node, instance, metered });
            }
            Effect::Grant { waiter, hold, placement } => self.promises.granted(waiter, hold, placement),
            Effect::Ordered { waiter } => self.promises.ordered(waiter),
            Effect::Refuse { waiter, refused } => {
                self.note_able();
                let taken = self.names.iter().map(|name| self.fleet.instances_on(name)).sum();
                self.promises.refused(waiter, &refused, taken);
            }
        }
    }

    fn reserve(&mut self, demand: Demand) {
        let (object, generation) = (demand.object, demand.generation);
        if let Some(result) = self.fleet.ask(demand) {
            self.reserved(Turn { object, generation, result });
        }
    }

    fn reserved(&mut self, Turn { object, generation, result }: Turn) {
        self.drawn += 1;
        let instance = InstanceId::from_bytes(u128::from(self.drawn).to_be_bytes());
        let result = result.map(|node| (node, instance));
        self.engine.handle(self.now, Input::Reserved { object, generation, result });
    }

    fn withdraw(&mut self, object: ObjectId) {
        if let Some(Demand { generation, .. }) = self.fleet.withdraw(object) {
            self.reserved(Turn { object, generation, result: Err(Refused::NoTurn) });
        }
    }

    fn stop(&mut self, node: &NodeId, stop: Stop) {
        self.promises.stopping(&stop);
        self.command(node, Command::Stop(stop));
    }

    fn forget_by_the_flaw(&mut self, record: &Record) {
        let ends = matches!(record.state, RecordState::Stopped { .. });
        if self.flaw != Some(Flaw::ForgetBeforeDurable) || !ends {
            return;
        }
        let before = self.store.durable.get(&record.key.id()).map(|record| record.state.clone());
        if let Some(RecordState::Placed { node, instance, .. }) = before {
            self.command(&node, Command::Forget(instance));
        }
    }

    // ---- the edge's process

    pub(crate) fn crash(&mut self, written: Index) {
        self.die_with(written);
        self.inbox = VecDeque::new();
        self.shard_lags = false;
        self.promises.crashed();
        self.sleep(50);
        let now_ms = self.now.mono_ms;
        let window_ms = self.store.window_ms;
        for link in &mut self.links {
            link.crash(now_ms);
            link.term.given_before(window_ms);
        }
        self.nodes.iter_mut().for_each(crate::node::Node::hang_up);
        self.restart();
    }

    /// As the edge does it: the window is durable before any node is given its term until then.
    pub(crate) fn end_edge(&mut self, written: Index, window_ms: u64, away_ms: u64) {
        let until_ms = self.now.mono_ms + window_ms;
        if self.flaw != Some(Flaw::WindowNotWritten) {
            let before_ms =
                if self.flaw == Some(Flaw::EarlierWindowForgotten) { 0 } else { self.store.window_ms };
            self.store.window_ms = until_ms.max(before_ms);
        }
        let more_ms = if self.flaw == Some(Flaw::LongTermsAsGiven) { window_ms.div_ceil(50) } else { 0 };
        self.links.iter_mut().for_each(|link| link.term.stretch(until_ms + more_ms));
        self.renew_all();
        self.sleep(away_ms);
        self.crash(written);
    }

    fn restart(&mut self) {
        self.begin_to_look();
        self.engine = engine();
        self.fleet = Fleet::new();
        for record in self.store.durable.values() {
            if let RecordState::Placed { node, class, .. } = &record.state {
                self.fleet.restore(&Demand::of(&record.key, record.generation, class), node);
            }
            self.engine.restore(self.now, record.clone());
        }
        self.promises.legal_after_crash(&self.engine, &self.store.durable);
    }
}

pub(crate) fn never_began(start: &Start) -> Input {
    Input::NeverBegan { object: start.object.id(), instance: start.instance }
}
