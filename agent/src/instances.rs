//! The table of instances: what should run, what does, and who is told of it. Decides at once and in one place whether
//! an instance may start; does nothing itself, `follow` carries out what stands here.
//!
//! ```text
//!          Start                Started            port took a connection
//!  (none) ───────▶ Starting ───────────▶ Running ────────────────────────▶ Ready
//!                     │ Stop                │ Stop                           │ Stop
//!                     └────────────────────▶└───────────▶ Stopping ◀────────┘
//!                  from anywhere, at the container's end ──▶ Exited ── Forget ──▶ (none)
//! ```
//!
//! Only its owner may do anything to an instance. All methods are synchronous: between a check and what follows from
//! it nothing else happens.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::{EdgeId, Generation, InstanceId, ObjectId};
use berth_common::outcome::Outcome;
use berth_common::spec::{MAX_ENV_BYTES, Resources};
use berth_common::wire::call::{Capacity, InstanceStatus, Phase, Refusal, RefusalCode, Renew, Start, Stop};
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ports::Sockets;
use crate::runtime::Launch;

/// Updates that a watcher may be behind. An instance has five at most, so this is many instances' whole lives.
const WATCH_QUEUE: usize = 1024;
/// Instances kept in the table, those that ended and whose owners have not yet taken note included.
const MAX_RECORDS: usize = 4096;
/// Longest time between a signal to end and SIGKILL: instants a day ahead are safe to reckon with.
const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// Signals that Linux has.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
const SIGKILL: i32 = 9;

/// An order to end an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopOrder {
    /// The signal to send.
    pub(crate) signal: i32,
    /// When SIGKILL follows.
    pub(crate) deadline: Instant,
}

impl StopOrder {
    /// This order, on top of an earlier one: a grace once given is only ever shortened.
    fn after(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let signal = if earlier.signal == SIGKILL { SIGKILL } else { self.signal };
        Self { signal, deadline: self.deadline.min(earlier.deadline) }
    }
}

/// Where the orders to end an instance arrive.
pub(crate) type StopOrders = watch::Receiver<Option<StopOrder>>;

/// What became of a request to start.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It has a place; whoever asked now starts it.
    New(StopOrders),
    /// It was admitted before: there is nothing to do.
    Known,
}

/// How long an instance may live without word from its owner.
#[derive(Debug, Clone, Copy)]
struct Term {
    length: Duration,
    since: Instant,
}

struct Entry<C> {
    owner: EdgeId,
    object: ObjectId,
    generation: Generation,
    resources: Resources,
    phase: Phase,
    term: Term,
    sockets: Option<Rc<Sockets<C>>>,
    orders: watch::Sender<Option<StopOrder>>,
    ended: CancellationToken,
}

/// How to reach a port of an instance.
pub(crate) struct Reach<C> {
    /// Sockets inside it.
    pub(crate) sockets: Rc<Sockets<C>>,
    /// Cancelled when it has ended.
    pub(crate) ended: CancellationToken,
}

struct Watcher {
    owner: EdgeId,
    updates: mpsc::Sender<InstanceStatus>,
    _behind: DropGuard,
}

/// What one watcher is told.
pub(crate) struct Watch {
    /// The state of all of the edge's instances.
    pub(crate) now: Vec<InstanceStatus>,
    /// What happened to them since.
    pub(crate) updates: mpsc::Receiver<InstanceStatus>,
    /// Cancelled when it was too slow and is told nothing more.
    pub(crate) behind: CancellationToken,
}

/// The table.
pub(crate) struct Instances<C> {
    capacity: Capacity,
    /// Cancelled when nothing new may start.
    drain: CancellationToken,
    entries: RefCell<HashMap<InstanceId, Entry<C>>>,
    watchers: RefCell<Vec<Watcher>>,
}

