//! The engine in a simulated world: nodes that start, fail, end and lose connections, a store that writes, fails and
//! crashes with the edge, clients that come and go, in any order. Each step checks what must always be true.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test may panic")]

mod world {
    pub(crate) mod model;
}

use proptest::prelude::*;
use world::model::{Action, World};

fn action() -> impl Strategy<Value = Action> {
    let object = 0..3usize;
    prop_oneof![
        6 => object.clone().prop_map(Action::Acquire),
        2 => any::<prop::sample::Index>().prop_map(Action::Cancel),
        4 => any::<prop::sample::Index>().prop_map(Action::Release),
        1 => any::<prop::sample::Index>().prop_map(Action::Touch),
        4 => (1u64..700).prop_map(Action::Advance),
        1 => (1_000u64..6_000).prop_map(Action::Advance),
        8 => Just(Action::StoreWrites),
        1 => any::<bool>().prop_map(|applied| Action::StoreFails { applied }),
        2 => Just(Action::StoreReads),
        8 => (0..2usize).prop_map(Action::NodeObeys),
        8 => (0..2usize).prop_map(Action::NodeTells),
        6 => (0..2usize, any::<prop::sample::Index>()).prop_map(|(node, which)| Action::Progress { node, which }),
        2 => (0..2usize, any::<prop::sample::Index>(), 0..4i32)
            .prop_map(|(node, which, code)| Action::Exit { node, which, code }),
        1 => (0..2usize).prop_map(Action::Disconnect),
        2 => (0..2usize).prop_map(Action::Connect),
        1 => Just(Action::CrashEdge),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_promises_hold(actions in proptest::collection::vec(action(), 1..160)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.come_to_rest();
    }
}
