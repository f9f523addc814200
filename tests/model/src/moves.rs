//! What can happen next.

use crate::network::Message;
use crate::rules::{Flaw, Rules, Succession};
use crate::world::{BOTH, Edge, World};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Time goes on.
    Tick,
    /// A node freezes its instance, whose term is over or about to be.
    Freeze {
        /// The node.
        node: usize,
    },
    /// A node's machine starts anew.
    Boot {
        /// The node.
        node: usize,
    },
    /// A node's agent starts anew. Nothing that matters is lost, so this is looked at only where it is.
    RestartAgent {
        /// The node.
        node: usize,
    },
    /// A node tells its clock, and is heard.
    Stamp {
        /// The node.
        node: usize,
        /// Whom.
        edge: usize,
    },
    /// A message is lost.
    Lose(Message),
    /// A message arrives.
    Deliver(Message),
    /// The store confirms the first edge's licence.
    Confirm,
    /// The store lets the first edge count as gone: too early, or too late.
    CountAsGone,
    /// The second edge becomes the owner.
    TakeOver,
    /// The first edge writes that it gives long terms, and means to end.
    Farewell,
    /// An edge opens a new session with a node, and asks for its account.
    Connect {
        /// The edge.
        edge: usize,
        /// The node.
        node: usize,
    },
    /// An edge prolongs a node's terms.
    Renew {
        /// The edge.
        edge: usize,
        /// The node.
        node: usize,
    },
    /// An edge decides where the object's next instance is, and writes that.
    Place {
        /// The edge.
        edge: usize,
        /// The node.
        node: usize,
    },
    /// An edge sends the start of the instance.
    Start {
        /// The edge.
        edge: usize,
    },
    /// An edge writes that the instance is gone, since its node was silent for long enough.
    GiveUp {
        /// The edge.
        edge: usize,
    },
}

impl World {
    /// All that can happen now.
    pub(crate) fn moves(&self, rules: &Rules, moves: &mut Vec<Move>) {
        if self.all_are_frozen_in_time(rules) {
            moves.push(Move::Tick);
        }
        BOTH.into_iter().for_each(|node| self.moves_of_node(rules, node, moves));
        self.moves_of_succession(rules, moves);
        for (index, edge) in self.edges.iter().enumerate() {
            if let Some(edge) = edge {
                self.moves_of_edge(rules, index, edge, moves);
            }
        }
        for message in self.network.messages() {
            moves.extend([Move::Deliver(message), Move::Lose(message)]);
        }
    }

    /// Whether time can go on without a node freezing later than it may.
    fn all_are_frozen_in_time(&self, rules: &Rules) -> bool {
        self.nodes.iter().all(|node| !node.serves() || node.until - 1 > -rules.late)
    }

    fn moves_of_node(&self, rules: &Rules, index: usize, moves: &mut Vec<Move>) {
        let node = &self.nodes[index];
        if node.serves() && node.until <= rules.early {
            moves.push(Move::Freeze { node: index });
        }
        if node.boot < rules.boots {
            moves.push(Move::Boot { node: index });
        }
        if rules.lacks(Flaw::AgentForgets) {
            moves.push(Move::RestartAgent { node: index });
        }
        // That a stamp is heard at once is no restriction: an edge that heard it later would do nothing that it cannot do
        // with it before.
        let stamp = Some(self.stamp(index));
        let is_news = |edge: &Option<Edge>| {
            edge.is_some_and(|edge| edge.peers[index].stamp < stamp && edge.cares_for(rules, index))
        };
        for edge in BOTH.into_iter().filter(|edge| is_news(&self.edges[*edge])) {
            moves.push(Move::Stamp { node: index, edge });
        }
    }

    fn moves_of_succession(&self, rules: &Rules, moves: &mut Vec<Move>) {
        let first = self.edges[0].filter(|_| self.store.fence == 1);
        match rules.succession {
            Succession::Nobody => {}
            Succession::NextProcess => {
                let Some(first) = first else { return };
                moves.push(Move::TakeOver);
                if rules.window > 0 && !first.ends {
                    moves.push(Move::Farewell);
                }
            }
            Succession::OtherEdge if self.store.first_is_gone => moves.extend(first.map(|_| Move::TakeOver)),
            Succession::OtherEdge => {
                moves.push(Move::CountAsGone);
                if first.is_some_and(|first| first.licence < rules.licence) {
                    moves.push(Move::Confirm);
                }
            }
        }
    }

    fn moves_of_edge(&self, rules: &Rules, index: usize, edge: &Edge, moves: &mut Vec<Move>) {
        BOTH.into_iter().for_each(|node| self.moves_to_node(rules, index, edge, node, moves));
        let Some(placed) = edge.placed.filter(|_| !edge.ends) else { return };
        let peer = &edge.peers[placed.node];
        if peer.given <= -rules.margin() {
            moves.push(Move::GiveUp { edge: index });
        }
        let is_to_be_sent = peer.session > peer.started && peer.stamp.is_some();
        if is_to_be_sent && edge.may_give(rules) && self.has_room(rules) {
            moves.push(Move::Start { edge: index });
        }
    }

    fn moves_to_node(&self, rules: &Rules, index: usize, edge: &Edge, node: usize, moves: &mut Vec<Move>) {
        let peer = &edge.peers[node];
        if self.has_room(rules) && peer.session < rules.sessions[node] && !edge.ends {
            moves.push(Move::Connect { edge: index, node });
        }
        if peer.session == 0 || peer.stamp.is_none() || !edge.may_give(rules) {
            return;
        }
        if edge.cares_for(rules, node)
            && self.has_room(rules)
            && self.term_for(rules, edge, node) > peer.given
        {
            moves.push(Move::Renew { edge: index, node });
        }
        if edge.placed.is_none() && !edge.ends && self.store.generation < rules.generations {
            moves.push(Move::Place { edge: index, node });
        }
    }

    fn has_room(&self, rules: &Rules) -> bool {
        self.network.messages().count() < rules.messages
    }
}

impl Edge {
    fn cares_for(&self, rules: &Rules, node: usize) -> bool {
        rules.all_nodes || self.placed.is_none_or(|placed| placed.node == node)
    }

    /// Whether it may give terms. Nobody takes anything over from the second.
    pub(crate) fn may_give(&self, rules: &Rules) -> bool {
        let is_not_superseded = rules.succession != Succession::OtherEdge || self.fence == 2;
        is_not_superseded || rules.lacks(Flaw::NoLicence) || self.licence > 0
    }
}
