//! A simulated node: the agent's own table of instances and of sessions, with apps that run, end and are lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use berth_common::ids::{EdgeId, InstanceId, ObjectId};
use berth_common::metering::Metered;
use berth_common::outcome::Outcome;
use berth_common::wire::call::{
    Answer, Call, Capacity, Forget, InstanceStatus, Phase, Refusal, RefusalCode, Start,
};
use berth_protocol::Moment;
use berth_protocol::node::{Admission, Effect, InstanceTable, SessionId, SessionTable, StopOrder};

const SIGKILL: i32 = 9;
/// How long a drain lets apps end.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// What the node tells by itself.
#[derive(Debug, Clone)]
pub(crate) enum News {
    Instance(InstanceStatus),
    Draining(bool),
}

/// What the node can set aside for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supply {
    Enough,
    Lacking,
}

/// What runs of an instance.
#[derive(Debug, Default)]
struct App {
    running_since_ms: Option<u64>,
    stop: Option<StopOrder>,
}

/// A node with one edge.
#[derive(Debug)]
pub(crate) struct Node {
    edge: EdgeId,
    capacity: Capacity,
    now_ms: u64,
    /// Since when it has lost nothing.
    kept_since_ms: u64,
    /// The instances whose apps ran.
    ran: BTreeSet<InstanceId>,
    sessions: SessionTable,
    table: InstanceTable,
    apps: BTreeMap<InstanceId, App>,
    /// Unread reports on the current connection, if there is one.
    reports: Option<VecDeque<News>>,
    /// Others have taken all of it.
    full: bool,
    /// The disk of an ended instance is being wiped: the next one waits for it.
    wiping: bool,
}

impl Node {
    pub(crate) fn new(edge: EdgeId, capacity: Capacity) -> Self {
        Self {
            edge,
            capacity,
            now_ms: 0,
            kept_since_ms: 0,
            ran: BTreeSet::new(),
            sessions: SessionTable::default(),
            table: InstanceTable::new(capacity),
            apps: BTreeMap::new(),
            reports: None,
            full: false,
            wiping: false,
        }
    }

    /// Whether it would take an instance now.
    pub(crate) fn takes(&self) -> bool {
        !self.full && !self.table.is_draining() && self.table.alive().next().is_none()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.table.is_draining()
    }

    pub(crate) fn fill(&mut self, full: bool) {
        self.full = full;
    }

    pub(crate) fn wiped(&mut self) {
        self.wiping = false;
    }

    /// Takes the node out of service, and ends what runs there; or into it.
    pub(crate) fn drain(&mut self, draining: bool) {
        if self.table.set_draining(draining)
            && let Some(reports) = &mut self.reports
        {
            reports.push_back(News::Draining(draining));
        }
        if draining {
            self.table.drain_all(DRAIN_GRACE, self.now());
        }
        self.carry_out();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.statuses().is_empty()
    }

    fn statuses(&self) -> Vec<InstanceStatus> {
        self.table.statuses(&self.edge)
    }

    /// The objects of the instances that live here.
    pub(crate) fn living(&self) -> impl Iterator<Item = ObjectId> {
        let lives = |status: &InstanceStatus| !matches!(status.phase, Phase::Exited(_));
        self.statuses().into_iter().filter(lives).map(|status| status.object)
    }

    /// Those that live, to pick one from.
    pub(crate) fn living_ids(&self) -> Vec<InstanceId> {
        self.table.alive().collect()
    }

    fn now(&self) -> Moment {
        Moment::at(Duration::from_millis(self.now_ms))
    }

    // ---- the edge

    /// A new connection. Returns its first reports.
    pub(crate) fn hello(&mut self, session: &SessionId) -> Vec<InstanceStatus> {
        self.sessions.enter(session, 0).expect("each connection is newer than the one before");
        self.reports = Some(VecDeque::from([News::Draining(self.table.is_draining())]));
        self.statuses()
    }

    /// Loses the connection, with its unread reports.
    pub(crate) fn hang_up(&mut self) {
        self.reports = None;
    }

    /// The next thing that the edge hears.
    pub(crate) fn next_report(&mut self) -> Option<News> {
        self.reports.as_mut()?.pop_front()
    }

    /// Serves a call of a connection, which may be over by now.
    pub(crate) fn serve(&mut self, session: &SessionId, call: &Call, supply: Supply) -> Answer {
        if !self.sessions.is_current(session) {
            return Answer::Refused(refusal(RefusalCode::Stale));
        }
        let now = self.now();
        let done = match call {
            Call::Start(start) => self.start(start, supply),
            Call::Stop(stop) => self.table.stop(&self.edge, stop, now).map(|()| Answer::Done),
            Call::Forget(Forget { instances }) => {
                let gone = self.table.forgettable(&self.edge, instances);
                self.forget(&gone.expect("told to forget a living instance"));
                Ok(Answer::Done)
            }
            other => panic!("the edge does not call {other:?} here"),
        };
        self.carry_out();
        done.unwrap_or_else(Answer::Refused)
    }

