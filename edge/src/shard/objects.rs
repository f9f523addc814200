//! Runs the engine: one actor per shard owns it, feeds it inputs, and carries out its effects. The rest of the edge has
//! a `Mailbox`, and a request has a `Hold` for as long as it is activity.
//!
//! Decides nothing itself. The store's thread acknowledges a persist through the mailbox, like any other input.

mod ends;
pub(crate) mod starts;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_common::clock::wall_ms;
use berth_common::ids::{InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::outcome::Outcome;
use berth_common::spec::{ClassSpec, TimeOrNever};
use berth_common::wire::call::Phase;
use berth_engine::{
    Backoff, Effect, EndOrder, Engine, HoldId, Input, Now, ObjectView, Placement, PublicState, Record,
    Refused, StoreFailure, WaiterId,
};
use berth_store::{Store, StoreError, Write};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

use crate::metrics::{Metrics, Starts};
use crate::nodes::Nodes;
use crate::secrets::Secrets;
use crate::shard::link::{Command, Links, OBSERVED_TERM};
use crate::shard::wakes::Wakes;
use crate::start_rate::{Asker, StartLimits, TooMany};

/// Most requests that may wait for one object to be ready.
const MAX_WAITERS_PER_OBJECT: usize = 1024;
/// How long a request waits for the turn of its object, in milliseconds: as long as most clients wait for an answer at all. A small
/// cluster starts hundreds of instances in that time.
const MAX_TURN_MS: u64 = 60_000;
/// The pauses between failing instances of one object: short at first, for transient faults, and long enough at last
/// that one that never works costs almost nothing.
const BACKOFF: Backoff = Backoff { first_ms: 1_000, max_ms: 60_000, forget_ms: 10 * 60_000 };
/// What a request gets when the actor has ended, and the edge with it.
const EDGE_STOPS: Refused = Refused::EdgeStops;
/// Most messages that are taken before their effects are carried out.
const BATCH: usize = 64;

/// A message to the actor.
pub(crate) enum Message {
    Acquire { key: ObjectKey, class: Arc<ClassSpec>, asker: Option<Asker>, reply: Reply, waiter: WaiterId },
    Launch { key: ObjectKey, launch: Launch, told: Told, reply: Reply, waiter: WaiterId },
    Look(ObjectId, oneshot::Sender<Option<InstanceEnd>>),
    Cancel { object: ObjectId, waiter: WaiterId },
    Input(Input),
    End { object: ObjectId, order: EndOrder, waiter: WaiterId, done: Done },
    View(ObjectId, oneshot::Sender<Option<ObjectView>>),
    Views(oneshot::Sender<Vec<ObjectView>>),
    States(oneshot::Sender<Vec<PublicState>>),
}

/// How code starts an object's instance.
pub(crate) struct Launch {
    pub(crate) class: Arc<ClassSpec>,
    /// What is added to its environment; none where no instance is to be started. It may have secrets: it is sent to the node, and
    /// never written to the store.
    pub(crate) env: Option<Vec<(String, String)>>,
}

/// How an instance has ended, once that is durable: an error where nobody knows any more.
pub(crate) type InstanceEnd = oneshot::Receiver<Option<Outcome>>;

type Told = oneshot::Sender<Option<Outcome>>;
type Done = oneshot::Sender<Result<(), Refused>>;
type Reply = oneshot::Sender<Result<Hold, Refused>>;

/// An object that has changed, in its new state.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) view: ObjectView,
}

/// The way to the objects of one shard.
///
/// Not bounded by itself, because releasing a hold must never wait: each connection of a client has at most one
/// request, and that at most an acquire, a cancel, a release, and some looks at its object, here; nodes report a bounded number of instances.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    sender: mpsc::UnboundedSender<Message>,
    /// The objects that the engine has in memory, so that a look-up of a sleeping one need not ask the actor. Written
    /// when one is loaded or evicted, which requests to running objects never cause; nothing else happens under the
    /// lock.
    present: Arc<Mutex<HashSet<ObjectId>>>,
}

/// The actor's end of a mailbox.
pub(crate) type Inbox = mpsc::UnboundedReceiver<Message>;

