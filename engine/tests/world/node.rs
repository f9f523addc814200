//! A simulated node: the agent's own table of instances and of sessions (`berth_protocol`), on a simulated machine.

use std::collections::VecDeque;
use std::time::Duration;

use berth_common::ids::{EdgeId, InstanceId};
use berth_common::outcome::Outcome;
use berth_common::wire::call::{
    Answer, Call, Capacity, Forget, InstanceStatus, Phase, Refusal, RefusalCode, Renew, Renewed, Resume,
    Start,
};
use berth_common::wire::term::Stamp;
use berth_protocol::node::{Admission, Effect, InstanceTable, SessionId, SessionTable, StopOrder};

use crate::flaw::Flaw;
use crate::machine::{Event, Found, Machine};

const SIGTERM: i32 = 15;
/// How long a drain lets apps end.
const DRAIN_GRACE: Duration = Duration::from_millis(500);
/// Longer than an edge that is there ever says nothing, in milliseconds.
const SILENCE_MS: u64 = 15_000;

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

/// A node with one edge.
#[derive(Debug)]
pub(crate) struct Node {
    edge: EdgeId,
    capacity: Capacity,
    machine: Machine,
    /// The agent is stopped, and goes on later.
    stopped: bool,
    sessions: SessionTable,
    table: InstanceTable,
    /// Unread reports on the current connection, if there is one.
    reports: Option<VecDeque<News>>,
    /// Others have taken all of it.
    full: bool,
    /// The disk of an ended instance is being wiped: the next one waits for it.
    wiping: bool,
    /// What it has forgotten, whose usage it had measured.
    forgotten: Vec<InstanceId>,
    /// When it first and last heard its edge, since the last silence.
    words: Option<(u64, u64)>,
}

