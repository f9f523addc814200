//! The simulated world: a shell that carries out the engine's effects (`shell`) on simulated nodes (`node`, on a `machine`) and a
//! simulated store (`store`), and the things that can happen in it. Both ends of the links (`link`, `network`) are the real ones
//! (`berth_protocol`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use berth_common::fixtures;
use berth_common::ids::{EdgeId, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::{ClassSpec, HookKind, HooksSpec, NODE_LOSS_BOUNDS, Resources, TimeOrNever};
use berth_common::wire::call::Capacity;
use berth_engine::fleet::Fleet;
use berth_engine::{Backoff, Config, EndOrder, Engine, Input, Now, RecordState, WaiterId};
use berth_protocol::edge::Looks;
use proptest::sample::Index;

use crate::actions::Action;
use crate::flaw::Flaw;
use crate::link::Link;
use crate::machine::{Machine, Pace};
use crate::node::Node;
use crate::promises::Promises;
use crate::store::Store;

pub(crate) const OBJECTS: usize = 3;
pub(crate) const NODES: usize = 2;
pub(crate) const SLEEP_AFTER_MS: u64 = 3_000;
pub(crate) const START_TIMEOUT_MS: u64 = 800;
pub(crate) const MAX_TURN_MS: u64 = 1_000;
pub(crate) const PORT_TIMEOUT_MS: u64 = 1_200;
pub(crate) const WAKE_GRACE_MS: u64 = 400;
/// Fewer than there are objects, so that both limits are met.
pub(crate) const MAX_INSTANCES: u32 = 2;
const INSTANCES_A_NODE: u32 = 1;
/// Steps of 100 ms in which a world without trouble comes to rest.
const STEPS_TO_REST: usize = 300;
/// Machines that are like the edge's.
pub(crate) const ALIKE: [Pace; NODES] = [Pace { rate: 1_000, late_ms: 0 }; NODES];

pub(crate) struct World {
    pub(crate) promises: Promises,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) engine: Engine,
    pub(crate) fleet: Fleet,
    /// The edge's clocks, which are right.
    pub(crate) now: Now,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Link>,
    pub(crate) names: Vec<NodeId>,
    /// Which nodes the edge takes for drained.
    pub(crate) draining: Vec<bool>,
    pub(crate) store: Store,
    /// What links and the store have told the shard, which it has not taken yet.
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) shard_lags: bool,
    pub(crate) looks: Looks,
    pub(crate) look_ms: u64,
    pub(crate) drawn: u64,
    steps: u64,
}

fn key(object: usize) -> ObjectKey {
    let name = object.to_string().parse().unwrap();
    ObjectKey { app: "a".parse().unwrap(), class: "C".parse().unwrap(), name }
}

fn edge() -> EdgeId {
    "e".parse().unwrap()
}

/// How much later than others the last object's instances count as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(12);

/// Whether an object's instances wait for their node for longer than others.
pub(crate) fn is_patient(object: ObjectId) -> bool {
    object == key(OBJECTS - 1).id()
}

fn class(object: usize) -> ClassSpec {
    let mut class = ClassSpec {
        node_loss: is_patient(key(object).id()).then(|| (*NODE_LOSS_BOUNDS.start() + PATIENCE).into()),
        max_instances: Some(MAX_INSTANCES),
        sleep_after: Duration::from_millis(SLEEP_AFTER_MS).into(),
        start_timeout: Duration::from_millis(START_TIMEOUT_MS),
        port_timeout: Duration::from_millis(PORT_TIMEOUT_MS),
        wake_grace: Duration::from_millis(WAKE_GRACE_MS),
        hooks: Some(HooksSpec {
            url: "https://hooks".to_owned(),
            secret: "KEY".to_owned(),
            events: HookKind::USUAL.into(),
        }),
        ..fixtures::class()
    };
    // Little, so that only the number of instances limits a node.
    class.recipe.resources =
        Resources { cpu_sixteenths: 1, memory_bytes: 1, disk_bytes: 1, disk_in_memory: false };
    class
}

pub(crate) fn engine() -> Engine {
    // Short, so that the world comes to rest soon.
    let backoff = Backoff { first_ms: 100, max_ms: 400, forget_ms: 1_000 };
    let node_loss = TimeOrNever::from(*NODE_LOSS_BOUNDS.start());
    Engine::new(Config {
        term_ms: 120_000,
        node_loss,
        max_waiters_per_object: 5,
        max_turn_ms: MAX_TURN_MS,
        backoff,
    })
}

pub(crate) const CAPACITY: Capacity =
    Capacity { memory_bytes: 100, cpu_sixteenths: 100, instances: INSTANCES_A_NODE };