/// A new mailbox.
pub(crate) fn mailbox() -> (Mailbox, Inbox) {
    let (sender, inbox) = mpsc::unbounded_channel();
    (Mailbox { sender, present: Arc::default() }, inbox)
}

impl Mailbox {
    /// Waits for an instance of the object that accepts requests, and holds it. Dropping the future cancels the wait.
    /// An object that has never run is started for an `asker` only within the limits of its app; without one, always.
    pub(crate) async fn acquire(
        &self,
        waiter: WaiterId,
        object: ObjectId,
        key: ObjectKey,
        class: Arc<ClassSpec>,
        asker: Option<Asker>,
    ) -> Result<Hold, Refused> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Acquire { key, class, asker, reply, waiter });
        self.hold(waiter, object, answer).await
    }

    /// The same for code that starts an instance in its own way, also if it has never run; with its end.
    pub(crate) async fn launch(
        &self,
        waiter: WaiterId,
        key: ObjectKey,
        launch: Launch,
    ) -> Result<(Hold, InstanceEnd), Refused> {
        let (object, (reply, answer), (told, end)) = (key.id(), oneshot::channel(), oneshot::channel());
        self.send(Message::Launch { key, launch, told, reply, waiter });
        Ok((self.hold(waiter, object, answer).await?, end))
    }

    /// The end of the instance that an object has now, if it has one.
    pub(crate) async fn look(&self, object: ObjectId) -> Option<InstanceEnd> {
        let (reply, end) = oneshot::channel();
        self.send(Message::Look(object, reply));
        end.await.ok().flatten()
    }

    async fn hold(
        &self,
        waiter: WaiterId,
        object: ObjectId,
        answer: oneshot::Receiver<Result<Hold, Refused>>,
    ) -> Result<Hold, Refused> {
        let mut waiting = Waiting { mailbox: self, object, waiter, over: false };
        let answer = answer.await;
        waiting.over = true;
        // The actor only ends with the edge.
        answer.unwrap_or(Err(EDGE_STOPS))
    }

    /// Passes an input to the engine.
    pub(crate) fn input(&self, input: Input) {
        self.send(Message::Input(input));
    }

    /// Stops an object's instance, if it has one. Returns once that is durable and the order was sent to the node, or
    /// is queued until the node is connected.
    pub(crate) async fn end(
        &self,
        waiter: WaiterId,
        object: ObjectId,
        order: EndOrder,
    ) -> Result<(), Refused> {
        let (done, answer) = oneshot::channel();
        self.send(Message::End { object, order, waiter, done });
        answer.await.unwrap_or(Err(EDGE_STOPS))
    }

    /// One object, if the engine has it in memory.
    pub(crate) async fn view(&self, object: ObjectId) -> Option<ObjectView> {
        if !self.present().contains(&object) {
            return None;
        }
        let (reply, view) = oneshot::channel();
        self.send(Message::View(object, reply));
        view.await.ok().flatten()
    }

    /// All objects that the engine has in memory.
    pub(crate) async fn views(&self) -> Vec<ObjectView> {
        let (reply, views) = oneshot::channel();
        self.send(Message::Views(reply));
        views.await.unwrap_or_default()
    }

    /// The states of all objects that the engine has in memory.
    pub(crate) async fn states(&self) -> Vec<PublicState> {
        let (reply, states) = oneshot::channel();
        self.send(Message::States(reply));
        states.await.unwrap_or_default()
    }

    fn present(&self) -> MutexGuard<'_, HashSet<ObjectId>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, message: Message) {
        if self.sender.send(message).is_err() {
            tracing::debug!("edge stops, message to its objects dropped");
        }
    }
}

/// A waiting request. Dropping it cancels the wait.
struct Waiting<'a> {
    mailbox: &'a Mailbox,
    object: ObjectId,
    waiter: WaiterId,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.mailbox.send(Message::Cancel { object: self.object, waiter: self.waiter });
        }
    }
}

