//! What the engine promises, by name, checked from outside on every input and effect.
//!
//! 1. `never_two_run`: of an object's instances, on all nodes together, one at the most is neither ended nor frozen.
//! 2. `answered_once_in_time`: each request is granted or refused once, within its bound, and never after it left.
//! 3. `activity_never_leaks`: an instance without holds is put to sleep once `sleep_after` has passed, not a moment
//!    later.
//! 4. `never_asleep_under_activity`: nothing is put to sleep while a request holds it, nor sooner.
//! 5. `durable_first`: a start only after its placement is durable, a forget only after the end is.
//! 6. `legal_after_crash`: what was durable gives a legal state, in which all promises hold on.
//! 7. `room_never_leaks`: exactly what may live on a node is reserved there.
//! 8. `orders_answered_once`: each order to end is answered once, and no instance gets SIGTERM without order or
//!    idleness.
//! 9. `events_in_order`: each end that is durable has its event in the same write, each start before its end,
//!    generations in order.
//! 10. `one_life_each`: each instance that ran has one record of its life once it is over, whatever crashes; one that
//!     did not has none, but an estimated one where its node lost all that it knew.
//! 11. `ordered_is_final`: once an order to end an instance was answered, no request gets it, and it is never shown as
//!     healthy again, whatever crashes.
//! 12. `refused_for_want_only`: a request is refused for want of room or of a node only if no node could have taken it all the
//!     time that it waited, but those that have refused the very start that it waited for.
//! 13. `lost_has_paused`: a node is given up only once nothing runs there.
//! 14. `thawed_on_order_only`: what is frozen goes on only because the engine has had it resumed.
//! 15. `kept_while_nobody_speaks`: what is frozen is killed for that only once its edge was heard for long.
//! 16. `measured_once`: a node forgets what it has measured only once that is durable, in place of an estimate if there was one.
//! 17. `started_for_somebody`: an instance is placed only while a request waits for it.

use std::collections::{BTreeMap, HashMap, HashSet};

use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId};
use berth_common::outcome::ExitReason;
use berth_common::spec::HookKind;
use berth_common::wire::call::{Start, Stop};
use berth_engine::fleet::Fleet;
use berth_engine::{
    Engine, Event, HoldId, ObjectView, Placement, PublicState, Record, RecordState, Refused, UsageRecord,
    WaiterId,
};

use crate::model::{MAX_TURN_MS, PORT_TIMEOUT_MS, SLEEP_AFTER_MS, START_TIMEOUT_MS, WAKE_GRACE_MS};
use crate::node::Node;

const SIGTERM: i32 = 15;
/// How long a node keeps what is frozen while it hears its edge, in milliseconds.
const KEEP_MS: u64 = 600_000;

struct Waiting {
    object: ObjectId,
    bound_ms: u64,
    since_step: u64,
}

#[derive(Default)]
pub(crate) struct Promises {
    now_ms: u64,
    /// Waiting requests, when each must be answered, and the step of the world that it came with.
    waiting: BTreeMap<WaiterId, Waiting>,
    /// Since which step each node could have taken an instance, if it can.
    able_since: BTreeMap<usize, u64>,
    /// Which nodes have refused the start that an object's requests wait for.
    refused_by: HashMap<ObjectId, HashSet<usize>>,
    holds: Vec<(HoldId, Placement)>,
    /// Instances that are healthy as far as the engine knows, and the last activity of each.
    active_ms: HashMap<InstanceId, u64>,
    /// Instances that were rightly found to be idle.
    idle: HashSet<InstanceId>,
    /// Orders to end that are not answered yet, and what they end.
    orders: HashMap<WaiterId, Option<InstanceId>>,
    /// Instances that an answered order ends.
    confirmed: HashSet<InstanceId>,
    /// Instances whose end was ordered.
    ordered: HashSet<InstanceId>,
    started: HashMap<ObjectId, Generation>,
    /// How often each instance was to be resumed and is not yet.
    resumes: HashMap<InstanceId, u32>,
    /// The newest generation of each object that was placed.
    placed: HashMap<ObjectId, Generation>,
    /// The last event of each object: its generation, and whether it was its end.
    last_event: HashMap<ObjectId, (Generation, bool)>,
    granted: usize,
    refused: usize,
}

impl Promises {
    pub(crate) fn holds(&self) -> &[(HoldId, Placement)] {
        &self.holds
    }

    pub(crate) fn waiting(&self) -> Vec<(WaiterId, ObjectId)> {
        self.waiting.iter().map(|(waiter, waiting)| (*waiter, waiting.object)).collect()
    }

