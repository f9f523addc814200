//! The pending orders to one node, which survive the loss of the connection.
//!
//! A start goes through these states; stops and forgets are sent, and sent again after a loss, until they are answered.
//!
//! ```text
//!            connection lost, and not reported on the next one (the agent refuses pending starts of the old one)
//!          ┌───────────────────────────────────────────────┐
//!          ▼                                               │
//!  ──▶ Waiting ──sent──▶ Sent ──answered, or reported by the node──▶ settled: removed from here
//!         │ stop           └ stop ──▶ held back until the start is answered, so that it cannot overtake it
//!         └──▶ dropped: the instance never existed
//! ```
//!
//! What fails, and what happens then:
//! * The connection is lost: unanswered stops and forgets are queued again at once, starts once the node has reported.
//! * The node does not report an instance any more: there is nothing to stop or to forget, and both orders are dropped. So
//!   a node that reports ever other instances leaves no more orders behind than it reports at once.
//! * A start was lost: the node does not report it on the next connection, and it is sent again; if a stop waits for
//!   it, it is dropped and returned to the caller instead.
//! * The node lost its records: a start with a waiting stop is dropped, but not returned, since it may have run.
//! * A call is refused: that is an answer like any other here; the caller looks at it.
//! * The edge dies: nothing of this survives; the engine's records and the node's reports replace it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use berth_common::ids::InstanceId;
use berth_common::wire::call::{Call, Forget, Start, Stop};

/// Most instances that one call asks to forget.
const FORGET_BATCH: usize = 256;

/// A call that was sent and not yet answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PendingCall {
    /// To start this instance.
    Start(InstanceId),
    /// To end it.
    Stop(InstanceId),
    /// To forget these.
    Forget(Vec<InstanceId>),
}

#[derive(Debug)]
struct PendingStart {
    start: Box<Start>,
    sent: bool,
    stop: Option<Stop>,
}

/// The pending orders to one node.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Starts that were answered or dropped since the last `take_settled`.
    settled: Vec<InstanceId>,
    starts: BTreeMap<InstanceId, PendingStart>,
    waiting_starts: VecDeque<InstanceId>,
    /// Not yet answered; those in `waiting_stops` are not yet sent either.
    stops: BTreeMap<InstanceId, Stop>,
    waiting_stops: VecDeque<InstanceId>,
    waiting_forgets: BTreeSet<InstanceId>,
    sent_forgets: BTreeSet<InstanceId>,
}

impl Outbox {
    /// The starts that were answered or dropped since the last call of this.
    pub fn take_settled(&mut self) -> Vec<InstanceId> {
        std::mem::take(&mut self.settled)
    }

    /// Queues a start.
    pub fn start(&mut self, start: Box<Start>) {
        self.waiting_starts.push_back(start.instance);
        self.starts.insert(start.instance, PendingStart { start, sent: false, stop: None });
    }

    /// Queues a stop. If the instance's start was not sent yet, both are dropped and the start is returned.
    pub fn stop(&mut self, stop: Stop) -> Option<Box<Start>> {
        let instance = stop.instance;
        match self.starts.get_mut(&instance) {
            Some(pending) if pending.sent => {
                pending.stop = Some(stop);
                None
            }
            Some(_) => {
                self.waiting_starts.retain(|waiting| *waiting != instance);
                self.settled.push(instance);
                self.starts.remove(&instance).map(|pending| pending.start)
            }
            None => {
                self.queue_stop(stop);
                None
            }
        }
    }

    /// Queues a forget.
    pub fn forget(&mut self, instance: InstanceId) {
        self.waiting_forgets.insert(instance);
    }

    /// The next call to send, if any is queued.
    pub fn next_call(&mut self) -> Option<(PendingCall, Call)> {
        self.next_start().or_else(|| self.next_stop()).or_else(|| self.next_forget())
    }

    fn next_start(&mut self) -> Option<(PendingCall, Call)> {
        let instance = self.waiting_starts.pop_front()?;
        let pending = self.starts.get_mut(&instance)?;
        pending.sent = true;
        Some((PendingCall::Start(instance), Call::Start(pending.start.clone())))
    }

    fn next_stop(&mut self) -> Option<(PendingCall, Call)> {
        let instance = self.waiting_stops.pop_front()?;
        let stop = self.stops.get(&instance)?.clone();
        Some((PendingCall::Stop(instance), Call::Stop(stop)))
    }

    fn next_forget(&mut self) -> Option<(PendingCall, Call)> {
        let instances: Vec<_> = self.waiting_forgets.iter().take(FORGET_BATCH).copied().collect();
        for instance in &instances {
            self.waiting_forgets.remove(instance);
            self.sent_forgets.insert(*instance);
        }
        let call = Call::Forget(Forget { instances: instances.clone() });
        (!instances.is_empty()).then_some((PendingCall::Forget(instances), call))
    }

