//! The machine of a simulated node: its clock, its page of terms, its containers, and those who freeze them. All of it goes on
//! without the agent, and is lost only when the machine starts anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use berth_common::ids::{InstanceId, ObjectId};
use berth_common::metering::Metered;
use berth_common::outcome::Outcome;
use berth_common::wire::call::Start;
use berth_common::wire::term::{BootId, Stamp};
use berth_protocol::Moment;
use berth_protocol::edge::TERM;
use berth_protocol::node::StopOrder;

use crate::flaw::Flaw;

const SIGKILL: i32 = 9;
/// How long each machine has been up when the world begins, in milliseconds.
const UP_MS: u64 = 1_000_000;
/// How long the flaw of that name keeps what is frozen, in milliseconds.
const KEPT_MS: u64 = 600_000;

/// How a machine differs from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How far its clock goes in a second of the edge's, in milliseconds.
    pub(crate) rate: u64,
    /// How long it takes to freeze what runs, in milliseconds.
    pub(crate) late_ms: u64,
}

/// What a shim tells the agent.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Started,
    Frozen(bool),
    Exited(Outcome, Option<Metered>),
}

/// One container.
#[derive(Debug)]
struct App {
    start: Start,
    running_since_ms: Option<u64>,
    frozen_since_ms: Option<u64>,
    stop: Option<StopOrder>,
    ended: Option<(Outcome, Option<Metered>)>,
}

/// A container that an agent finds when it starts.
pub(crate) struct Found {
    pub(crate) start: Start,
    pub(crate) ended: Option<(Outcome, Option<Metered>)>,
    pub(crate) greeting: Vec<Event>,
}

/// Times are of day, in milliseconds, where they are not of its clock.
#[derive(Debug)]
pub(crate) struct Machine {
    pace: Pace,
    flaw: Option<Flaw>,
    now_ms: u64,
    boot: u8,
    booted_ms: u64,
    /// Since when it has lost nothing.
    kept_since_ms: u64,
    suspended: bool,
    /// The page: until when terms go on, on its clock. 0: nobody has given one in this boot.
    until_ms: u64,
    apps: BTreeMap<InstanceId, App>,
    /// What the agent has still to hear.
    events: VecDeque<(InstanceId, Event)>,
    /// The instances whose apps ran, in any boot.
    ran: BTreeSet<InstanceId>,
    /// Those that were thawed, each time, and those that were killed because they were frozen for long.
    thawed: Vec<InstanceId>,
    killed_frozen: Vec<InstanceId>,
}

impl Machine {
    pub(crate) fn new(pace: Pace, flaw: Option<Flaw>, now_ms: u64) -> Self {
        Self {
            pace,
            flaw,
            now_ms,
            boot: 0,
            booted_ms: now_ms - UP_MS,
            kept_since_ms: 0,
            suspended: false,
            until_ms: 0,
            apps: BTreeMap::new(),
            events: VecDeque::new(),
            ran: BTreeSet::new(),
            thawed: Vec::new(),
            killed_frozen: Vec::new(),
        }
    }

    pub(crate) fn lacks(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    // ---- time

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::at(Duration::from_millis(self.now_ms))
    }

    /// What time it is on its own clock.
    pub(crate) fn stamp(&self) -> Stamp {
        let boot = if self.lacks(Flaw::BootsAlike) { 0 } else { self.boot };
        let ms = (self.now_ms - self.booted_ms) * self.pace.rate / 1_000;
        Stamp { boot: BootId::from_bytes([boot; 16]), ms }
    }

    /// Until when what runs here is frozen at the latest, if the page stays as it is.
    pub(crate) fn frozen_by_ms(&self) -> Option<u64> {
        let watches = !self.suspended && self.until_ms > 0 && !self.lacks(Flaw::NobodyFreezes);
        let runs = self.apps.values().any(App::runs);
        (watches && runs).then(|| {
            let over_ms = self.booted_ms + (self.until_ms * 1_000).div_ceil(self.pace.rate);
            over_ms + self.pace.late_ms
        })
    }