impl World {
    pub(crate) fn new(paces: [Pace; NODES]) -> Self {
        Self::without(None, paces)
    }

    /// One that lacks a rule, if any.
    pub(crate) fn without(flaw: Option<Flaw>, paces: [Pace; NODES]) -> Self {
        let now = Now { mono_ms: 1_000, wall_ms: 1 << 40 };
        let node = |pace| Node::new(edge(), CAPACITY, Machine::new(pace, flaw, now.wall_ms));
        let mut world = Self {
            promises: Promises::default(),
            flaw,
            engine: engine(),
            fleet: Fleet::new(),
            now,
            nodes: paces.into_iter().map(node).collect(),
            links: (0..NODES).map(|_| Link::new(edge(), flaw, now.mono_ms)).collect(),
            names: (0..NODES).map(|n| format!("n{n}").parse().unwrap()).collect(),
            draining: vec![false; NODES],
            store: Store::default(),
            inbox: VecDeque::new(),
            shard_lags: false,
            looks: Looks::starting(now.mono_ms),
            look_ms: 0,
            drawn: 0,
            steps: 0,
        };
        world.begin_to_look();
        (0..NODES).for_each(|node| world.connect(node));
        world.take_inbox();
        world
    }

    /// Lets something happen, and checks the promises.
    pub(crate) fn act(&mut self, action: Action) {
        if let Action::Flow(node) = action {
            return self.flow(node);
        }
        self.promises.time(self.now.mono_ms);
        self.steps += 1;
        if let Action::NodeRefuses(node) = &action {
            self.promises.unable(*node);
        }
        self.note_able();
        self.happen(action);
        self.take_inbox();
        self.note_able();
        self.check();
    }