    /// Records that the node has answered a call, in whatever way. Returns the start if the call was one.
    pub fn answered(&mut self, asked: &PendingCall) -> Option<Box<Start>> {
        match asked {
            PendingCall::Start(instance) => return self.settle_start(*instance),
            // A later stop of the same instance may be queued by now.
            PendingCall::Stop(instance) if !self.waiting_stops.contains(instance) => {
                self.stops.remove(instance);
            }
            PendingCall::Stop(_) => {}
            PendingCall::Forget(instances) => {
                for instance in instances {
                    self.sent_forgets.remove(instance);
                }
            }
        }
        None
    }

    /// Records that the node has reported an instance: its start has arrived, even if the answer has not.
    pub fn reported(&mut self, instance: InstanceId) {
        drop(self.settle_start(instance));
    }

    fn settle_start(&mut self, instance: InstanceId) -> Option<Box<Start>> {
        let pending = self.starts.remove(&instance)?;
        self.settled.push(instance);
        self.waiting_starts.retain(|waiting| *waiting != instance);
        if let Some(stop) = pending.stop {
            self.queue_stop(stop);
        }
        Some(pending.start)
    }

    fn queue_stop(&mut self, stop: Stop) {
        if !self.waiting_stops.contains(&stop.instance) {
            self.waiting_stops.push_back(stop.instance);
        }
        self.stops.insert(stop.instance, stop);
    }

    /// Records that the connection is lost, and with it all pending answers.
    pub fn lost(&mut self) {
        self.waiting_stops = self.stops.keys().copied().collect();
        self.waiting_forgets.append(&mut self.sent_forgets);
    }

    /// Records that the node has reported all its instances, these, on a new connection. Starts that it did not report never
    /// began: they are sent again, or dropped and returned if a stop waits for them. `lost`: the node has lost records
    /// since the last connection. A start that was sent may then have run: it is neither sent again nor returned, and the
    /// engine, which finds the instance missing, ends it as lost.
    pub fn synced(&mut self, lost: bool, reported: &HashSet<InstanceId>) -> Vec<Start> {
        self.stops.retain(|instance, _| reported.contains(instance));
        self.waiting_stops.retain(|instance| reported.contains(instance));
        self.waiting_forgets.retain(|instance| reported.contains(instance));
        let over = |pending: &PendingStart| pending.stop.is_some() || (lost && pending.sent);
        let dropped = self.starts.extract_if(.., |_, pending| over(pending));
        let dropped: Vec<Start> = dropped.map(|(_, pending)| *pending.start).collect();
        self.settled.extend(dropped.iter().map(|start| start.instance));
        self.waiting_starts = self.starts.keys().copied().collect();
        for pending in self.starts.values_mut() {
            pending.sent = false;
        }
        if lost { Vec::new() } else { dropped }
    }

    /// How many orders are pending.
    pub fn len(&self) -> usize {
        self.starts.len() + self.stops.len() + self.waiting_forgets.len() + self.sent_forgets.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The instances whose starts are not settled.
    pub fn starting(&self) -> HashSet<InstanceId> {
        self.starts.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use berth_common::ids::{Generation, ObjectKey};
    use berth_common::image::Digest;
    use berth_common::spec::{ImageRef, Recipe, Resources};

    use super::*;

    #[test]
    fn a_start_is_settled_once_it_is_answered_and_not_by_a_loss() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        outbox.start(start(2));
        let (asked, _) = outbox.next_call().unwrap();
        outbox.lost();
        outbox.synced(false, &all());
        assert_eq!(outbox.take_settled(), []);
        outbox.answered(&asked);
        outbox.reported(id(2));
        outbox.reported(id(2));
        assert_eq!(outbox.take_settled(), [id(1), id(2)]);
        assert_eq!(outbox.take_settled(), []);
    }

    #[test]
    fn a_start_that_is_dropped_is_settled_too() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        outbox.stop(stop(1, 9));
        assert_eq!(outbox.take_settled(), [id(1)]);
        outbox.start(start(2));
        sent(&mut outbox);
        outbox.stop(stop(2, 9));
        outbox.lost();
        assert_eq!(outbox.take_settled(), []);
        outbox.synced(false, &all());
        assert_eq!(outbox.take_settled(), [id(2)]);
    }

    fn id(byte: u8) -> InstanceId {
        InstanceId::from_bytes([byte; 16])
    }

    /// Whatever the node could report.
    fn all() -> HashSet<InstanceId> {
        (0..=u8::MAX).map(id).collect()
    }

