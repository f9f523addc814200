//! The usage records of instances.

use std::time::Duration;

use berth_common::metering::Metered;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::{Phase, Refusal, RefusalCode};
use berth_engine::{Input, Kept, StoreFailure};

use crate::desk::{Desk, PLACED_MS, class, instance, object, persist, placed, usage};

/// The time of day when a desk's own clock says 0.
const WALL_MS: u64 = 1_000_000;

fn exited() -> Phase {
    Phase::Exited(Outcome::exited(0))
}

fn metered() -> Metered {
    Metered { cpu_us: 7, estimated: false, ..Metered::estimate(WALL_MS + 12, Duration::from_secs(3)) }
}

#[test]
fn what_a_node_measured_is_written_with_the_end_and_again_if_that_fails() {
    let mut desk = Desk::new();
    desk.healthy();
    let effects = desk.report(1, 1, exited(), Some(metered()));
    let life = usage(&effects).unwrap();
    assert_eq!((life.started_ms, life.lived_cs, life.cpu_us), (WALL_MS + 12, 300, 7));
    assert_eq!((life.ended_ms(), life.estimated, life.reason), (WALL_MS + 3_012, false, ExitReason::Exit));
    let limits = class().recipe.resources;
    assert_eq!(life.instance, instance(1));
    assert_eq!((life.memory_bytes, life.cpu_sixteenths), (limits.memory_bytes, limits.cpu_sixteenths));
    assert_eq!(life.disk_bytes, limits.disk_bytes);
    let persist = persist(&effects);
    desk.input(Input::Persisted { object: object(), persist, result: Err(StoreFailure::new("full")) });
    assert_eq!(usage(&desk.at(1_000)), Some(life));
}

#[test]
fn what_never_ran_has_no_life() {
    let mut desk = Desk::new();
    desk.starting();
    assert_eq!(usage(&desk.status(1, 1, exited())), None);
    let mut desk = Desk::new();
    desk.starting();
    let refusal = Refusal { code: RefusalCode::Invalid, message: "none".to_owned() };
    let refused = Input::StartRefused { object: object(), instance: instance(1), refusal };
    assert_eq!(usage(&desk.input(refused)), None);
}

#[test]
fn a_node_that_does_not_measure_is_made_up_for() {
    let mut desk = Desk::new();
    desk.starting();
    desk.at(100);
    desk.status(1, 1, Phase::Running);
    desk.at(2_100);
    let life = usage(&desk.status(1, 1, exited())).unwrap();
    assert_eq!((life.started_ms, life.lived_cs, life.estimated), (WALL_MS + 100, 200, true));
}

#[test]
fn a_lost_instance_lived_until_its_node_was_last_heard_of() {
    for (since_ms, heard_ms, lived_cs) in [
        (None, None, 500),
        (None, Some(2_000), 200),
        (Some(1_000), Some(2_000), 100),
        (Some(9_000), None, 500),
    ] {
        let mut desk = Desk::new();
        desk.healthy();
        desk.at(5_000);
        let at = |ms: Option<u64>| ms.map(|ms| WALL_MS + ms);
        let kept = Kept { since_ms: at(since_ms), heard_ms: at(heard_ms) };
        let life = usage(&desk.synced_with(&[], kept)).unwrap();
        assert_eq!((life.lived_cs, life.estimated), (lived_cs, true), "{kept:?}");
        assert_eq!(life.reason, ExitReason::RuntimeLost);
    }
}

#[test]
fn a_start_that_a_node_never_got_is_distinguished_from_an_instance_that_it_lost() {
    for (since_ms, ran) in [(None, true), (Some(PLACED_MS), true), (Some(PLACED_MS - 1), false)] {
        let mut desk = Desk::new();
        desk.restore(placed(1, 4));
        let kept = Kept { since_ms, heard_ms: None };
        let life = usage(&desk.synced_with(&[], kept));
        assert_eq!(life.is_some(), ran, "{kept:?}");
    }
    // An instance that was seen running did run, whatever its node reports later.
    let mut desk = Desk::new();
    desk.restore(placed(1, 4));
    desk.status(1, 4, Phase::Ready);
    let kept = Kept { since_ms: Some(PLACED_MS - 1), heard_ms: None };
    assert_eq!(usage(&desk.synced_with(&[], kept)).unwrap().started_ms, PLACED_MS);
}
