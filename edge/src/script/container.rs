//! The container of an object, as the script's side of the edge has it: what carries out its orders and reaches its ports, and what
//! has become of it, kept until it is taken. Does not know how containers are run.

use std::sync::{Arc, Mutex, PoisonError};

use berth_script::message::ScriptError;
use berth_script::message::container::{Change, Order};
use futures_util::future::BoxFuture;

use super::Body;

/// What a port of a container answers.
pub(crate) type Answer = BoxFuture<'static, Result<http::Response<Body>, ScriptError>>;

/// Looks after an object's container for as long as the object is with a script. Dropped, the container goes on without it for a
/// while: the object may come back.
pub(crate) trait Container: Send {
    /// Carries out an order. Must not block.
    fn order(&mut self, order: Order);

    /// Has a port of the container answer a request; waits for a start that is under way. Dropped when nobody wants it any more.
    fn fetch(&mut self, port: u16, upgrade: bool, request: http::Request<Body>) -> Answer;

    /// The object was reset: has the container end, unless it was to go on. `until` is dropped when it has ended.
    fn reset(self: Box<Self>, until: Box<dyn Send>);
}

/// A container with whether it runs.
pub(crate) struct Contained {
    pub(crate) running: bool,
    pub(crate) container: Box<dyn Container>,
}

/// What has become of a container, for whoever takes it; and how that one is told that there is something.
#[derive(Clone)]
pub(crate) struct Changes {
    waiting: Arc<Mutex<Vec<Change>>>,
    tell: Arc<dyn Fn() + Send + Sync>,
}

impl Changes {
    /// `tell` must not block.
    pub(crate) fn new(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { waiting: Arc::default(), tell: Arc::new(tell) }
    }

    /// Bounded by the orders, each of which comes to little.
    pub(crate) fn push(&self, change: Change) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        (self.tell)();
    }

    pub(crate) fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
