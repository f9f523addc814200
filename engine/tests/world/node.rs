//! A simulated node, and the edge's connection to it with the orders that are under way.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use berth_common::ids::{Generation, InstanceId, ObjectId};
use berth_common::metering::Metered;
use berth_common::outcome::Outcome;
use berth_common::wire::call::{InstanceStatus, Phase, Start, Stop};

const SIGKILL: i32 = 9;

#[derive(Debug, Clone)]
pub(crate) enum Order {
    Start(Box<Start>),
    Stop(Stop),
    Forget(InstanceId),
}

#[derive(Debug)]
struct Instance {
    object: ObjectId,
    generation: Generation,
    phase: Phase,
    /// Since when its app runs, if it does.
    running_since_ms: Option<u64>,
    metered: Option<Metered>,
}

/// A node. Orders that it has not obeyed yet may or may not have been sent; while there is no connection they wait.
#[derive(Debug, Default)]
pub(crate) struct Node {
    connected: bool,
    now_ms: u64,
    /// Since when it has lost nothing.
    kept_since_ms: u64,
    /// The instances whose apps ran.
    ran: BTreeSet<InstanceId>,
    instances: BTreeMap<InstanceId, Instance>,
    orders: VecDeque<Order>,
    news: VecDeque<InstanceStatus>,
}

impl Instance {
    fn lives(&self) -> bool {
        !matches!(self.phase, Phase::Exited(_))
    }
}

impl Node {
    pub(crate) fn connected() -> Self {
        Self { connected: true, ..Self::default() }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The objects of the instances that live here.
    pub(crate) fn living(&self) -> impl Iterator<Item = ObjectId> {
        self.instances.values().filter(|instance| instance.lives()).map(|instance| instance.object)
    }

    /// Those that live, to pick one from.
    pub(crate) fn living_ids(&self) -> Vec<InstanceId> {
        self.instances.iter().filter(|(_, instance)| instance.lives()).map(|(id, _)| *id).collect()
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    /// Takes back a start that cannot have been sent.
    pub(crate) fn take_unsent_start(&mut self, instance: InstanceId) -> Option<Box<Start>> {
        let is_it = |order: &Order| matches!(order, Order::Start(start) if start.instance == instance);
        let index = self.orders.iter().position(is_it).filter(|_| !self.connected)?;
        match self.orders.remove(index) {
            Some(Order::Start(start)) => Some(start),
            _ => None,
        }
    }

    /// Refuses the next order if it is a start.
    pub(crate) fn refuse(&mut self) -> Option<Box<Start>> {
        match self.orders.front() {
            Some(Order::Start(start)) if self.connected => {
                let start = start.clone();
                self.orders.pop_front();
                Some(start)
            }
            _ => None,
        }
    }

    /// Carries out the next order.
    pub(crate) fn obey(&mut self) {
        if !self.connected {
            return;
        }
        match self.orders.pop_front() {
            Some(Order::Start(start)) => self.start(&start),
            Some(Order::Stop(Stop { instance, signal: SIGKILL, .. })) => {
                self.advance(instance, Phase::Exited(Outcome::signalled(SIGKILL)));
            }
            Some(Order::Stop(Stop { instance, .. })) => self.advance(instance, Phase::Stopping),
            Some(Order::Forget(instance)) => {
                let gone = self.instances.remove(&instance);
                assert!(gone.is_none_or(|instance| !instance.lives()), "told to forget a living instance");
            }
            None => {}
        }
    }

    fn start(&mut self, start: &Start) {
        let state = Instance {
            object: start.object.id(),
            generation: start.generation,
            phase: Phase::Starting,
            running_since_ms: None,
            metered: None,
        };
        assert!(self.instances.insert(start.instance, state).is_none(), "an instance was started twice");
        self.tell(start.instance);
    }

    /// Moves an instance on, if that is a way forward.
    pub(crate) fn advance(&mut self, instance: InstanceId, phase: Phase) {
        let Some(state) = self.instances.get_mut(&instance) else { return };
        if rank(&phase) > rank(&state.phase) {
            if phase == Phase::Running {
                state.running_since_ms = Some(self.now_ms);
                self.ran.insert(instance);
            }
            if matches!(phase, Phase::Exited(_)) {
                let life = |since| Metered::estimate(since, Duration::from_millis(self.now_ms - since));
                state.metered =
                    state.running_since_ms.map(life).map(|life| Metered { estimated: false, ..life });
            }
            state.phase = phase;
            self.tell(instance);
        }
    }

    /// Lets an instance make progress by itself.
    pub(crate) fn progress(&mut self, instance: InstanceId) {
        match self.instances.get(&instance).map(|state| &state.phase) {
            Some(Phase::Starting) => self.advance(instance, Phase::Running),
            Some(Phase::Running) => self.advance(instance, Phase::Ready),
            _ => {}
        }
    }

    /// Lets those that are ending end.
    pub(crate) fn end_stopping(&mut self) {
        for instance in self.living_ids() {
            if self.instances[&instance].phase == Phase::Stopping {
                self.advance(instance, Phase::Exited(Outcome::exited(0)));
            }
        }
    }

    fn tell(&mut self, instance: InstanceId) {
        if self.connected {
            self.news.push_back(self.status(instance));
        }
    }

    fn status(&self, instance: InstanceId) -> InstanceStatus {
        let state = &self.instances[&instance];
        InstanceStatus {
            instance,
            object: state.object,
            generation: state.generation,
            phase: state.phase.clone(),
            metered: state.metered.clone(),
        }
    }

    /// The next thing that the edge hears.
    pub(crate) fn next_news(&mut self) -> Option<InstanceStatus> {
        self.news.pop_front()
    }

    /// The connection is lost, with the news that were under way; the orders too if they had been sent.
    pub(crate) fn disconnect(&mut self, orders_lost: bool) {
        if self.connected && orders_lost {
            self.orders.clear();
        }
        self.connected = false;
        self.news.clear();
    }

    /// The machine was restarted: nothing of the instances is left.
    pub(crate) fn lose_all(&mut self) {
        self.disconnect(true);
        self.instances.clear();
        self.kept_since_ms = self.now_ms;
    }

    /// What time it is, of day.
    pub(crate) fn time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Since when it has lost nothing.
    pub(crate) fn kept_since_ms(&self) -> u64 {
        self.kept_since_ms
    }

    /// The instances whose apps ran.
    pub(crate) fn ran(&self) -> &BTreeSet<InstanceId> {
        &self.ran
    }

    /// A new connection. Gives back what is told on it, and which instances are there or still to be started.
    pub(crate) fn connect(&mut self) -> (Vec<InstanceStatus>, HashSet<InstanceId>) {
        self.connected = true;
        let told = self.instances.keys().map(|instance| self.status(*instance)).collect();
        let unsent = self.orders.iter().filter_map(|order| match order {
            Order::Start(start) => Some(start.instance),
            Order::Stop(_) | Order::Forget(_) => None,
        });
        (told, self.instances.keys().copied().chain(unsent).collect())
    }
}

fn rank(phase: &Phase) -> u8 {
    match phase {
        Phase::Starting => 0,
        Phase::Running => 1,
        Phase::Ready => 2,
        Phase::Stopping => 3,
        Phase::Exited(_) => 4,
    }
}
