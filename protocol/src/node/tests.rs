//! Tests of the table, without a network, a runtime or a clock.

use std::time::Duration;

use berth_common::ids::{EdgeId, Generation, InstanceId};
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::{Capacity, Phase, Refusal, RefusalCode, Start, Stop};
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};

use super::*;
use crate::Moment;

const CAPACITY: Capacity = Capacity { memory_bytes: 300, cpu_sixteenths: 30, instances: 3 };

/// A start, and the edge that asks for it.
struct Launch {
    start: Start,
    owner: EdgeId,
}

fn table() -> InstanceTable {
    InstanceTable::new(CAPACITY)
}

fn at_ms(ms: u64) -> Moment {
    Moment::at(Duration::from_millis(ms))
}

fn launch(owner: &str, id: u8, object: &str, generation: u64) -> Launch {
    let start = serde_json::json!({
        "instance": InstanceId::from_bytes([id; 16]), "object": {"app": "a", "class": "c", "name": object},
        "generation": generation, "term_ms": 1000,
        "image": {"repository": "x", "digest": format!("sha256:{}", "0".repeat(64))},
        "resources": {"cpu_sixteenths": 10, "memory_bytes": 100, "disk_bytes": 1},
        "enable_internet": false, "ready_port": 80,
    });
    Launch { start: serde_json::from_value(start).unwrap(), owner: owner.parse().unwrap() }
}

fn code<T>(refused: Result<T, Refusal>) -> RefusalCode {
    refused.err().map(|refusal| refusal.code).expect("was not refused")
}

/// Admits, and enters what is new.
fn admit(table: &mut InstanceTable, launch: &Launch) -> Result<Admission, Refusal> {
    let admission = table.admit(&launch.owner, &launch.start)?;
    if admission == Admission::New {
        table.enter(&launch.owner, &launch.start, at_ms(0));
    }
    Ok(admission)
}

fn is_new(admitted: Result<Admission, Refusal>) -> bool {
    matches!(admitted, Ok(Admission::New))
}

fn end(table: &mut InstanceTable, launch: &Launch) {
    let outcome = Outcome::because(ExitReason::Exit, "over");
    table.advance(launch.start.instance, Phase::Exited(outcome), at_ms(0));
}

fn effects(table: &mut InstanceTable) -> Vec<Effect> {
    std::iter::from_fn(|| table.poll_effect()).collect()
}

#[test]
fn capacity_is_never_exceeded_and_comes_back_at_the_end() {
    let mut table = table();
    let first = launch("e", 1, "1", 1);
    assert!(is_new(admit(&mut table, &first)));
    assert!(is_new(admit(&mut table, &launch("e", 2, "2", 1))));
    assert!(is_new(admit(&mut table, &launch("f", 3, "3", 1))));
    let fourth = launch("e", 4, "4", 1);
    assert_eq!(code(admit(&mut table, &fourth)), RefusalCode::Capacity);
    end(&mut table, &first);
    assert!(is_new(admit(&mut table, &fourth)));
}

#[test]
fn each_kind_of_capacity_counts() {
    for resources in [(31, 1), (1, 301), (u32::MAX, u64::MAX)] {
        let mut big = launch("e", 1, "1", 1);
        (big.start.recipe.resources.cpu_sixteenths, big.start.recipe.resources.memory_bytes) = resources;
        assert_eq!(code(admit(&mut table(), &big)), RefusalCode::Capacity);
    }
}

#[test]
fn a_start_that_comes_again_changes_nothing() {
    let mut table = table();
    let first = launch("e", 1, "1", 1);
    assert!(is_new(admit(&mut table, &first)));
    assert!(matches!(admit(&mut table, &first), Ok(Admission::Known)));
    end(&mut table, &first);
    assert!(matches!(admit(&mut table, &first), Ok(Admission::Known)));
    assert_eq!(code(admit(&mut table, &launch("e", 1, "1", 2))), RefusalCode::Invalid);
    assert_eq!(code(admit(&mut table, &launch("f", 1, "1", 1))), RefusalCode::NotOwner);
}

