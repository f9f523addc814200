//! What is known of one node.

use std::collections::{BTreeMap, HashMap};

use berth_common::ids::{AppName, NodeId};
use berth_common::image::Architecture;
use berth_common::spec::Resources;
use berth_common::wire::call::{Capacity, DiskCapacity};

use super::distance::Distance;
use super::room::{Lack, Used, share};

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    /// `None` while the node is not connected.
    pub(super) capacity: Option<Capacity>,
    pub(super) disk: DiskCapacity,
    pub(super) draining: bool,
    /// The architecture of its programs, if reported.
    pub(super) architecture: Option<Architecture>,
    pub(super) region: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) distance: Distance,
    pub(super) used: Used,
    /// What it has last said that instances of all edges take.
    pub(super) told: Option<Capacity>,
    /// How many instances it starts at once, if that is known.
    pub(super) starts_at_once: Option<u32>,
    /// Those reserved that have not started yet.
    pub(super) starting: Starting,
}

/// How many instances start on a node, and of which apps.
#[derive(Debug, Default)]
pub(super) struct Starting {
    all: u32,
    of: HashMap<AppName, u32>,
}

impl Starting {
    pub(super) fn enter(&mut self, app: &AppName) {
        self.all += 1;
        match self.of.get_mut(app) {
            Some(own) => *own += 1,
            None => drop(self.of.insert(app.clone(), 1)),
        }
    }

    pub(super) fn leave(&mut self, app: &AppName) {
        let Some(own) = self.of.get_mut(app) else { return };
        self.all -= 1;
        *own -= 1;
        if *own == 0 {
            self.of.remove(app);
        }
    }

    /// Whether one more of an app may start where so many start at once: an app has as much as is still free, so that none takes
    /// the turns of all.
    fn has_turn(&self, app: &AppName, at_once: u32) -> bool {
        self.of.get(app).copied().unwrap_or_default() < at_once.saturating_sub(self.all)
    }
}

impl Node {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            capacity: None,
            disk: DiskCapacity::default(),
            draining: false,
            architecture: None,
            region: None,
            labels: BTreeMap::new(),
            distance: Distance::default(),
            used: Used::default(),
            told: None,
            starts_at_once: None,
            starting: Starting::default(),
        }
    }

    /// Whether it takes instances at all.
    pub(super) fn is_open(&self) -> bool {
        self.capacity.is_some() && !self.draining
    }

    /// Whether one more instance of an app may start there now.
    pub(super) fn has_turn(&self, app: &AppName) -> bool {
        self.starts_at_once.is_none_or(|at_once| self.starting.has_turn(app, at_once))
    }

    /// The resource that is lacking for such an instance, if any. A node that is not connected lacks everything.
    pub(super) fn lacks(&self, resources: &Resources) -> Option<Lack> {
        let Some(capacity) = &self.capacity else { return Some(Lack::Instances) };
        self.used.lacks(capacity, &self.disk, resources)
    }

    /// What it says may be a little old, so that this only makes it the last to be asked.
    pub(super) fn says_that_it_is_full(&self, wanted: &Resources) -> bool {
        let Some((told, capacity)) = self.told.zip(self.capacity) else { return false };
        told.instances >= capacity.instances
            || told.memory_bytes.saturating_add(wanted.memory_bytes) > capacity.memory_bytes
            || told.cpu_sixteenths.saturating_add(wanted.cpu_sixteenths) > capacity.cpu_sixteenths
    }

    /// The free part of what it has least of, from 0 to 1.
    pub(super) fn free_share(&self) -> f64 {
        let Some(capacity) = &self.capacity else { return 0.0 };
        let starts = self.starts_at_once.map_or(1.0, |all| share(self.starting.all.into(), all.into()));
        self.used.free_share(capacity, &self.disk, self.told.as_ref()).min(starts)
    }
}