    /// Which nodes would take an instance now, as far as both they and the edge know.
    pub(crate) fn note_able(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let free = self.fleet.instances_on(&self.names[index]) < INSTANCES_A_NODE;
            let able = free
                && self.links[index].is_connected()
                && !self.draining[index]
                && node.takes()
                && !self.shard_lags;
            self.promises.note_able(index, able.then_some(self.steps));
        }
    }

    /// Everything works: as many objects as there is room for are granted at once. The world must be at rest.
    pub(crate) fn expect_useful(&mut self) {
        let (granted, refused) = self.promises.answers();
        for object in 0..NODES {
            self.act(Action::Acquire(object));
        }
        for _ in 0..2 * NODES {
            self.act(Action::StoreReads);
            self.act(Action::StoreWrites);
            for node in 0..NODES {
                self.act(Action::NodeObeys(node));
                self.progress_all(node);
                self.progress_all(node);
                for _ in 0..4 {
                    self.act(Action::NodeReports(node));
                }
            }
        }
        assert_eq!(
            self.promises.answers(),
            (granted + NODES, refused),
            "of no use: {:?}",
            self.engine.views()
        );
    }

    pub(crate) fn check(&mut self) {
        Promises::one_life_each(&self.nodes, self.store.lives.values());
        for node in &mut self.nodes {
            for instance in node.take_forgotten() {
                assert!(
                    self.store.is_measured(instance),
                    "forgotten before what was measured of {instance} is durable"
                );
            }
            self.promises.thawed_on_order_only(node);
            self.promises.kept_while_nobody_speaks(node);
        }
        self.promises.check(&self.engine, &self.nodes, &self.fleet, &self.names);
    }

    fn happen(&mut self, action: Action) {
        match action {
            Action::Acquire(object) => self.acquire(object),
            Action::Cancel(which) => self.cancel(which),
            Action::Release(which) => self.release(which),
            Action::Touch(which) => self.touch(which),
            Action::End { object, order } => self.end(object, order),
            Action::Advance(ms) => self.advance(ms),
            Action::StoreWrites => self.store_writes(true, true),
            Action::StoreFailsToWrite { applied } => self.store_writes(applied, false),
            Action::StoreReads => self.store_reads(true),
            Action::StoreFailsToRead => self.store_reads(false),
            Action::NodeObeys(node) => self.deliver(node, 0),
            Action::NodeObeysLater(node, which) => {
                let calls = self.links[node].calls();
                self.deliver(node, if calls > 0 { which.index(calls) } else { 0 });
            }
            Action::NodeReports(node) => self.report(node),
            Action::NodeRefuses(node) => self.refuse(node),
            Action::Progress { node, which } => self.on_one(node, which, Node::progress),
            Action::Exit { node, which, code } => {
                self.on_one(node, which, |node, instance| node.exit(instance, Outcome::exited(code)));
            }
            Action::NodeStops { node, which } => self.on_one(node, which, Node::begin_stopping),
            Action::Disconnect { node, orders_lost } => self.disconnect(node, orders_lost),
            Action::NodeLosesAll(node) => {
                self.disconnect(node, true);
                self.nodes[node].reboot();
            }
            Action::Drain { node, draining } => self.nodes[node].drain(draining),
            Action::Fill { node, full } => self.nodes[node].fill(full),
            Action::Wiped(node) => self.nodes[node].wiped(),
            Action::Connect(node) => self.connect(node),
            Action::CrashEdge { written } => self.crash(written),
            trouble => self.trouble(trouble),
        }
    }

    /// What makes nodes silent, and the edge deaf.
    fn trouble(&mut self, action: Action) {
        match action {
            Action::ConnectRenewer(node) => self.connect_renewer(node),
            Action::ConnectInVain(node) => self.connect_in_vain(node),
            Action::Cut { node, cut } => self.links[node].cut = cut,
            Action::StopAgent { node, stopped } => self.nodes[node].stop_agent(stopped),
            Action::RestartAgent(node) => {
                if self.nodes[node].is_awake() {
                    self.disconnect(node, true);
                    self.nodes[node].restart_agent();
                }
            }
            Action::Suspend { node, suspended } => self.nodes[node].suspend(suspended),
            Action::EndEdge { written, window_ms, away_ms } => self.end_edge(written, window_ms, away_ms),
            Action::EdgeSleeps(ms) => self.edge_sleeps(ms),
            Action::ShardLags(lags) => self.shard_lags = lags,
            Action::LinkLags { node, lags } => {
                self.links[node].lags = lags;
                if !lags {
                    self.link_goes_on(node);
                }
            }
            other => panic!("nothing is known of {other:?}"),
        }
    }

    /// Everything that is to be done for the node is done, as far as its connection goes.
    fn flow(&mut self, node: usize) {
        for _ in 0..3 {
            self.act(Action::StoreReads);
            self.act(Action::StoreWrites);
            for _ in 0..self.links[node].calls() {
                self.act(Action::NodeObeys(node));
            }
            self.progress_all(node);
            for _ in 0..4 {
                self.act(Action::NodeReports(node));
            }
        }
    }

    /// All of it works again.
    pub(crate) fn heal(&mut self, node: usize) {
        let (link, its) = (&self.links[node], &self.nodes[node]);
        let lags = (self.shard_lags, link.lags);
        let (cut, is_awake) = (link.cut != (false, false), its.is_awake());
        let (connected, full) = (link.is_connected() && link.renews(), its.is_full());
        let mends = [
            (lags.0, Action::ShardLags(false)),
            (lags.1, Action::LinkLags { node, lags: false }),
            (cut, Action::Cut { node, cut: (false, false) }),
            (!is_awake, Action::Suspend { node, suspended: false }),
            (!is_awake, Action::StopAgent { node, stopped: false }),
            (!connected, Action::Connect(node)),
            (its.is_draining(), Action::Drain { node, draining: false }),
            (full.0, Action::Fill { node, full: false }),
            (full.1, Action::Wiped(node)),
        ];
        let due = mends.into_iter().filter(|(is_due, _)| *is_due);
        due.collect::<Vec<_>>().into_iter().for_each(|(_, mend)| self.act(mend));
    }

    /// Everything works again and all clients leave: the world must come to rest, with nothing left running.
    pub(crate) fn come_to_rest(&mut self) {
        for _ in 0..STEPS_TO_REST {
            self.rest_a_step();
            if self.is_at_rest() {
                break;
            }
        }
        assert_eq!(self.promises.waiting(), [], "unanswered");
        assert_eq!(self.promises.orders_waiting(), 0, "orders unanswered");
        let left: Vec<_> = self.nodes.iter().flat_map(Node::living_ids).collect();
        assert!(self.nodes.iter().all(Node::is_empty), "left behind: {left:?}");
        assert!(self.engine.views().is_empty(), "in memory: {:?}", self.engine.views());
        assert_eq!(self.engine.next_deadline_ms(), None);
        assert!(self.store.all_stopped());
        assert!(self.links.iter().all(Link::is_connected), "not connected");
        Promises::every_life_kept(&self.nodes, self.store.lives.values());
    }

    fn is_at_rest(&self) -> bool {
        let is_idle = self.promises.waiting().is_empty() && self.promises.orders_waiting() == 0;
        let nodes_are = self.nodes.iter().all(Node::is_empty) && self.links.iter().all(Link::is_idle);
        is_idle && nodes_are && self.engine.views().is_empty() && self.engine.next_deadline_ms().is_none()
    }

    fn rest_a_step(&mut self) {
        while !self.promises.holds().is_empty() {
            self.release_at(0);
        }
        if let Some(node) = self.store.untold.take() {
            let node = self.index(&node);
            self.act(Action::Disconnect { node, orders_lost: true });
        }
        for node in 0..NODES {
            self.heal(node);
            for _ in 0..self.links[node].calls().min(8) {
                self.act(Action::NodeObeys(node));
            }
            self.progress_all(node);
            self.nodes[node].end_stopping();
            self.act(Action::NodeReports(node));
        }
        self.act(Action::StoreReads);
        self.act(Action::StoreWrites);
        self.act(Action::Advance(100));
    }

    pub(crate) fn ended_idle(&self, object: usize) -> bool {
        let state = self.store.durable.get(&key(object).id()).map(|record| &record.state);
        matches!(state, Some(RecordState::Stopped { outcome: Some(end), .. }) if end.reason == ExitReason::Idle)
    }

    pub(crate) fn progress_all(&mut self, node: usize) {
        for instance in self.nodes[node].living_ids() {
            self.nodes[node].progress(instance);
        }
    }

    // ---- clients

    fn acquire(&mut self, object: usize) {
        self.drawn += 1;
        let (key, waiter) = (key(object), WaiterId(self.drawn));
        self.promises.acquired(waiter, key.id(), self.steps);
        self.input(Input::Acquire { key, class: Arc::new(class(object)), waiter });
    }

    fn cancel(&mut self, which: Index) {
        let waiting = self.promises.waiting();
        if let Some((waiter, object)) = pick(which, &waiting) {
            self.promises.cancelled(waiter);
            self.input(Input::Cancel { object, waiter });
        }
    }

    fn release(&mut self, which: Index) {
        let holds = self.promises.holds().len();
        if holds > 0 {
            self.release_at(which.index(holds));
        }
    }

    fn release_at(&mut self, index: usize) {
        let (hold, placement) = self.promises.released(index);
        self.input(Input::Release { object: placement.object, hold });
    }

    fn touch(&mut self, which: Index) {
        let Some(instance) = pick(which, &self.promises.healthy()) else { return };
        let view = self.engine.views().into_iter().find(|view| view.instance == Some(instance)).unwrap();
        self.promises.active(instance);
        self.input(Input::Touch { object: view.id, instance });
    }

    fn end(&mut self, object: usize, order: EndOrder) {
        self.drawn += 1;
        let (object, waiter) = (key(object).id(), WaiterId(self.drawn));
        let instance = self.engine.view(object).and_then(|view| view.instance);
        self.promises.ordering(waiter, instance);
        self.input(Input::End { object, order, waiter });
    }

    // ---- time

    /// Lets time pass, stopping at each moment on the way at which something is due.
    fn advance(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while let Some(at) = self.next_ms().filter(|at| *at <= end) {
            let is_worth_a_check = self.engine.next_deadline_ms().is_some_and(|due| due <= at);
            self.pass(at.max(self.now.mono_ms));
            if is_worth_a_check {
                self.check();
            }
        }
        self.pass(end);
    }

    /// When something is due next.
    fn next_ms(&self) -> Option<u64> {
        let own = [self.engine.next_deadline_ms(), self.renews_ms(), Some(self.look_ms)];
        own.into_iter().flatten().chain(self.next_freeze_ms()).min()
    }

    fn next_freeze_ms(&self) -> Option<u64> {
        let day_ms = self.now.wall_ms - self.now.mono_ms;
        let due = self.nodes.iter().filter_map(|node| node.machine().frozen_by_ms());
        due.min().map(|due| due - day_ms)
    }

    /// Nodes go on until then.
    fn nodes_go_on(&mut self, to_ms: u64) {
        self.now.wall_ms += to_ms - self.now.mono_ms;
        self.now.mono_ms = to_ms;
        self.promises.time(to_ms);
        self.nodes.iter_mut().for_each(|node| node.time(self.now.wall_ms));
    }

    fn pass(&mut self, to_ms: u64) {
        self.nodes_go_on(to_ms);
        self.renew_due();
        self.look();
        self.engine.handle_timeout(self.now);
        self.carry_out();
        self.take_inbox();
    }

    /// The edge does nothing for this long; its nodes do.
    pub(crate) fn sleep(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while let Some(at) = self.next_freeze_ms().filter(|at| *at <= end) {
            self.nodes_go_on(at.max(self.now.mono_ms));
        }
        self.nodes_go_on(end);
    }

    fn edge_sleeps(&mut self, ms: u64) {
        self.sleep(ms);
        self.pass(self.now.mono_ms);
    }

    // ---- nodes

    fn on_one(&mut self, node: usize, which: Index, act: impl FnOnce(&mut Node, InstanceId)) {
        if let Some(instance) = pick(which, &self.nodes[node].living_ids()) {
            act(&mut self.nodes[node], instance);
        }
    }
}

fn pick<T: Copy>(which: Index, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| *which.get(from))
}
