//! Outages that no other node could make up for: however long they last and however often they come, they cost a pause and nothing
//! else.

use berth_engine::PublicState;
use proptest::prelude::*;

use crate::actions::{Action, paces};
use crate::flaw::Flaw;
use crate::machine::Pace;
use crate::model::{ALIKE, NODES, World};
use crate::node::Node;
use crate::{config, healthy};

/// Steps of 100 ms in which everything goes on that can. Three renewals fit in.
const STEPS_TO_GO_ON: usize = 100;

/// What hinders all nodes at once, for this long in milliseconds.
#[derive(Debug, Clone)]
enum Outage {
    Cut {
        ms: u64,
        disconnects: bool,
    },
    AgentsStop(u64),
    AgentsStartAnew,
    MachinesSleep(u64),
    EdgeSleeps(u64),
    /// The edge and its nodes are on one machine, which sleeps.
    AllSleep(u64),
}

fn outage() -> impl Strategy<Value = Outage> {
    let ms = || prop_oneof![3 => 1_000u64..40_000, 1 => 500_000u64..2_000_000];
    prop_oneof![
        3 => (ms(), any::<bool>()).prop_map(|(ms, disconnects)| Outage::Cut { ms, disconnects }),
        1 => ms().prop_map(Outage::AgentsStop),
        1 => Just(Outage::AgentsStartAnew),
        1 => ms().prop_map(Outage::MachinesSleep),
        1 => ms().prop_map(Outage::EdgeSleeps),
        1 => ms().prop_map(Outage::AllSleep),
    ]
}

fn on_all(world: &mut World, action: impl Fn(usize) -> Action) {
    (0..NODES).for_each(|node| world.act(action(node)));
}

fn suffer(world: &mut World, outage: Outage) {
    match outage {
        Outage::Cut { ms, disconnects } => {
            on_all(world, |node| Action::Cut { node, cut: (true, true) });
            if disconnects {
                on_all(world, |node| Action::Disconnect { node, orders_lost: true });
            }
            world.act(Action::Advance(ms));
        }
        Outage::AgentsStop(ms) => {
            on_all(world, |node| Action::StopAgent { node, stopped: true });
            world.act(Action::Advance(ms));
        }
        Outage::AgentsStartAnew => on_all(world, Action::RestartAgent),
        Outage::MachinesSleep(ms) => {
            on_all(world, |node| Action::Suspend { node, suspended: true });
            world.act(Action::Advance(ms));
        }
        Outage::EdgeSleeps(ms) => world.act(Action::EdgeSleeps(ms)),
        Outage::AllSleep(ms) => {
            on_all(world, |node| Action::Suspend { node, suspended: true });
            world.act(Action::EdgeSleeps(ms));
        }
    }
}

/// A word gets through, and perhaps nothing more before the next outage.
fn reach(world: &mut World) {
    (0..NODES).for_each(|node| world.heal(node));
}

fn go_on(world: &mut World) {
    for _ in 0..STEPS_TO_GO_ON {
        reach(world);
        for node in 0..NODES {
            for _ in 0..world.links[node].calls() {
                world.act(Action::NodeObeys(node));
            }
            world.progress_all(node);
            (0..4).for_each(|_| world.act(Action::NodeReports(node)));
        }
        world.act(Action::StoreWrites);
        world.act(Action::Advance(100));
    }
}

/// Has an instance serve, and go on after these outages.
fn live_through(flaw: Option<Flaw>, paces: [Pace; NODES], outages: Vec<Outage>) {
    let mut world = World::without(flaw, paces);
    healthy(&mut world, 1);
    let instance = world.promises.holds()[0].1.instance;
    for outage in outages {
        suffer(&mut world, outage);
        reach(&mut world);
    }
    go_on(&mut world);
    let views = world.engine.views();
    assert_eq!(views.len(), 1, "{views:?}");
    assert_eq!((views[0].state, views[0].instance), (PublicState::Healthy, Some(instance)));
    let runs = |node: &Node| node.machine().running().any(|(_, of)| of == instance);
    assert!(world.nodes.iter().any(runs), "it is paused still");
    world.come_to_rest();
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_outage_costs_a_pause_and_nothing_else(
        paces in paces(),
        outages in proptest::collection::vec(outage(), 1..6),
    ) {
        live_through(None, paces, outages);
    }
}

#[test]
#[should_panic(expected = "it is paused still")]
fn an_edge_that_is_not_told_the_time_gives_no_term_again() {
    live_through(Some(Flaw::LateRenewalUnanswered), ALIKE, vec![Outage::AllSleep(20_000)]);
}
