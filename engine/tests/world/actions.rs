//! What can happen in the world, and how likely.

use berth_engine::EndOrder;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::machine::Pace;
use crate::model::{NODES, OBJECTS};

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Acquire(usize),
    Cancel(Index),
    Release(Index),
    Touch(Index),
    End {
        object: usize,
        order: EndOrder,
    },
    Advance(u64),
    StoreWrites,
    StoreReads,
    /// `applied`: the write happened although it is reported as failed.
    StoreFailsToWrite {
        applied: bool,
    },
    StoreFailsToRead,
    /// The next call arrives.
    NodeObeys(usize),
    /// Another call arrives before it.
    NodeObeysLater(usize, Index),
    NodeReports(usize),
    NodeRefuses(usize),
    Progress {
        node: usize,
        which: Index,
    },
    /// Everything that is to be done for the node is done, as far as its connection goes.
    Flow(usize),
    Exit {
        node: usize,
        which: Index,
        code: i32,
    },
    /// The node ends an instance by itself.
    NodeStops {
        node: usize,
        which: Index,
    },
    /// `orders_lost`: what was sent and not yet obeyed never arrives. Otherwise it does, perhaps after it was sent
    /// again.
    Disconnect {
        node: usize,
        orders_lost: bool,
    },
    /// The machine starts anew.
    NodeLosesAll(usize),
    /// The node is taken out of service, or into it.
    Drain {
        node: usize,
        draining: bool,
    },
    /// Another edge takes all of the node's room, or gives it back.
    Fill {
        node: usize,
        full: bool,
    },
    /// The disk of an ended instance is free.
    Wiped(usize),
    Connect(usize),
    /// Only that of the shard that renews terms.
    ConnectRenewer(usize),
    /// A connection is made, and lost before it is of use.
    ConnectInVain(usize),
    /// Nothing gets to the node, or from it, or neither; later it does.
    Cut {
        node: usize,
        cut: (bool, bool),
    },
    /// The agent is stopped, or goes on.
    StopAgent {
        node: usize,
        stopped: bool,
    },
    RestartAgent(usize),
    /// The machine sleeps, or wakes.
    Suspend {
        node: usize,
        suspended: bool,
    },
    /// `written`: how many of the writes under way were done, in their order.
    CrashEdge {
        written: Index,
    },
    /// The edge ends in good order: it gives longer terms before, and is back after a while. In milliseconds.
    EndEdge {
        written: Index,
        window_ms: u64,
        away_ms: u64,
    },
    /// The edge is stopped for this long, or its machine asleep.
    EdgeSleeps(u64),
    /// What links tell the shard waits for now, or does not any more.
    ShardLags(bool),
    /// What the shard tells a link waits for now, or does not any more.
    LinkLags {
        node: usize,
        lags: bool,
    },
}

/// How the machines of a world differ.
pub(crate) fn paces() -> impl Strategy<Value = [Pace; NODES]> {
    // Two clocks are within 2 % of each other; half a second is what a freeze may take.
    let rate = prop_oneof![2 => Just(980u64), 1 => Just(1_020u64), 2 => 980u64..=1_020];
    let late_ms = prop_oneof![Just(0u64), Just(500u64), 0..=500u64];
    let pace = (rate, late_ms).prop_map(|(rate, late_ms)| Pace { rate, late_ms });
    proptest::array::uniform(pace)
}

pub(crate) fn client() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..OBJECTS).prop_map(Action::Acquire),
        2 => any::<Index>().prop_map(Action::Cancel),
        5 => any::<Index>().prop_map(Action::Release),
        2 => any::<Index>().prop_map(Action::Touch),
        1 => (0..OBJECTS, order()).prop_map(|(object, order)| Action::End { object, order }),
    ]
}

fn order() -> impl Strategy<Value = EndOrder> {
    prop_oneof![
        2 => (0u64..3_000).prop_map(|grace| EndOrder::Stop { signal: None, grace_ms: Some(grace) }),
        1 => Just(EndOrder::Destroy),
    ]
}

