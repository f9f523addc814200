//! An object whose turn to start is still to come.

use berth_common::wire::call::Phase;
use berth_engine::{Effect, Input, PublicState, Refused, WaiterId};

use super::desk::{Desk, MAX_TURN_MS as TURN_MS, object, persist, refused, stops};

/// `start_timeout` of the class.
const START_MS: u64 = 8_000;

fn waiting() -> Desk {
    let mut desk = Desk::new();
    desk.acquire(1);
    assert!(matches!(&desk.loaded(None)[..], [Effect::Reserve(_)]));
    desk
}

fn withdrawn() -> Effect {
    Effect::Withdraw { object: object() }
}

#[test]
fn the_time_to_start_counts_from_when_the_start_is_sent() {
    let mut desk = waiting();
    assert_eq!(desk.at(50_000), [], "nobody is refused in the meantime");
    let write = persist(&desk.reserved(1, Ok(1)));
    desk.persisted(write);
    desk.acquire(2);
    assert_eq!(desk.at(50_000 + START_MS - 1), []);
    let late = desk.at(50_000 + START_MS);
    assert_eq!(refused(&late), [(1, Refused::StartTimeout), (2, Refused::StartTimeout)]);
    assert_eq!(stops(&desk.persisted(persist(&late))).len(), 1);
}

#[test]
fn one_whose_turn_comes_late_is_served() {
    let mut desk = waiting();
    desk.at(TURN_MS - 1);
    let write = persist(&desk.reserved(1, Ok(1)));
    desk.persisted(write);
    desk.at(TURN_MS + START_MS - 2);
    assert!(matches!(&desk.status(1, 1, Phase::Ready)[..], [Effect::Grant { .. }]));
    assert_eq!(desk.view().state, PublicState::Healthy);
}

#[test]
fn who_waits_too_long_for_a_turn_is_refused_and_gives_it_up() {
    let mut desk = waiting();
    let late = desk.at(TURN_MS);
    assert_eq!(refused(&late), [(1, Refused::NoTurn)]);
    assert_eq!(late.last(), Some(&withdrawn()));
    assert_eq!(desk.reserved(1, Err(Refused::NoTurn)), []);
    assert_eq!(desk.engine.view(object()), None, "and is forgotten");
}

#[test]
fn a_turn_that_nobody_waits_for_is_given_up_once() {
    let mut desk = waiting();
    desk.acquire(2);
    let cancel = |waiter| Input::Cancel { object: object(), waiter: WaiterId(waiter) };
    assert_eq!(desk.input(cancel(1)), []);
    assert_eq!(desk.input(cancel(2)), [withdrawn()]);
    // One that comes before the answer is not refused because of the others.
    assert_eq!(desk.acquire(3), []);
    assert!(matches!(&desk.reserved(1, Err(Refused::NoTurn))[..], [Effect::Reserve(_)]));
    persist(&desk.reserved(1, Ok(1)));
}

#[test]
fn a_turn_that_came_after_all_is_used_by_who_has_come() {
    let mut desk = waiting();
    desk.input(Input::Cancel { object: object(), waiter: WaiterId(1) });
    desk.acquire(2);
    persist(&desk.reserved(1, Ok(1)));
}

#[test]
fn without_any_node_the_time_is_that_of_a_start() {
    let mut desk = waiting();
    desk.at(1_000);
    assert_eq!(desk.reserved(1, Err(Refused::NoNode)), []);
    assert_eq!(refused(&desk.at(START_MS)), [(1, Refused::NoNode)]);
}
