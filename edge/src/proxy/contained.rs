//! The containers of programs' objects: each is looked after on its shard for as long as its object is with a script.
//!
//! ```text
//!          ┌──────────── refused, ended ────────────┐
//!          ▼                                        │
//! (open) Idle ──start──▶ Starting ──it runs──▶ Running ◀── (open, and it runs)
//!          ▲                │ destroy               │ signals, destroy
//!          └─── ended ── Ending                     └─▶ it ends by itself
//! ```
//!
//! The engine has the last word on what runs; here is what an object's code sees of it. The hold on the instance is kept until the
//! object is gone: so it does not sleep under its code.
//!
//! What fails, and what happens then:
//! * The start is refused or fails: the code is told why, in the texts that programs look for, and may start again.
//! * The script or the edge dies, or another version takes the object: what was ordered last is carried out; the container goes on for
//!   the class's `sleep_after`, or as long as its code wanted; the object finds it when it comes back.
//! * The object is reset by its own code: the container ends, unless it was to go on, and nobody has the object before that, but for
//!   an end that takes longer than `RESET_LIMIT`: then the object may be had before, and finds what still runs.
//! * An end cannot be made durable: it is ordered again every second until the container has ended, or the object is back.
//! * A node does not take signals: each is given up after its time, and they wait for each other, `SIGNALS_PER_APP` at once.

mod shared;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use berth_common::ids::ObjectKey;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::ClassSpec;
use berth_common::wire::call::Signal;
use berth_engine::{EndOrder, Placement, Refused};
use berth_script::message::ScriptError;
use berth_script::message::container::{
    Change, Ended, NO_INSTANCE, NOT_RUNNING, Order, Start, TOO_FAST, TOO_MANY,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Request;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::shared::{Shared, Turn, Waiting, WaitingShare};
use super::{Proxy, ported, signal};
use crate::programs::{Contained, Container, ContainerChanges, Containers, PortAnswer};
use crate::script::Body;
use crate::shard::Shards;
use crate::shard::objects::{Hold, InstanceEnd, Launch};

/// What a container finds the id of its object in.
const OBJECT_ID: &str = "CLOUDFLARE_DURABLE_OBJECT_ID";
/// Signals of one object's code that wait, above which further ones are dropped: the kernel joins those that are not taken, too.
const WAITING: usize = 64;
/// How long an end that could not be ordered waits for the next try.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest time that a container goes on when its object is gone.
const LONGEST_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an object that was reset waits for its container to end.
const RESET_LIMIT: Duration = Duration::from_secs(30);
/// The signals by which programs are told to end.
const ENDING: [u8; 3] = [2, 3, 15];
const SIGKILL: u8 = 9;
/// Requests that wait for a start from which on those that nobody wants any more are looked for.
const SWEEP: usize = 64;
/// What code is told of a request beyond the app's share.
const TOO_MANY_WAIT: &str = "Too many requests to containers wait.";

/// The containers of objects, each on its shard.
pub(crate) struct RoutedContainers {
    shards: Shards<Proxy>,
    shared: Shared,
}

impl RoutedContainers {
    pub(crate) fn new(shards: Shards<Proxy>) -> Self {
        Self { shards, shared: Shared::default() }
    }
}

impl Containers for RoutedContainers {
    fn of(
        &self,
        key: ObjectKey,
        class: Arc<ClassSpec>,
        changes: ContainerChanges,
    ) -> BoxFuture<'static, Result<Contained, ScriptError>> {
        let (shards, shard) = (self.shards.clone(), self.shards.of(key.id()));
        let (turn, signal_share) = (self.shared.begin(key.id()), self.shared.signals(&key.app));
        let waiting = self.shared.waiting(&key.app);
        let begun = async move {
            let (words, heard) = mpsc::unbounded_channel();
            let numbers = Arc::new(Numbers::default());
            let seen = Arc::clone(&numbers);
            let begin = |proxy| async move {
                let object = TheObject { proxy, key, class, changes, numbers: seen, turn, signal_share };
                let keeper = Keeper::new(object).await;
                let running = keeper.runs();
                tokio::spawn(keeper.run(heard));
                running
            };
            let running = shards.run(shard, begin).await.map_err(|error| failed(&error))?;
            Ok(Contained { running, container: Box::new(Handle { words, numbers, waiting }) as _ })
        };
        begun.boxed()
    }
}

