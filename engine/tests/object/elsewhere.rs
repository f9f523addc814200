//! A start that a node refuses.

use berth_common::ids::NodeId;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::{Phase, Refusal, RefusalCode};
use berth_engine::fleet::Demand;
use berth_engine::{Effect, EndOrder, Input, Refused, WaiterId};

use super::desk::{Desk, instance, node, object, persist, refused};
use super::order;

fn refuse(desk: &mut Desk, n: u8, code: RefusalCode) -> Vec<Effect> {
    let refusal = Refusal { code, message: "why".to_owned() };
    desk.input(Input::StartRefused { object: object(), instance: instance(n), refusal })
}

fn demand(effects: &[Effect]) -> Demand {
    let found = effects.iter().find_map(|effect| match effect {
        Effect::Reserve(demand) => Some(demand.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no room is sought: {effects:?}"))
}

fn other(n: u8) -> NodeId {
    format!("other-{n}").parse().unwrap()
}

/// Room for the next try is found on another node, and its start is sent.
fn placed_elsewhere(desk: &mut Desk, n: u8) {
    let generation = berth_common::ids::Generation(u64::from(n));
    let result = Ok((other(n), instance(n)));
    let placing = persist(&desk.input(Input::Reserved { object: object(), generation, result }));
    let effects = desk.persisted(placing);
    assert!(matches!(&effects[..], [Effect::Start { node, .. }] if *node == other(n)), "{effects:?}");
}

#[test]
fn another_node_is_tried_with_a_generation_of_its_own() {
    let mut desk = Desk::new();
    desk.starting();
    let effects = refuse(&mut desk, 1, RefusalCode::Capacity);
    assert_eq!(refused(&effects), []);
    let sought = demand(&effects);
    assert_eq!((sought.generation.0, sought.refused_by), (2, [node()].into()));
    placed_elsewhere(&mut desk, 2);
    let effects = desk.report_from(&other(2), 2, 2, Phase::Ready);
    assert!(matches!(&effects[..], [Effect::Grant { .. }]), "{effects:?}");
    assert_eq!(desk.view().crash_loop, None);
}

#[test]
fn so_many_nodes_are_tried_and_no_more() {
    let mut desk = Desk::new();
    desk.starting();
    for n in 2..=4 {
        assert_eq!(
            demand(&refuse(&mut desk, n - 1, RefusalCode::Draining)).refused_by.len(),
            usize::from(n) - 1
        );
        placed_elsewhere(&mut desk, n);
    }
    let effects = refuse(&mut desk, 4, RefusalCode::Capacity);
    assert_eq!(refused(&effects), [(1, Refused::NoCapacity { what: "why".to_owned() })]);
    persist(&effects);
}

#[test]
fn without_another_node_requests_hear_what_the_last_one_said() {
    let mut desk = Desk::new();
    desk.starting();
    refuse(&mut desk, 1, RefusalCode::Capacity);
    let none = Refused::NoCapacity { what: "of the fleet".to_owned() };
    let effects = desk.reserved(2, Err(none));
    assert_eq!(refused(&effects), [(1, Refused::NoCapacity { what: "why".to_owned() })]);
    persist(&effects);
    assert_eq!(desk.view().exit.unwrap().reason, ExitReason::StartFailed);
}

#[test]
fn what_no_node_can_do_is_refused_at_once() {
    for code in [RefusalCode::Invalid, RefusalCode::Stale, RefusalCode::NotOwner] {
        let mut desk = Desk::new();
        desk.starting();
        let effects = refuse(&mut desk, 1, code);
        assert!(matches!(&refused(&effects)[..], [(1, Refused::StartRefused(_))]), "{code:?}: {effects:?}");
    }
}

#[test]
fn nobody_is_moved_for_whom_nobody_waits() {
    let mut desk = Desk::new();
    desk.starting();
    desk.input(Input::Cancel { object: object(), waiter: WaiterId(1) });
    let effects = refuse(&mut desk, 1, RefusalCode::Capacity);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Reserve(_))), "{effects:?}");
    persist(&effects);
}

#[test]
fn an_order_ends_also_what_is_sought_a_place_for() {
    let mut desk = Desk::new();
    desk.starting();
    refuse(&mut desk, 1, RefusalCode::Capacity);
    assert_eq!(refused(&order(&mut desk, 9, EndOrder::Destroy)), [(1, Refused::Ended)]);
    assert_eq!(desk.synced(&[]), [], "it was never there");
    let effects = desk.reserved(2, Ok(2));
    assert!(effects.contains(&Effect::Ordered { waiter: WaiterId(9) }), "{effects:?}");
    assert!(matches!(&effects[0], Effect::Unreserve { generation, .. } if generation.0 == 2));
    assert_eq!(desk.view().exit.unwrap().reason, ExitReason::Destroyed);
}

#[test]
fn room_that_comes_after_the_end_is_given_back() {
    let mut desk = Desk::new();
    desk.starting();
    refuse(&mut desk, 1, RefusalCode::Capacity);
    persist(&desk.status(1, 1, Phase::Exited(Outcome::exited(1))));
    let effects = desk.reserved(2, Ok(2));
    assert!(
        matches!(&effects[..], [Effect::Unreserve { generation, .. }] if generation.0 == 2),
        "{effects:?}"
    );
}

#[test]
fn without_any_node_requests_wait_for_one() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.loaded(None);
    assert_eq!(desk.reserved(1, Err(Refused::NoNode)), []);
    assert_eq!(desk.acquire(2), []);
    assert_eq!(demand(&desk.input(Input::NodeOpened)).generation.0, 1);
    assert_eq!(desk.reserved(1, Err(Refused::NoNode)), [], "it takes none after all");
    desk.input(Input::NodeOpened);
    persist(&desk.reserved(1, Ok(1)));
    assert_eq!(desk.input(Input::NodeOpened), [], "it has its place");
}

#[test]
fn who_waits_for_a_node_in_vain_is_refused_at_the_deadline_and_leaves_nothing() {
    let mut desk = Desk::new();
    desk.acquire(1);
    desk.loaded(None);
    desk.reserved(1, Err(Refused::NoNode));
    assert_eq!(desk.at(7_999), []);
    assert_eq!(refused(&desk.at(8_000)), [(1, Refused::NoNode)]);
    assert_eq!(desk.engine.view(object()), None);
    desk.acquire(2);
    desk.loaded(None);
    desk.reserved(1, Err(Refused::NoNode));
    desk.input(Input::Cancel { object: object(), waiter: WaiterId(2) });
    assert_eq!(desk.engine.view(object()), None);
    assert_eq!(desk.input(Input::NodeOpened), []);
}
