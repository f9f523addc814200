//! Writes the counters to the page.

use berth_monitor::Page;

use super::{Counts, InstanceCounts, REASONS};

impl InstanceCounts {
    pub(crate) fn show(&self, page: &mut Page) {
        page.counter("berth_agent_starts_total", "Starts that edges asked for, by what came of them")
            .with(&[("result", "ready")], self.ready.get())
            .with(&[("result", "failed")], self.failed.get())
            .with(&[("result", "refused")], self.refused.get());
        page.histogram(
            "berth_agent_start_duration_seconds",
            "Time from an edge's order until the instance is ready",
        )
        .is(self.took.read());
        let ends = page.counter("berth_agent_ends_total", "Instances that have ended, by what the node saw");
        for (reason, count) in REASONS.into_iter().zip(&self.ends) {
            ends.with(&[("reason", reason)], count.get());
        }
    }
}

impl Counts {
    pub(crate) fn show(&self, tunnels_open: usize, page: &mut Page) {
        page.counter("berth_agent_tunnels_total", "Connections to ports of instances").is(self.tunnels.get());
        page.counter("berth_agent_tunnels_refused_total", "Connections that did not reach their port")
            .is(self.tunnels_refused.get());
        page.counter(
            "berth_agent_tunnels_unread_total",
            "Connections cut as instances did not read enough of them",
        )
        .is(self.tunnels_unread.get());
        page.gauge("berth_agent_tunnels_open", "Connections that are open or being made").is(tunnels_open);
        page.counter("berth_agent_tunnel_received_bytes_total", "Bytes from edges to instances")
            .is(self.traffic.received.get());
        page.counter("berth_agent_tunnel_sent_bytes_total", "Bytes from instances to edges")
            .is(self.traffic.sent.get());
        let edges = self.edges.borrow();
        page.gauge("berth_agent_edges_connected", "Edges that are connected").is(edges.len());
        page.gauge("berth_agent_edge_connections", "Their connections: two for each shard")
            .is(edges.values().sum::<usize>());
    }
}
