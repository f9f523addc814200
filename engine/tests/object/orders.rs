//! Orders to end an instance, over restarts of the edge and failures of its store.

use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::Phase;
use berth_engine::{
    Effect, EndOrder, Input, PublicState, Record, RecordState, Refused, StoreFailure, WaiterId,
};

use super::desk::{Desk, instance, object, persist, placed, refused, stops};
use super::{SIGKILL, SIGTERM, order};

const GENTLE: EndOrder = EndOrder::Stop { signal: Some(2), grace_ms: Some(5) };

/// The record that is to be written.
fn record(effects: &[Effect]) -> Record {
    let mut records = effects.iter().filter_map(|effect| match effect {
        Effect::Persist { record, .. } => Some(record.clone()),
        _ => None,
    });
    records.next().unwrap_or_else(|| panic!("no write: {effects:?}"))
}

/// The next run of the edge, which reads this record.
fn restarted(record: &Record) -> Desk {
    // As the store keeps it.
    let text = serde_json::to_string(record).unwrap();
    let mut desk = Desk::new();
    desk.restore(serde_json::from_str(&text).unwrap());
    desk
}

#[test]
fn an_acknowledged_order_is_carried_on_after_a_restart_whatever_the_node_reports() {
    for (given, expected, reason) in [
        (EndOrder::Destroy, (SIGKILL, 0), ExitReason::Destroyed),
        (GENTLE, (2, 5), ExitReason::Stopped),
        (EndOrder::Stop { signal: None, grace_ms: None }, (SIGTERM, 900_000), ExitReason::Stopped),
    ] {
        let mut desk = Desk::new();
        desk.healthy();
        let effects = order(&mut desk, 9, given);
        let written = record(&effects);
        assert!(desk.persisted(persist(&effects)).contains(&Effect::Ordered { waiter: WaiterId(9) }));
        for phase in [Phase::Starting, Phase::Running, Phase::Ready, Phase::Stopping] {
            let mut desk = restarted(&written);
            assert_eq!(desk.view().state, PublicState::Stopping);
            assert_eq!(desk.acquire(1), []);
            assert_eq!(desk.status(1, 1, phase.clone()), [], "{phase:?}: nobody gets it");
            let (signal, grace_ms) = expected;
            assert_eq!(stops(&desk.synced(&[1])), [(instance(1), signal, grace_ms)], "{phase:?}");
            desk.status(1, 1, Phase::Exited(Outcome::signalled(signal)));
            assert_eq!(desk.view().exit.unwrap().reason, reason);
        }
    }
}

#[test]
fn only_idleness_is_forgotten_by_a_restart() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    desk.release(hold);
    let effects = desk.at(60_000);
    let mut after = restarted(&record(&effects));
    after.status(1, 1, Phase::Ready);
    assert_eq!(after.synced(&[1]), []);
    assert_eq!(after.view().state, PublicState::Healthy);
    // An order on top of it is one of a user, although the reason stays.
    desk.persisted(persist(&effects));
    let effects = order(&mut desk, 9, GENTLE);
    let mut after = restarted(&record(&effects));
    after.status(1, 1, Phase::Ready);
    assert_eq!(stops(&after.synced(&[1])), [(instance(1), 2, 5)]);
}

#[test]
fn what_did_not_start_in_time_is_ended_also_after_a_restart() {
    let mut desk = Desk::new();
    desk.starting();
    let mut after = restarted(&record(&desk.at(8_000)));
    after.status(1, 1, Phase::Running);
    assert_eq!(stops(&after.synced(&[1])), [(instance(1), SIGKILL, 0)]);
    after.status(1, 1, Phase::Exited(Outcome::signalled(SIGKILL)));
    let exit = after.view().exit.unwrap();
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.unwrap().contains("start_timeout"));
}

#[test]
fn an_order_that_cannot_be_written_is_sent_and_not_acknowledged() {
    let mut desk = Desk::new();
    desk.healthy();
    let write = persist(&order(&mut desk, 9, EndOrder::Destroy));
    let result = Err(StoreFailure::new("full"));
    let effects = desk.input(Input::Persisted { object: object(), persist: write, result });
    assert_eq!(stops(&effects), [(instance(1), SIGKILL, 0)]);
    assert_eq!(refused(&effects), [(9, Refused::Store)]);
    assert!(!effects.contains(&Effect::Ordered { waiter: WaiterId(9) }));
}

#[test]
fn an_order_of_an_earlier_version_is_carried_on_as_far_as_it_is_known() {
    for (reason, sent) in [
        (ExitReason::Destroyed, vec![(instance(1), SIGKILL, 0)]),
        (ExitReason::Stopped, vec![(instance(1), SIGTERM, 900_000)]),
        (ExitReason::StartFailed, vec![]),
        (ExitReason::Idle, vec![]),
    ] {
        let mut earlier = placed(1, 4);
        let RecordState::Placed { stop_reason, .. } = &mut earlier.state else { unreachable!() };
        *stop_reason = Some(reason);
        let mut desk = restarted(&earlier);
        desk.status(1, 4, Phase::Ready);
        assert_eq!(stops(&desk.synced(&[1])), sent, "{reason:?}");
    }
}

#[test]
fn a_start_that_never_left_the_edge_is_no_failure_of_the_app() {
    let mut desk = Desk::new();
    for n in 1..=3 {
        desk.acquire(u64::from(n));
        let stopped = RecordState::Stopped { outcome: None, node: None };
        let generation = berth_common::ids::Generation(u64::from(n) - 1);
        let record =
            Record { key: super::key(), generation, state: stopped, last_change_ms: 0, failures: Vec::new() };
        assert!(matches!(&desk.loaded(Some(record))[..], [Effect::Reserve(_)]), "no pause before it");
        let placing = persist(&desk.reserved(u64::from(n), Ok(n)));
        desk.persisted(placing);
        let write = persist(&desk.at(desk.now_ms + 8_000));
        desk.persisted(write);
        let effects = desk.input(Input::NeverBegan { object: object(), instance: instance(n) });
        assert_eq!(desk.view().crash_loop, None);
        assert_eq!(desk.view().exit.unwrap().reason, ExitReason::StartFailed);
        desk.persisted(persist(&effects));
    }
}