/// A request's claim on a running instance. Dropping it is the only way a request's activity ends.
#[derive(Debug)]
pub(crate) struct Hold {
    placement: Placement,
    hold: HoldId,
    mailbox: Mailbox,
}

impl Hold {
    /// The instance that is held.
    pub(crate) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Ends the hold, and returns a way to report later activity.
    pub(crate) fn into_activity(self) -> Activity {
        let (object, instance) = (self.placement.object, self.placement.instance);
        Activity { object, instance, mailbox: self.mailbox.clone() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.mailbox.input(Input::Release { object: self.placement.object, hold: self.hold });
    }
}

/// Reports activity without a hold.
#[derive(Debug)]
pub(crate) struct Activity {
    object: ObjectId,
    instance: InstanceId,
    mailbox: Mailbox,
}

impl Activity {
    pub(crate) fn touch(&self) {
        self.mailbox.input(Input::Touch { object: self.object, instance: self.instance });
    }
}

/// What the actor is built from.
pub(crate) struct Dependencies {
    pub(crate) mailbox: Mailbox,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) links: Arc<Links>,
    /// Notified of instances that have ended, so that connections to them are closed.
    pub(crate) gone: Box<dyn Fn(InstanceId) + Send>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) start_limits: Arc<StartLimits>,
    pub(crate) node_loss: TimeOrNever,
    /// Wakes the hook delivery for objects with new events.
    pub(crate) wakes: Wakes,
    /// Receives changes, if there are subscribers.
    pub(crate) changes: broadcast::Sender<Arc<Change>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A request that waits for its answer.
struct Request {
    reply: Reply,
    asker: Option<Asker>,
    /// Told of the end of the instance that it gets.
    told: Option<Told>,
}

/// The one owner of a shard's engine.
pub(crate) struct Objects {
    engine: Engine,
    waiters: HashMap<WaiterId, Request>,
    /// What is added to the environment of instances that code has launched, as long as their objects are in memory.
    envs: HashMap<ObjectId, Vec<(String, String)>>,
    /// Who is told how the instance that an object has ended, once that is durable. Not by instance: one that its node refuses is
    /// followed by another without an end.
    watchers: HashMap<ObjectId, Vec<Told>>,
    orders: HashMap<WaiterId, Done>,
    starts: Starts,
    deps: Dependencies,
    start: Instant,
}

impl Objects {
    /// An actor that knows the objects of these records, whose instances may be running.
    pub(crate) fn new(deps: Dependencies, records: Vec<Record>) -> Self {
        let term_ms = u64::try_from(OBSERVED_TERM.as_millis()).unwrap_or(u64::MAX);
        let config = berth_engine::Config {
            term_ms,
            node_loss: deps.node_loss,
            max_waiters_per_object: MAX_WAITERS_PER_OBJECT,
            max_turn_ms: MAX_TURN_MS,
            backoff: BACKOFF,
        };
        let mut objects = Self {
            engine: Engine::new(config),
            waiters: HashMap::new(),
            envs: HashMap::new(),
            watchers: HashMap::new(),
            orders: HashMap::new(),
            starts: Starts::new(Arc::clone(&deps.metrics)),
            deps,
            start: Instant::now(),
        };
        let now = objects.now();
        for record in records {
            objects.engine.restore(now, record);
        }
        objects
    }

