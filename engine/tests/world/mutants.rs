//! The promises are worth something: each rule that is taken away breaks one of them within a bounded number of worlds, and the
//! world as it is breaks none in as many.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::actions::{Action, end_edge, paces, silent_action};
use crate::flaw::Flaw;
use crate::machine::Pace;
use crate::model::{NODES, OBJECTS, World};
use crate::soaks;

/// Worlds in which a missing rule must show.
const WORLDS: u64 = 2_000;
/// Worlds that have all rules, and as many where the environment asks for much.
const SOUND_WORLDS: u64 = 300;
const SOAK_WORLDS: u64 = 100_000;

/// Actions of which each story has some, with whatever between them: something runs or is about to, a node is silent, another one
/// takes over, and the first is back.
fn chapters() -> impl Strategy<Value = Vec<Vec<Action>>> {
    let object = prop_oneof![2 => Just(0), 1 => Just(OBJECTS - 1)];
    (0..NODES, object)
        .prop_flat_map(|(node, object)| {
            (begins(node, object), falls_silent(node), is_replaced(node, object), is_back(node, object))
        })
        .prop_map(|(begin, silence, other, back)| vec![begin, silence, other, back])
}

fn begins(node: usize, object: usize) -> impl Strategy<Value = Vec<Action>> {
    let placed = [Action::Acquire(object), Action::StoreReads];
    let with = |more: &[Action]| Just(placed.iter().chain(more).cloned().collect::<Vec<_>>());
    let lost = Action::Disconnect { node, orders_lost: true };
    let report = Action::NodeReports(node);
    // It is frozen, and the order to resume it is under way.
    let slept = [Action::Flow(0), Action::Flow(1), Action::EdgeSleeps(16_500), Action::Advance(3_100)];
    let resumed = [&slept[..], &[report.clone(), report]].concat();
    prop_oneof![
        4 => with(&[Action::Flow(0), Action::Flow(1)]),
        2 => with(&[Action::StoreWrites]),
        2 => with(&[lost, Action::StoreWrites]),
        2 => with(&resumed),
        1 => Just(Vec::new()),
    ]
}

fn falls_silent(node: usize) -> impl Strategy<Value = Vec<Action>> {
    let cut = Action::Cut { node, cut: (true, true) };
    let long = (16_000u64..20_000).prop_map(Action::Advance);
    let short = (1_100u64..5_000).prop_map(Action::Advance);
    let crash = any::<Index>().prop_map(|written| Action::CrashEdge { written });
    let cut_long = long.clone().prop_map(move |long| vec![cut.clone(), long]);
    prop_oneof![
        4 => cut_long.clone(),
        2 => cut_long.prop_map(|cut| [vec![Action::ShardLags(true)], cut].concat()),
        1 => (crash, short).prop_map(move |(crash, short)| in_vain(node, crash, short)),
        1 => (end_edge(), long.clone()).prop_map(move |(end, long)| in_vain(node, end, long)),
        1 => (end_late(), long.clone()).prop_map(move |(end, long)| in_vain(node, end, long)),
        1 => (any::<Index>(), long).prop_map(move |(written, long)| ends_twice(node, written, long)),
        1 => Just(Vec::new()),
    ]
}

/// The edge is back after this, and hears the node once.
fn in_vain(node: usize, ends: Action, then: Action) -> Vec<Action> {
    vec![ends, Action::ConnectInVain(node), Action::Connect(1 - node), then]
}

/// The edge ends, and as soon as it is back, and has not heard the node, ends again for less long.
fn ends_twice(node: usize, written: Index, then: Action) -> Vec<Action> {
    let ends = |window_ms, away_ms| Action::EndEdge { written, window_ms, away_ms };
    vec![ends(200_000, 100), ends(20_000, 25_000), Action::Connect(1 - node), then]
}

/// The edge ends for nearly as long as it has said: but for the time in which the next process gives nothing up.
fn end_late() -> impl Strategy<Value = Action> {
    let times = (60_000u64..300_000, 14_500u64..17_000);
    (any::<Index>(), times).prop_map(|(written, (window_ms, left_ms))| Action::EndEdge {
        written,
        window_ms,
        away_ms: window_ms - left_ms,
    })
}

fn is_replaced(node: usize, object: usize) -> impl Strategy<Value = Vec<Action>> {
    let other = vec![Action::Acquire(object), Action::Flow(1 - node)];
    prop_oneof![3 => Just(other), 1 => Just(Vec::new())]
}

fn is_back(node: usize, object: usize) -> impl Strategy<Value = Vec<Action>> {
    let mended = Action::Cut { node, cut: (false, false) };
    let connect = prop_oneof![Just(Action::Connect(node)), Just(Action::ConnectRenewer(node))];
    let back = connect.prop_map(move |connect| vec![mended.clone(), connect, Action::NodeObeys(node)]);
    let then = vec![Action::ShardLags(false), Action::Acquire(object), Action::Flow(1 - node)];
    let lagged = back.clone().prop_map(move |back| [back, then.clone()].concat());
    prop_oneof![3 => back, 2 => lagged, 1 => Just(Vec::new())]
}

/// Machines, and what happens.
fn story() -> impl Strategy<Value = ([Pace; NODES], Vec<Action>)> {
    let between = || proptest::collection::vec(silent_action(), 0..3);
    let gaps = proptest::collection::vec(between(), 4);
    let tail = proptest::collection::vec(silent_action(), 0..30);
    let actions = (chapters(), gaps, tail).prop_map(|(chapters, gaps, tail)| {
        chapters
            .into_iter()
            .zip(gaps)
            .flat_map(|(chapter, gap)| [chapter, gap].concat())
            .chain(tail)
            .collect()
    });
    (paces(), actions)
}

/// What breaks in the world of this seed, if anything.
fn broken(flaw: Option<Flaw>, seed: u64) -> Option<String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let (paces, actions) = story().new_tree(&mut runner).unwrap().current();
    let lived = quietly(|| {
        let mut world = World::without(flaw, paces);
        actions.into_iter().for_each(|action| world.act(action));
        world.come_to_rest();
        world.expect_useful();
    });
    let told = lived.err()?;
    let text = told.downcast_ref::<String>().cloned();
    text.or_else(|| told.downcast_ref::<&str>().map(|text| (*text).to_owned()))
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Without a word of what panics.
fn quietly<T>(act: impl FnOnce() -> T) -> std::thread::Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |told| {
            if !IS_QUIET.get() {
                usual(told);
            }
        }));
    });
    IS_QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(act));
    IS_QUIET.set(false);
    done
}

/// How promises say that they are broken, one of which each missing rule breaks.
const PROMISES: [&str; 6] = [
    "run, one of them",
    "given up while it runs",
    "goes on, and nobody had it resumed",
    "forgotten before what was measured",
    "two records of the life",
    "was killed, and its edge is heard",
];

#[test]
fn each_rule_that_is_missing_breaks_a_promise() {
    for flaw in Flaw::ALL {
        let found = (0..WORLDS).find_map(|seed| Some((seed, broken(Some(flaw), seed)?)));
        let (seed, told) = found.unwrap_or_else(|| panic!("{flaw:?} breaks nothing"));
        assert!(PROMISES.iter().any(|promise| told.contains(promise)), "{flaw:?} in {seed}: {told}");
        println!("without {flaw:?}, the world {seed} breaks: {told}");
    }
}

#[test]
fn nothing_breaks_where_no_rule_is_missing() {
    for seed in 0..if soaks() { SOAK_WORLDS } else { SOUND_WORLDS } {
        assert_eq!(broken(None, seed), None, "in the world {seed}");
    }
}
