//! Single stories of one object, step by step: what users and operators rely on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod comeback;
mod desk;
mod drained;
mod elsewhere;
mod hooks;
mod last_node;
mod lost;
mod metering;
mod orders;
mod turns;
mod wake;

use std::sync::Arc;

use berth_common::ids::{Generation, ObjectKey, Version};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::ClassSpec;
use berth_common::wire::call::{Phase, Refusal, RefusalCode, Stop};
use berth_engine::{
    CrashLoop, Effect, EndOrder, Input, ObjectView, PublicState, Record, RecordState, Refused, StoreFailure,
    WaiterId,
};
use desk::{Desk, MAX_WAITERS, class, instance, key, node, object, persist, placed, refused, stops};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

#[test]
fn concurrent_first_requests_share_one_start() {
    let mut desk = Desk::new();
    assert_eq!(desk.acquire(1), [Effect::Load { object: object() }]);
    assert_eq!(desk.acquire(2), []);
    assert!(
        matches!(&desk.loaded(None)[..], [Effect::Reserve(demand)] if demand.generation == Generation(1))
    );
    assert_eq!(desk.acquire(3), []);
    let write = persist(&desk.reserved(1, Ok(1)));
    assert!(matches!(&desk.persisted(write)[..], [Effect::Start { .. }]));
    assert_eq!(desk.status(1, 1, Phase::Running), []);
    let granted = desk.status(1, 1, Phase::Ready);
    let waiters: Vec<_> = granted.iter().map(|effect| matches!(effect, Effect::Grant { .. })).collect();
    assert_eq!(waiters, [true; 3]);
    assert_eq!(desk.view().state, PublicState::Healthy);
}

#[test]
fn a_start_runs_the_recorded_class() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.loaded(None);
    let effects = desk.reserved(1, Ok(1));
    let [Effect::Persist { record, persist, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(record.state, placed(1, 1).state);
    let effects = desk.persisted(*persist);
    let [Effect::Start { node: on, start, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(
        (on, start.instance, start.term_ms, start.ready_port),
        (&node(), instance(1), 120_000, Some(8080))
    );
    assert_eq!((&start.object, &start.recipe), (&key(), &class().recipe));
}

#[test]
fn what_a_node_froze_is_resumed_if_the_object_has_it_and_ended_if_not() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.loaded(None);
    let write = persist(&desk.reserved(1, Ok(1)));
    desk.persisted(write);
    desk.status(1, 1, Phase::Ready);
    assert_eq!(desk.frozen(1, 1), [Effect::Resume { node: node(), instance: instance(1) }]);
    let killed = Stop { instance: instance(9), signal: 9, grace_ms: 0 };
    assert_eq!(desk.frozen(9, 1), [Effect::Stop { node: node(), stop: killed }]);
}

#[test]
fn only_so_many_requests_wait() {
    let mut desk = Desk::new();
    for waiter in 0..=MAX_WAITERS as u64 {
        let effects = desk.acquire(waiter);
        let over = waiter == MAX_WAITERS as u64;
        assert_eq!(!refused(&effects).is_empty(), over);
    }
    desk.input(Input::Cancel { object: object(), waiter: WaiterId(0) });
    assert_eq!(refused(&desk.acquire(9)), []);
}

#[test]
fn all_requests_are_cancelled_before_room_is_found() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.loaded(None);
    desk.input(Input::Cancel { object: object(), waiter: WaiterId(1) });
    let back = Effect::Unreserve { object: object(), generation: Generation(1), node: node() };
    assert_eq!(desk.reserved(1, Ok(1)), [back]);
    assert_eq!(desk.engine.view(object()), None);
}

#[test]
fn no_room_refuses_all_waiting_requests() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.acquire(2);
    desk.loaded(None);
    let full = Refused::NoCapacity { what: "memory".to_owned() };
    assert_eq!(refused(&desk.reserved(1, Err(full.clone()))), [(1, full.clone()), (2, full)]);
    assert!(matches!(desk.acquire(3)[..], [Effect::Load { .. }]), "and forgotten");
}

