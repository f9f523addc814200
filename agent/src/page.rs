//! The agent's page of metrics, listed in `docs/metrics.md`, with its health and readiness.

use std::rc::Rc;

use berth_monitor::{Page, Process, Watched};

use crate::agent::Agent;
use crate::images::ImageCounts;
use crate::metrics::{Census, PHASES};
use crate::runtime::Runtime;

/// The monitor's view of an agent.
pub(crate) struct Watch<R: Runtime> {
    pub(crate) agent: Rc<Agent<R>>,
    pub(crate) process: Process,
}

impl<R: Runtime> Watched for Watch<R> {
    async fn page(&self) -> Page {
        let agent = &self.agent;
        let mut page = Page::default();
        page.gauge("berth_agent_build_info", "The version of the agent; always 1")
            .with(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        page.gauge("berth_agent_draining", "Whether the node takes no new instances")
            .is(agent.instances.is_draining());
        agent.instances.counts().show(&mut page);
        self.room(&mut page, &agent.instances.census());
        agent.counts.show(agent.tunnels.count(), &mut page);
        agent.images.counts().show(&mut page);
        self.process.add_to(&mut page);
        page
    }

    /// The agent is one thread: it lives if it answers.
    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn readiness(&self) -> Result<(), String> {
        if self.agent.instances.is_draining() {
            return Err("the node takes no new instances: it is drained, or the agent is stopping".to_owned());
        }
        self.agent.runtime.check().await.map_err(|error| error.to_string())
    }
}

impl<R: Runtime> Watch<R> {
    fn room(&self, page: &mut Page, census: &Census) {
        let instances =
            page.gauge("berth_agent_instances", "Instances by phase; ended ones until their edge took note");
        for (phase, count) in PHASES.into_iter().zip(census.phases) {
            instances.with(&[("phase", phase)], count);
        }
        let capacity = self.agent.instances.capacity();
        page.gauge("berth_agent_instances_max", "Most instances at once").is(capacity.instances);
        page.gauge("berth_agent_memory_bytes", "Memory for all instances").is(capacity.memory_bytes);
        page.gauge("berth_agent_memory_reserved_bytes", "Memory that living instances may take")
            .is(census.memory_bytes);
        page.gauge("berth_agent_vcpus", "Virtual CPUs for all instances").is(vcpus(capacity.cpu_sixteenths));
        page.gauge("berth_agent_vcpus_reserved", "Virtual CPUs that living instances may take")
            .is(vcpus(census.cpu_sixteenths));
        let disks = self.agent.runtime.disks();
        let slots: u32 = disks.slots.iter().map(|slots| slots.count).sum();
        page.gauge("berth_agent_disk_slots", "Disk slots").is(slots);
        page.gauge("berth_agent_disk_slots_broken", "Disk slots that could not be wiped and are not used")
            .is(disks.broken);
        page.gauge("berth_agent_disk_slots_used", "Disk slots that are taken or being wiped")
            .is(self.agent.runtime.disks_taken());
        page.gauge("berth_agent_held_containers", "Containers that are made and wait for an instance")
            .is(self.agent.runtime.prepared());
    }
}

fn vcpus(sixteenths: u32) -> f64 {
    f64::from(sixteenths) / 16.0
}

impl ImageCounts {
    fn show(&self, page: &mut Page) {
        page.counter("berth_agent_image_fetched_bytes_total", "Bytes of images that came from edges")
            .is(self.fetched_bytes.get());
        page.counter("berth_agent_layers_fetched_total", "Image layers that were fetched and unpacked")
            .is(self.layers.get());
        page.counter("berth_agent_layers_evicted_total", "Image layers that were removed to make room")
            .is(self.evicted.get());
        page.counter("berth_agent_image_failures_total", "Times that an image could not be had")
            .is(self.failed.get());
    }
}
