//! The instances of the node: the table that decides (`berth_protocol`), and the handles of its instances: sockets,
//! stop orders, end. Carries out the table's effects; `follow` acts on the containers.
//!
//! All methods are synchronous, so nothing happens between a check and its consequence.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::{AppName, EdgeId, InstanceId};
use berth_common::wire::call::{Capacity, Phase, Refusal, RefusalCode, Start, Stop};
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use berth_protocol::node::{Admission, Effect, InstanceTable, StopOrder};
use berth_shim::metering::Ended;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::launch::{Launch, LaunchError};
use crate::metrics::{Census, InstanceCounts};
use crate::ports::Sockets;
use crate::tunnels::Tenant;
use crate::watchers::{Watch, Watchers};

/// The orders to end an instance, for the task that follows it.
pub(crate) type StopOrders = watch::Receiver<Option<StopOrder>>;

/// The result of an admitted request to start.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It is entered: the caller starts it.
    New(StopOrders),
    /// It was admitted before: nothing is left to do.
    Known,
}

/// The handles of an instance of the table.
struct Handles<C> {
    app: AppName,
    sockets: Option<Rc<Sockets<C>>>,
    orders: watch::Sender<Option<StopOrder>>,
    ended: CancellationToken,
    /// Cancelled when it is frozen, and then replaced; and when it has ended.
    cut: CancellationToken,
}

/// How to reach a port of an instance.
pub(crate) struct Reach<C> {
    /// The source of sockets inside it.
    pub(crate) sockets: Rc<Sockets<C>>,
    /// Cancelled when it has ended, or is frozen.
    pub(crate) ended: CancellationToken,
    /// Whose share its tunnels take.
    pub(crate) tenant: Tenant,
}

/// The table, with the handles of its instances.
pub(crate) struct Instances<C> {
    clock: Clock,
    /// Cancelled when the agent ends: nothing new may start.
    drain: CancellationToken,
    table: RefCell<InstanceTable>,
    handles: RefCell<HashMap<InstanceId, Handles<C>>>,
    watchers: Watchers,
    counts: InstanceCounts,
}

impl<C> Instances<C> {
    pub(crate) fn new(capacity: Capacity, drain: CancellationToken) -> Self {
        Self {
            clock: Clock::start(),
            drain,
            table: RefCell::new(InstanceTable::new(capacity)),
            handles: RefCell::default(),
            watchers: Watchers::default(),
            counts: InstanceCounts::default(),
        }
    }

