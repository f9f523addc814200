//! Cold starts: how many, and how long each took, from the moment that an instance was wanted until it was ready.
//! Follows the inputs and effects of a shard's engine; not involved in requests to running instances.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use berth_common::ids::{InstanceId, ObjectId};
use berth_common::wire::call::{Phase, Start};
use berth_engine::Input;
use berth_engine::fleet::Demand;
use berth_monitor::cells::{Counter, Durations};

use super::{ClassCounts, Metrics};

/// The counters of one class's starts.
#[derive(Debug, Default)]
pub(super) struct StartCounts {
    /// Starts that were sent to a node.
    pub(super) sent: Counter,
    /// Starts whose instance ended or was refused before it was ready.
    pub(super) failed: Counter,
    /// Duration of the successful starts.
    pub(super) took: Durations,
}

/// The starts in progress on one shard: at most one for each object in memory.
#[derive(Debug)]
pub(crate) struct Starts {
    metrics: Arc<Metrics>,
    begun: HashMap<ObjectId, PendingStart>,
}

#[derive(Debug)]
struct PendingStart {
    since: Instant,
    class: Option<Arc<ClassCounts>>,
    instance: Option<InstanceId>,
}

impl Starts {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, begun: HashMap::new() }
    }

    /// An object's record is loaded, because an instance is wanted.
    pub(crate) fn load_started(&mut self, object: ObjectId) {
        self.begun.insert(object, PendingStart { since: Instant::now(), class: None, instance: None });
    }

    /// Room is reserved for an instance. A start that was begun before and failed does not count.
    pub(crate) fn wanted(&mut self, demand: &Demand) {
        let class = Some(self.metrics.class(&demand.class.0, &demand.class.1));
        let looked = self.begun.get(&demand.object).filter(|begun| begun.class.is_none());
        let since = looked.map_or_else(Instant::now, |begun| begun.since);
        self.begun.insert(demand.object, PendingStart { since, class, instance: None });
    }

    /// The start is sent to a node.
    pub(crate) fn sent(&mut self, start: &Start) {
        let Some(begun) = self.begun.get_mut(&start.object.id()) else { return };
        begun.instance = Some(start.instance);
        if let Some(class) = &begun.class {
            class.starts.sent.count();
        }
    }

    /// An input of the engine, which may complete a start.
    pub(crate) fn note_input(&mut self, input: &Input) {
        match input {
            Input::Status { status, .. } => match status.phase {
                Phase::Ready => self.over(status.object, status.instance, true),
                Phase::Exited(_) => self.over(status.object, status.instance, false),
                Phase::Starting | Phase::Running | Phase::Stopping => {}
            },
            Input::StartRefused { object, instance, .. } | Input::NeverBegan { object, instance } => {
                self.over(*object, *instance, false);
            }
            _ => {}
        }
    }

    /// The object is no longer in memory.
    pub(crate) fn evicted(&mut self, object: ObjectId) {
        self.begun.remove(&object);
    }

    fn over(&mut self, object: ObjectId, instance: InstanceId, answers: bool) {
        if self.begun.get(&object).is_none_or(|begun| begun.instance != Some(instance)) {
            return;
        }
        let Some(PendingStart { since, class: Some(class), .. }) = self.begun.remove(&object) else { return };
        if answers {
            class.starts.took.note(since.elapsed());
        } else {
            class.starts.failed.count();
        }
    }
}
