//! Placement: the known nodes, the room reserved on them, and the choice of a node for the next instance.
//!
//! All shards of an edge share one fleet. A reservation only keeps the shards from overbooking a node; the agent may
//! still refuse the start.
//!
//! ```text
//! ask ──▶ room, and one more may start there ──▶ reserved ──▶ started ──▶ released
//!           │ no           ▲
//!           │              │ something has started, or gone; a node has come (`turns`)
//!           └─▶ waits ─────┘
//!     ──▶ no node has room ──▶ refused; where nobody waits for it, it waits too
//! ```
//!
//! What fails, and what happens then:
//! * Too many wait already: refused (`NoTurn`).
//! * Who waits gives up: the demand is withdrawn.
//! * What waits finds no room any more when its turn would be: it is refused then.
//! * A start hangs: it keeps its turn for some seconds.
//! * An app has started as many as it may: others of it wait, and those of other apps have their turns before (`queue`).
//!
//! This file books and releases; `queue` has what waits, `choice` chooses, `nodes` knows which nodes have what, `why` tells how it came about.

mod bits;
mod choice;
mod demand;
mod dice;
mod distance;
mod node;
mod nodes;
mod queue;
mod room;
mod why;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use berth_common::ids::{AppName, ClassName, Generation, NodeId, ObjectId};
use berth_common::image::{Architecture, Digest};
use berth_common::spec::{AppLimits, Resources, Spread};
use berth_common::wire::call::{Capacity, DiskCapacity, DiskLimit, DiskSlots, Room};

use self::bits::Bits;
use self::choice::{Choice, Chosen, OnNodes};
use self::dice::Dice;
use self::nodes::Nodes;
use self::queue::Queue;
use self::room::{AppUse, Used};
use crate::refused::Refused;

pub use self::demand::{Constraints, Demand, Unmet};
pub use self::why::{Looked, Taken, Verdict};

/// How often [`Fleet::tick`] is to be called.
pub const TICK: Duration = Duration::from_secs(1);
/// So many ticks a start keeps its turn at most: far more than it takes where nothing is waited for.
const TURN_TICKS: u64 = 5;

/// What a node lacks for one such instance even while it has no other, if anything: it could never hold one.
pub fn lacks_when_empty(capacity: &Capacity, disk: &DiskCapacity, resources: &Resources) -> Option<String> {
    Used::default().lacks(capacity, disk, resources).map(|lack| lack.to_string())
}

/// The limit of its app that one such instance exceeds by itself, if any.
pub fn exceeds_alone(resources: &Resources, limits: &AppLimits) -> Option<String> {
    AppUse::default().plus(resources).exceeds(limits)
}

/// The nodes and the reservations on them.
#[derive(Debug)]
pub struct Fleet {
    nodes: Nodes,
    reservations: HashMap<ObjectId, Reservation>,
    classes: HashMap<(AppName, ClassName), ClassUse>,
    apps: HashMap<AppName, AppUse>,
    dice: Dice,
    queue: Queue,
    /// Whether something has changed that what waits may have waited for.
    has_changed: bool,
    /// What was given a turn, with the tick in which that was: the oldest first. What has started since then is still among it.
    started_since: VecDeque<(ObjectId, Generation, u64)>,
    ticks: u64,
}

/// What a demand got that had to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The object.
    pub object: ObjectId,
    /// The generation.
    pub generation: Generation,
    /// Its node, or why there is none after all.
    pub result: Result<NodeId, Refused>,
}

#[derive(Debug, Default)]
struct ClassUse {
    instances: u32,
    on: OnNodes,
}

#[derive(Debug)]
struct Reservation {
    node: usize,
    generation: Generation,
    resources: Resources,
    class: (AppName, ClassName),
    /// Whether it counts for the starts of its node.
    is_starting: bool,
    /// How the node was chosen; `None` if another process has done so.
    chosen: Option<Chosen>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    /// No nodes yet. Chance is always the same.
    pub fn new() -> Self {
        Self::with_seed(0)
    }

