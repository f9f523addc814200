//! The simulated world: a shell that carries out the engine's effects on simulated nodes and a simulated store, and
//! the things that can happen in it. Both ends of the links are the real ones (`berth_protocol`).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use berth_common::fixtures;
use berth_common::ids::{EdgeId, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::{ClassSpec, HookKind, HooksSpec, Resources};
use berth_common::wire::call::{Answer, Capacity, DiskCapacity, InstanceStatus, Phase, Start, Stop};
use berth_engine::fleet::{Demand, Fleet, Turn};
use berth_engine::{
    Backoff, Config, Effect, EndOrder, Engine, Event, Input, Now, PersistId, Record, RecordState, Refused,
    StoreFailure, UsageRecord, WaiterId,
};
use proptest::sample::Index;

use crate::link::Link;
use crate::node::{News, Node, Supply};
use crate::promises::Promises;

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

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Acquire(usize),
    Cancel(Index),
    Release(Index),
    Touch(Index),
    End {
        object: usize,
        order: EndOrder,
    },
    Advance(u64),
    StoreWrites,
    StoreReads,
    /// `applied`: the write happened although it is reported as failed.
    StoreFailsToWrite {
        applied: bool,
    },
    StoreFailsToRead,
    NodeObeys(usize),
    NodeReports(usize),
    NodeRefuses(usize),
    Progress {
        node: usize,
        which: Index,
    },
    Exit {
        node: usize,
        which: Index,
        code: i32,
    },
    /// The node ends an instance by itself.
    NodeStops {
        node: usize,
        which: Index,
    },
    /// `orders_lost`: what was sent and not yet obeyed never arrives. Otherwise it does, perhaps after it was sent
    /// again.
    Disconnect {
        node: usize,
        orders_lost: bool,
    },
    NodeLosesAll(usize),
    /// The node is taken out of service, or into it.
    Drain {
        node: usize,
        draining: bool,
    },
    /// Another edge takes all of the node's room, or gives it back.
    Fill {
        node: usize,
        full: bool,
    },
    /// The disk of an ended instance is free.
    Wiped(usize),
    Connect(usize),
    /// `written`: how many of the writes under way were done, in their order.
    CrashEdge {
        written: Index,
    },
}

/// One write under way.
struct Written {
    object: ObjectId,
    persist: PersistId,
    record: Record,
    events: Vec<Event>,
    usage: Option<Box<UsageRecord>>,
}

pub(crate) struct World {
    pub(crate) promises: Promises,
    engine: Engine,
    fleet: Fleet,
    now: Now,
    nodes: Vec<Node>,
    links: Vec<Link>,
    names: Vec<NodeId>,
    /// Which nodes the edge takes for drained.
    draining: Vec<bool>,
    durable: HashMap<ObjectId, Record>,
    /// What is durable and the engine knows it.
    acknowledged: HashMap<ObjectId, Record>,
    /// What is durable of the lives of instances, by their keys in the store.
    lives: BTreeMap<(u64, InstanceId), UsageRecord>,
    writes: VecDeque<Written>,
    reads: VecDeque<ObjectId>,
    drawn: u64,
    steps: u64,
}

fn key(object: usize) -> ObjectKey {
    let name = object.to_string().parse().unwrap();
    ObjectKey { app: "a".parse().unwrap(), class: "C".parse().unwrap(), name }
}

fn edge() -> EdgeId {
    "e".parse().unwrap()
}

