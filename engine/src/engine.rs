//! All objects of one shard: passes each input to its object, queues the effects and keeps the deadlines.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::outcome::ExitReason;
use berth_common::wire::call::{InstanceStatus, Phase};

use crate::context::{Config, Context, Ids};
use crate::effect::Effect;
use crate::ids::WaiterId;
use crate::input::{Input, Kept, Now, Silence};
use crate::object::{Object, Standing, dispose};
use crate::record::Record;
use crate::timers::Timers;
use crate::view::{ObjectView, PublicState};

/// The objects of one shard.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    objects: HashMap<ObjectId, Slot>,
    /// Objects by the node of their instance, so that a node's full report is compared with these alone.
    placed: BTreeMap<NodeId, HashSet<ObjectId>>,
    timers: Timers,
    /// Objects whose requests wait for a node.
    unplaced: BTreeSet<ObjectId>,
    effects: VecDeque<Effect>,
    /// Changed objects, collected only while `watched`.
    changes: VecDeque<ObjectView>,
    watched: bool,
    /// Objects that came into memory (true) or left it (false), in this order.
    moves: Vec<(ObjectId, bool)>,
    ids: Ids,
}

#[derive(Debug)]
struct Slot {
    object: Object,
    /// The node under which `placed` lists it, so that a request updates that index only when this changes.
    placed_on: Option<NodeId>,
    /// Its public state at the last change, to detect the next one.
    shown: Option<(PublicState, Generation)>,
}

impl From<Object> for Slot {
    fn from(object: Object) -> Self {
        Self { object, placed_on: None, shown: None }
    }
}

