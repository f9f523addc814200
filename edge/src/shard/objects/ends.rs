//! What follows from the end of instances: who waits for one is told, what was measured is written, and what was meant for a lost
//! node is void.

use std::sync::Arc;

use berth_common::happening::HappeningKind;
use berth_common::ids::{InstanceId, NodeId, ObjectId};
use berth_common::metering::Metered;
use berth_common::outcome::{ExitReason, Outcome};
use berth_engine::{Effect, RecordState, Refused};
use berth_store::{StoreError, Write};

use super::{Objects, Told};
use crate::shard::link::Command;

impl Objects {
    /// Whatever was decided until now for a node that is lost is void, as it may be carried out there after another node has
    /// taken over.
    pub(super) fn void_orders(&mut self, node: &NodeId) {
        self.note_moves();
        self.carry_out();
        self.send_command(node, Command::Lost);
    }

    /// Has somebody told of the end of an object's instance. It is durable when the node is to forget the instance.
    pub(super) fn watch(&mut self, object: ObjectId, told: Told) {
        let watchers = self.watchers.entry(object).or_default();
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(told);
    }

    pub(super) fn tell_end(&mut self, object: ObjectId, outcome: &Outcome) {
        for told in self.watchers.remove(&object).into_iter().flatten() {
            drop(told.send(Some(outcome.clone())));
        }
    }

    /// Tells what the loss of a node has done to its objects: that each was given up, and is started elsewhere.
    pub(super) fn note_loss(&self, effect: &Effect) {
        let happenings = self.deps.nodes.happenings();
        match effect {
            Effect::Persist { record, usage, .. } => {
                let RecordState::Stopped { outcome: Some(outcome), .. } = &record.state else { return };
                if outcome.reason == ExitReason::NodeLost {
                    let node = usage.as_ref().map(|usage| &usage.node);
                    let why = outcome.message.clone().unwrap_or_default();
                    happenings.object(HappeningKind::ObjectGivenUp, &record.key, node, why);
                }
            }
            Effect::Start { node, start, .. } if self.was_lost(start.object.id()) => {
                let told = "its last container was lost with its node";
                happenings.object(HappeningKind::ObjectRestarted, &start.object, Some(node), told);
            }
            _ => {}
        }
    }

    /// Tells that an object is not started elsewhere whose node was lost, if that is so.
    pub(super) fn note_unplaced(&self, object: ObjectId, result: &Result<NodeId, Refused>) {
        if let Err(refused) = result
            && self.was_lost(object)
            && let Some(key) = self.engine.key(object)
        {
            let happenings = self.deps.nodes.happenings();
            happenings.object(HappeningKind::ObjectRefused, key, None, refused.to_string());
        }
    }

    fn was_lost(&self, object: ObjectId) -> bool {
        self.engine.last_end(object) == Some(ExitReason::NodeLost)
    }

    /// If it cannot be written, the node keeps it, and tells of it again on its next connection.
    pub(super) fn replace_estimate(&self, node: NodeId, instance: InstanceId, metered: Box<Metered>) {
        let links = Arc::clone(&self.deps.links);
        let done = move |result: Result<(), StoreError>| match (result, links.get(&node)) {
            (Ok(()), Some(link)) => link.send(Command::Forget(instance)),
            (Ok(()), None) => {}
            (Err(error), _) => {
                tracing::warn!(%instance, %error, "the usage of a given-up instance was not written");
            }
        };
        self.deps.store.commit(vec![Write::Measured { instance, metered }], Box::new(done));
    }
}