    /// Serves the mailbox until all senders are gone.
    pub(crate) async fn run(mut self, mut inbox: Inbox) {
        let timer = tokio::time::sleep_until(self.start);
        tokio::pin!(timer);
        loop {
            self.note_moves();
            self.carry_out();
            self.tell_changes();
            let deadline = self.engine.next_deadline_ms().map(|ms| self.start + Duration::from_millis(ms));
            if let Some(deadline) = deadline.filter(|deadline| *deadline != timer.deadline()) {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take_batch(message, &mut inbox),
                    None => return,
                },
                () = &mut timer, if deadline.is_some() => {
                    let now = self.now();
                    self.engine.handle_timeout(now);
                }
            }
        }
    }

    /// Before effects are carried out: what the rest of the edge sees of an object follows from them.
    fn note_moves(&mut self) {
        let mut moves = self.engine.take_moves().peekable();
        if moves.peek().is_none() {
            return;
        }
        let mut present = self.deps.mailbox.present();
        for (object, here) in moves {
            let _ = if here { present.insert(object) } else { present.remove(&object) };
            if !here {
                self.starts.evicted(object);
                self.envs.remove(&object);
            }
        }
    }

    /// Off the hot path: without subscribers, objects are not even looked at.
    fn tell_changes(&mut self) {
        while let Some(view) = self.engine.poll_change() {
            // No subscribers are left.
            drop(self.deps.changes.send(Arc::new(Change { view })));
        }
        self.engine.watch(self.deps.changes.receiver_count() > 0);
    }

    fn take_batch(&mut self, first: Message, inbox: &mut Inbox) {
        self.take(first);
        for _ in 1..BATCH {
            match inbox.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Acquire { key, class, asker, reply, waiter } => {
                self.waiters.insert(waiter, Request { reply, asker, told: None });
                self.handle(Input::Acquire { key, class, waiter });
            }
            Message::Launch { key, launch: Launch { class, env }, told, reply, waiter } => {
                self.waiters.insert(waiter, Request { reply, asker: None, told: Some(told) });
                if let Some(env) = env {
                    self.envs.insert(key.id(), env);
                }
                self.handle(Input::Acquire { key, class, waiter });
            }
            Message::Look(object, reply) => {
                let end = self.engine.has_instance(object).then(|| {
                    let (told, end) = oneshot::channel();
                    self.watch(object, told);
                    end
                });
                drop(reply.send(end));
            }
            Message::Cancel { object, waiter } => {
                // If it was granted in the meantime, its hold is released by being dropped.
                if self.waiters.remove(&waiter).is_some() {
                    self.handle(Input::Cancel { object, waiter });
                }
            }
            Message::Input(mut input) => {
                self.add_unsettled(&mut input);
                self.limit_new(&input);
                self.notice_end(&input);
                self.note_started(&input);
                self.starts.note_input(&input);
                let lost = if let Input::NodeLost { node, .. } = &input { Some(node.clone()) } else { None };
                self.handle(input);
                if let Some(node) = lost {
                    self.void_orders(&node);
                }
            }
            Message::End { object, order, waiter, done } => {
                self.orders.insert(waiter, done);
                self.handle(Input::End { object, order, waiter });
            }
            Message::States(reply) => drop(reply.send(self.engine.states().collect())),
            Message::View(object, reply) => drop(reply.send(self.engine.view(object))),
            // The receiver is gone.
            Message::Views(reply) => drop(reply.send(self.engine.views())),
        }
    }

    /// A node's report of all its instances may be older than a start that was sent since, or is about to be: that
    /// instance has not ended.
    fn add_unsettled(&mut self, input: &mut Input) {
        if let Input::Synced { node, instances, .. } = input {
            self.note_moves();
            self.carry_out();
            if let Some(link) = self.deps.links.get(node) {
                instances.extend(link.unsettled());
            }
        }
    }

    /// Before an object that has no record is started: the first request that its limits permit has it started. Those
    /// before it are refused, while nothing is written and only this request knows of the object.
    fn limit_new(&mut self, input: &Input) {
        let Input::Loaded { object, record: Ok(None) } = input else { return };
        for (waiter, may_start) in self.engine.waiting(*object) {
            if !may_start {
                continue;
            }
            let Some(asker) = self.waiters.get(&waiter).and_then(|request| request.asker) else { return };
            let Some(key) = self.engine.key(*object) else { return };
            let Err(TooMany { whose, retry }) = self.deps.start_limits.admit(&asker, key) else { return };
            if let Some(request) = self.waiters.remove(&waiter) {
                drop(request.reply.send(Err(Refused::StartRate { whose, retry_ms: whole_ms(retry) })));
            }
            self.handle(Input::Cancel { object: *object, waiter });
        }
    }

    /// Connections to an instance that has ended are closed.
    fn notice_end(&self, input: &Input) {
        if let Input::Status { status, .. } = input
            && matches!(status.phase, Phase::Exited(_))
        {
            (self.deps.gone)(status.instance);
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.engine.handle(now, input);
    }

    fn now(&self) -> Now {
        Now { mono_ms: whole_ms(self.start.elapsed()), wall_ms: wall_ms() }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            self.note_loss(&effect);
            match effect {
                Effect::Load { object } => self.load(object),
                Effect::Reserve(demand) => self.reserve(demand),
                Effect::Withdraw { object } => self.withdraw(object),
                Effect::Unreserve { object, generation, .. } => self.deps.nodes.release(object, generation),
                Effect::Persist { object, persist, record, events, usage } => {
                    let mailbox = self.deps.mailbox.clone();
                    let wakes = (!events.is_empty()).then(|| self.deps.wakes.clone());
                    let done = move |result: Result<(), StoreError>| {
                        if let Some(wakes) = wakes.filter(|_| result.is_ok()) {
                            wakes.wake(object);
                        }
                        mailbox.input(Input::Persisted { object, persist, result: result.map_err(failure) });
                    };
                    let events = events.into_iter().map(|event| Write::Event(Box::new(event.into())));
                    let record = std::iter::once(Write::Record(Box::new(record)));
                    let writes = record.chain(events).chain(usage.map(Write::Usage)).collect();
                    self.deps.store.commit(writes, Box::new(done));
                }
                Effect::Start { node, start, secrets } => self.start(&node, start, &secrets),
                Effect::Stop { node, stop } => self.send_command(&node, Command::Stop(stop)),
                Effect::Resume { node, instance } => self.send_command(&node, Command::Resume(instance)),
                Effect::Forget { node, instance, ended } => {
                    self.send_command(&node, Command::Forget(instance));
                    ended.into_iter().for_each(|(object, outcome)| self.tell_end(object, &outcome));
                }
                Effect::Ended { object, outcome } => self.tell_end(object, &outcome),
                Effect::Measured { node, instance, metered } => {
                    self.replace_estimate(node, instance, metered);
                }
                Effect::Grant { waiter, hold, placement } => self.grant(waiter, hold, placement),
                Effect::Ordered { waiter } => self.answer_order(waiter, Ok(())),
                Effect::Refuse { waiter, refused } => match self.waiters.remove(&waiter) {
                    Some(request) => drop(request.reply.send(Err(self.with_time(refused)))),
                    None => self.answer_order(waiter, Err(refused)),
                },
            }
        }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Objects {
    fn answer_order(&mut self, waiter: WaiterId, result: Result<(), Refused>) {
        if let Some(done) = self.orders.remove(&waiter) {
            // The client may be gone; the order stands.
            drop(done.send(result));
        }
    }

    /// Reads on another thread: the record may have to be read from disk.
    fn load(&mut self, object: ObjectId) {
        self.starts.load_started(object);
        let (mailbox, store) = (self.deps.mailbox.clone(), Arc::clone(&self.deps.store));
        tokio::task::spawn_blocking(move || {
            // Without an answer the object would wait for its record for ever.
            let loaded = std::panic::catch_unwind(AssertUnwindSafe(|| store.load(object).map_err(failure)));
            let record = loaded.unwrap_or_else(|_| Err(StoreFailure::new("reading the record panicked")));
            mailbox.input(Input::Loaded { object, record });
        });
    }

    fn send_command(&self, node: &NodeId, command: Command) {
        match self.deps.links.get(node) {
            Some(link) => link.send(command),
            None => tracing::warn!(%node, ?command, "node no longer configured, order dropped"),
        }
    }

    fn grant(&mut self, waiter: WaiterId, hold: HoldId, placement: Placement) {
        let mailbox = self.deps.mailbox.clone();
        let hold = Hold { placement, hold, mailbox };
        if let Some(request) = self.waiters.remove(&waiter) {
            if let Some(told) = request.told {
                self.watch(hold.placement.object, told);
            }
            // If the request is gone, dropping the hold releases it.
            drop(request.reply.send(Ok(hold)));
        }
    }
}

fn failure(error: StoreError) -> StoreFailure {
    StoreFailure::new(error.to_string())
}
