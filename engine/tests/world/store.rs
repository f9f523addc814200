//! The simulated store of the edge: writes that are under way, done, failed, or done although they are said to have failed.

use std::collections::{BTreeMap, HashMap, VecDeque};

use berth_common::ids::{InstanceId, NodeId, ObjectId};
use berth_common::metering::Metered;
use berth_engine::{Event, Input, PersistId, Record, RecordState, StoreFailure, UsageRecord};
use proptest::sample::Index;

use crate::flaw::Flaw;
use crate::link::Command;
use crate::model::World;

/// One write under way.
pub(crate) enum Written {
    Object(Box<ObjectWrite>),
    /// What a node has measured of an instance that was given up.
    Measured {
        node: NodeId,
        instance: InstanceId,
        metered: Box<Metered>,
    },
}

/// That of an object's record, and of what belongs to it.
pub(crate) struct ObjectWrite {
    pub(crate) object: ObjectId,
    pub(crate) persist: PersistId,
    pub(crate) record: Record,
    pub(crate) events: Vec<Event>,
    pub(crate) usage: Option<Box<UsageRecord>>,
}

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) durable: HashMap<ObjectId, Record>,
    /// What is durable and the engine knows it.
    pub(crate) acknowledged: HashMap<ObjectId, Record>,
    /// What is durable of the lives of instances, by their keys in the store.
    pub(crate) lives: BTreeMap<(u64, InstanceId), UsageRecord>,
    pub(crate) writes: VecDeque<Written>,
    pub(crate) reads: VecDeque<ObjectId>,
    /// Until when an edge that has ended in good order has given terms.
    pub(crate) window_ms: u64,
    /// A node that has to tell again what it has measured, as that could not be written.
    pub(crate) untold: Option<NodeId>,
}

impl Store {
    fn keep(&mut self, usage: Option<Box<UsageRecord>>) {
        if let Some(life) = usage {
            self.lives.insert((life.ended_ms(), life.instance), *life);
        }
    }

    /// As the edge's store does it: replaces an estimate, once.
    fn replace_estimate(&mut self, instance: InstanceId, metered: &Metered, beside: bool) {
        let is_estimate = |life: &&UsageRecord| life.instance == instance && life.estimated;
        let Some(estimate) = self.lives.values().find(is_estimate).cloned() else { return };
        if !beside {
            self.lives.remove(&(estimate.ended_ms(), instance));
        }
        let Metered { started_ms, lived_cs, cpu_us, estimated, .. } = *metered;
        let life = UsageRecord { started_ms, lived_cs, cpu_us, estimated, ..estimate };
        self.lives.insert((life.ended_ms(), instance), life);
    }

    /// Whether what a node has measured of an instance is durable.
    pub(crate) fn is_measured(&self, instance: InstanceId) -> bool {
        self.lives.values().any(|life| life.instance == instance && !life.estimated)
    }

    pub(crate) fn all_stopped(&self) -> bool {
        self.durable.values().all(|record| matches!(record.state, RecordState::Stopped { .. }))
    }
}

impl World {
    pub(crate) fn store_writes(&mut self, applied: bool, success: bool) {
        let Some(write) = self.store.writes.pop_front() else { return };
        if applied {
            self.apply(&write);
        }
        match write {
            Written::Object(write) => {
                let ObjectWrite { object, persist, record, .. } = *write;
                if success {
                    self.store.acknowledged.insert(object, record);
                }
                let result = if success { Ok(()) } else { Err(StoreFailure::new("full")) };
                self.tell(Input::Persisted { object, persist, result });
            }
            Written::Measured { node, instance, .. } if success => {
                self.forget(&node, instance);
            }
            // The node keeps it, and tells of it again on its next connection.
            Written::Measured { node, .. } => self.store.untold = Some(node),
        }
    }

    fn apply(&mut self, write: &Written) {
        match write {
            Written::Object(write) => {
                self.promises.events_written(&write.record, &write.events);
                self.store.durable.insert(write.object, write.record.clone());
                self.store.keep(write.usage.clone());
            }
            Written::Measured { instance, metered, .. } => {
                if self.flaw != Some(Flaw::TruthIgnored) {
                    let beside = self.flaw == Some(Flaw::TruthBesideEstimate);
                    self.store.replace_estimate(*instance, metered, beside);
                }
            }
        }
    }

    pub(crate) fn forget(&mut self, node: &NodeId, instance: InstanceId) {
        self.promises.forgetting(instance, self.store.durable.values());
        self.command(node, Command::Forget(instance));
    }

    pub(crate) fn store_reads(&mut self, success: bool) {
        let Some(object) = self.store.reads.pop_front() else { return };
        let record = self.store.durable.get(&object).cloned();
        let record = if success { Ok(record) } else { Err(StoreFailure::new("damaged")) };
        self.tell(Input::Loaded { object, record });
    }

    /// The edge dies with this many of its writes done.
    pub(crate) fn die_with(&mut self, written: Index) {
        let done = written.index(self.store.writes.len() + 1);
        let writes = std::mem::take(&mut self.store.writes);
        for write in writes.iter().take(done) {
            self.apply(write);
        }
        self.store.acknowledged = self.store.durable.clone();
        self.store.reads.clear();
    }
}
