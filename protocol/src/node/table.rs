//! The table of instances: what should run and what does. Decides at once and in one place whether an instance may start;
//! does nothing itself, its effects are carried out by whoever has it.
//!
//! ```text
//!          Start                Started            port took a connection
//!  (none) ───────▶ Starting ───────────▶ Running ────────────────────────▶ Ready
//!                     │ Stop                │ Stop                           │ Stop
//!                     └────────────────────▶└───────────▶ Stopping ◀────────┘
//!                  from anywhere, at the container's end ──▶ Exited ── Forget ──▶ (none)
//! ```
//!
//! Only its owner may do anything to an instance.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use berth_common::ids::{EdgeId, InstanceId};
use berth_common::metering::Metered;
use berth_common::outcome::Outcome;
use berth_common::spec::Resources;
use berth_common::wire::call::{Capacity, InstanceStatus, Phase, Refusal, RefusalCode, Start, Stop};
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};

use super::admission::{Admission, check_capacity, check_object, check_start, not_owner, refuse, same_start};
use super::entry::{Entry, Term, rank};
use super::stop::StopOrder;
use crate::Moment;

/// What is to be done because of what was decided, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Have the instance end as this says, whatever was said before.
    Stop {
        /// The instance.
        instance: InstanceId,
        /// All orders to end it, as one.
        order: StopOrder,
    },
    /// Count it: an instance has come to a phase.
    Reached {
        /// The phase.
        phase: Phase,
        /// How long it has been starting until it was ready, or over before that. Told once; not known of instances of an
        /// earlier agent.
        starting: Option<Duration>,
    },
    /// Nothing leads to the instance any more: it has ended.
    LetGo {
        /// The instance.
        instance: InstanceId,
    },
    /// Tell its owner how an instance is.
    Tell {
        /// The owner.
        owner: EdgeId,
        /// How it is.
        status: InstanceStatus,
    },
}

/// The table.
#[derive(Debug)]
pub struct InstanceTable {
    capacity: Capacity,
    /// The node is being emptied, or kept empty.
    draining: bool,
    /// The agent ends.
    closed: bool,
    entries: BTreeMap<InstanceId, Entry>,
    effects: VecDeque<Effect>,
}