impl Node {
    pub(crate) fn new(edge: EdgeId, capacity: Capacity, machine: Machine) -> Self {
        Self {
            edge,
            capacity,
            machine,
            stopped: false,
            sessions: SessionTable::default(),
            table: InstanceTable::new(capacity),
            reports: None,
            full: false,
            wiping: false,
            forgotten: Vec::new(),
            words: None,
        }
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn machine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Whether its agent does anything now.
    pub(crate) fn is_awake(&self) -> bool {
        !self.stopped && !self.machine.is_suspended()
    }

    /// Whether it would take an instance now.
    pub(crate) fn takes(&self) -> bool {
        !self.full && self.is_awake() && !self.table.is_draining() && self.table.alive().next().is_none()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.table.is_draining()
    }

    pub(crate) fn fill(&mut self, full: bool) {
        self.full = full;
    }

    /// Whether others have all of it, and whether a disk is not free yet.
    pub(crate) fn is_full(&self) -> (bool, bool) {
        (self.full, self.wiping)
    }

    pub(crate) fn wiped(&mut self) {
        self.wiping = false;
    }

    /// Takes the node out of service, and ends what runs there; or into it.
    pub(crate) fn drain(&mut self, draining: bool) {
        if !self.is_awake() {
            return;
        }
        if self.table.set_draining(draining)
            && let Some(reports) = &mut self.reports
        {
            reports.push_back(News::Draining(draining));
        }
        if draining {
            self.table.drain_all(DRAIN_GRACE, self.machine.now());
        }
        self.go_on();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.statuses().is_empty()
    }

    fn statuses(&self) -> Vec<InstanceStatus> {
        self.table.statuses(&self.edge)
    }

    /// Those that live, to pick one from.
    pub(crate) fn living_ids(&self) -> Vec<InstanceId> {
        self.machine.living_ids()
    }

    // ---- the edge

    /// A new connection. Returns the first reports, and the time.
    pub(crate) fn hello(&mut self, session: &SessionId) -> (Vec<InstanceStatus>, Stamp) {
        let stamp = self.greet(session);
        self.reports = Some(VecDeque::from([News::Draining(self.table.is_draining())]));
        (self.statuses(), stamp)
    }

    /// A new connection of the edge that gives terms. Returns the time.
    pub(crate) fn greet(&mut self, session: &SessionId) -> Stamp {
        self.sessions.enter(session, 0).expect("each connection is newer than the one before");
        self.machine.stamp()
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
        if !self.sessions.is_current(session) && !self.machine.lacks(Flaw::OldWordsObeyed) {
            return Answer::Refused(refusal(RefusalCode::Stale));
        }
        let done = match call {
            Call::Start(start) => self.start(start, supply),
            Call::Stop(stop) => self.table.stop(&self.edge, stop, self.machine.now()).map(|()| Answer::Done),
            Call::Forget(Forget { instances }) => self.forget(instances),
            Call::Renew(renew) => self.renew(renew),
            Call::Resume(resume) => self.resume(resume),
            other => panic!("the edge does not call {other:?} here"),
        };
        self.go_on();
        done.unwrap_or_else(Answer::Refused)
    }

    fn start(&mut self, start: &Start, supply: Supply) -> Result<Answer, Refusal> {
        let until = start.until.expect("each start names its term");
        let judged = self.machine.lacks(Flaw::StartWithoutTerm);
        if !self.table.is_known(start.instance) && !judged && !self.machine.prolong(until) {
            return Err(refusal(RefusalCode::Lapsed));
        }
        if self.table.admit(&self.edge, start)? == Admission::New {
            if supply == Supply::Lacking || self.full {
                return Err(refusal(RefusalCode::Capacity));
            }
            self.table.enter(&self.edge, start, self.machine.now());
            self.machine.launch(start);
        }
        Ok(Answer::Accepted)
    }

    fn renew(&mut self, renew: &Renew) -> Result<Answer, Refusal> {
        // One that came too late prolongs nothing, and is told the time all the same.
        if self.machine.prolong(renew.until.expect("each renewal names a term")) {
            if self.machine.lacks(Flaw::RenewalThaws) {
                self.machine.thaw_all();
            }
            self.heard();
        } else if self.machine.lacks(Flaw::LateRenewalUnanswered) {
            return Err(refusal(RefusalCode::Lapsed));
        }
        Ok(Answer::Renewed(Renewed { stamp: self.machine.stamp() }))
    }

    fn heard(&mut self) {
        self.note_word();
        let frozen = |status: &InstanceStatus| status.frozen && status.phase != Phase::Stopping;
        let frozen = self.statuses().into_iter().filter(frozen).map(|status| status.instance);
        let frozen: Vec<InstanceId> = frozen.collect();
        self.table.heard(&self.edge, self.machine.now());
        for instance in frozen {
            if self.phase(instance) == Some(Phase::Stopping) {
                self.machine.note_killed_frozen(instance);
            }
        }
    }

    fn note_word(&mut self) {
        let now_ms = self.machine.now_ms();
        let goes_on = |(first, last): (u64, u64)| (now_ms - last <= SILENCE_MS).then_some(first);
        let first = self.words.and_then(goes_on).unwrap_or(now_ms);
        self.words = Some((first, now_ms));
    }

    /// For how long it has heard its edge, without a silence.
    pub(crate) fn heard_for_ms(&self) -> u64 {
        self.words.map_or(0, |(first, last)| last - first)
    }

    fn resume(&mut self, resume: &Resume) -> Result<Answer, Refusal> {
        if !self.machine.is_in_time(resume.until) && !self.machine.lacks(Flaw::ResumeWithoutTerm) {
            return Err(refusal(RefusalCode::Lapsed));
        }
        for instance in &resume.instances {
            if self.table.check_owned(&self.edge, *instance).is_ok() {
                self.machine.resume(*instance, resume.until);
            }
        }
        Ok(Answer::Done)
    }

    fn forget(&mut self, asked: &[InstanceId]) -> Result<Answer, Refusal> {
        for instance in self.table.forgettable(&self.edge, asked)? {
            self.table.forget(instance);
            let measured = self.machine.forget(instance);
            self.forgotten.extend(measured.then_some(instance));
        }
        Ok(Answer::Done)
    }

    /// What it has forgotten since this was last asked, whose usage it had measured.
    pub(crate) fn take_forgotten(&mut self) -> Vec<InstanceId> {
        std::mem::take(&mut self.forgotten)
    }

    // ---- its apps

    /// The node ends an instance by itself.
    pub(crate) fn begin_stopping(&mut self, instance: InstanceId) {
        if self.is_awake() {
            let deadline = self.machine.now().after(DRAIN_GRACE);
            self.machine.stop(instance, StopOrder { signal: SIGTERM, deadline, drained: true });
            self.table.advance(instance, Phase::Stopping, self.machine.now());
        }
        self.go_on();
    }

    pub(crate) fn exit(&mut self, instance: InstanceId, outcome: Outcome) {
        self.machine.exit(instance, outcome);
        self.go_on();
    }

    /// Lets an instance make progress by itself.
    pub(crate) fn progress(&mut self, instance: InstanceId) {
        match self.phase(instance) {
            Some(Phase::Starting) if !self.wiping => self.machine.begin(instance),
            Some(Phase::Running) if self.machine.answers(instance) && self.is_awake() => {
                self.table.advance(instance, Phase::Ready, self.machine.now());
            }
            _ => {}
        }
        self.go_on();
    }

    fn phase(&self, instance: InstanceId) -> Option<Phase> {
        self.statuses().into_iter().find(|status| status.instance == instance).map(|status| status.phase)
    }

    /// Lets those that are ending end.
    pub(crate) fn end_stopping(&mut self) {
        for instance in self.living_ids() {
            if self.phase(instance) == Some(Phase::Stopping) {
                self.exit(instance, Outcome::exited(0));
            }
        }
    }

    /// The agent hears its shims, and does what follows, until nothing is left.
    fn go_on(&mut self) {
        while self.is_awake() {
            if let Some(effect) = self.table.poll_effect() {
                self.carry_out(effect);
            } else if let Some((instance, event)) = self.machine.next_event() {
                self.hear(instance, event);
            } else {
                return;
            }
        }
    }

    fn hear(&mut self, instance: InstanceId, event: Event) {
        match event {
            Event::Started => self.table.advance(instance, Phase::Running, self.machine.now()),
            Event::Frozen(frozen) => self.table.freeze(instance, frozen),
            Event::Exited(outcome, metered) => {
                self.table.ended(instance, outcome, metered, self.machine.now());
                self.wiping = true;
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Report { status, .. } => {
                if let Some(reports) = &mut self.reports {
                    reports.push_back(News::Instance(status));
                }
            }
            Effect::Stop { instance, order } => self.machine.stop(instance, order),
            Effect::Reached { .. } | Effect::Detach { .. } | Effect::Cut { .. } => {}
        }
    }

    // ---- time and loss

    /// What time it is, of day.
    pub(crate) fn time(&mut self, now_ms: u64) {
        self.machine.time(now_ms);
        self.go_on();
    }

    /// The agent is stopped, or goes on.
    pub(crate) fn stop_agent(&mut self, stopped: bool) {
        self.stopped = stopped;
        self.go_on();
    }

    /// The machine is suspended, or wakes.
    pub(crate) fn suspend(&mut self, suspended: bool) {
        self.machine.suspend(suspended);
        self.go_on();
    }

    /// The agent starts anew: it finds what runs.
    pub(crate) fn restart_agent(&mut self) {
        self.forget_all();
        for Found { start, ended, greeting } in self.machine.found() {
            self.table.adopt(&self.edge, &start, ended);
            greeting.into_iter().for_each(|event| self.hear(start.instance, event));
        }
        self.go_on();
    }

    /// The machine was restarted: nothing of the instances is left.
    pub(crate) fn reboot(&mut self) {
        self.machine.reboot();
        self.forget_all();
    }

    fn forget_all(&mut self) {
        self.hang_up();
        self.stopped = false;
        self.sessions = SessionTable::default();
        let draining = self.table.is_draining();
        self.table = InstanceTable::new(self.capacity);
        self.table.set_draining(draining);
    }
}

fn refusal(code: RefusalCode) -> Refusal {
    Refusal { code, message: "for a test".to_owned() }
}