    fn start(&mut self, start: &Start, supply: Supply) -> Result<Answer, Refusal> {
        if self.table.admit(&self.edge, start)? == Admission::New {
            if supply == Supply::Lacking || self.full {
                return Err(refusal(RefusalCode::Capacity));
            }
            self.table.enter(&self.edge, start, self.now());
            let before = self.apps.insert(start.instance, App::default());
            assert!(before.is_none(), "an instance was started twice");
        }
        Ok(Answer::Accepted)
    }

    fn forget(&mut self, gone: &[InstanceId]) {
        for instance in gone {
            self.table.forget(*instance);
            self.apps.remove(instance);
        }
    }

    // ---- its apps

    /// Moves an instance on, if that is a way forward.
    pub(crate) fn advance(&mut self, instance: InstanceId, phase: Phase) {
        match phase {
            Phase::Exited(outcome) => self.end(instance, outcome),
            phase => self.table.advance(instance, phase, self.now()),
        }
        self.carry_out();
    }

    fn end(&mut self, instance: InstanceId, outcome: Outcome) {
        let life = |since| Metered {
            estimated: false,
            ..Metered::estimate(since, Duration::from_millis(self.now_ms - since))
        };
        let metered = self.apps.get(&instance).and_then(|app| app.running_since_ms).map(life);
        self.table.ended(instance, outcome, metered, self.now());
        self.wiping = true;
    }

    /// Lets an instance make progress by itself.
    pub(crate) fn progress(&mut self, instance: InstanceId) {
        match self.phase(instance) {
            Some(Phase::Starting) if self.wiping => {}
            Some(Phase::Starting) => self.advance(instance, Phase::Running),
            Some(Phase::Running) => self.advance(instance, Phase::Ready),
            _ => {}
        }
    }

    fn phase(&self, instance: InstanceId) -> Option<Phase> {
        self.statuses().into_iter().find(|status| status.instance == instance).map(|status| status.phase)
    }

    /// Lets those that are ending end.
    pub(crate) fn end_stopping(&mut self) {
        for instance in self.living_ids() {
            if self.phase(instance) == Some(Phase::Stopping) {
                self.advance(instance, Phase::Exited(Outcome::exited(0)));
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.table.poll_effect() {
            match effect {
                Effect::Report { status, .. } => self.report(status),
                Effect::Stop { instance, order } => {
                    self.apps.entry(instance).or_default().stop = Some(order);
                    self.enforce_stop(instance);
                }
                Effect::Reached { .. } | Effect::Detach { .. } | Effect::Cut { .. } => {}
            }
        }
    }

    fn report(&mut self, status: InstanceStatus) {
        if status.phase == Phase::Running {
            self.ran.insert(status.instance);
            self.apps.entry(status.instance).or_default().running_since_ms = Some(self.now_ms);
        }
        if let Some(reports) = &mut self.reports {
            reports.push_back(News::Instance(status));
        }
    }

    /// Kills an app at once, or when its grace is over.
    fn enforce_stop(&mut self, instance: InstanceId) {
        let due = |order: StopOrder| order.signal == SIGKILL || order.deadline <= self.now();
        if self.apps.get(&instance).and_then(|app| app.stop).is_some_and(due) {
            self.end(instance, Outcome::signalled(SIGKILL));
        }
    }

    // ---- time and loss

    /// What time it is, of day.
    pub(crate) fn time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        for instance in self.living_ids() {
            self.enforce_stop(instance);
        }
        self.carry_out();
    }

    /// The machine was restarted: nothing of the instances is left.
    pub(crate) fn lose_all(&mut self) {
        self.hang_up();
        self.sessions = SessionTable::default();
        let draining = self.table.is_draining();
        self.table = InstanceTable::new(self.capacity);
        self.table.set_draining(draining);
        self.apps.clear();
        self.kept_since_ms = self.now_ms;
    }

    /// Since when it has lost nothing.
    pub(crate) fn kept_since_ms(&self) -> u64 {
        self.kept_since_ms
    }

    /// The instances whose apps ran.
    pub(crate) fn ran(&self) -> &BTreeSet<InstanceId> {
        &self.ran
    }
}

fn refusal(code: RefusalCode) -> Refusal {
    Refusal { code, message: "for a test".to_owned() }
}