#[test]
fn an_unreadable_record_refuses() {
    let mut desk = Desk::new();
    desk.acquire(1);
    let record = Err(StoreFailure::new("damaged"));
    assert_eq!(refused(&desk.input(Input::Loaded { object: object(), record })), [(1, Refused::Store)]);
    assert_eq!(desk.engine.next_deadline_ms(), None);
}

#[test]
fn an_instance_that_does_not_run_in_time_is_killed() {
    let mut desk = Desk::new();
    desk.starting();
    desk.now_ms = 1_000;
    desk.acquire(2);
    let effects = desk.at(8_000);
    assert_eq!(refused(&effects), [(1, Refused::StartTimeout), (2, Refused::StartTimeout)]);
    assert_eq!(desk.view().state, PublicState::Stopping);
    let effects = desk.persisted(persist(&effects));
    assert_eq!(stops(&effects), [(instance(1), SIGKILL, 0)]);
}

#[test]
fn an_instance_without_waiting_requests_must_run_in_time_too() {
    let mut desk = Desk::new();
    desk.starting();
    desk.input(Input::Cancel { object: object(), waiter: WaiterId(1) });
    let write = persist(&desk.at(8_000));
    assert_eq!(stops(&desk.persisted(write)), [(instance(1), SIGKILL, 0)]);
}

#[test]
fn a_refusal_names_the_port_that_never_answers() {
    let mut desk = Desk::new();
    desk.starting();
    desk.now_ms = 7_999;
    desk.status(1, 1, Phase::Running);
    desk.now_ms = 20_000;
    desk.acquire(2);
    assert_eq!(desk.at(27_998), []);
    let effects = desk.at(27_999);
    let port = Refused::PortTimeout { port: 8080 };
    assert_eq!(refused(&effects), [(1, port.clone()), (2, port)]);
    assert_eq!(stops(&desk.persisted(persist(&effects))), [(instance(1), SIGKILL, 0)]);
    desk.status(1, 1, Phase::Exited(Outcome::signalled(SIGKILL)));
    let exit = desk.view().exit.unwrap();
    assert_eq!((exit.reason, exit.signal), (ExitReason::StartFailed, Some(SIGKILL)));
    assert!(exit.message.unwrap().contains("8080"));
}

#[test]
fn a_refusal_names_the_code_of_an_exit_while_starting() {
    let mut desk = Desk::new();
    desk.starting();
    let effects = desk.status(1, 1, Phase::Exited(Outcome::exited(3)));
    assert_eq!(refused(&effects), [(1, Refused::StartFailed(Outcome::exited(3)))]);
    assert_eq!(desk.view().state, PublicState::StoppedWithCode);
    let ended = Some((object(), Outcome::exited(3)));
    let forget = Effect::Forget { node: node(), instance: instance(1), ended };
    assert_eq!(desk.persisted(persist(&effects)), [forget]);
    assert_eq!(desk.view().state, PublicState::StoppedWithCode, "it is remembered for a while: it failed");
}

#[test]
fn a_node_without_room_after_all_is_no_fault_of_the_app() {
    for (code, fault) in [(RefusalCode::Capacity, false), (RefusalCode::Image, true)] {
        let mut desk = Desk::new();
        desk.starting();
        let refusal = Refusal { code, message: "why".to_owned() };
        let input = Input::StartRefused { object: object(), instance: instance(1), refusal: refusal.clone() };
        let expected = match fault {
            true => Refused::StartRefused(refusal),
            false => Refused::NoCapacity { what: "why".to_owned() },
        };
        desk.input(input);
        let nowhere = Refused::NoCapacity { what: "no other node".to_owned() };
        assert_eq!(refused(&desk.reserved(2, Err(nowhere))), [(1, expected)]);
    }
}

#[test]
fn a_request_while_stopping_gets_a_new_instance() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    desk.release(hold);
    let effects = desk.at(60_000);
    assert_eq!(desk.acquire(2), []);
    assert_eq!(stops(&desk.persisted(persist(&effects))), [(instance(1), SIGTERM, 30_000)]);
    let effects = desk.status(1, 1, Phase::Exited(Outcome::exited(0)));
    assert_eq!(refused(&effects), []);
    let effects = desk.persisted(persist(&effects));
    let [Effect::Forget { .. }, Effect::Reserve(demand)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(demand.generation, Generation(2));
    persist(&desk.reserved(2, Ok(2)));
    assert_eq!(desk.view().instance, Some(instance(2)));
}

