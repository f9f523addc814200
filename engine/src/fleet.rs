//! Placement: the known nodes, the room reserved on them, and the choice of a node for the next instance.
//!
//! All shards of an edge share one fleet. A reservation only keeps the shards from overbooking a node; the agent may
//! still refuse the start.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use berth_common::ids::{AppName, ClassName, Generation, NodeId, ObjectId, ObjectKey};
use berth_common::image::{Architecture, Digest};
use berth_common::spec::{AppLimits, ClassSpec, Resources};
use berth_common::wire::call::{Capacity, DiskCapacity, DiskLimit, DiskSlots, Room};

use crate::refused::Refused;

/// The room that one instance needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The object.
    pub object: ObjectId,
    /// The generation that the instance will be.
    pub generation: Generation,
    /// The limits of the instance, all of which are reserved.
    pub resources: Resources,
    /// Its class, for the class's limit.
    pub class: (AppName, ClassName),
    /// Most instances that the class may have.
    pub max_instances: Option<u32>,
    /// The limits of all instances of the app together.
    pub limits: AppLimits,
    /// Its image.
    pub image: Digest,
    /// The architectures that the image runs on; empty if not known.
    pub architectures: BTreeSet<Architecture>,
    /// The nodes that have refused it.
    pub refused_by: BTreeSet<NodeId>,
}

impl Demand {
    /// The demand of an instance of this class for this object.
    pub fn of(key: &ObjectKey, generation: Generation, class: &ClassSpec) -> Self {
        Self {
            object: key.id(),
            generation,
            resources: class.recipe.resources,
            class: (key.app.clone(), key.class.clone()),
            max_instances: class.max_instances,
            limits: class.of_app.limits,
            image: class.recipe.image.digest,
            architectures: class.recipe.image.architectures.clone(),
            refused_by: BTreeSet::new(),
        }
    }
}

/// What a node lacks for one such instance even while it has no other, if anything: it could never hold one.
pub fn lacks_when_empty(capacity: &Capacity, disk: &DiskCapacity, resources: &Resources) -> Option<String> {
    Used::default().lacks(capacity, disk, resources)
}

/// The limit of its app that one such instance exceeds by itself, if any.
pub fn exceeds_alone(resources: &Resources, limits: &AppLimits) -> Option<String> {
    AppUse::default().plus(resources).exceeds(limits)
}

/// The nodes and the reservations on them.
#[derive(Debug, Default)]
pub struct Fleet {
    nodes: BTreeMap<NodeId, Node>,
    reservations: HashMap<ObjectId, Reservation>,
    classes: HashMap<(AppName, ClassName), u32>,
    apps: HashMap<AppName, AppUse>,
}

/// The resources reserved for all instances of one app.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct AppUse {
    memory_bytes: u64,
    cpu_sixteenths: u32,
    disk_bytes: u64,
}

#[derive(Debug, Default)]
struct Node {
    /// `None` while the node is not connected.
    capacity: Option<Capacity>,
    disk: DiskCapacity,
    draining: bool,
    /// The architecture of its programs, if reported.
    architecture: Option<Architecture>,
    /// The images that it has.
    images: HashSet<Digest>,
    used: Used,
    /// What it has last said that instances of all edges take.
    told: Option<Capacity>,
}

#[derive(Debug, Default, Clone)]
struct Used {
    memory_bytes: u64,
    cpu_sixteenths: u32,
    instances: u32,
    /// Number of disks by size in bytes, without those in memory.
    disks: BTreeMap<u64, u32>,
}

#[derive(Debug)]
struct Reservation {
    node: NodeId,
    demand: Demand,
}

impl Fleet {
    /// No nodes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that a node is connected and has this capacity.
    pub fn node_up(&mut self, id: NodeId, capacity: Capacity, disk: DiskCapacity, draining: bool) {
        let node = self.nodes.entry(id).or_default();
        node.capacity = Some(capacity);
        node.disk = disk;
        node.draining = draining;
    }

    /// Records whether a node accepts new instances.
    pub fn node_draining(&mut self, id: &NodeId, draining: bool) {
        self.node(id).draining = draining;
    }

    /// Records the architecture of a node.
    pub fn node_is(&mut self, id: &NodeId, architecture: Option<Architecture>) {
        self.node(id).architecture = architecture;
    }

    /// Records whether a node has an image.
    pub fn node_holds(&mut self, id: &NodeId, image: Digest, holds: bool) {
        let images = &mut self.node(id).images;
        if holds {
            images.insert(image);
        } else {
            images.remove(&image);
        }
    }

    /// What is known of a node. News of it may come before it is up.
    fn node(&mut self, id: &NodeId) -> &mut Node {
        self.nodes.entry(id.clone()).or_default()
    }