    /// No nodes yet. Edges with different seeds do not all choose the same nodes.
    pub fn with_seed(seed: u64) -> Self {
        Self {
            nodes: Nodes::default(),
            reservations: HashMap::new(),
            classes: HashMap::new(),
            apps: HashMap::new(),
            dice: Dice::new(seed),
            queue: Queue::default(),
            has_changed: false,
            started_since: VecDeque::new(),
            ticks: 0,
        }
    }

    /// Records that a node is connected and has this capacity.
    pub fn node_up(&mut self, id: NodeId, capacity: Capacity, disk: DiskCapacity, draining: bool) {
        self.has_changed = true;
        self.nodes.update(&id, |node| {
            node.capacity = Some(capacity);
            node.disk = disk;
            node.draining = draining;
        });
    }

    /// Records whether a node accepts new instances.
    pub fn node_draining(&mut self, id: &NodeId, draining: bool) {
        self.has_changed = true;
        self.nodes.update(id, |node| node.draining = draining);
    }

    /// Records the architecture of a node.
    pub fn node_is(&mut self, id: &NodeId, architecture: Option<Architecture>) {
        self.has_changed = true;
        self.nodes.describe(id, |node| node.architecture = architecture);
    }

    /// Records where a node is, and how its owner has labelled it.
    pub fn node_described(&mut self, id: &NodeId, region: Option<String>, labels: BTreeMap<String, String>) {
        self.has_changed = true;
        self.nodes.describe(id, |node| (node.region, node.labels) = (region, labels));
    }

    /// Records whether a node has an image.
    pub fn node_holds(&mut self, id: &NodeId, image: Digest, holds: bool) {
        self.nodes.set_holds(id, image, holds);
    }

    /// Records how long a round trip to a node took, in microseconds.
    pub fn node_measured(&mut self, id: &NodeId, round_trip_us: u64) {
        self.nodes.measure(id, Some(round_trip_us));
    }

    /// Records whether a node was lost several times of late: it is chosen last.
    pub fn node_unsteady(&mut self, id: &NodeId, is_unsteady: bool) {
        self.nodes.set_unsteady(id, is_unsteady);
    }

    /// Records whether nothing has come from a connected node for a while: it is chosen last.
    pub fn node_silent(&mut self, id: &NodeId, is_silent: bool) {
        self.nodes.set_silent(id, is_silent);
    }

    /// Records how many instances a node starts at once; `None`: it does not say, and as many are sent as there are. Of a node that
    /// says so, [`Self::started`] has to be told.
    pub fn node_starts(&mut self, id: &NodeId, at_once: Option<u32>) {
        self.has_changed = true;
        // With none at all nothing would ever start there.
        self.nodes.update(id, |node| node.starts_at_once = at_once.map(|at_once| at_once.max(1)));
    }

    /// Records what a node says is taken of its room. That is a little old and counts other edges' instances, so no request
    /// is refused because of it: the node that says that it is full is asked last. Slots that it does not name cannot be used.
    pub fn node_room(&mut self, id: &NodeId, room: &Room) {
        self.has_changed = true;
        self.nodes.update(id, |node| {
            node.told = Some(room.used);
            if matches!(node.disk.limit, DiskLimit::Loop | DiskLimit::ProjectQuota) {
                let slots = room.slots.iter();
                node.disk.slots =
                    slots.map(|slots| DiskSlots { bytes: slots.bytes, count: slots.count }).collect();
            }
        });
    }

    /// Records that a node is not connected. Its reservations stay: its instances may still run.
    pub fn node_down(&mut self, id: &NodeId) {
        // Who waits for its turn there waits in vain.
        self.has_changed = true;
        if self.nodes.number(id).is_some() {
            self.nodes.update(id, |node| (node.capacity, node.told) = (None, None));
            self.nodes.measure(id, None);
            self.nodes.set_silent(id, false);
        }
    }

    /// Reserves room for an instance that is on a node already.
    pub fn restore(&mut self, demand: &Demand, node: &NodeId) {
        self.release(demand.object, Generation(u64::MAX));
        let node = self.nodes.number_or_new(node);
        self.book(demand, node, None);
    }

