//! A shell that does nothing by itself: a test gives each input, and checks each effect.

use std::sync::Arc;
use std::time::Duration;

use berth_common::fixtures;
use berth_common::ids::{Generation, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::metering::Metered;
use berth_common::spec::{ClassSpec, NODE_LOSS_BOUNDS};
use berth_common::wire::call::{InstanceStatus, Phase};
use berth_engine::{
    Backoff, Config, Effect, Engine, HoldId, Input, Kept, Now, ObjectView, PersistId, Record, RecordState,
    Refused, Silence, UsageRecord, WaiterId,
};

pub(crate) const MAX_WAITERS: usize = 3;
pub(crate) const MAX_TURN_MS: u64 = 60_000;

/// When what `placed` gives was placed.
pub(crate) const PLACED_MS: u64 = 1_000_000;

pub(crate) struct Desk {
    pub(crate) engine: Engine,
    pub(crate) now_ms: u64,
}

pub(crate) fn key() -> ObjectKey {
    ObjectKey { app: "a".parse().unwrap(), class: "C".parse().unwrap(), name: "o".parse().unwrap() }
}

pub(crate) fn object() -> ObjectId {
    key().id()
}

pub(crate) fn node() -> NodeId {
    "n".parse().unwrap()
}

pub(crate) fn instance(n: u8) -> InstanceId {
    InstanceId::from_bytes([n; 16])
}

pub(crate) fn class() -> ClassSpec {
    ClassSpec { sleep_after: Duration::from_secs(60).into(), ..fixtures::class() }
}

/// A record that places an instance of the object.
pub(crate) fn placed(n: u8, generation: u64) -> Record {
    let state = RecordState::Placed {
        node: node(),
        instance: instance(n),
        class: Box::new(class()),
        stop_reason: None,
        announced: false,
        placed_ms: PLACED_MS,
        stop: None,
    };
    Record { key: key(), generation: Generation(generation), state, last_change_ms: 5, failures: Vec::new() }
}

/// A node that was last heard of at this time, and whose term was just over.
pub(crate) fn silence(heard_ms: u64) -> Silence {
    Silence { heard_ms, over_for: Some(Duration::ZERO) }
}

impl Desk {
    pub(crate) fn new() -> Self {
        let backoff = Backoff { first_ms: 1_000, max_ms: 60_000, forget_ms: 600_000 };
        let config = Config {
            term_ms: 120_000,
            node_loss: (*NODE_LOSS_BOUNDS.start()).into(),
            max_waiters_per_object: MAX_WAITERS,
            max_turn_ms: MAX_TURN_MS,
            backoff,
        };
        Self { engine: Engine::new(config), now_ms: 0 }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: 1_000_000 + self.now_ms }
    }

    pub(crate) fn restore(&mut self, record: Record) {
        self.engine.restore(self.now(), record);
    }

    pub(crate) fn input(&mut self, input: Input) -> Vec<Effect> {
        self.engine.handle(self.now(), input);
        self.effects()
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.engine.poll_effect()).collect()
    }

    /// Lets time pass until then. Deadlines must not come late.
    pub(crate) fn at(&mut self, now_ms: u64) -> Vec<Effect> {
        self.now_ms = now_ms;
        self.engine.handle_timeout(self.now());
        assert!(self.engine.next_deadline_ms().is_none_or(|at| at > now_ms));
        self.effects()
    }

    pub(crate) fn acquire(&mut self, waiter: u64) -> Vec<Effect> {
        self.input(Input::Acquire { key: key(), class: Arc::new(class()), waiter: WaiterId(waiter) })
    }

    pub(crate) fn loaded(&mut self, record: Option<Record>) -> Vec<Effect> {
        self.input(Input::Loaded { object: object(), record: Ok(record) })
    }

    pub(crate) fn reserved(&mut self, generation: u64, result: Result<u8, Refused>) -> Vec<Effect> {
        let result = result.map(|n| (node(), instance(n)));
        self.input(Input::Reserved { object: object(), generation: Generation(generation), result })
    }

    pub(crate) fn persisted(&mut self, persist: PersistId) -> Vec<Effect> {
        self.input(Input::Persisted { object: object(), persist, result: Ok(()) })
    }

    pub(crate) fn status(&mut self, n: u8, generation: u64, phase: Phase) -> Vec<Effect> {
        self.report(n, generation, phase, None)
    }

    pub(crate) fn report(
        &mut self,
        n: u8,
        generation: u64,
        phase: Phase,
        metered: Option<Metered>,
    ) -> Vec<Effect> {
        self.tell(&node(), InstanceStatus { metered, ..Self::told(n, generation, phase) })
    }

    /// The node says that it has frozen an instance that had served.
    pub(crate) fn frozen(&mut self, n: u8, generation: u64) -> Vec<Effect> {
        self.tell(&node(), InstanceStatus { frozen: true, ..Self::told(n, generation, Phase::Ready) })
    }

    /// The same as `status` from another node.
    pub(crate) fn report_from(&mut self, node: &NodeId, n: u8, generation: u64, phase: Phase) -> Vec<Effect> {
        self.tell(node, Self::told(n, generation, phase))
    }

    fn told(n: u8, generation: u64, phase: Phase) -> InstanceStatus {
        let (instance, object, generation) = (instance(n), object(), Generation(generation));
        InstanceStatus { instance, object, generation, phase, frozen: false, metered: None }
    }

    fn tell(&mut self, node: &NodeId, status: InstanceStatus) -> Vec<Effect> {
        self.input(Input::Status { node: node.clone(), status })
    }

    pub(crate) fn synced(&mut self, instances: &[u8]) -> Vec<Effect> {
        self.synced_with(instances, Kept::default())
    }

    pub(crate) fn synced_with(&mut self, instances: &[u8], kept: Kept) -> Vec<Effect> {
        let instances = instances.iter().map(|n| instance(*n)).collect();
        self.input(Input::Synced { node: node(), instances, kept })
    }

    pub(crate) fn release(&mut self, hold: HoldId) -> Vec<Effect> {
        self.input(Input::Release { object: object(), hold })
    }

    pub(crate) fn view(&self) -> ObjectView {
        self.engine.view(object()).unwrap()
    }

    /// Has instance 1, generation 1, asked for by request 1.
    pub(crate) fn starting(&mut self) {
        self.acquire(1);
        self.loaded(None);
        let persist = persist(&self.reserved(1, Ok(1)));
        let effects = self.persisted(persist);
        assert!(matches!(&effects[..], [Effect::Start { .. }]), "{effects:?}");
    }

    /// One of this class that has instance 1 healthy, held by nobody.
    pub(crate) fn served(class: ClassSpec) -> Self {
        let mut desk = Self::new();
        desk.input(Input::Acquire { key: key(), class: Arc::new(class), waiter: WaiterId(1) });
        desk.loaded(None);
        let write = persist(&desk.reserved(1, Ok(1)));
        desk.persisted(write);
        let granted = desk.status(1, 1, Phase::Ready);
        let [Effect::Grant { hold, .. }] = &granted[..] else { panic!("{granted:?}") };
        desk.release(*hold);
        desk
    }

    /// Has instance 1 healthy, held by request 1.
    pub(crate) fn healthy(&mut self) -> HoldId {
        self.starting();
        self.status(1, 1, Phase::Running);
        match &self.status(1, 1, Phase::Ready)[..] {
            [Effect::Grant { hold, .. }] => *hold,
            effects => panic!("{effects:?}"),
        }
    }
}