    /// Records what a node says is taken of its room. That is a little old and counts other edges' instances, so no request
    /// is refused because of it: the node that says that it is full is asked last. Slots that it does not name cannot be used.
    pub fn node_room(&mut self, id: &NodeId, room: &Room) {
        let node = self.node(id);
        node.told = Some(room.used);
        if matches!(node.disk.limit, DiskLimit::Loop | DiskLimit::ProjectQuota) {
            node.disk.slots =
                room.slots.iter().map(|slots| DiskSlots { bytes: slots.bytes, count: slots.count }).collect();
        }
    }

    /// Records that a node is not connected. Its reservations stay: its instances may still run.
    pub fn node_down(&mut self, id: &NodeId) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.capacity = None;
            node.told = None;
        }
    }

    /// Reserves room for an instance that is on a node already.
    pub fn restore(&mut self, demand: &Demand, node: &NodeId) {
        self.release(demand.object, Generation(u64::MAX));
        self.book(demand.clone(), node.clone());
    }

    /// Chooses a node with room and reserves it. Nodes that say that they are full come
    /// last; before them those that must fetch the image; among
    /// equals the one with the fewest instances wins, so that instances spread. An object has one reservation at most:
    /// an older one is released.
    pub fn reserve(&mut self, demand: &Demand) -> Result<NodeId, Refused> {
        self.release(demand.object, Generation(u64::MAX));
        if let Some(limit) = demand.max_instances
            && self.classes.get(&demand.class).copied().unwrap_or(0) >= limit
        {
            return Err(Refused::ClassLimit { limit });
        }
        let used = self.apps.get(&demand.class.0).copied().unwrap_or_default().plus(&demand.resources);
        if let Some(what) = used.exceeds(&demand.limits) {
            return Err(Refused::AppLimit { what });
        }
        let node = self.choose(demand)?;
        self.book(demand.clone(), node.clone());
        Ok(node)
    }

    /// Releases the reservation of an object for this or an earlier generation.
    pub fn release(&mut self, object: ObjectId, generation: Generation) {
        let Entry::Occupied(held) = self.reservations.entry(object) else { return };
        if held.get().demand.generation > generation {
            return;
        }
        let Reservation { node, demand } = held.remove();
        self.unbook(&demand, &node);
    }

    /// The reverse of `book`.
    fn unbook(&mut self, demand: &Demand, node: &NodeId) {
        let node = self.nodes.get_mut(node).expect("a reservation is on a known node");
        node.used.subtract(&demand.resources);
        let count = self.classes.get_mut(&demand.class).expect("a reservation counts for its class");
        *count -= 1;
        if *count == 0 {
            self.classes.remove(&demand.class);
        }
        let used = self.apps.get_mut(&demand.class.0).expect("a reservation counts for its app");
        *used = used.minus(&demand.resources);
        if *used == AppUse::default() {
            self.apps.remove(&demand.class.0);
        }
    }

    /// How many instances are reserved on a node.
    pub fn instances_on(&self, node: &NodeId) -> u32 {
        self.nodes.get(node).map_or(0, |node| node.used.instances)
    }

    fn choose(&self, demand: &Demand) -> Result<NodeId, Refused> {
        let mut lacking = None;
        let mut best: Option<(&NodeId, (bool, bool, u32))> = None;
        for (id, node) in &self.nodes {
            let able = !node.draining && !demand.refused_by.contains(id);
            let Some(capacity) = node.capacity.filter(|_| able) else { continue };
            if let Some(what) = node.lacks(&capacity, demand) {
                lacking = Some(what);
                continue;
            }
            let full = node.says_that_it_is_full(&capacity, &demand.resources);
            let rank = (full, !node.images.contains(&demand.image), node.used.instances);
            if best.is_none_or(|(_, least)| rank < least) {
                best = Some((id, rank));
            }
        }
        match (best, lacking) {
            (Some((id, _)), _) => Ok(id.clone()),
            (None, Some(what)) => Err(Refused::NoCapacity { what }),
            (None, None) => Err(Refused::NoNode),
        }
    }

    fn book(&mut self, demand: Demand, node: NodeId) {
        self.nodes.entry(node.clone()).or_default().used.add(&demand.resources);
        *self.classes.entry(demand.class.clone()).or_default() += 1;
        let app = self.apps.entry(demand.class.0.clone()).or_default();
        *app = app.plus(&demand.resources);
        self.reservations.insert(demand.object, Reservation { node, demand });
    }
}

impl Node {
    fn says_that_it_is_full(&self, capacity: &Capacity, wanted: &Resources) -> bool {
        self.told.is_some_and(|told| {
            told.instances >= capacity.instances
                || told.memory_bytes.saturating_add(wanted.memory_bytes) > capacity.memory_bytes
                || told.cpu_sixteenths.saturating_add(wanted.cpu_sixteenths) > capacity.cpu_sixteenths
        })
    }

