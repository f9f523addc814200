//! Delivers events to hooks, those of one object one after the other, until each was accepted or was tried often
//! enough.
//!
//! ```text
//! store commits an event ── wake ──▶ looked at ── due, and its host has room ──▶ posted ── 2xx ──▶ removed
//!                                        ▲    └── not due ──▶ waits ── due ──▶ ┐      │ anything else
//!                                        └────────────────────────────────────┴──────┴──▶ again later, or set aside
//! ```
//!
//! One task owns all of this; the store holds the events, also over a restart. The response to `activity_expired` is
//! passed to the object. Events are signed (`signature`), and posted only to permitted addresses (`post`).
//!
//! What fails, and what happens then:
//!
//! * Receiver refuses, is silent or unreachable: retried with growing pauses, at last after most of a day; then set
//!   aside.
//! * More than `MAX_WAITING` events of one object wait: a failed event is set aside at once.
//! * Too many events are set aside: the oldest is dropped, and that is logged.
//! * The secret to sign with is missing: counts as a failed try.
//! * The edge is killed: what was not recorded as delivered is posted again, with the same body.
//! * The event's app was removed: the event is dropped.
//! * A try panics: counts as a failed try; if it was while the result was recorded, the object is looked at again after a
//!   pause.
//! * The store fails: nothing is recorded, and the object is looked at again after a pause.

pub(crate) mod delivery;
mod post;
mod queue;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use berth_common::clock::wall_ms;
use berth_common::ids::{AppName, ObjectId};
use berth_common::spec::HookKind;
use berth_engine::Input;
use berth_store::{self as store, Delivery, EventId, Store, StoreError, Write};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::delivery::Next;
use self::post::{Answer, Poster};
use self::queue::{Queue, Step};
use crate::guarded::guarded;
use crate::metrics::{Metrics, Tried};
use crate::secrets::Secrets;
use crate::shard::objects::Mailbox;
use crate::shard::shard_of;
use crate::shard::wakes::Wakes;

/// Most events of one object that may wait behind one that fails; with more, that one is set aside at once.
const MAX_WAITING: usize = 1_000;
/// Most events that are kept set aside; with more, the oldest is dropped, and that is logged.
const MAX_DEAD: usize = 10_000;
/// Objects that are read from the store at once when the edge starts.
const PAGE: usize = 1_024;
/// Pause after the store failed, in milliseconds: it will not recover at once.
const STORE_PAUSE_MS: u64 = 5_000;
/// Longest sleep: the clock may be set in the meantime.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// The header of the signature.
const SIGNATURE: &str = "berth-signature";

/// Signs events.
pub(crate) trait SigningKeys: Send + Sync {
    /// Calls `sign` with an app's secret, or returns why there is none.
    fn with_key(&self, app: &AppName, name: &str, sign: &mut dyn FnMut(&[u8])) -> Result<(), String>;
}

/// Events are signed with secrets of their app.
impl SigningKeys for Secrets {
    fn with_key(&self, app: &AppName, name: &str, sign: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let name = name.parse().map_err(|error| format!("{name:?} cannot name a secret: it {error}"))?;
        let secret = self.get(app, &name).map_err(|error| error.to_string())?;
        sign(secret.expose().as_bytes());
        Ok(())
    }
}

/// What the delivery is built from.
pub(crate) struct Dependencies {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Arc<dyn SigningKeys>,
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) wakes: Wakes,
    /// Networks that may be reached besides public addresses.
    pub(crate) allowed: Vec<IpNet>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether an app is deployed: nobody is told of others.
    pub(crate) is_deployed: Box<dyn Fn(&AppName) -> bool + Send + Sync>,
}

/// What each try needs.
struct Deliverer {
    store: Arc<dyn Store>,
    keys: Arc<dyn SigningKeys>,
    mailboxes: Vec<Mailbox>,
    poster: Poster,
    metrics: Arc<Metrics>,
    is_deployed: Box<dyn Fn(&AppName) -> bool + Send + Sync>,
}