#[test]
fn an_object_never_has_two_instances_nor_goes_back() {
    let mut table = table();
    let first = launch("e", 1, "1", 5);
    assert!(is_new(admit(&mut table, &first)));
    assert_eq!(code(admit(&mut table, &launch("e", 2, "1", 6))), RefusalCode::Invalid);
    end(&mut table, &first);
    assert_eq!(code(admit(&mut table, &launch("e", 2, "1", 5))), RefusalCode::Stale);
    assert!(is_new(admit(&mut table, &launch("e", 2, "1", 6))));
    assert!(is_new(admit(&mut table, &launch("f", 3, "1", 1))), "another edge's object is another object");
}

#[test]
fn phases_never_go_back_and_each_is_told_once() {
    let mut table = table();
    let one = launch("e", 1, "1", 1);
    assert!(table.statuses(&one.owner).is_empty() && is_new(admit(&mut table, &one)));
    for phase in [Phase::Ready, Phase::Running, Phase::Ready, Phase::Stopping, Phase::Running] {
        table.advance(one.start.instance, phase, at_ms(0));
    }
    let phase = |effect| match effect {
        Effect::Report { owner, status } if owner == one.owner => Some(status.phase),
        Effect::Report { owner, .. } => panic!("{owner} was told of another's instance"),
        _ => None,
    };
    let told: Vec<_> = effects(&mut table).into_iter().filter_map(phase).collect();
    assert_eq!(told, [Phase::Starting, Phase::Ready, Phase::Stopping]);
    assert_eq!(table.statuses(&one.owner)[0].phase, Phase::Stopping);
    assert!(table.statuses(&"f".parse().unwrap()).is_empty());
}

#[test]
fn how_long_a_start_took_is_told_once() {
    let mut table = table();
    let (good, bad, adopted) = (launch("e", 1, "1", 1), launch("e", 2, "2", 1), launch("e", 3, "3", 1));
    assert!(is_new(admit(&mut table, &good)) && is_new(admit(&mut table, &bad)));
    table.adopt(&adopted.owner, &adopted.start, None);
    table.advance(good.start.instance, Phase::Running, at_ms(1));
    table.advance(good.start.instance, Phase::Ready, at_ms(20));
    table.ended(good.start.instance, Outcome::exited(0), None, at_ms(30));
    table.ended(bad.start.instance, Outcome::exited(3), None, at_ms(40));
    table.advance(adopted.start.instance, Phase::Ready, at_ms(50));
    let starting = |effect| match effect {
        Effect::Reached { starting, .. } => Some(starting.map(|time| time.as_millis())),
        _ => None,
    };
    let told: Vec<_> = effects(&mut table).into_iter().filter_map(starting).collect();
    assert_eq!(told, [None, Some(20), None, Some(40), None]);
}

#[test]
fn what_has_ended_is_let_go_of_before_that_is_told() {
    let mut table = table();
    let one = launch("e", 1, "1", 1);
    assert!(is_new(admit(&mut table, &one)));
    effects(&mut table);
    end(&mut table, &one);
    end(&mut table, &one);
    let done = effects(&mut table);
    assert!(
        matches!(done[..], [Effect::Reached { .. }, Effect::Detach { .. }, Effect::Report { .. }]),
        "{done:?}"
    );
}

#[test]
fn a_grace_is_only_ever_shortened_and_a_kill_stays_one() {
    let mut table = table();
    let one = launch("e", 1, "1", 1);
    assert!(is_new(admit(&mut table, &one)));
    let mut stop = |signal, grace_ms, now_ms| {
        let stop = Stop { instance: one.start.instance, signal, grace_ms };
        table.stop(&one.owner, &stop, at_ms(now_ms))?;
        let orders = effects(&mut table).into_iter();
        let order = |effect| if let Effect::Stop { order, .. } = effect { Some(order) } else { None };
        Ok(orders.filter_map(order).next_back().unwrap())
    };
    let order = |signal, ms| StopOrder { signal, deadline: at_ms(ms), drained: false };
    assert_eq!(stop(15, 1000, 0), Ok(order(15, 1000)));
    assert_eq!(stop(15, 5000, 500), Ok(order(15, 1000)));
    assert_eq!(stop(9, 0, 600), Ok(order(9, 600)));
    assert_eq!(stop(15, 5000, 700), Ok(order(9, 600)));
    assert_eq!(stop(15, u64::MAX, 800), Ok(order(9, 600)));
    assert_eq!(code(stop(0, 0, 900)), RefusalCode::Invalid);
    assert_eq!(code(stop(65, 0, 900)), RefusalCode::Invalid);
}

