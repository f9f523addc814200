//! What those who look after containers have together: whose turn it is with an object, how many signals of an app are under way, and how
//! many of its requests wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use berth_common::ids::{AppName, ObjectId};
use berth_script::message::{INLINE_BODY_BYTES, MAX_OPS, MAX_OPS_WEIGHT};
use http::Request;
use http_body::Body as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::script::Body;

/// Signals of one app's objects that are under way at once, further ones wait: each waits for a node or for the store, which others
/// need too.
const SIGNALS_PER_APP: usize = 8;

/// Requests of one app's objects that wait for their containers, or for whoever looks after those: twice what one script may have at once, for
/// those that are given up and not yet looked at.
const WAITING_PER_APP: usize = 2 * MAX_OPS;

/// What a field of a head takes up besides its name and value, in bytes.
const FIELD_BYTES: usize = 128;

/// Their bytes.
const WAITING_BYTES_PER_APP: usize = 2 * MAX_OPS_WEIGHT;

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Of each object whose container is looked after: what is cancelled when the object comes back.
    turns: HashMap<ObjectId, CancellationToken>,
    signals: HashMap<AppName, Weak<Semaphore>>,
    waiting: HashMap<AppName, Weak<Waiting>>,
}

impl Shared {
    /// Begins to look after an object's container. Whoever kept it for an earlier life of the object stops that.
    pub(super) fn begin(&self, object: ObjectId) -> Turn {
        let over = CancellationToken::new();
        if let Some(before) = self.inner().turns.insert(object, over.clone()) {
            before.cancel();
        }
        Turn { shared: self.clone(), object, over }
    }

    /// The app's share of signals.
    pub(super) fn signals(&self, app: &AppName) -> Arc<Semaphore> {
        share_of(&mut self.inner().signals, app, || Semaphore::new(SIGNALS_PER_APP))
    }

    /// The app's requests that wait.
    pub(super) fn waiting(&self, app: &AppName) -> Arc<Waiting> {
        share_of(&mut self.inner().waiting, app, Waiting::default)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an app has of these; shares that nobody has are forgotten.
fn share_of<T>(shares: &mut HashMap<AppName, Weak<T>>, app: &AppName, make: impl FnOnce() -> T) -> Arc<T> {
    if let Some(share) = shares.get(app).and_then(Weak::upgrade) {
        return share;
    }
    shares.retain(|_, share| share.strong_count() > 0);
    let share = Arc::new(make());
    shares.insert(app.clone(), Arc::downgrade(&share));
    share
}

/// Requests that wait.
#[derive(Default)]
pub(super) struct Waiting {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// The share of a request, unless too many wait.
    pub(super) fn share(self: &Arc<Self>, request: &Request<Body>) -> Option<WaitingShare> {
        let share = WaitingShare { bytes: bytes_of(request), of: Arc::clone(self) };
        let count = self.count.fetch_add(1, Ordering::AcqRel);
        let bytes = self.bytes.fetch_add(share.bytes, Ordering::AcqRel) + share.bytes;
        (count < WAITING_PER_APP && bytes <= WAITING_BYTES_PER_APP).then_some(share)
    }
}

/// About what a request takes up, in bytes.
fn bytes_of(request: &Request<Body>) -> usize {
    let fields =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    let host = request.uri().authority().map_or(0, |host| host.as_str().len());
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let body = request.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    // A longer one is not here.
    let body = body.filter(|bytes| *bytes <= INLINE_BODY_BYTES).unwrap_or(0);
    fields.sum::<usize>() + request.method().as_str().len() + host + path + body
}

/// What one request that waits takes of the app's bounds, until it is dropped.
pub(super) struct WaitingShare {
    of: Arc<Waiting>,
    bytes: usize,
}

impl Drop for WaitingShare {
    fn drop(&mut self) {
        self.of.count.fetch_sub(1, Ordering::AcqRel);
        self.of.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// The time in which one looks after an object's container.
pub(super) struct Turn {
    shared: Shared,
    object: ObjectId,
    over: CancellationToken,
}

impl Turn {
    /// Returns when the object has come back.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.shared.inner();
        // Once it is over, the entry is another's.
        if !self.over.is_cancelled() {
            inner.turns.remove(&self.object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_comes_back_ends_the_turn_before_and_nothing_is_left_at_last() {
        let (shared, object) = (Shared::default(), ObjectId::from_bytes([1; 16]));
        let first = shared.begin(object);
        let second = shared.begin(object);
        assert!(first.over.is_cancelled() && !second.over.is_cancelled());
        drop(first);
        let third = shared.begin(object);
        assert!(second.over.is_cancelled());
        drop((second, third));
        assert!(shared.inner().turns.is_empty());
    }

    #[test]
    fn each_app_has_a_share_of_requests_that_wait_however_large_or_many_they_are() {
        let shared = Shared::default();
        let request = |bytes: usize| {
            let body = http_body_util::Empty::new();
            let body = Body::new(http_body_util::BodyExt::map_err(body, |never| match never {}));
            Request::get("/").header("x", "y".repeat(bytes)).body(body).unwrap()
        };
        for bytes in [0, 30_000] {
            let waiting = shared.waiting(&"a".parse().unwrap());
            let one = request(bytes);
            let most = WAITING_PER_APP.min(WAITING_BYTES_PER_APP / bytes_of(&one));
            let shares: Vec<WaitingShare> =
                std::iter::from_fn(|| waiting.share(&one)).take(2 * MAX_OPS + 1).collect();
            assert_eq!(shares.len(), most, "{bytes}");
            assert!(shared.waiting(&"b".parse().unwrap()).share(&one).is_some());
            drop(shares);
            assert!(waiting.share(&one).is_some(), "shares are given back");
        }
    }

    #[test]
    fn each_app_has_a_share_of_signals_as_long_as_it_has_objects() {
        let shared = Shared::default();
        let (a, b): (AppName, AppName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let share = shared.signals(&a);
        let taken = share.try_acquire_many(8).unwrap();
        assert!(shared.signals(&a).try_acquire().is_err() && shared.signals(&b).try_acquire().is_ok());
        drop(taken);
        drop(share);
        drop(shared.signals(&b));
        assert_eq!(shared.inner().signals.len(), 1);
    }
}
