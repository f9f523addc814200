//! Messages under way. Each arrives at some time, or never, in whatever order.

use crate::world::{Left, Moment, Word};

/// Most messages that can be under way at once.
pub(crate) const MOST_MESSAGES: usize = 4;

/// An order of an edge to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Order {
    /// From now on this word is the newest; tell what you have.
    Claim,
    /// The term ends then.
    Renew { until: Moment },
    /// Start this generation if that is still to come.
    Start { generation: u8, until: Moment },
    /// The same for one that is frozen.
    Resume { generation: u8, until: Moment },
    /// End this generation.
    Stop { generation: u8 },
}

/// What a node has of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Account {
    pub(crate) stamp: Moment,
    /// The end of its term.
    pub(crate) until: Left,
    /// The generation of its instance.
    pub(crate) generation: Option<u8>,
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Content {
    Order(Order),
    /// In answer to a claim.
    Account(Account),
}

/// A message between a node and the edge whose word it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    pub(crate) node: usize,
    pub(crate) word: Word,
    pub(crate) content: Content,
}

/// All messages under way: a set, the places without one first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Network([Option<Message>; MOST_MESSAGES]);

impl Network {
    pub(crate) fn messages(&self) -> impl Iterator<Item = Message> {
        self.0.iter().flatten().copied()
    }

    /// Sends a message. A second one that is the same tells nothing new.
    pub(crate) fn send(&mut self, message: Message) {
        if self.messages().any(|other| other == message) {
            return;
        }
        let free = self.0.iter_mut().find(|place| place.is_none());
        *free.expect("what is sent has room, or takes that of what it answers") = Some(message);
        self.0.sort_unstable();
    }

    pub(crate) fn remove(&mut self, message: Message) {
        self.0.iter_mut().filter(|place| **place == Some(message)).for_each(|place| *place = None);
        self.0.sort_unstable();
    }

    /// A tick passes.
    pub(crate) fn pass(&mut self, over: Left, oldest_stamp: Left) {
        self.0.iter_mut().flatten().for_each(|message| message.pass(over, oldest_stamp));
        // What is over for all purposes is alike.
        self.0.sort_unstable();
        for place in 1..MOST_MESSAGES {
            if self.0[place].is_some() && self.0[place - 1] == self.0[place] {
                self.0[place - 1] = None;
            }
        }
        self.0.sort_unstable();
    }
}

impl Message {
    fn pass(&mut self, over: Left, oldest_stamp: Left) {
        match &mut self.content {
            Content::Order(
                Order::Renew { until } | Order::Start { until, .. } | Order::Resume { until, .. },
            ) => {
                until.left = (until.left - 1).max(over);
            }
            Content::Order(Order::Claim | Order::Stop { .. }) => {}
            Content::Account(Account { stamp, until, .. }) => {
                stamp.left = (stamp.left - 1).max(oldest_stamp);
                *until = (*until - 1).max(over);
            }
        }
    }
}