fn failed(text: &(impl ToString + ?Sized)) -> ScriptError {
    ScriptError::new("Error", text.to_string())
}

/// A request to a port, and who waits for its answer.
struct Fetch {
    port: u16,
    upgrade: bool,
    request: Request<Body>,
    answer: oneshot::Sender<Result<http::Response<Body>, ScriptError>>,
    /// Until it is sent, or nobody wants it any more and that was seen.
    _share: WaitingShare,
}

impl Fetch {
    fn refuse(self, text: &str) {
        drop(self.answer.send(Err(failed(text))));
    }
}

/// Requests that wait.
#[derive(Default)]
struct Fetches {
    all: Vec<Fetch>,
    /// How many there are when those are next looked for that nobody wants any more.
    sweep_at: usize,
}

impl Fetches {
    /// All are looked through once there are twice as many as were wanted: looking costs no more than adding, over all.
    fn add(&mut self, fetch: Fetch) {
        if self.all.len() >= self.sweep_at.max(SWEEP) {
            self.all.retain(|fetch| !fetch.answer.is_closed());
            self.sweep_at = 2 * self.all.len();
        }
        self.all.push(fetch);
    }

    fn take(&mut self) -> Vec<Fetch> {
        std::mem::take(self).all
    }
}

/// What the script's side says.
enum Word {
    Order(Order),
    Fetch(Box<Fetch>),
    Reset(Box<dyn Send>),
}

/// Numbers that the script's end and the keeper share.
#[derive(Default)]
struct Numbers {
    /// Signals that are under way.
    signals: AtomicUsize,
    /// How long the container goes on when its object is gone, in milliseconds.
    keep_ms: AtomicU64,
}

impl Numbers {
    fn keep(&self) -> Duration {
        Duration::from_millis(self.keep_ms.load(Ordering::Acquire)).min(LONGEST_KEEP)
    }
}

/// The script's end.
struct Handle {
    /// Bounded: signals by `WAITING`, requests by the app's share, also of those that are given up; all else comes once a start.
    words: mpsc::UnboundedSender<Word>,
    numbers: Arc<Numbers>,
    waiting: Arc<Waiting>,
}

impl Container for Handle {
    fn order(&mut self, order: Order) {
        match order {
            Order::KeepFor(ms) => return self.numbers.keep_ms.store(ms, Ordering::Release),
            Order::Signal(_) if self.numbers.signals.fetch_add(1, Ordering::AcqRel) >= WAITING => {
                self.numbers.signals.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            _ => {}
        }
        let _ = self.words.send(Word::Order(order));
    }

    fn fetch(&mut self, port: u16, upgrade: bool, request: Request<Body>) -> PortAnswer {
        let Some(share) = self.waiting.share(&request) else {
            return std::future::ready(Err(failed(TOO_MANY_WAIT))).boxed();
        };
        let (answer, answered) = oneshot::channel();
        let fetch = Fetch { port, upgrade, request, answer, _share: share };
        let _ = self.words.send(Word::Fetch(Box::new(fetch)));
        answered.map(|answer| answer.unwrap_or_else(|_| Err(failed(NOT_RUNNING)))).boxed()
    }

    fn reset(self: Box<Self>, until: Box<dyn Send>) {
        let _ = self.words.send(Word::Reset(until));
    }
}

type Launching = BoxFuture<'static, Result<(Hold, InstanceEnd), Refused>>;

enum Phase {
    Idle,
    Starting(Launching),
    /// `attach` has the hold of one that ran before the object came.
    Running {
        hold: Option<Hold>,
        attach: Option<Launching>,
        end: InstanceEnd,
    },
    /// It is killed before it is known to run.
    Ending(BoxFuture<'static, Option<Outcome>>),
}

/// What has happened.
enum Event {
    Launched(Result<(Hold, InstanceEnd), Refused>),
    Ended(Option<Outcome>),
}

impl Phase {
    async fn next(&mut self) -> Event {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Starting(launching) => Event::Launched(launching.await),
            Self::Running { attach: Some(attach), end, .. } => tokio::select! {
                biased;
                launched = attach => Event::Launched(launched),
                ended = end => Event::Ended(ended.ok().flatten()),
            },
            Self::Running { attach: None, end, .. } => Event::Ended(end.await.ok().flatten()),
            Self::Ending(done) => Event::Ended(done.await),
        }
    }
}

/// The object whose container is looked after.
struct TheObject {
    proxy: Arc<Proxy>,
    key: ObjectKey,
    class: Arc<ClassSpec>,
    changes: ContainerChanges,
    numbers: Arc<Numbers>,
    turn: Turn,
    signal_share: Arc<Semaphore>,
}

/// Looks after one object's container.
struct Keeper {
    of: TheObject,
    phase: Phase,
    /// Requests that wait until it runs.
    fetches: Fetches,
    /// Signals that wait until it runs, and for the one before them.
    signals: VecDeque<u8>,
    /// The signal, or the end, that is being ordered.
    acting: Option<BoxFuture<'static, ()>>,
    /// Whether that is the end.
    killing: bool,
}

impl Keeper {
    async fn new(of: TheObject) -> Self {
        let end = of.proxy.objects.look(of.key.id()).await;
        let mut keeper = Self {
            of,
            phase: Phase::Idle,
            fetches: Fetches::default(),
            signals: VecDeque::new(),
            acting: None,
            killing: false,
        };
        if let Some(end) = end {
            keeper.phase = Phase::Running { hold: None, attach: Some(keeper.attach()), end };
        }
        keeper
    }

