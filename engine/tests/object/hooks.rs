//! The events that a class's hook receives, and its decisions.

use std::sync::Arc;

use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::{ClassSpec, HookKind, HooksSpec};
use berth_common::wire::call::Phase;
use berth_engine::{Effect, Event, HoldId, Input, RecordState, WaiterId};

use crate::desk::{Desk, class, instance, key, object, persist, placed, refused, stops};

const SIGTERM: i32 = 15;
const SLEEP_AFTER_MS: u64 = 60_000;
const ANSWER_TIMEOUT_MS: u64 = 30_000;

fn subscribed_to(events: &[HookKind]) -> ClassSpec {
    let (url, secret) = ("https://hooks".to_owned(), "KEY".to_owned());
    let hooks = HooksSpec { url, secret, events: events.iter().copied().collect() };
    ClassSpec { hooks: Some(hooks), ..class() }
}

fn portless() -> ClassSpec {
    ClassSpec { default_port: None, ..class() }
}

/// The events that are written.
fn events(effects: &[Effect]) -> Vec<Event> {
    let events = effects.iter().filter_map(|effect| match effect {
        Effect::Persist { events, .. } => Some(events.clone()),
        _ => None,
    });
    events.flatten().collect()
}

fn kinds(effects: &[Effect]) -> Vec<HookKind> {
    events(effects).iter().map(|event| event.kind).collect()
}

fn granted(effects: &[Effect]) -> Vec<HoldId> {
    let holds = effects.iter().filter_map(|effect| match effect {
        Effect::Grant { hold, .. } => Some(*hold),
        _ => None,
    });
    holds.collect()
}

/// Asks for an instance of this class, and has instance 1 sent to its node.
fn starting(desk: &mut Desk, class: ClassSpec) {
    desk.input(Input::Acquire { key: key(), class: Arc::new(class), waiter: WaiterId(1) });
    desk.loaded(None);
    let persist = persist(&desk.reserved(1, Ok(1)));
    desk.persisted(persist);
}

/// Has instance 1 of this class healthy, without holds, at 0 ms. Returns the effects of becoming so.
fn idle(desk: &mut Desk, class: ClassSpec) -> Vec<Effect> {
    starting(desk, class);
    desk.status(1, 1, Phase::Running);
    let effects = desk.status(1, 1, Phase::Ready);
    for hold in granted(&effects) {
        desk.release(hold);
    }
    effects
}

/// Has it asked whether the instance may end. Gives the question's time.
fn asked(desk: &mut Desk) -> u64 {
    idle(desk, subscribed_to(&[HookKind::ActivityExpired]));
    let effects = desk.at(SLEEP_AFTER_MS);
    assert_eq!(kinds(&effects), [HookKind::ActivityExpired]);
    assert_eq!(stops(&effects), []);
    events(&effects)[0].time_ms
}

fn decided(desk: &mut Desk, asked_ms: u64, renew: bool) -> Vec<Effect> {
    desk.input(Input::Decided { object: object(), instance: instance(1), asked_ms, renew })
}

/// Whether the order to end is sent once that is written.
fn sleeps(desk: &mut Desk, effects: &[Effect]) -> bool {
    let effects = desk.persisted(persist(effects));
    stops(&effects).first().is_some_and(|(of, signal, _)| (*of, *signal) == (instance(1), SIGTERM))
}

#[test]
fn a_start_event_is_written_once_however_often_the_edge_restarts() {
    let mut desk = Desk::new();
    let effects = idle(&mut desk, subscribed_to(&[HookKind::Start]));
    assert_eq!(kinds(&effects), [HookKind::Start]);
    let Some(Effect::Persist { record, .. }) = effects.iter().find(|e| matches!(e, Effect::Persist { .. }))
    else {
        panic!("{effects:?}")
    };
    assert!(matches!(record.state, RecordState::Placed { announced: true, .. }));

    let mut again = Desk::new();
    again.restore(record.clone());
    assert_eq!(kinds(&again.status(1, 1, Phase::Ready)), []);

    let mut unannounced = placed(1, 1);
    let RecordState::Placed { class, .. } = &mut unannounced.state else { unreachable!() };
    **class = subscribed_to(&[HookKind::Start]);
    let mut again = Desk::new();
    again.restore(unannounced);
    assert_eq!(kinds(&again.status(1, 1, Phase::Ready)), [HookKind::Start]);
}