pub(crate) fn work() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1u64..700).prop_map(Action::Advance),
        2 => (1_000u64..6_000).prop_map(Action::Advance),
        10 => Just(Action::StoreWrites),
        3 => Just(Action::StoreReads),
        10 => (0..NODES).prop_map(Action::NodeObeys),
        2 => (0..NODES, any::<Index>()).prop_map(|(node, which)| Action::NodeObeysLater(node, which)),
        10 => (0..NODES).prop_map(Action::NodeReports),
        4 => (0..NODES).prop_map(Action::Wiped),
        8 => (0..NODES, any::<Index>()).prop_map(|(node, which)| Action::Progress { node, which }),
        2 => (0..NODES).prop_map(Action::Flow),
    ]
}

fn trouble() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => any::<bool>().prop_map(|applied| Action::StoreFailsToWrite { applied }),
        1 => Just(Action::StoreFailsToRead),
        2 => (0..NODES).prop_map(Action::NodeRefuses),
        3 => (0..NODES, any::<Index>(), 0..4i32)
            .prop_map(|(node, which, code)| Action::Exit { node, which, code }),
        1 => (0..NODES, any::<Index>()).prop_map(|(node, which)| Action::NodeStops { node, which }),
        1 => (0..NODES).prop_map(Action::NodeLosesAll),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, orders_lost)| Action::Disconnect { node, orders_lost }),
        5 => (0..NODES).prop_map(Action::Connect),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, draining)| Action::Drain { node, draining }),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, full)| Action::Fill { node, full }),
        1 => any::<Index>().prop_map(|written| Action::CrashEdge { written }),
    ]
}

/// What makes nodes silent, and what comes of it.
fn silence() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => (5_000u64..20_000).prop_map(Action::Advance),
        1 => (600_000u64..800_000).prop_map(Action::Advance),
        8 => (0..NODES, any::<(bool, bool)>()).prop_map(|(node, cut)| Action::Cut { node, cut }),
        4 => (0..NODES).prop_map(|node| Action::Cut { node, cut: (false, false) }),
        6 => (0..NODES, any::<bool>()).prop_map(|(node, stopped)| Action::StopAgent { node, stopped }),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, suspended)| Action::Suspend { node, suspended }),
        2 => (0..NODES).prop_map(Action::RestartAgent),
        2 => (0..NODES).prop_map(Action::NodeLosesAll),
        8 => (0..NODES).prop_map(Action::Connect),
        2 => (0..NODES).prop_map(Action::ConnectRenewer),
        2 => (0..NODES).prop_map(Action::ConnectInVain),
        4 => (0..NODES, any::<bool>()).prop_map(|(node, orders_lost)| Action::Disconnect { node, orders_lost }),
        2 => any::<Index>().prop_map(|written| Action::CrashEdge { written }),
        1 => end_edge(),
        2 => (500u64..30_000).prop_map(Action::EdgeSleeps),
        2 => any::<bool>().prop_map(Action::ShardLags),
        2 => (0..NODES, any::<bool>()).prop_map(|(node, lags)| Action::LinkLags { node, lags }),
    ]
}

pub(crate) fn end_edge() -> impl Strategy<Value = Action> {
    let (window_ms, away_ms) = (20_000u64..200_000, prop_oneof![0u64..5_000, 0u64..200_000]);
    (any::<Index>(), window_ms, away_ms).prop_map(|(written, window_ms, away_ms)| Action::EndEdge {
        written,
        window_ms,
        away_ms,
    })
}

pub(crate) fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![4 => client(), 10 => work(), 3 => trouble(), 1 => silence()]
}

/// A few objects, much silence, and everything else done at once as a rule.
pub(crate) fn silent_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..NODES).prop_map(Action::Flow),
        4 => (0..2usize).prop_map(Action::Acquire),
        10 => silence(),
        2 => work(),
        1 => client(),
        1 => trouble(),
    ]
}