#[test]
fn a_node_that_is_emptied_ends_each_that_lives() {
    let mut table = table();
    let (one, two, over) = (launch("e", 1, "1", 1), launch("f", 2, "2", 1), launch("e", 3, "3", 1));
    for each in [&one, &two, &over] {
        assert!(is_new(admit(&mut table, each)));
    }
    end(&mut table, &over);
    effects(&mut table);
    assert!(table.set_draining(true) && !table.set_draining(true));
    table.drain_all(Duration::from_millis(100), at_ms(50));
    let expected = StopOrder { signal: 15, deadline: at_ms(150), drained: true };
    let order =
        |effect| if let Effect::Stop { instance, order } = effect { Some((instance, order)) } else { None };
    let mut orders: Vec<_> = effects(&mut table).into_iter().filter_map(order).collect();
    orders.sort_by_key(|(instance, _)| *instance);
    assert_eq!(orders, [(one.start.instance, expected), (two.start.instance, expected)]);
    assert_eq!(table.statuses(&two.owner)[0].phase, Phase::Stopping);
}

#[test]
fn only_the_owner_may_act_and_only_ended_instances_are_forgotten() {
    let mut table = table();
    let one = launch("e", 1, "1", 1);
    let (instance, stranger) = (one.start.instance, "f".parse().unwrap());
    assert!(is_new(admit(&mut table, &one)));
    let stop = Stop { instance, signal: 15, grace_ms: 1 };
    assert_eq!(code(table.stop(&stranger, &stop, at_ms(0))), RefusalCode::NotOwner);
    assert_eq!(code(table.forgettable(&stranger, &[instance])), RefusalCode::NotOwner);
    assert_eq!(code(table.forgettable(&one.owner, &[instance])), RefusalCode::Invalid);
    end(&mut table, &one);
    let unknown = InstanceId::from_bytes([9; 16]);
    assert_eq!(table.forgettable(&one.owner, &[unknown, instance]).unwrap(), [instance]);
    table.forget(instance);
    assert_eq!(code(table.stop(&one.owner, &stop, at_ms(0))), RefusalCode::NoInstance);
}

#[test]
fn tunnels_are_led_to_the_right_instance_only() {
    let mut table = table();
    let one = launch("e", 1, "1", 7);
    assert!(is_new(admit(&mut table, &one)));
    let header = |generation| TunnelHeader {
        instance: one.start.instance,
        generation: Generation(generation),
        port: 1,
    };
    let check = |table: &InstanceTable, owner: &str, generation| {
        table.check_tunnel(&owner.parse().unwrap(), &header(generation)).err()
    };
    assert_eq!(check(&table, "f", 7), Some(TunnelAnswer::NotOwner));
    assert_eq!(check(&table, "e", 6), Some(TunnelAnswer::StaleGeneration));
    assert_eq!(check(&table, "e", 7), None);
    end(&mut table, &one);
    assert_eq!(check(&table, "e", 7), Some(TunnelAnswer::NoInstance));
}

#[test]
fn a_node_that_stops_takes_nothing_new() {
    let mut table = table();
    let known = launch("e", 1, "1", 1);
    assert!(is_new(admit(&mut table, &known)));
    table.close();
    assert_eq!(code(admit(&mut table, &launch("e", 2, "2", 1))), RefusalCode::Draining);
    assert!(matches!(admit(&mut table, &known), Ok(Admission::Known)));
}