    /// The resource that is lacking for this demand, if any.
    fn lacks(&self, capacity: &Capacity, demand: &Demand) -> Option<String> {
        let made_for = &demand.architectures;
        let runs = self.architecture.is_none_or(|own| made_for.is_empty() || made_for.contains(&own));
        if !runs {
            let names: Vec<String> = made_for.iter().map(|one| format!("linux/{one}")).collect();
            return Some(format!("none runs what the image is made for ({})", names.join(", ")));
        }
        self.used.lacks(capacity, &self.disk, &demand.resources)
    }
}

impl AppUse {
    fn plus(self, resources: &Resources) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_add(resources.memory_bytes),
            cpu_sixteenths: self.cpu_sixteenths.saturating_add(resources.cpu_sixteenths),
            disk_bytes: self.disk_bytes.saturating_add(resources.disk_bytes),
        }
    }

    fn minus(self, resources: &Resources) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_sub(resources.memory_bytes),
            cpu_sixteenths: self.cpu_sixteenths.saturating_sub(resources.cpu_sixteenths),
            disk_bytes: self.disk_bytes.saturating_sub(resources.disk_bytes),
        }
    }

    /// The resource and limit that are exceeded, if any.
    fn exceeds(self, limits: &AppLimits) -> Option<String> {
        if self.memory_bytes > limits.memory_bytes {
            Some(format!("{} bytes of memory", limits.memory_bytes))
        } else if self.cpu_sixteenths > limits.cpu_sixteenths {
            Some(format!("{} vCPU", f64::from(limits.cpu_sixteenths) / 16.0))
        } else if self.disk_bytes > limits.disk_bytes {
            Some(format!("{} bytes of disk", limits.disk_bytes))
        } else {
            None
        }
    }
}

impl Used {
    fn add(&mut self, resources: &Resources) {
        self.memory_bytes = self.memory_bytes.saturating_add(resources.memory_bytes);
        self.cpu_sixteenths = self.cpu_sixteenths.saturating_add(resources.cpu_sixteenths);
        self.instances = self.instances.saturating_add(1);
        if !resources.disk_in_memory {
            *self.disks.entry(resources.disk_bytes).or_default() += 1;
        }
    }

    fn subtract(&mut self, resources: &Resources) {
        self.memory_bytes = self.memory_bytes.saturating_sub(resources.memory_bytes);
        self.cpu_sixteenths = self.cpu_sixteenths.saturating_sub(resources.cpu_sixteenths);
        self.instances = self.instances.saturating_sub(1);
        if resources.disk_in_memory {
            return;
        }
        if let Some(count) = self.disks.get_mut(&resources.disk_bytes) {
            *count -= 1;
            if *count == 0 {
                self.disks.remove(&resources.disk_bytes);
            }
        }
    }

    /// The resource that is lacking for this demand, if any.
    fn lacks(&self, capacity: &Capacity, disk: &DiskCapacity, resources: &Resources) -> Option<String> {
        let mut with = self.clone();
        with.add(resources);
        if with.instances > capacity.instances {
            Some("instances".to_owned())
        } else if with.memory_bytes > capacity.memory_bytes {
            Some("memory".to_owned())
        } else if with.cpu_sixteenths > capacity.cpu_sixteenths {
            Some("CPU".to_owned())
        } else {
            with.lacks_disk(disk, resources)
        }
    }

    fn lacks_disk(&self, disk: &DiskCapacity, resources: &Resources) -> Option<String> {
        if resources.disk_in_memory {
            return (!disk.in_memory)
                .then(|| "disks in memory, which this node's kernel cannot give".to_owned());
        }
        let bytes = resources.disk_bytes;
        match disk.limit {
            DiskLimit::Unenforced => None,
            DiskLimit::None => Some(format!(
                "disk slots of {bytes} bytes, of which the node has none: as root, `berth-agent prepare --disk-slots` \
                 makes some; or run the agent with --disk-limit unenforced, or give the class disk_in_memory = true"
            )),
            _ => (!self.disks_fit(&disk.slots)).then(|| format!("disk slots of {bytes} bytes")),
        }
    }

    /// Whether every disk finds a slot that is large enough: disks in ascending size each take the smallest free slot.
    fn disks_fit(&self, slots: &[DiskSlots]) -> bool {
        let mut left = slots.iter().map(|slots| (slots.bytes, slots.count));
        let mut free = left.next();
        for (bytes, count) in &self.disks {
            let mut wanted = *count;
            while wanted > 0 {
                let Some((size, count)) = &mut free else { return false };
                if *size < *bytes || *count == 0 {
                    free = left.next();
                    continue;
                }
                let taken = wanted.min(*count);
                wanted -= taken;
                *count -= taken;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
