//! The counters of the edge. Nothing here waits: requests find the counters of their class with their route, each shard
//! has its own, and they are summed up when the metrics are read (`page`).
//!
//! Labels are bounded: deployed apps and classes, statuses, and reasons of this code. Never names of objects, hosts or
//! paths, because clients choose those.

mod due;
mod page;
mod refusals;
mod starts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_common::ids::{AppName, ClassName};
use berth_monitor::cells::{Counter, Durations, Level};
use http::StatusCode;

use self::due::DueCounts;
pub(crate) use self::due::Tried;
pub(crate) use self::refusals::Reason;
use self::refusals::Refusals;
use self::starts::StartCounts;
pub(crate) use self::starts::Starts;

/// Most classes with counters of their own; all others are counted together. Each takes a few kilobytes here and some
/// forty time series in the monitoring system.
const MAX_CLASSES: usize = 1000;
/// The labels of those others.
const OTHER: &str = "other";

/// The counters of an edge.
#[derive(Debug)]
pub(crate) struct Metrics {
    shards: Box<[ShardCounts]>,
    /// Looked up when a deployment builds routes, and when a container starts; the lock is held only for that.
    classes: Mutex<BTreeMap<ClassKey, Arc<ClassCounts>>>,
    /// Requests to the admin API.
    pub(crate) admin: Statuses,
    /// What the edge does by itself.
    pub(crate) due: DueCounts,
    /// Requests to it without a token that is known.
    pub(crate) failed_logins: Counter,
}

type ClassKey = (AppName, ClassName);

/// The counters of one shard that do not depend on the class. On cache lines of its own, as no other shard writes to
/// it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ShardCounts {
    /// Requests that matched no route.
    unrouted: Statuses,
    /// Requests for static files.
    files: Statuses,
    /// Requests for programs.
    programs: Statuses,
    refusals: Refusals,
    /// Bytes received from clients, and sent to them.
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
}

/// The counters of one class, for each shard that requests come in at.
#[derive(Debug)]
pub(crate) struct ClassCounts {
    shards: Box<[Arc<Requests>]>,
    starts: StartCounts,
}

/// The requests to one class that came in at one shard.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Requests {
    answered: Statuses,
    /// Time until the head of the response.
    took: Durations,
    in_flight: Level,
    websockets: Level,
}

/// Responses by the class of their status.
#[derive(Debug, Default)]
pub(crate) struct Statuses([Counter; STATUSES.len()]);

const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Statuses {
    /// Counts a response.
    pub(crate) fn count(&self, status: StatusCode) {
        let index = usize::from(status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
        self.0[index].count();
    }
}

impl Metrics {
    /// Counters for this many shards, all zero.
    pub(crate) fn new(shards: usize) -> Arc<Self> {
        let shards = (0..shards.max(1)).map(|_| ShardCounts::default()).collect();
        Arc::new(Self {
            shards,
            classes: Mutex::default(),
            admin: Statuses::default(),
            due: DueCounts::default(),
            failed_logins: Counter::default(),
        })
    }

    /// The counters of this shard.
    pub(crate) fn shard(&self, shard: usize) -> &ShardCounts {
        &self.shards[shard.min(self.shards.len() - 1)]
    }

    /// The counters of a class. They are kept when the app is deployed again or removed, unless there are too many
    /// classes.
    pub(crate) fn class(&self, app: &AppName, class: &ClassName) -> Arc<ClassCounts> {
        let mut classes = self.classes();
        let key = (app.clone(), class.clone());
        if let Some(known) = classes.get(&key) {
            return Arc::clone(known);
        }
        if classes.len() >= MAX_CLASSES {
            // Counters without a route are dropped.
            classes.retain(|_, counts| Arc::strong_count(counts) > 1);
        }
        let key = if classes.len() < MAX_CLASSES { key } else { other().unwrap_or(key) };
        Arc::clone(classes.entry(key).or_insert_with(|| Arc::new(ClassCounts::new(self.shards.len()))))
    }

    fn classes(&self) -> MutexGuard<'_, BTreeMap<ClassKey, Arc<ClassCounts>>> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of all other classes. An app of this name would be counted with them.
fn other() -> Option<ClassKey> {
    Some((AppName::new(OTHER).ok()?, ClassName::new(OTHER).ok()?))
}

impl ClassCounts {
    fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| Arc::default()).collect(), starts: StartCounts::default() }
    }

    /// The counters of this shard.
    pub(crate) fn shard(&self, shard: usize) -> &Arc<Requests> {
        &self.shards[shard.min(self.shards.len() - 1)]
    }
}

