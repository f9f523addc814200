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

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::{EdgeId, Generation, InstanceId, ObjectId};
use berth_common::metering::Metered;
use berth_common::spec::{MAX_ENV_BYTES, MAX_REQUIRED_PORTS, Resources, path_fault};
use berth_common::wire::call::{Capacity, InstanceStatus, Phase, Refusal, RefusalCode, Renew, Start, Stop};
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::launch::{Launch, LaunchError};
use crate::metrics::{Census, InstanceCounts};
use crate::ports::Sockets;
use crate::watchers::{Watch, Watchers};
use berth_shim::metering::Ended;

/// Instances kept in the table, those that ended and whose owners have not yet taken note included.
const MAX_RECORDS: usize = 4096;
/// Longest time between a signal to end and SIGKILL: instants a day ahead are safe to reckon with.
const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// Signals that Linux has.
pub(crate) const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// An order to end an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopOrder {
    /// The signal to send.
    pub(crate) signal: i32,
    /// When SIGKILL follows.
    pub(crate) deadline: Instant,
    /// The node asks for it, to be empty.
    pub(crate) drained: bool,
}

impl StopOrder {
    /// This order, on top of an earlier one: a grace once given is only ever shortened.
    fn after(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let signal = if earlier.signal == SIGKILL { SIGKILL } else { self.signal };
        Self {
            signal,
            deadline: self.deadline.min(earlier.deadline),
            drained: self.drained || earlier.drained,
        }
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
    /// What it has taken, once it has ended, if it ran.
    metered: Option<Metered>,
    /// When it was admitted, until it is ready; not known of those of an earlier agent.
    starting: Option<Instant>,
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

/// The table.
pub(crate) struct Instances<C> {
    capacity: Capacity,
    /// Cancelled when the agent ends: nothing new may start.
    drain: CancellationToken,
    /// The node is being emptied, or kept empty.
    draining: Cell<bool>,
    entries: RefCell<HashMap<InstanceId, Entry<C>>>,
    watchers: Watchers,
    counts: InstanceCounts,
}

fn refuse<T>(code: RefusalCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, message: message.into() })
}

impl<C> Instances<C> {
    pub(crate) fn new(capacity: Capacity, drain: CancellationToken) -> Self {
        Self {
            capacity,
            drain,
            draining: Cell::new(false),
            entries: RefCell::default(),
            watchers: Watchers::default(),
            counts: InstanceCounts::default(),
        }
    }

    /// What has happened to instances so far.
    pub(crate) fn counts(&self) -> &InstanceCounts {
        &self.counts
    }

