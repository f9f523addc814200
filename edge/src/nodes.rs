//! What the edge knows of its nodes: their capacity (the pure `Fleet`), and what each agent has said about itself.
//! Shared by all shards; the lock is held for a look-up or a reservation, and never over an await.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use berth_api::edge::NodeView;
use berth_certs::Lifetime;
use berth_common::clock::wall_ms;
use berth_common::ids::{Generation, NodeId, ObjectId};
use berth_common::image::{Architecture, Digest};
use berth_common::spec::Resources;
use berth_common::wire::call::{Capacity, Room, Welcome};
use berth_common::wire::term::Stamp;
use berth_engine::Refused;
use berth_engine::fleet::{Demand, Fleet, Turn, lacks_when_empty};

use crate::terms::{NodeTerm, boot_ms};

/// The nodes of an edge.
pub(crate) struct Nodes {
    state: Mutex<State>,
    /// Who is told of each turn. Without anybody they are lost, as before the edge has its shards.
    turned: OnceLock<Turned>,
}

/// Gets what a demand has waited for. Must not wait.
type Turned = Box<dyn Fn(Turn) + Send + Sync>;

struct State {
    fleet: Fleet,
    nodes: BTreeMap<NodeId, Node>,
}

struct Node {
    address: String,
    /// How many shards are connected to it.
    connections: usize,
    welcome: Option<Welcome>,
    /// Until when its instances go on.
    term: NodeTerm,
    loss: Loss,
    /// What it has last said is taken of its room.
    room: Option<Room>,
    /// The round-trip time, as last measured.
    round_trip: Option<Duration>,
    /// How long the certificate holds that it last showed.
    certificate: Option<Lifetime>,
}

/// Whether a node is lost: it was given up, and not heard of since.
#[derive(Debug, Default)]
struct Loss {
    is_lost: bool,
    /// Shards that have not ended yet what they had there. Until they have, nothing is promised to the node.
    unsettled: usize,
}

/// A node that has just been given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostNode {
    pub(crate) node: NodeId,
    /// When it was last heard of, in milliseconds since 1970.
    pub(crate) heard_ms: u64,
}

/// Nothing may be promised to a node now: it was just given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node was not heard of for longer than its term, and what ran there was given up")]
pub(crate) struct GivenUp;

/// Whether nodes could hold an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holds {
    /// One could.
    Yes,
    /// None of those could that have been connected since the edge started, and there are others.
    Unknown,
    /// None could: what they lack.
    Never(String),
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