    fn runs(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    async fn run(mut self, mut words: mpsc::UnboundedReceiver<Word>) {
        loop {
            self.act();
            tokio::select! {
                word = words.recv() => match word {
                    Some(Word::Order(order)) => self.order(order),
                    Some(Word::Fetch(fetch)) => self.fetch(*fetch),
                    Some(Word::Reset(until)) => return self.reset(until).await,
                    None => return self.leave().await,
                },
                event = self.phase.next() => self.happened(event),
                () = acted(&mut self.acting) => self.acting = None,
            }
        }
    }

    fn order(&mut self, order: Order) {
        if matches!(order, Order::Signal(_)) {
            self.of.numbers.signals.fetch_sub(1, Ordering::AcqRel);
        }
        match (order, &self.phase) {
            (Order::Start(start), Phase::Idle) => self.phase = Phase::Starting(self.launch(*start)),
            // Nothing that came before it matters any more.
            (Order::Destroy | Order::Signal(SIGKILL), Phase::Starting(_)) => {
                // The wait for it is given up by that, before the order is given.
                self.phase = Phase::Ending(self.kill());
            }
            (Order::Destroy | Order::Signal(SIGKILL), Phase::Running { .. }) if !self.killing => {
                self.signals.clear();
                self.acting = Some(self.kill().map(drop).boxed());
                self.killing = true;
            }
            (Order::Signal(signal), Phase::Starting(_) | Phase::Running { .. })
                if !self.killing && self.signals.len() < WAITING =>
            {
                self.signals.push_back(signal);
            }
            (Order::Start(_) | Order::Signal(_) | Order::Destroy | Order::KeepFor(_), _) => {}
        }
    }

    fn kill(&self) -> BoxFuture<'static, Option<Outcome>> {
        kill(Arc::clone(&self.of.proxy), self.of.key.clone()).boxed()
    }

    /// Starts it in the way that the code wants; as soon as it runs, it may be asked.
    fn launch(&self, start: Start) -> Launching {
        let Start { env, entrypoint, enable_internet, labels: _ } = start;
        let mut class = self.quiet_class();
        class.recipe.entrypoint = entrypoint.or(class.recipe.entrypoint);
        class.recipe.enable_internet &= enable_internet;
        let id = (OBJECT_ID.to_owned(), self.of.key.name.to_string());
        let env = std::iter::once(id).chain(env).collect();
        let (proxy, key) = (Arc::clone(&self.of.proxy), self.of.key.clone());
        let launch = Launch { class: Arc::new(class), env: Some(env) };
        async move {
            if !proxy.programs.has(&key.app) {
                return Err(Refused::Ended);
            }
            proxy.objects.launch(proxy.waiter(), key, launch).await
        }
        .boxed()
    }

    /// Holds the instance that is there, and starts none. Its node may not have been heard of yet.
    fn attach(&self) -> Launching {
        let class = Arc::new(ClassSpec { manual_start: true, ..self.quiet_class() });
        let (proxy, key) = (Arc::clone(&self.of.proxy), self.of.key.clone());
        let attached = async move {
            loop {
                let launch = Launch { class: Arc::clone(&class), env: None };
                match proxy.objects.launch(proxy.waiter(), key.clone(), launch).await {
                    Err(Refused::NodeUnreachable { .. } | Refused::StartTimeout | Refused::Store) => {
                        tokio::time::sleep(AGAIN).await;
                    }
                    attached => return attached,
                }
            }
        };
        attached.boxed()
    }