impl Engine {
    /// An engine without objects.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            objects: HashMap::new(),
            placed: BTreeMap::new(),
            timers: Timers::default(),
            unplaced: BTreeSet::new(),
            effects: VecDeque::new(),
            changes: VecDeque::new(),
            watched: false,
            moves: Vec::new(),
            ids: Ids::default(),
        }
    }

    /// Adds an object whose record says that it may have an instance, when the edge starts. All of them must be
    /// restored before the first input: a reported instance of an object that is not in memory is ended.
    pub fn restore(&mut self, now: Now, record: Record) {
        let id = record.key.id();
        self.objects.insert(id, Object::restored(now, record).into());
        self.moves.push((id, true));
        self.settle(id);
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Acquire { key, class, waiter } => {
                let id = key.id();
                if let Entry::Vacant(entry) = self.objects.entry(id) {
                    entry.insert(Object::unknown(id, key).into());
                    self.moves.push((id, true));
                }
                self.with(now, id, |object, cx| object.acquire(waiter, class, cx));
            }
            Input::Cancel { object, waiter } => self.with(now, object, |o, cx| o.cancel(waiter, cx)),
            Input::Release { object, hold } => self.with(now, object, |o, cx| o.release(hold, cx)),
            Input::End { object, order, waiter } if self.objects.contains_key(&object) => {
                self.with(now, object, |o, cx| o.end_as_ordered(order, waiter, cx));
            }
            // An object that may have an instance is in memory.
            Input::End { waiter, .. } => self.effects.push_back(Effect::Ordered { waiter }),
            Input::Touch { object, instance } => self.with(now, object, |o, cx| o.touch(instance, cx)),
            Input::Decided { object, instance, asked_ms, renew } => {
                self.with(now, object, |o, cx| o.decided(instance, asked_ms, renew, cx));
            }
            Input::Loaded { object, record } => self.with(now, object, |o, cx| o.loaded(record, cx)),
            Input::Reserved { object, generation, result } => {
                self.with(now, object, |o, cx| o.reserved(generation, result, cx));
            }
            Input::Persisted { object, persist, result } => {
                self.with(now, object, |o, cx| o.persisted(persist, &result, cx));
            }
            Input::StartRefused { object, instance, refusal } => {
                self.with(now, object, |o, cx| o.start_refused(instance, refusal, cx));
            }
            Input::NeverBegan { object, instance } => {
                self.with(now, object, |o, cx| o.never_began(instance, cx));
            }
            Input::Status { node, status } => self.status(now, node, status),
            Input::NodeOpened => self.opened(now),
            Input::NodeLost { node, silence } => self.node_lost(now, &node, silence),
            Input::Drain { node, even_held } => self.drain(now, &node, even_held),
            Input::Synced { node, instances, kept } => self.synced(now, &node, &instances, kept),
        }
    }

    /// Handles all deadlines that have come.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((id, timer)) = self.timers.take_due(now.mono_ms) {
            self.with(now, id, |object, cx| object.expired(timer, cx));
        }
    }

    /// When to call `handle_timeout`, in milliseconds on the monotonic clock.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.next_ms()
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Objects that came into memory (true) or left it (false) since the last call. The store has everything about an
    /// object that is not in memory: it leaves only once its record is durable.
    pub fn take_moves(&mut self) -> std::vec::Drain<'_, (ObjectId, bool)> {
        self.moves.drain(..)
    }

    /// Turns the collection of changes (`poll_change`) on or off.
    pub fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// The next object that has changed, in its new state.
    pub fn poll_change(&mut self) -> Option<ObjectView> {
        self.changes.pop_front()
    }

    /// One object, if it is in memory.
    pub fn view(&self, id: ObjectId) -> Option<ObjectView> {
        self.objects.get(&id).and_then(|slot| slot.object.view())
    }

    /// Whether an object has an instance, or the end of one is being written.
    pub fn has_instance(&self, id: ObjectId) -> bool {
        self.objects.get(&id).is_some_and(|slot| slot.object.has_instance())
    }

    /// Why the last instance of an object ended, if it is in memory.
    pub fn last_end(&self, id: ObjectId) -> Option<ExitReason> {
        self.objects.get(&id).and_then(|slot| slot.object.last_end())
    }

    /// The name of an object, if it is in memory.
    pub fn key(&self, id: ObjectId) -> Option<&ObjectKey> {
        self.objects.get(&id).map(|slot| slot.object.key())
    }

    /// The requests that wait for an object, in order of arrival, each with whether it may start an instance.
    pub fn waiting(&self, id: ObjectId) -> Vec<(WaiterId, bool)> {
        self.objects.get(&id).map(|slot| slot.object.waiting()).unwrap_or_default()
    }

    /// All objects in memory.
    pub fn views(&self) -> Vec<ObjectView> {
        self.objects.values().filter_map(|slot| slot.object.view()).collect()
    }

    /// The states of all objects in memory.
    pub fn states(&self) -> impl Iterator<Item = PublicState> + '_ {
        self.objects.values().filter_map(|slot| slot.shown.map(|(state, _)| state))
    }

    fn status(&mut self, now: Now, node: NodeId, status: InstanceStatus) {
        let standing = self.objects.get(&status.object).map_or(Standing::Unknown, |slot| {
            slot.object.standing(&node, status.instance, status.generation)
        });
        match (standing, &status.phase) {
            (Standing::Current, _) => {
                if status.frozen {
                    self.effects.push_back(Effect::Resume { node, instance: status.instance });
                }
                self.with(now, status.object, |object, cx| object.status(status.phase, status.metered, cx));
            }
            (Standing::Ending, Phase::Exited(_)) => {
                self.with(now, status.object, |object, _| object.returned(status));
            }
            (Standing::Ending | Standing::Unknown, _) => self.effects.push_back(dispose(node, status)),
        }
    }

    fn synced(&mut self, now: Now, node: &NodeId, instances: &HashSet<InstanceId>, kept: Kept) {
        let placed: Vec<ObjectId> = self.placed.get(node).into_iter().flatten().copied().collect();
        for id in placed {
            self.with(now, id, |object, cx| object.synced(instances, kept, cx));
        }
    }

    fn node_lost(&mut self, now: Now, node: &NodeId, silence: Silence) {
        let placed: Vec<ObjectId> = self.placed.get(node).into_iter().flatten().copied().collect();
        for id in placed {
            self.with(now, id, |object, cx| object.node_lost(silence, cx));
        }
    }

    fn drain(&mut self, now: Now, node: &NodeId, even_held: bool) {
        let placed: Vec<ObjectId> = self.placed.get(node).into_iter().flatten().copied().collect();
        for id in placed {
            self.with(now, id, |object, cx| object.drain(even_held, cx));
        }
    }

    /// Seeks room again for all that no node was there for.
    fn opened(&mut self, now: Now) {
        for id in std::mem::take(&mut self.unplaced) {
            self.with(now, id, Object::seek_again);
        }
    }

    /// Applies an input to an object, and then updates the indexes and timers.
    fn with(&mut self, now: Now, id: ObjectId, act: impl FnOnce(&mut Object, &mut Context<'_>)) {
        let Self { config, objects, effects, ids, .. } = self;
        // A late answer: the object was removed from memory meanwhile.
        let Some(slot) = objects.get_mut(&id) else { return };
        act(&mut slot.object, &mut Context { now, config, effects, ids });
        self.settle(id);
    }

    fn settle(&mut self, id: ObjectId) {
        let slot = self.objects.get_mut(&id).expect("only an object in memory changes");
        if slot.object.placed_on() != slot.placed_on.as_ref() {
            if let Some(set) = slot.placed_on.take().and_then(|node| self.placed.get_mut(&node)) {
                set.remove(&id);
            }
            if let Some(node) = slot.object.placed_on() {
                self.placed.entry(node.clone()).or_default().insert(id);
                slot.placed_on = Some(node.clone());
            }
        }
        let shown = slot.object.shown();
        if shown != slot.shown {
            slot.shown = shown;
            if self.watched {
                self.changes.extend(slot.object.view());
            }
        }
        self.timers.set(id, slot.object.timer());
        if slot.object.waits_for_a_node() {
            self.unplaced.insert(id);
        } else if !self.unplaced.is_empty() {
            self.unplaced.remove(&id);
        }
        if slot.object.is_forgettable() {
            self.objects.remove(&id);
            self.moves.push((id, false));
        }
    }
}
