//! Stories of an object whose node is lost.

use std::time::Duration;

use berth_common::ids::{Generation, NodeId};
use berth_common::metering::Metered;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::{ClassSpec, TimeOrNever};
use berth_common::wire::call::{Phase, Stop};
use berth_engine::{Effect, Input, PublicState, Refused, Silence};

use crate::desk::{Desk, class, instance, node, persist, refused, silence, usage};

/// The time of day when a desk's own clock says 0.
const WALL_MS: u64 = 1_000_000;
const SIGKILL: i32 = 9;

/// The node is given up, which was last heard of at this time of the desk.
fn lose(desk: &mut Desk, heard_ms: u64) -> Vec<Effect> {
    desk.input(Input::NodeLost { node: node(), silence: silence(WALL_MS + heard_ms) })
}

#[test]
fn who_waits_gets_another_instance_and_the_lost_ones_usage_is_estimated_until_its_node_was_last_heard_of() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    desk.at(20_000);
    let ended = lose(&mut desk, 4_000);
    let life = usage(&ended).unwrap();
    assert_eq!((life.reason, life.estimated, life.lived_cs), (ExitReason::NodeLost, true, 400));
    assert!(ended.iter().any(|effect| matches!(effect, Effect::Unreserve { .. })));
    assert_eq!(desk.acquire(2), [], "it waits for the end to be durable");
    let next = desk.persisted(persist(&ended));
    let [Effect::Ended { .. }, Effect::Reserve(demand)] = &next[..] else { panic!("{next:?}") };
    assert_eq!(demand.generation, Generation(2));
    assert_eq!(desk.release(hold), [], "what the lost one served is over");
    let write = persist(&desk.reserved(2, Ok(2)));
    desk.persisted(write);
    desk.status(2, 2, Phase::Ready);
    assert_eq!(desk.view().state, PublicState::Healthy);
}

#[test]
fn who_waits_already_has_the_time_of_a_start_from_then_on() {
    let mut desk = Desk::new();
    desk.starting();
    desk.at(100);
    let ended = lose(&mut desk, 0);
    assert_eq!(refused(&ended), [], "nobody is refused");
    let life = usage(&ended).unwrap();
    assert_eq!((life.lived_cs, life.estimated), (0, true), "it is not known to have run, and may have");
    let next = desk.persisted(persist(&ended));
    assert!(matches!(&next[..], [Effect::Ended { .. }, Effect::Reserve(_)]), "{next:?}");
    let write = persist(&desk.reserved(2, Ok(2)));
    desk.persisted(write);
    assert_eq!(refused(&desk.status(2, 2, Phase::Ready)), []);
}

fn silent_for(over_for_s: u64) -> Silence {
    Silence { heard_ms: 0, over_for: Some(Duration::from_secs(over_for_s)) }
}

fn is_given_up(desk: &mut Desk, silence: Silence) -> bool {
    !desk.input(Input::NodeLost { node: node(), silence }).is_empty()
}

#[test]
fn one_whose_class_waits_for_its_node_is_given_up_once_it_has_waited_for_that_long() {
    let mut desk = Desk::served(ClassSpec { node_loss: Some(Duration::from_secs(90).into()), ..class() });
    assert!(!is_given_up(&mut desk, silent_for(0)) && !is_given_up(&mut desk, silent_for(59)));
    assert!(matches!(&desk.frozen(1, 1)[..], [Effect::Resume { .. }, ..]), "its node may be back before");
    assert!(is_given_up(&mut desk, silent_for(60)));
}

#[test]
fn one_whose_class_waits_for_ever_is_given_up_with_a_node_that_is_known_to_be_gone_only() {
    let mut desk = Desk::served(ClassSpec { node_loss: Some(TimeOrNever::NEVER), ..class() });
    assert!(!is_given_up(&mut desk, silent_for(1 << 40)));
    assert!(is_given_up(&mut desk, Silence { heard_ms: 0, over_for: None }));
}

#[test]
fn one_whose_class_never_lets_it_sleep_has_no_deadline() {
    let mut desk = Desk::served(ClassSpec { sleep_after: TimeOrNever::NEVER, ..class() });
    assert_eq!(desk.at(1 << 40), []);
    assert_eq!((desk.view().state, desk.engine.next_deadline_ms()), (PublicState::Healthy, None));
}

#[test]
fn an_object_without_requests_is_not_started_again() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    desk.release(hold);
    let ended = lose(&mut desk, 0);
    let next = desk.persisted(persist(&ended));
    assert!(
        matches!(&next[..], [Effect::Ended { .. }]),
        "the node is not to forget what it may have measured: {next:?}"
    );
}

#[test]
fn where_no_node_is_left_requests_wait_for_one_and_are_then_refused() {
    let mut desk = Desk::new();
    desk.healthy();
    let ended = lose(&mut desk, 0);
    desk.acquire(2);
    desk.persisted(persist(&ended));
    assert_eq!(desk.reserved(2, Err(Refused::NoNode)), []);
    assert_eq!(refused(&desk.at(8_000)).len(), 1);
}

#[test]
fn other_nodes_are_not_concerned() {
    let mut desk = Desk::new();
    desk.healthy();
    let other: NodeId = "other".parse().unwrap();
    assert_eq!(desk.input(Input::NodeLost { node: other, silence: silence(0) }), []);
}

#[test]
fn a_node_that_returns_has_its_instance_ended_and_its_true_usage_taken() {
    let mut desk = Desk::new();
    desk.healthy();
    let ended = lose(&mut desk, 0);
    desk.persisted(persist(&ended));
    let kill = Stop { instance: instance(1), signal: SIGKILL, grace_ms: 0 };
    assert_eq!(desk.frozen(1, 1), [Effect::Stop { node: node(), stop: kill }], "and it is not resumed");
    let metered = Metered { estimated: false, ..Metered::estimate(WALL_MS, Duration::from_secs(9)) };
    let exited = Phase::Exited(Outcome::signalled(SIGKILL));
    let measured =
        Effect::Measured { node: node(), instance: instance(1), metered: Box::new(metered.clone()) };
    assert_eq!(desk.report(1, 1, exited.clone(), Some(metered.clone())), [measured]);
    let estimate = Metered { estimated: true, ..metered };
    let forget = Effect::Forget { node: node(), instance: instance(1), ended: None };
    assert_eq!(desk.report(1, 1, exited, Some(estimate)), [forget], "an estimate is no better than ours");
}

#[test]
fn what_a_node_tells_that_returns_before_the_end_is_durable_takes_the_place_of_the_estimate_too() {
    let mut desk = Desk::new();
    desk.healthy();
    let ended = lose(&mut desk, 0);
    let metered = Metered { estimated: false, ..Metered::estimate(WALL_MS, Duration::from_secs(9)) };
    let exited = Phase::Exited(Outcome::exited(0));
    assert_eq!(desk.report(1, 1, exited, Some(metered.clone())), [], "the estimate is being written");
    let next = desk.persisted(persist(&ended));
    let measured = Effect::Measured { node: node(), instance: instance(1), metered: Box::new(metered) };
    assert!(matches!(&next[..], [Effect::Ended { .. }, last] if *last == measured), "{next:?}");
}

#[test]
fn one_that_was_not_even_started_leaves_no_usage() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.loaded(None);
    desk.reserved(1, Ok(1));
    let ended = lose(&mut desk, 0);
    assert_eq!(usage(&ended), None);
}