/// A request without a response so far.
pub(crate) struct Arrival<'a> {
    shard: &'a ShardCounts,
    began: Instant,
    to: Destination,
}

enum Destination {
    Nowhere,
    File,
    Program,
    Class(Arc<Requests>),
    /// The response was counted.
    Over,
}

impl ShardCounts {
    /// A request has arrived.
    pub(crate) fn arrival(&self) -> Arrival<'_> {
        Arrival { shard: self, began: Instant::now(), to: Destination::Nowhere }
    }
}

impl Arrival<'_> {
    /// The request is for a static file.
    pub(crate) fn for_file(&mut self) {
        self.to = Destination::File;
    }

    /// The request is for a program.
    pub(crate) fn for_program(&mut self) {
        self.to = Destination::Program;
    }

    /// The request is for an object of a class. The result counts it as in flight.
    pub(crate) fn for_class(&mut self, requests: &Arc<Requests>) -> InFlight {
        self.to = Destination::Class(Arc::clone(requests));
        requests.in_flight.enter();
        InFlight(Arc::clone(requests))
    }

    /// The edge responds itself, for this reason.
    pub(crate) fn refused(&self, reason: Reason) {
        self.shard.refusals.count(reason);
    }

    /// The head of the response is complete.
    pub(crate) fn answered(mut self, status: StatusCode) {
        match std::mem::replace(&mut self.to, Destination::Over) {
            Destination::Nowhere => self.shard.unrouted.count(status),
            Destination::File => self.shard.files.count(status),
            Destination::Program => self.shard.programs.count(status),
            Destination::Class(requests) => {
                requests.answered.count(status);
                requests.took.note(self.began.elapsed());
            }
            Destination::Over => {}
        }
    }
}

impl Drop for Arrival<'_> {
    /// The client went away before the response.
    fn drop(&mut self) {
        if !matches!(self.to, Destination::Over) {
            self.shard.refusals.count(Reason::ClientGone);
        }
    }
}

/// Counts a request as in flight until the last byte of its response.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Requests>);

impl InFlight {
    /// The request became a WebSocket.
    pub(crate) fn into_websocket(self) -> OpenWebSocket {
        self.0.websockets.enter();
        OpenWebSocket(Arc::clone(&self.0))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.leave();
    }
}

/// Counts a WebSocket as open.
#[derive(Debug)]
pub(crate) struct OpenWebSocket(Arc<Requests>);

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        self.0.websockets.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(metrics: &Metrics, app: &str) -> Arc<ClassCounts> {
        metrics.class(&app.parse().unwrap(), &"C".parse().unwrap())
    }

    #[test]
    fn a_request_counts_once_and_is_in_flight_until_its_end() {
        let metrics = Metrics::new(2);
        let requests = Arc::clone(class(&metrics, "a").shard(1));
        let mut arrival = metrics.shard(1).arrival();
        let in_flight = arrival.for_class(&requests);
        arrival.answered(StatusCode::NOT_FOUND);
        assert_eq!((requests.answered.0[3].get(), requests.took.read().count()), (1, 1));
        assert_eq!(requests.in_flight.get(), 1);
        let socket = in_flight.into_websocket();
        assert_eq!((requests.in_flight.get(), requests.websockets.get()), (0, 1));
        drop(socket);
        assert_eq!(requests.websockets.get(), 0);
    }

    #[test]
    fn a_request_of_a_client_that_went_away_has_no_status() {
        let metrics = Metrics::new(1);
        drop(metrics.shard(0).arrival());
        assert!(metrics.shard(0).unrouted.0.iter().all(|count| count.get() == 0));
        assert!(metrics.shard(0).refusals.all().any(|(reason, count)| (reason, count) == ("client_gone", 1)));
    }

    #[test]
    fn a_class_keeps_its_counts_over_deploys() {
        let metrics = Metrics::new(1);
        class(&metrics, "a").shard(0).answered.count(StatusCode::OK);
        assert_eq!(class(&metrics, "a").shard(0).answered.0[1].get(), 1);
    }

    #[test]
    fn classes_are_bounded() {
        let metrics = Metrics::new(1);
        let held: Vec<_> = (0..MAX_CLASSES).map(|index| class(&metrics, &format!("a{index}"))).collect();
        let (one, two) = (class(&metrics, "b"), class(&metrics, "c"));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(metrics.classes().len(), MAX_CLASSES + 1);
        drop(held);
        assert!(!Arc::ptr_eq(&class(&metrics, "b"), &two), "there is room again");
        assert!(metrics.classes().len() < 4);
    }
}