#[test]
fn an_end_by_itself_while_serving_keeps_its_outcome() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    let effects = desk.status(1, 1, Phase::Exited(Outcome::exited(3)));
    assert_eq!(desk.acquire(2), []);
    assert_eq!(desk.view().state, PublicState::StoppedWithCode);
    assert!(matches!(desk.persisted(persist(&effects))[..], [Effect::Forget { .. }, Effect::Reserve(_)]));
    // The request that held it ends later, without effect on the next instance.
    persist(&desk.reserved(2, Ok(2)));
    assert_eq!(desk.release(hold), []);
}

#[test]
fn a_node_may_end_an_instance_by_itself() {
    let mut desk = Desk::new();
    desk.healthy();
    assert_eq!(desk.status(1, 1, Phase::Stopping), []);
    assert_eq!(desk.view().state, PublicState::Stopping);
    assert_eq!(desk.acquire(2), [], "and gets no more requests");
    let drained = Outcome { reason: ExitReason::Drained, ..Outcome::exited(0) };
    desk.status(1, 1, Phase::Exited(drained.clone()));
    assert_eq!(desk.view().exit, Some(drained));
}

#[test]
fn what_is_no_objects_instance_is_ended_and_forgotten() {
    let mut desk = Desk::new();
    desk.healthy();
    // Another instance, another generation of the same one, and an object that is not in memory.
    for (n, generation) in [(9, 1), (1, 7)] {
        assert_eq!(
            stops(&desk.status(n, generation, Phase::Running)),
            [(instance(n), SIGKILL, 0)],
            "{n} {generation}"
        );
    }
    let ended = desk.status(9, 1, Phase::Exited(Outcome::exited(0)));
    assert_eq!(ended, [Effect::Forget { node: node(), instance: instance(9), ended: None }]);
    assert_eq!(desk.view().state, PublicState::Healthy);
    assert_eq!(stops(&Desk::new().status(1, 1, Phase::Starting)), [(instance(1), SIGKILL, 0)]);
}

#[test]
fn an_instance_taken_for_ended_that_lives_is_ended() {
    let mut desk = Desk::new();
    desk.healthy();
    persist(&desk.synced(&[]));
    assert_eq!(desk.view().exit.unwrap().reason, ExitReason::RuntimeLost);
    assert_eq!(stops(&desk.status(1, 1, Phase::Ready)), [(instance(1), SIGKILL, 0)]);
    assert_eq!(desk.status(1, 1, Phase::Exited(Outcome::exited(0))), [], "forgotten once that is persisted");
}

#[test]
fn an_account_without_what_was_not_asked_for_yet_means_nothing() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.loaded(None);
    let write = persist(&desk.reserved(1, Ok(1)));
    assert_eq!(desk.synced(&[]), []);
    assert!(matches!(desk.persisted(write)[..], [Effect::Start { .. }]));
    assert_eq!(desk.synced(&[1]), [], "held unsent by the shell");
}

#[test]
fn an_end_is_written_again_until_it_is() {
    let mut desk = Desk::new();
    desk.healthy();
    let write = persist(&desk.status(1, 1, Phase::Exited(Outcome::exited(0))));
    let failed =
        Input::Persisted { object: object(), persist: write, result: Err(StoreFailure::new("full")) };
    assert_eq!(desk.input(failed), []);
    let again = persist(&desk.at(1_000));
    assert_ne!(again, write);
    assert_eq!(desk.persisted(write), [], "an old answer means nothing");
    assert!(matches!(desk.persisted(again)[..], [Effect::Forget { .. }]));
}

#[test]
fn after_a_restart_requests_wait_for_the_nodes_report() {
    let mut desk = Desk::new();
    desk.restore(placed(1, 4));
    assert_eq!(desk.view().state, PublicState::Running);
    assert_eq!(desk.acquire(1), []);
    assert!(matches!(desk.status(1, 4, Phase::Ready)[..], [Effect::Grant { .. }]));
    assert_eq!(desk.synced(&[1]), []);
    assert_eq!(desk.view().state, PublicState::Healthy);
}

