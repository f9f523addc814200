//! What each move does.

use stateright::{Model, Property};

use crate::moves::Move;
use crate::network::{Account, Content, Message, Order};
use crate::rules::{Flaw, Rules, Succession};
use crate::world::{BOTH, Edge, Instance, Left, Moment, Node, Peer, Placed, Word, World};

/// At most one instance is in service.
pub(crate) const ONE_IN_SERVICE: &str = "one in service";
/// What is in service is what the store knows of.
pub(crate) const AS_RECORDED: &str = "in service as recorded";
/// After node 0 was given up, the object is in service on node 1.
pub(crate) const MOVES: &str = "in service elsewhere";
/// What was frozen is resumed.
pub(crate) const RESUMES: &str = "resumed";
/// A node that is back is told to end what was replaced.
pub(crate) const ENDS_THE_REPLACED: &str = "the replaced one ended";
/// The second edge prolongs what the first has started.
pub(crate) const ADOPTS: &str = "adopted";

impl Model for Rules {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        world.moves(self, moves);
    }

    fn next_state(&self, world: &World, chosen: Move) -> Option<World> {
        let mut next = *world;
        next.happen(self, chosen);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ONE_IN_SERVICE, |_, world: &World| world.in_service() <= 1),
            Property::always(AS_RECORDED, |_, world: &World| world.is_as_recorded()),
        ];
        if self.flaw.is_none() {
            properties.extend([
                Property::sometimes(MOVES, |_, world: &World| {
                    world.store.generation == 2 && world.nodes[1].serves()
                }),
                Property::sometimes(RESUMES, |_, world: &World| world.is_about_to_resume()),
                Property::sometimes(ENDS_THE_REPLACED, |_, world: &World| {
                    world.is_about_to_end_the_replaced()
                }),
            ]);
            if self.succession != Succession::Nobody {
                properties.push(Property::sometimes(ADOPTS, |_, world: &World| world.is_adopted()));
            }
        }
        properties
    }
}

impl World {
    pub(crate) fn happen(&mut self, rules: &Rules, chosen: Move) {
        match chosen {
            Move::Tick => self.pass(rules),
            Move::Freeze { node } => self.nodes[node].set_in_service(false),
            Move::Boot { node } => self.nodes[node] = Node::booted(self.nodes[node].boot + 1, rules),
            Move::RestartAgent { node } => {
                self.nodes[node].word = Word::default();
                self.nodes[node].until = rules.term;
            }
            Move::Lose(message) => self.network.remove(message),
            Move::Deliver(message) => {
                self.network.remove(message);
                self.deliver(rules, message);
            }
            Move::CountAsGone => self.store.first_is_gone = true,
            Move::TakeOver => self.take_over(rules),
            Move::Confirm => self.of_edge(0, |_, edge| edge.licence = rules.licence),
            Move::Farewell => self.of_edge(0, |world, edge| world.farewell(rules, edge)),
            Move::Stamp { node, edge } => self.of_edge(edge, |world, edge| {
                edge.peers[node].stamp = Some(world.stamp(node));
            }),
            Move::Connect { edge, node } => self.of_edge(edge, |world, edge| {
                edge.peers[node].session += 1;
                world.order(edge, node, Order::Claim);
            }),
            Move::Renew { edge, node } => self.of_edge(edge, |world, edge| {
                let until = world.give(rules, edge, node);
                world.order(edge, node, Order::Renew { until });
            }),
            Move::Place { edge, node } => self.of_edge(edge, |world, edge| world.place(edge, node)),
            Move::Start { edge } => self.of_edge(edge, |world, edge| world.start(rules, edge)),
            Move::GiveUp { edge } => self.of_edge(edge, World::write_end),
        }
        self.learn_who_owns(chosen);
    }

    /// Lets an edge act on the rest of the world.
    fn of_edge(&mut self, index: usize, act: impl FnOnce(&mut Self, &mut Edge)) {
        if let Some(mut edge) = self.edges[index] {
            act(self, &mut edge);
            self.edges[index] = Some(edge);
        }
    }

    /// An edge that writes and is not the owner any more learns that from the store: nothing was written, and nothing of
    /// the object is its business now.
    fn learn_who_owns(&mut self, chosen: Move) {
        if let Move::Place { edge, .. } | Move::GiveUp { edge } = chosen {
            self.edges[edge] = self.edges[edge].filter(|edge| edge.fence == self.store.fence);
        }
    }