    /// Reserves room now, or has the demand wait until its turn comes: then there is no answer yet, and [`Self::turns`] will have it.
    pub fn ask(&mut self, demand: Demand) -> Option<Result<NodeId, Refused>> {
        self.queue.remove(demand.object);
        let result = self.reserve(&demand);
        match result {
            Err(Refused::NoTurn) => {}
            Err(_) if demand.is_patient => {}
            result => return Some(result),
        }
        if self.queue.push(demand) { None } else { Some(Err(Refused::NoTurn)) }
    }

    /// Takes back a demand that waits for its turn. Returns it if it still did, and then it gets no answer.
    pub fn withdraw(&mut self, object: ObjectId) -> Option<Demand> {
        self.queue.remove(object)
    }

    /// The answers to what has waited and need not any longer. To be called after anything that may have changed something.
    pub fn turns(&mut self) -> Vec<Turn> {
        if !std::mem::take(&mut self.has_changed) || self.queue.is_empty() {
            return Vec::new();
        }
        let mut queue = std::mem::take(&mut self.queue);
        let answered = queue.pass(|demand| match self.reserve(demand) {
            Err(Refused::NoTurn) => None,
            Err(_) if demand.is_patient => None,
            result => Some(result),
        });
        self.queue = queue;
        // What a reservation releases first was nothing here: an object that waits has none.
        self.has_changed = false;
        let turn = |(demand, result): (Demand, _)| {
            let Demand { object, generation, .. } = demand;
            Turn { object, generation, result }
        };
        answered.into_iter().map(turn).collect()
    }

    /// Chooses a node with room and reserves it. An object has one reservation at most: an older one is released.
    pub fn reserve(&mut self, demand: &Demand) -> Result<NodeId, Refused> {
        self.release(demand.object, Generation(u64::MAX));
        if let Some(limit) = demand.max_instances
            && self.classes.get(&demand.class).is_some_and(|class| class.instances >= limit)
        {
            return Err(Refused::ClassLimit { limit });
        }
        let used = self.apps.get(&demand.class.0).copied().unwrap_or_default().plus(&demand.resources);
        if let Some(what) = used.exceeds(&demand.limits) {
            return Err(Refused::AppLimit { what });
        }
        let chosen = self.choose(demand)?;
        let node = self.nodes.get(chosen.node).id.clone();
        self.book(demand, chosen.node, Some(chosen));
        Ok(node)
    }

    /// An object's instance of this generation has started: another may start in its place.
    pub fn started(&mut self, object: ObjectId, generation: Generation) {
        if let Some(held) = self.reservations.get_mut(&object)
            && held.generation == generation
            && std::mem::take(&mut held.is_starting)
        {
            self.has_changed = true;
            self.nodes.get_mut(held.node).starting.leave(&held.class.0);
        }
    }

    /// Time goes on: to be called every [`TICK`]. Whoever has been starting for long holds up no other any more: it waits for something
    /// else than the node's CPUs, such as its image.
    pub fn tick(&mut self) {
        self.ticks += 1;
        while let Some((object, generation, since)) = self.started_since.front().copied()
            && since + TURN_TICKS < self.ticks
        {
            self.started_since.pop_front();
            self.started(object, generation);
        }
    }

    /// Releases the reservation of an object for this or an earlier generation.
    pub fn release(&mut self, object: ObjectId, generation: Generation) {
        let Entry::Occupied(held) = self.reservations.entry(object) else { return };
        if held.get().generation <= generation {
            let held = held.remove();
            self.unbook(&held);
        }
    }

    /// `chosen`: how, if this fleet has chosen the node for an instance that is still to start.
    fn book(&mut self, demand: &Demand, number: usize, chosen: Option<Chosen>) {
        let Demand { generation, resources, .. } = *demand;
        let is_starting = chosen.is_some();
        let node = self.nodes.get_mut(number);
        node.used.add(&resources);
        if is_starting {
            node.starting.enter(&demand.class.0);
            self.started_since.push_back((demand.object, generation, self.ticks));
        }
        let class = demand.class.clone();
        if !self.apps.contains_key(&class.0) {
            self.apps.insert(class.0.clone(), AppUse::default());
        }
        if let Some(app) = self.apps.get_mut(&class.0) {
            *app = app.plus(&resources);
        }
        match self.classes.get_mut(&class) {
            Some(used) => used.enter(number),
            None => self.classes.entry(class.clone()).or_default().enter(number),
        }
        let held = Reservation { node: number, generation, resources, class, is_starting, chosen };
        self.reservations.insert(demand.object, held);
    }