    #[test]
    fn orders_for_what_a_node_reports_no_more_are_dropped() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        outbox.stop(stop(2, 9));
        outbox.stop(stop(3, 9));
        outbox.forget(id(4));
        outbox.forget(id(5));
        sent(&mut outbox);
        outbox.lost();
        outbox.synced(false, &HashSet::from([id(2), id(4)]));
        let again = [PendingCall::Start(id(1)), PendingCall::Stop(id(2)), PendingCall::Forget(vec![id(4)])];
        assert_eq!(sent(&mut outbox), again);
        assert_eq!(outbox.len(), 3);
    }

    fn start(byte: u8) -> Box<Start> {
        let object =
            ObjectKey { app: "a".parse().unwrap(), class: "b".parse().unwrap(), name: "c".parse().unwrap() };
        Box::new(Start {
            instance: id(byte),
            object,
            generation: Generation(1),
            term_ms: 1,
            until: None,
            recipe: Recipe {
                image: ImageRef::new("x".parse().unwrap(), Digest::of(b"x")),
                entrypoint: None,
                env: Default::default(),
                resources: Resources {
                    cpu_sixteenths: 1,
                    memory_bytes: 1,
                    disk_bytes: 1,
                    disk_in_memory: false,
                },
                enable_internet: false,
                init: true,
                start_boost: None,
                capabilities: Default::default(),
            },
            ready_port: Some(1),
            required_ports: Vec::new(),
            ping_endpoint: None,
            logs: Default::default(),
        })
    }

    fn stop(byte: u8, signal: i32) -> Stop {
        Stop { instance: id(byte), signal, grace_ms: 0 }
    }

    fn sent(outbox: &mut Outbox) -> Vec<PendingCall> {
        std::iter::from_fn(|| outbox.next_call()).map(|(asked, _)| asked).collect()
    }

    #[test]
    fn a_stop_drops_a_start_that_was_never_sent() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        assert_eq!(outbox.stop(stop(1, 9)).unwrap().instance, id(1));
        assert_eq!(sent(&mut outbox), []);
        assert!(outbox.starting().is_empty());
    }

    #[test]
    fn a_stop_does_not_overtake_its_start() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        assert_eq!(sent(&mut outbox), [PendingCall::Start(id(1))]);
        assert!(outbox.stop(stop(1, 9)).is_none());
        assert_eq!(sent(&mut outbox), []);
        outbox.answered(&PendingCall::Start(id(1)));
        assert_eq!(sent(&mut outbox), [PendingCall::Stop(id(1))]);
    }

    #[test]
    fn what_was_not_answered_is_sent_again_after_a_loss() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        outbox.start(start(2));
        outbox.stop(stop(3, 15));
        outbox.forget(id(4));
        assert_eq!(sent(&mut outbox).len(), 4);
        outbox.lost();
        outbox.reported(id(1));
        assert!(outbox.synced(false, &all()).is_empty());
        assert_eq!(outbox.starting(), HashSet::from([id(2)]));
        let again = sent(&mut outbox);
        assert_eq!(
            again,
            [PendingCall::Start(id(2)), PendingCall::Stop(id(3)), PendingCall::Forget(vec![id(4)])]
        );
        for asked in &again {
            outbox.answered(asked);
        }
        outbox.lost();
        outbox.synced(false, &all());
        assert_eq!(sent(&mut outbox), []);
    }

    #[test]
    fn a_start_that_was_to_be_stopped_is_not_sent_again() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        outbox.start(start(2));
        sent(&mut outbox);
        outbox.stop(stop(1, 9));
        outbox.stop(stop(2, 9));
        outbox.lost();
        outbox.reported(id(2));
        let dropped: Vec<_> = outbox.synced(false, &all()).iter().map(|start| start.instance).collect();
        assert_eq!(dropped, [id(1)]);
        assert_eq!(sent(&mut outbox), [PendingCall::Stop(id(2))]);
    }

    #[test]
    fn a_start_is_not_returned_as_never_begun_if_the_node_may_have_lost_it() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        sent(&mut outbox);
        outbox.stop(stop(1, 9));
        outbox.lost();
        assert_eq!(outbox.synced(true, &all()), []);
        assert_eq!(outbox.take_settled(), [id(1)]);
        assert!(outbox.starting().is_empty());
    }

    #[test]
    fn a_start_that_a_node_may_have_lost_is_not_sent_again() {
        let mut outbox = Outbox::default();
        outbox.start(start(1));
        sent(&mut outbox);
        outbox.lost();
        outbox.start(start(2));
        assert_eq!(outbox.synced(true, &all()), []);
        assert_eq!(outbox.take_settled(), [id(1)]);
        assert_eq!(sent(&mut outbox), [PendingCall::Start(id(2))]);
    }

    #[test]
    fn a_later_stop_replaces_the_first() {
        let mut outbox = Outbox::default();
        outbox.stop(stop(1, 15));
        outbox.stop(stop(1, 9));
        let (_, call) = outbox.next_call().unwrap();
        assert_eq!(call, Call::Stop(stop(1, 9)));
        assert!(outbox.next_call().is_none());
        // The first one was sent; the second must still go out.
        outbox.stop(stop(1, 3));
        assert_eq!(outbox.next_call().unwrap().1, Call::Stop(stop(1, 3)));
    }
}