    /// The class without what its code does itself: ports, hooks.
    fn quiet_class(&self) -> ClassSpec {
        ClassSpec {
            default_port: None,
            required_ports: Vec::new(),
            ping_endpoint: None,
            hooks: None,
            manual_start: false,
            ..ClassSpec::clone(&self.of.class)
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Launched(Ok((hold, end))) => {
                self.phase = Phase::Running { hold: Some(hold), attach: None, end };
                self.fetches.take().into_iter().for_each(|fetch| self.fetch(fetch));
            }
            Event::Launched(Err(refused)) => match &mut self.phase {
                // It ends, or has ended, which is told at its time.
                Phase::Running { attach, .. } => *attach = None,
                _ => self.ended(of_refused(&refused)),
            },
            Event::Ended(outcome) => self.ended(of_outcome(outcome)),
        }
    }

    fn ended(&mut self, ended: Ended) {
        self.phase = Phase::Idle;
        self.signals.clear();
        // What is still being ordered must not come to the next one.
        (self.acting, self.killing) = (None, false);
        let why = match &ended {
            Ended::NotStarted(why) => why.clone(),
            _ => NOT_RUNNING.to_owned(),
        };
        self.fetches.take().into_iter().for_each(|fetch| fetch.refuse(&why));
        self.of.changes.push(Change::Ended(ended));
    }

    /// Begins to send the next signal, if it is time for that.
    fn act(&mut self) {
        let Phase::Running { hold: Some(hold), .. } = &self.phase else { return };
        if self.acting.is_none()
            && let Some(signal) = self.signals.pop_front()
        {
            let share = Arc::clone(&self.of.signal_share);
            let send = send(Arc::clone(&self.of.proxy), hold.placement().clone(), signal);
            let shared = async move {
                let _permit = share.acquire().await;
                send.await;
            };
            self.acting = Some(shared.boxed());
        }
    }

    fn fetch(&mut self, fetch: Fetch) {
        if fetch.answer.is_closed() {
            return;
        }
        match &self.phase {
            Phase::Running { hold: Some(hold), .. } => {
                let (proxy, placement) = (Arc::clone(&self.of.proxy), hold.placement().clone());
                let app = self.of.key.app.clone();
                let Fetch { port, upgrade, request, mut answer, _share } = fetch;
                tokio::spawn(async move {
                    tokio::select! {
                        answered = ported::fetch(&proxy, &placement, &app, port, upgrade, request) => {
                            drop(answer.send(answered));
                        }
                        () = answer.closed() => {}
                    }
                });
            }
            Phase::Starting(_) | Phase::Running { attach: Some(_), .. } => {
                self.fetches.add(fetch);
            }
            Phase::Idle | Phase::Ending(_) | Phase::Running { .. } => fetch.refuse(NOT_RUNNING),
        }
    }

    /// The object's code has failed.
    async fn reset(mut self, until: Box<dyn Send>) {
        if !self.of.numbers.keep().is_zero() {
            drop(until);
            return self.leave().await;
        }
        if matches!(std::mem::replace(&mut self.phase, Phase::Idle), Phase::Idle) {
            return;
        }
        let mut killed = self.kill();
        if tokio::time::timeout(RESET_LIMIT, &mut killed).await.is_err() {
            drop(until);
            tokio::select! {
                _ = killed => {}
                () = self.of.turn.over() => {}
            }
        }
    }

    /// The object is gone. Without a hold the container goes on for the class's `sleep_after`; one of an app that is gone ends.
    async fn leave(mut self) {
        self.finish().await;
        if !self.of.proxy.programs.has(&self.of.key.app) && !matches!(self.phase, Phase::Idle) {
            tokio::select! {
                _ = self.kill() => {}
                () = self.of.turn.over() => {}
            }
            return;
        }
        let (keep, turn) = (self.of.numbers.keep(), &self.of.turn);
        if let Phase::Running { hold: Some(_hold), end, .. } = self.phase {
            tokio::select! {
                _ = tokio::time::timeout(keep, end) => {}
                () = turn.over() => {}
            }
        }
    }

