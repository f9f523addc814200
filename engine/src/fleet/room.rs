//! The room of a node: what is taken of it, whether one more instance fits, and how much is free.

use std::collections::BTreeMap;
use std::fmt;

use berth_common::spec::{AppLimits, Resources};
use berth_common::wire::call::{Capacity, DiskCapacity, DiskLimit, DiskSlots};

/// The resources reserved for all instances of one app.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct AppUse {
    memory_bytes: u64,
    cpu_sixteenths: u32,
    disk_bytes: u64,
}

impl AppUse {
    pub(super) fn plus(self, resources: &Resources) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_add(resources.memory_bytes),
            cpu_sixteenths: self.cpu_sixteenths.saturating_add(resources.cpu_sixteenths),
            disk_bytes: self.disk_bytes.saturating_add(resources.disk_bytes),
        }
    }

    pub(super) fn minus(self, resources: &Resources) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_sub(resources.memory_bytes),
            cpu_sixteenths: self.cpu_sixteenths.saturating_sub(resources.cpu_sixteenths),
            disk_bytes: self.disk_bytes.saturating_sub(resources.disk_bytes),
        }
    }

    /// The resource and limit that are exceeded, if any.
    pub(super) fn exceeds(self, limits: &AppLimits) -> Option<String> {
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

/// What a node lacks for an instance. In words only where somebody reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    Instances,
    Memory,
    Cpu,
    DisksInMemory,
    AnyDisk { bytes: u64 },
    DiskSlots { bytes: u64 },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instances => f.write_str("instances"),
            Self::Memory => f.write_str("memory"),
            Self::Cpu => f.write_str("CPU"),
            Self::DisksInMemory => f.write_str("disks in memory, which this node's kernel cannot give"),
            Self::AnyDisk { bytes } => write!(
                f,
                "disk slots of {bytes} bytes, of which the node has none: as root, `berth-agent prepare --disk-slots` \
                 makes some; or run the agent with --disk-limit unenforced, or give the class disk_in_memory = true"
            ),
            Self::DiskSlots { bytes } => write!(f, "disk slots of {bytes} bytes"),
        }
    }
}

/// What is reserved on a node.
#[derive(Debug, Default, Clone)]
pub(super) struct Used {
    pub(super) memory_bytes: u64,
    pub(super) cpu_sixteenths: u32,
    pub(super) instances: u32,
    /// Number of disks by size in bytes, without those in memory.
    disks: BTreeMap<u64, u32>,
}

impl Used {
    pub(super) fn add(&mut self, resources: &Resources) {
        self.memory_bytes = self.memory_bytes.saturating_add(resources.memory_bytes);
        self.cpu_sixteenths = self.cpu_sixteenths.saturating_add(resources.cpu_sixteenths);
        self.instances = self.instances.saturating_add(1);
        if !resources.disk_in_memory {
            *self.disks.entry(resources.disk_bytes).or_default() += 1;
        }
    }

    pub(super) fn subtract(&mut self, resources: &Resources) {
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

    /// The resource that is lacking for one more such instance, if any.
    pub(super) fn lacks(
        &self,
        capacity: &Capacity,
        disk: &DiskCapacity,
        resources: &Resources,
    ) -> Option<Lack> {
        if self.instances >= capacity.instances {
            Some(Lack::Instances)
        } else if self.memory_bytes.saturating_add(resources.memory_bytes) > capacity.memory_bytes {
            Some(Lack::Memory)
        } else if self.cpu_sixteenths.saturating_add(resources.cpu_sixteenths) > capacity.cpu_sixteenths {
            Some(Lack::Cpu)
        } else {
            self.lacks_disk(disk, resources)
        }
    }

    fn lacks_disk(&self, disk: &DiskCapacity, resources: &Resources) -> Option<Lack> {
        if resources.disk_in_memory {
            return (!disk.in_memory).then_some(Lack::DisksInMemory);
        }
        let bytes = resources.disk_bytes;
        match disk.limit {
            DiskLimit::Unenforced => None,
            DiskLimit::None => Some(Lack::AnyDisk { bytes }),
            _ => (!self.disks_fit(&disk.slots, bytes)).then_some(Lack::DiskSlots { bytes }),
        }
    }

    /// Whether every disk and one more of this size find a slot that is large enough: disks in ascending size each take the
    /// smallest free slot.
    fn disks_fit(&self, slots: &[DiskSlots], more: u64) -> bool {
        let mut left = slots.iter().map(|slots| (slots.bytes, slots.count));
        let mut free = left.next();
        let smaller = self.disks.range(..more).map(|(bytes, count)| (*bytes, *count));
        let larger = self.disks.range(more..).map(|(bytes, count)| (*bytes, *count));
        for (bytes, mut wanted) in smaller.chain([(more, 1)]).chain(larger) {
            while wanted > 0 {
                let Some((size, count)) = &mut free else { return false };
                if *size < bytes || *count == 0 {
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

    /// The free part of what there is least of, from 0 to 1. `told`: what the node says is taken, by all edges.
    pub(super) fn free_share(
        &self,
        capacity: &Capacity,
        disk: &DiskCapacity,
        told: Option<&Capacity>,
    ) -> f64 {
        let told = told.copied().unwrap_or(Capacity { memory_bytes: 0, cpu_sixteenths: 0, instances: 0 });
        let parts = [
            share(self.memory_bytes.max(told.memory_bytes), capacity.memory_bytes),
            share(self.cpu_sixteenths.max(told.cpu_sixteenths).into(), capacity.cpu_sixteenths.into()),
            share(self.instances.max(told.instances).into(), capacity.instances.into()),
            self.free_slots(disk),
        ];
        parts.into_iter().fold(1.0, f64::min)
    }

    fn free_slots(&self, disk: &DiskCapacity) -> f64 {
        if matches!(disk.limit, DiskLimit::Unenforced | DiskLimit::None) {
            return 1.0;
        }
        let used = self.disks.values().map(|count| u64::from(*count)).sum();
        share(used, disk.slots.iter().map(|slots| u64::from(slots.count)).sum())
    }
}

/// The part of `all` that is not used.
#[allow(clippy::cast_precision_loss, reason = "only compared with another such share")]
pub(super) fn share(used: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { all.saturating_sub(used) as f64 / all as f64 }
}