#[test]
fn after_a_restart_a_node_that_does_not_come_is_named() {
    let mut desk = Desk::new();
    desk.restore(placed(1, 4));
    desk.acquire(1);
    assert_eq!(refused(&desk.at(8_000)), [(1, Refused::NodeUnreachable { node: node(), retry_ms: None })]);
    assert_eq!(desk.view().instance, Some(instance(1)), "never placed elsewhere while it may live");
}

#[test]
fn a_placement_found_late_is_recovered_and_never_doubled() {
    let mut desk = Desk::new();
    desk.acquire(1);
    assert_eq!(desk.loaded(Some(placed(1, 4))), []);
    assert_eq!(desk.view().instance, Some(instance(1)));
    persist(&desk.synced(&[]));
}

#[test]
fn a_stop_under_way_is_resumed_with_its_reason() {
    for (reason, signal, grace_ms) in
        [(ExitReason::Idle, SIGTERM, 900_000), (ExitReason::StartFailed, SIGKILL, 0)]
    {
        let mut record = placed(1, 4);
        let RecordState::Placed { stop_reason, .. } = &mut record.state else { unreachable!() };
        *stop_reason = Some(reason);
        let mut desk = Desk::new();
        desk.restore(record);
        assert_eq!(desk.status(1, 4, Phase::Stopping), []);
        assert_eq!(stops(&desk.synced(&[1])), [(instance(1), signal, grace_ms)]);
        desk.status(1, 4, Phase::Exited(Outcome::exited(0)));
        assert_eq!(desk.view().exit.unwrap().reason, reason);
    }
}

#[test]
fn a_touch_of_an_earlier_instance_means_nothing() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    desk.release(hold);
    desk.now_ms = 30_000;
    desk.input(Input::Touch { object: object(), instance: instance(7) });
    assert_eq!(desk.engine.next_deadline_ms(), Some(60_000));
    desk.input(Input::Touch { object: object(), instance: instance(1) });
    assert_eq!(desk.at(60_000), []);
    assert_eq!(desk.engine.next_deadline_ms(), Some(90_000));
    assert_eq!(desk.view().state, PublicState::Healthy);
    persist(&desk.at(90_000));
}

#[test]
fn an_idle_end_counts_as_a_plain_stop_whatever_the_code() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    desk.release(hold);
    let write = persist(&desk.at(60_000));
    desk.persisted(write);
    desk.status(1, 1, Phase::Exited(Outcome::exited(143)));
    let view = desk.view();
    assert_eq!(view.state, PublicState::Stopped);
    assert_eq!(view.exit.map(|exit| (exit.reason, exit.code)), Some((ExitReason::Idle, Some(143))));
}

#[test]
fn stopped_objects_cost_nothing() {
    let mut desk = Desk::new();
    for n in 0..100_000 {
        let key = ObjectKey { name: n.to_string().parse().unwrap(), ..key() };
        let state = RecordState::Stopped { outcome: None, node: None };
        desk.restore(Record {
            key,
            generation: Generation(1),
            state,
            last_change_ms: 0,
            failures: Vec::new(),
        });
    }
    assert!(desk.engine.views().is_empty());
    assert_eq!(desk.engine.next_deadline_ms(), None);
}

fn order(desk: &mut Desk, waiter: u64, order: EndOrder) -> Vec<Effect> {
    desk.input(Input::End { object: object(), order, waiter: WaiterId(waiter) })
}

const STOP: EndOrder = EndOrder::Stop { signal: None, grace_ms: None };

#[test]
fn an_ordered_stop_is_durable_before_it_is_sent_and_confirmed() {
    let mut desk = Desk::new();
    desk.healthy();
    let effects = order(&mut desk, 9, STOP);
    let confirmed = Effect::Ordered { waiter: WaiterId(9) };
    assert!(!effects.contains(&confirmed));
    let effects = desk.persisted(persist(&effects));
    assert_eq!(stops(&effects), [(instance(1), SIGTERM, 900_000)]);
    assert_eq!(effects.last(), Some(&confirmed));
    desk.status(1, 1, Phase::Exited(Outcome::exited(0)));
    let exit = desk.view().exit.unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Stopped, Some(0)));
}

