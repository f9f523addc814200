//! The table of instances: what should run and what does. Decides in one place whether an instance may start; does
//! nothing itself, its caller carries out the effects.
//!
//! ```text
//!          Start                Started            port took a connection
//!  (none) ───────▶ Starting ───────────▶ Running ────────────────────────▶ Ready
//!                     │ Stop                │ Stop                           │ Stop
//!                     └────────────────────▶└───────────▶ Stopping ◀────────┘
//!                  from anywhere, at the container's end ──▶ Exited ── Forget ──▶ (none)
//! ```
//!
//! What fails, and what happens then:
//! * A call is for another owner's instance, an older generation or an invalid request: it is refused, and nothing
//!   changes.
//! * A start arrives twice, as after a lost answer: the second one is accepted and changes nothing.
//! * The container cannot be started, or its shim dies: it goes to `Exited` with the reason.
//! * The owner is not heard for longer than its term: its instances are frozen, by others, and this table is told. No tunnel
//!   leads to one until the owner has had it resumed. If it is heard again and does not do that for `KEEP`, without falling silent again, they are killed.
//! * The owner never comes back: its frozen instances stay, and its ended ones, up to `MAX_RECORDS`; then starts are refused.
//! * The agent restarts: instances that still run are adopted and begin in `Starting` again.
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
use super::entry::{Entry, rank};
use super::stop::StopOrder;
use crate::Moment;

/// How long an instance stays frozen after its owner was heard again and did not have it resumed: an edge that has just
/// started answers within seconds.
const KEEP: Duration = Duration::from_secs(10 * 60);

/// An owner that says nothing for so long is silent again, and what is frozen is kept anew once it is back: one that is there
/// renews its terms every few seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// What the caller must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// End the instance as this order says. It replaces earlier ones.
    Stop {
        /// The instance.
        instance: InstanceId,
        /// All orders to end it, merged.
        order: StopOrder,
    },
    /// Count it: an instance has reached a phase.
    Reached {
        /// The phase.
        phase: Phase,
        /// How long it took from its admission until it was ready, or ended before that. Set once per instance; never
        /// for those of an earlier agent.
        starting: Option<Duration>,
    },
    /// Close the tunnels of the instance: it is frozen.
    Cut {
        /// The instance.
        instance: InstanceId,
    },
    /// Close the tunnels and sockets of the instance: it has ended.
    Detach {
        /// The instance.
        instance: InstanceId,
    },
    /// Report an instance's status to its owner.
    Report {
        /// The owner.
        owner: EdgeId,
        /// The status.
        status: InstanceStatus,
    },
}

/// The table of a node's instances.
#[derive(Debug)]
pub struct InstanceTable {
    capacity: Capacity,
    /// The node is drained: it takes no new instances.
    draining: bool,
    /// The agent is ending: nothing new may start.
    closed: bool,
    entries: BTreeMap<InstanceId, Entry>,
    effects: VecDeque<Effect>,
}

impl InstanceTable {
    /// An empty table of a node with this capacity.
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, draining: false, closed: false, entries: BTreeMap::new(), effects: VecDeque::new() }
    }

    /// The next effect, until there is none.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The node's capacity.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Whether the node takes no new instances.
    pub fn is_draining(&self) -> bool {
        self.draining || self.closed
    }

    /// Sets whether the node takes no new instances. Returns whether that changed.
    pub fn set_draining(&mut self, draining: bool) -> bool {
        std::mem::replace(&mut self.draining, draining) != draining
    }

    /// Refuses all new instances from now on, because the agent is ending.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The phase and the resources of each instance.
    pub fn all(&self) -> impl Iterator<Item = (&Phase, &Resources)> {
        self.entries.values().map(|entry| (&entry.phase, &entry.resources))
    }

    /// The instances that have not ended.
    pub fn alive(&self) -> impl Iterator<Item = InstanceId> {
        self.entries.iter().filter(|(_, entry)| entry.is_alive()).map(|(instance, _)| *instance)
    }

    /// Whether an instance is in the table.
    pub fn is_known(&self, instance: InstanceId) -> bool {
        self.entries.contains_key(&instance)
    }

    /// Whether an instance may be entered, or why not. Changes nothing: the caller first reserves what else the
    /// instance needs, as the last thing that can be lacking, and then enters it.
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

    /// Enters an instance that was just admitted.
    pub fn enter(&mut self, owner: &EdgeId, start: &Start, now: Moment) {
        let entry = Entry::new(owner, start, Phase::Starting);
        self.insert(start.instance, Entry { starting: Some(now), ..entry });
    }

    /// Enters an instance of an earlier agent, whether or not it would be admitted now; with its end, if it has ended.
    pub fn adopt(&mut self, owner: &EdgeId, start: &Start, ended: Option<(Outcome, Option<Metered>)>) {
        let (phase, metered) = match ended {
            Some((outcome, metered)) => (Phase::Exited(outcome), metered),
            None => (Phase::Starting, None),
        };
        self.insert(start.instance, Entry { metered, ..Entry::new(owner, start, phase) });
    }

    fn insert(&mut self, instance: InstanceId, entry: Entry) {
        let (owner, status) = (entry.owner.clone(), entry.status(instance));
        self.entries.insert(instance, entry);
        self.effects.push_back(Effect::Report { owner, status });
    }

    /// Moves an instance on to a later phase. Ignored if it is in that phase or a later one.
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
            self.effects.push_back(Effect::Detach { instance });
        }
        let (owner, status) = (entry.owner.clone(), entry.status(instance));
        self.effects.push_back(Effect::Report { owner, status });
    }

    /// Records that an instance has ended, with its usage if its app ran.
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
        let order = order.merged_with(entry.stop);
        entry.stop = Some(order);
        self.effects.push_back(Effect::Stop { instance, order });
    }

    /// Those of the instances that are in the table and may be forgotten; refused if one may not.
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

    /// Records that an instance was frozen, because its term is over, or thawed.
    pub fn freeze(&mut self, instance: InstanceId, frozen: bool) {
        let Some(entry) = self.entries.get_mut(&instance).filter(|entry| entry.is_alive()) else { return };
        entry.frozen = frozen;
        entry.heard = None;
        if frozen {
            self.effects.push_back(Effect::Cut { instance });
        }
        let (owner, status) = (entry.owner.clone(), entry.status(instance));
        self.effects.push_back(Effect::Report { owner, status });
    }

    /// An edge is heard. Its frozen instances are reported to it again, until it has them resumed or ended; those for which it
    /// has done neither for too long are killed.
    pub fn heard(&mut self, owner: &EdgeId, now: Moment) {
        let mut given_up = Vec::new();
        let frozen = |entry: &&mut Entry| entry.frozen && entry.owner == *owner && entry.is_alive();
        for (instance, entry) in
            self.entries.iter_mut().map(|(id, entry)| (*id, entry)).filter(|(_, entry)| frozen(entry))
        {
            let goes_on = |(first, last): (Moment, Moment)| (now.since(last) <= SILENCE).then_some(first);
            let first = entry.heard.and_then(goes_on).unwrap_or(now);
            entry.heard = Some((first, now));
            if now.since(first) >= KEEP {
                given_up.push(instance);
            } else {
                let (owner, status) = (entry.owner.clone(), entry.status(instance));
                self.effects.push_back(Effect::Report { owner, status });
            }
        }
        for instance in given_up {
            self.order(instance, StopOrder::of_frozen(now));
            self.advance(instance, Phase::Stopping, now);
        }
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
        if entry.frozen {
            return Err(TunnelAnswer::Lapsed);
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