/// The write that is asked for, of which there must be one.
pub(crate) fn persist(effects: &[Effect]) -> PersistId {
    let mut writes = effects.iter().filter_map(|effect| match effect {
        Effect::Persist { persist, .. } => Some(*persist),
        _ => None,
    });
    let persist = writes.next().unwrap_or_else(|| panic!("no write: {effects:?}"));
    assert_eq!(writes.next(), None);
    persist
}

/// What is to be written of an instance's life, in the one write that is asked for.
pub(crate) fn usage(effects: &[Effect]) -> Option<UsageRecord> {
    persist(effects);
    let mut lives = effects.iter().filter_map(|effect| match effect {
        Effect::Persist { usage, .. } => usage.as_deref().cloned(),
        _ => None,
    });
    lives.next()
}

/// Which requests are refused, and why.
pub(crate) fn refused(effects: &[Effect]) -> Vec<(u64, Refused)> {
    let refused = effects.iter().filter_map(|effect| match effect {
        Effect::Refuse { waiter, refused } => Some((waiter.0, refused.clone())),
        _ => None,
    });
    refused.collect()
}

/// Signal and grace of the stops that are sent.
pub(crate) fn stops(effects: &[Effect]) -> Vec<(InstanceId, i32, u64)> {
    let stops = effects.iter().filter_map(|effect| match effect {
        Effect::Stop { stop, .. } => Some((stop.instance, stop.signal, stop.grace_ms)),
        _ => None,
    });
    stops.collect()
}