    pub(crate) fn healthy(&self) -> Vec<InstanceId> {
        let mut healthy: Vec<_> = self.active_ms.keys().copied().collect();
        healthy.sort_unstable();
        healthy
    }

    /// How many requests were granted, and how many refused.
    pub(crate) fn answers(&self) -> (usize, usize) {
        (self.granted, self.refused)
    }

    // ---- what happens

    pub(crate) fn time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    pub(crate) fn acquired(&mut self, waiter: WaiterId, object: ObjectId, since_step: u64) {
        let bound_ms = self.now_ms + WAKE_GRACE_MS + MAX_TURN_MS + START_TIMEOUT_MS + PORT_TIMEOUT_MS;
        self.waiting.insert(waiter, Waiting { object, bound_ms, since_step });
    }

    pub(crate) fn cancelled(&mut self, waiter: WaiterId) {
        self.waiting.remove(&waiter);
    }

    pub(crate) fn released(&mut self, index: usize) -> (HoldId, Placement) {
        let (hold, placement) = self.holds.remove(index);
        self.active(placement.instance);
        (hold, placement)
    }

    pub(crate) fn active(&mut self, instance: InstanceId) {
        if let Some(active_ms) = self.active_ms.get_mut(&instance) {
            *active_ms = self.now_ms;
        }
    }

    pub(crate) fn crashed(&mut self) {
        self.waiting.clear();
        self.holds.clear();
        self.active_ms.clear();
        self.orders.clear();
        self.refused_by.clear();
    }

    // ---- 2, answered_once_in_time

    pub(crate) fn granted(&mut self, waiter: WaiterId, hold: HoldId, placement: Placement) {
        let Waiting { object, .. } = self.waiting.remove(&waiter).expect("answered twice, or after it left");
        assert_eq!(object, placement.object);
        assert!(!self.confirmed.contains(&placement.instance), "granted although its end was ordered");
        assert!(self.holds.iter().all(|(other, _)| *other != hold), "a hold was drawn twice");
        self.holds.push((hold, placement));
        self.granted += 1;
    }

    /// `taken`: how many instances are reserved in all.
    pub(crate) fn refused(&mut self, waiter: WaiterId, refused: &Refused, taken: u32) {
        if self.orders.remove(&waiter).is_some() {
            return;
        }
        let waited = self.waiting.remove(&waiter).expect("answered twice, or after it left");
        self.refused_for_want_only(&waited, refused, taken);
        self.refused += 1;
    }

