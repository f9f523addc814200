//! What the edge knows of its nodes: their capacity (the pure `Fleet`), and what each agent has said about itself.
//! Shared by all shards; the lock is held for a look-up or a reservation, and never over an await.
//!
//! `losses` gives up those that are silent, `members` adds and removes them, `orders` has what operators order of a node, `revoked`
//! cuts off those whose keys count no more, `view` has what operators see of all.

mod losses;
mod members;
mod orders;
mod revoked;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use berth_certs::{KeyHash, Lifetime};
use berth_common::happening::HappeningKind;
use berth_common::ids::{Generation, NodeId, ObjectId};
use berth_common::image::{Architecture, Digest};
use berth_common::spec::Resources;
use berth_common::wire::call::{Room, Welcome};
use berth_common::wire::term::Stamp;
use berth_engine::fleet::{Constraints, Demand, Fleet, Looked, Taken, Turn, lacks_when_empty};
use berth_engine::{Refused, Silence};
pub(crate) use berth_protocol::edge::GivenUp;
use berth_protocol::edge::{Loss, Steadiness};
use tokio::sync::watch;

use crate::happenings::Happenings;
use crate::terms::{NodeTerm, boot_ms};

pub(crate) use self::members::{CannotAdd, Changing, Origin, Place, Places, by_hand};
pub(crate) use self::orders::{Given, StillThere};

/// The nodes of an edge.
pub(crate) struct Nodes {
    state: Mutex<State>,
    /// Changes when terms are to be renewed at once.
    renewals: watch::Sender<()>,
    /// Where all of them are, for those that keep connections to each.
    places: watch::Sender<Places>,
    /// Is told of what happens to them.
    happenings: Happenings,
    /// Who is told of each turn. Without anybody they are lost, as before the edge has its shards.
    turned: OnceLock<Turned>,
}

/// Gets what a demand has waited for. Must not wait.
type Turned = Box<dyn Fn(Turn) + Send + Sync>;

struct State {
    fleet: Fleet,
    nodes: BTreeMap<NodeId, Node>,
    /// When this process was started, by `boot_ms`.
    started_ms: u64,
    /// The term that an earlier process may have given to a node that this one is not configured with.
    earlier: NodeTerm,
    /// The names that an order is being carried out for which adds or removes the node.
    changing: BTreeSet<NodeId>,
    /// The number of the last place that a node was given.
    last_place: u64,
}

struct Node {
    place: Place,
    origin: Origin,
    /// What whoever has added it says of it, besides what its agent says.
    labels: BTreeMap<String, String>,
    /// Whether it is being removed, and no connection counts any more.
    is_leaving: bool,
    /// How many shards are connected to it.
    connections: usize,
    welcome: Option<Welcome>,
    /// Until when its instances go on.
    term: NodeTerm,
    loss: Loss,
    steadiness: Steadiness,
    /// Whether the store knows that it keeps terms.
    is_noted: bool,
    /// When its last connection was lost, by `boot_ms`, if it has been connected.
    left_ms: Option<u64>,
    /// Whether was told that no connection to it is left.
    is_told_silent: bool,
    /// Since when this edge is to put nothing new on it, by order, in milliseconds since 1970.
    drained_ms: Option<u64>,
    /// What it has last said is taken of its room.
    room: Option<Room>,
    /// The round-trip time, as last measured.
    round_trip: Option<Duration>,
    /// How long the certificate holds that it last showed.
    certificate: Option<Lifetime>,
    /// The key that it last showed.
    key: Option<KeyHash>,
    /// Since when its key counts no more, in milliseconds since 1970, unless it has come with another since.
    revoked_ms: Option<u64>,
}

impl Node {
    /// Whether nothing new is to be put on it: its own agent says so, or an operator has ordered it here.
    fn is_draining(&self) -> bool {
        self.drained_ms.is_some() || self.welcome.as_ref().is_some_and(|welcome| welcome.draining)
    }
}

/// A node that has just been given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LostNode {
    pub(crate) node: NodeId,
    pub(crate) silence: Silence,
}

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

/// Whether a node of an architecture runs images that are built for these; an unknown one is no obstacle.
fn runs(own: Option<Architecture>, architectures: &BTreeSet<Architecture>) -> bool {
    own.is_none_or(|own| architectures.is_empty() || architectures.contains(&own))
}