/// Delivers events until the edge drains.
pub(crate) async fn run(dependencies: Dependencies, drain: CancellationToken) {
    let Dependencies { store, keys, mailboxes, wakes, allowed, metrics, is_deployed } = dependencies;
    let poster = Poster::new(allowed);
    let deliverer = Arc::new(Deliverer { store, keys, mailboxes, poster, metrics, is_deployed });
    wake_all(&*deliverer.store, &wakes);
    let mut queue = Queue::default();
    let mut tries: JoinSet<(ObjectId, NextLook)> = JoinSet::new();
    loop {
        queue.add(wakes.take());
        while let Some(object) = queue.next(wall_ms()) {
            deliverer.look(object, &mut queue, &mut tries);
        }
        let sleep = queue
            .next_due_ms()
            .map_or(MAX_SLEEP, |due| Duration::from_millis(due.saturating_sub(wall_ms())).min(MAX_SLEEP));
        tokio::select! {
            () = drain.cancelled() => return,
            () = wakes.some() => {}
            Some(Ok((object, after))) = tries.join_next() => match after {
                NextLook::Look => queue.done(object, Step::Look),
                NextLook::At(ms) => queue.done(object, Step::At(ms)),
            },
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Wakes every object with events that the last process did not deliver.
fn wake_all(store: &dyn Store, wakes: &Wakes) {
    let mut last = None;
    loop {
        match store.objects_with_events(last, PAGE) {
            Ok(page) if page.is_empty() => return,
            Ok(page) => {
                last = page.last().copied();
                page.into_iter().for_each(|object| wakes.wake(object));
            }
            Err(error) => return tracing::error!(%error, "cannot read the events to deliver"),
        }
    }
}

/// When an object is to be looked at after a try.
enum NextLook {
    Look,
    At(u64),
}

impl Deliverer {
    /// Starts the delivery of an object's first event, if it is due and its host has capacity.
    fn look(
        self: &Arc<Self>,
        object: ObjectId,
        queue: &mut Queue,
        tries: &mut JoinSet<(ObjectId, NextLook)>,
    ) {
        let (id, delivery) = match self.store.first_event(object) {
            Ok(Some(found)) => found,
            Ok(None) => return queue.done(object, Step::Nothing),
            Err(error) => {
                tracing::error!(%error, %object, "cannot read an event to deliver");
                return queue.done(object, Step::At(wall_ms().saturating_add(STORE_PAUSE_MS)));
            }
        };
        if delivery.next_ms > wall_ms() {
            return queue.done(object, Step::At(delivery.next_ms));
        }
        if queue.begin(object, &delivery.event.url, &delivery.event.key.app) {
            let deliverer = Arc::clone(self);
            tries.spawn(async move {
                let later = || NextLook::At(wall_ms().saturating_add(STORE_PAUSE_MS));
                (object, guarded(deliverer.deliver(id, delivery)).await.unwrap_or_else(later))
            });
        }
    }

    /// Tries to deliver an event once, and records the result.
    async fn deliver(&self, id: EventId, delivery: Delivery) -> NextLook {
        if !(self.is_deployed)(&delivery.event.key.app) {
            return self.drop_event(id).await;
        }
        let posted = guarded(self.post(id, &delivery)).await;
        let written =
            match posted.unwrap_or_else(|| Err("the edge failed to post it (see its log)".to_owned())) {
                Ok(answer) => {
                    self.metrics.due.hooks.count(Tried::Done);
                    self.pass_on(&delivery, &answer);
                    store::write(&*self.store, Write::EventDelivered(id)).await.map(|()| NextLook::Look)
                }
                Err(error) => self.note_failure(id, delivery, error).await,
            };
        written.unwrap_or_else(|error| {
            tracing::error!(%error, event = %id, "cannot store the result of a delivery");
            NextLook::At(wall_ms().saturating_add(STORE_PAUSE_MS))
        })
    }

    /// Drops an event of an app that was removed: nobody waits for it.
    async fn drop_event(&self, id: EventId) -> NextLook {
        match store::write(&*self.store, Write::EventDelivered(id)).await {
            Ok(()) => NextLook::Look,
            Err(error) => {
                tracing::error!(%error, event = %id, "cannot drop an event");
                NextLook::At(wall_ms().saturating_add(STORE_PAUSE_MS))
            }
        }
    }

    async fn post(&self, id: EventId, delivery: &Delivery) -> Result<Answer, String> {
        let body = delivery::body(delivery, id);
        let mut signature = String::new();
        let now_s = wall_ms() / 1_000;
        let mut sign = |key: &[u8]| signature = signature::sign(key, now_s, &body);
        let event = &delivery.event;
        self.keys
            .with_key(&event.key.app, &event.secret, &mut sign)
            .map_err(|error| format!("it cannot be signed: {error}"))?;
        let answer = self.poster.post(&event.url, (SIGNATURE, signature), body).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status {
            status if status.is_success() => Ok(answer),
            status if status.is_redirection() => {
                Err(format!("answered {status}: redirects are not followed"))
            }
            status => Err(format!("answered {status}")),
        }
    }

    /// Passes the receiver's decision to the object, if the event asked for one.
    fn pass_on(&self, delivery: &Delivery, answer: &Answer) {
        let event = &delivery.event;
        if let (HookKind::ActivityExpired, Some(instance)) = (event.kind, event.instance) {
            let (object, asked_ms) = (event.key.id(), event.time_ms);
            let mailbox = &self.mailboxes[shard_of(object, self.mailboxes.len())];
            mailbox.input(Input::Decided { object, instance, asked_ms, renew: is_renew(&answer.body) });
        }
    }

    async fn note_failure(
        &self,
        id: EventId,
        delivery: Delivery,
        error: String,
    ) -> Result<NextLook, StoreError> {
        if !(self.is_deployed)(&delivery.event.key.app) {
            return Ok(self.drop_event(id).await);
        }
        self.metrics.due.hooks.count(Tried::Failed);
        let crowded = self.store.count_events(id.object, MAX_WAITING + 1)? > MAX_WAITING;
        tracing::info!(event = %id, app = %delivery.event.key.app, attempt = delivery.attempts + 1, error, "event not delivered");
        match delivery::failed(delivery, error, wall_ms(), crowded) {
            Next::Again(delivery) => {
                let next_ms = delivery.next_ms;
                store::write(&*self.store, Write::Retried(id, Box::new(delivery))).await?;
                Ok(NextLook::At(next_ms))
            }
            Next::SetAside(delivery) => {
                self.metrics.due.set_aside.count();
                tracing::warn!(event = %id, app = %delivery.event.key.app, "event set aside: `berth hooks failed` lists it");
                let mut writes = vec![Write::SetAside(id, Box::new(delivery))];
                writes.extend(self.oldest_surplus()?.map(Write::RemoveDead));
                store::commit(&*self.store, writes).await?;
                Ok(NextLook::Look)
            }
        }
    }

    /// The oldest event that was set aside, if there are too many.
    fn oldest_surplus(&self) -> Result<Option<EventId>, StoreError> {
        if self.store.count_dead(MAX_DEAD)? < MAX_DEAD {
            return Ok(None);
        }
        let oldest = self.store.dead_events(None, 1)?.into_iter().next().map(|(id, _)| id);
        if let Some(id) = oldest {
            tracing::error!(event = %id, "too many events set aside: the oldest is dropped");
        }
        Ok(oldest)
    }
}

/// Whether a response says that the instance is to be kept.
fn is_renew(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Decision {
        action: String,
    }
    serde_json::from_slice::<Decision>(body).is_ok_and(|decision| decision.action == "renew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_renew_renews() {
        assert!(is_renew(br#"{"action":"renew","more":1}"#));
        for other in [&b"{}"[..], b"", b"renew", br#"{"action":"stop"}"#, br#"{"action":1}"#] {
            assert!(!is_renew(other));
        }
    }
}