    /// Carries out what was ordered last, unless the object is back, whose orders come first.
    async fn finish(&mut self) {
        loop {
            self.act();
            if self.acting.is_none() && !matches!(self.phase, Phase::Ending(_)) {
                return;
            }
            tokio::select! {
                // What is being ordered is at least on its way before the object's return counts.
                biased;
                event = self.phase.next() => self.happened(event),
                () = acted(&mut self.acting) => self.acting = None,
                () = self.of.turn.over() => return,
            }
        }
    }
}

async fn acted(acting: &mut Option<BoxFuture<'static, ()>>) {
    match acting {
        Some(acting) => acting.await,
        None => std::future::pending().await,
    }
}

/// Sends a signal. Those that tell a program to end are the engine's business: it is no failure when it does.
async fn send(proxy: Arc<Proxy>, placement: Placement, signal: u8) {
    let number = i32::from(signal);
    if ENDING.contains(&signal) {
        let order = EndOrder::Stop { signal: Some(number), grace_ms: None };
        return drop(proxy.objects.end(proxy.waiter(), placement.object, order).await);
    }
    let send = Signal { instance: placement.instance, signal: number };
    if let Err(error) = signal::send(&proxy.links, &placement.node, send).await {
        tracing::debug!(%error, signal, "a signal of an object's code did not reach its container");
    }
}

/// Has an object's instance killed, if it has one; returns how it has ended.
async fn kill(proxy: Arc<Proxy>, key: ObjectKey) -> Option<Outcome> {
    let object = key.id();
    loop {
        let ordered = proxy.objects.end(proxy.waiter(), object, EndOrder::Destroy).await;
        let end = proxy.objects.look(object).await?;
        if ordered.is_ok() {
            return end.await.ok().flatten();
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What code is told of a start that was refused.
fn of_refused(refused: &Refused) -> Ended {
    match refused {
        Refused::StartFailed(outcome) => of_outcome(Some(outcome.clone())),
        Refused::StartRefused(refusal) => Ended::NotStarted(refusal.to_string()),
        Refused::Ended => Ended::Signalled(SIGKILL),
        Refused::StartRate { .. } => Ended::NotStarted(format!("{TOO_FAST}: {refused}")),
        Refused::ClassLimit { .. } => Ended::NotStarted(format!("{NO_INSTANCE}: {TOO_MANY}")),
        _ => Ended::NotStarted(format!("{NO_INSTANCE}: {refused}")),
    }
}

/// What code is told of an end. One that nobody knows of was ordered before the container was there.
fn of_outcome(outcome: Option<Outcome>) -> Ended {
    let Some(outcome) = outcome else { return Ended::Signalled(SIGKILL) };
    let signal = outcome.signal.and_then(|signal| u8::try_from(signal).ok());
    let message = || outcome.message.clone().unwrap_or_else(|| outcome.to_string());
    match (outcome.reason, outcome.code) {
        (ExitReason::Idle | ExitReason::Drained, code) => {
            Ended::Stopped(code.unwrap_or_else(|| 128 + i32::from(signal.unwrap_or(SIGKILL))))
        }
        (ExitReason::RuntimeLost | ExitReason::NodeLost | ExitReason::Unknown, _) => Ended::Lost(message()),
        (ExitReason::Destroyed, _) => Ended::Signalled(SIGKILL),
        (_, Some(code)) => Ended::Exited(code),
        (ExitReason::StartFailed, None) if signal.is_none() => Ended::NotStarted(message()),
        (_, None) => Ended::Signalled(signal.unwrap_or(SIGKILL)),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty};

    use super::*;

    #[test]
    fn requests_that_nobody_wants_any_more_do_not_stay_and_the_others_do() {
        let (waiting, mut fetches) = (Arc::new(Waiting::default()), Fetches::default());
        let mut add = |wanted: bool| {
            let request = Request::new(Body::new(Empty::new().map_err(|never| match never {})));
            let (answer, answered) = oneshot::channel();
            let share = waiting.share(&request).unwrap();
            fetches.add(Fetch { port: 1, upgrade: false, request, answer, _share: share });
            (wanted.then_some(answered), fetches.all.len())
        };
        let wanted: Vec<_> = (0..100).map(|_| add(true)).collect();
        let most = (0..10_000).map(|_| add(false).1).max();
        assert_eq!(most, Some(2 * wanted.len().max(SWEEP)));
        assert!(fetches.take().len() >= wanted.len());
    }
}