fn refuse<T>(code: RefusalCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

impl<C> Instances<C> {
    pub(crate) fn new(capacity: Capacity, drain: CancellationToken) -> Self {
        Self { capacity, drain, entries: RefCell::default(), watchers: RefCell::default() }
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.capacity
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Gives a new instance its place, or says why it has none.
    pub(crate) fn admit(&self, launch: &Launch) -> Result<Admitted, Refusal> {
        let start = &launch.start;
        if let Some(known) = self.entries.borrow().get(&start.instance) {
            return known.same_start(launch);
        }
        check_start(start)?;
        if self.is_draining() {
            return refuse(RefusalCode::Draining, "the node is stopping and takes no new instances");
        }
        self.check_object(launch)?;
        self.check_capacity(&start.resources)?;
        Ok(Admitted::New(self.insert(launch, Phase::Starting)))
    }

    /// Takes in an instance of an earlier agent, whether or not it would be admitted now.
    pub(crate) fn adopt(&self, launch: &Launch, exited: Option<Outcome>) -> StopOrders {
        self.insert(launch, exited.map_or(Phase::Starting, Phase::Exited))
    }

    fn insert(&self, launch: &Launch, phase: Phase) -> StopOrders {
        let start = &launch.start;
        let (orders, receiver) = watch::channel(None);
        let entry = Entry {
            owner: launch.owner.clone(),
            object: start.object.id(),
            generation: start.generation,
            resources: start.resources,
            phase,
            term: Term { length: Duration::from_millis(start.term_ms), since: Instant::now() },
            sockets: None,
            orders,
            ended: CancellationToken::new(),
        };
        let status = entry.status(start.instance);
        self.entries.borrow_mut().insert(start.instance, entry);
        self.tell(&launch.owner, &status);
        receiver
    }

    /// An object never has two instances here, and never an older one after a newer one.
    fn check_object(&self, launch: &Launch) -> Result<(), Refusal> {
        let object = launch.start.object.id();
        let entries = self.entries.borrow();
        let mut others = entries.values().filter(|e| e.object == object && e.owner == launch.owner);
        if others.any(|other| other.generation >= launch.start.generation) {
            return refuse(RefusalCode::Stale, "the node has had a newer instance of the object");
        }
        let mut others = entries.values().filter(|e| e.object == object && e.owner == launch.owner);
        if others.any(Entry::is_alive) {
            return refuse(
                RefusalCode::Invalid,
                "an older instance of the object still runs on the node: stop it first",
            );
        }
        Ok(())
    }

    fn check_capacity(&self, wanted: &Resources) -> Result<(), Refusal> {
        let entries = self.entries.borrow();
        if entries.len() >= MAX_RECORDS {
            let text = "too many ended instances wait on the node for their owners to take note of them";
            return refuse(RefusalCode::Capacity, text);
        }
        let (mut instances, mut memory, mut cpu) = (1_usize, wanted.memory_bytes, wanted.cpu_sixteenths);
        for entry in entries.values().filter(|e| e.is_alive()) {
            instances += 1;
            memory = memory.saturating_add(entry.resources.memory_bytes);
            cpu = cpu.saturating_add(entry.resources.cpu_sixteenths);
        }
        let limit = self.capacity;
        if instances > usize::try_from(limit.instances).unwrap_or(usize::MAX) {
            return refuse(
                RefusalCode::Capacity,
                format!("the node holds {} instances at most", limit.instances),
            );
        }
        if memory > limit.memory_bytes {
            let text =
                format!("{memory} bytes of memory would be taken; the node has {}", limit.memory_bytes);
            return refuse(RefusalCode::Capacity, text);
        }
        if cpu > limit.cpu_sixteenths {
            let text =
                format!("{cpu}/16 virtual CPUs would be taken; the node has {}/16", limit.cpu_sixteenths);
            return refuse(RefusalCode::Capacity, text);
        }
        Ok(())
    }

    /// From now on the instance's ports can be reached.
    pub(crate) fn placed(&self, instance: InstanceId, sockets: Rc<Sockets<C>>) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(&instance) {
            entry.sockets = Some(sockets);
        }
    }

    /// Moves an instance on to a later phase. An earlier one than it is in changes nothing.
    pub(crate) fn advance(&self, instance: InstanceId, phase: Phase) {
        let told = {
            let mut entries = self.entries.borrow_mut();
            let Some(entry) = entries.get_mut(&instance) else { return };
            if rank(&phase) <= rank(&entry.phase) {
                return;
            }
            entry.phase = phase;
            if !entry.is_alive() {
                entry.sockets = None;
                entry.ended.cancel();
            }
            (entry.owner.clone(), entry.status(instance))
        };
        self.tell(&told.0, &told.1);
    }

    /// Orders an instance to end. Whoever follows it carries that out.
    pub(crate) fn stop(&self, owner: &EdgeId, stop: &Stop) -> Result<(), Refusal> {
        if !SIGNALS.contains(&stop.signal) {
            return refuse(RefusalCode::Invalid, format!("{} is not the number of a signal", stop.signal));
        }
        let grace = Duration::from_millis(stop.grace_ms).min(MAX_GRACE);
        let order = StopOrder { signal: stop.signal, deadline: Instant::now() + grace };
        self.with_owned(owner, stop.instance, |entry| {
            entry.orders.send_modify(|earlier| *earlier = Some(order.after(*earlier)));
        })?;
        self.advance(stop.instance, Phase::Stopping);
        Ok(())
    }

    /// Those of the instances that are here and may be forgotten; refused where one may not.
    pub(crate) fn forgettable(
        &self,
        owner: &EdgeId,
        asked: &[InstanceId],
    ) -> Result<Vec<InstanceId>, Refusal> {
        let entries = self.entries.borrow();
        let mut forgettable = Vec::new();
        for instance in asked {
            match entries.get(instance) {
                None => {}
                Some(entry) if entry.owner != *owner => return not_owner(*instance),
                Some(entry) if entry.is_alive() => {
                    return refuse(
                        RefusalCode::Invalid,
                        format!("the instance {instance} has not ended: stop it first"),
                    );
                }
                Some(_) => forgettable.push(*instance),
            }
        }
        Ok(forgettable)
    }

    /// Takes an ended instance out of the table.
    pub(crate) fn forget(&self, instance: InstanceId) {
        self.entries.borrow_mut().remove(&instance);
    }

    /// Starts the terms of an edge's instances anew.
    pub(crate) fn renew(&self, owner: &EdgeId, renew: &Renew) {
        let term = Term { length: Duration::from_millis(renew.term_ms), since: Instant::now() };
        let mut entries = self.entries.borrow_mut();
        entries.values_mut().filter(|e| e.owner == *owner).for_each(|entry| entry.term = term);
    }

    /// The state of all of an edge's instances, and what happens to them from now on.
    pub(crate) fn watch(&self, owner: &EdgeId) -> Watch {
        let (sender, updates) = mpsc::channel(WATCH_QUEUE);
        let behind = CancellationToken::new();
        let watcher = Watcher { owner: owner.clone(), updates: sender, _behind: behind.clone().drop_guard() };
        let mut watchers = self.watchers.borrow_mut();
        watchers.retain(|watcher| !watcher.updates.is_closed());
        watchers.push(watcher);
        let entries = self.entries.borrow();
        let owned = entries.iter().filter(|(_, entry)| entry.owner == *owner);
        Watch { now: owned.map(|(instance, entry)| entry.status(*instance)).collect(), updates, behind }
    }

    fn tell(&self, owner: &EdgeId, status: &InstanceStatus) {
        // One that is gone, or has no room, is told nothing more.
        let told =
            |watcher: &Watcher| watcher.owner != *owner || watcher.updates.try_send(status.clone()).is_ok();
        self.watchers.borrow_mut().retain(|watcher| !watcher.updates.is_closed() && told(watcher));
    }

    /// Finds the instance that a tunnel is for.
    pub(crate) fn reach(&self, owner: &EdgeId, header: &TunnelHeader) -> Result<Reach<C>, TunnelAnswer> {
        let entries = self.entries.borrow();
        let entry =
            entries.get(&header.instance).filter(|entry| entry.is_alive()).ok_or(TunnelAnswer::NoInstance)?;
        if entry.owner != *owner {
            return Err(TunnelAnswer::NotOwner);
        }
        if entry.generation != header.generation {
            return Err(TunnelAnswer::StaleGeneration);
        }
        let sockets = entry.sockets.clone().ok_or(TunnelAnswer::Refused)?;
        Ok(Reach { sockets, ended: entry.ended.clone() })
    }

    fn with_owned<T>(
        &self,
        owner: &EdgeId,
        instance: InstanceId,
        act: impl FnOnce(&mut Entry<C>) -> T,
    ) -> Result<T, Refusal> {
        match self.entries.borrow_mut().get_mut(&instance) {
            None => refuse(RefusalCode::NoInstance, format!("the node has no instance {instance}")),
            Some(entry) if entry.owner != *owner => not_owner(instance),
            Some(entry) => Ok(act(entry)),
        }
    }
}

impl<C> Entry<C> {
    fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Exited(_))
    }

    fn status(&self, instance: InstanceId) -> InstanceStatus {
        InstanceStatus {
            instance,
            object: self.object,
            generation: self.generation,
            phase: self.phase.clone(),
        }
    }

    /// A start that comes again, as after a lost answer, changes nothing.
    fn same_start(&self, launch: &Launch) -> Result<Admitted, Refusal> {
        if self.owner != launch.owner {
            return not_owner(launch.start.instance);
        }
        if self.object != launch.start.object.id() || self.generation != launch.start.generation {
            return refuse(
                RefusalCode::Invalid,
                "the instance's id is in use for another object or generation",
            );
        }
        tracing::debug!(instance = %launch.start.instance, term = ?self.term.length, age = ?self.term.since.elapsed(),
            "asked again to start an instance");
        Ok(Admitted::Known)
    }
}