    fn order(&mut self, edge: &Edge, node: usize, order: Order) {
        self.network.send(Message { node, word: edge.word(node), content: Content::Order(order) });
    }

    /// The clock of a node, now.
    pub(crate) fn stamp(&self, node: usize) -> Moment {
        Moment { boot: self.nodes[node].boot, left: 0 }
    }

    fn take_over(&mut self, rules: &Rules) {
        self.store.fence += 1;
        if rules.succession == Succession::NextProcess {
            self.edges[0] = None;
        }
        let peer = |node: usize| {
            let given = rules.longest_term_of_predecessor().max(self.store.windows[node]);
            let given = if rules.lacks(Flaw::NextProcessWaitsForNothing) { rules.over() } else { given };
            Peer { session: 0, stamp: None, given, started: 0 }
        };
        let (fence, placed, peers) = (self.store.fence, self.store.placed, BOTH.map(peer));
        self.edges[1] = Some(Edge { fence, licence: 0, placed, peers, ends: false });
    }

    fn farewell(&mut self, rules: &Rules, edge: &mut Edge) {
        edge.ends = true;
        for node in BOTH.into_iter().filter(|_| !rules.lacks(Flaw::WindowNotWritten)) {
            let window = edge.peers[node].stamp.map_or(rules.over(), |stamp| stamp.left + rules.window);
            self.store.windows[node] = window.max(rules.over());
        }
    }

    /// The end of the term that an edge can give to a node now. It counts from the newest stamp of the node.
    fn until(&self, rules: &Rules, edge: &Edge, node: usize) -> Moment {
        let stamp = edge.peers[node].stamp.expect("terms are given to nodes whose clock is known");
        let until = match edge.ends {
            false => stamp.plus(rules.term),
            true if rules.lacks(Flaw::WindowNotWritten) => stamp.plus(rules.window),
            true => Moment { left: self.store.windows[node], ..stamp },
        };
        until.max(Moment { left: rules.over(), ..until })
    }

    /// When an edge that gives a term now takes it to end.
    pub(crate) fn term_for(&self, rules: &Rules, edge: &Edge, node: usize) -> Left {
        let until = self.until(rules, edge, node);
        if rules.lacks(Flaw::TermFromReceipt) { rules.term } else { until.left }
    }

    fn give(&self, rules: &Rules, edge: &mut Edge, node: usize) -> Moment {
        let given = self.term_for(rules, edge, node);
        edge.peers[node].given = edge.peers[node].given.max(given);
        self.until(rules, edge, node)
    }

    fn place(&mut self, edge: &mut Edge, node: usize) {
        if edge.fence != self.store.fence {
            return;
        }
        self.store.generation += 1;
        self.store.placed = Some(Placed { node, generation: self.store.generation });
        edge.placed = self.store.placed;
        edge.peers.iter_mut().for_each(|peer| peer.started = 0);
    }

    fn write_end(&mut self, edge: &mut Edge) {
        if edge.fence == self.store.fence {
            (self.store.placed, edge.placed) = (None, None);
        }
    }

    fn start(&mut self, rules: &Rules, edge: &mut Edge) {
        let Some(Placed { node, generation }) = edge.placed else { return };
        let until = self.give(rules, edge, node);
        edge.peers[node].started = edge.peers[node].session;
        self.order(edge, node, Order::Start { generation, until });
    }

    fn deliver(&mut self, rules: &Rules, message: Message) {
        let Message { node, word, content } = message;
        match content {
            Content::Order(order) => self.obey(rules, node, word, order),
            Content::Account(account) => self.of_edge(usize::from(word.fence - 1), |world, edge| {
                // An answer in a session that is over tells nothing.
                if edge.word(node) == word {
                    world.hear_account(rules, edge, node, account);
                }
            }),
        }
    }