impl Nodes {
    /// Nodes at these addresses, none of them connected yet.
    pub(crate) fn new(addresses: &BTreeMap<NodeId, String>) -> Self {
        let now_ms = boot_ms();
        let node = |address: &String| {
            let place = Place { address: address.clone(), number: 0 };
            Node::new(place, Origin::Flag, NodeTerm::starting(now_ms))
        };
        let nodes: BTreeMap<NodeId, Node> =
            addresses.iter().map(|(id, address)| (id.clone(), node(address))).collect();
        let places = members::places(&nodes);
        // Several edges are not to choose the same nodes.
        let fleet = Fleet::with_seed(fastrand::u64(..));
        Self {
            state: Mutex::new(State {
                fleet,
                nodes,
                started_ms: now_ms,
                earlier: NodeTerm::starting(now_ms),
                changing: BTreeSet::new(),
                last_place: 0,
            }),
            renewals: watch::Sender::new(()),
            places: watch::Sender::new(places),
            happenings: Happenings::default(),
            turned: OnceLock::new(),
        }
    }

    /// The same, and what happens to them is told.
    pub(crate) fn telling(self, happenings: Happenings) -> Self {
        Self { happenings, ..self }
    }

    /// What has happened to nodes and to what they had.
    pub(crate) fn happenings(&self) -> &Happenings {
        &self.happenings
    }

    /// A shard has connected to a node, at the place with this number. False if the node is not there any more: the connection is of
    /// no use.
    pub(crate) fn up(&self, place: u64, welcome: &Welcome) -> bool {
        self.change(|state| {
            let node = state.nodes.get(&welcome.node);
            let Some(node) = node.filter(|node| node.place.number == place && !node.is_leaving) else {
                return false;
            };
            let welcome = node.labelled(welcome.clone());
            self.take_up(state, &welcome);
            true
        })
    }

    fn take_up(&self, State { fleet, nodes, .. }: &mut State, welcome: &Welcome) {
        let drained = nodes.get(&welcome.node).is_some_and(|node| node.drained_ms.is_some());
        let Welcome { node, capacity, disk, draining, .. } = welcome.clone();
        fleet.node_up(node.clone(), capacity, disk, draining || drained);
        fleet.node_is(&node, welcome.architecture);
        fleet.node_described(&node, welcome.region.clone(), welcome.labels.clone());
        fleet.node_starts(&node, welcome.starts_at_once);
        if let Some(node) = nodes.get_mut(&welcome.node) {
            node.connections += 1;
            (node.left_ms, node.is_told_silent, node.revoked_ms) = (None, false, None);
            if node.connections == 1 {
                let version = format!("its agent is of version {}", welcome.version);
                self.happenings.node(HappeningKind::NodeConnected, &welcome.node, version);
            }
            if welcome.stamp.is_none() {
                node.term.keeps_none();
            }
            node.welcome = Some(welcome.clone());
        }
    }

    /// A node stops or resumes accepting new instances.
    pub(crate) fn draining(&self, id: &NodeId, draining: bool) {
        self.change(|State { fleet, nodes, .. }| {
            let Some(node) = nodes.get_mut(id) else { return };
            let welcome = node.welcome.as_mut();
            let before = welcome.map(|welcome| std::mem::replace(&mut welcome.draining, draining));
            if before.is_some_and(|before| before != draining) {
                let (kind, told) = match draining {
                    true => (HappeningKind::NodeDrained, "its agent takes no new containers"),
                    false => (HappeningKind::NodeUndrained, "its agent takes new containers"),
                };
                self.happenings.node(kind, id, told);
            }
            let draining = draining || node.drained_ms.is_some();
            fleet.node_draining(id, draining);
        });
    }

    /// A node says what is taken of its room.
    pub(crate) fn room(&self, id: &NodeId, room: Room) {
        self.change(|State { fleet, nodes, .. }| {
            fleet.node_room(id, &room);
            if let Some(node) = nodes.get_mut(id) {
                node.room = Some(room);
            }
        });
    }

    /// A shard has lost its connection to a node.
    pub(crate) fn down(&self, id: &NodeId) {
        self.change(|State { fleet, nodes, .. }| {
            let Some(node) = nodes.get_mut(id) else { return };
            node.connections = node.connections.saturating_sub(1);
            if node.connections == 0 {
                node.round_trip = None;
                node.room = None;
                node.left_ms = Some(boot_ms());
                fleet.node_down(id);
            }
        });
    }

    /// A connection to a node was lost for this reason. That is told if it was the last one.
    pub(crate) fn silent(&self, id: &NodeId, why: &str) {
        let now_ms = boot_ms();
        let mut state = self.lock();
        let Some(node) = state.nodes.get_mut(id).filter(|node| node.connections == 0) else { return };
        if std::mem::replace(&mut node.is_told_silent, true) {
            return;
        }
        let left_s = node.term.over_ms().map(|over_ms| over_ms.saturating_sub(now_ms).div_ceil(1000));
        let then = left_s.map(|left_s| format!("; what runs there pauses within {left_s} s"));
        self.happenings.node(HappeningKind::NodeSilent, id, format!("{why}{}", then.unwrap_or_default()));
    }