fn not_owner<T>(instance: InstanceId) -> Result<T, Refusal> {
    refuse(RefusalCode::NotOwner, format!("the instance {instance} belongs to another edge"))
}

/// Checks what makes no sense on any node.
fn check_start(start: &Start) -> Result<(), Refusal> {
    let env_bytes: usize = start.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    let problem = if start.ready_port == 0 {
        "port 0 can never be ready"
    } else if start.resources.memory_bytes == 0 || start.resources.cpu_sixteenths == 0 {
        "an instance without memory or CPU cannot run"
    } else if env_bytes > MAX_ENV_BYTES {
        "the environment is too large"
    } else {
        return Ok(());
    };
    refuse(RefusalCode::Invalid, problem)
}

/// The order of phases.
fn rank(phase: &Phase) -> u8 {
    match phase {
        Phase::Starting => 0,
        Phase::Running => 1,
        Phase::Ready => 2,
        Phase::Stopping => 3,
        Phase::Exited(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_common::ids::Epoch;
    use berth_common::outcome::ExitReason;

    const CAPACITY: Capacity = Capacity { memory_bytes: 300, cpu_sixteenths: 30, instances: 3 };

    fn table() -> Instances<()> {
        Instances::new(CAPACITY, CancellationToken::new())
    }

    fn launch(owner: &str, id: u8, object: &str, generation: u64) -> Launch {
        let start = serde_json::json!({
            "instance": InstanceId::from_bytes([id; 16]), "object": {"app": "a", "class": "c", "name": object},
            "generation": generation, "term_ms": 1000, "image": {"layout": "/x", "digest": "sha256:0"},
            "resources": {"cpu_sixteenths": 10, "memory_bytes": 100, "disk_bytes": 1},
            "enable_internet": false, "ready_port": 80,
        });
        let start = serde_json::from_value(start).unwrap();
        Launch { start, owner: owner.parse().unwrap(), epoch: Epoch(1) }
    }

    fn code<T>(refused: Result<T, Refusal>) -> RefusalCode {
        refused.err().map(|refusal| refusal.code).expect("was not refused")
    }

    fn is_new(admitted: Result<Admitted, Refusal>) -> bool {
        matches!(admitted, Ok(Admitted::New(_)))
    }

    fn end(table: &Instances<()>, launch: &Launch) {
        let outcome = Outcome::because(ExitReason::Exit, "over");
        table.advance(launch.start.instance, Phase::Exited(outcome));
    }

    #[test]
    fn capacity_is_never_exceeded_and_comes_back_at_the_end() {
        let table = table();
        let first = launch("e", 1, "1", 1);
        assert!(is_new(table.admit(&first)));
        assert!(is_new(table.admit(&launch("e", 2, "2", 1))));
        assert!(is_new(table.admit(&launch("f", 3, "3", 1))));
        let fourth = launch("e", 4, "4", 1);
        assert_eq!(code(table.admit(&fourth)), RefusalCode::Capacity);
        end(&table, &first);
        assert!(is_new(table.admit(&fourth)));
    }

    #[test]
    fn each_kind_of_capacity_counts() {
        for resources in [(31, 1), (1, 301), (u32::MAX, u64::MAX)] {
            let table = table();
            let mut big = launch("e", 1, "1", 1);
            (big.start.resources.cpu_sixteenths, big.start.resources.memory_bytes) = resources;
            assert_eq!(code(table.admit(&big)), RefusalCode::Capacity);
        }
    }

    #[test]
    fn a_start_that_comes_again_changes_nothing() {
        let table = table();
        let first = launch("e", 1, "1", 1);
        assert!(is_new(table.admit(&first)));
        assert!(matches!(table.admit(&first), Ok(Admitted::Known)));
        end(&table, &first);
        assert!(matches!(table.admit(&first), Ok(Admitted::Known)));
        assert_eq!(code(table.admit(&launch("e", 1, "1", 2))), RefusalCode::Invalid);
        assert_eq!(code(table.admit(&launch("f", 1, "1", 1))), RefusalCode::NotOwner);
    }

    #[test]
    fn an_object_never_has_two_instances_nor_goes_back() {
        let table = table();
        let first = launch("e", 1, "1", 5);
        assert!(is_new(table.admit(&first)));
        assert_eq!(code(table.admit(&launch("e", 2, "1", 6))), RefusalCode::Invalid);
        end(&table, &first);
        assert_eq!(code(table.admit(&launch("e", 2, "1", 5))), RefusalCode::Stale);
        assert!(is_new(table.admit(&launch("e", 2, "1", 6))));
        assert!(is_new(table.admit(&launch("f", 3, "1", 1))), "another edge's object is another object");
    }

    #[test]
    fn phases_never_go_back_and_each_is_told_once() {
        let table = table();
        let one = launch("e", 1, "1", 1);
        let instance = one.start.instance;
        let mut watch = table.watch(&one.owner);
        let mut strangers = table.watch(&"f".parse().unwrap());
        assert!(watch.now.is_empty() && is_new(table.admit(&one)));
        for phase in [Phase::Ready, Phase::Running, Phase::Ready, Phase::Stopping, Phase::Running] {
            table.advance(instance, phase);
        }
        let told: Vec<_> =
            std::iter::from_fn(|| watch.updates.try_recv().ok()).map(|status| status.phase).collect();
        assert_eq!(told, [Phase::Starting, Phase::Ready, Phase::Stopping]);
        assert!(strangers.updates.try_recv().is_err());
        assert_eq!(table.watch(&one.owner).now[0].phase, Phase::Stopping);
    }

    #[test]
    fn a_watcher_that_falls_behind_is_told_nothing_more() {
        let table = table();
        let owner: EdgeId = "e".parse().unwrap();
        let mut watch = table.watch(&owner);
        for round in 0..=u64::try_from(WATCH_QUEUE).unwrap() {
            let one = launch("e", 1, "1", round + 1);
            assert!(is_new(table.admit(&one)));
            end(&table, &one);
            table.forget(one.start.instance);
        }
        let told = std::iter::from_fn(|| watch.updates.try_recv().ok()).count();
        assert_eq!(told, WATCH_QUEUE);
        assert!(watch.behind.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_is_only_ever_shortened_and_a_kill_stays_one() {
        let table = table();
        let one = launch("e", 1, "1", 1);
        let Ok(Admitted::New(orders)) = table.admit(&one) else { panic!("not admitted") };
        let stop = |signal, grace_ms| {
            table.stop(&one.owner, &Stop { instance: one.start.instance, signal, grace_ms })
        };
        let order =
            |signal, ms| Some(StopOrder { signal, deadline: Instant::now() + Duration::from_millis(ms) });
        stop(15, 1000).unwrap();
        assert_eq!(*orders.borrow(), order(15, 1000));
        stop(15, 5000).unwrap();
        assert_eq!(*orders.borrow(), order(15, 1000));
        stop(9, 0).unwrap();
        stop(15, 5000).unwrap();
        assert_eq!(*orders.borrow(), order(9, 0));
        stop(15, u64::MAX).unwrap();
        assert_eq!(code(stop(0, 0)), RefusalCode::Invalid);
        assert_eq!(code(stop(65, 0)), RefusalCode::Invalid);
    }

    #[test]
    fn only_the_owner_may_act_and_only_ended_instances_are_forgotten() {
        let table = table();
        let one = launch("e", 1, "1", 1);
        let (instance, stranger) = (one.start.instance, "f".parse().unwrap());
        assert!(is_new(table.admit(&one)));
        let stop = Stop { instance, signal: 15, grace_ms: 1 };
        assert_eq!(code(table.stop(&stranger, &stop)), RefusalCode::NotOwner);
        assert_eq!(code(table.forgettable(&stranger, &[instance])), RefusalCode::NotOwner);
        assert_eq!(code(table.forgettable(&one.owner, &[instance])), RefusalCode::Invalid);
        end(&table, &one);
        let unknown = InstanceId::from_bytes([9; 16]);
        assert_eq!(table.forgettable(&one.owner, &[unknown, instance]).unwrap(), [instance]);
        table.forget(instance);
        assert_eq!(code(table.stop(&one.owner, &stop)), RefusalCode::NoInstance);
    }

    #[test]
    fn tunnels_are_led_to_the_right_instance_only() {
        let table = table();
        let one = launch("e", 1, "1", 7);
        assert!(is_new(table.admit(&one)));
        let header = |generation| TunnelHeader {
            instance: one.start.instance,
            generation: Generation(generation),
            port: 1,
        };
        let reach = |owner: &str, generation| table.reach(&owner.parse().unwrap(), &header(generation)).err();
        assert_eq!(reach("f", 7), Some(TunnelAnswer::NotOwner));
        assert_eq!(reach("e", 6), Some(TunnelAnswer::StaleGeneration));
        assert_eq!(reach("e", 7), Some(TunnelAnswer::Refused), "it has no sockets yet");
        end(&table, &one);
        assert_eq!(reach("e", 7), Some(TunnelAnswer::NoInstance));
    }

    #[test]
    fn a_node_that_stops_takes_nothing_new() {
        let table = table();
        let known = launch("e", 1, "1", 1);
        assert!(is_new(table.admit(&known)));
        table.drain.cancel();
        assert_eq!(code(table.admit(&launch("e", 2, "2", 1))), RefusalCode::Draining);
        assert!(matches!(table.admit(&known), Ok(Admitted::Known)));
    }
}