#[test]
fn an_order_has_its_own_signal_and_grace_and_can_become_sharper() {
    let mut desk = Desk::new();
    desk.healthy();
    let gentle = EndOrder::Stop { signal: Some(2), grace_ms: Some(5) };
    let effects = order(&mut desk, 8, gentle);
    assert_eq!(stops(&desk.persisted(persist(&effects))), [(instance(1), 2, 5)]);
    let effects = order(&mut desk, 9, EndOrder::Destroy);
    assert_eq!(stops(&desk.persisted(persist(&effects))), [(instance(1), SIGKILL, 0)]);
    let effects = order(&mut desk, 10, gentle);
    assert_eq!(stops(&desk.persisted(persist(&effects))), [(instance(1), SIGKILL, 0)], "never gentler again");
    desk.status(1, 1, Phase::Exited(Outcome::signalled(SIGKILL)));
    assert_eq!(desk.view().exit.unwrap().reason, ExitReason::Destroyed);
}

#[test]
fn an_order_ends_also_what_is_being_placed_and_refuses_who_waited_for_it() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.loaded(None);
    let placing = persist(&desk.reserved(1, Ok(1)));
    assert_eq!(refused(&order(&mut desk, 9, STOP)), [(1, Refused::Ended)]);
    desk.acquire(2);
    let effects = desk.persisted(placing);
    assert!(effects.contains(&Effect::Ordered { waiter: WaiterId(9) }));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Start { .. })), "{effects:?}");
    let effects = desk.persisted(persist(&effects));
    assert!(matches!(effects.last(), Some(Effect::Reserve(_))), "who came later has it started anew");
}

#[test]
fn an_order_for_what_does_not_run_is_confirmed_at_once() {
    let mut desk = Desk::new();
    assert_eq!(order(&mut desk, 9, EndOrder::Destroy), [Effect::Ordered { waiter: WaiterId(9) }]);
    assert_eq!(desk.engine.view(object()), None);
}

#[test]
fn requests_do_not_start_what_only_an_order_starts() {
    let mut desk = Desk::new();
    let manual = Arc::new(ClassSpec { manual_start: true, ..class() });
    let ask = |waiter| Input::Acquire { key: key(), class: Arc::clone(&manual), waiter: WaiterId(waiter) };
    desk.input(ask(1));
    assert_eq!(refused(&desk.loaded(None)), [(1, Refused::ManualStart)]);
    // One that may start it is enough for those that may not.
    desk.input(ask(2));
    desk.acquire(3);
    assert!(matches!(&desk.loaded(None)[..], [Effect::Reserve(_)]));
    let placing = persist(&desk.reserved(1, Ok(1)));
    desk.persisted(placing);
    desk.status(1, 1, Phase::Running);
    assert_eq!(desk.status(1, 1, Phase::Ready).len(), 2);
}

/// Has the object's next instance start at once, answer, and exit with code 1.
fn fail(desk: &mut Desk, n: u8) {
    let generation = u64::from(n);
    let effects = desk.acquire(100 + generation);
    assert!(matches!(&effects[..], [Effect::Load { .. }]), "{effects:?}");
    let stopped = RecordState::Stopped { outcome: None, node: None };
    let record = Record {
        key: key(),
        generation: Generation(generation - 1),
        state: stopped,
        last_change_ms: 0,
        failures: Vec::new(),
    };
    assert!(matches!(&desk.loaded(Some(record))[..], [Effect::Reserve(_)]));
    let placing = persist(&desk.reserved(generation, Ok(n)));
    desk.persisted(placing);
    desk.status(n, generation, Phase::Running);
    desk.status(n, generation, Phase::Ready);
    let ended = persist(&desk.status(n, generation, Phase::Exited(Outcome::exited(1))));
    desk.persisted(ended);
}