    /// Applies an operation to the table, and then carries out its effects.
    fn with<T>(&self, act: impl FnOnce(&mut InstanceTable) -> T) -> T {
        let mut table = self.table.borrow_mut();
        if self.drain.is_cancelled() {
            table.close();
        }
        let done = act(&mut table);
        while let Some(effect) = table.poll_effect() {
            self.carry_out(effect);
        }
        done
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::Stop { instance, order } => {
                if let Some(handles) = self.handles.borrow().get(&instance) {
                    handles.orders.send_replace(Some(order));
                }
            }
            Effect::Cut { instance } => {
                if let Some(handles) = self.handles.borrow_mut().get_mut(&instance) {
                    handles.cut.cancel();
                    handles.cut = handles.ended.child_token();
                }
            }
            Effect::Reached { phase, starting } => self.counts.note(&phase, starting),
            Effect::Detach { instance } => {
                if let Some(handles) = self.handles.borrow_mut().get_mut(&instance) {
                    handles.sockets = None;
                    handles.ended.cancel();
                }
            }
            Effect::Report { owner, status } => self.watchers.report(&owner, &status),
        }
    }

    /// The clock of the orders' deadlines.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// The counters of instances.
    pub(crate) fn counts(&self) -> &InstanceCounts {
        &self.counts
    }

    /// The current number and resources of instances.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        self.table.borrow().all().for_each(|(phase, resources)| census.add(phase, resources));
        census
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.table.borrow().capacity()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.table.borrow().is_draining() || self.drain.is_cancelled()
    }

    /// Sets whether the node refuses new instances, and reports a change to all edges.
    pub(crate) fn set_draining(&self, draining: bool) {
        if self.with(|table| table.set_draining(draining)) {
            self.watchers.report_draining(draining);
        }
    }

    /// Orders every instance to end with SIGTERM, and SIGKILL after the grace.
    pub(crate) fn drain_all(&self, grace: Duration) {
        for instance in self.alive() {
            tracing::info!(%instance, ?grace, "ending an instance: the node is drained");
        }
        self.with(|table| table.drain_all(grace, self.clock.now()));
    }

    /// The instances that have not ended.
    pub(crate) fn alive(&self) -> Vec<InstanceId> {
        self.table.borrow().alive().collect()
    }

    /// Whether an instance is in the table.
    pub(crate) fn is_known(&self, instance: InstanceId) -> bool {
        self.table.borrow().is_known(instance)
    }

    /// Enters a new instance, or refuses it. `reserve` reserves what else it needs, as the last thing that can be
    /// lacking.
    pub(crate) fn admit(
        &self,
        launch: &Launch,
        reserve: impl FnOnce() -> Result<(), LaunchError>,
    ) -> Result<Admitted, Refusal> {
        let Launch { start, owner, .. } = launch;
        if self.with(|table| table.admit(owner, start))? == Admission::Known {
            tracing::debug!(instance = %start.instance, "repeated order to start an instance");
            return Ok(Admitted::Known);
        }
        reserve().map_err(|LaunchError { code, message }| Refusal { code, message })?;
        let orders = self.handle(start);
        self.with(|table| table.enter(owner, start, self.clock.now()));
        Ok(Admitted::New(orders))
    }

    /// Enters an instance of an earlier agent, whether or not it would be admitted now.
    pub(crate) fn adopt(&self, launch: &Launch, exited: Option<Ended>) -> StopOrders {
        let Launch { start, owner, .. } = launch;
        let ended = exited.map(|Ended { outcome, metered }| (outcome.bounded(), metered));
        let orders = self.handle(start);
        self.with(|table| table.adopt(owner, start, ended));
        orders
    }

    fn handle(&self, start: &Start) -> StopOrders {
        let (orders, receiver) = watch::channel(None);
        let app = start.object.app.clone();
        let ended = CancellationToken::new();
        let handles = Handles { app, sockets: None, orders, cut: ended.child_token(), ended };
        self.handles.borrow_mut().insert(start.instance, handles);
        receiver
    }

    /// Makes the instance's ports reachable.
    pub(crate) fn attach(&self, instance: InstanceId, sockets: Rc<Sockets<C>>) {
        if let Some(handles) = self.handles.borrow_mut().get_mut(&instance) {
            handles.sockets = Some(sockets);
        }
    }

    /// Moves an instance on to a later phase. Ignored if it is in that phase or a later one.
    pub(crate) fn advance(&self, instance: InstanceId, phase: Phase) {
        self.with(|table| table.advance(instance, phase, self.clock.now()));
    }

    /// Records that an instance has ended.
    pub(crate) fn ended(&self, instance: InstanceId, Ended { outcome, metered }: Ended) {
        self.with(|table| table.ended(instance, outcome.bounded(), metered, self.clock.now()));
    }

    /// Orders an instance to end. The task that follows it carries the order out.
    pub(crate) fn stop(&self, owner: &EdgeId, stop: &Stop) -> Result<(), Refusal> {
        self.with(|table| table.stop(owner, stop, self.clock.now()))
    }

    /// Those of the instances that are in the table and may be forgotten; refused if one may not.
    pub(crate) fn forgettable(
        &self,
        owner: &EdgeId,
        asked: &[InstanceId],
    ) -> Result<Vec<InstanceId>, Refusal> {
        self.table.borrow().forgettable(owner, asked)
    }

    /// Takes an ended instance out of the table.
    pub(crate) fn forget(&self, instance: InstanceId) {
        self.with(|table| table.forget(instance));
        self.handles.borrow_mut().remove(&instance);
    }

    /// Records that an instance was frozen or thawed.
    pub(crate) fn freeze(&self, instance: InstanceId, frozen: bool) {
        self.with(|table| table.freeze(instance, frozen));
    }

    /// An edge is heard: it is told of its frozen instances.
    pub(crate) fn heard(&self, owner: &EdgeId) {
        self.with(|table| table.heard(owner, self.clock.now()));
    }

    /// Subscribes to an edge's instances: their current states, and then each change.
    pub(crate) fn watch(&self, owner: &EdgeId) -> Watch {
        self.watchers.add(owner, self.table.borrow().statuses(owner), self.is_draining())
    }

    /// Finds the instance that a tunnel is for.
    pub(crate) fn reach(&self, owner: &EdgeId, header: &TunnelHeader) -> Result<Reach<C>, TunnelAnswer> {
        self.table.borrow().check_tunnel(owner, header)?;
        let handles = self.handles.borrow();
        let handles = handles.get(&header.instance).ok_or(TunnelAnswer::NoInstance)?;
        let sockets = handles.sockets.clone().ok_or(TunnelAnswer::Refused)?;
        let tenant = Tenant { instance: header.instance, app: handles.app.clone() };
        Ok(Reach { sockets, ended: handles.cut.clone(), tenant })
    }

    /// The sockets and counters of a living instance.
    pub(crate) fn sockets(&self, owner: &EdgeId, instance: InstanceId) -> Result<Rc<Sockets<C>>, Refusal> {
        self.table.borrow().check_owned(owner, instance)?;
        let sockets = self.handles.borrow().get(&instance).and_then(|handles| handles.sockets.clone());
        sockets.ok_or_else(|| Refusal {
            code: RefusalCode::NoInstance,
            message: format!("the instance {instance} does not run now"),
        })
    }
}

#[cfg(test)]
mod tests;
