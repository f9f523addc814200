//! What there is: a store, two edges, two nodes, and the messages under way. Moments are kept as the ticks that are left
//! until them, and those that are over for all purposes are alike: so time goes on for ever in finitely many states.

use crate::network::Network;
use crate::rules::{Flaw, Rules};

/// How many edges there are, and how many nodes.
pub(crate) const BOTH: [usize; 2] = [0, 1];

/// Orders the words of edges: those of a higher fence are newer; under one fence, those of a later session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Word {
    pub(crate) fence: u8,
    pub(crate) session: u8,
}

/// How many ticks are left until a moment; less than none if it is past.
pub(crate) type Left = i8;

/// A moment of a node's clock. Moments of different boots have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment {
    pub(crate) boot: u8,
    pub(crate) left: Left,
}

impl Moment {
    pub(crate) fn plus(self, ticks: Left) -> Self {
        Self { left: self.left + ticks, ..self }
    }
}

/// Where the object's instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Placed {
    pub(crate) node: usize,
    pub(crate) generation: u8,
}

/// What is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    /// Of who may write.
    pub(crate) fence: u8,
    pub(crate) placed: Option<Placed>,
    /// The newest.
    pub(crate) generation: u8,
    /// Until when an edge that ends on purpose has given terms.
    pub(crate) windows: [Left; 2],
    /// Whether the first edge counts as gone.
    pub(crate) first_is_gone: bool,
}

/// What an edge knows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    /// Its session with the node; 0 before the first.
    pub(crate) session: u8,
    /// The newest stamp of the node.
    pub(crate) stamp: Option<Moment>,
    /// Until when the last term is that the node may have for the object.
    pub(crate) given: Left,
    /// The session in which the start of the instance was last sent; 0 if it was not.
    pub(crate) started: u8,
}

/// An edge that owns the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    pub(crate) fence: u8,
    /// Until when it may give terms.
    pub(crate) licence: Left,
    pub(crate) placed: Option<Placed>,
    pub(crate) peers: [Peer; 2],
    /// Whether it has given its last terms, and ends.
    pub(crate) ends: bool,
}

impl Edge {
    pub(crate) fn word(&self, node: usize) -> Word {
        Word { fence: self.fence, session: self.peers[node].session }
    }
}

/// An instance on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    pub(crate) generation: u8,
    /// Else it is frozen.
    pub(crate) in_service: bool,
}

/// A node. What it keeps is lost only when it boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) boot: u8,
    /// The newest word that it has heard.
    pub(crate) word: Word,
    /// Until when the term of the object is.
    pub(crate) until: Left,
    pub(crate) instance: Option<Instance>,
}

impl Node {
    pub(crate) fn booted(boot: u8, rules: &Rules) -> Self {
        Self { boot, word: Word::default(), until: rules.over(), instance: None }
    }

    pub(crate) fn serves(&self) -> bool {
        self.instance.is_some_and(|instance| instance.in_service)
    }
}

/// All of it, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) store: Store,
    pub(crate) edges: [Option<Edge>; 2],
    pub(crate) nodes: [Node; 2],
    pub(crate) network: Network,
}

impl World {
    /// The first edge owns the object, and has both nodes' stamps. If an instance runs, it is on node 0.
    pub(crate) fn new(rules: &Rules) -> Self {
        let over = rules.over();
        let stamp = Some(Moment { boot: 0, left: 0 });
        let peer = Peer { session: 1, stamp, given: over, started: 0 };
        let edge = Edge { fence: 1, licence: rules.licence, placed: None, peers: [peer; 2], ends: false };
        let mut world = Self {
            store: Store { fence: 1, placed: None, generation: 0, windows: [over; 2], first_is_gone: false },
            edges: [Some(edge), None],
            nodes: [Node::booted(0, rules); 2],
            network: Network::default(),
        };
        if rules.placed {
            world.place_the_first(rules, edge);
        }
        world
    }

    fn place_the_first(&mut self, rules: &Rules, mut edge: Edge) {
        edge.placed = Some(Placed { node: 0, generation: 1 });
        edge.peers[0] = Peer { given: rules.term, started: 1, ..edge.peers[0] };
        (self.store.placed, self.store.generation) = (edge.placed, 1);
        let instance = Some(Instance { generation: 1, in_service: true });
        self.nodes[0] = Node { boot: 0, word: edge.word(0), until: rules.term, instance };
        self.edges[0] = Some(edge);
    }

    /// A tick passes.
    pub(crate) fn pass(&mut self, rules: &Rules) {
        let (over, oldest) = (rules.over(), rules.oldest_stamp());
        let pass = |left: &mut Left| *left = (*left - 1).max(over);
        self.store.windows.iter_mut().for_each(pass);
        self.nodes.iter_mut().for_each(|node| pass(&mut node.until));
        for edge in self.edges.iter_mut().flatten() {
            edge.licence = (edge.licence - 1).max(0);
            for peer in &mut edge.peers {
                pass(&mut peer.given);
                peer.stamp = peer.stamp.map(|stamp| Moment { left: (stamp.left - 1).max(oldest), ..stamp });
            }
        }
        self.network.pass(over, oldest);
        self.forget_what_is_over(rules);
    }

    /// What an edge knows that can never give terms or write again makes no difference.
    fn forget_what_is_over(&mut self, rules: &Rules) {
        let is_over = self.store.first_is_gone && self.store.fence == 2 && !rules.lacks(Flaw::NoLicence);
        if let Some(first) = self.edges[0].as_mut().filter(|first| is_over && first.licence == 0) {
            let forget = |peer: &mut Peer| (peer.stamp, peer.given) = (None, rules.over());
            first.peers.iter_mut().for_each(forget);
        }
    }

    /// How many instances are in service.
    pub(crate) fn in_service(&self) -> usize {
        self.nodes.iter().filter(|node| node.serves()).count()
    }

    /// Whether what is in service is what the store knows of.
    pub(crate) fn is_as_recorded(&self) -> bool {
        BOTH.into_iter().all(|node| match self.nodes[node].instance {
            Some(Instance { generation, in_service: true }) => {
                self.store.placed == Some(Placed { node, generation })
            }
            _ => true,
        })
    }
}