    /// What there is now.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for entry in self.entries.borrow().values() {
            census.add(&entry.phase, &entry.resources);
        }
        census
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.capacity
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get() || self.drain.is_cancelled()
    }

    /// From now on the node takes no new instances, or takes them again.
    pub(crate) fn set_draining(&self, draining: bool) {
        if self.draining.replace(draining) != draining {
            self.watchers.tell_draining(draining);
        }
    }

    /// Orders every instance to end with SIGTERM, and SIGKILL after the grace.
    pub(crate) fn drain_all(&self, grace: Duration) {
        let deadline = Instant::now() + grace.min(MAX_GRACE);
        let order = StopOrder { signal: SIGTERM, deadline, drained: true };
        for (instance, entry) in self.entries.borrow_mut().iter_mut().filter(|(_, entry)| entry.is_alive()) {
            tracing::info!(%instance, ?grace, "ending an instance: the node is drained");
            entry.orders.send_modify(|earlier| *earlier = Some(order.after(*earlier)));
        }
        for instance in self.alive() {
            self.advance(instance, Phase::Stopping);
        }
    }

    /// The instances that have not ended.
    pub(crate) fn alive(&self) -> Vec<InstanceId> {
        let entries = self.entries.borrow();
        entries.iter().filter(|(_, entry)| entry.is_alive()).map(|(instance, _)| *instance).collect()
    }

    /// Gives a new instance its place, or says why it has none. `reserve` sets aside what else it needs, as the last
    /// thing that can be lacking.
    pub(crate) fn admit(
        &self,
        launch: &Launch,
        reserve: impl FnOnce() -> Result<(), LaunchError>,
    ) -> Result<Admitted, Refusal> {
        let start = &launch.start;
        if let Some(known) = self.entries.borrow().get(&start.instance) {
            return known.same_start(launch);
        }
        check_start(start)?;
        if self.is_draining() {
            return refuse(RefusalCode::Draining, "the node is being emptied and takes no new instances");
        }
        self.check_object(launch)?;
        self.check_capacity(&start.recipe.resources)?;
        reserve().map_err(|LaunchError { code, message }| Refusal { code, message })?;
        Ok(Admitted::New(self.insert(launch, Phase::Starting, None, Some(Instant::now()))))
    }

    /// Takes in an instance of an earlier agent, whether or not it would be admitted now.
    pub(crate) fn adopt(&self, launch: &Launch, exited: Option<Ended>) -> StopOrders {
        match exited {
            Some(Ended { outcome, metered }) => self.insert(launch, Phase::Exited(outcome), metered, None),
            None => self.insert(launch, Phase::Starting, None, None),
        }
    }

    fn insert(
        &self,
        launch: &Launch,
        phase: Phase,
        metered: Option<Metered>,
        starting: Option<Instant>,
    ) -> StopOrders {
        let start = &launch.start;
        let (orders, receiver) = watch::channel(None);
        let entry = Entry {
            owner: launch.owner.clone(),
            object: start.object.id(),
            generation: start.generation,
            resources: start.recipe.resources,
            phase,
            metered,
            starting,
            term: Term { length: Duration::from_millis(start.term_ms), since: Instant::now() },
            sockets: None,
            orders,
            ended: CancellationToken::new(),
        };
        let status = entry.status(start.instance);
        self.entries.borrow_mut().insert(start.instance, entry);
        self.watchers.tell(&launch.owner, &status);
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
            self.counts.note(&entry.phase, &mut entry.starting);
            if !entry.is_alive() {
                entry.sockets = None;
                entry.ended.cancel();
            }
            (entry.owner.clone(), entry.status(instance))
        };
        self.watchers.tell(&told.0, &told.1);
    }

    /// An instance has ended.
    pub(crate) fn ended(&self, instance: InstanceId, Ended { outcome, metered }: Ended) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(&instance).filter(|entry| entry.is_alive()) {
            entry.metered = metered;
        }
        self.advance(instance, Phase::Exited(outcome));
    }

    /// Orders an instance to end. Whoever follows it carries that out.
    pub(crate) fn stop(&self, owner: &EdgeId, stop: &Stop) -> Result<(), Refusal> {
        if !SIGNALS.contains(&stop.signal) {
            return refuse(RefusalCode::Invalid, format!("{} is not the number of a signal", stop.signal));
        }
        let grace = Duration::from_millis(stop.grace_ms).min(MAX_GRACE);
        let order = StopOrder { signal: stop.signal, deadline: Instant::now() + grace, drained: false };
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
        let entries = self.entries.borrow();
        let owned = entries.iter().filter(|(_, entry)| entry.owner == *owner);
        self.watchers.add(owner, owned.map(|(instance, entry)| entry.status(*instance)).collect())
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

    /// Where to ask what a living instance takes.
    pub(crate) fn sockets(&self, owner: &EdgeId, instance: InstanceId) -> Result<Rc<Sockets<C>>, Refusal> {
        let sockets = self.with_owned(owner, instance, |entry| entry.sockets.clone())?;
        sockets.map_or_else(
            || refuse(RefusalCode::NoInstance, format!("the instance {instance} does not run now")),
            Ok,
        )
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
            metered: self.metered.clone(),
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
    let env_bytes: usize = start.recipe.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    let ping_fault = start.ping_endpoint.as_deref().and_then(path_fault);
    let problem = if start.ready_port == Some(0) || start.required_ports.contains(&0) {
        "port 0 can never be ready"
    } else if start.required_ports.len() > MAX_REQUIRED_PORTS {
        "too many ports are required"
    } else if ping_fault.is_some() {
        "the ping endpoint is not a path"
    } else if start.recipe.resources.memory_bytes == 0 || start.recipe.resources.cpu_sixteenths == 0 {
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
mod tests;
