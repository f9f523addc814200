//! Requests behind a stop: one for idleness gives way to them, one that somebody ordered does not.

use berth_common::outcome::Outcome;
use berth_common::wire::call::Phase;
use berth_engine::{Effect, EndOrder, Refused};

use super::desk::{Desk, instance, persist, refused, stops};
use super::{SIGTERM, order};

/// Has instance 1 ending since second 60, for idleness, without anybody who waits.
fn asleep() -> Desk {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    desk.release(hold);
    let write = persist(&desk.at(60_000));
    assert_eq!(stops(&desk.persisted(write)), [(instance(1), SIGTERM, 900_000)]);
    desk
}

#[test]
fn a_request_behind_a_stop_for_idleness_leaves_wake_grace_of_its_grace() {
    let mut desk = asleep();
    desk.now_ms = 70_000;
    assert_eq!(stops(&desk.acquire(2)), [(instance(1), SIGTERM, 30_000)]);
    desk.now_ms = 90_000;
    assert_eq!(desk.acquire(3), [], "it ends soon enough for this one too");
    // It is killed at the last moment, and the next one still has its whole time to start.
    desk.now_ms = 100_000;
    let effects = desk.status(1, 1, Phase::Exited(Outcome::signalled(9)));
    let effects = desk.persisted(persist(&effects));
    assert!(matches!(effects.last(), Some(Effect::Reserve(_))), "{effects:?}");
    let write = persist(&desk.reserved(2, Ok(2)));
    desk.persisted(write);
    desk.now_ms = 107_000;
    desk.status(2, 2, Phase::Running);
    let granted = desk.status(2, 2, Phase::Ready);
    assert_eq!(granted.iter().filter(|effect| matches!(effect, Effect::Grant { .. })).count(), 2);
}

#[test]
fn a_request_waits_no_longer_than_the_stop_may_take_and_a_start_after_it() {
    let mut desk = asleep();
    desk.now_ms = 70_000;
    desk.acquire(2);
    assert_eq!(desk.at(107_999), []);
    assert_eq!(refused(&desk.at(108_000)), [(2, Refused::Stopping { retry_ms: None })]);
}

#[test]
fn a_stop_that_is_nearly_over_is_not_hastened() {
    let mut desk = asleep();
    desk.now_ms = 950_000;
    assert_eq!(desk.acquire(2), []);
    assert_eq!(desk.at(967_999), []);
    assert_eq!(refused(&desk.at(968_000)), [(2, Refused::Stopping { retry_ms: None })]);
}

#[test]
fn a_stop_that_a_user_ordered_keeps_its_grace_and_tells_how_long_it_takes() {
    let mut desk = asleep();
    desk.now_ms = 70_000;
    let gentle = EndOrder::Stop { signal: None, grace_ms: Some(600_000) };
    let write = persist(&order(&mut desk, 9, gentle));
    desk.persisted(write);
    assert_eq!(desk.acquire(2), []);
    assert_eq!(refused(&desk.at(78_000)), [(2, Refused::Stopping { retry_ms: Some(592_000) })]);
}

#[test]
fn after_a_lost_connection_the_shorter_grace_is_sent_again() {
    let mut desk = asleep();
    desk.acquire(2);
    assert_eq!(stops(&desk.synced(&[1])), [(instance(1), SIGTERM, 30_000)]);
}