    /// A node does as it is told, unless the word is older than one that it has heard.
    fn obey(&mut self, rules: &Rules, index: usize, word: Word, order: Order) {
        let node = &mut self.nodes[index];
        if word < node.word && !rules.lacks(Flaw::OldWordsObeyed) {
            return;
        }
        node.word = node.word.max(word);
        match order {
            Order::Claim => self.tell_account(index, word),
            Order::Renew { until } => {
                if node.takes(rules, until, true) && rules.lacks(Flaw::RenewalThaws) {
                    node.set_in_service(true);
                }
            }
            Order::Start { generation, until } => {
                let is_judged = !rules.lacks(Flaw::StartWithoutTerm);
                if node.instance.is_none() && node.takes(rules, until, is_judged) {
                    node.instance = Some(Instance { generation, in_service: true });
                }
            }
            Order::Resume { generation, until } => {
                let is_judged = !rules.lacks(Flaw::ResumeWithoutTerm);
                if node.has(generation) && node.takes(rules, until, is_judged) {
                    node.set_in_service(true);
                }
            }
            Order::Stop { generation } => {
                node.instance = node.instance.filter(|instance| instance.generation != generation);
            }
        }
    }

    fn tell_account(&mut self, index: usize, word: Word) {
        let Node { until, instance, .. } = self.nodes[index];
        let generation = instance.map(|instance| instance.generation);
        let content = Content::Account(Account { stamp: self.stamp(index), until, generation });
        self.network.send(Message { node: index, word, content });
    }

    /// An edge hears in its present session what a node has. No older word counts there any more.
    fn hear_account(&mut self, rules: &Rules, edge: &mut Edge, node: usize, account: Account) {
        let peer = &mut edge.peers[node];
        peer.hear(rules, account);
        let is_never_started = peer.started < peer.session || rules.lacks(Flaw::AbsenceIsEnd);
        let recorded = edge.placed.filter(|placed| placed.node == node).map(|placed| placed.generation);
        match account.generation {
            None if recorded.is_some() && is_never_started => self.write_end(edge),
            None => {}
            Some(generation) if recorded == Some(generation) || rules.lacks(Flaw::StrangersResumed) => {
                self.resume(rules, edge, node, generation);
            }
            Some(generation) => self.order(edge, node, Order::Stop { generation }),
        }
    }

    fn resume(&mut self, rules: &Rules, edge: &mut Edge, node: usize, generation: u8) {
        if edge.may_give(rules) {
            let until = self.give(rules, edge, node);
            self.order(edge, node, Order::Resume { generation, until });
        }
    }

    fn is_about_to_resume(&self) -> bool {
        self.orders().any(|(node, order)| {
            let Order::Resume { generation, until } = order else { return false };
            let frozen = Some(Instance { generation, in_service: false });
            self.nodes[node].instance == frozen && until.left > 0
        })
    }

    fn is_about_to_end_the_replaced(&self) -> bool {
        self.orders().any(|(node, order)| {
            let Order::Stop { generation } = order else { return false };
            self.nodes[node].has(generation) && self.store.placed.is_some_and(|placed| placed.node != node)
        })
    }

    /// The orders under way that will be obeyed.
    fn orders(&self) -> impl Iterator<Item = (usize, Order)> {
        self.network.messages().filter_map(|message| match message.content {
            Content::Order(order) if message.word >= self.nodes[message.node].word => {
                Some((message.node, order))
            }
            _ => None,
        })
    }

    fn is_adopted(&self) -> bool {
        let first = Some(Instance { generation: 1, in_service: true });
        self.nodes.iter().any(|node| node.instance == first && node.word.fence == 2 && node.until > 0)
    }
}

impl Peer {
    /// What was given before is what the node says, and what this edge itself has given: no more than its newest stamp allows.
    fn hear(&mut self, rules: &Rules, account: Account) {
        self.stamp = self.stamp.max(Some(account.stamp));
        let own = self.stamp.map_or(rules.over(), |stamp| stamp.left + rules.term);
        self.given = account.until.max(self.given.min(own)).max(rules.over());
    }
}

impl Node {
    fn has(&self, generation: u8) -> bool {
        self.instance.is_some_and(|instance| instance.generation == generation)
    }

    fn set_in_service(&mut self, in_service: bool) {
        if let Some(instance) = &mut self.instance {
            instance.in_service = in_service;
        }
    }

    /// Whether an order that names this term comes in time; if so, the node's term is that long at least. `is_judged`: by
    /// the term that it names, else by the one that the node has already.
    fn takes(&mut self, rules: &Rules, until: Moment, is_judged: bool) -> bool {
        if until.boot != self.boot {
            return false;
        }
        let named = if rules.lacks(Flaw::TermFromReceipt) { rules.term } else { until.left };
        self.until = self.until.max(named);
        let judged = if is_judged { named } else { self.until };
        judged > -rules.late
    }
}