#[test]
fn an_end_event_is_written_with_the_end() {
    let all = [HookKind::Start, HookKind::Stop, HookKind::Error];
    for (outcome, expected) in [
        (Outcome::exited(0), vec![HookKind::Stop]),
        (Outcome::exited(3), vec![HookKind::Error, HookKind::Stop]),
        (Outcome::because(ExitReason::Oom, "m"), vec![HookKind::Error, HookKind::Stop]),
        (Outcome::because(ExitReason::RuntimeLost, "m"), vec![HookKind::Error, HookKind::Stop]),
        (Outcome::because(ExitReason::Drained, "m"), vec![HookKind::Stop]),
        (Outcome::because(ExitReason::StartFailed, "m"), vec![HookKind::Error]),
    ] {
        let mut desk = Desk::new();
        idle(&mut desk, subscribed_to(&all));
        let effects = desk.status(1, 1, Phase::Exited(outcome.clone()));
        assert_eq!(kinds(&effects), expected, "{outcome:?}");
        assert!(events(&effects).iter().all(|event| event.outcome.as_ref() == Some(&outcome)));
    }
}

#[test]
fn an_end_event_that_was_not_written_is_in_the_retry() {
    let mut desk = Desk::new();
    idle(&mut desk, subscribed_to(&[HookKind::Stop]));
    let effects = desk.status(1, 1, Phase::Exited(Outcome::exited(0)));
    let result = Err(berth_engine::StoreFailure::new("full"));
    desk.input(Input::Persisted { object: object(), persist: persist(&effects), result });
    assert_eq!(kinds(&desk.at(1_000)), [HookKind::Stop]);
}

#[test]
fn events_of_other_kinds_are_not_written() {
    let mut desk = Desk::new();
    idle(&mut desk, subscribed_to(&[HookKind::Start]));
    assert_eq!(kinds(&desk.status(1, 1, Phase::Exited(Outcome::exited(1)))), []);
    let mut desk = Desk::new();
    assert_eq!(kinds(&idle(&mut desk, class())), []);
}

#[test]
fn a_hook_that_renews_keeps_the_instance_for_as_long_again() {
    let mut desk = Desk::new();
    let asked_ms = asked(&mut desk);
    assert_eq!(decided(&mut desk, asked_ms, true), []);
    assert_eq!(desk.at(2 * SLEEP_AFTER_MS - 1), []);
    // The answer of before is none to the next question.
    assert_eq!(kinds(&desk.at(2 * SLEEP_AFTER_MS)), [HookKind::ActivityExpired]);
    assert_eq!(decided(&mut desk, asked_ms, true), []);
    assert!(!desk.at(2 * SLEEP_AFTER_MS + ANSWER_TIMEOUT_MS).is_empty());
}

#[test]
fn another_answer_or_none_in_time_puts_it_to_sleep() {
    let mut desk = Desk::new();
    let asked_ms = asked(&mut desk);
    let effects = decided(&mut desk, asked_ms, false);
    assert!(sleeps(&mut desk, &effects));

    let mut desk = Desk::new();
    asked(&mut desk);
    assert_eq!(desk.at(SLEEP_AFTER_MS + ANSWER_TIMEOUT_MS - 1), []);
    let effects = desk.at(SLEEP_AFTER_MS + ANSWER_TIMEOUT_MS);
    assert!(sleeps(&mut desk, &effects));
}

#[test]
fn activity_makes_the_question_void() {
    let mut desk = Desk::new();
    let asked_ms = asked(&mut desk);
    let hold = granted(&desk.acquire(2))[0];
    assert_eq!(decided(&mut desk, asked_ms, false), []);
    assert_eq!(desk.at(SLEEP_AFTER_MS + ANSWER_TIMEOUT_MS), []);
    desk.release(hold);
    let end = 2 * SLEEP_AFTER_MS + ANSWER_TIMEOUT_MS;
    assert_eq!(desk.at(end - 1), []);
    assert_eq!(kinds(&desk.at(end)), [HookKind::ActivityExpired]);

    let mut desk = Desk::new();
    let asked_ms = asked(&mut desk);
    desk.input(Input::Touch { object: object(), instance: instance(1) });
    assert_eq!(decided(&mut desk, asked_ms, false), []);
}

#[test]
fn an_instance_without_a_port_is_ready_as_soon_as_it_runs() {
    let mut desk = Desk::new();
    starting(&mut desk, portless());
    let effects = desk.status(1, 1, Phase::Running);
    assert_eq!(granted(&effects).len(), 1);
    let Effect::Grant { placement, .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(placement.default_port, None);
    assert_eq!(desk.status(1, 1, Phase::Ready), []);
}

#[test]
fn one_that_has_done_its_work_before_it_was_seen_to_run_has_not_failed() {
    let mut desk = Desk::new();
    starting(&mut desk, portless());
    let effects = desk.status(1, 1, Phase::Exited(Outcome::exited(0)));
    assert_eq!((granted(&effects).len(), refused(&effects)), (1, vec![]));
    desk.persisted(persist(&effects));

    let mut desk = Desk::new();
    starting(&mut desk, portless());
    let effects = desk.status(1, 1, Phase::Exited(Outcome::exited(1)));
    assert_eq!((granted(&effects).len(), refused(&effects).len()), (0, 1));
}
