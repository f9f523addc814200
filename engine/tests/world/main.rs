//! The engine in a simulated world: nodes that start, refuse, drain, fill, fail, end and lose instances and connections, that
//! fall silent, freeze and are given up, by clocks that run at rates of their own; a store that writes, fails and crashes with
//! the edge; clients that come and go, in any order. `promises` has what must always be true.
//!
//! A failure is shrunk, printed as the actions that lead to it, and its seed is kept in `main.regressions` beside this
//! file; seeds found there are tried first. `BERTH_SOAK=1` looks for much longer, `PROPTEST_CASES=100000` for as long as that
//! takes. That the promises are worth something shows in `mutants`: each rule that is taken away breaks one.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod actions;
mod flaw;
mod link;
mod machine;
mod model;
mod mutants;
mod network;
mod node;
mod outages;
mod promises;
mod shell;
mod store;

use actions::{Action, any_action, client, paces, silent_action, work};
use berth_engine::EndOrder;
use machine::Pace;
use model::{ALIKE, NODES, World};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;

/// Cases of each property where the environment does not say otherwise: some seconds, as tests are built.
const CASES: u32 = 150;
/// The same where it asks for much.
const SOAK_CASES: u32 = 15_000;

fn soaks() -> bool {
    std::env::var("BERTH_SOAK").is_ok_and(|value| value == "1")
}

fn config() -> ProptestConfig {
    let usual = if soaks() { SOAK_CASES } else { CASES };
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as Box<_>);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
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

/// All of it happens, and then nothing more: the world is useful in the end.
fn live_through(paces: [Pace; NODES], actions: Vec<Action>) {
    let mut world = World::new(paces);
    actions.into_iter().for_each(|action| world.act(action));
    world.come_to_rest();
    world.expect_useful();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_the_promises_hold(
        paces in paces(),
        actions in proptest::collection::vec(any_action(), 1..200),
    ) {
        live_through(paces, actions);
    }

    /// The same with much silence: nodes freeze, are given up, and come back.
    #[test]
    fn whoever_is_silent_the_promises_hold(
        paces in paces(),
        actions in proptest::collection::vec(silent_action(), 1..100),
    ) {
        live_through(paces, actions);
    }

    /// Releases in any order, at any times, with touches between: the object sleeps exactly `sleep_after` after the
    /// last of them. `Promises` checks both sides of it at each moment.
    #[test]
    fn activity_never_leaks(
        requests in 1..5usize,
        steps in proptest::collection::vec((client(), 0u64..2_500), 0..30),
    ) {
        let mut world = World::new(ALIKE);
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
        let mut world = World::new(ALIKE);
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
    let mut world = World::new(ALIKE);
    healthy(&mut world, 3);
    world.come_to_rest();
    assert_eq!(world.promises.answers(), (3, 0));
    assert!(world.ended_idle(0));
}

/// A start that has no answer and is to be stopped again ran on a machine that was then restarted: nobody may say that
/// it never began.
#[test]
fn a_life_that_was_lost_before_it_was_heard_of_is_kept_as_an_estimate() {
    let mut world = World::new(ALIKE);
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