impl InstanceTable {
    /// An empty one, of a node that has room for this.
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, draining: false, closed: false, entries: BTreeMap::new(), effects: VecDeque::new() }
    }

    /// The next thing to do, until there is none.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What the node has room for.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Whether the node takes no new instances.
    pub fn is_draining(&self) -> bool {
        self.draining || self.closed
    }

    /// From now on the node takes no new instances, or takes them again. Tells whether that is news.
    pub fn set_draining(&mut self, draining: bool) -> bool {
        std::mem::replace(&mut self.draining, draining) != draining
    }

    /// The agent ends: nothing new may start.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The phase of each instance, and what it takes while it lives.
    pub fn all(&self) -> impl Iterator<Item = (&Phase, &Resources)> {
        self.entries.values().map(|entry| (&entry.phase, &entry.resources))
    }

    /// The instances that have not ended.
    pub fn alive(&self) -> impl Iterator<Item = InstanceId> {
        self.entries.iter().filter(|(_, entry)| entry.is_alive()).map(|(instance, _)| *instance)
    }

    /// Whether a new instance may have a place here, or why it may not. Changes nothing: what else it needs is set aside
    /// next, as the last thing that can be lacking, and then it is entered.
    pub fn admit(&self, owner: &EdgeId, start: &Start) -> Result<Admission, Refusal> {
        if let Some(known) = self.entries.get(&start.instance) {
            return same_start(known, owner, start);
        }
        check_start(start)?;
        if self.is_draining() {
            return refuse(RefusalCode::Draining, "the node is being emptied and takes no new instances");
        }
        check_object(&self.entries, owner, start)?;
        check_capacity(&self.entries, self.capacity, &start.recipe.resources)?;
        Ok(Admission::New)
    }

    /// Gives an instance its place that was just admitted.
    pub fn enter(&mut self, owner: &EdgeId, start: &Start, now: Moment) {
        let entry = Entry::new(owner, start, Phase::Starting, now);
        self.insert(start.instance, Entry { starting: Some(now), ..entry });
    }

    /// Takes in an instance of an earlier agent, whether or not it would be admitted now; with how it ended, if it has.
    pub fn adopt(
        &mut self,
        owner: &EdgeId,
        start: &Start,
        ended: Option<(Outcome, Option<Metered>)>,
        now: Moment,
    ) {
        let (phase, metered) = match ended {
            Some((outcome, metered)) => (Phase::Exited(outcome), metered),
            None => (Phase::Starting, None),
        };
        self.insert(start.instance, Entry { metered, ..Entry::new(owner, start, phase, now) });
    }

    fn insert(&mut self, instance: InstanceId, entry: Entry) {
        let (owner, status) = (entry.owner.clone(), entry.status(instance));
        self.entries.insert(instance, entry);
        self.effects.push_back(Effect::Tell { owner, status });
    }

    /// Moves an instance on to a later phase. An earlier one than it is in changes nothing.
    pub fn advance(&mut self, instance: InstanceId, phase: Phase, now: Moment) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        if rank(&phase) <= rank(&entry.phase) {
            return;
        }
        let started = matches!(phase, Phase::Ready | Phase::Exited(_));
        let starting = entry.starting.take_if(|_| started).map(|since| now.since(since));
        entry.phase = phase.clone();
        self.effects.push_back(Effect::Reached { phase, starting });
        if !entry.is_alive() {
            self.effects.push_back(Effect::LetGo { instance });
        }
        let (owner, status) = (entry.owner.clone(), entry.status(instance));
        self.effects.push_back(Effect::Tell { owner, status });
    }

    /// An instance has ended, and has taken this if its app ran.
    pub fn ended(&mut self, instance: InstanceId, outcome: Outcome, metered: Option<Metered>, now: Moment) {
        if let Some(entry) = self.entries.get_mut(&instance).filter(|entry| entry.is_alive()) {
            entry.metered = metered;
        }
        self.advance(instance, Phase::Exited(outcome), now);
    }

    /// Orders an instance to end.
    pub fn stop(&mut self, owner: &EdgeId, stop: &Stop, now: Moment) -> Result<(), Refusal> {
        let order = StopOrder::of_edge(stop, now)?;
        self.check_owned(owner, stop.instance)?;
        self.order(stop.instance, order);
        self.advance(stop.instance, Phase::Stopping, now);
        Ok(())
    }

    /// Orders every instance to end with SIGTERM, and SIGKILL after the grace.
    pub fn drain_all(&mut self, grace: Duration, now: Moment) {
        let alive: Vec<InstanceId> = self.alive().collect();
        for instance in &alive {
            self.order(*instance, StopOrder::of_drain(grace, now));
        }
        for instance in alive {
            self.advance(instance, Phase::Stopping, now);
        }
    }

    fn order(&mut self, instance: InstanceId, order: StopOrder) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        let order = order.joined_with(entry.stop);
        entry.stop = Some(order);
        self.effects.push_back(Effect::Stop { instance, order });
    }

    /// Those of the instances that are here and may be forgotten; refused where one may not.
    pub fn forgettable(&self, owner: &EdgeId, asked: &[InstanceId]) -> Result<Vec<InstanceId>, Refusal> {
        let mut forgettable = Vec::new();
        for instance in asked {
            match self.entries.get(instance) {
                None => {}
                Some(entry) if entry.owner != *owner => return not_owner(*instance),
                Some(entry) if entry.is_alive() => {
                    return refuse(
                        RefusalCode::Invalid,
                        format!("the instance {instance} has not ended: stop it first"),
                    );
                }
                Some(_) => forgettable.push(*instance),
            }
        }
        Ok(forgettable)
    }

    /// Takes an ended instance out of the table.
    pub fn forget(&mut self, instance: InstanceId) {
        self.entries.remove(&instance);
    }

    /// Starts the terms of an edge's instances anew.
    pub fn renew(&mut self, owner: &EdgeId, length: Duration, now: Moment) {
        let owned = self.entries.values_mut().filter(|entry| entry.owner == *owner);
        owned.for_each(|entry| entry.term = Term { length, since: now });
    }

    /// When the first term of a living instance is over. Nothing ends because of that.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.entries.values().filter(|entry| entry.is_alive()).map(|entry| entry.term.ends()).min()
    }

    /// The state of all of an edge's instances.
    pub fn statuses(&self, owner: &EdgeId) -> Vec<InstanceStatus> {
        let owned = self.entries.iter().filter(|(_, entry)| entry.owner == *owner);
        owned.map(|(instance, entry)| entry.status(*instance)).collect()
    }

    /// Whether a tunnel may lead to the instance that it names.
    pub fn check_tunnel(&self, owner: &EdgeId, header: &TunnelHeader) -> Result<(), TunnelAnswer> {
        let entry = self.entries.get(&header.instance).filter(|entry| entry.is_alive());
        let entry = entry.ok_or(TunnelAnswer::NoInstance)?;
        if entry.owner != *owner {
            return Err(TunnelAnswer::NotOwner);
        }
        if entry.generation != header.generation {
            return Err(TunnelAnswer::StaleGeneration);
        }
        Ok(())
    }

    /// Fails unless the instance is here and this edge's.
    pub fn check_owned(&self, owner: &EdgeId, instance: InstanceId) -> Result<(), Refusal> {
        match self.entries.get(&instance) {
            None => refuse(RefusalCode::NoInstance, format!("the node has no instance {instance}")),
            Some(entry) if entry.owner != *owner => not_owner(instance),
            Some(_) => Ok(()),
        }
    }
}
