//! A runtime without containers: their network namespace is this machine's, their apps are the test's own listeners,
//! and the test sends their events.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use berth_agent::launch::{Launch, LaunchError};
use berth_agent::runtime::logs::Logs;
use berth_agent::runtime::{Adopted, Container, Event, Events, Runtime};
use berth_common::ids::{EdgeId, InstanceId};
use berth_common::outcome::Outcome;
use berth_common::wire::call::{DiskCapacity, PrepareTarget, SlotRoom, Start, Usage};
use berth_shim::metering::{Ended, Seen};
use socket2::{Domain, Socket, Type};
use tokio::sync::{Notify, mpsc};

/// Records of the agent's calls, and the configured behaviour of the runtime.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) launched: RefCell<Vec<Launch>>,
    pub(crate) adopted: RefCell<Vec<Adopted<FakeContainer>>>,
    pub(crate) forgotten: RefCell<Vec<InstanceId>>,
    pub(crate) noted: RefCell<Vec<(InstanceId, Seen)>>,
    /// The containers to keep prepared, by owner.
    pub(crate) prepared: RefCell<HashMap<EdgeId, Vec<PrepareTarget>>>,
    pub(crate) paused: Cell<bool>,
    /// Starts fail with this.
    pub(crate) failure: RefCell<Option<LaunchError>>,
    /// Starts wait until `release`.
    pub(crate) held: Cell<bool>,
    /// The directory of instances' logs.
    logs: OnceCell<tempfile::TempDir>,
    changed: Notify,
    events: RefCell<HashMap<InstanceId, mpsc::Sender<Event>>>,
    stops: Rc<Stops>,
}

#[derive(Default)]
struct Stops {
    orders: RefCell<Vec<(InstanceId, i32, Duration)>>,
    signals: RefCell<Vec<(InstanceId, i32)>>,
    resumed: RefCell<Vec<(InstanceId, u64)>>,
    changed: Notify,
}

impl Fake {
    /// The directory of instances' logs.
    pub(crate) fn logs(&self) -> &std::path::Path {
        self.logs.get_or_init(|| tempfile::tempdir().unwrap()).path()
    }

    /// A container, and the test's end of its events.
    pub(crate) fn container(&self, instance: InstanceId) -> (FakeContainer, Events) {
        let (sender, events) = mpsc::channel(4);
        self.events.borrow_mut().insert(instance, sender);
        self.changed.notify_waiters();
        (FakeContainer { instance, stops: Rc::clone(&self.stops) }, events)
    }

    /// Says that an app runs, once its container is there.
    pub(crate) async fn started(&self, instance: InstanceId) {
        self.say(instance, Event::Started).await;
    }

    pub(crate) async fn exited(&self, instance: InstanceId, outcome: Outcome) {
        self.ended(instance, outcome.into()).await;
    }

    pub(crate) async fn ended(&self, instance: InstanceId, ended: Ended) {
        self.say(instance, Event::Exited(ended)).await;
    }

    async fn say(&self, instance: InstanceId, event: Event) {
        self.wait_for(|fake| fake.events.borrow().contains_key(&instance)).await;
        let sender = self.events.borrow()[&instance].clone();
        sender.send(event).await.unwrap();
    }

    pub(crate) fn release(&self) {
        self.held.set(false);
        self.changed.notify_waiters();
    }

    /// The next order to end a container.
    pub(crate) async fn stopped(&self) -> (InstanceId, i32, Duration) {
        loop {
            let changed = self.stops.changed.notified();
            if let Some(order) = self.stops.orders.borrow_mut().pop() {
                return order;
            }
            changed.await;
        }
    }

    pub(crate) fn was_stopped(&self) -> bool {
        !self.stops.orders.borrow().is_empty()
    }

    pub(crate) async fn wait_for(&self, is_so: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self) {
                return;
            }
            changed.await;
        }
    }
}

pub(crate) struct FakeRuntime(pub(crate) Rc<Fake>);

impl Runtime for FakeRuntime {
    type Container = FakeContainer;

    fn disks(&self) -> DiskCapacity {
        DiskCapacity::default()
    }

    fn slots(&self) -> Vec<SlotRoom> {
        vec![SlotRoom { bytes: 1, count: 3, used: 1, prepared: 1 }]
    }

    fn disks_taken(&self) -> u32 {
        0
    }

    fn keeps_terms(&self) -> bool {
        true
    }

    async fn check(&self) -> io::Result<()> {
        Ok(())
    }

    fn reserve(&self, _start: &Start) -> Result<(), LaunchError> {
        Ok(())
    }

    fn prepare(&self, owner: &EdgeId, targets: Vec<PrepareTarget>) {
        self.0.prepared.borrow_mut().insert(owner.clone(), targets);
    }

    fn pause(&self, paused: bool) {
        self.0.paused.set(paused);
    }

    fn prepared(&self) -> usize {
        0
    }

    fn logs(&self) -> Logs {
        Logs::at(self.0.logs())
    }

    async fn start(&self, launch: Launch) -> Result<(FakeContainer, Events), LaunchError> {
        let instance = launch.start.instance;
        self.0.launched.borrow_mut().push(launch);
        self.0.changed.notify_waiters();
        self.0.wait_for(|fake| !fake.held.get()).await;
        match self.0.failure.borrow().clone() {
            Some(error) => Err(error),
            None => Ok(self.0.container(instance)),
        }
    }

    async fn adopt(&self) -> io::Result<Vec<Adopted<FakeContainer>>> {
        Ok(std::mem::take(&mut *self.0.adopted.borrow_mut()))
    }

    fn kept_for(&self) -> Option<Duration> {
        Some(Duration::from_millis(1234))
    }

    fn note(&self, instance: InstanceId, seen: &Seen) -> io::Result<()> {
        self.0.noted.borrow_mut().push((instance, *seen));
        self.0.changed.notify_waiters();
        Ok(())
    }

    async fn forget(&self, instance: InstanceId) -> io::Result<()> {
        self.0.forgotten.borrow_mut().push(instance);
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct FakeContainer {
    instance: InstanceId,
    stops: Rc<Stops>,
}

impl Container for FakeContainer {
    async fn socket(&self) -> io::Result<OwnedFd> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(false)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    async fn ready(&self) -> io::Result<()> {
        Ok(())
    }

    async fn usage(&self) -> io::Result<Usage> {
        Ok(Usage { cpu_us: 7, ..Usage::default() })
    }

    async fn signal(&self, signal: i32) -> io::Result<()> {
        self.stops.signals.borrow_mut().push((self.instance, signal));
        Ok(())
    }

    async fn resume(&self, until_ms: u64) -> io::Result<()> {
        self.stops.resumed.borrow_mut().push((self.instance, until_ms));
        Ok(())
    }

    async fn stop(&self, signal: i32, grace: Duration, _drained: bool) -> io::Result<()> {
        self.stops.orders.borrow_mut().push((self.instance, signal, grace));
        self.stops.changed.notify_waiters();
        Ok(())
    }
}