fn stopped(generation: u64) -> Option<Record> {
    let state = RecordState::Stopped { outcome: None, node: None };
    Some(Record {
        key: key(),
        generation: Generation(generation),
        state,
        last_change_ms: 0,
        failures: Vec::new(),
    })
}

#[test]
fn the_last_failures_are_kept_with_the_record() {
    let mut desk = Desk::new();
    let mut record = None;
    // The object leaves memory in between, and what is read is what was written last.
    for n in 1..=7 {
        let generation = u64::from(n);
        desk.acquire(generation);
        desk.loaded(record);
        let placing = persist(&desk.reserved(generation, Ok(n)));
        desk.persisted(placing);
        desk.status(n, generation, Phase::Running);
        desk.status(n, generation, Phase::Ready);
        let message = format!("failure {n}");
        let outcome = Outcome { message: Some(message), ..Outcome::exited(1) };
        let effects = desk.status(n, generation, Phase::Exited(outcome));
        let written = effects.iter().find_map(|effect| match effect {
            Effect::Persist { record, .. } => Some(record.clone()),
            _ => None,
        });
        let written = written.unwrap();
        let known: Vec<_> = written.failures.iter().filter_map(|f| f.outcome.message.clone()).collect();
        let oldest = 1.max(i32::from(n) - 4);
        let expected: Vec<_> = (oldest..=i32::from(n)).rev().map(|n| format!("failure {n}")).collect();
        assert_eq!(known, expected);
        assert_eq!(
            (written.failures[0].instance, written.failures[0].time_ms),
            (instance(n), 1_000_000 + desk.now_ms)
        );
        assert_eq!(ObjectView::from(&written).failures, written.failures);
        record = Some(written);
        desk = Desk::new();
    }
    // A good end adds none, and one of the version before is read.
    let text = serde_json::to_string(&stopped(1).unwrap()).unwrap();
    assert!(!text.contains("failures"), "{text}");
    let read: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(Some(read), stopped(1));
    desk.healthy();
    let effects = desk.status(1, 1, Phase::Exited(Outcome::exited(0)));
    let kept = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Persist { record, .. } if record.failures.is_empty()));
    assert!(kept, "{effects:?}");
}

#[test]
fn instances_that_fail_in_a_row_are_started_later_and_later() {
    let mut desk = Desk::new();
    fail(&mut desk, 1);
    // One failure is no loop: the next one starts at once.
    assert_eq!(desk.view().crash_loop, None);
    fail(&mut desk, 2);
    let next = CrashLoop { failures: 2, next_try_ms: 1_000_000 + desk.now_ms + 1_000 };
    assert_eq!(desk.view().crash_loop, Some(next));
    desk.acquire(1);
    assert_eq!(desk.loaded(stopped(2)), [], "it waits");
    assert_eq!(desk.at(desk.now_ms + 999), []);
    assert!(matches!(&desk.at(desk.now_ms + 1)[..], [Effect::Reserve(_)]));
}

#[test]
fn requests_that_cannot_wait_for_the_next_start_are_refused_with_its_time() {
    let mut desk = Desk::new();
    fail(&mut desk, 1);
    for n in 2..7 {
        fail(&mut desk, n);
        desk.at(desk.now_ms + (500 << n));
    }
    fail(&mut desk, 7);
    desk.acquire(1);
    let crash_loop = Refused::CrashLoop { failures: 7, retry_ms: 32_000 };
    assert_eq!(refused(&desk.loaded(stopped(7))), [(1, crash_loop)]);
    // What is deployed meanwhile is not to blame.
    let mut newer = class();
    newer.of_app.version = Version(2);
    desk.input(Input::Acquire { key: key(), class: Arc::new(newer), waiter: WaiterId(2) });
    assert!(matches!(&desk.loaded(stopped(7))[..], [Effect::Reserve(_)]));
}

#[test]
fn failures_are_forgotten_after_a_while() {
    let mut desk = Desk::new();
    fail(&mut desk, 1);
    desk.at(desk.now_ms + 599_999);
    assert!(desk.engine.view(object()).is_some());
    desk.at(desk.now_ms + 1);
    assert_eq!(desk.engine.view(object()), None);
}