    /// The reverse of `book`.
    fn unbook(&mut self, held: &Reservation) {
        self.has_changed = true;
        let node = self.nodes.get_mut(held.node);
        node.used.subtract(&held.resources);
        if held.is_starting {
            node.starting.leave(&held.class.0);
        }
        let class = self.classes.get_mut(&held.class).expect("a reservation counts for its class");
        class.leave(held.node);
        if class.instances == 0 {
            self.classes.remove(&held.class);
        }
        let used = self.apps.get_mut(&held.class.0).expect("a reservation counts for its app");
        *used = used.minus(&held.resources);
        if *used == AppUse::default() {
            self.apps.remove(&held.class.0);
        }
    }

    /// How many instances are reserved on a node.
    pub fn instances_on(&self, node: &NodeId) -> u32 {
        self.nodes.number(node).map_or(0, |number| self.nodes.get(number).used.instances)
    }

    /// The nodes on which instances are reserved, also those that are not known otherwise, and how many.
    pub fn occupied(&self) -> impl Iterator<Item = (&NodeId, u32)> {
        let all = self.nodes.iter().map(|(_, node)| (&node.id, node.used.instances));
        all.filter(|(_, instances)| *instances > 0)
    }

    /// What a choice for this demand makes of each node now, in the order in which they became known.
    pub fn look(&self, demand: &Demand) -> Vec<Looked> {
        why::look(&self.nodes, demand)
    }

    /// How the node of an object's instance was chosen, if this fleet has done so.
    pub fn taken(&self, object: ObjectId) -> Option<Taken> {
        let chosen = self.reservations.get(&object)?.chosen?;
        Some(Taken::of(chosen, &self.nodes))
    }

    fn choose(&mut self, demand: &Demand) -> Result<Chosen, Refused> {
        let mut candidates = self.willing(demand);
        self.nodes.keep_meeting(&mut candidates, &demand.constraints);
        let spread = self.levels(demand, &candidates);
        let levels = spread.as_deref().unwrap_or(std::slice::from_ref(&candidates));
        let choice = Choice { nodes: &self.nodes, demand, candidates: &candidates };
        choice.make(levels, &mut self.dice).ok_or_else(|| self.refusal(demand, &candidates))
    }

    /// The nodes that take instances, but for those that have refused this one.
    fn willing(&self, demand: &Demand) -> Bits {
        let mut willing = self.nodes.open.clone();
        for number in demand.refused_by.iter().filter_map(|id| self.nodes.number(id)) {
            willing.set(number, false);
        }
        willing
    }

    /// The candidates in parts, if the class spreads and has instances.
    fn levels(&self, demand: &Demand, candidates: &Bits) -> Option<Vec<Bits>> {
        let (spread, class) = (demand.spread?, self.classes.get(&demand.class)?);
        Some(match spread {
            Spread::Node => choice::levels_of_nodes(candidates, &class.on),
            Spread::Region => {
                choice::levels_of_regions(candidates, self.nodes.by_region().into_values(), &class.on)
            }
        })
    }

    /// Why none was chosen.
    fn refusal(&self, demand: &Demand, candidates: &Bits) -> Refused {
        let willing = self.willing(demand);
        if willing.is_empty() {
            return Refused::NoNode;
        }
        let lacks = |number| self.nodes.get(number).lacks(&demand.resources);
        if candidates.iter().any(|number| lacks(number).is_none()) {
            return Refused::NoTurn;
        }
        let lacking = candidates.iter().filter_map(lacks).last().map(|lack| lack.to_string());
        let what = lacking.or_else(|| self.nodes.unmet(&willing, &demand.constraints));
        Refused::NoCapacity { what: what.unwrap_or_default() }
    }
}

impl ClassUse {
    fn enter(&mut self, number: usize) {
        self.instances += 1;
        *self.on.entry(number).or_default() += 1;
    }

    fn leave(&mut self, number: usize) {
        self.instances -= 1;
        if let Some(count) = self.on.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.on.remove(&number);
            }
        }
    }
}

#[cfg(test)]
mod tests;