fn unix_ms(moment: SystemTime) -> u64 {
    let since_1970 = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a node of an architecture runs images that are built for these; an unknown one is no obstacle.
fn runs(own: Option<Architecture>, architectures: &BTreeSet<Architecture>) -> bool {
    own.is_none_or(|own| architectures.is_empty() || architectures.contains(&own))
}

/// What is left of a node's capacity. Prepared containers take none of it.
fn free(all: &Capacity, room: &Room) -> Capacity {
    Capacity {
        memory_bytes: all.memory_bytes.saturating_sub(room.used.memory_bytes),
        cpu_sixteenths: all.cpu_sixteenths.saturating_sub(room.used.cpu_sixteenths),
        instances: all.instances.saturating_sub(room.used.instances),
    }
}

impl Nodes {
    /// Nodes at these addresses, none of them connected yet.
    pub(crate) fn new(addresses: &BTreeMap<NodeId, String>) -> Self {
        let now_ms = boot_ms();
        let node = |address: &String| Node {
            address: address.clone(),
            connections: 0,
            welcome: None,
            term: NodeTerm::starting(now_ms),
            loss: Loss::default(),
            room: None,
            round_trip: None,
            certificate: None,
        };
        let nodes = addresses.iter().map(|(id, address)| (id.clone(), node(address))).collect();
        // Several edges are not to choose the same nodes.
        let fleet = Fleet::with_seed(fastrand::u64(..));
        Self { state: Mutex::new(State { fleet, nodes }), turned: OnceLock::new() }
    }

    /// A shard has connected to a node.
    pub(crate) fn up(&self, welcome: &Welcome) {
        self.change(|State { fleet, nodes }| {
            let Welcome { node, capacity, disk, draining, .. } = welcome.clone();
            fleet.node_up(node.clone(), capacity, disk, draining);
            fleet.node_is(&node, welcome.architecture);
            fleet.node_starts(&node, welcome.starts_at_once);
            if let Some(node) = nodes.get_mut(&welcome.node) {
                node.connections += 1;
                if welcome.stamp.is_none() {
                    node.term.keeps_none();
                }
                node.welcome = Some(welcome.clone());
            }
        });
    }

    /// A node stops or resumes accepting new instances.
    pub(crate) fn draining(&self, id: &NodeId, draining: bool) {
        self.change(|State { fleet, nodes }| {
            fleet.node_draining(id, draining);
            if let Some(welcome) = nodes.get_mut(id).and_then(|node| node.welcome.as_mut()) {
                welcome.draining = draining;
            }
        });
    }

    /// A node says what is taken of its room.
    pub(crate) fn room(&self, id: &NodeId, room: Room) {
        self.change(|State { fleet, nodes }| {
            fleet.node_room(id, &room);
            if let Some(node) = nodes.get_mut(id) {
                node.room = Some(room);
            }
        });
    }

    /// A shard has lost its connection to a node.
    pub(crate) fn down(&self, id: &NodeId) {
        self.change(|State { fleet, nodes }| {
            let Some(node) = nodes.get_mut(id) else { return };
            node.connections = node.connections.saturating_sub(1);
            if node.connections == 0 {
                node.round_trip = None;
                node.room = None;
                fleet.node_down(id);
            }
        });
    }

    /// A node has told what time it is there.
    pub(crate) fn stamped(&self, id: &NodeId, stamp: Stamp) {
        // Before the lock: whatever delays this from here on makes a term no longer.
        let now_ms = boot_ms();
        if let Some(node) = self.lock().nodes.get_mut(id) {
            node.term.heard(stamp, now_ms);
        }
    }

    /// Until when a node's instances may go on, to be sent to it. None if it keeps no terms.
    pub(crate) fn give_term(&self, id: &NodeId) -> Result<Option<Stamp>, GivenUp> {
        let mut state = self.lock();
        let Some(node) = state.nodes.get_mut(id) else { return Ok(None) };
        if node.loss.unsettled > 0 {
            return Err(GivenUp);
        }
        let until = node.term.give();
        // Only one that was heard of since has a term that is not over.
        node.loss.is_lost &= node.term.is_over(boot_ms());
        Ok(until)
    }

    /// Gives up the nodes on which nothing of this edge runs any more, though they were heard of since it was started. From here on
    /// nothing is promised to them until that many shards have carried the loss out (`loss_carried_out`): so none of what they
    /// decided before can have a node go on with it. While no other node is there that could take what is lost, none is
    /// given up.
    pub(crate) fn lose(&self, shards: usize, later: Duration) -> Vec<LostNode> {
        let (now_ms, wall_ms) = (boot_ms(), wall_ms());
        let over_by_ms = now_ms.saturating_sub(u64::try_from(later.as_millis()).unwrap_or(u64::MAX));
        self.change(|State { fleet, nodes }| {
            if !nodes.values().any(|node| node.connections > 0 && !node.term.is_over(now_ms)) {
                return Vec::new();
            }
            let mut lost = Vec::new();
            for (id, node) in
                nodes.iter_mut().filter(|(_, node)| node.term.is_over(over_by_ms) && !node.loss.is_lost)
            {
                node.loss = Loss { is_lost: true, unsettled: shards };
                fleet.node_down(id);
                let heard_ms = wall_ms.saturating_sub(node.term.silent_ms(now_ms).unwrap_or_default());
                lost.push(LostNode { node: id.clone(), heard_ms });
            }
            lost
        })
    }

    /// A shard has ended what it had on a node that was given up, and will send none of what it had to tell it.
    pub(crate) fn loss_carried_out(&self, id: &NodeId) {
        if let Some(node) = self.lock().nodes.get_mut(id) {
            node.loss.unsettled = node.loss.unsettled.saturating_sub(1);
        }
    }

    /// How long ago a node was heard of, and how long it takes until nothing of this edge runs there, unless a further term is
    /// given. None if it keeps no terms.
    pub(crate) fn silence(&self, id: &NodeId) -> Option<(Duration, Duration)> {
        let now_ms = boot_ms();
        let state = self.lock();
        let term = &state.nodes.get(id)?.term;
        let left_ms = term.over_ms()?.saturating_sub(now_ms);
        Some((Duration::from_millis(term.silent_ms(now_ms)?), Duration::from_millis(left_ms)))
    }

    /// The names of all nodes, in order.
    pub(crate) fn names(&self) -> Vec<NodeId> {
        self.lock().nodes.keys().cloned().collect()
    }

    /// How long it takes until a silent node is given up, as far as is known.
    pub(crate) fn given_up_in(&self, id: &NodeId) -> Option<Duration> {
        self.silence(id).map(|(_, left)| left).filter(|left| !left.is_zero())
    }

    /// A node holds an image, or no longer does.
    pub(crate) fn holds(&self, id: &NodeId, image: Digest, holds: bool) {
        self.lock().fleet.node_holds(id, image, holds);
    }

    /// The connected nodes that accept instances of images that are built for these architectures.
    pub(crate) fn fitting(&self, architectures: &BTreeSet<Architecture>) -> BTreeSet<NodeId> {
        let fits = |node: &Node| {
            let welcome = node.welcome.as_ref().filter(|welcome| node.connections > 0 && !welcome.draining);
            welcome.is_some_and(|welcome| runs(welcome.architecture, architectures))
        };
        let state = self.lock();
        state.nodes.iter().filter(|(_, node)| fits(node)).map(|(id, _)| id.clone()).collect()
    }

    /// Whether a node runs images that are built for these architectures; true while its own is unknown.
    pub(crate) fn can_run(&self, id: &NodeId, architectures: &BTreeSet<Architecture>) -> bool {
        let state = self.lock();
        let welcome = state.nodes.get(id).and_then(|node| node.welcome.as_ref());
        runs(welcome.and_then(|welcome| welcome.architecture), architectures)
    }

    /// Whether any node could hold an instance with these resources and image, even if it has no other. One that is away,
    /// or drained, comes back.
    pub(crate) fn holds_alone(&self, resources: &Resources, architectures: &BTreeSet<Architecture>) -> Holds {
        let state = self.lock();
        let (mut reasons, mut is_one_unknown) = (BTreeSet::new(), state.nodes.is_empty());
        for node in state.nodes.values() {
            let Some(welcome) = &node.welcome else {
                is_one_unknown = true;
                continue;
            };
            if !runs(welcome.architecture, architectures) {
                let names: Vec<String> = architectures.iter().map(|one| format!("linux/{one}")).collect();
                reasons.insert(format!("a processor for {}", names.join(" or ")));
                continue;
            }
            match lacks_when_empty(&welcome.capacity, &welcome.disk, resources) {
                Some(reason) => reasons.insert(reason),
                None => return Holds::Yes,
            };
        }
        match is_one_unknown {
            true => Holds::Unknown,
            false => Holds::Never(reasons.into_iter().collect::<Vec<_>>().join("; ")),
        }
    }

    /// Records the round-trip time to a connected node.
    pub(crate) fn measured(&self, id: &NodeId, round_trip: Duration) {
        let State { fleet, nodes } = &mut *self.lock();
        fleet.node_measured(id, u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
        if let Some(node) = nodes.get_mut(id) {
            node.round_trip = Some(round_trip);
        }
    }

    /// A node has shown a certificate. One that ends soon is told of, once.
    pub(crate) fn certified(&self, id: &NodeId, lifetime: Lifetime) {
        let mut state = self.lock();
        let Some(node) = state.nodes.get_mut(id) else { return };
        let known = node.certificate.replace(lifetime) == Some(lifetime);
        drop(state);
        if !known && lifetime.is_ending(SystemTime::now()) {
            let until = httpdate::fmt_http_date(lifetime.until);
            tracing::warn!(node = %id, until, "the node's certificate ends soon: renew it (`berth certs renew`)");
        }
    }

    /// Whether any node is connected.
    pub(crate) fn is_any_connected(&self) -> bool {
        self.lock().nodes.values().any(|node| node.connections > 0)
    }

    /// The measurements of all nodes, in order of their names.
    pub(crate) fn measures(&self) -> Vec<NodeMeasures> {
        let state = self.lock();
        let measures = |(id, node): (&NodeId, &Node)| NodeMeasures {
            node: id.clone(),
            connected: node.connections > 0,
            draining: node.welcome.as_ref().is_some_and(|welcome| welcome.draining),
            instances: state.fleet.instances_on(id),
            round_trip: node.round_trip,
            certificate: node.certificate,
        };
        state.nodes.iter().map(measures).collect()
    }

    /// Reserves room for an instance that an earlier process of this edge has started.
    pub(crate) fn restore(&self, demand: &Demand, node: &NodeId) {
        self.lock().fleet.restore(demand, node);
    }

    /// Finds and reserves room for an instance. Without an answer its turn is still to come (`on_turn`).
    pub(crate) fn ask(&self, demand: Demand) -> Option<Result<NodeId, Refused>> {
        self.change(|state| state.fleet.ask(demand))
    }

    /// Takes back a demand that waits for its turn, and returns it if it still did. Else its answer is on its way.
    pub(crate) fn withdraw(&self, object: ObjectId) -> Option<Demand> {
        self.lock().fleet.withdraw(object)
    }

    /// Sets who is told of the turns of those that wait.
    pub(crate) fn on_turn(&self, turned: impl Fn(Turn) + Send + Sync + 'static) {
        // Set once, when the shards are made.
        let _ = self.turned.set(Box::new(turned));
    }

    /// An instance runs by now, or has ended.
    pub(crate) fn started(&self, object: ObjectId, generation: Generation) {
        self.change(|state| state.fleet.started(object, generation));
    }

    /// Releases the room of an instance.
    pub(crate) fn release(&self, object: ObjectId, generation: Generation) {
        self.change(|state| state.fleet.release(object, generation));
    }

    /// The region of each node that has one.
    pub(crate) fn regions(&self) -> BTreeMap<NodeId, String> {
        let state = self.lock();
        let region = |node: &Node| node.welcome.as_ref().and_then(|welcome| welcome.region.clone());
        state.nodes.iter().filter_map(|(id, node)| Some((id.clone(), region(node)?))).collect()
    }

    /// All nodes, in order of their names.
    pub(crate) fn views(&self) -> Vec<NodeView> {
        let (state, now) = (self.lock(), SystemTime::now());
        let view = |(id, node): (&NodeId, &Node)| {
            let welcome = node.welcome.as_ref();
            NodeView {
                node: id.clone(),
                address: node.address.clone(),
                connected: node.connections > 0,
                version: welcome.map(|welcome| welcome.version.clone()),
                capacity: welcome.map(|welcome| welcome.capacity),
                disk: welcome.map(|welcome| welcome.disk.clone()),
                instances: state.fleet.instances_on(id),
                draining: welcome.is_some_and(|welcome| welcome.draining),
                free: welcome.zip(node.room.as_ref()).map(|(welcome, room)| free(&welcome.capacity, room)),
                room: node.room.clone(),
                certificate_until_ms: node.certificate.map(|lifetime| unix_ms(lifetime.until)),
                certificate_ends_soon: node.certificate.is_some_and(|lifetime| lifetime.is_ending(now)),
            }
        };
        state.nodes.iter().map(view).collect()
    }

    /// Changes what those may wait for that have no turn yet, and tells whose turn has come.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let turns = state.fleet.turns();
        drop(state);
        if let Some(turned) = self.turned.get() {
            turns.into_iter().for_each(turned);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock would be a bug of the pure fleet; its numbers are still the best there are.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use berth_common::wire::call::{DiskCapacity, DiskLimit};
    use berth_common::wire::term::BootId;
    use berth_store::fixtures::class;

    use super::*;

    fn welcome(node: NodeId, memory_bytes: u64) -> Welcome {
        Welcome {
            node,
            version: String::new(),
            capacity: Capacity { memory_bytes, cpu_sixteenths: 64, instances: 8 },
            disk: DiskCapacity { limit: DiskLimit::Unenforced, ..DiskCapacity::default() },
            draining: false,
            kept_for_ms: None,
            region: None,
            architecture: None,
            stamp: None,
            starts_at_once: None,
            attach: None,
        }
    }

    fn stamp(ms: u64) -> Stamp {
        Stamp { boot: BootId::from_bytes([1; 16]), ms }
    }

    /// Two nodes that are connected and keep terms; that of the first is over by now.
    fn one_silent() -> (Nodes, NodeId) {
        let names: [NodeId; 2] = ["silent".parse().unwrap(), "other".parse().unwrap()];
        let nodes = Nodes::new(&names.clone().map(|node| (node, String::new())).into());
        for name in &names {
            nodes.up(&Welcome { stamp: Some(stamp(1)), ..welcome(name.clone(), 1 << 30) });
            nodes.stamped(name, stamp(1));
            assert!(nodes.give_term(name).unwrap().is_some());
        }
        let [silent, _] = names;
        nodes.lock().nodes.get_mut(&silent).unwrap().term = NodeTerm::silent_since(1);
        (nodes, silent)
    }

    #[test]
    fn a_silent_node_is_given_up_once_and_promised_nothing_until_all_shards_know() {
        let (nodes, silent) = one_silent();
        let lost: Vec<NodeId> = nodes.lose(2, Duration::ZERO).into_iter().map(|lost| lost.node).collect();
        assert_eq!(lost, std::slice::from_ref(&silent));
        assert_eq!(nodes.lose(2, Duration::ZERO), [], "once");
        nodes.stamped(&silent, stamp(90_000));
        assert_eq!(nodes.give_term(&silent), Err(GivenUp));
        nodes.loss_carried_out(&silent);
        assert_eq!(nodes.give_term(&silent), Err(GivenUp));
        nodes.loss_carried_out(&silent);
        assert_eq!(nodes.give_term(&silent), Ok(Some(stamp(105_000))));
        assert_eq!(nodes.lose(2, Duration::ZERO), [], "it is heard of again");
        nodes.lock().nodes.get_mut(&silent).unwrap().term = NodeTerm::silent_since(1);
        assert_eq!(nodes.lose(2, Duration::ZERO).len(), 1, "and may be lost again");
    }

    #[test]
    fn nothing_is_given_up_while_nobody_could_take_it() {
        let (nodes, silent) = one_silent();
        let other = "other".parse().unwrap();
        nodes.down(&other);
        assert_eq!(nodes.lose(1, Duration::ZERO), []);
        nodes.up(&Welcome { stamp: Some(stamp(2)), ..welcome(other, 1 << 30) });
        assert_eq!(nodes.lose(1, Duration::ZERO).len(), 1);
        nodes.loss_carried_out(&silent);
        nodes.give_term(&silent).unwrap();
        assert_eq!(nodes.lose(1, Duration::ZERO), [], "an old stamp brings nothing back");
    }

    #[test]
    fn a_node_that_has_not_come_yet_may_hold_what_the_others_cannot() {
        let (small, large): (NodeId, NodeId) = ("small".parse().unwrap(), "large".parse().unwrap());
        let nodes = Nodes::new(&[&small, &large].map(|node| (node.clone(), String::new())).into());
        let resources = Resources { memory_bytes: 4 << 30, ..class().recipe.resources };
        let holds = || nodes.holds_alone(&resources, &BTreeSet::new());
        assert_eq!(holds(), Holds::Unknown);
        nodes.up(&welcome(small, 1 << 30));
        assert_eq!(holds(), Holds::Unknown);
        nodes.up(&welcome(large.clone(), 2 << 30));
        assert_eq!(holds(), Holds::Never("memory".to_owned()));
        nodes.up(&welcome(large.clone(), 8 << 30));
        [&large; 2].into_iter().for_each(|node| nodes.down(node));
        assert_eq!(holds(), Holds::Yes, "one that is away comes back");
    }
}