fn class() -> ClassSpec {
    let mut class = ClassSpec {
        max_instances: Some(MAX_INSTANCES),
        sleep_after: Duration::from_millis(SLEEP_AFTER_MS),
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

fn engine() -> Engine {
    // Short, so that the world comes to rest soon.
    let backoff = Backoff { first_ms: 100, max_ms: 400, forget_ms: 1_000 };
    Engine::new(Config { term_ms: 120_000, max_waiters_per_object: 5, max_turn_ms: MAX_TURN_MS, backoff })
}

const CAPACITY: Capacity = Capacity { memory_bytes: 100, cpu_sixteenths: 100, instances: INSTANCES_A_NODE };

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            promises: Promises::default(),
            engine: engine(),
            fleet: Fleet::new(),
            now: Now { mono_ms: 1_000, wall_ms: 1 << 40 },
            nodes: (0..NODES).map(|_| Node::new(edge(), CAPACITY)).collect(),
            links: (0..NODES).map(|_| Link::new(edge())).collect(),
            names: (0..NODES).map(|n| format!("n{n}").parse().unwrap()).collect(),
            draining: vec![false; NODES],
            durable: HashMap::new(),
            acknowledged: HashMap::new(),
            lives: BTreeMap::new(),
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            drawn: 0,
            steps: 0,
        };
        (0..NODES).for_each(|node| world.connect(node));
        world
    }

    /// Lets something happen, and checks the promises.
    pub(crate) fn act(&mut self, action: Action) {
        self.promises.time(self.now.mono_ms);
        self.tell_time();
        self.steps += 1;
        if let Action::NodeRefuses(node) = &action {
            self.promises.unable(*node);
        }
        self.note_able();
        self.happen(action);
        self.note_able();
        self.check();
    }

    /// Which nodes would take an instance now, as far as both they and the edge know.
    fn note_able(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let free = self.fleet.instances_on(&self.names[index]) < INSTANCES_A_NODE;
            let able = free && self.links[index].is_connected() && !self.draining[index] && node.takes();
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

    fn tell_time(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.time(self.now.wall_ms));
    }

    fn check(&mut self) {
        Promises::one_life_each(&self.nodes, self.lives.values());
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
            Action::NodeObeys(node) => self.links[node].deliver(&mut self.nodes[node], Supply::Enough),
            Action::NodeReports(node) => self.report(node),
            Action::NodeRefuses(node) => self.refuse(node),
            Action::Progress { node, which } => self.on_one(node, which, Node::progress),
            Action::Exit { node, which, code } => {
                let ended = Phase::Exited(Outcome::exited(code));
                self.on_one(node, which, |node, instance| node.advance(instance, ended));
            }
            Action::NodeStops { node, which } => {
                self.on_one(node, which, |node, instance| node.advance(instance, Phase::Stopping));
            }
            Action::Disconnect { node, orders_lost } => self.disconnect(node, orders_lost),
            Action::NodeLosesAll(node) => {
                self.disconnect(node, true);
                self.nodes[node].lose_all();
            }
            Action::Drain { node, draining } => self.nodes[node].drain(draining),
            Action::Fill { node, full } => self.nodes[node].fill(full),
            Action::Wiped(node) => self.nodes[node].wiped(),
            Action::Connect(node) => self.connect(node),
            Action::CrashEdge { written } => self.crash(written),
        }
    }

    /// Everything works again and all clients leave: the world must come to rest, with nothing left running.
    pub(crate) fn come_to_rest(&mut self) {
        for _ in 0..STEPS_TO_REST {
            while !self.promises.holds().is_empty() {
                self.release_at(0);
            }
            for node in 0..NODES {
                self.act(Action::Connect(node));
                self.act(Action::Drain { node, draining: false });
                self.act(Action::Fill { node, full: false });
                self.act(Action::Wiped(node));
                self.act(Action::NodeObeys(node));
                self.progress_all(node);
                self.nodes[node].end_stopping();
                self.act(Action::NodeReports(node));
            }
            self.act(Action::StoreReads);
            self.act(Action::StoreWrites);
            self.act(Action::Advance(100));
        }
        assert_eq!(self.promises.waiting(), [], "unanswered");
        assert_eq!(self.promises.orders_waiting(), 0, "orders unanswered");
        assert!(self.nodes.iter().all(Node::is_empty), "left behind: {:?}", self.nodes);
        assert!(self.engine.views().is_empty(), "in memory: {:?}", self.engine.views());
        assert_eq!(self.engine.next_deadline_ms(), None);
        assert!(self.durable.values().all(|r| matches!(r.state, RecordState::Stopped { .. })));
        Promises::every_life_kept(&self.nodes, self.lives.values());
    }

    pub(crate) fn ended_idle(&self, object: usize) -> bool {
        let state = self.durable.get(&key(object).id()).map(|record| &record.state);
        matches!(state, Some(RecordState::Stopped { outcome: Some(end) }) if end.reason == ExitReason::Idle)
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
        self.input(Input::Acquire { key, class: Arc::new(class()), waiter });
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

    /// Lets time pass, stopping at each deadline on the way.
    fn advance(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        while let Some(at) = self.engine.next_deadline_ms().filter(|at| *at <= end) {
            self.pass(at.max(self.now.mono_ms));
            self.check();
        }
        self.pass(end);
    }

    fn pass(&mut self, to_ms: u64) {
        self.now.wall_ms += to_ms - self.now.mono_ms;
        self.now.mono_ms = to_ms;
        self.promises.time(to_ms);
        self.engine.handle_timeout(self.now);
        self.carry_out();
    }

    // ---- the store

    fn store_writes(&mut self, applied: bool, success: bool) {
        let Some(Written { object, persist, record, events, usage }) = self.writes.pop_front() else {
            return;
        };
        if applied {
            self.promises.events_written(&record, &events);
            self.durable.insert(object, record.clone());
            self.keep(usage);
        }
        if success {
            self.acknowledged.insert(object, record);
        }
        let result = if success { Ok(()) } else { Err(StoreFailure::new("full")) };
        self.input(Input::Persisted { object, persist, result });
    }

    fn keep(&mut self, usage: Option<Box<UsageRecord>>) {
        if let Some(life) = usage {
            self.lives.insert((life.ended_ms(), life.instance), *life);
        }
    }

    fn store_reads(&mut self, success: bool) {
        let Some(object) = self.reads.pop_front() else { return };
        let record = self.durable.get(&object).cloned();
        let record = if success { Ok(record) } else { Err(StoreFailure::new("damaged")) };
        self.input(Input::Loaded { object, record });
    }

    // ---- nodes

    fn on_one(&mut self, node: usize, which: Index, act: impl FnOnce(&mut Node, InstanceId)) {
        if let Some(instance) = pick(which, &self.nodes[node].living_ids()) {
            act(&mut self.nodes[node], instance);
        }
    }

    /// The edge receives the next report, and before that all answers that have arrived.
    fn report(&mut self, node: usize) {
        while let Some((answer, start)) = self.links[node].next_answer() {
            if let (Answer::Refused(refusal), Some(start)) = (answer, start) {
                let (object, instance) = (start.object.id(), start.instance);
                self.promises.start_refused(object, node);
                self.input(Input::StartRefused { object, instance, refusal });
            }
        }
        match self.nodes[node].next_report() {
            Some(News::Instance(status)) => self.hear(node, status),
            Some(News::Draining(draining)) => {
                self.draining[node] = draining;
                self.fleet.node_draining(&self.names[node], draining);
                if !draining {
                    self.input(Input::NodeOpened);
                }
            }
            None => {}
        }
    }

    fn hear(&mut self, node: usize, status: InstanceStatus) {
        self.links[node].with_outbox(|outbox| outbox.reported(status.instance));
        self.input(Input::Status { node: self.names[node].clone(), status });
    }

    /// The node lacks what the next start needs.
    fn refuse(&mut self, node: usize) {
        if self.links[node].starts_next() {
            self.links[node].deliver(&mut self.nodes[node], Supply::Lacking);
        }
    }

    fn disconnect(&mut self, node: usize, orders_lost: bool) {
        self.links[node].lost(self.now.wall_ms, orders_lost);
        self.nodes[node].hang_up();
        self.fleet.node_down(&self.names[node]);
    }

    /// As a link does it: handles all reports of the node, then the starts that are still pending.
    fn connect(&mut self, node: usize) {
        if self.links[node].is_connected() {
            return;
        }
        let reported = self.links[node].hello(&mut self.nodes[node]);
        let draining = self.nodes[node].is_draining();
        self.draining[node] = draining;
        self.fleet.node_up(self.names[node].clone(), CAPACITY, DiskCapacity::default(), draining);
        let mut instances: HashSet<InstanceId> = reported.iter().map(|status| status.instance).collect();
        for status in reported {
            self.hear(node, status);
        }
        let kept = self.links[node].kept(self.nodes[node].kept_since_ms());
        for start in self.links[node].synced(kept, &instances) {
            self.input(never_began(&start));
        }
        instances.extend(self.links[node].starting());
        self.input(Input::Synced { node: self.names[node].clone(), instances, kept });
        self.links[node].up();
        self.input(Input::NodeOpened);
    }

    // ---- the edge

    fn crash(&mut self, written: Index) {
        let done = written.index(self.writes.len() + 1);
        let writes = std::mem::take(&mut self.writes);
        for Written { object, record, events, usage, .. } in writes.into_iter().take(done) {
            self.promises.events_written(&record, &events);
            self.durable.insert(object, record);
            self.keep(usage);
        }
        self.acknowledged = self.durable.clone();
        self.reads.clear();
        self.promises.crashed();
        self.links.iter_mut().for_each(Link::crash);
        self.nodes.iter_mut().for_each(Node::hang_up);
        self.restart();
    }

    fn restart(&mut self) {
        self.now.mono_ms += 50;
        self.now.wall_ms += 50;
        self.promises.time(self.now.mono_ms);
        self.engine = engine();
        self.fleet = Fleet::new();
        for record in self.durable.values() {
            if let RecordState::Placed { node, class, .. } = &record.state {
                self.fleet.restore(&Demand::of(&record.key, record.generation, class), node);
            }
            self.engine.restore(self.now, record.clone());
        }
        self.promises.legal_after_crash(&self.engine, &self.durable);
    }

    fn input(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        loop {
            self.carry_out_effects();
            let turns = self.fleet.turns();
            if turns.is_empty() {
                return;
            }
            turns.into_iter().for_each(|turn| self.reserved(turn));
        }
    }

    fn carry_out_effects(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Load { object } => self.reads.push_back(object),
                Effect::Reserve(demand) => self.reserve(demand),
                Effect::Withdraw { object } => self.withdraw(object),
                Effect::Unreserve { object, generation, .. } => self.fleet.release(object, generation),
                Effect::Persist { object, persist, record, events, usage } => {
                    self.promises.persisting(&record);
                    self.writes.push_back(Written { object, persist, record, events, usage });
                }
                Effect::Start { node, start, .. } => {
                    self.promises.starting(&start, self.acknowledged.get(&start.object.id()));
                    self.link(&node).with_outbox(|outbox| outbox.start(start));
                }
                Effect::Stop { node, stop } => self.stop(&node, stop),
                // Terms are not part of this world: its nodes freeze nothing.
                Effect::Resume { instance, .. } => panic!("{instance} is resumed, and was not frozen"),
                Effect::Forget { node, instance, .. } => {
                    self.promises.forgetting(instance, self.durable.values());
                    self.link(&node).with_outbox(|outbox| outbox.forget(instance));
                }
                Effect::Measured { node, instance, .. } => {
                    self.promises.forgetting(instance, self.durable.values());
                    self.link(&node).with_outbox(|outbox| outbox.forget(instance));
                }
                Effect::Grant { waiter, hold, placement } => self.promises.granted(waiter, hold, placement),
                Effect::Ordered { waiter } => self.promises.ordered(waiter),
                Effect::Refuse { waiter, refused } => {
                    let taken = self.names.iter().map(|name| self.fleet.instances_on(name)).sum();
                    self.promises.refused(waiter, &refused, taken);
                }
            }
        }
    }

    fn link(&mut self, node: &NodeId) -> &mut Link {
        let index = self.names.iter().position(|name| name == node).unwrap();
        &mut self.links[index]
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

    /// A stop for a start that was never sent drops both.
    fn stop(&mut self, node: &NodeId, stop: Stop) {
        self.promises.stopping(&stop);
        if let Some(start) = self.link(node).with_outbox(|outbox| outbox.stop(stop)) {
            self.engine.handle(self.now, never_began(&start));
        }
    }
}

fn never_began(start: &Start) -> Input {
    Input::NeverBegan { object: start.object.id(), instance: start.instance }
}

fn pick<T: Copy>(which: Index, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| *which.get(from))
}
