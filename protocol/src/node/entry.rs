//! The table's entry of one instance.

use berth_common::ids::{EdgeId, Generation, InstanceId, ObjectId};
use berth_common::metering::Metered;
use berth_common::spec::Resources;
use berth_common::wire::call::{InstanceStatus, Phase, Start};

use super::stop::StopOrder;
use crate::Moment;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) owner: EdgeId,
    pub(super) object: ObjectId,
    pub(super) generation: Generation,
    pub(super) resources: Resources,
    pub(super) phase: Phase,
    /// Its usage, once it has ended, if it ran.
    pub(super) metered: Option<Metered>,
    /// When it was admitted, until it is ready; `None` for instances of an earlier agent.
    pub(super) starting: Option<Moment>,
    /// It was frozen because its term was over, and not thawed since.
    pub(super) frozen: bool,
    /// Since when its owner is heard again, while it is frozen, and when it was heard last.
    pub(super) heard: Option<(Moment, Moment)>,
    /// All orders to end it, merged.
    pub(super) stop: Option<StopOrder>,
}

impl Entry {
    pub(super) fn new(owner: &EdgeId, start: &Start, phase: Phase) -> Self {
        Self {
            owner: owner.clone(),
            object: start.object.id(),
            generation: start.generation,
            resources: start.recipe.resources,
            phase,
            metered: None,
            starting: None,
            frozen: false,
            heard: None,
            stop: None,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Exited(_))
    }

    pub(super) fn status(&self, instance: InstanceId) -> InstanceStatus {
        InstanceStatus {
            instance,
            object: self.object,
            generation: self.generation,
            phase: self.phase.clone(),
            frozen: self.frozen && self.is_alive(),
            metered: self.metered.clone(),
        }
    }
}

/// The order of phases.
pub(super) fn rank(phase: &Phase) -> u8 {
    match phase {
        Phase::Starting => 0,
        Phase::Running => 1,
        Phase::Ready => 2,
        Phase::Stopping => 3,
        Phase::Exited(_) => 4,
    }
}