    fn answered_once_in_time(&self) {
        let late: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.bound_ms <= self.now_ms)
            .map(|(id, _)| id)
            .collect();
        assert!(late.is_empty(), "not answered within the bound: {late:?}");
    }

    // ---- 12, refused_for_want_only

    /// Whether a node can take an instance, at this step.
    pub(crate) fn note_able(&mut self, node: usize, step: Option<u64>) {
        match step {
            Some(step) => drop(self.able_since.entry(node).or_insert(step)),
            None => drop(self.able_since.remove(&node)),
        }
    }

    pub(crate) fn unable(&mut self, node: usize) {
        self.able_since.remove(&node);
    }

    pub(crate) fn start_refused(&mut self, object: ObjectId, node: usize) {
        self.refused_by.entry(object).or_default().insert(node);
    }

    fn refused_for_want_only(&self, waited: &Waiting, refused: &Refused, taken: u32) {
        let refused_by = self.refused_by.get(&waited.object);
        let tried = |node| refused_by.is_some_and(|nodes| nodes.contains(node));
        let mut others = self.able_since.iter().filter(|(node, _)| !tried(node));
        let able = others.any(|(_, since)| *since <= waited.since_step);
        match refused {
            Refused::NoNode | Refused::NoCapacity { .. } => assert!(!able, "{refused:?}, with a free node"),
            Refused::ClassLimit { limit } => assert!(taken >= *limit, "{taken} of {limit} are taken"),
            _ => {}
        }
    }

    // ---- 1, never_two_run

    fn never_two_run(nodes: &[Node]) {
        let mut seen = HashSet::new();
        for (object, instance) in nodes.iter().flat_map(|node| node.machine().running()) {
            assert!(seen.insert(object), "two instances of {object} run, one of them {instance}");
        }
    }

    // ---- 13, lost_has_paused

    pub(crate) fn lost_has_paused(&self, node: &Node) {
        let running: Vec<_> = node.machine().running().collect();
        assert!(running.is_empty(), "given up while it runs {running:?}");
    }

    /// What waits for instances of a node that is lost begins to wait for others.
    pub(crate) fn node_lost(&mut self, objects: &[ObjectId]) {
        let bound_ms = self.now_ms + START_TIMEOUT_MS + PORT_TIMEOUT_MS + WAKE_GRACE_MS;
        for waiting in self.waiting.values_mut().filter(|waiting| objects.contains(&waiting.object)) {
            waiting.bound_ms = bound_ms;
        }
    }

    // ---- 14, thawed_on_order_only

    /// The engine has an instance resumed.
    pub(crate) fn resuming(&mut self, instance: InstanceId) {
        *self.resumes.entry(instance).or_default() += 1;
    }

    pub(crate) fn thawed_on_order_only(&mut self, node: &mut Node) {
        for instance in node.machine_mut().take_thawed() {
            let left = self.resumes.get_mut(&instance).and_then(|left| {
                *left = left.checked_sub(1)?;
                Some(())
            });
            assert!(left.is_some(), "{instance} goes on, and nobody had it resumed");
        }
    }

    // ---- 15, kept_while_nobody_speaks

    pub(crate) fn kept_while_nobody_speaks(&self, node: &mut Node) {
        let heard_for_ms = node.heard_for_ms();
        for instance in node.machine_mut().take_killed_frozen() {
            assert!(
                heard_for_ms >= KEEP_MS,
                "{instance} was killed, and its edge is heard for {heard_for_ms} ms only"
            );
        }
    }

    // ---- 3 and 4, sleep

    fn activity_never_leaks(&mut self, views: &[ObjectView]) {
        let healthy = views.iter().filter(|view| view.state == PublicState::Healthy);
        let before = std::mem::take(&mut self.active_ms);
        for view in healthy {
            let instance = view.instance.expect("a healthy object has an instance");
            assert!(!self.confirmed.contains(&instance), "healthy although its end was ordered");
            let active_ms = before.get(&instance).copied().unwrap_or(self.now_ms);
            let held = self.holds.iter().any(|(_, placement)| placement.instance == instance);
            assert!(
                held || self.now_ms < active_ms + SLEEP_AFTER_MS,
                "{instance} is idle and does not sleep"
            );
            self.active_ms.insert(instance, active_ms);
        }
    }

    fn never_asleep_under_activity(&mut self, instance: InstanceId) {
        let held = self.holds.iter().any(|(_, placement)| placement.instance == instance);
        assert!(!held, "put to sleep under a request");
        let active_ms = self.active_ms.get(&instance).expect("only what is healthy is put to sleep");
        assert!(self.now_ms >= active_ms + SLEEP_AFTER_MS, "put to sleep too soon");
        self.idle.insert(instance);
    }

    // ---- 5, durable_first

    pub(crate) fn persisting(&mut self, record: &Record) {
        self.started_for_somebody(record);
        if matches!(record.state, RecordState::Stopped { .. }) {
            self.refused_by.remove(&record.key.id());
        }
        if let RecordState::Placed { instance, stop_reason: Some(ExitReason::Idle), .. } = record.state
            // An order for what ends already is written with the reason that it had.
            && !self.idle.contains(&instance)
        {
            self.never_asleep_under_activity(instance);
        }
    }

    fn started_for_somebody(&mut self, record: &Record) {
        let object = record.key.id();
        let is_new = matches!(record.state, RecordState::Placed { .. })
            && self.placed.insert(object, record.generation) < Some(record.generation);
        let waits = self.waiting.values().any(|waiting| waiting.object == object);
        assert!(!is_new || waits, "{object} is started and nobody waits for it");
    }

    /// `acknowledged`: the last record of the object that the engine knows to be durable.
    pub(crate) fn starting(&mut self, start: &Start, acknowledged: Option<&Record>) {
        let record = acknowledged.expect("started before anything was durable");
        let RecordState::Placed { instance, class, .. } = &record.state else {
            panic!("started before the placement was durable: {record:?}")
        };
        assert_eq!((*instance, record.generation), (start.instance, start.generation));
        assert_eq!(&class.recipe, &start.recipe);
        let before = self.started.insert(start.object.id(), start.generation);
        assert!(before < Some(start.generation), "a generation was used twice");
    }

    pub(crate) fn stopping(&self, stop: &Stop) {
        let wanted = self.idle.contains(&stop.instance) || self.ordered.contains(&stop.instance);
        assert!(stop.signal != SIGTERM || wanted, "a stop without a reason");
    }

    pub(crate) fn forgetting<'a>(&self, instance: InstanceId, mut durable: impl Iterator<Item = &'a Record>) {
        let places = |record: &Record| matches!(&record.state, RecordState::Placed { instance: of, .. } if *of == instance);
        assert!(!durable.any(places), "told to forget before the end was durable");
    }

    // ---- 8, orders_answered_once

    pub(crate) fn ordering(&mut self, waiter: WaiterId, instance: Option<InstanceId>) {
        self.orders.insert(waiter, instance);
        self.ordered.extend(instance);
    }

    pub(crate) fn ordered(&mut self, waiter: WaiterId) {
        let ended = self.orders.remove(&waiter).expect("an order was answered twice");
        self.confirmed.extend(ended);
    }

    pub(crate) fn orders_waiting(&self) -> usize {
        self.orders.len()
    }

    // ---- 9, events_in_order

    /// What is durable from now on, all at once.
    pub(crate) fn events_written(&mut self, record: &Record, events: &[Event]) {
        for event in events {
            let end = event.kind != HookKind::Start;
            let next = (event.generation, end);
            let before = self.last_event.insert(event.key.id(), next);
            assert!(before.is_none_or(|before| before <= next), "told {next:?} after {before:?}");
        }
        if let RecordState::Stopped { outcome: Some(outcome), .. } = &record.state {
            let stop = events.iter().any(|event| event.kind == HookKind::Stop);
            assert_eq!(stop, outcome.reason != ExitReason::StartFailed, "{outcome:?}: {events:?}");
        }
    }

    // ---- 10, one_life_each

    pub(crate) fn one_life_each<'a>(nodes: &[Node], lives: impl Iterator<Item = &'a UsageRecord>) {
        let mut seen = HashSet::new();
        for life in lives {
            assert!(seen.insert(life.instance), "two records of the life of {}", life.instance);
            let ran = nodes.iter().any(|node| node.machine().ran().contains(&life.instance));
            assert!(ran || life.estimated, "a record of a life that never was: {life:?}");
            let rebooted = nodes.iter().any(|node| node.machine().kept_since_ms() >= life.started_ms);
            let lost = rebooted || life.reason == ExitReason::NodeLost;
            assert!(ran || lost, "an estimate of what no node can have lost: {life:?}");
        }
    }

    pub(crate) fn every_life_kept<'a>(nodes: &[Node], lives: impl Iterator<Item = &'a UsageRecord>) {
        let kept: HashSet<_> = lives.map(|life| life.instance).collect();
        let missing: Vec<_> = nodes
            .iter()
            .flat_map(|node| node.machine().ran())
            .filter(|instance| !kept.contains(instance))
            .collect();
        assert!(missing.is_empty(), "no record of the lives of {missing:?}");
    }

    // ---- 6, legal_after_crash

    pub(crate) fn legal_after_crash(&self, engine: &Engine, durable: &HashMap<ObjectId, Record>) {
        for (id, record) in durable {
            assert!(self.started.get(id).is_none_or(|generation| *generation <= record.generation));
            let view = engine.view(*id);
            match &record.state {
                RecordState::Stopped { .. } => assert_eq!(view, None, "a stopped object takes no memory"),
                RecordState::Placed { node, instance, .. } => {
                    let view = view.expect("what may live is known");
                    assert!(matches!(view.state, PublicState::Running | PublicState::Stopping));
                    let known = (view.node.as_ref(), view.instance, view.generation);
                    assert_eq!(known, (Some(node), Some(*instance), record.generation));
                }
            }
        }
        let started_unknown = self.started.keys().any(|id| !durable.contains_key(id));
        assert!(!started_unknown, "something was started of which nothing is durable");
    }

    // ---- 7, room_never_leaks

    fn room_never_leaks(fleet: &Fleet, views: &[ObjectView], names: &[NodeId]) {
        for node in names {
            let placed = views.iter().filter(|view| view.node.as_ref() == Some(node)).count();
            assert_eq!(usize::try_from(fleet.instances_on(node)), Ok(placed), "reserved on {node}");
        }
    }

    /// After each step, with all effects carried out and all deadlines handled.
    pub(crate) fn check(&mut self, engine: &Engine, nodes: &[Node], fleet: &Fleet, names: &[NodeId]) {
        let views = engine.views();
        Self::never_two_run(nodes);
        self.answered_once_in_time();
        self.activity_never_leaks(&views);
        Self::room_never_leaks(fleet, &views, names);
    }
}
