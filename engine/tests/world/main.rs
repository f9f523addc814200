//! The engine in a simulated world: nodes that start, refuse, drain, fill, fail, end and lose instances and connections, a store
//! that writes, fails and crashes with the edge, clients that come and go, in any order. `promises` has what must
//! always be true.
//!
//! A failure is shrunk, printed as the actions that lead to it, and its seed is kept in `main.regressions` beside this
//! file; seeds found there are tried first. `PROPTEST_CASES=100000` looks for longer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod link;
mod model;
mod node;
mod promises;

use berth_engine::EndOrder;
use model::{Action, NODES, OBJECTS, World};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;

/// Cases of each property where the environment does not say otherwise: about a minute in all, as tests are built.
const CASES: u32 = 3_000;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as Box<_>);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

fn client() -> impl Strategy<Value = Action> {
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

fn work() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1u64..700).prop_map(Action::Advance),
        2 => (1_000u64..6_000).prop_map(Action::Advance),
        10 => Just(Action::StoreWrites),
        3 => Just(Action::StoreReads),
        10 => (0..NODES).prop_map(Action::NodeObeys),
        10 => (0..NODES).prop_map(Action::NodeReports),
        4 => (0..NODES).prop_map(Action::Wiped),
        8 => (0..NODES, any::<Index>()).prop_map(|(node, which)| Action::Progress { node, which }),
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

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![4 => client(), 10 => work(), 3 => trouble()]
}

/// Brings an object to be healthy, with this many requests that hold it.
fn healthy(world: &mut World, requests: usize) {
    for _ in 0..requests {
        world.act(Action::Acquire(0));
    }
    world.act(Action::StoreReads);
    world.act(Action::StoreWrites);
    for node in 0..NODES {
        for _ in 0..4 {
            world.act(Action::NodeObeys(node));
            world.act(Action::NodeReports(node));
            world.progress_all(node);
        }
    }
    assert_eq!(world.promises.holds().len(), requests);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_the_promises_hold(actions in proptest::collection::vec(any_action(), 1..200)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.come_to_rest();
        world.expect_useful();
    }

    /// Releases in any order, at any times, with touches between: the object sleeps exactly `sleep_after` after the
    /// last of them. `Promises` checks both sides of it at each moment.
    #[test]
    fn activity_never_leaks(
        requests in 1..5usize,
        steps in proptest::collection::vec((client(), 0u64..2_500), 0..30),
    ) {
        let mut world = World::new();
        healthy(&mut world, requests);
        for (action, pause_ms) in steps {
            world.act(action);
            world.act(Action::Advance(pause_ms));
        }
        world.come_to_rest();
    }

    /// A crash with nothing else going wrong: at any point of a life, with any part of the last writes done.
    #[test]
    fn every_crash_point_is_legal(
        before in proptest::collection::vec(prop_oneof![2 => client(), 5 => work()], 0..80),
        written in any::<Index>(),
        after in proptest::collection::vec(any_action(), 0..40),
    ) {
        let mut world = World::new();
        for action in before.into_iter().chain([Action::CrashEdge { written }]).chain(after) {
            world.act(action);
        }
        world.come_to_rest();
        world.expect_useful();
    }
}

/// The world itself works: with no trouble at all, a request is granted and the object sleeps as idle.
#[test]
fn without_trouble_requests_are_granted() {
    let mut world = World::new();
    healthy(&mut world, 3);
    world.come_to_rest();
    assert_eq!(world.promises.answers(), (3, 0));
    assert!(world.ended_idle(0));
}

/// A start that has no answer and is to be stopped again ran on a machine that was then restarted: nobody may say that
/// it never began.
#[test]
fn a_life_that_was_lost_before_it_was_heard_of_is_kept_as_an_estimate() {
    let mut world = World::new();
    for action in [Action::Acquire(0), Action::StoreReads, Action::StoreWrites] {
        world.act(action);
    }
    for node in 0..NODES {
        world.act(Action::NodeObeys(node));
        world.progress_all(node);
        world.act(Action::NodeLosesAll(node));
    }
    world.act(Action::End { object: 0, order: EndOrder::Destroy });
    world.act(Action::StoreWrites);
    world.come_to_rest();
}
