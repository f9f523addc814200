//! The known nodes, numbered, and which of them have what: a set for each property that a choice asks for.

use std::collections::{BTreeMap, HashMap};

use berth_common::ids::NodeId;
use berth_common::image::Digest;

use super::bits::Bits;
use super::demand::{Constraints, Unmet};
use super::distance::{BANDS, Distance};
use super::node::Node;

/// Sets of constraints that are remembered with their nodes. Beyond that all are found out anew: apps have a few each.
const MAX_REMEMBERED: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Nodes {
    numbers: HashMap<NodeId, usize>,
    all: Vec<Node>,
    /// Those that are connected and take instances.
    pub(super) open: Bits,
    pub(super) unsteady: Bits,
    /// Those from which nothing has come for a while.
    pub(super) silent: Bits,
    pub(super) bands: [Bits; BANDS],
    images: HashMap<Digest, Bits>,
    /// Which nodes meet a set of constraints. Emptied when a property of a node changes.
    meeting: HashMap<Constraints, Bits>,
}

impl Nodes {
    pub(super) fn number(&self, id: &NodeId) -> Option<usize> {
        self.numbers.get(id).copied()
    }

    /// The number of a node. News of it may come before it is up.
    pub(super) fn number_or_new(&mut self, id: &NodeId) -> usize {
        if let Some(number) = self.number(id) {
            return number;
        }
        let number = self.all.len();
        self.numbers.insert(id.clone(), number);
        self.all.push(Node::new(id.clone()));
        self.bands[BANDS - 1].set(number, true);
        self.meeting.clear();
        number
    }

    pub(super) fn get(&self, number: usize) -> &Node {
        &self.all[number]
    }

    pub(super) fn get_mut(&mut self, number: usize) -> &mut Node {
        &mut self.all[number]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.all.iter().enumerate()
    }

    /// Changes what decides whether a node takes instances.
    pub(super) fn update(&mut self, id: &NodeId, change: impl FnOnce(&mut Node)) {
        let number = self.number_or_new(id);
        change(&mut self.all[number]);
        self.open.set(number, self.all[number].is_open());
    }

    /// Changes what constraints ask for.
    pub(super) fn describe(&mut self, id: &NodeId, change: impl FnOnce(&mut Node)) {
        let number = self.number_or_new(id);
        change(&mut self.all[number]);
        self.meeting.clear();
    }

    pub(super) fn set_holds(&mut self, id: &NodeId, image: Digest, holds: bool) {
        let number = self.number_or_new(id);
        let holders = self.images.entry(image).or_default();
        holders.set(number, holds);
        if holders.is_empty() {
            self.images.remove(&image);
        }
    }

    pub(super) fn holders(&self, image: &Digest) -> Option<&Bits> {
        self.images.get(image)
    }

    pub(super) fn set_unsteady(&mut self, id: &NodeId, is_unsteady: bool) {
        let number = self.number_or_new(id);
        self.unsteady.set(number, is_unsteady);
    }

    pub(super) fn set_silent(&mut self, id: &NodeId, is_silent: bool) {
        let number = self.number_or_new(id);
        self.silent.set(number, is_silent);
    }

    /// A round trip to a node took so long, in microseconds; `None`: what was measured is of no use any more.
    pub(super) fn measure(&mut self, id: &NodeId, round_trip_us: Option<u64>) {
        let number = self.number_or_new(id);
        let distance = &mut self.all[number].distance;
        let before = distance.band();
        match round_trip_us {
            Some(us) => distance.measure(us),
            None => *distance = Distance::default(),
        }
        let after = distance.band();
        self.bands[before].set(number, false);
        self.bands[after].set(number, true);
    }

    /// Keeps of a set of nodes those that meet the constraints.
    pub(super) fn keep_meeting(&mut self, nodes: &mut Bits, constraints: &Constraints) {
        if constraints.are_none() {
            return;
        }
        if let Some(meeting) = self.meeting.get(constraints) {
            return nodes.keep(meeting);
        }
        if self.meeting.len() >= MAX_REMEMBERED {
            self.meeting.clear();
        }
        let mut meeting = Bits::default();
        for (number, node) in self.iter() {
            meeting.set(number, node.unmet(constraints).is_none());
        }
        nodes.keep(&meeting);
        self.meeting.insert(constraints.clone(), meeting);
    }

    /// What a constraint is that none of these nodes meets together with those before it, in words.
    pub(super) fn unmet(&self, nodes: &Bits, constraints: &Constraints) -> Option<String> {
        let unmet = |number| self.get(number).unmet(constraints);
        // The last of them that any node fails at: those before it are met somewhere.
        nodes.iter().filter_map(unmet).max_by_key(|unmet| unmet.rank()).map(|unmet| unmet.to_string())
    }

    /// The nodes of each region, and those of none.
    pub(super) fn by_region(&self) -> BTreeMap<Option<&str>, Bits> {
        let mut regions = BTreeMap::<Option<&str>, Bits>::new();
        for (number, node) in self.iter() {
            regions.entry(node.region.as_deref()).or_default().set(number, true);
        }
        regions
    }
}

impl Node {
    pub(super) fn unmet<'a>(&self, constraints: &'a Constraints) -> Option<Unmet<'a>> {
        constraints.unmet(self.architecture, self.region.as_deref(), &self.labels)
    }
}