    /// What time it is, of day. Supervisor and shims do what is due.
    pub(crate) fn time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.suspended {
            return;
        }
        if self.frozen_by_ms().is_some_and(|by_ms| by_ms <= now_ms) {
            self.freeze_all();
        }
        for instance in self.living_ids() {
            self.enforce_stop(instance);
            self.kill_by_the_flaw(instance);
        }
    }

    fn freeze_all(&mut self) {
        for (instance, app) in self.apps.iter_mut().filter(|(_, app)| app.runs()) {
            app.frozen_since_ms = Some(self.now_ms);
            self.events.push_back((*instance, Event::Frozen(true)));
        }
    }

    fn kill_by_the_flaw(&mut self, instance: InstanceId) {
        let long = |since_ms: u64| self.now_ms - since_ms >= KEPT_MS;
        let is_kept = !self.apps[&instance].frozen_since_ms.is_some_and(long);
        if self.lacks(Flaw::KeptFromTheFreeze) && !is_kept {
            self.killed_frozen.push(instance);
            self.end(instance, Outcome::signalled(SIGKILL));
        }
    }

    /// Kills an app at once, or when its grace is over.
    fn enforce_stop(&mut self, instance: InstanceId) {
        let due = |order: StopOrder| order.signal == SIGKILL || order.deadline <= self.now();
        if self.apps.get(&instance).and_then(|app| app.stop).is_some_and(due) {
            self.end(instance, Outcome::signalled(SIGKILL));
        }
    }

    /// The machine sleeps, though its clock goes on; or it wakes, and first of all what is due is done.
    pub(crate) fn suspend(&mut self, suspended: bool) {
        self.suspended = suspended;
        self.time(self.now_ms);
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// The machine starts anew: nothing of the instances is left.
    pub(crate) fn reboot(&mut self) {
        self.apps.clear();
        self.events.clear();
        (self.until_ms, self.suspended) = (0, false);
        self.boot += 1;
        self.booted_ms = self.now_ms;
        self.kept_since_ms = self.now_ms;
    }

    // ---- terms

    /// Whether a word that names this term comes in time.
    pub(crate) fn is_in_time(&self, until: Stamp) -> bool {
        let now = self.stamp();
        until.boot == now.boot && until.ms > now.ms
    }

    /// Moves the end of terms forward, if the word comes in time.
    pub(crate) fn prolong(&mut self, until: Stamp) -> bool {
        let until = if self.lacks(Flaw::TermFromReceipt) { self.stamp().after(TERM) } else { until };
        let is_in_time = self.is_in_time(until);
        if is_in_time {
            self.until_ms = self.until_ms.max(until.ms);
        }
        is_in_time
    }

    /// Has a container thawed, if that is ordered in time and its term has begun again.
    pub(crate) fn resume(&mut self, instance: InstanceId, until: Stamp) {
        let now_ms = self.stamp().ms;
        let in_time = now_ms < until.ms || self.lacks(Flaw::ResumeWithoutTerm);
        let Some(app) = self.apps.get_mut(&instance).filter(|app| app.ended.is_none()) else { return };
        let was_frozen = app.frozen_since_ms.is_some();
        if in_time && now_ms < self.until_ms {
            app.frozen_since_ms = None;
            self.thawed.extend(was_frozen.then_some(instance));
        }
        let frozen = app.frozen_since_ms.is_some();
        self.events.push_back((instance, Event::Frozen(frozen)));
    }

    /// Thaws all, which no renewal may.
    pub(crate) fn thaw_all(&mut self) {
        let long = self.stamp().after(TERM);
        self.living_ids().into_iter().for_each(|instance| self.resume(instance, long));
    }

    // ---- containers

    pub(crate) fn launch(&mut self, start: &Start) {
        let app = App {
            start: start.clone(),
            running_since_ms: None,
            frozen_since_ms: None,
            stop: None,
            ended: None,
        };
        assert!(self.apps.insert(start.instance, app).is_none(), "an instance was started twice");
    }

    /// Removes what has ended. Gives back whether its usage was measured, which nobody knows here any more.
    pub(crate) fn forget(&mut self, instance: InstanceId) -> bool {
        let ended = self.apps.remove(&instance).and_then(|app| app.ended);
        ended.is_some_and(|(_, metered)| metered.is_some())
    }

    pub(crate) fn stop(&mut self, instance: InstanceId, order: StopOrder) {
        if let Some(app) = self.apps.get_mut(&instance).filter(|app| app.ended.is_none()) {
            app.stop = Some(order);
            self.enforce_stop(instance);
        }
    }

    /// Starts the app of a container that was made.
    pub(crate) fn begin(&mut self, instance: InstanceId) {
        let suspended = self.suspended;
        let Some(app) = self.apps.get_mut(&instance).filter(|app| app.runs() && !suspended) else { return };
        if app.running_since_ms.is_none() {
            app.running_since_ms = Some(self.now_ms);
            self.ran.insert(instance);
            self.events.push_back((instance, Event::Started));
        }
    }

    /// Whether the app answers on its port, if it is asked.
    pub(crate) fn answers(&self, instance: InstanceId) -> bool {
        let app = self.apps.get(&instance);
        app.is_some_and(|app| app.runs() && app.running_since_ms.is_some()) && !self.suspended
    }

    /// The app exits by itself, unless it cannot.
    pub(crate) fn exit(&mut self, instance: InstanceId, outcome: Outcome) {
        if self.apps.get(&instance).is_some_and(App::runs) && !self.suspended {
            self.end(instance, outcome);
        }
    }

    fn end(&mut self, instance: InstanceId, outcome: Outcome) {
        let Some(app) = self.apps.get_mut(&instance).filter(|app| app.ended.is_none()) else { return };
        let life = |since| Metered {
            estimated: false,
            ..Metered::estimate(since, Duration::from_millis(self.now_ms - since))
        };
        let metered = app.running_since_ms.map(life);
        app.ended = Some((outcome.clone(), metered.clone()));
        self.events.push_back((instance, Event::Exited(outcome, metered)));
    }

    /// What an agent finds that starts now. What an earlier one has not heard is told again.
    pub(crate) fn found(&mut self) -> Vec<Found> {
        self.events.clear();
        let found = |app: &App| Found {
            start: app.start.clone(),
            ended: app.ended.clone(),
            greeting: app.greeting(),
        };
        if self.lacks(Flaw::AgentForgets) && !self.apps.is_empty() {
            self.until_ms = self.stamp().after(TERM).ms;
        }
        self.apps.values().map(found).collect()
    }

    pub(crate) fn next_event(&mut self) -> Option<(InstanceId, Event)> {
        self.events.pop_front()
    }

    // ---- what is seen from outside

    pub(crate) fn living_ids(&self) -> Vec<InstanceId> {
        let alive = self.apps.iter().filter(|(_, app)| app.ended.is_none());
        alive.map(|(instance, _)| *instance).collect()
    }

    /// The objects of the instances that may do something now, with their instances.
    pub(crate) fn running(&self) -> impl Iterator<Item = (ObjectId, InstanceId)> {
        let running = self.apps.iter().filter(|(_, app)| app.runs() && !self.suspended);
        running.map(|(instance, app)| (app.start.object.id(), *instance))
    }

    pub(crate) fn kept_since_ms(&self) -> u64 {
        self.kept_since_ms
    }

    pub(crate) fn ran(&self) -> &BTreeSet<InstanceId> {
        &self.ran
    }

    /// The instances that were thawed since this was last asked.
    pub(crate) fn take_thawed(&mut self) -> Vec<InstanceId> {
        std::mem::take(&mut self.thawed)
    }

    /// The instances that were killed for being frozen since this was last asked.
    pub(crate) fn take_killed_frozen(&mut self) -> Vec<InstanceId> {
        std::mem::take(&mut self.killed_frozen)
    }

    /// The table has given an instance up that is frozen.
    pub(crate) fn note_killed_frozen(&mut self, instance: InstanceId) {
        self.killed_frozen.push(instance);
    }
}

impl App {
    /// Neither ended nor frozen.
    fn runs(&self) -> bool {
        self.ended.is_none() && self.frozen_since_ms.is_none()
    }

    fn greeting(&self) -> Vec<Event> {
        let started = self.running_since_ms.map(|_| Event::Started);
        let frozen = self.frozen_since_ms.map(|_| Event::Frozen(true));
        started.into_iter().chain(frozen).collect()
    }
}