    /// A node has told what time it is there.
    pub(crate) fn stamped(&self, id: &NodeId, stamp: Stamp) {
        // Before the lock: whatever delays this from here on makes a term no longer.
        let now_ms = boot_ms();
        if let Some(node) = self.lock().nodes.get_mut(id) {
            node.term.heard(stamp, now_ms);
        }
    }

    /// An earlier process of this edge has given terms until then.
    pub(crate) fn given_before(&self, until_ms: u64) {
        let mut state = self.lock();
        state.earlier.given_before(until_ms);
        state.nodes.values_mut().for_each(|node| node.term.given_before(until_ms));
    }

    /// Until when earlier processes of this edge may have given terms.
    pub(crate) fn given_before_ms(&self) -> u64 {
        self.lock().earlier.given_over_ms()
    }

    /// Gives all nodes their terms until this moment, at once: this process is about to end.
    pub(crate) fn stretch_terms(&self, until_ms: u64) {
        self.lock().nodes.values_mut().for_each(|node| node.term.stretch(until_ms));
        self.renewals.send_replace(());
    }

    /// Changes when terms are to be renewed at once.
    pub(crate) fn renewals(&self) -> watch::Receiver<()> {
        self.renewals.subscribe()
    }

    /// Whether all that are connected, and keep terms, were heard of since then.
    pub(crate) fn all_heard_since(&self, since_ms: u64) -> bool {
        let silent_ms = boot_ms().saturating_sub(since_ms);
        let state = self.lock();
        let mut connected = state.nodes.values().filter(|node| node.connections > 0);
        connected.all(|node| node.term.silent_ms(boot_ms()).is_none_or(|silent| silent <= silent_ms))
    }