#[test]
fn what_is_not_entered_has_no_place() {
    let mut table = table();
    let one = launch("e", 1, "1", 1);
    assert_eq!(table.admit(&one.owner, &one.start), Ok(Admission::New));
    assert!(table.statuses(&one.owner).is_empty() && effects(&mut table).is_empty());
    assert!(is_new(admit(&mut table, &one)));
}

/// What is reported of frozen instances.
fn reported(table: &mut InstanceTable) -> Vec<(InstanceId, bool)> {
    let of = |effect| match effect {
        Effect::Report { status, .. } => Some((status.instance, status.frozen)),
        _ => None,
    };
    effects(table).into_iter().filter_map(of).collect()
}

#[test]
fn no_tunnel_leads_to_a_frozen_instance_until_it_is_thawed() {
    let mut table = table();
    let one = launch("e", 1, "1", 1);
    let instance = one.start.instance;
    assert!(is_new(admit(&mut table, &one)));
    let header = TunnelHeader { instance, generation: Generation(1), port: 1 };
    reported(&mut table);
    table.freeze(instance, true);
    assert!(effects(&mut table).contains(&Effect::Cut { instance }));
    assert_eq!(table.check_tunnel(&one.owner, &header), Err(TunnelAnswer::Lapsed));
    assert!(table.statuses(&one.owner)[0].frozen);
    table.freeze(instance, false);
    assert_eq!(reported(&mut table), [(instance, false)]);
    assert_eq!(table.check_tunnel(&one.owner, &header), Ok(()));
}

#[test]
fn a_frozen_instance_is_told_of_again_until_its_edge_has_decided_and_killed_if_it_never_does() {
    let mut table = table();
    let [one, two, other] = [launch("e", 1, "1", 1), launch("e", 2, "2", 1), launch("f", 3, "3", 1)];
    let instance = one.start.instance;
    for each in [&one, &two, &other] {
        assert!(is_new(admit(&mut table, each)));
    }
    table.freeze(instance, true);
    table.freeze(other.start.instance, true);
    reported(&mut table);
    // As long as its edge is silent, nothing ends it.
    let minutes = |minutes: u64| at_ms(minutes * 60_000);
    table.heard(&one.owner, minutes(100));
    assert_eq!(reported(&mut table), [(instance, true)]);
    for minute in 101..110 {
        table.heard(&one.owner, minutes(minute));
        assert_eq!(reported(&mut table), [(instance, true)]);
    }
    table.heard(&one.owner, minutes(110));
    let ordered = effects(&mut table);
    let kills = |effect: &Effect| matches!(effect, Effect::Stop { instance: of, order } if *of == instance && order.signal == 9);
    assert!(ordered.iter().any(kills), "{ordered:?}");
    let stops = ordered.iter().filter(|effect| matches!(effect, Effect::Stop { .. })).count();
    assert_eq!(stops, 1, "the other edge was not heard of");
}

#[test]
fn an_edge_that_falls_silent_again_finds_what_is_frozen_when_it_is_back() {
    let mut table = table();
    let one = launch("e", 1, "1", 1);
    assert!(is_new(admit(&mut table, &one)));
    table.freeze(one.start.instance, true);
    table.heard(&one.owner, at_ms(0));
    reported(&mut table);
    // Its connection was lost before it could have the instance resumed.
    table.heard(&one.owner, at_ms(700_000));
    assert_eq!(reported(&mut table), [(one.start.instance, true)]);
}

#[test]
fn one_that_was_resumed_may_be_frozen_as_long_again() {
    let mut table = table();
    let one = launch("e", 1, "1", 1);
    assert!(is_new(admit(&mut table, &one)));
    table.freeze(one.start.instance, true);
    table.heard(&one.owner, at_ms(0));
    table.freeze(one.start.instance, false);
    table.heard(&one.owner, at_ms(601_000));
    table.freeze(one.start.instance, true);
    table.heard(&one.owner, at_ms(602_000));
    assert!(!effects(&mut table).iter().any(|effect| matches!(effect, Effect::Stop { .. })));
}
