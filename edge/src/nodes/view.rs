//! What operators and metrics see of the nodes.

use std::time::{Duration, SystemTime};

use berth_api::edge::{NodeOrigin, NodeView};
use berth_certs::Lifetime;
use berth_common::ids::NodeId;
use berth_common::wire::call::{Capacity, Room};
use berth_store::AddedBy;

use super::{Node, Nodes, Origin, State};
use crate::terms::boot_ms;

fn unix_ms(moment: SystemTime) -> u64 {
    let since_1970 = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// What is left of a node's capacity. Prepared containers take none of it.
fn free(all: &Capacity, room: &Room) -> Capacity {
    Capacity {
        memory_bytes: all.memory_bytes.saturating_sub(room.used.memory_bytes),
        cpu_sixteenths: all.cpu_sixteenths.saturating_sub(room.used.cpu_sixteenths),
        instances: all.instances.saturating_sub(room.used.instances),
    }
}

/// Measurements of one node.
#[derive(Debug, Clone)]
pub(crate) struct NodeMeasures {
    pub(crate) node: NodeId,
    pub(crate) connected: bool,
    pub(crate) draining: bool,
    pub(crate) instances: u32,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) certificate: Option<Lifetime>,
}

impl Nodes {
    /// The measurements of all nodes, in order of their names.
    pub(crate) fn measures(&self) -> Vec<NodeMeasures> {
        let state = self.lock();
        let measures = |(id, node): (&NodeId, &Node)| NodeMeasures {
            node: id.clone(),
            connected: node.connections > 0,
            draining: node.is_draining(),
            instances: state.fleet.instances_on(id),
            round_trip: node.round_trip,
            certificate: node.certificate,
        };
        state.nodes.iter().map(measures).collect()
    }

    /// All nodes in order of their names; behind them those on which there may still be instances, though this edge is not configured
    /// with them any more.
    pub(crate) fn views(&self) -> Vec<NodeView> {
        let (now, now_ms) = (SystemTime::now(), boot_ms());
        let state = self.lock();
        let known = state.nodes.iter().map(|(id, node)| view(&state, (id, node), now, now_ms));
        let others = state.fleet.occupied().filter(|(id, _)| !state.nodes.contains_key(*id));
        known.chain(others.map(|(id, instances)| left(id, instances))).collect()
    }
}

fn view(state: &State, (id, node): (&NodeId, &Node), now: SystemTime, now_ms: u64) -> NodeView {
    let welcome = node.welcome.as_ref();
    let silent_ms =
        node.term.silent_ms(now_ms).or(node.left_ms.map(|left_ms| now_ms.saturating_sub(left_ms)));
    let unsteady_ms = node.steadiness.unsteady_until_ms().map(|until_ms| until_ms.saturating_sub(now_ms));
    NodeView {
        node: id.clone(),
        address: node.place.address.clone(),
        configured: true,
        origin: Some(origin(node.origin)),
        connected: node.connections > 0,
        lost: node.loss.is_lost(),
        silent_ms,
        term_left_ms: node.term.over_ms().map(|over_ms| over_ms.saturating_sub(now_ms)),
        unsteady_until_ms: unsteady_ms.map(|left_ms| unix_ms(now).saturating_add(left_ms)),
        version: welcome.map(|welcome| welcome.version.clone()),
        capacity: welcome.map(|welcome| welcome.capacity),
        disk: welcome.map(|welcome| welcome.disk.clone()),
        instances: state.fleet.instances_on(id),
        revoked_ms: node.revoked_ms,
        draining: node.is_draining(),
        drained_since_ms: node.drained_ms,
        free: welcome.zip(node.room.as_ref()).map(|(welcome, room)| free(&welcome.capacity, room)),
        room: node.room.clone(),
        certificate_until_ms: node.certificate.map(|lifetime| unix_ms(lifetime.until)),
        certificate_ends_soon: node.certificate.is_some_and(|lifetime| lifetime.is_ending(now)),
    }
}

fn origin(origin: Origin) -> NodeOrigin {
    match origin {
        Origin::Flag => NodeOrigin::Flag,
        Origin::Added(AddedBy::Hand) => NodeOrigin::Hand,
        Origin::Added(AddedBy::Join) => NodeOrigin::Join,
    }
}

/// A node that an earlier process of this edge was configured with.
fn left(id: &NodeId, instances: u32) -> NodeView {
    NodeView {
        node: id.clone(),
        address: String::new(),
        configured: false,
        origin: None,
        connected: false,
        lost: false,
        silent_ms: None,
        term_left_ms: None,
        unsteady_until_ms: None,
        version: None,
        capacity: None,
        disk: None,
        instances,
        revoked_ms: None,
        draining: false,
        drained_since_ms: None,
        room: None,
        free: None,
        certificate_until_ms: None,
        certificate_ends_soon: false,
    }
}