    /// Until when a node's instances may go on, to be sent to it. None if it keeps no terms.
    pub(crate) fn give_term(&self, id: &NodeId) -> Result<Option<Stamp>, GivenUp> {
        let mut state = self.lock();
        let Some(node) = state.nodes.get_mut(id) else { return Ok(None) };
        let was_lost = node.loss.is_lost();
        let until = node.loss.give(&mut node.term, boot_ms())?;
        if was_lost && !node.loss.is_lost() {
            let told = "it is heard of again; what was given up is ended there";
            self.happenings.node(HappeningKind::NodeBack, id, told);
        }
        Ok(until)
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
            let takes_new = node.connections > 0 && !node.is_draining();
            let welcome = node.welcome.as_ref().filter(|_| takes_new);
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
    pub(crate) fn holds_alone(&self, resources: &Resources, constraints: &Constraints) -> Holds {
        let state = self.lock();
        let (mut reasons, mut is_one_unknown) = (BTreeSet::new(), state.nodes.is_empty());
        for node in state.nodes.values() {
            let Some(welcome) = &node.welcome else {
                is_one_unknown = true;
                continue;
            };
            let region = welcome.region.as_deref();
            if let Some(unmet) = constraints.unmet(welcome.architecture, region, &welcome.labels) {
                reasons.insert(unmet.lacking());
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
        let State { fleet, nodes, .. } = &mut *self.lock();
        fleet.node_measured(id, u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX));
        if let Some(node) = nodes.get_mut(id) {
            node.round_trip = Some(round_trip);
        }
    }

    /// Whether nothing has come from a connected node for a while.
    pub(crate) fn quiet(&self, id: &NodeId, is_quiet: bool) {
        self.lock().fleet.node_silent(id, is_quiet);
    }

    /// A node has shown a certificate. One that ends soon is told of, once.
    pub(crate) fn certified(&self, id: &NodeId, lifetime: Lifetime, key: KeyHash) {
        let mut state = self.lock();
        let Some(node) = state.nodes.get_mut(id) else { return };
        node.key = Some(key);
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

    /// Time goes on: what has been starting for long keeps no turn.
    pub(crate) fn tick(&self) {
        self.change(|state| state.fleet.tick());
    }

    /// What a choice for this demand makes of each node now.
    pub(crate) fn look(&self, demand: &Demand) -> Vec<Looked> {
        self.lock().fleet.look(demand)
    }

    /// How the node of an object's instance was chosen, if this process has done so.
    pub(crate) fn taken(&self, object: ObjectId) -> Option<Taken> {
        self.lock().fleet.taken(object)
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
    use berth_common::wire::call::{Capacity, DiskCapacity, DiskLimit};
    use berth_common::wire::term::BootId;
    use berth_store::fixtures::class;

    use super::*;

    pub(super) fn welcome(node: NodeId, memory_bytes: u64) -> Welcome {
        Welcome {
            node,
            version: String::new(),
            capacity: Capacity { memory_bytes, cpu_sixteenths: 64, instances: 8 },
            disk: DiskCapacity { limit: DiskLimit::Unenforced, ..DiskCapacity::default() },
            draining: false,
            kept_for_ms: None,
            region: None,
            labels: Default::default(),
            architecture: None,
            stamp: None,
            starts_at_once: None,
            attach: None,
        }
    }

    pub(super) fn stamp(ms: u64) -> Stamp {
        Stamp { boot: BootId::from_bytes([1; 16]), ms }
    }

    /// The term of one that was heard of once, when this machine had just started.
    fn silent_since_start() -> NodeTerm {
        let mut term = NodeTerm::starting(0);
        term.heard(stamp(1), 1);
        term.give();
        term
    }

    /// Two nodes that are connected and keep terms; that of the first is over by now.
    pub(super) fn one_silent() -> (Nodes, NodeId) {
        let names: [NodeId; 2] = ["silent".parse().unwrap(), "other".parse().unwrap()];
        let nodes = Nodes::new(&names.clone().map(|node| (node, String::new())).into());
        for name in &names {
            nodes.up(0, &Welcome { stamp: Some(stamp(1)), ..welcome(name.clone(), 1 << 30) });
            nodes.stamped(name, stamp(1));
            assert!(nodes.give_term(name).unwrap().is_some());
        }
        let [silent, _] = names;
        nodes.lock().nodes.get_mut(&silent).unwrap().term = silent_since_start();
        (nodes, silent)
    }

    #[test]
    fn a_silent_node_is_given_up_once_and_promised_nothing_until_all_shards_know() {
        let (nodes, silent) = one_silent();
        let lost: Vec<NodeId> = nodes.lose(2).into_iter().map(|lost| lost.node).collect();
        assert_eq!(lost, std::slice::from_ref(&silent));
        assert_eq!(nodes.lose(2), [], "once");
        nodes.stamped(&silent, stamp(90_000));
        assert_eq!(nodes.give_term(&silent), Err(GivenUp));
        nodes.loss_carried_out(&silent);
        assert_eq!(nodes.give_term(&silent), Err(GivenUp));
        nodes.loss_carried_out(&silent);
        assert_eq!(nodes.give_term(&silent), Ok(Some(stamp(105_000))));
        assert_eq!(nodes.lose(2), [], "it is heard of again");
        nodes.lock().nodes.get_mut(&silent).unwrap().term = silent_since_start();
        assert_eq!(nodes.lose(2).len(), 1, "and may be lost again");
    }

    #[test]
    fn nothing_is_given_up_while_nobody_could_take_it() {
        let (nodes, silent) = one_silent();
        let other = "other".parse().unwrap();
        nodes.down(&other);
        assert_eq!(nodes.lose(1), []);
        nodes.up(0, &Welcome { stamp: Some(stamp(2)), ..welcome(other, 1 << 30) });
        assert_eq!(nodes.lose(1).len(), 1);
        nodes.loss_carried_out(&silent);
        nodes.give_term(&silent).unwrap();
        assert_eq!(nodes.lose(1), [], "an old stamp brings nothing back");
    }

    #[test]
    fn a_node_that_has_not_come_yet_may_hold_what_the_others_cannot() {
        let (small, large): (NodeId, NodeId) = ("small".parse().unwrap(), "large".parse().unwrap());
        let nodes = Nodes::new(&[&small, &large].map(|node| (node.clone(), String::new())).into());
        let resources = Resources { memory_bytes: 4 << 30, ..class().recipe.resources };
        let holds = || nodes.holds_alone(&resources, &Constraints::default());
        assert_eq!(holds(), Holds::Unknown);
        nodes.up(0, &welcome(small, 1 << 30));
        assert_eq!(holds(), Holds::Unknown);
        nodes.up(0, &welcome(large.clone(), 2 << 30));
        assert_eq!(holds(), Holds::Never("memory".to_owned()));
        nodes.up(0, &welcome(large.clone(), 8 << 30));
        [&large; 2].into_iter().for_each(|node| nodes.down(node));
        assert_eq!(holds(), Holds::Yes, "one that is away comes back");
    }
}
